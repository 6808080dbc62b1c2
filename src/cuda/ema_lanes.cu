/* The EMA where it is worth most: channels contiguous, 1, 2, 4, 8 or 16 heads, float32 states,
 * whole sequences. The same bits as ema_recurrent.cu, which does everything else, and four times
 * the threads: with a thread per channel a batch of 4,096 channels gives each scheduler of a large
 * GPU two warps, which wait for their own fmas most of the time.
 *
 * Four lanes share a channel, and a warp has 8 channels. Lane l holds heads l, l + 4, l + 8, ...;
 * with 1 or 2 heads all four lanes hold them all and compute the same. Four steps go together: a
 * lane advances its heads through them, which leaves four terms (one per step, its own heads summed
 * in the halving tree's order). Two exchanges finish the tree: lanes l and l ^ 2 send each other
 * the two steps they do not keep, then lanes l and l ^ 1 the one; 3 shuffles for 32 sums. Now lane
 * l has e of step l, and does that step's residual, activation and store alone.
 *
 * x comes through shared memory: blocks of 64 channels (whole 128-byte lines in 16-bit types too)
 * copy stages of 4 KB asynchronously, one 16-byte piece per thread, and STAGES - 1 of them are
 * under way while one is computed: 12 KB per block. No thread waits for memory as long as 5 blocks
 * fit on a multiprocessor (limits: 51 registers, 45 KB of shared memory).
 *
 * Per 32 elements in float32, 4 heads, ReLU: 16 arithmetic instructions for the chains and terms, 6
 * selects, 3 shuffles and 3 additions for the tree, 5 shared loads, 3 for residual, activation and
 * store, the rest counting and addresses. Predicted, not measured: with about 45 issue slots where
 * the copy's time allows 55, ReLU and identity run at the copy's speed; swish, with an IEEE
 * division, at three quarters of it; 16 heads in float32 at half. 8 bytes per element, one read and
 * one write.
 *
 * Rejected: one step at a time with a full tree of shuffles (8 per 32 sums instead of 3); a warp's
 * own copies without barriers (in 16-bit types a warp's 8 channels are half a sector). */
#include <cuda_pipeline.h>
#include "ema_item.cuh"

#define THREADS     256
#define CHANNELS    64 /* of a block */
#define LANES       4  /* of a channel */
#define STEPS       4  /* that are reduced together: one per lane */
#define STAGES      4
#define PIECE       16 /* bytes of one asynchronous copy */
#define STAGE_BYTES (THREADS * PIECE)
#define WARP        0xffffffffu

static_assert(THREADS == CHANNELS * LANES, "each lane has its channel");
static_assert(LANES == STEPS, "each lane finishes a step");

/* ---- types of x and y ---- */

template <int TYPE> struct element { typedef uint16_t stored; };
template <> struct element<TYPE_FLOAT32> { typedef float stored; };

static __device__ __forceinline__ float widen(float v, int) {
  return v;
}
static __device__ __forceinline__ float widen(uint16_t v, int type) {
  return type == TYPE_FLOAT16 ? float16_to_float(v) : bfloat16_to_float(v);
}
static __device__ __forceinline__ void narrow(float *to, float v, int) {
  *to = v;
}
static __device__ __forceinline__ void narrow(uint16_t *to, float v, int type) {
  *to = type == TYPE_FLOAT16 ? float_to_float16(v) : float_to_bfloat16(v);
}

/* ---- a lane's part of its channel ---- */

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
  keep0 += __shfl_xor_sync(WARP, send0, 2);
  keep1 += __shfl_xor_sync(WARP, send1, 2);
  const float keep = odd ? keep1 : keep0, send = odd ? keep0 : keep1;
  return keep + __shfl_xor_sync(WARP, send, 1);
}

/* ---- a sequence and 64 of its channels ---- */

/* Begins the copy of stage k to its place; beyond the last stage it copies nothing, so that every
 * stage is one commit. */
template <int TYPE>
static __device__ __forceinline__ void copy_stage(const ema_launch &p, const ema_sequence &s,
                                                  int64_t d0, int64_t k, unsigned char *stages) {
  typedef typename element<TYPE>::stored stored;
  const int PIECES = CHANNELS * sizeof(stored) / PIECE; /* of a step */
  const int64_t t = k * (THREADS / PIECES) + threadIdx.x / PIECES;
  const int64_t d = d0 + threadIdx.x % PIECES * (PIECE / sizeof(stored));
  if (t < s.length && d < p.channels)
    __pipeline_memcpy_async(
        stages + k % STAGES * STAGE_BYTES + threadIdx.x * PIECE,
        (const stored *)p.run.x.data + ema_offset(p.run.x, s, d) + t * p.run.x.stride_t, PIECE);
  __pipeline_commit();
}

/* Four steps of a lane's channel, of which x holds the first and y wants the lane's own; the last
 * four of a sequence may be fewer, and leave the states alone behind its end. */
template <int HEADS, int TYPE, int KIND, bool WHOLE>
static __device__ __forceinline__ void
four_steps(lane_chain<HEADS> &c, const ema_launch &p, int left, int l,
           const typename element<TYPE>::stored *x, float residual,
           typename element<TYPE>::stored *y, bool has_channel) {
  float term[STEPS];
#pragma unroll
  for (int i = 0; i < STEPS; i++) {
    term[i] = 0;
    if (WHOLE || i < left)
      term[i] = lane_step(c, has_channel ? widen(x[i * CHANNELS], TYPE) : 0.0f);
  }
  const float e = reduce_steps<HEADS>(term, l);
  if ((!WHOLE && l >= left) || !has_channel || p.silent) return;
  const activation_f32 &a = p.finish_f32;
  const float v = fmaf(residual, widen(x[l * CHANNELS], TYPE), e);
  narrow(y, activation_apply_f32(KIND < 0 ? a.kind : KIND, a.a, a.b, v), TYPE);
}

/* The steps of one stage. */
template <int HEADS, int TYPE, int KIND>
static __device__ __forceinline__ void
one_stage(lane_chain<HEADS> &c, const ema_launch &p, int64_t left, int l,
          const typename element<TYPE>::stored *x, float residual,
          typename element<TYPE>::stored *y, bool has_channel) {
  const int STAGE_STEPS = STAGE_BYTES / (CHANNELS * sizeof *x);
  const int steps = left < STAGE_STEPS ? (int)left : STAGE_STEPS, whole = steps - steps % STEPS;
  for (int i = 0; i < whole; i += STEPS, y += STEPS * p.run.y.stride_t)
    four_steps<HEADS, TYPE, KIND, true>(c, p, STEPS, l, x + i * CHANNELS, residual, y, has_channel);
  if (whole < steps)
    four_steps<HEADS, TYPE, KIND, false>(c, p, steps - whole, l, x + whole * CHANNELS, residual, y,
                                         has_channel);
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
  for (int k = 0; k < STAGES - 1; k++) copy_stage<TYPE>(p, s, d0, k, stages);
  for (int64_t k = 0; k * STAGE_STEPS < s.length; k++) {
    __pipeline_wait_prior(STAGES - 2); /* this thread's piece of stage k has landed */
    __syncthreads();                   /* everybody's has; and stage k - 1 has been read */
    copy_stage<TYPE>(p, s, d0, k + STAGES - 1, stages);
    const stored *x = (const stored *)(stages + k % STAGES * STAGE_BYTES) + channel;
    const int64_t t = k * STAGE_STEPS;
    one_stage<HEADS, TYPE, KIND>(c, p, s.length - t, l, x, residual, y + (t + l) * p.run.y.stride_t,
                                 has_channel);
  }
  lane_end(c, p, s, d, l);
  for (int64_t t = s.length + l; t < s.rows && has_channel; t += LANES)
    narrow(y + t * p.run.y.stride_t, 0.0f, TYPE);
  __pipeline_wait_prior(0);
  __syncthreads(); /* the next group may have the stages */
}

template <int HEADS, int TYPE, int KIND>
static __global__ void __launch_bounds__(THREADS, HEADS < 16 ? 4 : 3)
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

#define MOST_BLOCKS ((int64_t)1 << 20)

/* Every step of every sequence begins at a multiple of 16 bytes, and is whole pieces. */
static bool has_whole_pieces(const ema_launch *launch, int64_t bytes) {
  const ema_sequences *x = &launch->run.x;
  return (uintptr_t)x->data % PIECE == 0 && x->stride_t * bytes % PIECE == 0 &&
         x->stride_b * bytes % PIECE == 0 && launch->channels * bytes % PIECE == 0;
}

bool ema_lanes_can(const ema_launch *launch) {
  const ema_run *run = &launch->run;
  const int64_t N = launch->heads;
  if (launch->is_double || run->raw || run->truncated || run->mask != NULL) return false;
  if (run->L < EMA_LANES_STEPS || run->x.stride_d != 1 || run->y.stride_d != 1) return false;
  if (N != 1 && N != 2 && N != 4 && N != 8 && N != 16) return false;
  return has_whole_pieces(launch, run->type == TYPE_FLOAT32 ? 4 : 2);
}

#define LAUNCH(HEADS, TYPE, KIND)                                                                  \
  do {                                                                                             \
    *kernel = "ema_lanes_kernel<" #HEADS "," #TYPE "," #KIND ">";                                  \
    return CUMEGA_LAUNCH((ema_lanes_kernel<HEADS, TYPE, KIND>), grid, dim3(THREADS),               \
                         STAGES * STAGE_BYTES, stream, *launch);                                   \
  } while (0)

/* The activations that take part in the choice of a kernel; the others share one with a switch. */
#define LAUNCH_BY_KIND(HEADS, TYPE)                                                                \
  switch (launch->finish_f32.kind) {                                                               \
  case CUMEGA_ACTIVATION_IDENTITY: LAUNCH(HEADS, TYPE, 0);                                         \
  case CUMEGA_ACTIVATION_RELU: LAUNCH(HEADS, TYPE, 1);                                             \
  case CUMEGA_ACTIVATION_SWISH: LAUNCH(HEADS, TYPE, 2);                                            \
  default: LAUNCH(HEADS, TYPE, -1);                                                                \
  }
static_assert(CUMEGA_ACTIVATION_IDENTITY == 0 && CUMEGA_ACTIVATION_RELU == 1 &&
                  CUMEGA_ACTIVATION_SWISH == 2,
              "the kernels' names say the activation's number");

#define LAUNCH_BY_TYPE(HEADS)                                                                      \
  switch (launch->run.type) {                                                                      \
  case TYPE_FLOAT16: LAUNCH_BY_KIND(HEADS, TYPE_FLOAT16);                                          \
  case TYPE_BFLOAT16: LAUNCH_BY_KIND(HEADS, TYPE_BFLOAT16);                                        \
  default: LAUNCH_BY_KIND(HEADS, TYPE_FLOAT32);                                                    \
  }

cudaError_t ema_lanes_launch(const ema_launch *launch, cudaStream_t stream, const char **kernel) {
  const int64_t units = (launch->channels + CHANNELS - 1) / CHANNELS;
  const int64_t most = MOST_BLOCKS / units, sequences = ema_sequence_count(launch);
  const dim3 grid((unsigned)(sequences < most ? sequences * units : MOST_BLOCKS));
  switch (launch->heads) {
  case 1: LAUNCH_BY_TYPE(1);
  case 2: LAUNCH_BY_TYPE(2);
  case 4: LAUNCH_BY_TYPE(4);
  case 8: LAUNCH_BY_TYPE(8);
  default: LAUNCH_BY_TYPE(16);
  }
}
