#include "measure.h"
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SAMPLE_SECONDS 200e-6 /* a thousand times the cost of reading the clock */
#define MAX_CALLS      1000000

double steady_seconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static double time_by_clock(const stopwatch *self, const measured *what, int64_t calls) {
  (void)self;
  double start = steady_seconds();
  for (int64_t i = 0; i < calls; i++)
    if (!what->call(what->argument)) return -1;
  return steady_seconds() - start;
}

stopwatch stopwatch_steady(void) {
  return (stopwatch){time_by_clock, NULL, NULL};
}

typedef struct flushed {
  int64_t bytes;
  int round;
  unsigned char memory[];
} flushed;

static int flush_memory(const stopwatch *self) {
  flushed *f = self->state;
  memset(f->memory, ++f->round & 0xff, (size_t)f->bytes);
  return 1;
}

int stopwatch_flushing(int64_t bytes, stopwatch *made) {
  *made = (stopwatch){time_by_clock, flush_memory, NULL};
  flushed *f = malloc(sizeof *f + (size_t)bytes);
  if (f == NULL) return 0;
  f->bytes = bytes;
  f->round = 0;
  made->state = f;
  return 1;
}

void stopwatch_free(stopwatch *made) {
  free(made->state);
  made->state = NULL;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

double median_of(double *values, int count) {
  qsort(values, (size_t)count, sizeof *values, compare);
  return count % 2 ? values[count / 2] : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

/* Seconds per call; negative if one failed. */
static double sample(const stopwatch *watch, const measured *what, int64_t calls) {
  if (watch->flush && !watch->flush(watch)) return -1;
  return watch->time(watch, what, calls) / (double)calls;
}

/* Runs it until a sample is long enough, which also warms it up. Negative if a call failed. */
static int64_t calls_of(const stopwatch *watch, const measured *what) {
  int64_t calls = 1;
  double spent = sample(watch, what, 1);
  while (spent >= 0 && !watch->flush && calls < MAX_CALLS) {
    spent = sample(watch, what, calls);
    if (spent * (double)calls >= SAMPLE_SECONDS) break;
    calls *= 2;
  }
  return spent < 0 ? -1 : calls;
}

static timing summary(double *samples, int count, int64_t calls) {
  timing s;
  s.median = median_of(samples, count);
  s.min = samples[0];
  s.spread = (samples[count - 1] - samples[0]) / s.median;
  s.calls = calls;
  return s;
}

int measure_beside_copy(const stopwatch *watch, const measured *ours, const measured *copy,
                        int repeats, measurement *result) {
  double *samples = malloc(3 * (size_t)repeats * sizeof *samples);
  if (samples == NULL) return 0;
  double *of_ours = samples, *of_copy = samples + repeats, *shares = samples + 2 * repeats;
  int64_t calls = calls_of(watch, ours), copy_calls = calls_of(watch, copy);
  int fine = calls > 0 && copy_calls > 0;
  for (int i = 0; fine && i < repeats; i++) {
    of_copy[i] = sample(watch, copy, copy_calls);
    of_ours[i] = sample(watch, ours, calls);
    shares[i] = of_copy[i] / of_ours[i];
    fine = of_copy[i] >= 0 && of_ours[i] >= 0;
  }
  if (fine) {
    result->repeats = repeats;
    result->copy_share = median_of(shares, repeats);
    result->ours = summary(of_ours, repeats, calls);
    result->copy = summary(of_copy, repeats, copy_calls);
  }
  free(samples);
  return fine;
}
