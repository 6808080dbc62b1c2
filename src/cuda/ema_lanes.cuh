/* A channel over four lanes, as ema_lanes.cu and ema_tiles.cu have it: 1, 2, 4, 8 or 16 heads, float32
 * states, and a warp of 8 channels.
 *
 * Lane l holds heads l, l + 4, l + 8, ...; with 1 or 2 heads all four lanes hold them all and
 * compute the same. Four steps go together: a lane advances its heads through them, which leaves
 * four terms (one per step, its own heads summed in the halving tree's order). Two exchanges finish
 * the tree: lanes l and l ^ 2 send each other the two steps they do not keep, then lanes l and l ^ 1
 * the one; 3 shuffles for 32 sums. Now lane l has e of step l, and does that step's residual,
 * activation and store alone. */
#ifndef CUMEGA_SRC_CUDA_EMA_LANES_CUH
#define CUMEGA_SRC_CUDA_EMA_LANES_CUH

#include "ema_item.cuh"

#define LANES 4 /* of a channel */
#define STEPS 4 /* that are reduced together: one per lane */

static_assert(LANES == STEPS, "each lane finishes a step");

template <int HEADS> struct lane_chain {
  static const int OWN = HEADS < LANES ? HEADS : HEADS / LANES; /* heads of a lane */
  float h[OWN], q[OWN], q_lo[OWN], gain[OWN], projection[OWN];
};

/* Which head is the i-th of lane l. */
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
    const int64_t at = n * p.padded + d; /* within the padding where d is not below D */
    c.q[i] = p.f32.q[at];
    c.q_lo[i] = p.f32.q_lo[at];
    c.gain[i] = p.f32.gain[at];
    c.projection[i] = p.f32.projection[at];
    c.h[i] = 0;
    if (s.initial >= 0 && d < p.channels)
      c.h[i] =
          ((const float *)
               state.data)[s.initial * state.stride_row + d * state.stride_d + n * state.stride_n];
  }
}

/* With fewer than four heads several lanes hold each of them: the lowest saves. */
template <int HEADS>
static __device__ __forceinline__ void lane_end(const lane_chain<HEADS> &c, const ema_launch &p,
                                                const ema_sequence &s, int64_t d, int l) {
  const ema_state &state = p.run.final;
  if (s.final < 0 || d >= p.channels || (HEADS < LANES && l > 0)) return;
#pragma unroll
  for (int i = 0; i < lane_chain<HEADS>::OWN; i++)
    ((float *)state.data)[s.final * state.stride_row + d * state.stride_d +
                          head_of<HEADS>(i, l) * state.stride_n] = c.h[i];
}

/* One step; returns the sum of this lane's terms. */
template <int HEADS>
static __device__ __forceinline__ float lane_step(lane_chain<HEADS> &c, float x) {
  const int OWN = lane_chain<HEADS>::OWN;
  float term[OWN];
#pragma unroll
  for (int i = 0; i < OWN; i++) {
    c.h[i] = ema_advance(c.q[i], c.q_lo[i], c.gain[i], c.h[i], x);
    term[i] = c.projection[i] * c.h[i];
  }
#pragma unroll
  for (int stride = OWN / 2; stride > 0; stride /= 2)
#pragma unroll
    for (int i = 0; i < OWN / 2; i++)
      if (i < stride) term[i] += term[i + stride];
  return term[0];
}

/* From each lane's terms of four steps to e of step l in lane l. */
template <int HEADS>
static __device__ __forceinline__ float reduce_steps(const float (&term)[STEPS], int l) {
  const bool upper = l & 2, odd = l & 1;
  float keep0 = upper ? term[2] : term[0], keep1 = upper ? term[3] : term[1];
  if (HEADS < LANES) return odd ? keep1 : keep0;
  const float send0 = upper ? term[0] : term[2], send1 = upper ? term[1] : term[3];
  keep0 += __shfl_xor_sync(EMA_WARP, send0, 2);
  keep1 += __shfl_xor_sync(EMA_WARP, send1, 2);
  const float keep = odd ? keep1 : keep0, send = odd ? keep0 : keep1;
  return keep + __shfl_xor_sync(EMA_WARP, send, 1);
}

template <int BYTES> struct steps_vector { typedef int4 type; };
template <> struct steps_vector<2> { typedef int2 type; };

/* x of four steps that lie PITCH apart; where they lie together, they are one vector. */
template <int PITCH, typename STORED>
static __device__ __forceinline__ void load_steps(const STORED *x, STORED (&v)[STEPS]) {
  if constexpr (PITCH == 1) {
    typedef typename steps_vector<sizeof(STORED)>::type vector;
    const vector all = *(const vector *)x;
    memcpy(v, &all, sizeof v);
  } else {
#pragma unroll
    for (int i = 0; i < STEPS; i++) v[i] = x[i * PITCH];
  }
}

/* Four steps of a lane's channel, of which x holds the first and y wants the lane's own. Where not
 * PLAIN there may be fewer, which leave the states alone behind their end, and bit i of masked says
 * that step i is. Where there is no channel, x is whatever lies there. Where PITCH is 1, y may be x + l: each lane has read what others write. */
template <int HEADS, int TYPE, int KIND, int PITCH, bool PLAIN>
static __device__ __forceinline__ void
four_steps(lane_chain<HEADS> &c, const ema_launch &p, int left, uint32_t masked, int l,
           const typename element<TYPE>::stored *x, float residual,
           typename element<TYPE>::stored *y, bool has_channel) {
  typename element<TYPE>::stored seen[STEPS];
  float term[STEPS];
  load_steps<PITCH>(x, seen);
#pragma unroll
  for (int i = 0; i < STEPS; i++) {
    const bool dropped = !PLAIN && (masked >> i & 1);
    term[i] = 0;
    if (PLAIN || i < left) term[i] = lane_step(c, dropped ? 0.0f : widen(seen[i], TYPE));
  }
  const float e = reduce_steps<HEADS>(term, l);
  if (PITCH == 1) __syncwarp();
  if ((!PLAIN && l >= left) || !has_channel || p.silent) return;
  const activation_f32 &a = p.finish_f32;
  const float v = fmaf(residual, widen(x[l * PITCH], TYPE), e);
  narrow(y, activation_apply_f32(KIND < 0 ? a.kind : KIND, a.a, a.b, v), TYPE);
}

/* Steps of one stage, y's of a lane y_step apart. */
template <int HEADS, int TYPE, int KIND, int PITCH>
static __device__ __forceinline__ void
stage_steps(lane_chain<HEADS> &c, const ema_launch &p, int steps, uint32_t masked, int l,
            const typename element<TYPE>::stored *x, float residual,
            typename element<TYPE>::stored *y, int64_t y_step, bool has_channel) {
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

/* ---- whether ---- */

/* What both kernels ask of a run, whatever its layout. */
static inline bool is_for_lanes(const ema_launch *launch) {
  const ema_run *run = &launch->run;
  const int64_t N = launch->heads;
  return !launch->is_double && !run->raw && !run->truncated && run->L >= EMA_LANES_STEPS &&
         (N == 1 || N == 2 || N == 4 || N == 8 || N == 16);
}

#endif
