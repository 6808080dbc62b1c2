/* The EMA for very many contiguous channels, all sequences together: 1, 2, 4 or 8 heads, float32
 * states, whole sequences. A thread has a whole channel, so nothing is computed twice or passed
 * between lanes. ema_lanes.cu, with four lanes per channel, does more work per element, but a
 * quarter of the channels is enough to keep a large GPU busy.
 *
 * A warp has 32 adjacent channels and its own pipeline, without block barriers. A stage is 2 KB of
 * x: 16 steps, or 32 in 16-bit types, by four asynchronous 16-byte copies per lane. STAGES - 1
 * stages are in flight while one is computed. That is 4 KB per warp, or from 16K channels on 16 KB
 * on each of 132 multiprocessors. The speed of a copy needs about 8 KB. x is then read from shared
 * memory, 32 adjacent elements per warp.
 *
 * Per element: 8 bytes in float32, one read and one write, in whole lines. 4 N instructions for
 * the states and terms, N - 1 for their sum, then load, residual, activation, store and the
 * address of y. That is 30 for 4 heads and ReLU and 60 for swish, and a copy takes the time of 55.
 * In bfloat16, which is rounded with integers, it is 39 against 27. So (predicted, not measured)
 * float32 runs at the speed of a copy, and 16-bit types with ReLU at three quarters of it. The
 * latency of two dependent fmas, 8 cycles a step, is hidden if a scheduler has two warps. The loop
 * has four steps:
 *
 *   sass ema_channels_kernel<4,1,1>: 120 instructions, 36 fmas
 *   sass ema_channels_kernel<4,1,2>: 242 instructions, 36 fmas
 *   sass ema_channels_kernel<1,1,1>: 57 instructions, 12 fmas
 *   sass ema_channels_kernel<4,4,1>: 156 instructions, 36 fmas
 *
 * 16 heads are left to ema_lanes.cu: they would take 91 instructions against 87 with four lanes,
 * and 81 registers that are live throughout. Rejected: x in registers a few steps ahead, which
 * takes 32 registers and is slower than shared memory. */
#include <cuda_pipeline.h>
#include "ema_chain.cuh"
#include "ema_choice.cuh"

#define WARPS       (EMA_THREADS / 32)
#define CHANNELS    32 /* of a warp */
#define STAGES      3
#define STAGE_BYTES 2048
#define WARP_BYTES  (STAGES * STAGE_BYTES)
#define UNROLLED    4 /* steps at a time, if none is masked */

/* Begins the copy of steps t .. t + STAGE_STEPS - 1 of x, as far as the sequence has them. */
template <typename STORED>
static __device__ __forceinline__ void copy_stage(const ema_launch &p, const STORED *x, int64_t d0,
                                                  int64_t t, int64_t length,
                                                  unsigned char *stage) {
  const int PIECES = CHANNELS * sizeof(STORED) / VECTOR_BYTES; /* per step */
  const int lane = threadIdx.x % 32, channel = lane % PIECES * (VECTOR_BYTES / sizeof(STORED));
#pragma unroll
  for (int i = 0; i < STAGE_BYTES / VECTOR_BYTES / 32; i++) {
    const int step = i * (32 / PIECES) + lane / PIECES;
    if (t + step < length && d0 + channel < p.run.channels)
      __pipeline_memcpy_async(stage + (i * 32 + lane) * VECTOR_BYTES,
                              x + channel + (t + step) * p.run.x.stride_t, VECTOR_BYTES);
  }
  __pipeline_commit();
}

template <int HEADS, int TYPE, int KIND>
static __device__ __forceinline__ void
one_step(register_chain<float, HEADS> &c, const ema_launch &p, bool masked,
         stored_of<TYPE> stored_x, float residual, stored_of<TYPE> *y) {
  const activation_f32 &a = p.run.finish_f32;
  const float x = widen<TYPE>(stored_x);
  const float e = chain_step(c, masked ? 0.0f : x);
  if (p.silent) return;
  *y = narrow<TYPE>(activation_apply_f32(KIND < 0 ? a.kind : KIND, a.a, a.b, fma(residual, x, e)));
}

template <int HEADS, int TYPE, int KIND>
static __device__ __forceinline__ void
stage_steps(register_chain<float, HEADS> &c, const ema_launch &p, int steps, uint32_t masked,
            const stored_of<TYPE> *x, float residual, stored_of<TYPE> *y) {
  const int64_t stride = p.run.y.stride_t;
  const int whole = masked == 0 ? steps - steps % UNROLLED : 0;
  int i = 0;
#pragma unroll 1
  for (; i < whole; i += UNROLLED)
#pragma unroll
    for (int j = 0; j < UNROLLED; j++, y += stride)
      one_step<HEADS, TYPE, KIND>(c, p, false, x[(i + j) * CHANNELS], residual, y);
#pragma unroll 1
  for (; i < steps; i++, y += stride)
    one_step<HEADS, TYPE, KIND>(c, p, masked >> i & 1, x[i * CHANNELS], residual, y);
}

template <int HEADS, int TYPE, int KIND>
static __device__ __forceinline__ void run_warp(const ema_launch &p, const ema_sequence &s,
                                                int64_t d0, unsigned char *stages) {
  typedef stored_of<TYPE> stored;
  const int STAGE_STEPS = STAGE_BYTES / (CHANNELS * sizeof(stored));
  const int lane = threadIdx.x % 32;
  const bool has_channel = d0 + lane < p.run.channels;
  const int64_t d = has_channel ? d0 + lane : d0;
  const stored *x = (const stored *)p.run.x.data + ema_offset(p.run.x, s, d0);
  stored *y = (stored *)p.run.y.data + ema_offset(p.run.y, s, d);
  register_chain<float, HEADS> c;
  chain_begin(c, p, s, d);
  c.heads = HEADS; /* a constant from here on */
  const float residual = p.run.f32.residual[d];
  uint8_t mask = ema_mask_of_lane(p, s, 0, STAGE_STEPS);
  for (int k = 0; k < STAGES - 1; k++)
    copy_stage(p, x, d0, k * STAGE_STEPS, s.length, stages + k * STAGE_BYTES);
  int now = 0, free = STAGES - 1; /* stages */
  for (int64_t t = 0; t < s.length; t += STAGE_STEPS, y += STAGE_STEPS * p.run.y.stride_t) {
    __pipeline_wait_prior(STAGES - 2); /* this lane's part of stage `now` has arrived */
    __syncwarp();                      /* so have all others; and stage `free` has been read */
    copy_stage(p, x, d0, t + (STAGES - 1) * STAGE_STEPS, s.length, stages + free * STAGE_BYTES);
    const int steps = s.length - t < STAGE_STEPS ? (int)(s.length - t) : STAGE_STEPS;
    const uint32_t masked = ema_mask_word(mask);
    mask = ema_mask_of_lane(p, s, t + STAGE_STEPS, STAGE_STEPS);
    if (has_channel)
      stage_steps<HEADS, TYPE, KIND>(
          c, p, steps, masked, (const stored *)(stages + now * STAGE_BYTES) + lane, residual, y);
    free = now;
    now = now + 1 < STAGES ? now + 1 : 0;
  }
  if (has_channel) {
    chain_end(c, p, s, d);
    ema_zero_rest<TYPE>(p, s, d);
  }
  __pipeline_wait_prior(0);
  __syncwarp(); /* before the next channels overwrite the stages */
}

template <int HEADS, int TYPE, int KIND>
static __global__ void __launch_bounds__(EMA_THREADS, HEADS < 8 ? 6 : 4)
    ema_channels_kernel(const ema_launch p) {
  CUMEGA_SHARED(unsigned char, shared);
  const int64_t groups = parts_of(p.run.channels, CHANNELS), warps = (int64_t)gridDim.x * WARPS;
  const int warp = threadIdx.x / 32;
  for (int64_t unit = (int64_t)blockIdx.x * WARPS + warp; unit < ema_sequence_count(&p) * groups;
       unit += warps) {
    const int64_t group = unit % groups;
    ema_sequence s;
    if (!ema_begin(p, unit / groups, group == 0 && threadIdx.x % 32 == 0, &s)) continue;
    run_warp<HEADS, TYPE, KIND>(p, s, group * CHANNELS, shared + warp * WARP_BYTES);
  }
}

/* ---- launching ---- */

bool ema_channels_can(const ema_launch *launch) {
  const ema_run *run = &launch->run;
  const int64_t N = launch->run.heads;
  return !launch->run.is_double && !run->raw && !run->truncated &&
         run->batch.rows >= EMA_PIPELINE_STEPS && (N == 1 || N == 2 || N == 4 || N == 8) &&
         ema_sequence_count(launch) >= parts_of(EMA_CHANNELS_LEAST, launch->run.channels) &&
         ema_has_vectors(launch);
}

#define INSTANCE(HEADS, TYPE, KIND)                                                               \
  do {                                                                                            \
    *kernel = "ema_channels_kernel<" #HEADS "," #TYPE "," #KIND ">";                              \
    return CUMEGA_LAUNCH((ema_channels_kernel<HEADS, TYPE, KIND>), grid, EMA_THREADS,             \
                         WARPS * WARP_BYTES, stream, *launch);                                    \
  } while (0)

cudaError_t ema_channels_launch(const ema_launch *launch, cudaStream_t stream,
                                const char **kernel) {
  const dim3 grid = grid_of_units(launch, CHANNELS, WARPS);
  switch (launch->run.heads) {
  case 1: LAUNCH_FLOAT(LAUNCH_BY_KIND, 1);
  case 2: LAUNCH_FLOAT(LAUNCH_BY_KIND, 2);
  case 4: LAUNCH_FLOAT(LAUNCH_BY_KIND, 4);
  case 8: LAUNCH_FLOAT(LAUNCH_BY_KIND, 8);
  default: return cudaErrorInvalidValue;
  }
}
