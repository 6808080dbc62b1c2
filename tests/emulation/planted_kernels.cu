#include "planted_kernels.h"

#include <cuda_pipeline.h>
#include "check_launch.h"

static const unsigned ALL = 0xffffffffu;

__global__ void reverse_without_barrier_kernel(const int *x, int *y) {
  CUMEGA_SHARED(int, shared);
  const unsigned i = threadIdx.x;
  shared[i] = x[i];
  y[i] = shared[63 - i];
}

cudaError_t reverse_without_barrier(const int *x, int *y, cudaStream_t stream) {
  return CUMEGA_LAUNCH(reverse_without_barrier_kernel, 1, 64, 256, stream, x, y);
}

/* Takes the next thread's number, twice. The second round's writes may overtake the first's
 * reads. */
__global__ void shift_without_second_barrier_kernel(const int *x, int *y) {
  CUMEGA_SHARED(int, shared);
  const unsigned i = threadIdx.x;
  int value = x[i];
  for (int round = 0; round < 2; round++) {
    shared[i] = value;
    __syncthreads();
    value = shared[(i + 1) & 63];
  }
  y[i] = value;
}

cudaError_t shift_without_second_barrier(const int *x, int *y, cudaStream_t stream) {
  return CUMEGA_LAUNCH(shift_without_second_barrier_kernel, 1, 64, 256, stream, x, y);
}

__global__ void exchange_without_syncwarp_kernel(const int *x, int *y) {
  CUMEGA_SHARED(int, shared);
  const unsigned i = threadIdx.x;
  shared[i] = __shfl_sync(ALL, x[i], 0);
  shared[i] = x[i];
  y[i] = shared[i ^ 1];
}

cudaError_t exchange_without_syncwarp(const int *x, int *y, cudaStream_t stream) {
  return CUMEGA_LAUNCH(exchange_without_syncwarp_kernel, 1, 64, 256, stream, x, y);
}

/* Two blocks of 32. */
__global__ void read_other_block_without_flag_kernel(const int *x, int *y) {
  const unsigned i = blockIdx.x * 32 + threadIdx.x;
  y[i] = x[i];
  y[i] += blockIdx.x == 1 ? y[i - 32] - x[i - 32] : 0;
}

cudaError_t read_other_block_without_flag(const int *x, int *y, cudaStream_t stream) {
  return CUMEGA_LAUNCH(read_other_block_without_flag_kernel, 2, 32, 0, stream, x, y);
}

static __device__ __forceinline__ void fetch(float *shared, const float *x) {
  __pipeline_memcpy_async(shared + threadIdx.x, x + threadIdx.x, sizeof(float));
  __pipeline_commit();
}

__global__ void copy_without_wait_kernel(const float *x, float *y) {
  CUMEGA_SHARED(float, shared);
  fetch(shared, x);
  __syncthreads();
  y[threadIdx.x] = shared[threadIdx.x];
}

cudaError_t copy_without_wait(const float *x, float *y, cudaStream_t stream) {
  return CUMEGA_LAUNCH(copy_without_wait_kernel, 1, 32, 128, stream, x, y);
}

/* Waits for all groups but the last, then reads the last. */
__global__ void copy_with_early_wait_kernel(const float *x, float *y) {
  CUMEGA_SHARED(float, shared);
  fetch(shared, x);
  fetch(shared + 32, x);
  __pipeline_wait_prior(1);
  __syncthreads();
  y[threadIdx.x] = shared[32 + threadIdx.x];
}

cudaError_t copy_with_early_wait(const float *x, float *y, cudaStream_t stream) {
  return CUMEGA_LAUNCH(copy_with_early_wait_kernel, 1, 32, 256, stream, x, y);
}

__global__ void copy_without_barrier_kernel(const float *x, float *y) {
  CUMEGA_SHARED(float, shared);
  fetch(shared, x);
  __pipeline_wait_prior(0);
  y[threadIdx.x] = shared[31 - threadIdx.x];
}

cudaError_t copy_without_barrier(const float *x, float *y, cudaStream_t stream) {
  return CUMEGA_LAUNCH(copy_without_barrier_kernel, 1, 32, 128, stream, x, y);
}

/* The next copy, with other numbers, is issued before all threads have read. */
__global__ void copy_into_stage_in_use_kernel(const float *x, float *y) {
  CUMEGA_SHARED(float, shared);
  fetch(shared, x);
  __pipeline_wait_prior(0);
  __syncthreads();
  y[threadIdx.x] = shared[31 - threadIdx.x];
  fetch(shared, y);
  __pipeline_wait_prior(0);
}

cudaError_t copy_into_stage_in_use(const float *x, float *y, cudaStream_t stream) {
  return CUMEGA_LAUNCH(copy_into_stage_in_use_kernel, 1, 32, 128, stream, x, y);
}

__global__ void barrier_in_a_branch_kernel(int *x) {
  if (threadIdx.x < 40) __syncthreads();
  x[threadIdx.x] = 1;
}

cudaError_t barrier_in_a_branch(int *x, cudaStream_t stream) {
  return CUMEGA_LAUNCH(barrier_in_a_branch_kernel, 1, 64, 0, stream, x);
}

__global__ void barrier_after_return_kernel(int *x) {
  if (threadIdx.x == 63) return;
  x[threadIdx.x] = 1;
  __syncthreads();
}

cudaError_t barrier_after_return(int *x, cudaStream_t stream) {
  return CUMEGA_LAUNCH(barrier_after_return_kernel, 1, 64, 0, stream, x);
}

__global__ void two_different_barriers_kernel(int *x) {
  if (threadIdx.x < 32) {
    __syncthreads();
  } else {
    __syncthreads();
  }
  x[threadIdx.x] = 1;
}

cudaError_t two_different_barriers(int *x, cudaStream_t stream) {
  return CUMEGA_LAUNCH(two_different_barriers_kernel, 1, 64, 0, stream, x);
}

__global__ void shuffle_with_returned_lane_kernel(int *x) {
  if (threadIdx.x == 5) return;
  x[threadIdx.x] = __shfl_down_sync(ALL, (int)threadIdx.x, 1);
}

cudaError_t shuffle_with_returned_lane(int *x, cudaStream_t stream) {
  return CUMEGA_LAUNCH(shuffle_with_returned_lane_kernel, 1, 64, 0, stream, x);
}

__global__ void shuffle_from_outside_mask_kernel(int *x) {
  if (threadIdx.x < 16) x[threadIdx.x] = __shfl_sync(0xffffu, (int)threadIdx.x, 20);
}

cudaError_t shuffle_from_outside_mask(int *x, cudaStream_t stream) {
  return CUMEGA_LAUNCH(shuffle_from_outside_mask_kernel, 1, 32, 0, stream, x);
}

__global__ void shuffle_by_lane_not_in_mask_kernel(int *x) {
  x[threadIdx.x] = __shfl_xor_sync(0xffffu, (int)threadIdx.x, 1);
}

cudaError_t shuffle_by_lane_not_in_mask(int *x, cudaStream_t stream) {
  return CUMEGA_LAUNCH(shuffle_by_lane_not_in_mask_kernel, 1, 32, 0, stream, x);
}

/* A block of 48: the second warp has 16 lanes. */
__global__ void shuffle_beyond_the_block_kernel(int *x) {
  x[threadIdx.x] = __shfl_xor_sync(ALL, (int)threadIdx.x, 1);
}

cudaError_t shuffle_beyond_the_block(int *x, cudaStream_t stream) {
  return CUMEGA_LAUNCH(shuffle_beyond_the_block_kernel, 1, 48, 0, stream, x);
}

__global__ void shuffle_that_a_lane_skips_kernel(int *x) {
  int value = (int)threadIdx.x;
  if (value != 7) value = __shfl_xor_sync(ALL, value, 1);
  __syncthreads();
  x[threadIdx.x] = value;
}

cudaError_t shuffle_that_a_lane_skips(int *x, cudaStream_t stream) {
  return CUMEGA_LAUNCH(shuffle_that_a_lane_skips_kernel, 1, 32, 0, stream, x);
}

/* Block 0 waits for the last of more blocks than can be live at once. */
__global__ void wait_for_a_later_block_kernel(unsigned *flag) {
  if (blockIdx.x == gridDim.x - 1)
    atomicExch(flag, 1u);
  else
    while (atomicAdd(flag, 0u) == 0) CUMEGA_SPIN();
}

cudaError_t wait_for_a_later_block(unsigned *flag, cudaStream_t stream) {
  return CUMEGA_LAUNCH(wait_for_a_later_block_kernel, 100, 32, 0, stream, flag);
}

__global__ void write_at_kernel(int *x, long long offset) {
  if (threadIdx.x == 3) x[offset] = 42;
}

cudaError_t write_at(int *x, long long offset, cudaStream_t stream) {
  return CUMEGA_LAUNCH(write_at_kernel, 1, 32, 0, stream, x, offset);
}

__global__ void read_at_kernel(const float *x, long long offset, float *y) {
  if (threadIdx.x == 0) y[0] = 2.0f * x[offset];
}

cudaError_t read_at(const float *x, long long offset, float *y, cudaStream_t stream) {
  return CUMEGA_LAUNCH(read_at_kernel, 1, 32, 0, stream, x, offset, y);
}

/* 32 integers of shared memory. */
__global__ void write_shared_at_kernel(int offset, int *y) {
  CUMEGA_SHARED(int, shared);
  shared[threadIdx.x] = 1;
  if (threadIdx.x == 0) shared[offset] = 2;
  y[threadIdx.x] = shared[threadIdx.x];
}

cudaError_t write_shared_at(int offset, int *y, cudaStream_t stream) {
  return CUMEGA_LAUNCH(write_shared_at_kernel, 1, 32, 128, stream, offset, y);
}

__global__ void read_unwritten_shared_kernel(float *y) {
  CUMEGA_SHARED(float, shared);
  y[threadIdx.x] = 1.0f + shared[threadIdx.x];
  shared[threadIdx.x] = 1.0f; /* of no use to the next block */
}

cudaError_t read_unwritten_shared(float *y, cudaStream_t stream) {
  return CUMEGA_LAUNCH(read_unwritten_shared_kernel, 4, 32, 128, stream, y);
}

__global__ void copy_beyond_shared_kernel(const float *x, float *y) {
  CUMEGA_SHARED(float, shared);
  __pipeline_memcpy_async(shared + 4 * threadIdx.x, x, 16);
  __pipeline_commit();
  __pipeline_wait_prior(0);
  y[threadIdx.x] = shared[threadIdx.x];
}

cudaError_t copy_beyond_shared(const float *x, float *y, cudaStream_t stream) {
  return CUMEGA_LAUNCH(copy_beyond_shared_kernel, 1, 32, 500, stream, x, y);
}

__global__ void misaligned_copy_kernel(const float *x, float *y) {
  CUMEGA_SHARED(float, shared);
  __pipeline_memcpy_async(shared + 4 * threadIdx.x, x + 1, 16);
  __pipeline_commit();
  __pipeline_wait_prior(0);
  y[threadIdx.x] = shared[threadIdx.x];
}

cudaError_t misaligned_copy(const float *x, float *y, cudaStream_t stream) {
  return CUMEGA_LAUNCH(misaligned_copy_kernel, 1, 32, 512, stream, x, y);
}

__global__ void misaligned_load_kernel(const float *x, float *y) {
  y[threadIdx.x] = ((const float4 *)(x + threadIdx.x))->x;
}

cudaError_t misaligned_load(const float *x, float *y, cudaStream_t stream) {
  return CUMEGA_LAUNCH(misaligned_load_kernel, 1, 2, 0, stream, x, y);
}

__global__ void rows_without_last_barrier_kernel(const int *x, int *y) {
  CUMEGA_SHARED(int, shared);
  int sum = 0;
  for (int row = 1; row <= 16; row++) {
    shared[threadIdx.x] = row * x[threadIdx.x];
    __syncthreads();
    int part = shared[63 - threadIdx.x];
    for (int stride = 16; stride > 0; stride /= 2)
      part += __shfl_xor_sync(0xffffffffu, part, stride);
    sum += part;
  }
  y[threadIdx.x] = sum;
}

cudaError_t rows_without_last_barrier(const int *x, int *y, cudaStream_t stream) {
  return CUMEGA_LAUNCH(rows_without_last_barrier_kernel, 1, 64, 256, stream, x, y);
}
