/* The clock and the yardstick on a GPU: events on a stream, and a copy within the GPU's memory. A
 * build without CUDA also has these functions, which report that it has no CUDA. */
#ifndef CUMEGA_BENCHMARKS_DEVICE_H
#define CUMEGA_BENCHMARKS_DEVICE_H

#include <jansson.h>
#include "measure.h"

typedef struct device device;

typedef struct device_options {
  int index;
  int64_t copied; /* bytes that a copy reads; it writes the same number */
  int flushes;    /* writes four times the size of the L2 cache before each call */
  int graph;      /* captures the calls of a sample and times one launch of the graph */
} device_options;

/* NULL if it cannot be made: `why` gives the reason. */
device *device_open(const device_options *options, char *why, size_t size);
void device_close(device *d);

/* Its cudaStream_t, on which everything is timed. */
void *device_stream(device *d);

stopwatch device_stopwatch(device *d);
measured device_copy(device *d);

/* The last error; "" if there was none. */
const char *device_message(const device *d);

/* {"gpu", "compute_capability", "multiprocessors", "l2_bytes", "memory_bytes", "driver_cuda",
 * "runtime_cuda"}; NULL if there is no GPU. */
json_t *device_describe(int index);

#endif
