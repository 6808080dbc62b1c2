/* A channel in one thread: states and coefficients in registers, 5 N numbers, for N = 1, 2, 4, 8 and
 * 16 heads, or any number below, whose absent heads add -0, the identity of addition. */
#ifndef CUMEGA_SRC_CUDA_EMA_REGISTERS_CUH
#define CUMEGA_SRC_CUDA_EMA_REGISTERS_CUH

#include "ema_item.cuh"

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

#endif
