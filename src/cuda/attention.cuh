/* What all kernels for scores do with a row: find its position, read and write elements, and
 * compute s from scores, bias and masks.
 *
 * The arithmetic is that of src/cpu/attention_row.h, operation by operation: one fma for scale and
 * bias, one rounding at the store. */
#ifndef CUMEGA_SRC_CUDA_ATTENTION_CUH
#define CUMEGA_SRC_CUDA_ATTENTION_CUH

#include <cumega/context.h>
#include "../math/elementary_f32.h"
#include "../math/elementary_f64.h"
#include "element.cuh"
#include "attention_cuda.h"
#include "reduce.cuh"

/* How many keys a thread loads at once: 16 bytes, or 8 in 16-bit types, so that all types but
 * float64 have the same layout. */
template <int TYPE> static constexpr int KEYS = TYPE == TYPE_FLOAT64 ? 2 : 4;

static __device__ __forceinline__ float exp_of(float x) {
  return math_expf(x);
}
static __device__ __forceinline__ double exp_of(double x) {
  return math_exp(x);
}

/* ---- positions of rows ---- */

/* The index of a row, split into sequence, head and query. To count from row to row is cheaper
 * than a 64-bit division for each, which would take longer than a short row. */
struct row_index {
  int64_t b, h, i;
};

static __device__ __forceinline__ row_index row_begin(const attention_run &run, int64_t row) {
  row_index at;
  at.i = row % run.Lq;
  row /= run.Lq;
  at.h = row % run.H;
  at.b = row / run.H;
  return at;
}

static __device__ __forceinline__ void row_next(const attention_run &run, row_index *at) {
  if (++at->i < run.Lq) return;
  at->i = 0;
  if (++at->h < run.H) return;
  at->h = 0;
  at->b++;
}

/* One row: its visible keys, and the offsets of its first key in scores, output and masks. */
struct row_place {
  attention_row row;
  int64_t from, to;
  const uint8_t *attention, *padding; /* NULL: none */
};

/* Index tensors are read here first. A wrong length is clamped, and the `reporter` thread sets the
 * error flag. */
static __device__ __forceinline__ row_place row_find(const attention_launch &p,
                                                     const row_index &at, bool reporter) {
  const attention_run &run = p.run;
  batch_span keys, queries;
  uint32_t met = batch_read(&run.keys, at.b, &keys) | batch_read(&run.queries, at.b, &queries);
  if (queries.length > keys.length) {
    queries.length = keys.length;
    met |= CUMEGA_REPORT_LENGTH;
  }
  if (met != 0 && reporter && at.h == 0 && at.i == 0) atomicOr(p.report, met);
  row_place place;
  place.row = attention_row_of(&run, at.i, queries.length, keys.length);
  const attention_tensor &x = run.scores, &y = run.output;
  place.from = at.b * x.stride_b + at.h * x.stride_h + at.i * x.stride_q;
  place.to = at.b * y.stride_b + at.h * y.stride_h + at.i * y.stride_q;
  place.attention = run.attention.data;
  if (place.attention)
    place.attention += at.b * run.attention.stride_b + at.i * run.attention.stride_q;
  place.padding = run.padding.data;
  if (place.padding) place.padding += at.b * run.padding.stride_b;
  return place;
}

/* If all keys of a sequence are masked, drops the padding mask. The whole warp must call this. It
 * usually looks at the first 32 keys only. */
static __device__ __forceinline__ void row_judge_padding(const attention_run &run,
                                                         row_place *place) {
  if (place->padding == NULL) return;
  const int lane = threadIdx.x % 32;
  for (int64_t first = 0; first < place->row.keys; first += 32) {
    const int64_t j = first + lane;
    const bool seen = j < place->row.keys && !place->padding[j * run.padding.stride_k];
    if (__any_sync(FULL_WARP, seen)) return;
  }
  place->padding = NULL;
}

/* ---- elements ---- */

/* s of the KEYS keys from j on: -inf if a key is masked or not visible. */
template <int TYPE>
static __device__ __forceinline__ void keys_make(const attention_launch &p, const row_place &place,
                                                 int64_t j, real_of<TYPE> *s) {
  typedef real_of<TYPE> real;
  const real *table = table_of<real>(p.run.table), scale = (real)p.run.scale;
  load_elements<TYPE, KEYS<TYPE>>((const stored_of<TYPE> *)p.run.scores.data + place.from, j,
                                  p.run.scores.stride_k, place.row.visible, p.vector_in, s);
#pragma unroll
  for (int v = 0; v < KEYS<TYPE>; v++) {
    const int64_t key = j + v;
    bool hidden = key >= place.row.visible;
    if (!hidden && place.attention) hidden = place.attention[key * p.run.attention.stride_k] != 0;
    if (!hidden && place.padding) hidden = place.padding[key * p.run.padding.stride_k] != 0;
    if (hidden)
      s[v] = -(real)INFINITY;
    else if (table != NULL)
      s[v] = fma(scale, s[v], table[key + place.row.first]);
    else
      s[v] = scale * s[v];
  }
}

/* Stores the output of the KEYS keys from j on, as far as the row has them. Keys past the end of
 * the sequence become `behind`. */
template <int TYPE>
static __device__ __forceinline__ void keys_store(const attention_launch &p,
                                                  const row_place &place, int64_t j,
                                                  const real_of<TYPE> *w, real_of<TYPE> behind) {
  real_of<TYPE> values[KEYS<TYPE>];
#pragma unroll
  for (int v = 0; v < KEYS<TYPE>; v++) values[v] = j + v < place.row.keys ? w[v] : behind;
  store_elements<TYPE, KEYS<TYPE>>((stored_of<TYPE> *)p.run.output.data + place.to, j,
                                   p.run.output.stride_k, p.run.Lk, p.vector_out, values);
}

/* ---- launching ---- */

/* Distributes units of work over blocks with `workers` workers each, at most `most` blocks. Each
 * worker takes launch->unit consecutive units, which this function sets. */
static inline dim3 deal(attention_launch *launch, int64_t units, int64_t workers, int64_t most) {
  launch->unit = parts_of(units, most * workers);
  return dim3((unsigned)parts_of(units, launch->unit * workers));
}

#endif
