/* One thread of a server. It has its own contexts, shares the weights, and takes one request
 * after the other: prefills of uneven lengths, and steps of sequences whose states are in a
 * pool. */
#ifndef CUMEGA_BENCHMARKS_LOAD_WORKER_H
#define CUMEGA_BENCHMARKS_LOAD_WORKER_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <cumega/cumega.h>

#define LOAD_SLOTS 61 /* states in a thread's pool: a prime, so that any stride visits all */

#define LOAD_MOST_BATCH 32

/* Latencies by size: 16 buckets for each power of two of nanoseconds. */
#define LOAD_BUCKETS (64 * 16)

typedef struct load_histogram {
  int64_t count;
  int64_t buckets[LOAD_BUCKETS];
} load_histogram;

enum load_kind { LOAD_PREFILL, LOAD_STEP, LOAD_KINDS };

/* What all threads share. */
typedef struct load_plan {
  DLDevice device;
  cumega_allocator allocator;
  int contexts; /* for one thread */
  int64_t channels, heads, most_length, most_batch;
  uint64_t seed;
  int64_t calls; /* for one thread; 0: until stop */
  int leaks;     /* every call leaks some bytes, to test that leaks are found */
  int64_t
      renewal; /* number of calls before a context and the thread's own weights are made again */
  const cumega_ema *ema;
  const float *expected; /* the output of the fixed request; NULL: compute it */
  atomic_int stop;
} load_plan;

typedef struct load_worker {
  load_plan *plan;
  int index;
  pthread_t thread;
  atomic_llong calls;
  int64_t tokens, checked;
  load_histogram latencies[LOAD_KINDS];
  char failure[400]; /* "" if nothing failed */
} load_worker;

#define LOAD_FIXED_LENGTH 7

/* The thread's function; argument is the worker. */
void *load_work(void *argument);

/* Runs the fixed request on ctx into y, LOAD_FIXED_LENGTH * channels values. */
cumega_status load_fixed_request(const load_plan *plan, cumega_context *ctx, const cumega_ema *ema,
                                 float *y);

/* The latency in seconds that the given share of the calls did not exceed: the upper end of its
 * bucket. */
double load_percentile(const load_histogram *h, double share);
void load_histogram_add(load_histogram *into, const load_histogram *from);

#endif
