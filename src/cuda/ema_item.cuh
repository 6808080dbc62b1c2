/* What every kernel of the EMA does with one sequence and one channel, whatever its layout of
 * threads: find the sequence, read and write elements, and advance the states.
 *
 * The arithmetic is that of src/cpu/ema_item.h, operation by operation: fma only where it is
 * written, the pairwise sum over the heads, one rounding at the store. */
#ifndef CUMEGA_SRC_CUDA_EMA_ITEM_CUH
#define CUMEGA_SRC_CUDA_EMA_ITEM_CUH

#include "element.cuh"
#include "ema_cuda.h"
#include "reduce.cuh"

/* One sequence of a run, or a slice of its time. */
typedef struct ema_sequence {
  int64_t b, first, length; /* its rows of x and y; in a padded batch, rows are steps */
  int64_t rows;             /* of y: rows from `length` on become 0 */
  int64_t initial, final;   /* its rows of the states; negative: none */
} ema_sequence;

/* Reduces a whole sequence to the steps of one slice. */
static __device__ __forceinline__ void ema_cut(const ema_slices &slices, int64_t slice,
                                               ema_sequence *s) {
  const int64_t t = slice * slices.steps, left = s->length - t, rows = s->rows - t;
  s->first += t;
  s->length = left < 0 ? 0 : left < slices.steps ? left : slices.steps;
  s->rows = rows < 0 ? 0 : rows < slices.steps ? rows : slices.steps;
}

/* For a launch over slices (ema_sliced.cu). A silent launch runs the warm-up before each slice, to
 * get the state with which the slice begins. The next launch begins with that state. */
static __device__ __forceinline__ void ema_take_slice(const ema_launch &p, int64_t slice,
                                                      ema_sequence *s) {
  const int64_t row = s->b * p.slices.count + slice;
  ema_cut(p.slices, slice, s);
  const bool is_empty = slice > 0 && s->length == 0;
  s->final = is_empty ? -1 : row;
  if (!p.silent) {
    s->initial = s->final;
  } else if (slice == 0) {
    s->length = s->rows = 0; /* the caller's initial state, unchanged */
  } else {
    s->first -= p.slices.warmup;
    s->length = s->rows = is_empty ? 0 : p.slices.warmup;
    s->initial = -1;
  }
}

/* Index tensors are read here first. A wrong length is clamped. Returns false if the sequence must
 * be skipped. *met becomes the error flags to set. */
static __device__ __forceinline__ bool ema_find(const ema_launch &p, int64_t which,
                                                ema_sequence *s, uint32_t *met) {
  const ema_run &run = p.run;
  const int64_t b = which / p.slices.count;
  batch_span span;
  *met = batch_read(&run.batch, b, &span);
  *met |= batch_read_slot(&run.initial_slots, b) | batch_read_slot(&run.final_slots, b);
  s->b = b;
  s->first = span.first;
  s->length = span.length;
  s->initial = ema_state_row(&run.initial, &run.initial_slots, b);
  s->final = ema_state_row(&run.final, &run.final_slots, b);
  const bool valid = (*met & (CUMEGA_REPORT_OFFSET | CUMEGA_REPORT_SLOT)) == 0;
  s->rows = run.batch.packed ? s->length : run.batch.rows;
  if (p.slices.count > 1) ema_take_slice(p, which % p.slices.count, s);
  return valid;
}

/* Finds sequence or slice `which` of ema_sequence_count. Sets error flags if `reporter` is true,
 * as it is for one thread per sequence. */
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

static __device__ __forceinline__ float ema_activate(const ema_launch &p, float v) {
  return activation_apply_f32(p.run.finish_f32.kind, p.run.finish_f32.a, p.run.finish_f32.b, v);
}
static __device__ __forceinline__ double ema_activate(const ema_launch &p, double v) {
  return activation_apply_f64(p.run.finish_f64.kind, p.run.finish_f64.a, p.run.finish_f64.b, v);
}

/* y = activation(v), rounded once. If the state is float64 and y has a narrower type, v is first
 * rounded to float. */
template <int TYPE, typename REAL>
static __device__ __forceinline__ void ema_finish(const ema_launch &p, int64_t at, REAL v) {
  const real_of<TYPE> e = (real_of<TYPE>)v;
  store_element<TYPE>(p.run.y.data, at, p.run.raw ? e : ema_activate(p, e));
}

static __device__ __forceinline__ bool ema_masked(const ema_launch &p, const ema_sequence &s,
                                                  int64_t t) {
  const ema_run &run = p.run;
  return run.mask != NULL &&
         run.mask[s.b * run.mask_stride_b + (s.first + t) * run.mask_stride_t] != 0;
}

/* The mask as bits. A warp reads the mask of up to 32 steps at once, with step t + i in lane i.
 * Later it makes a word of it, whose bit i says whether step t + i is masked. */
static __device__ __forceinline__ uint8_t ema_mask_of_lane(const ema_launch &p,
                                                           const ema_sequence &s, int64_t t,
                                                           int steps) {
  const int lane = threadIdx.x % 32;
  return lane < steps && t + lane < s.length && ema_masked(p, s, t + lane);
}
static __device__ __forceinline__ uint32_t ema_mask_word(uint8_t of_lane) {
  return __ballot_sync(FULL_WARP, of_lane);
}

/* Zeros past the end of a padded sequence. */
template <int TYPE>
static __device__ __forceinline__ void ema_zero_rest(const ema_launch &p, const ema_sequence &s,
                                                     int64_t d) {
  const int64_t at = ema_offset(p.run.y, s, d), stride = p.run.y.stride_t;
  for (int64_t t = s.length; t < s.rows; t++)
    store_element<TYPE>(p.run.y.data, at + t * stride, 0);
}

/* ---- states, coefficients and the recurrence ---- */

/* The state of head 0 of a row and channel. The other heads are stride_n apart. */
template <typename REAL>
static __device__ __forceinline__ REAL *ema_states(const ema_state &state, int64_t row,
                                                   int64_t d) {
  return (REAL *)state.data + row * state.stride_row + d * state.stride_d;
}

static __device__ __forceinline__ float ema_q_lo(const ema_coefficients_f32 &k, int64_t at) {
  return k.q_lo[at];
}
static __device__ __forceinline__ double ema_q_lo(const ema_coefficients_f64 &, int64_t) {
  return 0; /* double has no q_lo, and ema_advance does not use it */
}

/* Advances the state of one head by one step. */
static __device__ __forceinline__ float ema_advance(float q, float q_lo, float gain, float h,
                                                    float x) {
  return fma(q, h, fma(q_lo, h, gain * x));
}
static __device__ __forceinline__ double ema_advance(double q, double, double gain, double h,
                                                     double x) {
  return fma(q, h, gain * x);
}

#endif
