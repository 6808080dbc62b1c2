/* Capture and replay of SLICED, CHUNKED and FFT on emulated CUDA: refused until prepared, nothing made
 * afterwards, and a graph serves other values whatever its context has computed since. */
#include <cuda_runtime_api.h>
#include <stdlib.h>
#include <string.h>
#define CUMEGA_TESTS_EMA_DEVICE_INSIDE /* the calls themselves, without staging */
#include "ema_harness.h"
#include "emulation.h"
#include "runner.h"

enum { L = 200, B = 2, D = 3, COUNT = L * B * D };

static const struct {
  cumega_ema_algorithm algorithm;
  const char *needs; /* what a capture is told to call before */
} rows[] = {{CUMEGA_EMA_SLICED, "cumega_context_reserve"},
            {CUMEGA_EMA_CHUNKED, "cumega_context_reserve"},
            {CUMEGA_EMA_FFT, "cumega_ema_prepare"}};

typedef struct server {
  cudaStream_t stream;
  cumega_context *ctx;
  cumega_ema *ema;
  cumega_tensor x, y;
  cumega_ema_io io;
} server;

static void must(cudaError_t error) {
  ck_assert_msg(error == cudaSuccess, "%s", cudaGetErrorString(error));
}

static void *device_memory(cumega_context *ctx, int64_t bytes) {
  void *pointer = NULL;
  MUST(ctx, cumega_memory_allocate(ctx, bytes, &pointer));
  return pointer;
}

static void server_open(server *s, cumega_ema_algorithm algorithm) {
  cumega_context_options options = cumega_context_options_default();
  cumega_ema_config config = cumega_ema_config_default(D);
  const int64_t shape[] = {L, B, D};
  const DLDevice device = {kDLCUDA, 0};
  memset(s, 0, sizeof *s);
  must(cudaStreamCreateWithFlags(&s->stream, cudaStreamNonBlocking));
  options.device = device;
  options.stream = s->stream;
  ck_assert_int_eq(cumega_context_create(&options, &s->ctx), CUMEGA_OK);
  MUST(s->ctx, cumega_ema_create(s->ctx, &config, NULL, &s->ema));
  s->io = (cumega_ema_io){.struct_size = sizeof s->io, .algorithm = algorithm};
  s->io.x =
      cumega_tensor_init(&s->x, device_memory(s->ctx, COUNT * 4), device, cumega_float32, 3, shape);
  s->io.y =
      cumega_tensor_init(&s->y, device_memory(s->ctx, COUNT * 4), device, cumega_float32, 3, shape);
}

static void server_close(server *s) {
  MUST(s->ctx, cumega_memory_release(s->ctx, s->x.dl.data, COUNT * 4));
  MUST(s->ctx, cumega_memory_release(s->ctx, s->y.dl.data, COUNT * 4));
  cumega_ema_destroy(s->ema);
  cumega_context_destroy(s->ctx);
  must(cudaStreamDestroy(s->stream));
}

static void give(server *s, uint64_t seed, float *values) {
  for (int i = 0; i < COUNT; i++) values[i] = (float)random_noise(&seed);
  MUST(s->ctx, cumega_memory_write(s->ctx, s->x.dl.data, values, COUNT * 4));
  memset(values, 0xff, COUNT * 4);
  MUST(s->ctx, cumega_memory_write(s->ctx, s->y.dl.data, values, COUNT * 4));
}

static void take(server *s, float *values) {
  must(cudaStreamSynchronize(s->stream));
  MUST(s->ctx, cumega_memory_read(s->ctx, values, s->y.dl.data, COUNT * 4));
}

/* In FFT's cache, plans and spectra of more lengths than it keeps. */
static void compute_other_lengths(server *s) {
  cumega_ema_io io = s->io;
  cumega_tensor x, y;
  for (int64_t length = 20; length < 180; length += 8) {
    io.x = cumega_tensor_init(&x, s->x.dl.data, s->x.dl.device, cumega_float32, 3,
                              (int64_t[]){length, B, D});
    io.y = cumega_tensor_init(&y, s->y.dl.data, s->y.dl.device, cumega_float32, 3,
                              (int64_t[]){length, B, D});
    MUST(s->ctx, cumega_ema_forward(s->ctx, s->ema, &io));
  }
}

static void refused_capture(server *s, const char *needs) {
  cudaGraph_t graph;
  must(cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeThreadLocal));
  ck_assert_int_eq(cumega_ema_forward(s->ctx, s->ema, &s->io), CUMEGA_ERROR_RESOURCE);
  ck_assert_msg(strstr(cumega_context_message(s->ctx), needs) != NULL, "%s",
                cumega_context_message(s->ctx));
  ck_assert_int_eq(cumega_ema_prepare(s->ctx, s->ema, &s->io), CUMEGA_ERROR_STATE);
  must(cudaStreamEndCapture(s->stream, &graph));
  must(cudaGraphDestroy(graph));
}

static cudaGraphExec_t captured(server *s) {
  cudaGraph_t graph;
  cudaGraphExec_t ready;
  must(cudaStreamBeginCapture(s->stream, cudaStreamCaptureModeThreadLocal));
  MUST(s->ctx, cumega_ema_forward(s->ctx, s->ema, &s->io));
  must(cudaStreamEndCapture(s->stream, &graph));
  must(cudaGraphInstantiate(&ready, graph, 0));
  must(cudaGraphDestroy(graph));
  return ready;
}

START_TEST(a_prepared_run_is_captured_and_replayed) {
  server s, plain;
  float found[COUNT], right[COUNT];
  cumega_statistics before = {.struct_size = sizeof before}, after = before;
  emulation_reset();
  server_open(&s, rows[_i].algorithm);
  server_open(&plain, rows[_i].algorithm);
  refused_capture(&s, rows[_i].needs);
  MUST(s.ctx, cumega_ema_prepare(s.ctx, s.ema, &s.io));
  MUST(s.ctx, cumega_context_statistics(s.ctx, &before));
  cudaGraphExec_t graph = captured(&s);
  MUST(s.ctx, cumega_ema_forward(s.ctx, s.ema, &s.io));
  MUST(s.ctx, cumega_context_statistics(s.ctx, &after));
  ck_assert_int_eq(after.bytes_held, before.bytes_held);
  ck_assert_int_eq(after.bytes_peak, before.bytes_peak);
  for (int seed = 0; seed < 5; seed++) {
    emulation_set_schedule(seed == 0 ? EMULATION_FIXED : EMULATION_RANDOM, (uint64_t)seed);
    if (seed == 2 && rows[_i].algorithm == CUMEGA_EMA_FFT) compute_other_lengths(&s);
    give(&s, (uint64_t)seed, found);
    give(&plain, (uint64_t)seed, right);
    must(cudaGraphLaunch(graph, s.stream));
    MUST(plain.ctx, cumega_ema_forward(plain.ctx, plain.ema, &plain.io));
    take(&s, found);
    take(&plain, right);
    ck_assert_mem_eq(found, right, sizeof right);
  }
  must(cudaGraphExecDestroy(graph));
  server_close(&s);
  server_close(&plain);
  const char *text;
  ck_assert_msg(emulation_leaks(&text) == 0, "%s", text);
  ck_assert_msg(emulation_faults(&text) == 0, "%s", text);
  emulation_reset();
}
END_TEST

/* Every call of CUDA and cuFFT fails once, and all from one on: a status, nothing kept, and the context
 * serves again. */
START_TEST(failed_calls_are_statuses_and_leak_nothing) {
  float found[COUNT], right[COUNT];
  int64_t calls, refusals = 0;
  server plain;
  emulation_reset();
  server_open(&plain, rows[_i].algorithm);
  give(&plain, 1, right);
  calls = emulation_call_count();
  MUST(plain.ctx, cumega_ema_forward(plain.ctx, plain.ema, &plain.io));
  calls = emulation_call_count() - calls;
  take(&plain, right);
  server_close(&plain);
  for (int64_t nth = 1; nth <= calls; nth++) {
    for (int for_ever = 0; for_ever < 2; for_ever++) {
      server s;
      server_open(&s, rows[_i].algorithm);
      give(&s, 1, found);
      emulation_fail(nth, cudaErrorMemoryAllocation, for_ever, 0);
      const cumega_status status = cumega_ema_forward(s.ctx, s.ema, &s.io);
      emulation_fail(0, cudaSuccess, 0, 0);
      refusals += status != CUMEGA_OK;
      if (status != CUMEGA_OK) {
        ck_assert_msg(strlen(cumega_context_message(s.ctx)) > 0, "call %d has no sentence",
                      (int)nth);
        (void)cudaGetLastError();
        MUST(s.ctx, cumega_ema_forward(s.ctx, s.ema, &s.io));
      }
      take(&s, found);
      ck_assert_mem_eq(found, right, sizeof right);
      server_close(&s);
    }
  }
  ck_assert_int_gt(refusals, 3);
  const char *text;
  ck_assert_msg(emulation_leaks(&text) == 0, "%s", text);
  emulation_reset();
}
END_TEST

int main(void) {
  Suite *suite = suite_create("emulated_ema_algorithms");
  TCase *tests = add_case(suite, "algorithms", 120);
  tcase_add_loop_test(tests, a_prepared_run_is_captured_and_replayed, 0, 3);
  tcase_add_loop_test(tests, failed_calls_are_statuses_and_leak_nothing, 0, 3);
  return run_suite(suite);
}
