/* A channel's chain in the registers of one thread, and its walk through steps: what the kernels have
 * in common whose threads are channels. */
#ifndef CUMEGA_SRC_CUDA_EMA_CHAIN_CUH
#define CUMEGA_SRC_CUDA_EMA_CHAIN_CUH

#include "ema_item.cuh"

#define EMA_AHEAD 4 /* steps that x is read early */

template <typename REAL, int HEADS> struct register_chain {
  REAL h[HEADS], q[HEADS], q_lo[HEADS], gain[HEADS], projection[HEADS];
  int heads;
};

/* A row's HEADS states as 16-byte vectors, where they lie so. */
template <typename REAL, int HEADS>
static __device__ __forceinline__ bool is_vector(const ema_launch &p, const ema_state &state,
                                                 const REAL *row) {
  return HEADS * sizeof(REAL) % 16 == 0 && p.heads == HEADS && state.stride_n == 1 &&
         (uintptr_t)row % 16 == 0;
}

template <typename REAL, int HEADS>
static __device__ __forceinline__ void load_states(const ema_launch &p, const ema_state &state,
                                                   int64_t place, int64_t d, REAL (&h)[HEADS]) {
#pragma unroll
  for (int n = 0; n < HEADS; n++) h[n] = 0;
  if (place < 0) return;
  const REAL *row = (const REAL *)state.data + place * state.stride_row + d * state.stride_d;
  if (is_vector<REAL, HEADS>(p, state, row)) {
#pragma unroll
    for (int i = 0; i < (int)(HEADS * sizeof(REAL) / 16); i++) {
      const int4 words = ((const int4 *)row)[i];
      memcpy((char *)h + 16 * i, &words, 16);
    }
    return;
  }
#pragma unroll
  for (int n = 0; n < HEADS; n++)
    if (n < p.heads) h[n] = row[n * state.stride_n];
}

template <typename REAL, int HEADS>
static __device__ __forceinline__ void save_states(const ema_launch &p, const ema_state &state,
                                                   int64_t place, int64_t d,
                                                   const REAL (&h)[HEADS]) {
  if (place < 0) return;
  REAL *row = (REAL *)state.data + place * state.stride_row + d * state.stride_d;
  if (is_vector<REAL, HEADS>(p, state, row)) {
#pragma unroll
    for (int i = 0; i < (int)(HEADS * sizeof(REAL) / 16); i++) {
      int4 words;
      memcpy(&words, (const char *)h + 16 * i, 16);
      ((int4 *)row)[i] = words;
    }
    return;
  }
#pragma unroll
  for (int n = 0; n < HEADS; n++)
    if (n < p.heads) row[n * state.stride_n] = h[n];
}

template <typename REAL, int HEADS>
static __device__ __forceinline__ void
chain_begin(register_chain<REAL, HEADS> &c, const ema_launch &p, const ema_sequence &s, int64_t d) {
  const auto &k = ema_coefficients(p, REAL());
  c.heads = (int)p.heads;
#pragma unroll
  for (int n = 0; n < HEADS; n++) {
    const bool present = n < c.heads;
    const int64_t at = n * p.padded + d;
    c.q[n] = present ? k.q[at] : 0;
    c.q_lo[n] = present ? ema_q_lo(k, at) : 0;
    c.gain[n] = present ? k.gain[at] : 0;
    c.projection[n] = present ? k.projection[at] : 0;
  }
  load_states(p, p.run.initial, s.initial, d, c.h);
}

/* All heads of one step; returns e. */
template <typename REAL, int HEADS>
static __device__ __forceinline__ REAL chain_step(register_chain<REAL, HEADS> &c, REAL x) {
  REAL term[HEADS];
#pragma unroll
  for (int n = 0; n < HEADS; n++) {
    c.h[n] = ema_advance(c.q[n], c.q_lo[n], c.gain[n], c.h[n], x);
    term[n] = c.projection[n] * c.h[n];
    if (n > HEADS / 2 && n >= c.heads) term[n] = -(REAL)0; /* absent */
  }
#pragma unroll
  for (int stride = HEADS / 2; stride > 0; stride /= 2)
#pragma unroll
    for (int n = 0; n < HEADS / 2; n++)
      if (n < stride) term[n] += term[n + stride];
  return term[0];
}

template <typename REAL, int HEADS>
static __device__ __forceinline__ void
chain_end(register_chain<REAL, HEADS> &c, const ema_launch &p, const ema_sequence &s, int64_t d) {
  save_states(p, p.run.final, s.final, d, c.h);
}

/* Steps 0 .. steps - 1. */
template <typename REAL, typename CHAIN>
static __device__ __forceinline__ void run_chain(CHAIN &c, const ema_launch &p,
                                                 const ema_sequence &s, int64_t d, int64_t steps) {
  const REAL residual = ema_coefficients(p, REAL()).residual[d];
  const ema_run &run = p.run;
  const int64_t from = ema_offset(run.x, s, d), to = ema_offset(run.y, s, d);
  REAL ahead[EMA_AHEAD];
#pragma unroll
  for (int i = 0; i < EMA_AHEAD; i++)
    ahead[i] = i < steps ? ema_load<REAL>(run.type, run.x.data, from + i * run.x.stride_t) : 0;
#pragma unroll 1
  for (int64_t t = 0; t < steps; t++) {
    const REAL x = ahead[0];
#pragma unroll
    for (int i = 0; i < EMA_AHEAD - 1; i++) ahead[i] = ahead[i + 1];
    const int64_t later = t + EMA_AHEAD;
    if (later < steps)
      ahead[EMA_AHEAD - 1] = ema_load<REAL>(run.type, run.x.data, from + later * run.x.stride_t);
    const REAL e = chain_step(c, ema_masked(p, s, t) ? (REAL)0 : x);
    if (p.silent) continue;
    ema_finish(p, to + t * run.y.stride_t, run.raw ? e : ema_fma(residual, x, e));
  }
}

#endif
