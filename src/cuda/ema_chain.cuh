/* A channel's walk through steps: what the kernels have in common whose threads are channels and read
 * x as it lies. */
#ifndef CUMEGA_SRC_CUDA_EMA_CHAIN_CUH
#define CUMEGA_SRC_CUDA_EMA_CHAIN_CUH

#include "ema_registers.cuh"

#define EMA_AHEAD 4 /* steps that x is read early */

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
