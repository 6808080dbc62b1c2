/* How every benchmark measures: two things in turn, in one loop.
 *
 * The machine of a benchmark is never quiet, and its speed changes within seconds. So what is
 * measured runs in alternation with a copy of the same bytes, and what is compared are the pairs:
 * both halves of a pair met the same moment. */
#ifndef CUMEGA_BENCHMARKS_MEASURE_H
#define CUMEGA_BENCHMARKS_MEASURE_H

#include <stdint.h>

/* Something to call; `argument` is handed to it. Returns 0 where it failed. */
typedef struct measured {
  int (*call)(void *argument);
  void *argument;
} measured;

/* What takes the time: a steady clock, or the events of a device. */
typedef struct stopwatch {
  /* Seconds that `calls` calls take together; negative where one failed. */
  double (*time)(const struct stopwatch *self, const measured *what, int64_t calls);
  /* Leaves caches without anything of ours; NULL: caches stay as warm as the calls leave them.
   * Returns 0 where it failed. */
  int (*flush)(const struct stopwatch *self);
  void *state;
} stopwatch;

/* Seconds per call. The spread is (largest - smallest) / median. */
typedef struct timing {
  double median, min, spread;
  int64_t calls; /* in one sample: many where a call is short beside the clock */
} timing;

typedef struct measurement {
  int repeats;
  timing ours, copy;
  double copy_share; /* median over the pairs of copy / ours: 1 is as fast as the copy */
} measurement;

/* Seconds of a clock that only goes forward. */
double steady_seconds(void);

/* The steady clock, caches warm. */
stopwatch stopwatch_steady(void);

/* The same, and every call is preceded by writing to `bytes` of memory. 0 where there is none. */
int stopwatch_flushing(int64_t bytes, stopwatch *made);
void stopwatch_free(stopwatch *made);

/* The median of count values, which are sorted by it; count >= 1. */
double median_of(double *values, int count);

/* Warms both up, then takes `repeats` samples of each in alternation. A sample is one call if the
 * watch flushes. Returns 0 if a call failed or memory ran out. */
int measure_beside_copy(const stopwatch *watch, const measured *ours, const measured *copy,
                        int repeats, measurement *result);

#endif
