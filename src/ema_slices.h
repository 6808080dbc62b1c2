/* SLICED, a scan in slices of time with warm-up: how one long sequence of few channels keeps many
 * threads busy and still has the bits of the recurrence.
 *
 * The recurrence forgets. Two recurrences that are fed the same inputs from different states
 * differ by q^t times their first difference. Once that is below half of the last place, rounding
 * soon makes them equal in every bit, unless the input repeats; from then on they stay equal. A
 * slice therefore starts `warmup` steps before its first one, from zero and without output, and
 * almost always has the right bits when it gets there. Nothing relies on that: afterwards the
 * state with which each slice started is compared with the state in which the slice before it
 * ended, bit by bit (all NaNs are equal), and where they differ the slice is computed again. So
 * slices never change the bits, only the time, which in the worst case, as after a NaN, is that
 * of the plain recurrence and the slices together.
 *
 * The longest warm-up that 2,000 trials on noise needed in float32: at q = 0.75 89 steps, at 0.9
 * 242, at 0.99 2,658, at 0.999 33,339: 26 to 33 times 1 / (1 - q). A float64 state has 53 bits to
 * agree in instead of 24. */
#ifndef CUMEGA_SRC_EMA_SLICES_H
#define CUMEGA_SRC_EMA_SLICES_H

#include <cumega/ema.h>
#include "ema_run.h"

#define EMA_WARMUP_F32 36.0 /* times 1 / (1 - q) of the slowest head */
#define EMA_WARMUP_F64 76.0

/* A slice is worth it from this many times its warm-up: a quarter more work at most. */
#define EMA_SLICE_WORTH 4

#define EMA_SLICE_ROUNDING 64

static inline int64_t ema_round_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

/* The slices of a run that wants `wanted` of them per sequence. DEFAULT takes them where they
 * pay, SLICED as soon as there are two steps. Values have no influence. */
static inline ema_slices ema_slices_of(const ema_run *run, int64_t wanted) {
  const ema_slices whole = {1, run->batch.rows, 0};
  const int is_forced = run->algorithm == CUMEGA_EMA_SLICED;
  if (!is_forced && run->algorithm != CUMEGA_EMA_DEFAULT) return whole;
  if (run->batch.rows < 2 || run->truncated) return whole;
  if (is_forced && wanted < 2) wanted = 2;
  if (wanted < 2 || (!is_forced && run->x.data == run->y.data)) return whole;
  int64_t steps = (run->batch.rows + wanted - 1) / wanted, warmup = run->warmup;
  if (warmup > run->batch.rows) warmup = run->batch.rows;
  if (is_forced) {
    if (steps < warmup) steps = warmup;
    if (steps > (run->batch.rows + 1) / 2) steps = (run->batch.rows + 1) / 2;
    if (warmup > steps) warmup = steps;
  } else {
    warmup = ema_round_up(warmup, EMA_SLICE_ROUNDING); /* slices begin aligned as x is */
    if (warmup > run->batch.rows / EMA_SLICE_WORTH) return whole;
    if (steps < warmup * EMA_SLICE_WORTH) steps = warmup * EMA_SLICE_WORTH;
    steps = ema_round_up(steps, EMA_SLICE_ROUNDING);
  }
  const ema_slices slices = {(run->batch.rows + steps - 1) / steps, steps, warmup};
  return slices.count < 2 ? whole : slices;
}

#endif
