/* The EMA for every run: any strides, types, number of heads, mask, lengths, slots, truncation.
 *
 * A thread goes through the steps of one channel of one sequence. The 32 channels of a warp are
 * adjacent if channels are contiguous, so a step's loads and stores are whole lines. A unit is a
 * sequence and a group of 128 channels; blocks take units until none is left. States and
 * coefficients stay in registers: 5 N + 1 numbers for N = 1, 2, 4, 8 or 16 heads. Other numbers of
 * heads up to 16 are rounded up, and the absent heads add -0.
 *
 * Per element: 8 bytes in float32 (one read, one write), 4 N + N - 1 arithmetic instructions for
 * the states and the sum over heads, one for the residual, and the activation. Each step waits for
 * the fmas of the step before, 8 cycles. x is read EMA_AHEAD steps early, to hide the latency of
 * memory. Predicted for a device with 132 multiprocessors: up to about 16K channels (sequences
 * times D) latency is the limit, above that instructions, because mask and activation are looked
 * up in every step. Launch bounds of two blocks per multiprocessor leave ptxas enough registers to
 * avoid spilling. No shared memory.
 *
 * More than 16 heads: the states are in scratch, (N, threads), and are read and written in every
 * step through the caches. The terms are then added one by one, as described below, with 13
 * partial sums per thread in shared memory. This is rare in practice, and simple rather than fast.
 *
 * Truncated sums: from step K on e is the sum of K products, the oldest first. A thread computes
 * these steps from the last to the first, so that y may be x: step t never reads a later step.
 * Then it runs the recurrence for the first K steps. That takes 2 K cached reads per element,
 * which is meant for short K. */
#include "ema_chain.cuh"
#include "ema_choice.cuh"

/* ---- states in scratch ---- */

#define TREE_LEVELS 13 /* for CUMEGA_EMA_MAX_HEADS terms */
static_assert(CUMEGA_EMA_MAX_HEADS == 1 << (TREE_LEVELS - 1), "one halving tree");

/* Partial sums are indexed, so they cannot be in registers: they are in shared memory. */
#define PARTIAL_BYTES(REAL) (TREE_LEVELS * EMA_THREADS * sizeof(REAL))

template <typename REAL> struct scratch_chain {
  const REAL *q, *q_lo, *gain, *projection; /* the channel's */
  REAL *h;                                  /* the thread's */
  REAL *partial;                            /* the thread's, EMA_THREADS apart */
  int64_t padded, pitch;
  int heads;
};

template <typename REAL>
static __device__ __forceinline__ void chain_begin(scratch_chain<REAL> &c, const ema_launch &p,
                                                   const ema_sequence &s, int64_t d) {
  CUMEGA_SHARED(REAL, partials);
  const auto &k = table_of<REAL>(p.run);
  const ema_state &state = p.run.initial;
  c.partial = partials + threadIdx.x;
  c.q = k.q + d;
  c.q_lo = sizeof(REAL) == sizeof(float) ? (const REAL *)p.run.f32.q_lo + d : c.q;
  c.gain = k.gain + d;
  c.projection = k.projection + d;
  c.h = (REAL *)p.states + (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  c.padded = p.run.padded;
  c.pitch = (int64_t)gridDim.x * blockDim.x;
  c.heads = (int)p.run.heads;
  for (int n = 0; n < c.heads; n++)
    c.h[n * c.pitch] =
        s.initial < 0 ? (REAL)0 : ema_states<REAL>(state, s.initial, d)[n * state.stride_n];
}

template <typename REAL>
static __device__ __forceinline__ REAL scratch_term(const scratch_chain<REAL> &c, int n, REAL x) {
  if (n >= c.heads) return -(REAL)0; /* absent */
  const int64_t at = n * c.padded;
  REAL *h = c.h + n * c.pitch;
  *h = ema_advance(c.q[at], c.q_lo[at], c.gain[at], *h, x);
  return c.projection[at] * *h;
}

/* The sum over heads in halving order (src/math/tree.h), term by term. As a tree of additions its
 * leaves from left to right are the heads in the order of bit-reversed index, because the largest
 * stride is added first. So the heads are visited in that order, and partial[i] holds a finished
 * left subtree of 2^i leaves, like a binary counter with its carries. */
template <typename REAL>
static __device__ __forceinline__ REAL chain_step(scratch_chain<REAL> &c, REAL x) {
  int leaves = 1;
  while (leaves < c.heads) leaves *= 2;
  int n = 0;
  REAL sum = 0;
  for (int leaf = 0; leaf < leaves; leaf++) {
    sum = scratch_term(c, n, x);
    int level = 0;
    for (int carry = leaf; carry & 1; carry >>= 1) sum = c.partial[EMA_THREADS * level++] + sum;
    c.partial[EMA_THREADS * level] = sum;
    int bit = leaves / 2; /* n + 1 with its bits reversed */
    for (; bit & n; bit /= 2) n ^= bit;
    n |= bit;
  }
  return sum;
}

template <typename REAL>
static __device__ __forceinline__ void chain_end(scratch_chain<REAL> &c, const ema_launch &p,
                                                 const ema_sequence &s, int64_t d) {
  const ema_state &state = p.run.final;
  if (s.final < 0) return;
  REAL *to = ema_states<REAL>(state, s.final, d);
  for (int n = 0; n < c.heads; n++) to[n * state.stride_n] = c.h[n * c.pitch];
}

/* ---- all steps of a channel ---- */

/* Steps K .. length - 1 of a truncated sequence, from the last to the first. */
template <typename REAL, int TYPE>
static __device__ __forceinline__ void run_direct(const ema_launch &p, const ema_sequence &s,
                                                  int64_t d) {
  const auto &k = table_of<REAL>(p.run);
  const ema_run &run = p.run;
  const int64_t from = ema_offset(run.x, s, d), to = ema_offset(run.y, s, d);
#pragma unroll 1
  for (int64_t t = s.length - 1; t >= p.run.truncation; t--) {
    REAL e = 0, x = 0;
#pragma unroll 1
    for (int64_t j = p.run.truncation - 1; j >= 0; j--) {
      x = load_element<TYPE>(run.x.data, from + (t - j) * run.x.stride_t);
      e = fma(k.kernel[j * p.run.padded + d], ema_masked(p, s, t - j) ? (REAL)0 : x, e);
    }
    ema_finish<TYPE>(p, to + t * run.y.stride_t, fma(k.residual[d], x, e)); /* x of j = 0 */
  }
}

template <typename REAL, int TYPE, typename CHAIN>
static __device__ __forceinline__ void run_units(const ema_launch &p) {
  const int64_t groups = parts_of(p.run.channels, EMA_THREADS);
  for (int64_t unit = blockIdx.x; unit < ema_sequence_count(&p) * groups; unit += gridDim.x) {
    const int64_t group = unit % groups, d = group * EMA_THREADS + threadIdx.x;
    ema_sequence s;
    if (!ema_begin(p, unit / groups, group == 0 && threadIdx.x == 0, &s) || d >= p.run.channels)
      continue;
    int64_t steps = s.length;
    if (p.run.truncated && s.length > p.run.truncation) {
      run_direct<REAL, TYPE>(p, s, d);
      steps = p.run.truncation;
    }
    CHAIN c;
    chain_begin(c, p, s, d);
    run_chain<REAL, TYPE>(c, p, s, d, steps);
    chain_end(c, p, s, d);
    ema_zero_rest<TYPE>(p, s, d);
  }
}

template <typename REAL, int HEADS, int TYPE>
static __global__ void __launch_bounds__(EMA_THREADS, 2) ema_recurrent_kernel(const ema_launch p) {
  run_units<REAL, TYPE, register_chain<REAL, HEADS>>(p);
}

template <typename REAL, int TYPE>
static __global__ void __launch_bounds__(EMA_THREADS, 2)
    ema_many_heads_kernel(const ema_launch p) {
  run_units<REAL, TYPE, scratch_chain<REAL>>(p);
}

/* ---- launching ---- */

static bool has_many_heads(const ema_launch *launch) {
  return launch->run.heads > 16;
}

static int64_t bytes_per_block(const ema_launch *launch) {
  return EMA_THREADS * launch->run.heads * real_bytes(launch);
}

/* With many heads each block needs its own scratch, so more heads mean fewer blocks. */
static int64_t block_count(const ema_launch *launch) {
  int64_t most = EMA_MOST_BLOCKS;
  if (has_many_heads(launch)) most = EMA_HEADS_MOST_SCRATCH / bytes_per_block(launch);
  return blocks_of(ema_sequence_count(launch), parts_of(launch->run.channels, EMA_THREADS), 1,
                   most);
}

int64_t ema_recurrent_scratch(const ema_launch *launch) {
  return has_many_heads(launch) ? block_count(launch) * bytes_per_block(launch) : 0;
}

#define INSTANCE(HEADS)                                                                           \
  do {                                                                                            \
    *kernel = CHAIN_NAME("ema_recurrent_kernel", HEADS);                                          \
    return CUMEGA_LAUNCH((ema_recurrent_kernel<REAL, HEADS, TYPE>), grid, EMA_THREADS, 0, stream, \
                         *launch);                                                                \
  } while (0)

template <typename REAL, int TYPE>
static cudaError_t launch_chain(const ema_launch *launch, cudaStream_t stream,
                                const char **kernel) {
  const dim3 grid((unsigned)block_count(launch));
  if (has_many_heads(launch)) {
    *kernel = sizeof(REAL) == sizeof(float) ? "ema_many_heads_kernel<float>"
                                            : "ema_many_heads_kernel<double>";
    return CUMEGA_LAUNCH((ema_many_heads_kernel<REAL, TYPE>), grid, EMA_THREADS,
                         PARTIAL_BYTES(REAL), stream, *launch);
  }
  LAUNCH_BY_HEADS(launch->run.heads);
}

cudaError_t ema_recurrent_launch(const ema_launch *launch, cudaStream_t stream,
                                 const char **kernel) {
  LAUNCH_BY_CHAIN(launch, launch_chain, launch, stream, kernel);
}
