/* Calls are enqueued between two events, so the measured time is that of the device. A call that
 * is shorter than its launch is timed in a graph, which launches all calls of a sample at once. */
#include "device.h"
#include <stdio.h>
#include <stdlib.h>
#include <cuda_runtime_api.h>

#define FLUSH_TIMES 4
#define GRAPH_CALLS 256 /* the most nodes in one graph */

struct device {
  device_options options;
  cudaStream_t stream;
  cudaEvent_t first, last;
  void *from, *to, *flushed;
  size_t flush_bytes;
  int round;
  char message[200];
};

#define CUDA(d, call)                                                                             \
  do {                                                                                            \
    cudaError_t cuda_error = (call);                                                              \
    if (cuda_error != cudaSuccess) return failed(d, #call, cuda_error);                           \
  } while (0)

static int failed(device *d, const char *call, cudaError_t error) {
  snprintf(d->message, sizeof d->message, "%.100s: %s", call, cudaGetErrorString(error));
  (void)cudaGetLastError();
  return 0;
}

static int make(device *d) {
  int cache = 0;
  size_t copied = d->options.copied > 0 ? (size_t)d->options.copied : 1;
  CUDA(d, cudaSetDevice(d->options.index));
  CUDA(d, cudaStreamCreateWithFlags(&d->stream, cudaStreamNonBlocking));
  CUDA(d, cudaEventCreate(&d->first));
  CUDA(d, cudaEventCreate(&d->last));
  CUDA(d, cudaMalloc(&d->from, copied));
  CUDA(d, cudaMalloc(&d->to, copied));
  CUDA(d, cudaMemsetAsync(d->from, 1, copied, d->stream));
  if (!d->options.flushes) return 1;
  CUDA(d, cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, d->options.index));
  d->flush_bytes = (size_t)FLUSH_TIMES * (size_t)(cache > 0 ? cache : 1);
  CUDA(d, cudaMalloc(&d->flushed, d->flush_bytes));
  return 1;
}

device *device_open(const device_options *options, char *why, size_t size) {
  device *d = calloc(1, sizeof *d);
  if (d == NULL) {
    snprintf(why, size, "no memory");
    return NULL;
  }
  d->options = *options;
  if (make(d)) return d;
  snprintf(why, size, "%s", d->message);
  device_close(d);
  return NULL;
}

void device_close(device *d) {
  if (d == NULL) return;
  (void)cudaFree(d->from);
  (void)cudaFree(d->to);
  (void)cudaFree(d->flushed);
  if (d->first != NULL) (void)cudaEventDestroy(d->first);
  if (d->last != NULL) (void)cudaEventDestroy(d->last);
  if (d->stream != NULL) (void)cudaStreamDestroy(d->stream);
  free(d);
}

void *device_stream(device *d) {
  return d->stream;
}

const char *device_message(const device *d) {
  return d->message;
}

static int copy(void *argument) {
  device *d = argument;
  CUDA(d, cudaMemcpyAsync(d->to, d->from, (size_t)d->options.copied, cudaMemcpyDeviceToDevice,
                          d->stream));
  return 1;
}

measured device_copy(device *d) {
  return (measured){copy, d};
}

static int flush(const stopwatch *self) {
  device *d = self->state;
  CUDA(d, cudaMemsetAsync(d->flushed, ++d->round & 0xff, d->flush_bytes, d->stream));
  return 1;
}

static int call_all(const measured *what, int64_t calls) {
  for (int64_t i = 0; i < calls; i++)
    if (!what->call(what->argument)) return 0;
  return 1;
}

static int end_timing(device *d, double *taken) {
  float milliseconds;
  CUDA(d, cudaEventRecord(d->last, d->stream));
  CUDA(d, cudaEventSynchronize(d->last));
  CUDA(d, cudaEventElapsedTime(&milliseconds, d->first, d->last));
  *taken = 1e-3 * (double)milliseconds;
  return 1;
}

static double time_on_stream(const stopwatch *self, const measured *what, int64_t calls) {
  device *d = self->state;
  double taken;
  cudaError_t error = cudaEventRecord(d->first, d->stream);
  if (error != cudaSuccess) return failed(d, "cudaEventRecord", error), -1;
  return call_all(what, calls) && end_timing(d, &taken) ? taken : -1;
}

static int launch_timed(device *d, cudaGraphExec_t graph, int64_t times, double *taken) {
  CUDA(d, cudaEventRecord(d->first, d->stream));
  for (int64_t i = 0; i < times; i++) CUDA(d, cudaGraphLaunch(graph, d->stream));
  return end_timing(d, taken);
}

/* The calls as nodes of a graph; a graph of GRAPH_CALLS is launched as many times as needed. It
 * is launched once beforehand, which brings it to the device, unless caches are flushed: then the
 * flush runs beforehand. */
static double time_as_graph(const stopwatch *self, const measured *what, int64_t calls) {
  device *d = self->state;
  cudaGraph_t graph = NULL;
  cudaGraphExec_t ready = NULL;
  double taken = -1;
  int64_t nodes = calls < GRAPH_CALLS ? calls : GRAPH_CALLS, times = (calls + nodes - 1) / nodes;
  cudaError_t error = cudaStreamBeginCapture(d->stream, cudaStreamCaptureModeThreadLocal);
  int called = error == cudaSuccess && call_all(what, nodes);
  if (error == cudaSuccess) error = cudaStreamEndCapture(d->stream, &graph);
  if (error == cudaSuccess && called) error = cudaGraphInstantiate(&ready, graph, 0);
  if (error == cudaSuccess && called) error = cudaGraphLaunch(ready, d->stream);
  if (error == cudaSuccess && called && self->flush && !self->flush(self)) called = 0;
  if (error != cudaSuccess)
    (void)failed(d, "capture of the calls in a graph", error);
  else if (called && !launch_timed(d, ready, times, &taken))
    taken = -1;
  if (ready != NULL) (void)cudaGraphExecDestroy(ready);
  if (graph != NULL) (void)cudaGraphDestroy(graph);
  return taken < 0 ? taken : taken * (double)calls / (double)(nodes * times);
}

stopwatch device_stopwatch(device *d) {
  return (stopwatch){d->options.graph ? time_as_graph : time_on_stream,
                     d->options.flushes ? flush : NULL, d};
}

json_t *device_describe(int index) {
  struct cudaDeviceProp p;
  int driver = 0, runtime = 0;
  char capability[16];
  if (cudaGetDeviceProperties(&p, index) != cudaSuccess) {
    (void)cudaGetLastError();
    return NULL;
  }
  (void)cudaDriverGetVersion(&driver);
  (void)cudaRuntimeGetVersion(&runtime);
  snprintf(capability, sizeof capability, "%d.%d", p.major, p.minor);
  return json_pack("{s:s, s:s, s:i, s:I, s:I, s:i, s:i}", "gpu", p.name, "compute_capability",
                   capability, "multiprocessors", p.multiProcessorCount, "l2_bytes",
                   (json_int_t)p.l2CacheSize, "memory_bytes", (json_int_t)p.totalGlobalMem,
                   "driver_cuda", driver, "runtime_cuda", runtime);
}
