/* The EMA for every run: any strides, types, number of heads, mask, lengths, slots, truncation.
 *
 * A thread has one channel of one sequence and walks through its steps. The 32 channels of a warp
 * are adjacent wherever channels are contiguous, so a step's loads and stores are whole lines.
 * Blocks of 128 channels take units, each a sequence and a group of channels, until none is left.
 * States and coefficients stay in registers: 5 N + 1 numbers for N = 1, 2, 4, 8 or 16 heads or
 * any smaller number, whose absent heads add -0.
 *
 * Per element: 8 bytes in float32 (one read, one write), 4 N + N - 1 arithmetic instructions for
 * the chain and the tree, one for the residual, and the activation. Each step waits for the fmas
 * of the step before, 8 cycles; x is read EMA_AHEAD steps early to hide the memory's latency
 * behind them. Predicted for a device with 132 multiprocessors: below about 16K channels
 * (sequences times D) latency is the limit, above it instructions, because mask and activation
 * are looked up in every step. Two blocks per multiprocessor are asked for, which leaves ptxas
 * the registers it needs without spilling; no shared memory.
 *
 * More than 16 heads: the states are in scratch, (N, threads), and are read and written in every
 * step through the caches. The tree is then walked leaf by leaf, as described below, with 13
 * partial sums per thread in shared memory. This is rare in practice, and right rather than fast.
 *
 * The truncated sum: from step K on e is the sum of K products, the oldest first. A thread takes
 * these steps from the last to the first, so that y may be x: what step t reads is never later
 * than t. Then the first K steps are an ordinary chain. 2 K cached reads per element: for short
 * K. */
#include "ema_chain.cuh"
#include "ema_choice.cuh"

/* ---- the chain in scratch ---- */

#define TREE_LEVELS 13 /* of CUMEGA_EMA_MAX_HEADS leaves */
static_assert(CUMEGA_EMA_MAX_HEADS == 1 << (TREE_LEVELS - 1), "one halving tree");

/* Partial sums are indexed, so they cannot be in registers: they are in shared memory. */
#define PARTIAL_BYTES(REAL) (TREE_LEVELS * EMA_THREADS * sizeof(REAL))

template <typename REAL> struct scratch_chain {
  const REAL *q, *q_lo, *gain, *projection; /* at the channel */
  REAL *h;                                  /* at the thread */
  REAL *partial;                            /* at the thread, EMA_THREADS apart */
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

/* The halving tree first adds term n and term n + half, where half is the largest stride. Seen
 * from the root, its leaves from left to right are the heads by bit-reversed index. So the heads
 * are visited in that order, and partial[i] holds a finished left subtree of 2^i leaves, like the
 * digits of a binary counter with its carries. */
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

/* ---- a channel through its steps ---- */

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
static __global__ void __launch_bounds__(EMA_THREADS, 2) ema_many_heads_kernel(const ema_launch p) {
  run_units<REAL, TYPE, scratch_chain<REAL>>(p);
}

/* ---- launching ---- */

static bool has_many_heads(const ema_launch *launch) {
  return launch->run.heads > 16;
}

static int64_t bytes_per_block(const ema_launch *launch) {
  return EMA_THREADS * launch->run.heads * real_bytes(launch);
}

/* With many heads each block has its own scratch: the more heads, the fewer blocks. */
static int64_t block_count(const ema_launch *launch) {
  int64_t most = EMA_MOST_BLOCKS;
  if (has_many_heads(launch)) most = EMA_HEADS_MOST_SCRATCH / bytes_per_block(launch);
  return blocks_of(ema_sequence_count(launch), parts_of(launch->run.channels, EMA_THREADS), 1,
                   most);
}

int64_t ema_recurrent_scratch(const ema_launch *launch) {
  return has_many_heads(launch) ? block_count(launch) * bytes_per_block(launch) : 0;
}

#define INSTANCE(HEADS)                                                                            \
  do {                                                                                             \
    *kernel = CHAIN_NAME("ema_recurrent_kernel", HEADS);                                           \
    return CUMEGA_LAUNCH((ema_recurrent_kernel<REAL, HEADS, TYPE>), grid, EMA_THREADS, 0, stream,  \
                         *launch);                                                                 \
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
