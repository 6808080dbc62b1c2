/* Residual connections with a norm: the sum, its statistics and both stores in one pass. 16 bytes
 * per element in float32 where the sum is kept too (two reads, two writes), 12 where it is not; the
 * weights stay in the cache.
 *
 * residual_rows_kernel: up to 4,096 channels. A group of 32 to 512 threads has a row in
 * registers, 4 vectors of WIDTH channels per thread or 8 single ones, so that nothing is read twice;
 * several groups of a warp share a block. Channel j is at thread j / WIDTH % threads, so loads are whole
 * lines. The halving tree of src/math/tree.h then runs from the largest stride down: through a
 * thread's vectors, across warps (through shared memory, once per sum), across lanes, and last
 * through the WIDTH channels of lane 0. A larger power of two than the row needs only adds absent
 * terms, -0, so every layout gives the tree's bits.
 *
 * Per 128 channels of a warp in float32: 2,048 bytes, 114 cycles of a multiprocessor at 18 bytes
 * per cycle; two sums of 5 * WIDTH shuffles, 40 cycles of their pipe; some 150 arithmetic
 * instructions, 40 cycles of four schedulers. So memory is the limit; in 16-bit types, with WIDTH
 * 8, shuffles take 80 cycles of the same 114. An exchange that keeps half and sends half would need
 * 9 shuffles instead of 20; not needed.
 *
 * residual_long_rows_kernel: more channels, whose sums are trees of groups of 4,096 added in order.
 * A block of 1,024 threads walks the row group by group, three times: sum, squares, result. Later
 * walks read the sum where it was stored, or compute it again where it was not: at most twice the
 * bytes.
 *
 * Nothing here has been timed on a GPU. */
#include "residual_element.cuh"

#define GROUP         4096 /* TREE_GROUP */
#define LEAST_THREADS 128  /* of a block */
#define MOST_THREADS  1024
#define MOST_BLOCKS   CUMEGA_MOST_BLOCKS(8192)
#define WARP          0xffffffffu

/* Vectors of a thread, and with so many the most threads of a row: 512 of them leave each the registers
 * that addresses of single elements take. */
#define VECTORS_OF(width)        ((width) == 1 ? 8 : 4)
#define THREADS_OF(count, width) (GROUP / ((count) * (width)))

static __device__ __forceinline__ float factor_of(const norm_run &norm, float squares, int64_t D) {
  return norm_factor_f32(norm.type, (float)norm.eps, (float)norm.scale, squares, (float)D);
}
static __device__ __forceinline__ double factor_of(const norm_run &norm, double squares,
                                                   int64_t D) {
  return norm_factor_f64(norm.type, norm.eps, norm.scale, squares, (double)D);
}

/* The tree's sum of all terms of a group of threads, which all of them get. Clobbers term. Groups
 * of more than a warp are whole blocks, and shared has 32 * WIDTH terms for each of their warps;
 * two sums in a row use different ones. */
template <typename REAL, int WIDTH, int COUNT>
static __device__ __forceinline__ REAL tree_of(REAL (&term)[COUNT][WIDTH], int threads,
                                               REAL *shared) {
#pragma unroll
  for (int stride = COUNT / 2; stride > 0; stride /= 2)
#pragma unroll
    for (int r = 0; r < stride; r++)
#pragma unroll
      for (int w = 0; w < WIDTH; w++) term[r][w] += term[r + stride][w];
  const int lane = threadIdx.x % 32;
  if (threads > 32) {
#pragma unroll
    for (int w = 0; w < WIDTH; w++) shared[w * threads + threadIdx.x] = term[0][w];
    __syncthreads();
    /* Every warp adds up the lanes of its own number, so that all have the sum. */
#pragma unroll
    for (int w = 0; w < WIDTH; w++) {
      const int WARPS = THREADS_OF(COUNT, WIDTH) / 32, warps = threads / 32;
      REAL across[WARPS];
#pragma unroll
      for (int i = 0; i < WARPS; i++)
        across[i] = i < warps ? shared[w * threads + i * 32 + lane] : -(REAL)0;
#pragma unroll
      for (int stride = WARPS / 2; stride > 0; stride /= 2)
#pragma unroll
        for (int i = 0; i < WARPS / 2; i++) /* bounds that are constants, or it is not unrolled */
          if (i < stride) across[i] += across[i + stride];
      term[0][w] = across[0];
    }
  }
#pragma unroll
  for (int w = 0; w < WIDTH; w++)
#pragma unroll
    for (int stride = 16; stride > 0; stride /= 2)
      term[0][w] += __shfl_down_sync(WARP, term[0][w], stride);
#pragma unroll
  for (int stride = WIDTH / 2; stride > 0; stride /= 2)
#pragma unroll
    for (int w = 0; w < stride; w++) term[0][w] += term[0][w + stride];
  return __shfl_sync(WARP, term[0][0], 0);
}

/* v becomes what its store and a load would make of it. */
template <typename ELEMENT, int WIDTH>
static __device__ __forceinline__ void round_elements(typename ELEMENT::real (&v)[WIDTH]) {
#pragma unroll
  for (int i = 0; i < WIDTH; i++) v[i] = ELEMENT::widen(ELEMENT::narrow(v[i]));
}

/* The normalised channels first .. first + count - 1, into the tensor. */
template <typename ELEMENT, int WIDTH>
static __device__ __forceinline__ void
store_normalized(const residual_run &run, const line_place &p, int64_t first, int count,
                 typename ELEMENT::real mean, typename ELEMENT::real factor,
                 typename ELEMENT::real (&v)[WIDTH]) {
  typedef typename ELEMENT::real real;
  const residual_operand &to = run.operands[OPERAND_NORMALIZED];
  const real *weight = table_of(run.norm.weight, real()), *bias = table_of(run.norm.bias, real());
#pragma unroll
  for (int i = 0; i < WIDTH; i++)
    if (i < count) v[i] = fma_of((v[i] - mean) * factor, weight[first + i], bias[first + i]);
  const int64_t stride = to.strides[run.ndim - 1];
  store_elements<ELEMENT, WIDTH>(to, p.offsets[OPERAND_NORMALIZED] + first * stride, stride, count,
                                 v);
}

static __device__ __forceinline__ int elements_left(int64_t D, int64_t first, int width) {
  const int64_t left = D - first;
  return left <= 0 ? 0 : left < width ? (int)left : width;
}

/* blockDim.x is the threads of a row where they are more than a warp, else any number of warps. */
template <typename ELEMENT, int WIDTH>
static __global__ void __launch_bounds__(THREADS_OF(VECTORS_OF(WIDTH), WIDTH))
    residual_rows_kernel(const residual_run run) {
  typedef typename ELEMENT::real real;
  CUMEGA_SHARED(real, shared);
  const int VECTORS = VECTORS_OF(WIDTH), inner = run.ndim - 1;
  const int64_t D = run.shape[inner];
  const int threads = D > 32 * VECTORS * WIDTH ? (int)blockDim.x : 32;
  const int groups = blockDim.x / threads, thread = threadIdx.x % threads;
  real *second = shared + WIDTH * threads;
  int64_t rows = 1;
  for (int i = 0; i < inner; i++) rows *= run.shape[i];
  const residual_operand &out = run.operands[OPERAND_OUT];
  for (int64_t row = (int64_t)blockIdx.x * groups + threadIdx.x / threads; row < rows;
       row += (int64_t)gridDim.x * groups) {
    line_place p;
    real v[VECTORS][WIDTH], term[VECTORS][WIDTH], mean = 0;
    find_line(run, row, &p);
#pragma unroll
    for (int r = 0; r < VECTORS; r++) {
      const int64_t first = ((int64_t)r * threads + thread) * WIDTH;
      const int count = elements_left(D, first, WIDTH);
      if (count == 0) continue;
      residual_elements<ELEMENT, WIDTH>(run, p, first, count, v[r]);
      const int64_t stride = out.strides[inner];
      if (out.type != 0)
        store_elements<ELEMENT, WIDTH>(out, p.offsets[OPERAND_OUT] + first * stride, stride, count,
                                       v[r]);
      round_elements<ELEMENT, WIDTH>(v[r]);
    }
    if (run.norm.type == CUMEGA_NORM_LAYER) {
#pragma unroll
      for (int r = 0; r < VECTORS; r++)
#pragma unroll
        for (int i = 0; i < WIDTH; i++) {
          const int64_t at = ((int64_t)r * threads + thread) * WIDTH + i;
          term[r][i] = at < D ? v[r][i] : -(real)0;
        }
      mean = tree_of<real, WIDTH, VECTORS>(term, threads, shared) / (real)D;
    }
#pragma unroll
    for (int r = 0; r < VECTORS; r++)
#pragma unroll
      for (int i = 0; i < WIDTH; i++) {
        const int64_t at = ((int64_t)r * threads + thread) * WIDTH + i;
        const real away = at < D ? v[r][i] - mean : (real)0;
        term[r][i] = at < D ? away * away : -(real)0;
      }
    const real squares = tree_of<real, WIDTH, VECTORS>(term, threads, second);
    const real factor = factor_of(run.norm, squares, D);
#pragma unroll
    for (int r = 0; r < VECTORS; r++) {
      const int64_t first = ((int64_t)r * threads + thread) * WIDTH;
      const int count = elements_left(D, first, WIDTH);
      if (count > 0) store_normalized<ELEMENT, WIDTH>(run, p, first, count, mean, factor, v[r]);
    }
    if (threads > 32) __syncthreads(); /* before the next row takes the shared memory */
  }
}

/* ---- more than one group of channels ---- */

/* The sum at one channel, as it is stored; pass 1 stores it. */
template <typename ELEMENT>
static __device__ __forceinline__ typename ELEMENT::real
long_element(const residual_run &run, const line_place &p, int64_t at, bool first_pass) {
  typedef typename ELEMENT::real real;
  const residual_operand &out = run.operands[OPERAND_OUT];
  const int64_t stride = out.strides[run.ndim - 1], place = p.offsets[OPERAND_OUT] + at * stride;
  real v[1];
  if (out.type != 0 && !first_pass) {
    load_elements<ELEMENT, 1>(out.data, place, stride, 1, v);
    return v[0];
  }
  residual_elements<ELEMENT, 1>(run, p, at, 1, v);
  if (out.type != 0) store_elements<ELEMENT, 1>(out, place, stride, 1, v);
  round_elements<ELEMENT, 1>(v);
  return v[0];
}

/* The sum of the row, or with `squared` of (v - mean)^2. */
template <typename ELEMENT>
static __device__ __forceinline__ typename ELEMENT::real
long_sum(const residual_run &run, const line_place &p, int64_t D, bool squared,
         typename ELEMENT::real mean, bool first_pass, typename ELEMENT::real *shared) {
  typedef typename ELEMENT::real real;
  real sum = -(real)0;
  for (int64_t start = 0; start < D; start += GROUP) {
    real term[GROUP / MOST_THREADS][1];
#pragma unroll
    for (int r = 0; r < GROUP / MOST_THREADS; r++) {
      const int64_t at = start + r * MOST_THREADS + threadIdx.x;
      term[r][0] = -(real)0;
      if (at >= D) continue;
      const real v = long_element<ELEMENT>(run, p, at, first_pass);
      term[r][0] = squared ? (v - mean) * (v - mean) : v;
    }
    sum += tree_of<real, 1, GROUP / MOST_THREADS>(term, MOST_THREADS, shared);
    __syncthreads();
  }
  return sum;
}

template <typename ELEMENT>
static __global__ void __launch_bounds__(MOST_THREADS)
    residual_long_rows_kernel(const residual_run run) {
  typedef typename ELEMENT::real real;
  CUMEGA_SHARED(real, shared);
  const int64_t D = run.shape[run.ndim - 1];
  const bool has_mean = run.norm.type == CUMEGA_NORM_LAYER;
  int64_t rows = 1;
  for (int i = 0; i < run.ndim - 1; i++) rows *= run.shape[i];
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    line_place p;
    real mean = 0;
    find_line(run, row, &p);
    if (has_mean) mean = long_sum<ELEMENT>(run, p, D, false, 0, true, shared) / (real)D;
    const real squares = long_sum<ELEMENT>(run, p, D, true, mean, !has_mean, shared);
    const real factor = factor_of(run.norm, squares, D);
    for (int64_t at = threadIdx.x; at < D; at += MOST_THREADS) {
      real v[1] = {long_element<ELEMENT>(run, p, at, false)};
      store_normalized<ELEMENT, 1>(run, p, at, 1, mean, factor, v);
    }
  }
}

/* ---- launching ---- */

/* Threads of a row: the fewest, a power of two, that hold it. */
static int threads_of(int64_t D, int width) {
  int threads = 32;
  while ((int64_t)threads * VECTORS_OF(width) * width < D) threads *= 2;
  return threads;
}

static unsigned blocks_of(const residual_run *run, int64_t rows_per_block) {
  int64_t rows = 1;
  for (int i = 0; i < run->ndim - 1; i++) rows *= run->shape[i];
  const int64_t blocks = (rows + rows_per_block - 1) / rows_per_block;
  return (unsigned)(blocks < MOST_BLOCKS ? blocks : MOST_BLOCKS);
}

template <typename ELEMENT>
static cudaError_t launch(const residual_run *run, cudaStream_t stream, const char **kernel) {
  typedef typename ELEMENT::real real;
  const int WIDTH = VECTOR_BYTES / (int)sizeof(typename ELEMENT::stored);
  const int64_t D = run->shape[run->ndim - 1];
  if (D > GROUP)
    RESIDUAL_LAUNCH(dim3(blocks_of(run, 1)), dim3(MOST_THREADS), MOST_THREADS * sizeof(real),
                    residual_long_rows_kernel, ELEMENT);
  const bool is_vector = residual_is_vector(run);
  const int width = is_vector ? WIDTH : 1, threads = threads_of(D, width);
  const int block = threads == 32 ? LEAST_THREADS : threads;
  const size_t bytes = threads == 32 ? 0 : 2 * (size_t)width * (size_t)threads * sizeof(real);
  const dim3 grid(blocks_of(run, block / threads));
  if (is_vector) RESIDUAL_LAUNCH(grid, dim3(block), bytes, residual_rows_kernel, ELEMENT, WIDTH);
  RESIDUAL_LAUNCH(grid, dim3(block), bytes, residual_rows_kernel, ELEMENT, 1);
}

cudaError_t residual_rows_launch(const residual_run *run, cudaStream_t stream,
                                 const char **kernel) {
  switch (run->type) {
  case TYPE_FLOAT16: return launch<element_float16>(run, stream, kernel);
  case TYPE_BFLOAT16: return launch<element_bfloat16>(run, stream, kernel);
  case TYPE_FLOAT64: return launch<element_float64>(run, stream, kernel);
  default: return launch<element_float32>(run, stream, kernel);
  }
}
