/* A channel in four lanes, for ema_lanes.cu and ema_tiles.cu: 1, 2, 4, 8 or 16 heads, float32
 * states, 8 channels per warp.
 *
 * Lane l holds heads l, l + 4, l + 8, ...; with 1 or 2 heads all four lanes hold them all and
 * compute the same. Four steps are computed together. A lane advances its heads through them and
 * gets four terms, one per step, each the pairwise sum over its own heads. Two exchanges finish
 * the sums, with 3 shuffles for 32 of them (exchange_halves). Then lane l has e of step l, and it
 * alone does the residual, activation and store of that step. */
#ifndef CUMEGA_SRC_CUDA_EMA_LANES_CUH
#define CUMEGA_SRC_CUDA_EMA_LANES_CUH

#include "ema_item.cuh"

#define LANES 4 /* per channel */
#define STEPS 4 /* summed together: one per lane */

static_assert(LANES == STEPS, "each lane finishes a step");

template <int HEADS> struct lane_chain {
  static const int OWN = HEADS < LANES ? HEADS : HEADS / LANES; /* heads per lane */
  float h[OWN], q[OWN], q_lo[OWN], gain[OWN], projection[OWN];
};

/* The i-th head of lane l. */
template <int HEADS> static __device__ __forceinline__ int head_of(int i, int l) {
  return HEADS < LANES ? i : l + LANES * i;
}

template <int HEADS>
static __device__ __forceinline__ void lane_begin(lane_chain<HEADS> &c, const ema_launch &p,
                                                  const ema_sequence &s, int64_t d, int l) {
  const ema_state &state = p.run.initial;
#pragma unroll
  for (int i = 0; i < lane_chain<HEADS>::OWN; i++) {
    const int n = head_of<HEADS>(i, l);
    const int64_t at = n * p.run.padded + d; /* in the padding if d >= D */
    c.q[i] = p.run.f32.q[at];
    c.q_lo[i] = p.run.f32.q_lo[at];
    c.gain[i] = p.run.f32.gain[at];
    c.projection[i] = p.run.f32.projection[at];
    c.h[i] = 0;
    if (s.initial >= 0 && d < p.run.channels)
      c.h[i] = ema_states<float>(state, s.initial, d)[n * state.stride_n];
  }
}

/* With fewer than four heads several lanes hold each head. The lowest of them saves it. */
template <int HEADS>
static __device__ __forceinline__ void lane_end(const lane_chain<HEADS> &c, const ema_launch &p,
                                                const ema_sequence &s, int64_t d, int l) {
  const ema_state &state = p.run.final;
  if (s.final < 0 || d >= p.run.channels || (HEADS < LANES && l > 0)) return;
#pragma unroll
  for (int i = 0; i < lane_chain<HEADS>::OWN; i++)
    ema_states<float>(state, s.final, d)[head_of<HEADS>(i, l) * state.stride_n] = c.h[i];
}

/* Advances this lane's heads by one step and returns the pairwise sum of their terms. */
template <int HEADS>
static __device__ __forceinline__ float lane_step(lane_chain<HEADS> &c, float x) {
  const int OWN = lane_chain<HEADS>::OWN;
  float term[OWN];
#pragma unroll
  for (int i = 0; i < OWN; i++) {
    c.h[i] = ema_advance(c.q[i], c.q_lo[i], c.gain[i], c.h[i], x);
    term[i] = c.projection[i] * c.h[i];
  }
  tree_registers<OWN>(term);
  return term[0];
}

/* x of four steps that are PITCH apart. Adjacent steps are loaded as one vector. */
template <int PITCH, typename STORED>
static __device__ __forceinline__ void load_steps(const STORED *x, STORED (&v)[STEPS]) {
  if constexpr (PITCH == 1) {
    load_vector<STEPS>(x, v);
  } else {
#pragma unroll
    for (int i = 0; i < STEPS; i++) v[i] = x[i * PITCH];
  }
}

/* Four steps of a lane's channel. x points to the first step, y to the result of the lane's own
 * step. If not PLAIN, `left` may be less than four, and the steps after it do not change the
 * states; bit i of masked says whether step i is masked. A lane without a channel may read any x.
 * If PITCH is 1, y may be x + l, because every lane reads before any lane writes. */
template <int HEADS, int TYPE, int KIND, int PITCH, bool PLAIN>
static __device__ __forceinline__ void
four_steps(lane_chain<HEADS> &c, const ema_launch &p, int left, uint32_t masked, int l,
           const stored_of<TYPE> *x, float residual, stored_of<TYPE> *y, bool has_channel) {
  stored_of<TYPE> seen[STEPS];
  float term[STEPS];
  load_steps<PITCH>(x, seen);
#pragma unroll
  for (int i = 0; i < STEPS; i++) {
    const bool dropped = !PLAIN && (masked >> i & 1);
    term[i] = 0;
    if (PLAIN || i < left) term[i] = lane_step(c, dropped ? 0.0f : widen<TYPE>(seen[i]));
  }
  float e;
  if constexpr (HEADS < LANES) { /* every lane has all sums */
    const float even = l & 2 ? term[2] : term[0], odd = l & 2 ? term[3] : term[1];
    e = l & 1 ? odd : even;
  } else {
    exchange_halves<STEPS, LANES / 2>(term);
    e = term[0];
  }
  if (PITCH == 1) __syncwarp();
  if ((!PLAIN && l >= left) || !has_channel || p.silent) return;
  const activation_f32 &a = p.run.finish_f32;
  const float v = fma(residual, widen<TYPE>(x[l * PITCH]), e);
  *y = narrow<TYPE>(activation_apply_f32(KIND < 0 ? a.kind : KIND, a.a, a.b, v));
}

/* All steps of one stage. A lane's results are y_step apart. */
template <int HEADS, int TYPE, int KIND, int PITCH>
static __device__ __forceinline__ void
stage_steps(lane_chain<HEADS> &c, const ema_launch &p, int steps, uint32_t masked, int l,
            const stored_of<TYPE> *x, float residual, stored_of<TYPE> *y, int64_t y_step,
            bool has_channel) {
  const int whole = masked == 0 ? steps - steps % STEPS : 0;
  int i = 0;
  for (; i < whole; i += STEPS, y += y_step)
    four_steps<HEADS, TYPE, KIND, PITCH, true>(c, p, STEPS, 0, l, x + i * PITCH, residual, y,
                                               has_channel);
#pragma unroll 1
  for (; i < steps; i += STEPS, y += y_step)
    four_steps<HEADS, TYPE, KIND, PITCH, false>(c, p, steps - i, masked >> i, l, x + i * PITCH,
                                                residual, y, has_channel);
}

/* Whether a run fits both kernels, apart from its layout. */
static inline bool is_for_lanes(const ema_launch *launch) {
  const ema_run *run = &launch->run;
  const int64_t N = launch->run.heads;
  return !launch->run.is_double && !run->raw && !run->truncated &&
         run->batch.rows >= EMA_PIPELINE_STEPS &&
         (N == 1 || N == 2 || N == 4 || N == 8 || N == 16);
}

#endif
