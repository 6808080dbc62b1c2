/* What every kernel of the EMA does with one sequence and one channel, whatever its layout of
 * threads: finding the sequence, elements in and out, states in and out, activation.
 *
 * The arithmetic is that of src/cpu/ema_item.h, operation by operation: fma where it is written and
 * nowhere else, the halving tree over the heads, one rounding at the store. */
#ifndef CUMEGA_SRC_CUDA_EMA_ITEM_CUH
#define CUMEGA_SRC_CUDA_EMA_ITEM_CUH

#include <math.h>
#include "../math/float16.h"
#include "ema_cuda.h"
#include "launch.h"

#define EMA_WARP  0xffffffffu
#define EMA_PIECE 16 /* bytes of one asynchronous copy */

/* One sequence of a run, or a slice of its time. */
typedef struct ema_sequence {
  int64_t b, first, length; /* its rows of x and y; where padded, first is a step too */
  int64_t rows;             /* of y: those behind length become 0 */
  int64_t initial, final;   /* its rows of the states; negative: none */
} ema_sequence;

/* The steps of a slice, out of its whole sequence. */
static __device__ __forceinline__ void ema_cut(const ema_slices &slices, int64_t slice,
                                               ema_sequence *s) {
  const int64_t t = slice * slices.steps, left = s->length - t, rows = s->rows - t;
  s->first += t;
  s->length = left < 0 ? 0 : left < slices.steps ? left : slices.steps;
  s->rows = rows < 0 ? 0 : rows < slices.steps ? rows : slices.steps;
}

/* A launch over slices (ema_sliced.cu): a silent one walks through what comes before each slice, up
 * to the state that it begins with; the other takes it from there. */
static __device__ __forceinline__ void ema_take_slice(const ema_launch &p, int64_t slice,
                                                      ema_sequence *s) {
  const int64_t row = s->b * p.slices.count + slice;
  ema_cut(p.slices, slice, s);
  const bool is_empty = slice > 0 && s->length == 0;
  s->final = is_empty ? -1 : row;
  if (!p.silent) {
    s->initial = s->final;
  } else if (slice == 0) {
    s->length = s->rows = 0; /* the caller's initial state as it is */
  } else {
    s->first -= p.slices.warmup;
    s->length = s->rows = is_empty ? 0 : p.slices.warmup;
    s->initial = -1;
  }
}

/* Index tensors are read here, where their values are met for the first time: a length outside the
 * tensor is clamped; false where the sequence is to be skipped. *met: the bits to report. */
static __device__ __forceinline__ bool ema_find(const ema_launch &p, int64_t which, ema_sequence *s,
                                                uint32_t *met) {
  const ema_run &run = p.run;
  const int64_t b = which / p.slices.count;
  bool valid = true;
  *met = 0;
  s->b = b;
  s->first = ema_run_first(&run, b);
  s->length = ema_run_length(&run, b);
  s->initial = ema_state_row(&run.initial, &run.initial_slots, b);
  s->final = ema_state_row(&run.final, &run.final_slots, b);
  if (run.packed) {
    valid = s->first >= 0 && s->first <= run.L && s->length >= 0 && s->length <= run.L - s->first;
    if (!valid) *met |= CUMEGA_REPORT_OFFSET;
  } else if (s->length < 0 || s->length > run.L) {
    s->length = s->length < 0 ? 0 : run.L;
    *met |= CUMEGA_REPORT_LENGTH;
  }
  if (s->initial >= p.initial_rows || s->final >= p.final_rows) {
    *met |= CUMEGA_REPORT_SLOT;
    valid = false;
  }
  s->rows = run.packed ? s->length : run.L;
  if (p.slices.count > 1) ema_take_slice(p, which % p.slices.count, s);
  return valid;
}

/* Finds sequence or slice `which` of ema_sequence_count and reports; once for each `reporter` is
 * true. */
static __device__ __forceinline__ bool ema_begin(const ema_launch &p, int64_t which, bool reporter,
                                                 ema_sequence *s) {
  uint32_t met;
  const bool valid = ema_find(p, which, s, &met);
  if (met != 0 && reporter) atomicOr(p.report, met);
  return valid;
}

/* ---- elements ---- */

static __device__ __forceinline__ int64_t ema_offset(const ema_sequences &tensor,
                                                     const ema_sequence &s, int64_t d) {
  return s.first * tensor.stride_t + s.b * tensor.stride_b + d * tensor.stride_d;
}

template <typename REAL>
static __device__ __forceinline__ REAL ema_load(tensor_type type, const void *data, int64_t at) {
  switch (type) {
  case TYPE_FLOAT16: return float16_to_float(((const uint16_t *)data)[at]);
  case TYPE_BFLOAT16: return bfloat16_to_float(((const uint16_t *)data)[at]);
  case TYPE_FLOAT64: return (REAL)((const double *)data)[at]; /* REAL is double then */
  default: return ((const float *)data)[at];
  }
}

static __device__ __forceinline__ void ema_store(tensor_type type, void *data, int64_t at,
                                                 float v) {
  switch (type) {
  case TYPE_FLOAT16: ((uint16_t *)data)[at] = float_to_float16(v); break;
  case TYPE_BFLOAT16: ((uint16_t *)data)[at] = float_to_bfloat16(v); break;
  case TYPE_FLOAT64: ((double *)data)[at] = 0; break; /* only what lies behind a length */
  default: ((float *)data)[at] = v; break;
  }
}

/* Elements of a type that is known when the kernel is compiled. */
template <int TYPE> struct element { typedef uint16_t stored; };
template <> struct element<TYPE_FLOAT32> { typedef float stored; };

static __device__ __forceinline__ float widen(float v, int) {
  return v;
}
static __device__ __forceinline__ float widen(uint16_t v, int type) {
  return type == TYPE_FLOAT16 ? float16_to_float(v) : bfloat16_to_float(v);
}
static __device__ __forceinline__ void narrow(float *to, float v, int) {
  *to = v;
}
static __device__ __forceinline__ void narrow(uint16_t *to, float v, int type) {
  *to = type == TYPE_FLOAT16 ? float_to_float16(v) : float_to_bfloat16(v);
}

/* y = activation(v), rounded once; a float64 chain of a narrower x is rounded to float first. */
static __device__ __forceinline__ void ema_finish(const ema_launch &p, int64_t at, float v) {
  const activation_f32 &a = p.finish_f32;
  if (!p.run.raw) v = activation_apply_f32(a.kind, a.a, a.b, v);
  ema_store(p.run.type, p.run.y.data, at, v);
}

static __device__ __forceinline__ void ema_finish(const ema_launch &p, int64_t at, double v) {
  const activation_f64 &a = p.finish_f64;
  if (p.run.type != TYPE_FLOAT64) {
    ema_finish(p, at, (float)v);
    return;
  }
  if (!p.run.raw) v = activation_apply_f64(a.kind, a.a, a.b, v);
  ((double *)p.run.y.data)[at] = v;
}

static __device__ __forceinline__ bool ema_masked(const ema_launch &p, const ema_sequence &s,
                                                  int64_t t) {
  const ema_run &run = p.run;
  return run.mask != NULL &&
         run.mask[s.b * run.mask_stride_b + (s.first + t) * run.mask_stride_t] != 0;
}

/* The mask as bits: a warp reads those of up to 32 steps at once, lane i step t + i, and some time
 * later makes a word of them, bit i of which says whether step t + i is masked. */
static __device__ __forceinline__ uint8_t ema_mask_of_lane(const ema_launch &p,
                                                           const ema_sequence &s, int64_t t,
                                                           int steps) {
  const int lane = threadIdx.x % 32;
  return lane < steps && t + lane < s.length && ema_masked(p, s, t + lane);
}
static __device__ __forceinline__ uint32_t ema_mask_word(uint8_t of_lane) {
  return __ballot_sync(EMA_WARP, of_lane);
}

/* What lies behind a padded sequence's end. */
static __device__ __forceinline__ void ema_zero_rest(const ema_launch &p, const ema_sequence &s,
                                                     int64_t d) {
  const int64_t at = ema_offset(p.run.y, s, d), stride = p.run.y.stride_t;
  for (int64_t t = s.length; t < s.rows; t++)
    ema_store(p.run.type, p.run.y.data, at + t * stride, 0.0f);
}

/* ---- coefficients and the chain ---- */

static __device__ __forceinline__ const ema_coefficients_f32 &ema_coefficients(const ema_launch &p,
                                                                               float) {
  return p.f32;
}
static __device__ __forceinline__ const ema_coefficients_f64 &ema_coefficients(const ema_launch &p,
                                                                               double) {
  return p.f64;
}
static __device__ __forceinline__ float ema_q_lo(const ema_coefficients_f32 &k, int64_t at) {
  return k.q_lo[at];
}
static __device__ __forceinline__ double ema_q_lo(const ema_coefficients_f64 &, int64_t) {
  return 0; /* there is none, and ema_advance does not use it */
}

/* One step of one head. */
static __device__ __forceinline__ float ema_advance(float q, float q_lo, float gain, float h,
                                                    float x) {
  return fmaf(q, h, fmaf(q_lo, h, gain * x));
}
static __device__ __forceinline__ double ema_advance(double q, double, double gain, double h,
                                                     double x) {
  return fma(q, h, gain * x);
}
static __device__ __forceinline__ float ema_fma(float a, float b, float c) {
  return fmaf(a, b, c);
}
static __device__ __forceinline__ double ema_fma(double a, double b, double c) {
  return fma(a, b, c);
}

/* ---- whether a kernel can ---- */

/* Channels lie together in x and y, and every step of x begins at a piece and is whole pieces. */
static inline bool ema_has_pieces(const ema_launch *launch) {
  const ema_run *run = &launch->run;
  const int64_t bytes = run->type == TYPE_FLOAT32 ? 4 : 2;
  return run->x.stride_d == 1 && run->y.stride_d == 1 && (uintptr_t)run->x.data % EMA_PIECE == 0 &&
         run->x.stride_t * bytes % EMA_PIECE == 0 && run->x.stride_b * bytes % EMA_PIECE == 0 &&
         launch->channels * bytes % EMA_PIECE == 0;
}

#endif
