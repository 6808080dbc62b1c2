/* apply: turns scores into scores that are ready for softmax. forward: the (L, L) matrix.
 *
 * A warp takes pieces of 4 x 128 keys of a row (float64: 4 x 64). Each lane has KEYS adjacent
 * keys, so a warp's load or store is 512 adjacent bytes. A warp takes consecutive pieces, so it
 * divides once to find the first and then only counts.
 *
 * Bytes per score in float32: 8 for apply, 4 for forward. The table is read one value at a time
 * through the first-level cache: the lanes of a warp read 512 bytes with a stride of 16, in four
 * loads, of which all but the first hit. Aligned vectors with a shift, or a copy in shared memory,
 * would save three quarters of that: about 17 of the 57 cycles in which an H200 copies 128 scores.
 * Instructions per 32 scores in float32, without masks: about 25, and a copy takes the time of 55.
 * So (predicted, not measured) it runs at the speed of a copy, and in 16-bit types, whose copy
 * takes the time of 28, close to it.
 *
 * It uses no shared memory, has no sums, and takes about 40 registers. */
#include "attention.cuh"

#define WARPS (POSITION_APPLY_THREADS / 32)
#define STEPS 4

template <int TYPE> static __host__ __device__ __forceinline__ int64_t pieces_of(int64_t keys) {
  return parts_of(keys, STEPS * 32 * KEYS<TYPE>);
}

template <int TYPE>
static __global__ void __launch_bounds__(POSITION_APPLY_THREADS)
    attention_scores_kernel(const attention_launch p) {
  const int lane = threadIdx.x % 32;
  const int64_t pieces = pieces_of<TYPE>(p.run.Lk), all = p.rows * pieces;
  const int64_t worker = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
  const int64_t first = worker * p.unit, end = first + p.unit < all ? first + p.unit : all;
  if (first >= end) return;
  row_index at = row_begin(p.run, first / pieces);
  int64_t piece = first % pieces;
  row_place place = row_find(p, at, piece == 0 && lane == 0);
  row_judge_padding(p.run, &place);
  for (int64_t unit = first; unit < end; unit++) {
    for (int step = 0; step < STEPS; step++) {
      const int64_t j = ((piece * STEPS + step) * 32 + lane) * KEYS<TYPE>;
      real_of<TYPE> s[KEYS<TYPE>];
      if (j >= p.run.Lk) break;
      keys_make<TYPE>(p, place, j, s);
      keys_store<TYPE>(p, place, j, s, -(real_of<TYPE>)INFINITY);
    }
    if (++piece < pieces || unit + 1 == end) continue;
    piece = 0;
    row_next(p.run, &at);
    place = row_find(p, at, lane == 0);
    row_judge_padding(p.run, &place);
  }
}

/* A matrix has no scores: every value comes from the table. */
template <int TYPE>
static __global__ void __launch_bounds__(POSITION_APPLY_THREADS)
    position_bias_kernel(const attention_launch p) {
  typedef real_of<TYPE> real;
  const int lane = threadIdx.x % 32;
  const int64_t pieces = pieces_of<TYPE>(p.run.Lk), all = p.rows * pieces;
  const int64_t worker = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
  const int64_t first = worker * p.unit, end = first + p.unit < all ? first + p.unit : all;
  int64_t i = first / pieces, piece = first % pieces;
  for (int64_t unit = first; unit < end; unit++) {
    const real *table = table_of<real>(p.run.table) - i;
    row_place place = {};
    place.row.keys = p.run.Lk;
    place.to = i * p.run.output.stride_q;
    for (int step = 0; step < STEPS; step++) {
      const int64_t j = ((piece * STEPS + step) * 32 + lane) * KEYS<TYPE>;
      real values[KEYS<TYPE>];
      if (j >= p.run.Lk) break;
#pragma unroll
      for (int v = 0; v < KEYS<TYPE>; v++) values[v] = j + v < p.run.Lk ? table[j + v] : (real)0;
      keys_store<TYPE>(p, place, j, values, (real)0);
    }
    if (++piece < pieces) continue;
    piece = 0;
    i++;
  }
}

/* ---- launching ---- */

template <int TYPE> static dim3 deal_pieces(attention_launch *launch) {
  const int64_t pieces = launch->rows * pieces_of<TYPE>(launch->run.Lk);
  return deal(launch, pieces, WARPS, POSITION_APPLY_MOST_BLOCKS);
}

template <int TYPE> static cudaError_t launch_apply(attention_launch launch, cudaStream_t stream) {
  const dim3 grid = deal_pieces<TYPE>(&launch);
  return CUMEGA_LAUNCH((attention_scores_kernel<TYPE>), grid, POSITION_APPLY_THREADS, 0, stream,
                       launch);
}
template <int TYPE>
static cudaError_t launch_forward(attention_launch launch, cudaStream_t stream) {
  const dim3 grid = deal_pieces<TYPE>(&launch);
  return CUMEGA_LAUNCH((position_bias_kernel<TYPE>), grid, POSITION_APPLY_THREADS, 0, stream,
                       launch);
}

cudaError_t attention_scores_launch(const attention_launch *launch, cudaStream_t stream,
                                    const char **kernel) {
  *kernel = "attention_scores_kernel";
  LAUNCH_BY_TYPE(launch->run.type, launch_apply, *launch, stream);
}

cudaError_t position_bias_launch(const attention_launch *launch, cudaStream_t stream,
                                 const char **kernel) {
  *kernel = "position_bias_kernel";
  LAUNCH_BY_TYPE(launch->run.type, launch_forward, *launch, stream);
}
