/* apply: scores to softmax-ready scores, and forward: the (L, L) matrix.
 *
 * A warp takes pieces of 4 x 128 keys of a row (float64: 4 x 64), each lane VALUES keys side by
 * side, so that a load or store of a warp is 512 bytes in one go. Workers count their way through
 * consecutive pieces: one division at the start.
 *
 * Bytes per score in float32: 8 for apply, 4 for forward. The table is read one value at a time
 * through the first-level cache: 512 bytes that a warp's lanes read with a stride of 16, four loads,
 * of which all but the first hit; aligned vectors with a shift, or a copy in shared memory, would
 * save three quarters of that, at some 17 of the 57 cycles that the copy of 128 scores takes on an
 * H200. Instructions per 32 scores in float32, without masks: about 25, of the 55 that the copy's
 * time allows. Predicted, not measured: the copy's speed; in 16-bit types, which allow 28, near it.
 *
 * No shared memory, no sum; about 40 registers. */
#include "position_bias.cuh"

#define THREADS     256
#define WARPS       (THREADS / 32)
#define STEPS       4
#define MOST_BLOCKS CUMEGA_MOST_BLOCKS(8192)

template <int TYPE> static __device__ __forceinline__ int64_t pieces_of(int64_t keys) {
  const int piece = STEPS * 32 * element<TYPE>::VALUES;
  return (keys + piece - 1) / piece;
}

template <int TYPE>
static __global__ void __launch_bounds__(THREADS) position_apply_kernel(const position_launch p) {
  typedef typename element<TYPE>::real real;
  const int VALUES = element<TYPE>::VALUES, lane = threadIdx.x % 32;
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
      const int64_t j = ((piece * STEPS + step) * 32 + lane) * VALUES;
      real s[VALUES];
      if (j >= p.run.Lk) break;
      keys_make<TYPE>(p, place, j, s);
      keys_store<TYPE>(p, place, j, s, -(real)INFINITY);
    }
    if (++piece < pieces || unit + 1 == end) continue;
    piece = 0;
    row_next(p.run, &at);
    place = row_find(p, at, lane == 0);
    row_judge_padding(p.run, &place);
  }
}

/* A matrix has no scores: every value is the table's. */
template <int TYPE>
static __global__ void __launch_bounds__(THREADS) position_forward_kernel(const position_launch p) {
  typedef typename element<TYPE>::real real;
  const int VALUES = element<TYPE>::VALUES, lane = threadIdx.x % 32;
  const int64_t pieces = pieces_of<TYPE>(p.run.Lk), all = p.rows * pieces;
  const int64_t worker = (int64_t)blockIdx.x * WARPS + threadIdx.x / 32;
  const int64_t first = worker * p.unit, end = first + p.unit < all ? first + p.unit : all;
  int64_t i = first / pieces, piece = first % pieces;
  for (int64_t unit = first; unit < end; unit++) {
    const real *table = table_of(p.run.table, (real)0) - i;
    row_place place = {};
    place.row.keys = p.run.Lk;
    place.to = i * p.run.output.stride_q;
    for (int step = 0; step < STEPS; step++) {
      const int64_t j = ((piece * STEPS + step) * 32 + lane) * VALUES;
      real values[VALUES];
      if (j >= p.run.Lk) break;
#pragma unroll
      for (int v = 0; v < VALUES; v++) values[v] = j + v < p.run.Lk ? table[j + v] : (real)0;
      keys_store<TYPE>(p, place, j, values, (real)0);
    }
    if (++piece < pieces) continue;
    piece = 0;
    i++;
  }
}

/* ---- launching ---- */

/* Sets the workers' units; returns the grid. */
template <int TYPE> static dim3 share(position_launch *launch) {
  const int64_t piece = STEPS * 32 * element<TYPE>::VALUES;
  const int64_t units = launch->rows * ((launch->run.Lk + piece - 1) / piece);
  const int64_t workers = MOST_BLOCKS * WARPS;
  launch->unit = (units + workers - 1) / workers;
  return dim3((unsigned)((units + launch->unit * WARPS - 1) / (launch->unit * WARPS)));
}

/* The name has no space (cumega_context_kernels). */
#define LAUNCH(...)                                                                                \
  do {                                                                                             \
    const dim3 grid = share<TYPE>(&launch);                                                        \
    *kernel = name;                                                                                \
    return CUMEGA_LAUNCH((__VA_ARGS__), grid, dim3(THREADS), 0, stream, launch);                   \
  } while (0)

template <int TYPE>
static cudaError_t launch_apply(position_launch launch, cudaStream_t stream, const char **kernel,
                                const char *name) {
  LAUNCH(position_apply_kernel<TYPE>);
}
template <int TYPE>
static cudaError_t launch_forward(position_launch launch, cudaStream_t stream, const char **kernel,
                                  const char *name) {
  LAUNCH(position_forward_kernel<TYPE>);
}

#define SWITCH(launch_one, name)                                                                   \
  switch (launch->run.type) {                                                                      \
  case TYPE_FLOAT32: return launch_one<TYPE_FLOAT32>(*launch, stream, kernel, name "<float32>");   \
  case TYPE_FLOAT16: return launch_one<TYPE_FLOAT16>(*launch, stream, kernel, name "<float16>");   \
  case TYPE_BFLOAT16:                                                                              \
      return launch_one<TYPE_BFLOAT16>(*launch, stream, kernel, name "<bfloat16>");                \
  default: return launch_one<TYPE_FLOAT64>(*launch, stream, kernel, name "<float64>");             \
  }

cudaError_t position_apply_launch(const position_launch *launch, cudaStream_t stream,
                                  const char **kernel){
    SWITCH(launch_apply, "position_apply_kernel")}

cudaError_t position_forward_launch(const position_launch *launch, cudaStream_t stream,
                                    const char **kernel) {
  SWITCH(launch_forward, "position_forward_kernel")
}
