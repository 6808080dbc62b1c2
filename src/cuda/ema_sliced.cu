/* Slices of time with the chain's bits: the check (src/ema_slices.h says why slices may be trusted
 * after it). A sliced run is three launches, so that every kernel of the chain does slices as it does
 * sequences, and none is written twice:
 *
 *   1. silent, `warmup` steps for each slice: the state with which it begins
 *   2. the slices themselves: y, and the state with which each ends
 *   3. here, in the order of time: a slice that began with other bits than the one before it ended
 *      with is computed again; the last slice's end is the final state
 *
 * A thread of the check is one channel of one sequence. Where all is well it reads 2 N numbers per
 * slice, which is 2 N / steps per element: nothing beside 8 bytes. A slice that has to be computed
 * again costs the plain chain's time for it, and the host hears nothing of it: the launches are the
 * same, so a graph may be replayed on other values. NaN counts as equal to NaN, since its payload is
 * the hardware's and the bits of results are compared in the same way.
 *
 * Predicted, not measured, at 512 channels, 64K steps and q = 0.75: 32 slices of 2,048 steps and 145
 * to warm up: 7 % more reading, and two more launches on 63 us. */
#include "ema_chain.cuh"

#define THREADS     128
#define MOST_BLOCKS CUMEGA_MOST_BLOCKS((int64_t)1 << 20)

static __device__ __forceinline__ bool same_bits(float a, float b) {
  return (__float_as_uint(a) == __float_as_uint(b)) | ((a != a) & (b != b));
}
static __device__ __forceinline__ bool same_bits(double a, double b) {
  return (__double_as_longlong(a) == __double_as_longlong(b)) | ((a != a) & (b != b));
}

template <typename REAL, int HEADS>
static __device__ __forceinline__ void check_channel(const ema_sliced_launch &a,
                                                     const ema_sequence &whole, int64_t d) {
  const ema_launch &p = a.whole;
  const int64_t row = whole.b * a.slices.count;
  register_chain<REAL, HEADS> c;
  chain_begin(c, p, whole, d);
  load_states(p, a.end, row, d, c.h);
  for (int64_t slice = 1; slice * a.slices.steps < whole.length; slice++) {
    REAL began[HEADS];
    bool right = true;
    load_states(p, a.begin, row + slice, d, began);
#pragma unroll
    for (int n = 0; n < HEADS; n++) right = right && same_bits(began[n], c.h[n]);
    if (right) {
      load_states(p, a.end, row + slice, d, c.h);
      continue;
    }
    ema_sequence s = whole;
    ema_cut(a.slices, slice, &s);
    run_chain<REAL>(c, p, s, d, s.length);
  }
  chain_end(c, p, whole, d);
}

template <typename REAL, int HEADS>
static __global__ void __launch_bounds__(THREADS, 2)
    ema_sliced_check_kernel(const ema_sliced_launch a) {
  const ema_launch &p = a.whole;
  const int64_t groups = (p.channels + THREADS - 1) / THREADS;
  for (int64_t unit = blockIdx.x; unit < p.run.B * groups; unit += gridDim.x) {
    const int64_t group = unit % groups, d = group * THREADS + threadIdx.x;
    ema_sequence whole;
    if (ema_begin(p, unit / groups, false, &whole) && d < p.channels)
      check_channel<REAL, HEADS>(a, whole, d);
  }
}

/* The name has no space (cumega_context_kernels). */
#define LAUNCH(REAL, HEADS)                                                                        \
  do {                                                                                             \
    *kernel = "ema_sliced_check_kernel<" #REAL "," #HEADS ">";                                     \
    return CUMEGA_LAUNCH((ema_sliced_check_kernel<REAL, HEADS>), grid, dim3(THREADS), 0, stream,   \
                         *launch);                                                                 \
  } while (0)

#define LAUNCH_BY_HEADS(REAL)                                                                      \
  if (heads > 8) LAUNCH(REAL, 16);                                                                 \
  if (heads > 4) LAUNCH(REAL, 8);                                                                  \
  if (heads > 2) LAUNCH(REAL, 4);                                                                  \
  if (heads > 1) LAUNCH(REAL, 2);                                                                  \
  LAUNCH(REAL, 1)

cudaError_t ema_sliced_check_launch(const ema_sliced_launch *launch, cudaStream_t stream,
                                    const char **kernel) {
  const int64_t groups = (launch->whole.channels + THREADS - 1) / THREADS;
  const int64_t heads = launch->whole.heads, B = launch->whole.run.B;
  const dim3 grid((unsigned)(B < MOST_BLOCKS / groups ? B * groups : MOST_BLOCKS));
  if (launch->whole.is_double) {
    LAUNCH_BY_HEADS(double);
  }
  LAUNCH_BY_HEADS(float);
}
