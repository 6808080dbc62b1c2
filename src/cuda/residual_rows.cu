/* Residual connections with a norm: the sum, its statistics and both stores in one pass. 16 bytes
 * per element in float32 if the sum is stored too (two reads, two writes), else 12. The weights
 * stay in the cache.
 *
 * residual_rows_kernel: up to 4,096 channels. A team of 32 to 512 threads has a row in registers,
 * 4 vectors of WIDTH channels per thread or 8 single channels, so nothing is read twice. A team is
 * a block, or one warp of a block of four. Channel j belongs to thread j / WIDTH % threads, so
 * loads are whole lines. The sums are pairwise (reduce.cuh), and absent channels add -0.
 *
 * Per 128 channels of a warp in float32: 2,048 bytes, 114 cycles of a multiprocessor at 18 bytes
 * per cycle; two sums of 9 shuffles each, 18 cycles of the pipe for shuffles; about 150 arithmetic
 * instructions, 40 cycles of four schedulers. So memory is the limit, also in 16-bit types, with
 * 12 shuffles.
 *
 * residual_long_rows_kernel: more channels, with the sums of groups of 4,096 added in order. A
 * block of 1,024 threads goes through the row group by group, three times: sum, squares, result.
 * If the sum of x and y is stored, the later passes read it; otherwise they compute it again, with
 * at most twice the bytes.
 *
 * Nothing here has been timed on a GPU. */
#include "../math/tree.h"
#include "reduce.cuh"
#include "residual_element.cuh"

/* Vectors per thread. With this number a row has up to THREADS_OF threads. A block of 512 leaves
 * each thread enough registers for the addresses of single elements. */
template <int WIDTH> static constexpr int VECTORS_OF = WIDTH == 1 ? 8 : 4;
template <int WIDTH> static constexpr int THREADS_OF = TREE_GROUP / (VECTORS_OF<WIDTH> * WIDTH);

template <typename REAL, int WIDTH>
using row_shared = tree_shared<REAL, WIDTH, THREADS_OF<WIDTH> / 32, 1>;
template <typename REAL> using long_shared = tree_shared<REAL, 1, RESIDUAL_LONG_THREADS / 32, 1>;

static __device__ __forceinline__ float factor_of(const norm_run &norm, float squares, int64_t D) {
  return norm_factor_f32(norm.type, (float)norm.eps, (float)norm.scale, squares, (float)D);
}
static __device__ __forceinline__ double factor_of(const norm_run &norm, double squares,
                                                   int64_t D) {
  return norm_factor_f64(norm.type, norm.eps, norm.scale, squares, (double)D);
}

/* Rounds v as if it were stored and loaded again. */
template <int TYPE, int WIDTH>
static __device__ __forceinline__ void round_elements(real_of<TYPE> *v) {
#pragma unroll
  for (int i = 0; i < WIDTH; i++) v[i] = widen<TYPE>(narrow<TYPE>(v[i]));
}

/* Stores the normalised channels from `first` on. */
template <int TYPE, int WIDTH>
static __device__ __forceinline__ void
store_normalized(const residual_run &run, const line_place &p, int64_t first, real_of<TYPE> mean,
                 real_of<TYPE> factor, real_of<TYPE> *v) {
  typedef real_of<TYPE> real;
  const real *weight = table_of<real>(run.norm.weight), *bias = table_of<real>(run.norm.bias);
  const int64_t D = run.shape[run.ndim - 1];
#pragma unroll
  for (int i = 0; i < WIDTH; i++)
    if (first + i < D) v[i] = fma((v[i] - mean) * factor, weight[first + i], bias[first + i]);
  store_operand<TYPE, WIDTH>(run, OPERAND_NORMALIZED, p.offsets[OPERAND_NORMALIZED], first, v);
}

/* ---- a row in registers ---- */

/* If a row has more threads than a warp, it has the whole block. Otherwise each warp of a block
 * has its own row. */
template <int TYPE, int WIDTH>
static __global__ void __launch_bounds__(THREADS_OF<WIDTH>)
    residual_rows_kernel(const residual_run run) {
  typedef real_of<TYPE> real;
  typedef row_shared<real, WIDTH> tree;
  CUMEGA_SHARED(tree, shared);
  const int VECTORS = VECTORS_OF<WIDTH>, TERMS = VECTORS * WIDTH;
  const int64_t D = run.shape[run.ndim - 1], rows = line_count(run);
  const int threads = D > 32 * TERMS ? (int)blockDim.x : 32;
  const int teams = blockDim.x / threads, thread = threadIdx.x % threads;
  for (int64_t row = (int64_t)blockIdx.x * teams + threadIdx.x / threads; row < rows;
       row += (int64_t)gridDim.x * teams) {
    line_place p;
    real v[TERMS], term[TERMS], mean = 0, squares;
    find_line(run, row, &p);
#pragma unroll
    for (int r = 0; r < VECTORS; r++) {
      const int64_t first = ((int64_t)r * threads + thread) * WIDTH;
      if (first >= D) continue;
      residual_elements<TYPE, WIDTH>(run, p, first, v + r * WIDTH);
      if (run.operands[OPERAND_OUT].type != 0)
        store_operand<TYPE, WIDTH>(run, OPERAND_OUT, p.offsets[OPERAND_OUT], first, v + r * WIDTH);
      round_elements<TYPE, WIDTH>(v + r * WIDTH);
    }
    if (run.norm.type == CUMEGA_NORM_LAYER) {
#pragma unroll
      for (int i = 0; i < TERMS; i++) {
        const int64_t at = ((int64_t)(i / WIDTH) * threads + thread) * WIDTH + i % WIDTH;
        term[i] = at < D ? v[i] : -(real)0;
      }
      tree_registers<TERMS, WIDTH>(term);
      block_trees(term, threads / 32, shared, &mean);
      mean /= (real)D;
    }
#pragma unroll
    for (int i = 0; i < TERMS; i++) {
      const int64_t at = ((int64_t)(i / WIDTH) * threads + thread) * WIDTH + i % WIDTH;
      const real away = at < D ? v[i] - mean : (real)0;
      term[i] = at < D ? away * away : -(real)0;
    }
    tree_registers<TERMS, WIDTH>(term);
    block_trees(term, threads / 32, shared, &squares);
    const real factor = factor_of(run.norm, squares, D);
#pragma unroll
    for (int r = 0; r < VECTORS; r++) {
      const int64_t first = ((int64_t)r * threads + thread) * WIDTH;
      if (first < D) store_normalized<TYPE, WIDTH>(run, p, first, mean, factor, v + r * WIDTH);
    }
  }
}

/* ---- more than one group of channels ---- */

/* The sum of x and y at one channel, rounded to the stored type. The first pass stores it. */
template <int TYPE>
static __device__ __forceinline__ real_of<TYPE>
long_element(const residual_run &run, const line_place &p, int64_t at, bool first_pass) {
  const bool is_stored = run.operands[OPERAND_OUT].type != 0;
  const int64_t offset = p.offsets[OPERAND_OUT];
  real_of<TYPE> v;
  if (is_stored && !first_pass) {
    load_operand<TYPE, 1>(run, OPERAND_OUT, offset, at, &v);
    return v;
  }
  residual_elements<TYPE, 1>(run, p, at, &v);
  if (is_stored) store_operand<TYPE, 1>(run, OPERAND_OUT, offset, at, &v);
  round_elements<TYPE, 1>(&v);
  return v;
}

/* The sum of v over the row, or with `squared` of (v - mean)^2. */
template <int TYPE>
static __device__ __forceinline__ real_of<TYPE>
long_sum(const residual_run &run, const line_place &p, bool squared, real_of<TYPE> mean,
         bool first_pass, long_shared<real_of<TYPE>> *shared) {
  typedef real_of<TYPE> real;
  const int TERMS = TREE_GROUP / RESIDUAL_LONG_THREADS;
  const int64_t D = run.shape[run.ndim - 1];
  real sum = -(real)0;
  for (int64_t start = 0; start < D; start += TREE_GROUP) {
    real term[TERMS], of_group;
#pragma unroll
    for (int r = 0; r < TERMS; r++) {
      const int64_t at = start + r * RESIDUAL_LONG_THREADS + threadIdx.x;
      term[r] = -(real)0;
      if (at >= D) continue;
      const real v = long_element<TYPE>(run, p, at, first_pass);
      term[r] = squared ? (v - mean) * (v - mean) : v;
    }
    tree_registers<TERMS>(term);
    block_trees(term, RESIDUAL_LONG_THREADS / 32, shared, &of_group);
    sum += of_group;
  }
  return sum;
}

template <int TYPE>
static __global__ void __launch_bounds__(RESIDUAL_LONG_THREADS)
    residual_long_rows_kernel(const residual_run run) {
  typedef real_of<TYPE> real;
  CUMEGA_SHARED(long_shared<real>, shared);
  const int64_t D = run.shape[run.ndim - 1], rows = line_count(run);
  const bool has_mean = run.norm.type == CUMEGA_NORM_LAYER;
  for (int64_t row = blockIdx.x; row < rows; row += gridDim.x) {
    line_place p;
    real mean = 0;
    find_line(run, row, &p);
    if (has_mean) mean = long_sum<TYPE>(run, p, false, 0, true, shared) / (real)D;
    const real squares = long_sum<TYPE>(run, p, true, mean, !has_mean, shared);
    const real factor = factor_of(run.norm, squares, D);
    for (int64_t at = threadIdx.x; at < D; at += RESIDUAL_LONG_THREADS) {
      real v = long_element<TYPE>(run, p, at, false);
      store_normalized<TYPE, 1>(run, p, at, mean, factor, &v);
    }
  }
}

/* ---- launching ---- */

template <int TYPE, int WIDTH>
static cudaError_t launch_width(const residual_run *run, cudaStream_t stream,
                                const char **kernel) {
  const int64_t D = run->shape[run->ndim - 1];
  int threads = 32; /* per row: the smallest power of two that can hold it */
  while ((int64_t)threads * VECTORS_OF<WIDTH> * WIDTH < D) threads *= 2;
  const bool is_warp = threads == 32;
  const int block = is_warp ? RESIDUAL_WARP_THREADS : threads;
  const dim3 grid = grid_of(line_count(*run), 1, block / threads, RESIDUAL_MOST_BLOCKS);
  *kernel = "residual_rows_kernel";
  return CUMEGA_LAUNCH((residual_rows_kernel<TYPE, WIDTH>), grid, block,
                       is_warp ? 0 : sizeof(row_shared<real_of<TYPE>, WIDTH>), stream, *run);
}

template <int TYPE>
static cudaError_t launch_rows(const residual_run *run, cudaStream_t stream, const char **kernel) {
  if (run->shape[run->ndim - 1] > TREE_GROUP) {
    *kernel = "residual_long_rows_kernel";
    return CUMEGA_LAUNCH((residual_long_rows_kernel<TYPE>),
                         grid_of(line_count(*run), 1, 1, RESIDUAL_MOST_BLOCKS),
                         RESIDUAL_LONG_THREADS, sizeof(long_shared<real_of<TYPE>>), stream, *run);
  }
  if (residual_is_vector(run, sizeof(stored_of<TYPE>)))
    return launch_width<TYPE, WIDTH_OF<TYPE>>(run, stream, kernel);
  return launch_width<TYPE, 1>(run, stream, kernel);
}

cudaError_t residual_rows_launch(const residual_run *run, cudaStream_t stream,
                                 const char **kernel) {
  if (!residual_is_valid(run)) return cudaErrorInvalidValue;
  LAUNCH_BY_TYPE(run->type, launch_rows, run, stream, kernel);
}
