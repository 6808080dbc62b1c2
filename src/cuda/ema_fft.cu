/* FFT: the convolution of the paper, e = k * x~, by cuFFT and the kernels around it.
 *
 * A row is one channel of one sequence, n numbers long, with n >= L + K - 1 for a convolution
 * kernel of K taps, so that nothing wraps around. For each tile of rows (src/cuda/ema_fft_cuda.c):
 *
 *   gather     x~, widened, to rows; zeros past the sequence's end and up to n
 *   cuFFT      real to complex, in place
 *   multiply   by the spectrum, which includes the factor 1 / n
 *   cuFFT      complex to real, in place
 *   scatter    y = activation(residual x + e), rounded once; zeros past the end
 *
 * Gather and scatter transpose 32 rows by 32 steps in shared memory, so both sides are whole lines
 * if channels are contiguous. With reals of 4 bytes and n = 2 L, rows cost 8 bytes per element:
 * gather 4 + 8, each transform 16 or more, multiply 16 and the spectrum, scatter 8 + 8. That is
 * about 80 bytes per element, and the recurrence has 8. Predicted, not measured: a tenth of the
 * speed of a copy at best. FFT serves to cross-check the other algorithms, and for convolution
 * kernels that are truncated but long, for which a truncated sum would take K products per
 * element.
 *
 * The spectrum is computed in double from the definition, k[l] = sum of weight q^l, and rounded
 * once. So the error of the result comes from the roundings of the two transforms of x.
 *
 * FFT cannot begin or end with a state. An infinity or a NaN in one step reaches every step of its
 * row. */
#include "../math/elementary_f64.h"
#include "ema_choice.cuh"
#include "ema_item.cuh"

#define TILE     32
#define ROW_STEP (FFT_THREADS / TILE)
#define PART     1024 /* pairs of a row that a block multiplies at once */

template <typename REAL> struct alignas(2 * sizeof(REAL)) pair { REAL x, y; };

/* Finds the sequence and channel of row `which` of the tile. Returns false if there is nothing to
 * compute. */
static __device__ __forceinline__ bool find_row(const ema_fft_launch &a, int64_t which,
                                                bool reports, ema_sequence *s, int64_t *d) {
  const ema_launch &p = a.whole;
  const int64_t row = a.first_row + which;
  *d = row % p.run.channels;
  if (which >= a.row_count) return false;
  return ema_begin(p, row / p.run.channels, reports && *d == 0, s);
}

/* ---- rows from x, and y from rows ---- */

template <typename REAL, int TYPE>
static __global__ void __launch_bounds__(FFT_THREADS)
    ema_fft_gather_kernel(const ema_fft_launch a) {
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
        value = load_element<TYPE>(x.data, ema_offset(x, s, d) + (t + i) * x.stride_t);
      turned[i * (TILE + 1) + column] = value;
    }
    __syncthreads();
    for (int i = first; i < TILE; i += ROW_STEP)
      if (r + i < a.row_count && t + column < a.n)
        ((REAL *)a.rows)[(r + i) * a.pitch + t + column] = turned[column * (TILE + 1) + i];
    __syncthreads(); /* before the next unit overwrites it */
  }
}

template <typename REAL, int TYPE>
static __global__ void __launch_bounds__(FFT_THREADS)
    ema_fft_scatter_kernel(const ema_fft_launch a) {
  CUMEGA_SHARED(REAL, turned); /* (TILE steps, TILE + 1) */
  const ema_launch &p = a.whole;
  const int column = threadIdx.x % TILE, first = threadIdx.x / TILE;
  const int64_t tiles = parts_of(p.run.batch.rows, TILE);
  for (int64_t unit = blockIdx.x; unit < parts_of(a.row_count, TILE) * tiles; unit += gridDim.x) {
    const int64_t r = unit / tiles * TILE, t = unit % tiles * TILE;
    for (int i = first; i < TILE; i += ROW_STEP)
      if (r + i < a.row_count && t + column < p.run.batch.rows)
        turned[column * (TILE + 1) + i] = ((const REAL *)a.rows)[(r + i) * a.pitch + t + column];
    __syncthreads();
    ema_sequence s = {};
    int64_t d = 0;
    if (find_row(a, r + column, false, &s, &d)) {
      const int64_t from = ema_offset(p.run.x, s, d), to = ema_offset(p.run.y, s, d);
      const REAL residual = table_of<REAL>(p.run).residual[d];
      for (int i = first; i < TILE; i += ROW_STEP) {
        const int64_t at = to + (t + i) * p.run.y.stride_t;
        if (t + i < s.length) {
          const REAL x = load_element<TYPE>(p.run.x.data, from + (t + i) * p.run.x.stride_t);
          ema_finish<TYPE>(p, at, fma(residual, x, turned[i * (TILE + 1) + column]));
        } else if (t + i < s.rows) {
          store_element<TYPE>(p.run.y.data, at, 0);
        }
      }
    }
    __syncthreads(); /* before the next unit overwrites it */
  }
}

/* ---- the product ---- */

template <typename REAL>
static __global__ void __launch_bounds__(FFT_THREADS)
    ema_fft_multiply_kernel(const ema_fft_launch a) {
  const int64_t pairs = a.n / 2 + 1, parts = parts_of(pairs, PART);
  for (int64_t unit = blockIdx.x; unit < a.row_count * parts; unit += gridDim.x) {
    const int64_t r = unit / parts, from = unit % parts * PART;
    const int64_t d = (a.first_row + r) % a.whole.run.channels;
    pair<REAL> *row = (pair<REAL> *)((REAL *)a.rows + r * a.pitch);
    const pair<REAL> *spectrum = (const pair<REAL> *)a.spectrum + d * pairs;
    for (int64_t f = from + threadIdx.x; f < from + PART && f < pairs; f += FFT_THREADS) {
      const pair<REAL> v = row[f], k = spectrum[f];
      pair<REAL> product;
      product.x = fma(v.x, k.x, -(v.y * k.y));
      product.y = fma(v.x, k.y, v.y * k.x);
      row[f] = product;
    }
  }
}

/* ---- the spectrum of the convolution kernel ---- */

static __global__ void __launch_bounds__(FFT_THREADS) ema_fft_fill_kernel(const ema_fft_table a) {
  for (int64_t i = (int64_t)blockIdx.x * FFT_THREADS + threadIdx.x; i < a.channel_count * a.n;
       i += (int64_t)gridDim.x * FFT_THREADS) {
    const int64_t c = i / a.n, l = i % a.n, from = (a.first_channel + c) * a.heads;
    double k = 0;
    for (int64_t n = 0; n < a.heads && l < a.taps; n++) /* q^0 is 1 even if q is 0 */
      k += a.weight[from + n] * (l == 0 ? 1.0 : math_exp((double)l * a.log_q[from + n]));
    a.rows[c * a.pitch + l] = k;
  }
}

template <typename REAL>
static __global__ void __launch_bounds__(FFT_THREADS) ema_fft_store_kernel(const ema_fft_table a) {
  const int64_t pairs = a.n / 2 + 1;
  for (int64_t i = (int64_t)blockIdx.x * FFT_THREADS + threadIdx.x; i < a.channel_count * pairs;
       i += (int64_t)gridDim.x * FFT_THREADS) {
    const int64_t c = i / pairs, f = i % pairs;
    const pair<double> v = ((const pair<double> *)(a.rows + c * a.pitch))[f];
    pair<REAL> stored;
    stored.x = (REAL)(v.x / (double)a.n);
    stored.y = (REAL)(v.y / (double)a.n);
    ((pair<REAL> *)a.spectrum)[(a.first_channel + c) * pairs + f] = stored;
  }
}

/* ---- launching ---- */

static dim3 fft_grid(int64_t rows, int64_t columns, int64_t per_block) {
  return grid_of(rows, columns, per_block, FFT_MOST_BLOCKS);
}

template <typename REAL, int TYPE>
static cudaError_t launch_gather(const ema_fft_launch &a, cudaStream_t stream) {
  const dim3 grid = fft_grid(parts_of(a.row_count, TILE), parts_of(a.n, TILE), 1);
  return CUMEGA_LAUNCH((ema_fft_gather_kernel<REAL, TYPE>), grid, FFT_THREADS,
                       TILE * (TILE + 1) * sizeof(REAL), stream, a);
}

template <typename REAL, int TYPE>
static cudaError_t launch_scatter(const ema_fft_launch &a, cudaStream_t stream) {
  const dim3 grid =
      fft_grid(parts_of(a.row_count, TILE), parts_of(a.whole.run.batch.rows, TILE), 1);
  return CUMEGA_LAUNCH((ema_fft_scatter_kernel<REAL, TYPE>), grid, FFT_THREADS,
                       TILE * (TILE + 1) * sizeof(REAL), stream, a);
}

cudaError_t ema_fft_gather(const ema_fft_launch *launch, cudaStream_t stream) {
  LAUNCH_BY_CHAIN(&launch->whole, launch_gather, *launch, stream);
}

cudaError_t ema_fft_scatter(const ema_fft_launch *launch, cudaStream_t stream) {
  LAUNCH_BY_CHAIN(&launch->whole, launch_scatter, *launch, stream);
}

cudaError_t ema_fft_multiply(const ema_fft_launch *launch, cudaStream_t stream) {
  const dim3 grid = fft_grid(launch->row_count, parts_of(launch->n / 2 + 1, PART), 1);
  if (launch->whole.run.is_double)
    return CUMEGA_LAUNCH(ema_fft_multiply_kernel<double>, grid, FFT_THREADS, 0, stream, *launch);
  return CUMEGA_LAUNCH(ema_fft_multiply_kernel<float>, grid, FFT_THREADS, 0, stream, *launch);
}

cudaError_t ema_fft_fill_table(const ema_fft_table *table, cudaStream_t stream) {
  const dim3 grid = fft_grid(table->channel_count, table->n, FFT_THREADS);
  return CUMEGA_LAUNCH(ema_fft_fill_kernel, grid, FFT_THREADS, 0, stream, *table);
}

cudaError_t ema_fft_store_table(const ema_fft_table *table, cudaStream_t stream) {
  const dim3 grid = fft_grid(table->channel_count, table->n / 2 + 1, FFT_THREADS);
  if (table->is_double)
    return CUMEGA_LAUNCH(ema_fft_store_kernel<double>, grid, FFT_THREADS, 0, stream, *table);
  return CUMEGA_LAUNCH(ema_fft_store_kernel<float>, grid, FFT_THREADS, 0, stream, *table);
}
