/* Every fallible call of every public function fails in turn (emulated_faults.h says how, and what has to
 * hold then). An operation adds its calls as lines of `scenarios`. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "emulated_faults.h"
#include "runner.h"

/* ---- contexts ---- */

static cumega_status create_context(world *w) {
  cumega_status status;
  w->ctx = emulated_context(&w->ledger, NULL, &status);
  return status;
}

static cumega_status create_context_on_stream(world *w) {
  cumega_status status;
  w->ctx = emulated_context(&w->ledger, w->stream, &status);
  return status;
}

static cumega_status destroy_all(world *w) {
  cumega_ema_destroy(w->ema);
  cumega_context_destroy(w->ctx);
  w->ema = NULL;
  w->ctx = NULL;
  return CUMEGA_OK;
}

static cumega_status synchronize(world *w) {
  return cumega_context_synchronize(w->ctx);
}

static int run_is_there(world *w, cumega_status status) {
  return status != CUMEGA_OK || emulated_run_is_right(w->run);
}

static cumega_status reserve(world *w) {
  return cumega_context_reserve(w->ctx, 100000);
}

static int reserved(world *w, cumega_status status) {
  cumega_statistics s = {.struct_size = sizeof s};
  return cumega_context_statistics(w->ctx, &s) == CUMEGA_OK &&
         (status != CUMEGA_OK || s.scratch_bytes == 100000);
}

static cumega_status set_stream(world *w) {
  return cumega_context_set_stream(w->ctx, w->stream);
}

/* A queued run writes behind whatever came before it in its stream. */
static cumega_status wait_in_set_stream(world *w) {
  return cumega_context_set_stream(w->ctx, NULL);
}

static cumega_status report(world *w) {
  w->bits = 77;
  return cumega_context_report(w->ctx, &w->bits);
}

static int bits_are_defined(world *w, cumega_status status) {
  (void)status;
  return w->bits == 0;
}

static cumega_status statistics(world *w) {
  cumega_statistics s = {.struct_size = sizeof s};
  return cumega_context_statistics(w->ctx, &s);
}

/* ---- memory ---- */

static cumega_status allocate(world *w) {
  w->memory = w;
  return cumega_memory_allocate(w->ctx, MEMORY_BYTES, &w->memory);
}

static int pointer_is_defined(world *w, cumega_status status) {
  return (w->memory != NULL) == (status == CUMEGA_OK);
}

static cumega_status release(world *w) {
  cumega_status status = cumega_memory_release(w->ctx, w->memory, MEMORY_BYTES);
  if (status == CUMEGA_OK) w->memory = NULL;
  return status;
}

static cumega_status write_memory(world *w) {
  static const float value = 2.5f;
  return cumega_memory_write(w->ctx, w->memory, &value, sizeof value);
}

static int is_written(world *w, cumega_status status) {
  float found = 0;
  return status != CUMEGA_OK ||
         (cudaMemcpy(&found, w->memory, sizeof found, cudaMemcpyDeviceToHost) == cudaSuccess &&
          found == 2.5f);
}

static cumega_status read_memory(world *w) {
  return cumega_memory_read(w->ctx, &w->value, w->run->views[RUN_X].dl.data, sizeof w->value);
}

static int is_read(world *w, cumega_status status) {
  return status != CUMEGA_OK || memcmp(&w->value, w->run->host[RUN_X], sizeof w->value) == 0;
}

/* ---- weight files ---- */

static cumega_status open_weights(world *w) {
  return cumega_weights_open(w->ctx, faults_weights_path(w->run->shape), &w->weights);
}

static int weights_are_defined(world *w, cumega_status status) {
  return cumega_weights_count(w->weights) == (status == CUMEGA_OK ? 5 : 0);
}

static cumega_status read_weights(world *w) {
  unsigned char data[4096];
  const cumega_weights_entry *entry = cumega_weights_at(w->weights, 0);
  return cumega_weights_read(w->ctx, w->weights, entry, data, sizeof data);
}

static cumega_status save_weights(world *w) {
  char path[80];
  float value[2] = {1, 2};
  cumega_tensor t;
  snprintf(path, sizeof path, "%s-2", faults_weights_path(w->run->shape));
  cumega_named_tensor named = {
      "a", cumega_tensor_init(&t, value, cumega_cpu, cumega_float32, 1, (int64_t[]){2})};
  cumega_status status = cumega_weights_save(w->ctx, path, &named, 1, NULL, 0);
  const int there = remove(path) == 0;
  if (status == CUMEGA_OK) ck_assert(there);
  return status;
}

/* ---- the EMA ---- */

static cumega_status create_ema(world *w) {
  return cumega_ema_create(w->ctx, &w->run->config, NULL, &w->ema);
}

static int ema_is_defined(world *w, cumega_status status) {
  return (w->ema != NULL) == (status == CUMEGA_OK);
}

static cumega_status create_ema_from_weights(world *w) {
  return cumega_ema_create_from_weights(w->ctx, w->weights, "e", &w->run->config, &w->ema);
}

static cumega_status destroy_ema(world *w) {
  cumega_ema_destroy(w->ema);
  w->ema = NULL;
  return CUMEGA_OK;
}

/* Other parameters; where they are refused, the old ones stay and the next run says so. */
static cumega_status reset_parameters(world *w) {
  return cumega_ema_reset_parameters(w->ctx, w->ema, 0.1, 0.3, 0.5, 99);
}

static cumega_status reset_to_the_defaults(world *w) {
  return cumega_ema_reset_parameters(w->ctx, w->ema, 0, 0.2, 1, 0);
}

/* All five, of float64 so that they come back as they were. */
typedef struct five {
  test_tensor *tensors[5];
  cumega_ema_parameters parameters;
} five;

static five five_of(const run_shape *s) {
  five f;
  for (int i = 0; i < 5; i++)
    f.tensors[i] =
        i == 4 ? tensor_new_1(cumega_float64, s->D) : tensor_new_2(cumega_float64, s->D, s->N);
  f.parameters = (cumega_ema_parameters){sizeof f.parameters, dl(f.tensors[0]), dl(f.tensors[1]),
                                         dl(f.tensors[2]),    dl(f.tensors[3]), dl(f.tensors[4])};
  return f;
}

static cumega_status get_parameters(world *w) {
  five f = five_of(w->run->shape);
  cumega_status status = cumega_ema_get_parameters(w->ctx, w->ema, &f.parameters);
  for (int i = 0; i < 5; i++) tensor_free(f.tensors[i]);
  return status;
}

static cumega_status set_parameters(world *w) {
  five f = five_of(w->run->shape);
  for (int i = 0; i < 5; i++)
    for (int64_t d = 0; d < w->run->shape->D; d++)
      for (int64_t n = 0; n < w->run->shape->N; n++)
        tensor_set(f.tensors[i], d, i == 4 ? 0 : n, 0, 0.25);
  cumega_status status = cumega_ema_set_parameters(w->ctx, w->ema, &f.parameters);
  for (int i = 0; i < 5; i++) tensor_free(f.tensors[i]);
  return status;
}

static cumega_status get_config(world *w) {
  cumega_ema_config config = {.struct_size = sizeof config};
  return cumega_ema_get_config(w->ctx, w->ema, &config);
}

static cumega_status compute_coefficients(world *w) {
  test_tensor *p = tensor_new_2(cumega_float64, w->run->shape->D, w->run->shape->N);
  cumega_status status = cumega_ema_compute_coefficients(w->ctx, w->ema, dl(p), NULL);
  tensor_free(p);
  return status;
}

static cumega_status compute_kernel(world *w) {
  test_tensor *k = tensor_new_2(cumega_float64, w->run->shape->D, 3);
  cumega_status status = cumega_ema_compute_kernel(w->ctx, w->ema, dl(k));
  tensor_free(k);
  return status;
}

static cumega_status workspace_size(world *w) {
  int64_t bytes;
  return cumega_ema_workspace_size(w->ctx, w->ema, &w->run->io, &bytes);
}

static cumega_status forward(world *w) {
  return emulated_run_start(w->ctx, w->ema, w->run);
}

/* After a failure nothing is written or all of it; but a run of several launches may end between them. */
static int written_or_not(world *w, cumega_status status) {
  if (cudaDeviceSynchronize() != cudaSuccess) return 0;
  if (status == CUMEGA_OK) return emulated_run_is_right(w->run);
  return w->run->shape->algorithm != CUMEGA_EMA_RECURRENT || emulated_run_is_right(w->run) ||
         emulated_run_is_clear(w->run);
}

/* The run is captured; the capture is ended whatever happened, and replayed where it is whole. */
static cumega_status forward_in_capture(world *w) {
  cudaGraph_t graph = NULL;
  cudaGraphExec_t ready = NULL;
  cumega_status status = cumega_context_set_stream(w->ctx, w->stream);
  if (status != CUMEGA_OK) return status;
  if (cudaStreamBeginCapture(w->stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess)
    status = emulated_run_start(w->ctx, w->ema, w->run);
  const cudaError_t ended = cudaStreamEndCapture(w->stream, &graph);
  if (ended == cudaSuccess && status == CUMEGA_OK &&
      cudaGraphInstantiate(&ready, graph, 0) == cudaSuccess)
    (void)cudaGraphLaunch(ready, w->stream);
  (void)cudaStreamSynchronize(w->stream);
  if (ready != NULL) (void)cudaGraphExecDestroy(ready);
  if (graph != NULL) (void)cudaGraphDestroy(graph);
  return status;
}

/* A server's day: all of it, with whatever comes first as the status. */
static cumega_status whole_life(world *w) {
  cumega_status status = create_context(w);
  if (status == CUMEGA_OK) status = open_weights(w);
  if (status == CUMEGA_OK) status = create_ema_from_weights(w);
  if (status == CUMEGA_OK) status = allocate(w);
  if (status == CUMEGA_OK) status = write_memory(w);
  if (status == CUMEGA_OK) status = forward(w);
  if (status == CUMEGA_OK) status = cumega_context_reserve(w->ctx, 1 << 20);
  if (status == CUMEGA_OK) status = forward(w);
  if (status == CUMEGA_OK) status = read_memory(w);
  if (status == CUMEGA_OK) status = cumega_context_synchronize(w->ctx);
  if (status == CUMEGA_OK) status = report(w);
  if (status == CUMEGA_OK) status = release(w);
  return status;
}

enum { LANES = 0, POOLS = 1, PLAIN = 3, MANY = 9, MANY_64 = 10 }; /* of run_shapes */

#define CONTEXT NEEDS_CONTEXT
#define EMA     (NEEDS_CONTEXT | NEEDS_EMA)

/* cumega_status_string, _version_string, tensor.h, cumega_context_message, _backend and _kernels,
 * cumega_weights_count, _at, _find and _metadata, and the activations' names cannot fail. */
static const scenario scenarios[] = {
    {"cumega_context_create", PLAIN, 0, create_context, NULL, NULL},
    {"cumega_context_create, a stream", PLAIN, 0, create_context_on_stream, NULL, NULL},
    {"cumega_context_destroy", PLAIN, CONTEXT, destroy_all, NULL, NULL},
    {"cumega_context_destroy, an EMA", MANY, EMA | NEEDS_SCRATCH, destroy_all, NULL, NULL},
    {"cumega_context_destroy, at work", PLAIN, EMA | NEEDS_QUEUED_RUN, destroy_all, NULL, NULL},
    {"cumega_context_destroy, a graph", MANY, EMA | NEEDS_GRAPH, destroy_all, NULL, NULL},
    {"cumega_context_synchronize", LANES, EMA | NEEDS_QUEUED_RUN, synchronize, run_is_there, NULL},
    {"cumega_context_reserve", MANY, EMA, reserve, reserved, NULL},
    {"cumega_context_reserve, a graph", MANY, EMA | NEEDS_GRAPH, reserve, reserved, NULL},
    {"cumega_context_reserve, at work", MANY, EMA | NEEDS_QUEUED_RUN, reserve, reserved, NULL},
    {"cumega_context_set_stream", PLAIN, EMA, set_stream, NULL, NULL},
    {"cumega_context_set_stream, own", PLAIN, EMA, wait_in_set_stream, NULL, NULL},
    {"cumega_context_report", PLAIN, EMA | NEEDS_QUEUED_RUN, report, bits_are_defined, NULL},
    {"cumega_context_statistics", PLAIN, EMA, statistics, NULL, NULL},
    {"cumega_memory_allocate", PLAIN, CONTEXT, allocate, pointer_is_defined, NULL},
    {"cumega_memory_release", PLAIN, CONTEXT | NEEDS_MEMORY, release, NULL, NULL},
    {"cumega_memory_write", PLAIN, CONTEXT | NEEDS_MEMORY, write_memory, is_written, NULL},
    {"cumega_memory_read", PLAIN, CONTEXT, read_memory, is_read, NULL},
    {"cumega_weights_open", PLAIN, CONTEXT, open_weights, weights_are_defined, NULL},
    {"cumega_weights_read", PLAIN, CONTEXT | NEEDS_WEIGHTS, read_weights, NULL, NULL},
    {"cumega_weights_save", PLAIN, CONTEXT, save_weights, NULL, NULL},
    {"cumega_ema_create", LANES, CONTEXT, create_ema, ema_is_defined, NULL},
    {"cumega_ema_create", MANY_64, CONTEXT, create_ema, ema_is_defined, NULL},
    {"cumega_ema_create_from_weights", PLAIN, CONTEXT | NEEDS_WEIGHTS, create_ema_from_weights,
     ema_is_defined, NULL},
    {"cumega_ema_destroy", PLAIN, EMA, destroy_ema, NULL, NULL},
    {"cumega_ema_reset_parameters", PLAIN, EMA, reset_parameters, NULL, reset_to_the_defaults},
    {"cumega_ema_set_parameters", PLAIN, EMA, set_parameters, NULL, reset_to_the_defaults},
    {"cumega_ema_get_parameters", PLAIN, EMA, get_parameters, NULL, NULL},
    {"cumega_ema_get_config", PLAIN, EMA, get_config, NULL, NULL},
    {"cumega_ema_compute_coefficients", PLAIN, EMA, compute_coefficients, NULL, NULL},
    {"cumega_ema_compute_kernel", PLAIN, EMA, compute_kernel, NULL, NULL},
    {"cumega_ema_workspace_size", MANY, EMA, workspace_size, NULL, NULL},
    {"cumega_ema_forward, captured", POOLS, EMA | CALLS_CUDA, forward_in_capture, NULL, NULL},
    {"cumega_ema_forward, captured", MANY, EMA | NEEDS_SCRATCH | CALLS_CUDA, forward_in_capture,
     NULL, NULL},
    {"a server's life", PLAIN, 0, whole_life, NULL, NULL},
};

static int64_t inject_all(int64_t *failures) {
  int64_t injections =
      faults_inject(scenarios, (int)(sizeof scenarios / sizeof scenarios[0]), failures);
  for (int shape = 0; shape < run_shape_count; shape++) {
    const scenario runs[] = {
        {"forward or step", shape, EMA, forward, written_or_not, NULL},
        {"forward or step, reserved", shape, EMA | NEEDS_SCRATCH, forward, written_or_not, NULL}};
    injections += faults_inject(runs, 2, failures);
  }
  return injections;
}

/* Once with work that runs only when somebody waits for it, once with work that runs at any moment. */
START_TEST(every_call_of_every_function_may_fail) {
  int64_t failures = 0, injections = 0;
  for (int seed = 0; seed < 2; seed++) {
    emulation_set_schedule(seed == 0 ? EMULATION_FIXED : EMULATION_RANDOM, (uint64_t)seed);
    injections += inject_all(&failures);
  }
  printf("%" PRId64 " injections, of which %" PRId64 " made the call fail\n", injections, failures);
  if (getenv("CUMEGA_TEST_SCENARIO") != NULL) return;
  ck_assert_int_ge(injections, 10000);
  ck_assert_int_ge(failures, 5000);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("emulated_faults");
  TCase *tests = add_case(suite, "faults", 600);
  tcase_add_unchecked_fixture(tests, emulation_reset, faults_end);
  tcase_add_test(tests, every_call_of_every_function_may_fail);
  int code = run_suite(suite);
  emulation_reset();
  return code;
}
