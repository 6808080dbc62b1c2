/* CHUNKED: the EMA parallel in time, for few channels and sequences that are too long, or decays
 * that are too slow, for slices (ema_sliced.cu). It is a chunked scan, and its result depends only
 * on how a sequence is divided into chunks:
 *
 *   a chunk is 64 steps, counted from the first step of the sequence
 *   local[c]    the state after chunk c alone, by the recurrence from zero
 *   h[c + 1]  = fma(Q_hi, h[c], fma(Q_lo, h[c], local[c])),  Q = q^64 in two floats
 *   y in chunk c is that of the recurrence from h[c]
 *   the final state is h after the last chunk, or that of the recurrence in an unfinished one
 *
 * So the bits depend neither on the batch nor on how blocks are scheduled, and a sequence may be
 * given in pieces of multiples of 64 steps with the same result. Q comes from q_hi + q_lo, which
 * is exact in double, by six squarings, with a relative error of 2^-47, which is below the
 * precision of two floats. With double states Q has as many roundings as 64 steps.
 *
 * It is one kernel. A block takes 16 channels and a span of 16 consecutive chunks, 1,024 steps,
 * with a thread per channel and chunk. (In the names below a chunk is a `cell` and a span is a
 * `chunk`.) First each thread runs its chunk from zero. Then 16 N threads, one per channel and
 * head, wait for h at the beginning of the span, replace the local state of every chunk by its h
 * (16 dependent pairs of fmas) and publish the h after the last chunk. Then each thread runs its
 * chunk again, with output. The spans of 16 channels of one sequence form a chain, in which each
 * waits for the one before. They share one place for h, which each overwrites, since only the next
 * span reads it. Blocks take units by a ticket counter, the first spans of all chains first. So
 * the span that a block waits for is already in a running block, and there is progress however few
 * blocks run at once. Flags are read and written as volatile, with fences: data published before a
 * flag is visible once the flag is.
 *
 * Memory: 8 bytes per element if x is still in the second-level cache when it is read again (64 KB
 * for each running block), else 12. Scratch is N numbers per channel, whatever the length.
 * Arithmetic: 8 N + 3 and the activation for N heads, instead of 5 N. Predicted, not measured: a
 * chain advances by a span in about 1 us, so 1M steps take at least 1 ms, which is the time to
 * copy 512 channels. With fewer channels the chains are the limit, with more the memory.
 *
 * Rejected: decoupled look-back, in which the schedule decides how states are grouped, so that
 * bits change from run to run; three kernels, which read x twice from memory; x kept in shared
 * memory from the first run to the second, 64 KB per block, of which three fit. */
#include "ema_chain.cuh"
#include "ema_choice.cuh"

#define CHANNELS 16
#define CELLS    16 /* chunks of a span */
#define THREADS  (CHANNELS * CELLS)
#define CELL     CUMEGA_EMA_CHUNK_STEPS
#define CHUNK    (CELLS * CELL)
#define EARLY    8 /* steps that pass 1 reads at once */

static_assert(THREADS >= CHANNELS * EMA_CHUNKED_HEADS, "a thread has a channel and a head");
static_assert(CELL % EARLY == 0 && CELL == 1 << 6, "whole reads; six squarings");

/* A unit: a span of a sequence, of 16 of its channels. */
typedef struct chunk_unit {
  ema_sequence s;
  int64_t chain, chunk, first_channel;
  bool is_last; /* the sequence ends in it */
} chunk_unit;

template <typename REAL> struct across_cell { REAL hi, lo; };

static __device__ __forceinline__ double power_of_cell(double q) {
#pragma unroll
  for (int i = 0; i < 6; i++) q *= q;
  return q;
}
static __device__ __forceinline__ across_cell<float> across_of(const ema_coefficients_f32 &k,
                                                               int64_t at) {
  const double Q = power_of_cell((double)k.q[at] + (double)k.q_lo[at]);
  across_cell<float> c;
  c.hi = (float)Q;
  c.lo = (float)(Q - (double)c.hi);
  return c;
}
static __device__ __forceinline__ across_cell<double> across_of(const ema_coefficients_f64 &k,
                                                                int64_t at) {
  across_cell<double> c;
  c.hi = power_of_cell(k.q[at]);
  c.lo = 0;
  return c;
}
static __device__ __forceinline__ float cross(const across_cell<float> &Q, float h, float local) {
  return fma(Q.hi, h, fma(Q.lo, h, local));
}
static __device__ __forceinline__ double cross(const across_cell<double> &Q, double h,
                                               double local) {
  return fma(Q.hi, h, local);
}

/* The part of a sequence that is the chunk of one thread. */
static __device__ __forceinline__ ema_sequence cell_of(const chunk_unit &u, int cell) {
  const ema_slices grid = {0, CELL, 0};
  ema_sequence s = u.s;
  ema_cut(grid, u.chunk * CELLS + cell, &s);
  return s;
}

/* Pass 1: the state after a whole chunk, from zero. */
template <typename REAL, int HEADS, int TYPE>
static __device__ __forceinline__ void walk_from_zero(register_chain<REAL, HEADS> &c,
                                                      const ema_launch &p,
                                                      const ema_sequence &cell, int64_t d) {
  const ema_sequences &x = p.run.x;
  const int64_t from = ema_offset(x, cell, d);
#pragma unroll 1
  for (int t = 0; t < CELL; t += EARLY) {
    REAL seen[EARLY];
#pragma unroll
    for (int i = 0; i < EARLY; i++) {
      const REAL value = load_element<TYPE>(x.data, from + (t + i) * x.stride_t);
      seen[i] = ema_masked(p, cell, t + i) ? (REAL)0 : value;
    }
#pragma unroll
    for (int i = 0; i < EARLY; i++)
#pragma unroll
      for (int n = 0; n < HEADS; n++)
        c.h[n] = ema_advance(c.q[n], c.q_lo[n], c.gain[n], c.h[n], seen[i]);
  }
}

static __device__ __forceinline__ void wait_for(const unsigned long long *flag,
                                                unsigned long long chunks) {
  while (*(const volatile unsigned long long *)flag < chunks) CUMEGA_SPIN();
  __threadfence();
}

/* Pass 2, for the thread's channel and head: turns states (CELLS, N, CHANNELS) into those with
 * which chunks begin. */
template <typename REAL>
static __device__ __forceinline__ void carry(const ema_chunked_launch &a, const chunk_unit &u,
                                             REAL *states) {
  const ema_launch &p = a.whole;
  const int channel = threadIdx.x % CHANNELS, n = threadIdx.x / CHANNELS, N = (int)p.run.heads;
  const int64_t d = u.first_channel + channel;
  const int64_t slot = (u.chain * N + n) * CHANNELS + channel;
  if (n >= N || d >= p.run.channels) return;
  REAL h = 0;
  if (u.chunk > 0) {
    h = *((const volatile REAL *)a.ends + slot);
  } else if (u.s.initial >= 0) {
    const ema_state &from = p.run.initial;
    h = ema_states<REAL>(from, u.s.initial, d)[n * from.stride_n];
  }
  const across_cell<REAL> Q = across_of(table_of<REAL>(p.run), n * p.run.padded + d);
  const int64_t left = u.s.length - u.chunk * CHUNK;
  for (int cell = 0; cell < CELLS && cell * CELL < left; cell++) {
    REAL *state = states + (cell * N + n) * CHANNELS + channel;
    const REAL local = *state;
    *state = h;
    if ((cell + 1) * CELL <= left) h = cross(Q, h, local);
  }
  if (!u.is_last) *((volatile REAL *)a.ends + slot) = h;
  if (u.is_last && u.s.length % CELL == 0 && u.s.final >= 0) {
    const ema_state &to = p.run.final;
    ema_states<REAL>(to, u.s.final, d)[n * to.stride_n] = h;
  }
}

/* Pass 3: y of the chunk, which is not empty, from the state with which it begins. */
template <typename REAL, int HEADS, int TYPE>
static __device__ __forceinline__ void
walk_with_output(register_chain<REAL, HEADS> &c, const ema_launch &p, const chunk_unit &u,
                 const ema_sequence &cell, int64_t d, const REAL *states) {
  const int channel = threadIdx.x % CHANNELS, which = threadIdx.x / CHANNELS;
#pragma unroll
  for (int n = 0; n < HEADS; n++)
    c.h[n] = n < c.heads ? states[(which * c.heads + n) * CHANNELS + channel] : 0;
  run_chain<REAL, TYPE>(c, p, cell, d, cell.length);
  if (cell.length < CELL) save_states(p, p.run.final, u.s.final, d, c.h);
}

template <typename REAL, int HEADS, int TYPE>
static __device__ __forceinline__ void run_unit(const ema_chunked_launch &a, const chunk_unit &u,
                                                REAL *states) {
  const ema_launch &p = a.whole;
  const int channel = threadIdx.x % CHANNELS, which = threadIdx.x / CHANNELS;
  const int64_t d = u.first_channel + channel;
  const bool has_channel = d < p.run.channels;
  const ema_sequence cell = cell_of(u, which);
  if (u.s.length > u.chunk * CHUNK || u.chunk == 0) {
    ema_sequence from_zero = cell;
    register_chain<REAL, HEADS> c;
    from_zero.initial = -1;
    chain_begin(c, p, from_zero, has_channel ? d : 0);
    if (has_channel && cell.length == CELL) {
      walk_from_zero<REAL, HEADS, TYPE>(c, p, cell, d);
#pragma unroll
      for (int n = 0; n < HEADS; n++)
        if (n < c.heads) states[(which * c.heads + n) * CHANNELS + channel] = c.h[n];
    }
    if (threadIdx.x == 0 && u.chunk > 0) wait_for(&a.flags[u.chain], (unsigned long long)u.chunk);
    __syncthreads();
    carry(a, u, states);
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0 && !u.is_last)
      *(volatile unsigned long long *)&a.flags[u.chain] = (unsigned long long)u.chunk + 1;
    if (has_channel && cell.length > 0)
      walk_with_output<REAL, HEADS, TYPE>(c, p, u, cell, d, states);
  }
  if (has_channel) ema_zero_rest<TYPE>(p, cell, d);
}

static __host__ __device__ __forceinline__ int64_t groups_of(const ema_launch &p) {
  return parts_of(p.run.channels, CHANNELS);
}
static __host__ __device__ __forceinline__ int64_t chunks_of(const ema_launch &p) {
  return p.run.batch.rows == 0 ? 1 : parts_of(p.run.batch.rows, CHUNK);
}

template <typename REAL, int HEADS, int TYPE>
static __global__ void __launch_bounds__(THREADS, HEADS * sizeof(real_of<TYPE>) > 32 ? 1 : 2)
    ema_chunked_kernel(const ema_chunked_launch a) {
  CUMEGA_SHARED(unsigned long long, shared);
  const ema_launch &p = a.whole;
  const int64_t groups = groups_of(p), chains = p.run.batch.count * groups;
  for (;;) {
    if (threadIdx.x == 0) *shared = atomicAdd(a.ticket, 1ull);
    __syncthreads();
    const int64_t unit = (int64_t)*shared;
    __syncthreads(); /* before the next ticket */
    if (unit >= chains * chunks_of(p)) return;
    chunk_unit u;
    u.chain = unit % chains;
    u.chunk = unit / chains;
    const int64_t group = u.chain % groups;
    u.first_channel = group * CHANNELS;
    const bool reports = group == 0 && u.chunk == 0 && threadIdx.x == 0;
    if (!ema_begin(p, u.chain / groups, reports, &u.s)) continue;
    u.is_last = u.s.length <= (u.chunk + 1) * CHUNK;
    run_unit<REAL, HEADS, TYPE>(a, u, (REAL *)(shared + 2));
    __syncthreads(); /* before the next unit overwrites states */
  }
}

/* ---- launching ---- */

/* The ticket and the flags, in whole cache lines. */
static int64_t counter_bytes(const ema_launch *launch) {
  const int64_t chains = launch->run.batch.count * groups_of(*launch);
  return parts_of((chains + 1) * (int64_t)sizeof(unsigned long long), 128) * 128;
}

int64_t ema_chunked_scratch(const ema_launch *launch) {
  const int64_t chains = launch->run.batch.count * groups_of(*launch);
  return counter_bytes(launch) + chains * CHANNELS * launch->run.heads * real_bytes(launch);
}

#define INSTANCE(HEADS)                                                                           \
  do {                                                                                            \
    *kernel = CHAIN_NAME("ema_chunked_kernel", HEADS);                                            \
    return CUMEGA_LAUNCH((ema_chunked_kernel<REAL, HEADS, TYPE>), grid, THREADS, shared, stream,  \
                         a);                                                                      \
  } while (0)

template <typename REAL, int TYPE>
static cudaError_t launch_chunked(const ema_chunked_launch &a, cudaStream_t stream,
                                  const char **kernel) {
  const int64_t heads = a.whole.run.heads;
  const dim3 grid = grid_of(a.whole.run.batch.count * groups_of(a.whole), chunks_of(a.whole), 1,
                            EMA_CHUNKED_MOST_BLOCKS);
  const size_t shared = 16 + (size_t)(THREADS * heads) * sizeof(REAL);
  LAUNCH_BY_HEADS(heads);
}

cudaError_t ema_chunked_launch_all(const ema_launch *launch, void *scratch, cudaStream_t stream,
                                   const char **kernel) {
  ema_chunked_launch a;
  a.whole = *launch;
  a.ticket = (unsigned long long *)scratch;
  a.flags = a.ticket + 1;
  a.ends = (char *)scratch + counter_bytes(launch);
  const cudaError_t error = cudaMemsetAsync(scratch, 0, (size_t)counter_bytes(launch), stream);
  if (error != cudaSuccess) return error;
  LAUNCH_BY_CHAIN(launch, launch_chunked, a, stream, kernel);
}
