/* The EMA where it is worth most: channels contiguous, 1, 2, 4, 8 or 16 heads, float32 states,
 * whole sequences. The same bits as ema_recurrent.cu, which does everything else, and four times
 * the threads: with a thread per channel a batch of 4,096 channels gives each scheduler of a large
 * GPU two warps, which wait for their own fmas most of the time.
 *
 * Four lanes share a channel and reduce four steps together (ema_lanes.cuh). A mask is read a stage
 * ahead, as one word per warp: only stages with a masked step pay for it.
 *
 * x comes through shared memory: blocks of 32 channels (128-byte lines, half of one in 16-bit types)
 * copy stages of 2 KB asynchronously, one 16-byte piece per thread, and STAGES - 1 of them are
 * under way while one is computed: 14 KB per block, of which 8 fit on a multiprocessor (64 registers,
 * 16 KB of shared memory), 6 with 16 heads (80 registers).
 *
 * Per 32 elements in float32, 4 heads, ReLU: 16 arithmetic instructions for the chains and terms, 6
 * selects, 3 shuffles and 3 additions for the tree, 5 shared loads, 3 for residual, activation and
 * store, the rest counting and addresses. Predicted, not measured: with about 45 issue slots where
 * the copy's time allows 55, ReLU and identity run at the copy's speed; swish, with an IEEE
 * division, at three quarters of it; 16 heads in float32 at half. 8 bytes per element, one read and
 * one write.
 *
 * The machine code's loop takes two fours of steps at once; 60 of its instructions make 32 elements
 * in bfloat16, where the copy's time allows 27:
 *
 *   sass ema_lanes_kernel<4,1,1>: 91 instructions, 18 fmas
 *   sass ema_lanes_kernel<4,4,1>: 120 instructions, 18 fmas
 *
 * Rejected: one step at a time with a full tree of shuffles (8 per 32 sums instead of 3); a warp's
 * own copies without barriers (in 16-bit types a warp's 8 channels are half a sector); blocks of 64
 * channels, 64 of them for 4,096 channels and 132 multiprocessors. */
#include <cuda_pipeline.h>
#include "ema_choice.cuh"
#include "ema_lanes.cuh"

#define THREADS     128
#define CHANNELS    32 /* of a block */
#define STAGES      8
#define STAGE_BYTES (THREADS * EMA_PIECE)

static_assert(THREADS == CHANNELS * LANES, "each lane has its channel");

/* ---- a sequence and 32 of its channels ---- */

/* Begins the copy of stage k to its place; beyond the last stage it copies nothing, so that every
 * stage is one commit. */
template <int TYPE>
static __device__ __forceinline__ void copy_stage(const ema_launch &p, const ema_sequence &s,
                                                  int64_t d0, int64_t k, unsigned char *stages) {
  typedef typename element<TYPE>::stored stored;
  const int PIECES = CHANNELS * sizeof(stored) / EMA_PIECE; /* of a step */
  const int64_t t = k * (THREADS / PIECES) + threadIdx.x / PIECES;
  const int64_t d = d0 + threadIdx.x % PIECES * (EMA_PIECE / sizeof(stored));
  if (t < s.length && d < p.channels)
    __pipeline_memcpy_async(
        stages + k % STAGES * STAGE_BYTES + threadIdx.x * EMA_PIECE,
        (const stored *)p.run.x.data + ema_offset(p.run.x, s, d) + t * p.run.x.stride_t, EMA_PIECE);
  __pipeline_commit();
}

template <int HEADS, int TYPE, int KIND>
static __device__ __forceinline__ void run_group(const ema_launch &p, const ema_sequence &s,
                                                 int64_t d0, unsigned char *stages) {
  typedef typename element<TYPE>::stored stored;
  const int STAGE_STEPS = STAGE_BYTES / (CHANNELS * sizeof(stored));
  const int l = threadIdx.x % LANES, channel = threadIdx.x / LANES;
  const int64_t d = d0 + channel;
  const bool has_channel = d < p.channels;
  stored *y = (stored *)p.run.y.data + ema_offset(p.run.y, s, has_channel ? d : d0);
  const float residual = p.f32.residual[d];
  lane_chain<HEADS> c;
  lane_begin(c, p, s, d, l);
  uint8_t mask = ema_mask_of_lane(p, s, 0, STAGE_STEPS);
  for (int k = 0; k < STAGES - 1; k++) copy_stage<TYPE>(p, s, d0, k, stages);
  for (int64_t k = 0; k * STAGE_STEPS < s.length; k++) {
    __pipeline_wait_prior(STAGES - 2); /* this thread's piece of stage k has landed */
    __syncthreads();                   /* everybody's has; and stage k - 1 has been read */
    copy_stage<TYPE>(p, s, d0, k + STAGES - 1, stages);
    const stored *x = (const stored *)(stages + k % STAGES * STAGE_BYTES) + channel;
    const int64_t t = k * STAGE_STEPS, left = s.length - t;
    const uint32_t masked = ema_mask_word(mask);
    mask = ema_mask_of_lane(p, s, t + STAGE_STEPS, STAGE_STEPS);
    stage_steps<HEADS, TYPE, KIND, CHANNELS>(c, p, left < STAGE_STEPS ? (int)left : STAGE_STEPS,
                                             masked, l, x, residual, y + (t + l) * p.run.y.stride_t,
                                             STEPS * p.run.y.stride_t, has_channel);
  }
  lane_end(c, p, s, d, l);
  for (int64_t t = s.length + l; t < s.rows && has_channel; t += LANES)
    narrow(y + t * p.run.y.stride_t, 0.0f, TYPE);
  __pipeline_wait_prior(0);
  __syncthreads(); /* the next group may have the stages */
}

template <int HEADS, int TYPE, int KIND>
static __global__ void __launch_bounds__(THREADS, HEADS < 16 ? 8 : 6)
    ema_lanes_kernel(const ema_launch p) {
  CUMEGA_SHARED(unsigned char, stages);
  const int64_t groups = (p.channels + CHANNELS - 1) / CHANNELS;
  for (int64_t unit = blockIdx.x; unit < ema_sequence_count(&p) * groups; unit += gridDim.x) {
    const int64_t group = unit % groups;
    ema_sequence s;
    if (!ema_begin(p, unit / groups, group == 0 && threadIdx.x == 0, &s)) continue;
    run_group<HEADS, TYPE, KIND>(p, s, group * CHANNELS, stages);
  }
}

/* ---- whether, and which ---- */

bool ema_lanes_can(const ema_launch *launch) {
  return is_for_lanes(launch) && ema_has_pieces(launch);
}

#define LAUNCH(HEADS, TYPE, KIND)                                                                  \
  do {                                                                                             \
    *kernel = "ema_lanes_kernel<" #HEADS "," #TYPE "," #KIND ">";                                  \
    return CUMEGA_LAUNCH((ema_lanes_kernel<HEADS, TYPE, KIND>), grid, dim3(THREADS),               \
                         STAGES * STAGE_BYTES, stream, *launch);                                   \
  } while (0)

cudaError_t ema_lanes_launch(const ema_launch *launch, cudaStream_t stream, const char **kernel) {
  const dim3 grid = grid_of_units(launch, CHANNELS, 1);
  switch (launch->heads) {
  case 1: LAUNCH_BY_TYPE_AND_KIND(1);
  case 2: LAUNCH_BY_TYPE_AND_KIND(2);
  case 4: LAUNCH_BY_TYPE_AND_KIND(4);
  case 8: LAUNCH_BY_TYPE_AND_KIND(8);
  default: LAUNCH_BY_TYPE_AND_KIND(16);
  }
}
