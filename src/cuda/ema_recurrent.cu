/* The EMA for every run that there is: any strides, types, number of heads, mask, lengths, slots,
 * truncation.
 *
 * A thread is one channel of one sequence and walks through its steps; a warp's 32 channels lie
 * beside each other wherever channels are contiguous, so that a step's loads and stores are whole
 * lines. Blocks of 128 channels take (sequence, group of channels) units until none is left. States
 * and coefficients stay in registers: 5 N + 1 numbers for N = 1, 2, 4, 8 and 16, or any N below,
 * whose absent heads add -0, the identity of addition.
 *
 * Per element: 8 bytes in float32 (one read, one write), 4 N + N - 1 arithmetic instructions for
 * the chain and the tree, one for the residual, and the activation. Each step waits for the fmas of
 * the one before it, 8 cycles; x is read EMA_AHEAD steps early to hide the memory behind them.
 * Predicted on a device with 132 multiprocessors: limited by latency below about 16K channels
 * (sequences times D), by instructions above: types, mask and activation are looked up in every
 * step. Two blocks per multiprocessor are asked for, which leaves ptxas the registers that it needs
 * without spilling; no shared memory.
 *
 * More than 16 heads: the states lie in scratch, (N, threads), and are read and written in every
 * step, through the first and second cache; the tree is then walked leaf by leaf, below, with its
 * partial sums in shared memory, 13 per thread. Rare in practice and right rather than fast.
 *
 * The truncated sum: from step K on e is the sum of K products, the oldest first. A thread takes
 * these steps from the last to the first, so that y may be x: what step t reads is never later than
 * t. Then the first K steps are an ordinary chain. 2 K cached reads per element: for short K. */
#include "ema_chain.cuh"

#define THREADS 128

/* Many heads: scratch for so many bytes at most, so blocks are fewer where heads are more. */
#define MOST_SCRATCH ((int64_t)256 << 20)
#define MOST_BLOCKS  CUMEGA_MOST_BLOCKS((int64_t)1 << 20)

/* ---- the chain in scratch ---- */

#define TREE_LEVELS 13 /* of CUMEGA_EMA_MAX_HEADS leaves */
static_assert(CUMEGA_EMA_MAX_HEADS == 1 << (TREE_LEVELS - 1), "one halving tree");

/* Partial sums of a block's threads: shared, since they are indexed, which registers cannot be. */
#define PARTIAL_BYTES(REAL) (TREE_LEVELS * THREADS * (int)sizeof(REAL))

template <typename REAL> struct scratch_chain {
  const REAL *q, *q_lo, *gain, *projection; /* at the channel */
  REAL *h;                                  /* at the thread */
  REAL *partial;                            /* at the thread, THREADS apart */
  int64_t padded, pitch;
  int heads;
};

template <typename REAL>
static __device__ __forceinline__ void chain_begin(scratch_chain<REAL> &c, const ema_launch &p,
                                                   const ema_sequence &s, int64_t d) {
  CUMEGA_SHARED(REAL, partials);
  const auto &k = ema_coefficients(p, REAL());
  const ema_state &state = p.run.initial;
  c.partial = partials + threadIdx.x;
  c.q = k.q + d;
  c.q_lo = sizeof(REAL) == sizeof(float) ? (const REAL *)p.f32.q_lo + d : c.q;
  c.gain = k.gain + d;
  c.projection = k.projection + d;
  c.h = (REAL *)p.states + (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
  c.padded = p.padded;
  c.pitch = (int64_t)gridDim.x * blockDim.x;
  c.heads = (int)p.heads;
  for (int n = 0; n < c.heads; n++)
    c.h[n * c.pitch] =
        s.initial < 0
            ? (REAL)0
            : ((const REAL *)state
                   .data)[s.initial * state.stride_row + d * state.stride_d + n * state.stride_n];
}

template <typename REAL>
static __device__ __forceinline__ REAL scratch_term(const scratch_chain<REAL> &c, int n, REAL x) {
  if (n >= c.heads) return -(REAL)0; /* absent */
  const int64_t at = n * c.padded;
  REAL *h = c.h + n * c.pitch;
  *h = ema_advance(c.q[at], c.q_lo[at], c.gain[at], *h, x);
  return c.projection[at] * *h;
}

/* The halving tree adds term n and term n + half first, half being the largest stride: seen from
 * the root, its leaves from left to right are the heads by bit-reversed index. So the heads are
 * visited in that order, and partial[i] holds a finished left subtree of 2^i leaves, as the digits
 * of a binary counter that carries. */
template <typename REAL>
static __device__ __forceinline__ REAL chain_step(scratch_chain<REAL> &c, REAL x) {
  int leaves = 1;
  while (leaves < c.heads) leaves *= 2;
  int n = 0;
  REAL sum = 0;
  for (int leaf = 0; leaf < leaves; leaf++) {
    sum = scratch_term(c, n, x);
    int level = 0;
    for (int carry = leaf; carry & 1; carry >>= 1) sum = c.partial[THREADS * level++] + sum;
    c.partial[THREADS * level] = sum;
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
  REAL *row = (REAL *)state.data + s.final * state.stride_row + d * state.stride_d;
  for (int n = 0; n < c.heads; n++) row[n * state.stride_n] = c.h[n * c.pitch];
}

/* ---- a channel through its steps ---- */

/* Steps K .. length - 1 of a truncated sequence, from the last to the first. */
template <typename REAL>
static __device__ __forceinline__ void run_direct(const ema_launch &p, const ema_sequence &s,
                                                  int64_t d) {
  const auto &k = ema_coefficients(p, REAL());
  const ema_run &run = p.run;
  const int64_t from = ema_offset(run.x, s, d), to = ema_offset(run.y, s, d);
#pragma unroll 1
  for (int64_t t = s.length - 1; t >= p.truncation; t--) {
    REAL e = 0, x = 0;
#pragma unroll 1
    for (int64_t j = p.truncation - 1; j >= 0; j--) {
      x = ema_load<REAL>(run.type, run.x.data, from + (t - j) * run.x.stride_t);
      e = ema_fma(k.kernel[j * p.padded + d], ema_masked(p, s, t - j) ? (REAL)0 : x, e);
    }
    ema_finish(p, to + t * run.y.stride_t, ema_fma(k.residual[d], x, e)); /* x of j = 0 */
  }
}

template <typename REAL, typename CHAIN>
static __device__ __forceinline__ void run_units(const ema_launch &p) {
  const int64_t groups = (p.channels + THREADS - 1) / THREADS;
  for (int64_t unit = blockIdx.x; unit < ema_sequence_count(&p) * groups; unit += gridDim.x) {
    const int64_t group = unit % groups, d = group * THREADS + threadIdx.x;
    ema_sequence s;
    if (!ema_begin(p, unit / groups, group == 0 && threadIdx.x == 0, &s) || d >= p.channels)
      continue;
    int64_t steps = s.length;
    if (p.run.truncated && s.length > p.truncation) {
      run_direct<REAL>(p, s, d);
      steps = p.truncation;
    }
    CHAIN c;
    chain_begin(c, p, s, d);
    run_chain<REAL>(c, p, s, d, steps);
    chain_end(c, p, s, d);
    ema_zero_rest(p, s, d);
  }
}

template <typename REAL, int HEADS>
static __global__ void __launch_bounds__(THREADS, 2) ema_recurrent_kernel(const ema_launch p) {
  run_units<REAL, register_chain<REAL, HEADS>>(p);
}

template <typename REAL>
static __global__ void __launch_bounds__(THREADS, 2) ema_many_heads_kernel(const ema_launch p) {
  run_units<REAL, scratch_chain<REAL>>(p);
}

/* ---- launching ---- */

static bool has_many_heads(const ema_launch *launch) {
  return launch->heads > 16;
}

static int64_t bytes_per_block(const ema_launch *launch) {
  const int64_t real = launch->is_double ? sizeof(double) : sizeof(float);
  return THREADS * launch->heads * real;
}

static int64_t blocks_of(const ema_launch *launch) {
  const int64_t groups = (launch->channels + THREADS - 1) / THREADS;
  int64_t most = MOST_BLOCKS;
  if (has_many_heads(launch)) most = MOST_SCRATCH / bytes_per_block(launch);
  const int64_t sequences = ema_sequence_count(launch);
  return sequences < most / groups ? sequences * groups : most;
}

int64_t ema_recurrent_scratch(const ema_launch *launch) {
  return has_many_heads(launch) ? blocks_of(launch) * bytes_per_block(launch) : 0;
}

/* The name has no space (cumega_context_kernels). */
#define LAUNCH(NAME, shared_bytes, ...)                                                            \
  do {                                                                                             \
    *kernel = NAME;                                                                                \
    return CUMEGA_LAUNCH((__VA_ARGS__), grid, dim3(THREADS), shared_bytes, stream, *launch);       \
  } while (0)
#define LAUNCH_RECURRENT(REAL, HEADS)                                                              \
  LAUNCH("ema_recurrent_kernel<" #REAL "," #HEADS ">", 0, ema_recurrent_kernel<REAL, HEADS>)

template <typename REAL>
static cudaError_t launch_by_heads(const ema_launch *launch, cudaStream_t stream,
                                   const char **kernel);

#define DEFINE_LAUNCH_BY_HEADS(REAL)                                                               \
  template <>                                                                                      \
  cudaError_t launch_by_heads<REAL>(const ema_launch *launch, cudaStream_t stream,                 \
                                    const char **kernel) {                                         \
    const dim3 grid((unsigned)blocks_of(launch));                                                  \
    const int64_t heads = launch->heads;                                                           \
    if (heads > 16)                                                                                \
      LAUNCH("ema_many_heads_kernel<" #REAL ">", PARTIAL_BYTES(REAL),                              \
             ema_many_heads_kernel<REAL>);                                                         \
    if (heads > 8) LAUNCH_RECURRENT(REAL, 16);                                                     \
    if (heads > 4) LAUNCH_RECURRENT(REAL, 8);                                                      \
    if (heads > 2) LAUNCH_RECURRENT(REAL, 4);                                                      \
    if (heads > 1) LAUNCH_RECURRENT(REAL, 2);                                                      \
    LAUNCH_RECURRENT(REAL, 1);                                                                     \
  }

DEFINE_LAUNCH_BY_HEADS(float)
DEFINE_LAUNCH_BY_HEADS(double)

cudaError_t ema_recurrent_launch(const ema_launch *launch, cudaStream_t stream,
                                 const char **kernel) {
  if (launch->is_double) return launch_by_heads<double>(launch, stream, kernel);
  return launch_by_heads<float>(launch, stream, kernel);
}
