/* How every benchmark measures: two things in turn, in one loop.
 *
 * A machine is never quiet during a benchmark, and its speed changes within seconds. So the
 * measured operation alternates with a copy of the same bytes, and the pairs are compared: both
 * halves of a pair ran under nearly the same conditions. */
#ifndef CUMEGA_BENCHMARKS_MEASURE_H
#define CUMEGA_BENCHMARKS_MEASURE_H

#include <stdint.h>

/* Something to call, with `argument`. Returns 0 if it failed. */
typedef struct measured {
  int (*call)(void *argument);
  void *argument;
} measured;

/* What measures the time: a steady clock, or the events of a device. */
typedef struct stopwatch {
  /* The seconds that `calls` calls take together; negative if one failed. */
  double (*time)(const struct stopwatch *self, const measured *what, int64_t calls);
  /* Evicts the measured data from the caches; NULL: caches stay as warm as the calls leave them.
   * Returns 0 if it failed. */
  int (*flush)(const struct stopwatch *self);
  void *state;
} stopwatch;

/* Seconds per call. The spread is (largest - smallest) / median. */
typedef struct timing {
  double median, min, spread;
  int64_t calls; /* in one sample: many if a call is short for the clock */
} timing;

typedef struct measurement {
  int repeats;
  timing ours, copy;
  double copy_share; /* median over the pairs of copy / operation: 1 is as fast as the copy */
} measurement;

/* Seconds of a clock that only goes forward. */
double steady_seconds(void);

/* The steady clock, caches warm. */
stopwatch stopwatch_steady(void);

/* The same, but `bytes` of memory are written before each call. 0 if there is no memory. */
int stopwatch_flushing(int64_t bytes, stopwatch *made);
void stopwatch_free(stopwatch *made);

/* The median of count values, count >= 1; sorts the values. */
double median_of(double *values, int count);

/* Warms both up, then takes `repeats` samples of each in alternation. A sample is one call if the
 * watch flushes. Returns 0 if a call failed or memory ran out. */
int measure_beside_copy(const stopwatch *watch, const measured *ours, const measured *copy,
                        int repeats, measurement *result);

#endif
