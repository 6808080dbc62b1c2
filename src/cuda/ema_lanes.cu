/* The EMA for the most common runs: contiguous channels, 1, 2, 4, 8 or 16 heads, float32 states,
 * whole sequences. It gives the bits of ema_recurrent.cu, with four times the threads. With a
 * thread per channel, a batch of 4,096 channels would give each scheduler of a large GPU two
 * warps, which mostly wait for their own fmas.
 *
 * Four lanes share a channel and reduce four steps together (ema_lanes.cuh). A mask is read one
 * stage ahead, as one word per warp, and slows down only stages with a masked step.
 *
 * x goes through shared memory. Blocks of 32 channels (lines of 128 bytes, or half a line in
 * 16-bit types) copy stages of 2 KB asynchronously, 16 bytes per thread, with STAGES - 1 stages in
 * flight while one is computed. That is 14 KB per block, of which a multiprocessor holds 8 (64
 * registers, 16 KB of shared memory), or 6 with 16 heads (80 registers).
 *
 * Per 32 elements in float32, 4 heads, ReLU: 16 arithmetic instructions for the states and terms,
 * 6 selects, 3 shuffles and 3 additions for the sum, 5 shared loads, 3 for residual, activation
 * and store; the rest are counters and addresses. That is about 45 instructions, and a copy takes
 * the time of 55. So (predicted, not measured) ReLU and identity run at the speed of a copy,
 * swish, with an IEEE division, at three quarters of it, and 16 heads in float32 at half. 8 bytes
 * per element: one read, one write.
 *
 * The loop of the machine code does eight steps at once in float32 and four in bfloat16, where it
 * takes 63 instructions for 32 elements, and a copy takes the time of 27:
 *
 *   sass ema_lanes_kernel<4,1,1>: 92 instructions, 18 fmas
 *   sass ema_lanes_kernel<4,4,1>: 63 instructions, 9 fmas
 *
 * Rejected: one step at a time with a sum by shuffles only (8 per 32 sums instead of 3); a
 * pipeline for each warp without barriers (in 16-bit types a warp's 8 channels are half a sector);
 * blocks of 64 channels, since 4,096 channels would be 64 blocks for 132 multiprocessors. */
#include <cuda_pipeline.h>
#include "ema_choice.cuh"
#include "ema_lanes.cuh"

#define CHANNELS    32 /* of a block */
#define STAGES      8
#define STAGE_BYTES (EMA_THREADS * VECTOR_BYTES)

static_assert(EMA_THREADS == CHANNELS * LANES, "each lane has its channel");

/* ---- a sequence and 32 of its channels ---- */

/* Begins the copy of stage k. After the last stage it copies nothing but still commits, so that
 * every stage is one commit. */
template <int TYPE>
static __device__ __forceinline__ void copy_stage(const ema_launch &p, const ema_sequence &s,
                                                  int64_t d0, int64_t k, unsigned char *stages) {
  typedef stored_of<TYPE> stored;
  const int PIECES = CHANNELS * sizeof(stored) / VECTOR_BYTES; /* per step */
  const int64_t t = k * (EMA_THREADS / PIECES) + threadIdx.x / PIECES;
  const int64_t d = d0 + threadIdx.x % PIECES * (VECTOR_BYTES / sizeof(stored));
  if (t < s.length && d < p.run.channels)
    __pipeline_memcpy_async(stages + k % STAGES * STAGE_BYTES + threadIdx.x * VECTOR_BYTES,
                            (const stored *)p.run.x.data + ema_offset(p.run.x, s, d) +
                                t * p.run.x.stride_t,
                            VECTOR_BYTES);
  __pipeline_commit();
}

template <int HEADS, int TYPE, int KIND>
static __device__ __forceinline__ void run_group(const ema_launch &p, const ema_sequence &s,
                                                 int64_t d0, unsigned char *stages) {
  typedef stored_of<TYPE> stored;
  const int STAGE_STEPS = STAGE_BYTES / (CHANNELS * sizeof(stored));
  const int l = threadIdx.x % LANES, channel = threadIdx.x / LANES;
  const int64_t d = d0 + channel;
  const bool has_channel = d < p.run.channels;
  stored *y = (stored *)p.run.y.data + ema_offset(p.run.y, s, has_channel ? d : d0);
  const float residual = p.run.f32.residual[d];
  lane_chain<HEADS> c;
  lane_begin(c, p, s, d, l);
  uint8_t mask = ema_mask_of_lane(p, s, 0, STAGE_STEPS);
  for (int k = 0; k < STAGES - 1; k++) copy_stage<TYPE>(p, s, d0, k, stages);
  for (int64_t k = 0; k * STAGE_STEPS < s.length; k++) {
    __pipeline_wait_prior(STAGES - 2); /* this thread's part of stage k has arrived */
    __syncthreads();                   /* so have all others; and stage k - 1 has been read */
    copy_stage<TYPE>(p, s, d0, k + STAGES - 1, stages);
    const stored *x = (const stored *)(stages + k % STAGES * STAGE_BYTES) + channel;
    const int64_t t = k * STAGE_STEPS, left = s.length - t;
    const uint32_t masked = ema_mask_word(mask);
    mask = ema_mask_of_lane(p, s, t + STAGE_STEPS, STAGE_STEPS);
    stage_steps<HEADS, TYPE, KIND, CHANNELS>(
        c, p, left < STAGE_STEPS ? (int)left : STAGE_STEPS, masked, l, x, residual,
        y + (t + l) * p.run.y.stride_t, STEPS * p.run.y.stride_t, has_channel);
  }
  lane_end(c, p, s, d, l);
  for (int64_t t = s.length + l; t < s.rows && has_channel; t += LANES)
    y[t * p.run.y.stride_t] = narrow<TYPE>(0);
  __pipeline_wait_prior(0);
  __syncthreads(); /* before the next group overwrites the stages */
}

template <int HEADS, int TYPE, int KIND>
static __global__ void __launch_bounds__(EMA_THREADS, HEADS < 16 ? 8 : 6)
    ema_lanes_kernel(const ema_launch p) {
  CUMEGA_SHARED(unsigned char, stages);
  const int64_t groups = parts_of(p.run.channels, CHANNELS);
  for (int64_t unit = blockIdx.x; unit < ema_sequence_count(&p) * groups; unit += gridDim.x) {
    const int64_t group = unit % groups;
    ema_sequence s;
    if (!ema_begin(p, unit / groups, group == 0 && threadIdx.x == 0, &s)) continue;
    run_group<HEADS, TYPE, KIND>(p, s, group * CHANNELS, stages);
  }
}

/* ---- launching ---- */

bool ema_lanes_can(const ema_launch *launch) {
  return is_for_lanes(launch) && ema_has_vectors(launch);
}

#define INSTANCE(HEADS, TYPE, KIND)                                                               \
  do {                                                                                            \
    *kernel = "ema_lanes_kernel<" #HEADS "," #TYPE "," #KIND ">";                                 \
    return CUMEGA_LAUNCH((ema_lanes_kernel<HEADS, TYPE, KIND>), grid, EMA_THREADS,                \
                         STAGES * STAGE_BYTES, stream, *launch);                                  \
  } while (0)

cudaError_t ema_lanes_launch(const ema_launch *launch, cudaStream_t stream, const char **kernel) {
  const dim3 grid = grid_of_units(launch, CHANNELS, 1);
  switch (launch->run.heads) {
  case 1: LAUNCH_FLOAT(LAUNCH_BY_KIND, 1);
  case 2: LAUNCH_FLOAT(LAUNCH_BY_KIND, 2);
  case 4: LAUNCH_FLOAT(LAUNCH_BY_KIND, 4);
  case 8: LAUNCH_FLOAT(LAUNCH_BY_KIND, 8);
  case 16: LAUNCH_FLOAT(LAUNCH_BY_KIND, 16);
  default: return cudaErrorInvalidValue;
  }
}
