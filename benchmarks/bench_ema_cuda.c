/* The EMA on a GPU: each row is first compared with the CPU's bits, then timed by the device's own clock in
 * alternation with a device-to-device copy of the same bytes. On emulated CUDA it shows that it works; its
 * times mean nothing there. */
#include <cuda_runtime_api.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cumega/cumega.h>
#include "measure.h"

#define MOST_SAMPLES 101

#define CUDA(call)                                                                                 \
  do {                                                                                             \
    cudaError_t cuda_error = (call);                                                               \
    if (cuda_error != cudaSuccess) {                                                               \
      fprintf(stderr, "bench_ema_cuda: %s: %s\n", #call, cudaGetErrorString(cuda_error));          \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)
#define CUMEGA(ctx, call)                                                                          \
  do {                                                                                             \
    if ((call) != CUMEGA_OK) {                                                                     \
      fprintf(stderr, "bench_ema_cuda: %s: %s\n", #call, cumega_context_message(ctx));             \
      exit(1);                                                                                     \
    }                                                                                              \
  } while (0)

/* L 0: a step of B sequences with their states. */
typedef struct row {
  int64_t L, B, D, N;
  cumega_activation activation;
} row;

/* Data that is several times a GPU's cache; few channels; steps of large and of small batches. */
static const row rows[] = {
    {2048, 8, 4096, 4, CUMEGA_ACTIVATION_RELU},  {2048, 8, 4096, 4, CUMEGA_ACTIVATION_SWISH},
    {2048, 8, 512, 4, CUMEGA_ACTIVATION_RELU},   {2048, 8, 512, 4, CUMEGA_ACTIVATION_SWISH},
    {2048, 2, 4096, 16, CUMEGA_ACTIVATION_RELU}, {65536, 1, 512, 4, CUMEGA_ACTIVATION_RELU},
    {0, 16384, 512, 4, CUMEGA_ACTIVATION_RELU},  {0, 8, 512, 4, CUMEGA_ACTIVATION_RELU},
};
static const row tiny_rows[] = {
    {33, 2, 64, 4, CUMEGA_ACTIVATION_RELU},
    {7, 3, 5, 2, CUMEGA_ACTIVATION_SWISH},
    {0, 3, 16, 4, CUMEGA_ACTIVATION_RELU},
};

typedef struct arrays {
  void *x, *y, *initial, *final;
} arrays;

typedef struct bench {
  row set;
  cumega_context *ctx;
  cumega_ema *ema;
  cudaStream_t stream;
  cudaEvent_t begin, end;
  arrays device;
  size_t bytes, state_bytes;
  cumega_tensor x, y, initial, final;
  cumega_ema_io io;
} bench;

static void describe(bench *b, const arrays *at, DLDevice device) {
  const int64_t shape[] = {b->set.L > 0 ? b->set.L : 1, b->set.B, b->set.D};
  const int64_t states[] = {b->set.B, b->set.D, b->set.N};
  b->io = (cumega_ema_io){.struct_size = sizeof b->io};
  b->io.x = cumega_tensor_init(&b->x, at->x, device, cumega_float32, 3, shape);
  b->io.y = cumega_tensor_init(&b->y, at->y, device, cumega_float32, 3, shape);
  if (b->set.L > 0) return;
  b->io.initial_state =
      cumega_tensor_init(&b->initial, at->initial, device, cumega_float32, 3, states);
  b->io.final_state = cumega_tensor_init(&b->final, at->final, device, cumega_float32, 3, states);
}

static void run(cumega_context *ctx, const cumega_ema *ema, const bench *b) {
  CUMEGA(ctx,
         b->set.L > 0 ? cumega_ema_forward(ctx, ema, &b->io) : cumega_ema_step(ctx, ema, &b->io));
}

static void *host_memory(size_t bytes) {
  float *values = malloc(bytes + 1);
  if (values == NULL) exit(1);
  for (size_t i = 0; i < bytes / sizeof *values; i++)
    values[i] = (float)((int64_t)(i * 2654435761u % 251) - 125) / 64;
  return values;
}

static cumega_ema *make_ema(cumega_context *ctx, const row *set) {
  cumega_ema_config config = cumega_ema_config_default(set->D);
  cumega_ema *ema;
  config.num_heads = set->N;
  config.activation = set->activation;
  CUMEGA(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
  return ema;
}

/* Whether the device's answer has the CPU's bits. */
static int verify(bench *b) {
  arrays host = {host_memory(b->bytes), host_memory(b->bytes), host_memory(b->state_bytes),
                 host_memory(b->state_bytes)};
  char *found = host_memory(b->bytes + b->state_bytes);
  cumega_context *cpu;
  CUMEGA(NULL, cumega_context_create(NULL, &cpu));
  cumega_ema *ema = make_ema(cpu, &b->set);
  describe(b, &host, cumega_cpu);
  run(cpu, ema, b);
  CUDA(cudaMemcpy(b->device.x, host.x, b->bytes, cudaMemcpyHostToDevice));
  if (b->state_bytes > 0)
    CUDA(cudaMemcpy(b->device.initial, host.initial, b->state_bytes, cudaMemcpyHostToDevice));
  describe(b, &b->device, (DLDevice){kDLCUDA, 0});
  run(b->ctx, b->ema, b);
  CUMEGA(b->ctx, cumega_context_synchronize(b->ctx));
  CUDA(cudaMemcpy(found, b->device.y, b->bytes, cudaMemcpyDeviceToHost));
  if (b->state_bytes > 0)
    CUDA(cudaMemcpy(found + b->bytes, b->device.final, b->state_bytes, cudaMemcpyDeviceToHost));
  const int same = memcmp(found, host.y, b->bytes) == 0 &&
                   memcmp(found + b->bytes, host.final, b->state_bytes) == 0;
  cumega_ema_destroy(ema);
  cumega_context_destroy(cpu);
  void *all[] = {host.x, host.y, host.initial, host.final, found};
  for (int i = 0; i < 5; i++) free(all[i]);
  return same;
}

static void copy(bench *b) {
  CUDA(cudaMemcpyAsync(b->device.y, b->device.x, b->bytes, cudaMemcpyDeviceToDevice, b->stream));
  if (b->state_bytes > 0)
    CUDA(cudaMemcpyAsync(b->device.final, b->device.initial, b->state_bytes,
                         cudaMemcpyDeviceToDevice, b->stream));
}

/* Seconds a call, by the device's clock, of `calls` of them in a row. */
static double sample(bench *b, int is_copy, int calls) {
  float milliseconds = 0;
  CUDA(cudaEventRecord(b->begin, b->stream));
  for (int i = 0; i < calls; i++) {
    if (is_copy)
      copy(b);
    else
      run(b->ctx, b->ema, b);
  }
  CUDA(cudaEventRecord(b->end, b->stream));
  CUDA(cudaEventSynchronize(b->end));
  CUDA(cudaEventElapsedTime(&milliseconds, b->begin, b->end));
  return (double)milliseconds * 1e-3 / calls;
}

static json_t *measure(bench *b, int repeats) {
  double ours[MOST_SAMPLES], copies[MOST_SAMPLES], shares[MOST_SAMPLES];
  const int calls = b->bytes < ((size_t)1 << 24) && repeats > 2 ? 100 : 1;
  for (int warm = 0; warm < 2; warm++) sample(b, warm, calls);
  for (int i = 0; i < repeats; i++) {
    copies[i] = sample(b, 1, calls);
    ours[i] = sample(b, 0, calls);
    shares[i] = copies[i] / ours[i];
  }
  const double median = median_of(ours, repeats), copied = median_of(copies, repeats);
  const double spread = (ours[repeats - 1] - ours[0]) / median;
  const double share = median_of(shares, repeats);
  const double moved = 2.0 * (double)(b->bytes + b->state_bytes);
  printf("%-7s %6lld,%5lld,%5lld N %2lld %-8s %10.2f us, spread %4.1f %%, %7.1f GB/s, %5.1f %% of "
         "a copy (%.1f GB/s) %s\n",
         b->set.L > 0 ? "forward" : "step", (long long)b->set.L, (long long)b->set.B,
         (long long)b->set.D, (long long)b->set.N, cumega_activation_name(b->set.activation),
         median * 1e6, 100 * spread, 1e-9 * moved / median, 100 * share, 1e-9 * moved / copied,
         cumega_context_kernels(b->ctx));
  return json_pack("{s:s, s:[I,I,I], s:I, s:s, s:f, s:f, s:f, s:f, s:f, s:i, s:s}", "op",
                   b->set.L > 0 ? "ema_forward" : "ema_step", "shape", (json_int_t)b->set.L,
                   (json_int_t)b->set.B, (json_int_t)b->set.D, "heads", (json_int_t)b->set.N,
                   "activation", cumega_activation_name(b->set.activation), "seconds", median,
                   "spread", spread, "copy_seconds", copied, "copy_share", share, "gb_per_s",
                   1e-9 * moved / median, "repeats", repeats, "kernels",
                   cumega_context_kernels(b->ctx));
}

static json_t *bench_row(const row *set, int repeats) {
  bench b = {.set = *set};
  cumega_context_options options = cumega_context_options_default();
  int64_t scratch;
  b.bytes = (size_t)((set->L > 0 ? set->L : 1) * set->B * set->D) * sizeof(float);
  b.state_bytes = set->L > 0 ? 0 : (size_t)(set->B * set->D * set->N) * sizeof(float);
  CUDA(cudaStreamCreateWithFlags(&b.stream, cudaStreamNonBlocking));
  CUDA(cudaEventCreate(&b.begin));
  CUDA(cudaEventCreate(&b.end));
  void **memory[] = {&b.device.x, &b.device.y, &b.device.initial, &b.device.final};
  for (int i = 0; i < 4; i++) CUDA(cudaMalloc(memory[i], i < 2 ? b.bytes : b.state_bytes));
  options.device = (DLDevice){kDLCUDA, 0};
  options.stream = b.stream;
  CUMEGA(NULL, cumega_context_create(&options, &b.ctx));
  b.ema = make_ema(b.ctx, set);
  describe(&b, &b.device, options.device);
  CUMEGA(b.ctx, cumega_ema_workspace_size(b.ctx, b.ema, &b.io, &scratch));
  CUMEGA(b.ctx, cumega_context_reserve(b.ctx, scratch));
  json_t *result = NULL;
  if (verify(&b))
    result = measure(&b, repeats);
  else
    fprintf(stderr, "bench_ema_cuda: the bits are not the CPU's\n");
  cumega_ema_destroy(b.ema);
  cumega_context_destroy(b.ctx);
  for (int i = 0; i < 4; i++) CUDA(cudaFree(*memory[i]));
  CUDA(cudaEventDestroy(b.begin));
  CUDA(cudaEventDestroy(b.end));
  CUDA(cudaStreamDestroy(b.stream));
  return result;
}

static json_t *about(const char *commit) {
  struct cudaDeviceProp device;
  int driver = 0, runtime = 0;
  CUDA(cudaGetDeviceProperties(&device, 0));
  CUDA(cudaDriverGetVersion(&driver));
  CUDA(cudaRuntimeGetVersion(&runtime));
  printf("%s, driver's CUDA %d, runtime %d, cumega %s\n", device.name, driver, runtime,
         cumega_version_string());
  return json_pack("{s:s, s:i, s:i, s:s, s:s}", "device", device.name, "driver_cuda", driver,
                   "runtime_cuda", runtime, "cumega", cumega_version_string(), "commit", commit);
}

int main(int argc, char **argv) {
  const char *json = NULL, *commit = "unknown";
  int is_tiny = 0, failed = 0;
  for (int i = 1; i < argc; i++) {
    if (strcmp(argv[i], "--tiny") == 0)
      is_tiny = 1;
    else if (strcmp(argv[i], "--json") == 0 && i + 1 < argc)
      json = argv[++i];
    else if (strcmp(argv[i], "--commit") == 0 && i + 1 < argc)
      commit = argv[++i];
    else
      return fprintf(stderr, "usage: bench_ema_cuda [--tiny] [--json FILE] [--commit TEXT]\n"), 2;
  }
  json_t *machine = about(commit), *results = json_array();
  const row *set = is_tiny ? tiny_rows : rows;
  const int count = (int)(is_tiny ? sizeof tiny_rows : sizeof rows) / (int)sizeof(row);
  for (int i = 0; i < count; i++) {
    json_t *result = bench_row(&set[i], is_tiny ? 2 : 21);
    failed |= result == NULL;
    if (result != NULL) json_array_append_new(results, result);
  }
  json_t *all = json_pack("{s:o, s:o}", "machine", machine, "results", results);
  if (json != NULL && json_dump_file(all, json, JSON_INDENT(1)) != 0) failed = 1;
  json_decref(all);
  return failed;
}
