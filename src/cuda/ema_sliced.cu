/* SLICED: the check of slices of time, after which a run has the bits of the recurrence
 * (src/ema_slices.h explains why). A sliced run is three launches, so that every kernel for the
 * recurrence runs slices as it runs sequences, without a second version:
 *
 *   1. silent, `warmup` steps for each slice: the state with which it begins
 *   2. the slices themselves: y, and the state with which each ends
 *   3. here, in the order of time: a slice that began with other bits than the slice before it
 *      ended with is computed again; the end of the last slice is the final state
 *
 * A thread of the check has one channel of one sequence. If all slices are right, it reads 2 N
 * numbers per slice, 2 N / steps per element, which is little beside the 8 bytes of an element.
 * Computing a slice again takes as long as the plain recurrence for it. The launches are the same
 * in any case, so a graph can be replayed with other values. All NaNs are equal, since their
 * payload depends on the hardware.
 *
 * Predicted, not measured, at 512 channels, 64K steps and q = 0.75: 32 slices of 2,048 steps and
 * 145 of warm-up: 7 % more reading, and two more launches in 63 us. */
#include "ema_chain.cuh"
#include "ema_choice.cuh"

static __device__ __forceinline__ bool same_bits(float a, float b) {
  return (__float_as_uint(a) == __float_as_uint(b)) | ((a != a) & (b != b));
}
static __device__ __forceinline__ bool same_bits(double a, double b) {
  return (__double_as_longlong(a) == __double_as_longlong(b)) | ((a != a) & (b != b));
}

template <typename REAL, int HEADS, int TYPE>
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
    run_chain<REAL, TYPE>(c, p, s, d, s.length);
  }
  chain_end(c, p, whole, d);
}

template <typename REAL, int HEADS, int TYPE>
static __global__ void __launch_bounds__(EMA_THREADS, 2)
    ema_sliced_check_kernel(const ema_sliced_launch a) {
  const ema_launch &p = a.whole;
  const int64_t groups = parts_of(p.run.channels, EMA_THREADS);
  for (int64_t unit = blockIdx.x; unit < p.run.batch.count * groups; unit += gridDim.x) {
    const int64_t group = unit % groups, d = group * EMA_THREADS + threadIdx.x;
    ema_sequence whole;
    if (ema_begin(p, unit / groups, false, &whole) && d < p.run.channels)
      check_channel<REAL, HEADS, TYPE>(a, whole, d);
  }
}

/* ---- launching ---- */

#define INSTANCE(HEADS)                                                                           \
  do {                                                                                            \
    *kernel = CHAIN_NAME("ema_sliced_check_kernel", HEADS);                                       \
    return CUMEGA_LAUNCH((ema_sliced_check_kernel<REAL, HEADS, TYPE>), grid, EMA_THREADS, 0,      \
                         stream, *launch);                                                        \
  } while (0)

template <typename REAL, int TYPE>
static cudaError_t launch_check(const ema_sliced_launch *launch, cudaStream_t stream,
                                const char **kernel) {
  const dim3 grid = grid_of_units(&launch->whole, EMA_THREADS, 1);
  LAUNCH_BY_HEADS(launch->whole.run.heads);
}

cudaError_t ema_sliced_check_launch(const ema_sliced_launch *launch, cudaStream_t stream,
                                    const char **kernel) {
  LAUNCH_BY_CHAIN(&launch->whole, launch_check, launch, stream, kernel);
}
