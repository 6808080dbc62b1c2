#include "correct_kernels.h"

#include <cuda_pipeline.h>
#include "check_launch.h"

static const unsigned ALL = 0xffffffffu;
static const int BLOCK = 256, TILE = 32, CHANNELS = 64, STAGES = 4;

static int blocks_for(int n) {
  return (n + BLOCK - 1) / BLOCK;
}

__global__ void __launch_bounds__(256)
    scale_kernel(const float *x, float *y, int n, float factor) {
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) y[i] = factor * __ldg(x + i);
}

cudaError_t scale(const float *x, float *y, int n, float factor, cudaStream_t stream) {
  return CUMEGA_LAUNCH(scale_kernel, blocks_for(n), BLOCK, 0, stream, x, y, n, factor);
}

static __device__ __forceinline__ int warp_scan(int value) {
  const int lane = (int)(threadIdx.x & 31);
  for (int step = 1; step < 32; step *= 2) {
    const int other = __shfl_up_sync(ALL, value, step);
    if (lane >= step) value += other;
  }
  return value;
}

/* totals: 8 words of shared memory. */
static __device__ __forceinline__ int block_scan(int value, int *totals) {
  const int lane = (int)(threadIdx.x & 31), warp = (int)(threadIdx.x >> 5);
  value = warp_scan(value);
  if (lane == 31) totals[warp] = value;
  __syncthreads();
  if (warp == 0) {
    const int total = warp_scan(lane < 8 ? totals[lane] : 0);
    if (lane < 8) totals[lane] = total;
  }
  __syncthreads();
  return value + (warp > 0 ? totals[warp - 1] : 0);
}

__global__ void __launch_bounds__(256) scan_blocks_kernel(const int *x, int *y, int n) {
  CUMEGA_SHARED(int, totals);
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  const int sum = block_scan(i < n ? x[i] : 0, totals);
  if (i < n) y[i] = sum;
}

cudaError_t scan_blocks(const int *x, int *y, int n, cudaStream_t stream) {
  return CUMEGA_LAUNCH(scan_blocks_kernel, blocks_for(n), BLOCK, 8 * sizeof(int), stream, x, y, n);
}

/* state[0] hands out places in the order in which blocks start, so that a block waits only for
 * blocks that already run; state[1 + b] is 2^32 + the sum of all blocks up to b, once that is
 * known. */
__global__ void __launch_bounds__(256)
    scan_lookback_kernel(const int *x, int *y, int n, unsigned long long *state) {
  CUMEGA_SHARED(int, shared); /* 8 totals, the ticket, the sum of earlier blocks */
  if (threadIdx.x == 0) shared[8] = (int)atomicAdd(state, 1ull);
  __syncthreads();
  const int ticket = shared[8], i = ticket * (int)blockDim.x + (int)threadIdx.x;
  const int sum = block_scan(i < n ? x[i] : 0, shared);
  if (threadIdx.x == blockDim.x - 1) {
    unsigned long long before = 1ull << 32;
    if (ticket > 0)
      while ((before = atomicAdd(state + ticket, 0ull)) == 0) CUMEGA_SPIN();
    __threadfence();
    atomicExch(state + 1 + ticket, 1ull << 32 | (unsigned)((int)before + sum));
    shared[9] = (int)before;
  }
  __syncthreads();
  if (i < n) y[i] = shared[9] + sum;
}

cudaError_t scan_lookback(const int *x, int *y, int n, unsigned long long *state,
                          cudaStream_t stream) {
  return CUMEGA_LAUNCH(scan_lookback_kernel, blocks_for(n), BLOCK, 10 * sizeof(int), stream, x, y,
                       n, state);
}

__global__ void __launch_bounds__(256) reduce_kernel(const int *x, int *sums, int n) {
  CUMEGA_SHARED(int, terms);
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  terms[threadIdx.x] = i < n ? x[i] : 0;
  for (unsigned stride = blockDim.x / 2; stride > 0; stride /= 2) {
    __syncthreads();
    if (threadIdx.x < stride) terms[threadIdx.x] += terms[threadIdx.x + stride];
  }
  if (threadIdx.x == 0) sums[blockIdx.x] = terms[0];
}

cudaError_t reduce(const int *x, int *sums, int n, cudaStream_t stream) {
  return CUMEGA_LAUNCH(reduce_kernel, blocks_for(n), BLOCK, BLOCK * sizeof(int), stream, x, sums,
                       n);
}

__global__ void __launch_bounds__(256)
    transpose_kernel(const float *x, float *y, int rows, int columns) {
  CUMEGA_SHARED(float, tile); /* (32, 33) */
  const int column = (int)(blockIdx.x * TILE + threadIdx.x), first_row = (int)blockIdx.y * TILE;
  for (int r = (int)threadIdx.y; r < TILE; r += (int)blockDim.y)
    if (first_row + r < rows && column < columns)
      tile[r * (TILE + 1) + threadIdx.x] = x[(long long)(first_row + r) * columns + column];
  __syncthreads();
  const int row = first_row + (int)threadIdx.x, first_column = (int)blockIdx.x * TILE;
  for (int c = (int)threadIdx.y; c < TILE; c += (int)blockDim.y)
    if (first_column + c < columns && row < rows)
      y[(long long)(first_column + c) * rows + row] = tile[threadIdx.x * (TILE + 1) + c];
}

cudaError_t transpose(const float *x, float *y, int rows, int columns, cudaStream_t stream) {
  const dim3 grid((columns + TILE - 1) / TILE, (rows + TILE - 1) / TILE), block(TILE, 8);
  return CUMEGA_LAUNCH(transpose_kernel, grid, block, TILE * (TILE + 1) * sizeof(float), stream, x,
                       y, rows, columns);
}

/* Sixteen threads copy the 64 floats of a step; each thread sums one channel. */
static __device__ __forceinline__ void fetch(float *stages, const float *x, int t, int steps) {
  if (t < steps && threadIdx.x < 16)
    __pipeline_memcpy_async(stages + (t % STAGES) * CHANNELS + 4 * threadIdx.x,
                            x + t * CHANNELS + 4 * threadIdx.x, 16);
  __pipeline_commit();
}

__global__ void __launch_bounds__(64) pipeline_kernel(const float *x, float *y, int steps) {
  CUMEGA_SHARED(float, stages); /* (STAGES, CHANNELS) */
  float sum = 0.0f;
  for (int t = 0; t < STAGES - 1; t++) fetch(stages, x, t, steps);
  for (int t = 0; t < steps; t++) {
    __pipeline_wait_prior(STAGES - 2);
    __syncthreads(); /* step t is visible to all threads, and all have finished t - 1 */
    fetch(stages, x, t + STAGES - 1, steps);
    sum += stages[(t % STAGES) * CHANNELS + threadIdx.x];
    y[t * CHANNELS + threadIdx.x] = sum;
  }
}

cudaError_t pipeline(const float *x, float *y, int steps, cudaStream_t stream) {
  return CUMEGA_LAUNCH(pipeline_kernel, 1, CHANNELS, STAGES * CHANNELS * sizeof(float), stream, x,
                       y, steps);
}

__global__ void __launch_bounds__(256) votes_kernel(const int *x, int n, unsigned *counts) {
  const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
  const int odd = i < n && (x[i] & 1);
  const unsigned ballot = __ballot_sync(ALL, odd);
  if ((threadIdx.x & 31) == 0) atomicAdd(counts, (unsigned)__popc(ballot));
  if (__any_sync(ALL, odd) && odd) atomicMax(counts + 1, (unsigned)x[i]);
  if (__syncthreads_or(odd) && threadIdx.x == 0) atomicAdd(counts + 2, 1u);
}

cudaError_t votes(const int *x, int n, unsigned *counts, cudaStream_t stream) {
  return CUMEGA_LAUNCH(votes_kernel, blocks_for(n), BLOCK, 0, stream, x, n, counts);
}

__global__ void places_kernel(int *place) {
  const unsigned block = blockIdx.x + 2 * blockIdx.y + 6 * blockIdx.z;
  const unsigned thread = threadIdx.x + 2 * threadIdx.y + 6 * threadIdx.z;
  const unsigned blocks = gridDim.x * gridDim.y * gridDim.z;
  place[thread * blocks + block] = (int)(100 * block + thread);
}

cudaError_t places(int *place, cudaStream_t stream) {
  return CUMEGA_LAUNCH(places_kernel, dim3(2, 3, 2), dim3(2, 3, 4), 0, stream, place);
}

__global__ void tickets_kernel(int *order, unsigned long long *next) {
  if (threadIdx.x == 0) order[blockIdx.x] = (int)atomicAdd(next, 1ull);
}

cudaError_t tickets(int *order, unsigned long long *next, cudaStream_t stream) {
  return CUMEGA_LAUNCH(tickets_kernel, 32, 32, 0, stream, order, next);
}
