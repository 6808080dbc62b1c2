/* The recurrence of a channel in one thread, with x read from memory. States and coefficients are
 * in registers, 5 N numbers for N = 1, 2, 4, 8 or 16 heads. Other numbers of heads up to 16 are
 * rounded up, and the absent heads add -0. */
#ifndef CUMEGA_SRC_CUDA_EMA_CHAIN_CUH
#define CUMEGA_SRC_CUDA_EMA_CHAIN_CUH

#include "ema_item.cuh"

#define EMA_AHEAD 4 /* steps between the load of x and its use */

template <typename REAL, int HEADS> struct register_chain {
  REAL h[HEADS], q[HEADS], q_lo[HEADS], gain[HEADS], projection[HEADS];
  int heads;
};

/* Whether the HEADS states of a channel are whole aligned vectors. */
template <typename REAL, int HEADS>
static __device__ __forceinline__ bool is_vector(const ema_launch &p, const ema_state &state,
                                                 const REAL *h) {
  return HEADS * sizeof(REAL) % VECTOR_BYTES == 0 && p.run.heads == HEADS && state.stride_n == 1 &&
         (uintptr_t)h % VECTOR_BYTES == 0;
}

template <typename REAL, int HEADS>
static __device__ __forceinline__ void load_states(const ema_launch &p, const ema_state &state,
                                                   int64_t row, int64_t d, REAL (&h)[HEADS]) {
  const int WIDTH = VECTOR_BYTES / sizeof(REAL);
#pragma unroll
  for (int n = 0; n < HEADS; n++) h[n] = 0;
  if (row < 0) return;
  const REAL *from = ema_states<REAL>(state, row, d);
  if (is_vector<REAL, HEADS>(p, state, from)) {
#pragma unroll
    for (int n = 0; n + WIDTH <= HEADS; n += WIDTH) load_vector<WIDTH>(from + n, h + n);
    return;
  }
#pragma unroll
  for (int n = 0; n < HEADS; n++)
    if (n < p.run.heads) h[n] = from[n * state.stride_n];
}

template <typename REAL, int HEADS>
static __device__ __forceinline__ void save_states(const ema_launch &p, const ema_state &state,
                                                   int64_t row, int64_t d,
                                                   const REAL (&h)[HEADS]) {
  const int WIDTH = VECTOR_BYTES / sizeof(REAL);
  if (row < 0) return;
  REAL *to = ema_states<REAL>(state, row, d);
  if (is_vector<REAL, HEADS>(p, state, to)) {
#pragma unroll
    for (int n = 0; n + WIDTH <= HEADS; n += WIDTH) store_vector<WIDTH>(to + n, h + n);
    return;
  }
#pragma unroll
  for (int n = 0; n < HEADS; n++)
    if (n < p.run.heads) to[n * state.stride_n] = h[n];
}

template <typename REAL, int HEADS>
static __device__ __forceinline__ void chain_begin(register_chain<REAL, HEADS> &c,
                                                   const ema_launch &p, const ema_sequence &s,
                                                   int64_t d) {
  const auto &k = table_of<REAL>(p.run);
  c.heads = (int)p.run.heads;
#pragma unroll
  for (int n = 0; n < HEADS; n++) {
    const bool present = n < c.heads;
    const int64_t at = n * p.run.padded + d;
    c.q[n] = present ? k.q[at] : 0;
    c.q_lo[n] = present ? ema_q_lo(k, at) : 0;
    c.gain[n] = present ? k.gain[at] : 0;
    c.projection[n] = present ? k.projection[at] : 0;
  }
  load_states(p, p.run.initial, s.initial, d, c.h);
}

/* Advances all heads by one step and returns e. */
template <typename REAL, int HEADS>
static __device__ __forceinline__ REAL chain_step(register_chain<REAL, HEADS> &c, REAL x) {
  REAL term[HEADS];
#pragma unroll
  for (int n = 0; n < HEADS; n++) {
    c.h[n] = ema_advance(c.q[n], c.q_lo[n], c.gain[n], c.h[n], x);
    term[n] = c.projection[n] * c.h[n];
    if (n > HEADS / 2 && n >= c.heads) term[n] = -(REAL)0; /* absent */
  }
  tree_registers<HEADS>(term);
  return term[0];
}

template <typename REAL, int HEADS>
static __device__ __forceinline__ void
chain_end(register_chain<REAL, HEADS> &c, const ema_launch &p, const ema_sequence &s, int64_t d) {
  save_states(p, p.run.final, s.final, d, c.h);
}

/* Runs steps 0 .. steps - 1 of any recurrence that has chain_step. */
template <typename REAL, int TYPE, typename CHAIN>
static __device__ __forceinline__ void run_chain(CHAIN &c, const ema_launch &p,
                                                 const ema_sequence &s, int64_t d, int64_t steps) {
  const REAL residual = table_of<REAL>(p.run).residual[d];
  const ema_run &run = p.run;
  const int64_t from = ema_offset(run.x, s, d), to = ema_offset(run.y, s, d);
  REAL ahead[EMA_AHEAD];
#pragma unroll
  for (int i = 0; i < EMA_AHEAD; i++)
    ahead[i] = i < steps ? (REAL)load_element<TYPE>(run.x.data, from + i * run.x.stride_t) : 0;
#pragma unroll 1
  for (int64_t t = 0; t < steps; t++) {
    const REAL x = ahead[0];
#pragma unroll
    for (int i = 0; i < EMA_AHEAD - 1; i++) ahead[i] = ahead[i + 1];
    const int64_t later = t + EMA_AHEAD;
    if (later < steps)
      ahead[EMA_AHEAD - 1] = load_element<TYPE>(run.x.data, from + later * run.x.stride_t);
    const REAL e = chain_step(c, ema_masked(p, s, t) ? (REAL)0 : x);
    if (p.silent) continue;
    ema_finish<TYPE>(p, to + t * run.y.stride_t, run.raw ? e : fma(residual, x, e));
  }
}

#endif
