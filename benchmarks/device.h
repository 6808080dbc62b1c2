/* The clock and the yardstick on a GPU: events on a stream, and a copy within its memory. A build
 * without CUDA has them too, and they say that it has no CUDA. */
#ifndef CUMEGA_BENCHMARKS_DEVICE_H
#define CUMEGA_BENCHMARKS_DEVICE_H

#include <jansson.h>
#include "measure.h"

typedef struct device device;

typedef struct device_options {
  int index;
  int64_t copied; /* bytes that a copy reads, and as many it writes */
  int flushes;    /* four times the L2 cache are written before each call */
  int graph;      /* the calls of a sample are captured, and one launch of the graph is timed */
} device_options;

/* NULL where it cannot be made: `why` says so. */
device *device_open(const device_options *options, char *why, size_t size);
void device_close(device *d);

/* A cudaStream_t of its own, on which everything is timed. */
void *device_stream(device *d);

stopwatch device_stopwatch(device *d);
measured device_copy(device *d);

/* What went wrong last; "" where nothing did. */
const char *device_message(const device *d);

/* {"gpu", "compute_capability", "multiprocessors", "l2_bytes", "memory_bytes", "driver_cuda",
 * "runtime_cuda"}; NULL where there is none. */
json_t *device_describe(int index);

#endif
