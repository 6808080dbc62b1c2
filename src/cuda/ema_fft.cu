/* FFT: the convolution of the paper, e = k * x~, through cuFFT; what is left for kernels of ours.
 *
 * A row is one channel of one sequence, n numbers long, n >= L + K - 1 for a kernel of K taps, so that
 * nothing comes round the end. Per tile of rows (src/cuda/ema_fft_cuda.c):
 *
 *   gather     x~, widened, to rows; zeros behind the sequence's end and up to n
 *   cuFFT      real to complex, in place
 *   multiply   by the kernel's spectrum, which holds the 1 / n
 *   cuFFT      complex to real, in place
 *   scatter    y = activation(residual x + e), rounded once; zeros behind the end
 *
 * Gather and scatter turn 32 rows by 32 steps through shared memory, so that both sides are whole
 * lines where channels are contiguous. With a real of 4 bytes and n = 2 L, rows cost 8 bytes per
 * element: gather 4 + 8, each transform 16 or more, multiply 16 and the spectrum, scatter 8 + 8: some
 * 80 bytes per element where the recurrence has 8. Predicted, not measured: a tenth of the copy at
 * best. It is the cross-check of the other algorithms, and the method for kernels that are long,
 * truncated and not short: a truncated sum costs K products per element instead.
 *
 * The kernel's spectrum is made in double from the definition, k[l] = sum of weight q^l, and rounded
 * once, so what the result lacks are the roundings of the two transforms of x.
 *
 * What it cannot do: a state; an infinity or a NaN of one step reaches every step of its row. */
#include "../math/elementary_f64.h"
#include "ema_item.cuh"

#define TILE        32
#define THREADS     256
#define ROW_STEP    (THREADS / TILE)
#define PART        1024 /* pairs of a row that a block multiplies at once */
#define MOST_BLOCKS CUMEGA_MOST_BLOCKS(65536)

template <typename REAL> struct alignas(2 * sizeof(REAL)) pair { REAL x, y; };

static __host__ __device__ __forceinline__ int64_t parts_of(int64_t count, int64_t part) {
  return (count + part - 1) / part;
}

/* The sequence and channel of row `which` of the tile; false where it has none to compute. */
static __device__ __forceinline__ bool find_row(const ema_fft_launch &a, int64_t which,
                                                bool reports, ema_sequence *s, int64_t *d) {
  const ema_launch &p = a.whole;
  const int64_t row = a.first_row + which;
  *d = row % p.channels;
  if (which >= a.row_count) return false;
  return ema_begin(p, row / p.channels, reports && *d == 0, s);
}

/* ---- rows from x, and y from rows ---- */

template <typename REAL>
static __global__ void __launch_bounds__(THREADS) ema_fft_gather_kernel(const ema_fft_launch a) {
  CUMEGA_SHARED(REAL, turned); /* (TILE steps, TILE + 1) */
  const ema_launch &p = a.whole;
  const int column = threadIdx.x % TILE, first = threadIdx.x / TILE;
  const int64_t tiles = parts_of(a.n, TILE);
  for (int64_t unit = blockIdx.x; unit < parts_of(a.row_count, TILE) * tiles; unit += gridDim.x) {
    const int64_t r = unit / tiles * TILE, t = unit % tiles * TILE;
    ema_sequence s = {};
    int64_t d = 0;
    const bool is_there = find_row(a, r + column, t == 0 && first == 0, &s, &d);
    const ema_sequences &x = p.run.x;
    for (int i = first; i < TILE; i += ROW_STEP) {
      REAL value = 0;
      if (is_there && t + i < s.length && !ema_masked(p, s, t + i))
        value = ema_load<REAL>(p.run.type, x.data, ema_offset(x, s, d) + (t + i) * x.stride_t);
      turned[i * (TILE + 1) + column] = value;
    }
    __syncthreads();
    for (int i = first; i < TILE; i += ROW_STEP)
      if (r + i < a.row_count && t + column < a.n)
        ((REAL *)a.rows)[(r + i) * a.pitch + t + column] = turned[column * (TILE + 1) + i];
    __syncthreads(); /* the next unit's */
  }
}

template <typename REAL>
static __global__ void __launch_bounds__(THREADS) ema_fft_scatter_kernel(const ema_fft_launch a) {
  CUMEGA_SHARED(REAL, turned); /* (TILE steps, TILE + 1) */
  const ema_launch &p = a.whole;
  const int column = threadIdx.x % TILE, first = threadIdx.x / TILE;
  const int64_t tiles = parts_of(p.run.L, TILE);
  for (int64_t unit = blockIdx.x; unit < parts_of(a.row_count, TILE) * tiles; unit += gridDim.x) {
    const int64_t r = unit / tiles * TILE, t = unit % tiles * TILE;
    for (int i = first; i < TILE; i += ROW_STEP)
      if (r + i < a.row_count && t + column < p.run.L)
        turned[column * (TILE + 1) + i] = ((const REAL *)a.rows)[(r + i) * a.pitch + t + column];
    __syncthreads();
    ema_sequence s = {};
    int64_t d = 0;
    if (find_row(a, r + column, false, &s, &d)) {
      const int64_t from = ema_offset(p.run.x, s, d), to = ema_offset(p.run.y, s, d);
      const REAL residual = ema_coefficients(p, REAL()).residual[d];
      for (int i = first; i < TILE; i += ROW_STEP) {
        const int64_t at = to + (t + i) * p.run.y.stride_t;
        if (t + i < s.length) {
          const REAL x =
              ema_load<REAL>(p.run.type, p.run.x.data, from + (t + i) * p.run.x.stride_t);
          ema_finish(p, at, ema_fma(residual, x, turned[i * (TILE + 1) + column]));
        } else if (t + i < s.rows) {
          ema_store(p.run.type, p.run.y.data, at, 0.0f);
        }
      }
    }
    __syncthreads(); /* the next unit's */
  }
}

/* ---- the product ---- */

template <typename REAL>
static __global__ void __launch_bounds__(THREADS) ema_fft_multiply_kernel(const ema_fft_launch a) {
  const int64_t pairs = a.n / 2 + 1, parts = parts_of(pairs, PART);
  for (int64_t unit = blockIdx.x; unit < a.row_count * parts; unit += gridDim.x) {
    const int64_t r = unit / parts, from = unit % parts * PART;
    const int64_t d = (a.first_row + r) % a.whole.channels;
    pair<REAL> *row = (pair<REAL> *)((REAL *)a.rows + r * a.pitch);
    const pair<REAL> *spectrum = (const pair<REAL> *)a.spectrum + d * pairs;
    for (int64_t f = from + threadIdx.x; f < from + PART && f < pairs; f += THREADS) {
      const pair<REAL> v = row[f], k = spectrum[f];
      pair<REAL> product;
      product.x = ema_fma(v.x, k.x, -(v.y * k.y));
      product.y = ema_fma(v.x, k.y, v.y * k.x);
      row[f] = product;
    }
  }
}

/* ---- the kernel's spectrum ---- */

static __global__ void __launch_bounds__(THREADS) ema_fft_fill_kernel(const ema_fft_table a) {
  for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < a.channel_count * a.n;
       i += (int64_t)gridDim.x * THREADS) {
    const int64_t c = i / a.n, l = i % a.n, from = (a.first_channel + c) * a.heads;
    double k = 0;
    for (int64_t n = 0; n < a.heads && l < a.taps; n++) /* q^0 is 1 even where q is 0 */
      k += a.weight[from + n] * (l == 0 ? 1.0 : math_exp((double)l * a.log_q[from + n]));
    a.rows[c * a.pitch + l] = k;
  }
}

template <typename REAL>
static __global__ void __launch_bounds__(THREADS) ema_fft_store_kernel(const ema_fft_table a) {
  const int64_t pairs = a.n / 2 + 1;
  for (int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x; i < a.channel_count * pairs;
       i += (int64_t)gridDim.x * THREADS) {
    const int64_t c = i / pairs, f = i % pairs;
    const pair<double> v = ((const pair<double> *)(a.rows + c * a.pitch))[f];
    pair<REAL> stored;
    stored.x = (REAL)(v.x / (double)a.n);
    stored.y = (REAL)(v.y / (double)a.n);
    ((pair<REAL> *)a.spectrum)[(a.first_channel + c) * pairs + f] = stored;
  }
}

/* ---- launching ---- */

static dim3 blocks_of(int64_t units) {
  return dim3((unsigned)(units < MOST_BLOCKS ? units : MOST_BLOCKS));
}

#define LAUNCH_BY_TYPE(is_double, kernel, units, shared)                                           \
  const dim3 grid = blocks_of(units), block(THREADS);                                              \
  if (is_double)                                                                                   \
    return CUMEGA_LAUNCH((kernel<double>), grid, block, (shared) * sizeof(double), stream, a);     \
  return CUMEGA_LAUNCH((kernel<float>), grid, block, (shared) * sizeof(float), stream, a)

cudaError_t ema_fft_gather(const ema_fft_launch *launch, cudaStream_t stream) {
  const ema_fft_launch &a = *launch;
  const int64_t units = parts_of(a.row_count, TILE) * parts_of(a.n, TILE);
  LAUNCH_BY_TYPE(a.whole.is_double, ema_fft_gather_kernel, units, TILE * (TILE + 1));
}

cudaError_t ema_fft_scatter(const ema_fft_launch *launch, cudaStream_t stream) {
  const ema_fft_launch &a = *launch;
  const int64_t units = parts_of(a.row_count, TILE) * parts_of(a.whole.run.L, TILE);
  LAUNCH_BY_TYPE(a.whole.is_double, ema_fft_scatter_kernel, units, TILE * (TILE + 1));
}

cudaError_t ema_fft_multiply(const ema_fft_launch *launch, cudaStream_t stream) {
  const ema_fft_launch &a = *launch;
  const int64_t units = a.row_count * parts_of(a.n / 2 + 1, PART);
  LAUNCH_BY_TYPE(a.whole.is_double, ema_fft_multiply_kernel, units, 0);
}

cudaError_t ema_fft_fill_table(const ema_fft_table *table, cudaStream_t stream) {
  const ema_fft_table &a = *table;
  return CUMEGA_LAUNCH(ema_fft_fill_kernel, blocks_of(parts_of(a.channel_count * a.n, THREADS)),
                       dim3(THREADS), 0, stream, a);
}

cudaError_t ema_fft_store_table(const ema_fft_table *table, cudaStream_t stream) {
  const ema_fft_table &a = *table;
  const int64_t units = parts_of(a.channel_count * (a.n / 2 + 1), THREADS);
  LAUNCH_BY_TYPE(a.is_double, ema_fft_store_kernel, units, 0);
}
