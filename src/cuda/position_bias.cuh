/* What every kernel of position biases does with a row of scores: finding its place, elements in and
 * out, s from scores, bias and masks.
 *
 * The arithmetic is that of src/cpu/position_bias_row.h, operation by operation: one fma for scale
 * and bias, one rounding at the store. */
#ifndef CUMEGA_SRC_CUDA_POSITION_BIAS_CUH
#define CUMEGA_SRC_CUDA_POSITION_BIAS_CUH

#include <math.h>
#include <cumega/context.h>
#include "../math/elementary_f32.h"
#include "../math/elementary_f64.h"
#include "../math/float16.h"
#include "launch.h"
#include "position_bias_cuda.h"

/* Behind src/math/, whose functions have variables of the name `half`. */
#include <cuda_fp16.h>

#define WARP 0xffffffffu

/* ---- types ---- */

/* A thread takes VALUES keys at a time: 16 bytes, or 8 in the 16-bit types, so that every type but
 * float64 has the same layout. */
template <int TYPE> struct element {
  typedef uint16_t stored;
  typedef float real;
  typedef uint2 piece;
  static const int VALUES = 4;
};
template <> struct element<TYPE_FLOAT32> {
  typedef float stored;
  typedef float real;
  typedef float4 piece;
  static const int VALUES = 4;
};
template <> struct element<TYPE_FLOAT64> {
  typedef double stored;
  typedef double real;
  typedef double2 piece;
  static const int VALUES = 2;
};

/* The hardware's conversions round as float16.h does; only their NaN differ. */
template <int TYPE>
static __device__ __forceinline__ typename element<TYPE>::real
widen(typename element<TYPE>::stored v) {
  if constexpr (TYPE == TYPE_FLOAT16)
    return __half2float(__ushort_as_half(v));
  else if constexpr (TYPE == TYPE_BFLOAT16)
    return bfloat16_to_float(v);
  else
    return v;
}

template <int TYPE>
static __device__ __forceinline__ typename element<TYPE>::stored
narrow(typename element<TYPE>::real v) {
  if constexpr (TYPE == TYPE_FLOAT16)
    return __half_as_ushort(__float2half_rn(v));
  else if constexpr (TYPE == TYPE_BFLOAT16)
    return float_to_bfloat16(v);
  else
    return v;
}

static __device__ __forceinline__ float exp_of(float x) {
  return math_expf(x);
}
static __device__ __forceinline__ double exp_of(double x) {
  return math_exp(x);
}
static __device__ __forceinline__ float fma_of(float a, float b, float c) {
  return fmaf(a, b, c);
}
static __device__ __forceinline__ double fma_of(double a, double b, double c) {
  return fma(a, b, c);
}
/* Of a number and a NaN the number. */
static __device__ __forceinline__ float max_of(float a, float b) {
  return fmaxf(a, b);
}
static __device__ __forceinline__ double max_of(double a, double b) {
  return fmax(a, b);
}
static __device__ __forceinline__ const float *table_of(const position_table &table, float) {
  return table.f32;
}
static __device__ __forceinline__ const double *table_of(const position_table &table, double) {
  return table.f64;
}

/* ---- places ---- */

/* Which row, kept up by counting: a division of 64 bits costs more than a short row. */
struct row_index {
  int64_t b, h, i;
};

static __device__ __forceinline__ row_index row_begin(const position_bias_run &run, int64_t row) {
  row_index at;
  at.i = row % run.Lq;
  row /= run.Lq;
  at.h = row % run.H;
  at.b = row / run.H;
  return at;
}

static __device__ __forceinline__ void row_next(const position_bias_run &run, row_index *at) {
  if (++at->i < run.Lq) return;
  at->i = 0;
  if (++at->h < run.H) return;
  at->h = 0;
  at->b++;
}

/* One row: what it sees, and where key 0 of it lies. */
struct row_place {
  position_row row;
  int64_t from, to;
  const uint8_t *attention, *padding; /* NULL: none */
};

/* Index tensors are read here, where their values are met for the first time: what lies outside the
 * tensor is clamped, and reported by the thread that is told so. */
static __device__ __forceinline__ row_place row_find(const position_launch &p, const row_index &at,
                                                     bool reporter) {
  const position_bias_run &run = p.run;
  const int64_t given_keys = position_keys(&run, at.b);
  const int64_t given_queries = position_queries(&run, at.b);
  int64_t keys = given_keys, queries = given_queries;
  keys = keys < 0 ? 0 : keys > run.Lk ? run.Lk : keys;
  queries = queries < 0 ? 0 : queries > run.Lq ? run.Lq : queries;
  queries = queries > keys ? keys : queries;
  if (reporter && at.h == 0 && at.i == 0 && (keys != given_keys || queries != given_queries))
    atomicOr(p.report, (uint32_t)CUMEGA_REPORT_LENGTH);
  row_place place;
  place.row = position_row_of(&run, at.i, queries, keys);
  const position_scores &x = run.scores, &y = run.output;
  place.from = at.b * x.stride_b + at.h * x.stride_h + at.i * x.stride_q;
  place.to = at.b * y.stride_b + at.h * y.stride_h + at.i * y.stride_q;
  place.attention = run.attention.data;
  if (place.attention)
    place.attention += at.b * run.attention.stride_b + at.i * run.attention.stride_q;
  place.padding = run.padding.data;
  if (place.padding) place.padding += at.b * run.padding.stride_b;
  return place;
}

/* A sequence whose keys are all masked counts as unmasked. The whole warp calls it; the first keys
 * decide unless they are masked. */
static __device__ __forceinline__ void row_judge_padding(const position_bias_run &run,
                                                         row_place *place) {
  if (place->padding == NULL) return;
  const int lane = threadIdx.x % 32;
  for (int64_t first = 0; first < place->row.keys; first += 32) {
    const int64_t j = first + lane;
    const bool seen = j < place->row.keys && !place->padding[j * run.padding.stride_k];
    if (__any_sync(WARP, seen)) return;
  }
  place->padding = NULL;
}

/* ---- elements ---- */

/* x = scores of VALUES keys from j on, as far as the row sees them; 0 elsewhere. */
template <int TYPE>
static __device__ __forceinline__ void keys_load(const position_launch &p, const row_place &place,
                                                 int64_t j, typename element<TYPE>::real *x) {
  typedef element<TYPE> E;
  typedef typename E::stored stored;
  const stored *from = (const stored *)p.run.scores.data + place.from;
  if (p.vector_in && j + E::VALUES <= place.row.visible) {
    const typename E::piece piece = *(const typename E::piece *)(from + j);
    stored values[E::VALUES];
    memcpy(values, &piece, sizeof piece);
#pragma unroll
    for (int v = 0; v < E::VALUES; v++) x[v] = widen<TYPE>(values[v]);
    return;
  }
#pragma unroll
  for (int v = 0; v < E::VALUES; v++)
    x[v] = j + v < place.row.visible ? widen<TYPE>(from[(j + v) * p.run.scores.stride_k])
                                     : (typename E::real)0;
}

/* s of VALUES keys from j on: -inf where masked, or out of the row's sight. */
template <int TYPE>
static __device__ __forceinline__ void keys_make(const position_launch &p, const row_place &place,
                                                 int64_t j, typename element<TYPE>::real *s) {
  typedef typename element<TYPE>::real real;
  const real *table = table_of(p.run.table, (real)0), scale = (real)p.run.scale;
  keys_load<TYPE>(p, place, j, s);
#pragma unroll
  for (int v = 0; v < element<TYPE>::VALUES; v++) {
    const int64_t key = j + v;
    bool hidden = key >= place.row.visible;
    if (!hidden && place.attention) hidden = place.attention[key * p.run.attention.stride_k] != 0;
    if (!hidden && place.padding) hidden = place.padding[key * p.run.padding.stride_k] != 0;
    if (hidden)
      s[v] = -(real)INFINITY;
    else if (table != NULL)
      s[v] = fma_of(scale, s[v], table[key + place.row.first]);
    else
      s[v] = scale * s[v];
  }
}

/* output of VALUES keys from j on, as far as there are keys; what lies behind the sequence's keys
 * becomes `behind`. */
template <int TYPE>
static __device__ __forceinline__ void keys_store(const position_launch &p, const row_place &place,
                                                  int64_t j, const typename element<TYPE>::real *w,
                                                  typename element<TYPE>::real behind) {
  typedef element<TYPE> E;
  typedef typename E::stored stored;
  stored *to = (stored *)p.run.output.data + place.to, values[E::VALUES];
#pragma unroll
  for (int v = 0; v < E::VALUES; v++)
    values[v] = narrow<TYPE>(j + v < place.row.keys ? w[v] : behind);
  if (p.vector_out && j + E::VALUES <= p.run.Lk) {
    typename E::piece piece;
    memcpy(&piece, values, sizeof piece);
    *(typename E::piece *)(to + j) = piece;
    return;
  }
#pragma unroll
  for (int v = 0; v < E::VALUES; v++)
    if (j + v < p.run.Lk) to[(j + v) * p.run.output.stride_k] = values[v];
}

#endif
