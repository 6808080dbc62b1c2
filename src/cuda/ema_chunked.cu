/* CHUNKED: the EMA parallel in time, for few channels and sequences too long or decays too slow for
 * slices (ema_sliced.cu). What it computes is defined by a grid and by nothing else:
 *
 *   time is cut into cells of 64 steps, counted from the sequence's first one;
 *   local[c]    the state that cell c alone leads to, from zero: an ordinary chain
 *   h[c + 1]  = fma(Q_hi, h[c], fma(Q_lo, h[c], local[c])),  Q = q^64 in two floats
 *   y in cell c is that of an ordinary chain which begins with h[c]
 *   the final state is h of the last cell boundary, or of the chain within an unfinished last cell
 *
 * So bits depend neither on the batch nor on how blocks are scheduled, and a sequence that is cut at
 * multiples of 64 goes on as if it had not been. Q comes from q_hi + q_lo, exact in double, by six
 * squarings: 2^-47 relative, more than two floats hold; for a double chain it is rounded as often as
 * 64 of its steps round.
 *
 * One pass. A block has 16 channels and 16 cells beside each other, 1,024 steps, a thread per
 * channel and cell. Each thread walks its cell from zero; 16 N threads, one per channel and head,
 * wait for h at the block's first cell, put h of every cell in place of its local state (16 dependent
 * pairs of fma) and publish the one behind the last; each thread walks its cell again, with output.
 * The chunks of 16 channels of one sequence are a chain, each waiting for the one before: its slot
 * is overwritten from chunk to chunk, since only the next one reads it. Units are taken from a
 * ticket, chunks before channels, so whoever is waited for has been taken by a block that runs:
 * however few blocks fit, something moves. Flags are read and written volatile, with fences: what is
 * published before a flag is there when the flag is seen.
 *
 * Memory: 8 bytes per element where x is still in the second cache for the second walk (64 KB for
 * each block that runs), else 12; scratch of N numbers per channel, whatever the length. Arithmetic:
 * 8 N + 3 and the activation for N heads, in place of 5 N. Predicted, not measured: a chain moves on
 * by a chunk in about 1 us, so 1M steps take 1 ms at least, which is what a copy of 512 channels
 * takes; with fewer channels the chains are the limit, with more the copy.
 *
 * Rejected: carries by decoupled look-back, whose sums are grouped as the schedule has it, so that
 * bits change from run to run; three passes over the grid, which read x twice from memory; x kept in
 * shared memory between the walks, 64 KB per block, of which three fit. */
#include "ema_chain.cuh"

#define THREADS     256
#define CHANNELS    16
#define CELLS       16 /* of a chunk */
#define CELL        CUMEGA_EMA_GRID
#define CHUNK       (CELLS * CELL)
#define EARLY       8 /* steps that the first walk reads at once */
#define MOST_BLOCKS CUMEGA_MOST_BLOCKS(2048)

static_assert(THREADS == CHANNELS * CELLS, "a thread has a channel and a cell");
static_assert(THREADS >= CHANNELS * EMA_CHUNKED_HEADS, "a thread has a channel and a head");
static_assert(CELL % EARLY == 0 && CELL == 1 << 6, "whole reads; six squarings");

/* What a unit is: a chunk of a sequence and a group of its channels. */
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
  return fmaf(Q.hi, h, fmaf(Q.lo, h, local));
}
static __device__ __forceinline__ double cross(const across_cell<double> &Q, double h,
                                               double local) {
  return fma(Q.hi, h, local);
}

/* The part of a sequence that is one thread's cell. */
static __device__ __forceinline__ ema_sequence cell_of(const chunk_unit &u, int cell) {
  const ema_slices grid = {0, CELL, 0};
  ema_sequence s = u.s;
  ema_cut(grid, u.chunk * CELLS + cell, &s);
  return s;
}

/* Pass 1: the state that a whole cell leads to from zero. */
template <typename REAL, int HEADS>
static __device__ __forceinline__ void walk_from_zero(register_chain<REAL, HEADS> &c,
                                                      const ema_launch &p, const ema_sequence &cell,
                                                      int64_t d) {
  const ema_sequences &x = p.run.x;
  const int64_t from = ema_offset(x, cell, d);
#pragma unroll 1
  for (int t = 0; t < CELL; t += EARLY) {
    REAL seen[EARLY];
#pragma unroll
    for (int i = 0; i < EARLY; i++) {
      const REAL value = ema_load<REAL>(p.run.type, x.data, from + (t + i) * x.stride_t);
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

/* Pass 2, for thread's channel and head: states (CELLS, N, CHANNELS) become those with which cells
 * begin. */
template <typename REAL>
static __device__ __forceinline__ void carry(const ema_chunked_launch &a, const chunk_unit &u,
                                             REAL *states) {
  const ema_launch &p = a.whole;
  const int channel = threadIdx.x % CHANNELS, n = threadIdx.x / CHANNELS, N = (int)p.heads;
  const int64_t d = u.first_channel + channel;
  const int64_t slot = (u.chain * N + n) * CHANNELS + channel;
  if (n >= N || d >= p.channels) return;
  REAL h = 0;
  if (u.chunk > 0) {
    h = *((const volatile REAL *)a.ends + slot);
  } else if (u.s.initial >= 0) {
    const ema_state &from = p.run.initial;
    h = ((const REAL *)
             from.data)[u.s.initial * from.stride_row + d * from.stride_d + n * from.stride_n];
  }
  const across_cell<REAL> Q = across_of(ema_coefficients(p, REAL()), n * p.padded + d);
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
    ((REAL *)to.data)[u.s.final * to.stride_row + d * to.stride_d + n * to.stride_n] = h;
  }
}

/* Pass 3: y of the cell, which is not empty, from the state with which it begins. */
template <typename REAL, int HEADS>
static __device__ __forceinline__ void
walk_with_output(register_chain<REAL, HEADS> &c, const ema_launch &p, const chunk_unit &u,
                 const ema_sequence &cell, int64_t d, const REAL *states) {
  const int channel = threadIdx.x % CHANNELS, which = threadIdx.x / CHANNELS;
#pragma unroll
  for (int n = 0; n < HEADS; n++)
    c.h[n] = n < c.heads ? states[(which * c.heads + n) * CHANNELS + channel] : 0;
  run_chain<REAL>(c, p, cell, d, cell.length);
  if (cell.length < CELL) save_states(p, p.run.final, u.s.final, d, c.h);
}

template <typename REAL, int HEADS>
static __device__ __forceinline__ void run_unit(const ema_chunked_launch &a, const chunk_unit &u,
                                                REAL *states) {
  const ema_launch &p = a.whole;
  const int channel = threadIdx.x % CHANNELS, which = threadIdx.x / CHANNELS;
  const int64_t d = u.first_channel + channel;
  const bool has_channel = d < p.channels;
  const ema_sequence cell = cell_of(u, which);
  if (u.s.length > u.chunk * CHUNK || u.chunk == 0) {
    ema_sequence from_zero = cell;
    register_chain<REAL, HEADS> c;
    from_zero.initial = -1;
    chain_begin(c, p, from_zero, has_channel ? d : 0);
    if (has_channel && cell.length == CELL) {
      walk_from_zero(c, p, cell, d);
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
    if (has_channel && cell.length > 0) walk_with_output(c, p, u, cell, d, states);
  }
  if (has_channel) ema_zero_rest(p, cell, d);
}

static __host__ __device__ __forceinline__ int64_t groups_of(const ema_launch &p) {
  return (p.channels + CHANNELS - 1) / CHANNELS;
}
static __host__ __device__ __forceinline__ int64_t chunks_of(const ema_launch &p) {
  return p.run.L == 0 ? 1 : (p.run.L + CHUNK - 1) / CHUNK;
}

template <typename REAL, int HEADS>
static __global__ void __launch_bounds__(THREADS, HEADS > 8 ? 1 : 2)
    ema_chunked_kernel(const ema_chunked_launch a) {
  CUMEGA_SHARED(unsigned long long, shared);
  const ema_launch &p = a.whole;
  const int64_t groups = groups_of(p), chains = p.run.B * groups;
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
    run_unit<REAL, HEADS>(a, u, (REAL *)(shared + 2));
    __syncthreads(); /* before states are the next unit's */
  }
}

/* ---- launching ---- */

static int64_t real_bytes(const ema_launch *launch) {
  return launch->is_double ? sizeof(double) : sizeof(float);
}

/* The ticket and the flags, in whole cache lines. */
static int64_t counter_bytes(const ema_launch *launch) {
  const int64_t chains = launch->run.B * groups_of(*launch);
  return ((chains + 1) * (int64_t)sizeof(unsigned long long) + 127) / 128 * 128;
}

int64_t ema_chunked_scratch(const ema_launch *launch) {
  const int64_t chains = launch->run.B * groups_of(*launch);
  return counter_bytes(launch) + chains * CHANNELS * launch->heads * real_bytes(launch);
}

/* The name has no space (cumega_context_kernels). */
#define LAUNCH(REAL, HEADS)                                                                        \
  do {                                                                                             \
    *kernel = "ema_chunked_kernel<" #REAL "," #HEADS ">";                                          \
    return CUMEGA_LAUNCH((ema_chunked_kernel<REAL, HEADS>), grid, dim3(THREADS), shared, stream,   \
                         a);                                                                       \
  } while (0)

#define LAUNCH_BY_HEADS(REAL)                                                                      \
  if (heads > 8) LAUNCH(REAL, 16);                                                                 \
  if (heads > 4) LAUNCH(REAL, 8);                                                                  \
  if (heads > 2) LAUNCH(REAL, 4);                                                                  \
  if (heads > 1) LAUNCH(REAL, 2);                                                                  \
  LAUNCH(REAL, 1)

cudaError_t ema_chunked_launch_all(const ema_launch *launch, void *scratch, cudaStream_t stream,
                                   const char **kernel) {
  const int64_t heads = launch->heads, units = launch->run.B * groups_of(*launch);
  const int64_t chunks = chunks_of(*launch);
  const dim3 grid((unsigned)(units < MOST_BLOCKS / chunks ? units * chunks : MOST_BLOCKS));
  const size_t shared = 16 + (size_t)(THREADS * heads * real_bytes(launch));
  ema_chunked_launch a;
  a.whole = *launch;
  a.ticket = (unsigned long long *)scratch;
  a.flags = a.ticket + 1;
  a.ends = (char *)scratch + counter_bytes(launch);
  const cudaError_t error = cudaMemsetAsync(scratch, 0, (size_t)counter_bytes(launch), stream);
  if (error != cudaSuccess) return error;
  if (launch->is_double) {
    LAUNCH_BY_HEADS(double);
  }
  LAUNCH_BY_HEADS(float);
}
