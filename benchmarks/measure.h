/* How every benchmark measures: two things in turn, in one loop, on a steady clock.
 *
 * The machine of a benchmark is never quiet, and its speed changes within seconds. So what is
 * measured runs in alternation with a copy of the same bytes, and what is compared are the pairs:
 * both halves of a pair met the same moment. */
#ifndef CUMEGA_BENCHMARKS_MEASURE_H
#define CUMEGA_BENCHMARKS_MEASURE_H

#include <stdint.h>

/* Something to call; `argument` is handed to it. */
typedef struct measured {
  void (*call)(void *argument);
  void *argument;
} measured;

/* Seconds per call. The spread is (largest - smallest) / median. */
typedef struct seconds {
  double median, min, spread;
  int64_t calls; /* in one sample: many where a call is short beside the clock */
} seconds;

typedef struct measurement {
  int repeats;
  seconds ours, copy;
  double copy_share; /* median over the pairs of copy / ours: 1 is as fast as the copy */
} measurement;

/* Seconds of a clock that only goes forward. */
double steady_seconds(void);

/* The median of count values, which are sorted by it; count >= 1. */
double median_of(double *values, int count);

/* Warms both up, then takes `repeats` samples of each in alternation. 0 where memory ran out. */
int measure_beside_copy(const measured *ours, const measured *copy, int repeats,
                        measurement *result);

#endif
