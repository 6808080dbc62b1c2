#include "measure.h"
#include <stdlib.h>
#include <time.h>

#define SAMPLE_SECONDS 200e-6 /* a thousand times what reading the clock costs */
#define MAX_CALLS      1000000

double steady_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double median_of(double *values, int count) {
  qsort(values, (size_t)count, sizeof *values, compare);
  return count % 2 ? values[count / 2] : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

static double sample(const measured *what, int64_t calls) {
  double start = steady_seconds();
  for (int64_t i = 0; i < calls; i++) what->call(what->argument);
  return (steady_seconds() - start) / (double)calls;
}

/* Runs it until a sample is long enough; this is its warm-up too. */
static int64_t calls_of(const measured *what) {
  int64_t calls = 1;
  sample(what, 1);
  while (calls < MAX_CALLS && sample(what, calls) * (double)calls < SAMPLE_SECONDS) calls *= 2;
  return calls;
}

static seconds summary(double *samples, int count, int64_t calls) {
  seconds s;
  s.median = median_of(samples, count);
  s.min = samples[0];
  s.spread = (samples[count - 1] - samples[0]) / s.median;
  s.calls = calls;
  return s;
}

int measure_beside_copy(const measured *ours, const measured *copy, int repeats,
                        measurement *result) {
  double *samples = malloc(3 * (size_t)repeats * sizeof *samples);
  if (samples == NULL) return 0;
  double *of_ours = samples, *of_copy = samples + repeats, *shares = samples + 2 * repeats;
  int64_t calls = calls_of(ours), copy_calls = calls_of(copy);
  for (int i = 0; i < repeats; i++) {
    of_copy[i] = sample(copy, copy_calls);
    of_ours[i] = sample(ours, calls);
    shares[i] = of_copy[i] / of_ours[i];
  }
  result->repeats = repeats;
  result->copy_share = median_of(shares, repeats);
  result->ours = summary(of_ours, repeats, calls);
  result->copy = summary(of_copy, repeats, copy_calls);
  free(samples);
  return 1;
}
