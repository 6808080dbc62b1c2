/* Slices of time: how one long sequence of few channels keeps many threads busy, and has the bits of
 * the plain chain.
 *
 * The recurrence forgets. Two chains that are fed the same inputs from different states differ by
 * q^t times their first difference, and once that is below half of the last place, rounding soon
 * makes them equal in every bit, unless the input repeats; from then on they stay so. A slice of
 * time therefore begins `warmup` steps before its first one, from zero, without output, and mostly
 * has the bits of the chain when it gets there. Nobody relies on it: afterwards the state with
 * which each slice began is compared with the one in which the slice before it ended, bit by bit
 * (all NaNs being equal), and where they differ the slice is computed again from that one. So bits
 * never depend on slices; only time does, and in the worst case, as after a NaN, it is that of the
 * plain chain and the slices together.
 *
 * How many steps it takes, of 2,000 trials on noise in float32: at q = 0.75 at most 89, at 0.9 242,
 * at 0.99 2,658, at 0.999 33,339: 26 to 33 times 1 / (1 - q). A float64 state has 53 bits to agree
 * in instead of 24. */
#ifndef CUMEGA_SRC_EMA_SLICES_H
#define CUMEGA_SRC_EMA_SLICES_H

#include "ema.h"

#define EMA_WARMUP_F32 36.0 /* times 1 / (1 - q) of the slowest head */
#define EMA_WARMUP_F64 76.0

/* A slice of so many times its warm-up is worth it: a quarter more work at most. */
#define EMA_SLICE_WORTH 4

#define EMA_SLICE_ROUNDING 64

static inline int64_t ema_round_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

/* The slices of a run that would like `wanted` of them for each sequence. RECURRENT takes them where
 * they pay, SLICED as soon as there are two steps; no value decides. */
static inline ema_slices ema_slices_of(const cumega_ema *ema, const ema_run *run, int64_t wanted) {
  const ema_slices whole = {1, run->L, 0};
  const int is_forced = run->algorithm == CUMEGA_EMA_SLICED;
  if (!is_forced && run->algorithm != CUMEGA_EMA_RECURRENT) return whole;
  if (run->L < 2 || run->truncated) return whole;
  if (is_forced && wanted < 2) wanted = 2;
  if (wanted < 2 || (!is_forced && run->x.data == run->y.data)) return whole;
  int64_t steps = (run->L + wanted - 1) / wanted, warmup = ema->tables.warmup;
  if (warmup > run->L) warmup = run->L;
  if (is_forced) {
    if (steps < warmup) steps = warmup;
    if (steps > (run->L + 1) / 2) steps = (run->L + 1) / 2;
    if (warmup > steps) warmup = steps;
  } else {
    warmup = ema_round_up(warmup, EMA_SLICE_ROUNDING); /* slices begin aligned as x is */
    if (warmup > run->L / EMA_SLICE_WORTH) return whole;
    if (steps < warmup * EMA_SLICE_WORTH) steps = warmup * EMA_SLICE_WORTH;
    steps = ema_round_up(steps, EMA_SLICE_ROUNDING);
  }
  const ema_slices slices = {(run->L + steps - 1) / steps, steps, warmup};
  return slices.count < 2 ? whole : slices;
}

#endif
