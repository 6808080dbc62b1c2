#include "emulated_faults.h"
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <string.h>

/* ---- what fails ---- */

typedef enum origin { CUDA_CALL, HOST_ALLOCATION, JSON_ALLOCATION } origin;

typedef struct plan {
  origin from;
  cudaError_t error;
  int for_ever, sticky;
} plan;

/* Every error, once and forever; those after the dash lose the device. */
static const plan plans[] = {
    {CUDA_CALL, cudaErrorMemoryAllocation, 0, 0},
    {CUDA_CALL, cudaErrorMemoryAllocation, 1, 0},
    {CUDA_CALL, cudaErrorInvalidValue, 0, 0},
    {CUDA_CALL, cudaErrorInvalidResourceHandle, 1, 0},
    {CUDA_CALL, cudaErrorNotSupported, 0, 0},
    {CUDA_CALL, cudaErrorDevicesUnavailable, 1, 0},
    {CUDA_CALL, cudaErrorInitializationError, 0, 0},
    {CUDA_CALL, cudaErrorLaunchOutOfResources, 0, 0},
    {CUDA_CALL, cudaErrorNoKernelImageForDevice, 1, 0},
    /* - */
    {CUDA_CALL, cudaErrorIllegalAddress, 0, 1},
    {CUDA_CALL, cudaErrorLaunchFailure, 1, 1},
    {CUDA_CALL, cudaErrorECCUncorrectable, 0, 1},
    {CUDA_CALL, cudaErrorLaunchTimeout, 0, 1},
    {CUDA_CALL, cudaErrorUnknown, 1, 1},
    {CUDA_CALL, cudaErrorMisalignedAddress, 0, 1},
    {CUDA_CALL, cudaErrorNvlinkUncorrectable, 1, 1},
    {HOST_ALLOCATION, cudaSuccess, 0, 0},
    {HOST_ALLOCATION, cudaSuccess, 1, 0},
    {JSON_ALLOCATION, cudaSuccess, 0, 0},
    {JSON_ALLOCATION, cudaSuccess, 1, 0},
};

static struct {
  int64_t calls, failing;
  int for_ever;
} json;

/* jansson 2.14 does not notice when a token's buffer cannot grow, and then writes past its end
 * (lex_save in its load.c). That buffer's sizes are powers of two from 32 on, so allocations of
 * these sizes do not fail here. */
static void *json_allocate(size_t bytes) {
  if (bytes >= 32 && (bytes & (bytes - 1)) == 0) return malloc(bytes);
  json.calls++;
  const int fails = json.failing > 0 &&
                    (json.for_ever ? json.calls >= json.failing : json.calls == json.failing);
  return fails ? NULL : malloc(bytes);
}

static int64_t calls_of(const world *w, origin from) {
  if (from == CUDA_CALL) return emulation_call_count();
  return from == HOST_ALLOCATION ? w->ledger.calls : json.calls;
}

static void arm(world *w, const plan *p, int64_t nth) {
  if (p->from == CUDA_CALL) {
    emulation_calls_begin();
    emulation_fail(nth, p->error, p->for_ever, p->sticky);
  } else if (p->from == HOST_ALLOCATION) {
    w->ledger.failing_call = w->ledger.calls + nth;
    w->ledger.for_ever = p->for_ever;
  } else {
    json.failing = json.calls + nth;
    json.for_ever = p->for_ever;
  }
}

static void disarm(world *w) {
  emulation_fail(0, cudaSuccess, 0, 0);
  w->ledger.failing_call = 0;
  json.failing = 0;
}

/* ---- the world ---- */

const run_shape *faults_shape(const char *name) {
  for (int i = 0; i < run_shape_count; i++)
    if (strcmp(run_shapes[i].name, name) == 0) return &run_shapes[i];
  ck_abort_msg("there is no shape '%s'", name);
}

static void fill_missing_objects(world *w) {
  run_objects made = emulated_objects_new(w->ctx, w->run->shape), *here = &w->objects;
#define TAKE(object)                                                                              \
  if (here->object == NULL) here->object = made.object, made.object = NULL
  TAKE(ema);
  TAKE(bias);
  TAKE(residual);
  TAKE(norm);
#undef TAKE
  emulated_objects_destroy(&made);
}

static void run_is_right(world *w) {
  emulated_run_clear(w->run);
  MUST(w->ctx, emulated_run_start(w->ctx, &w->objects, w->run));
  MUST(w->ctx, cumega_context_synchronize(w->ctx));
  ck_assert(emulated_run_is_right(w->run));
}

static void capture(world *w) {
  cudaGraph_t graph;
  MUST(w->ctx, cumega_context_set_stream(w->ctx, w->stream));
  ck_assert_int_eq(cudaStreamBeginCapture(w->stream, cudaStreamCaptureModeThreadLocal), 0);
  MUST(w->ctx, emulated_run_start(w->ctx, &w->objects, w->run));
  ck_assert_int_eq(cudaStreamEndCapture(w->stream, &graph), 0);
  ck_assert_int_eq(cudaGraphDestroy(graph), 0);
}

static void world_open(world *w, const scenario *s, emulated_run *run, cudaStream_t stream) {
  memset(w, 0, sizeof *w);
  w->run = run;
  w->stream = stream;
  if (s->needs & NEEDS_CONTEXT) w->ctx = emulated_context(&w->ledger, NULL, NULL);
  if (s->needs & NEEDS_OBJECTS) fill_missing_objects(w);
  if (s->needs & (IS_PREPARED | NEEDS_GRAPH))
    MUST(w->ctx, emulated_run_prepare(w->ctx, &w->objects, run));
  if (s->needs & NEEDS_GRAPH) capture(w);
  if (s->needs & NEEDS_MEMORY)
    MUST(w->ctx, cumega_memory_allocate(w->ctx, MEMORY_BYTES, &w->memory));
  if (s->needs & NEEDS_WEIGHTS)
    MUST(w->ctx, cumega_weights_open(w->ctx, faults_weights_path(), &w->weights));
  emulated_run_clear(run);
  if (s->needs & NEEDS_QUEUED_RUN) MUST(w->ctx, emulated_run_start(w->ctx, &w->objects, run));
}

static void world_close(world *w) {
  cumega_weights_close(w->weights);
  emulated_objects_destroy(&w->objects);
  cumega_context_destroy(w->ctx);
  emulation_revive();
  (void)cudaFree(w->memory); /* which a context on a lost device could not release */
  ck_assert_int_eq(w->ledger.blocks, 0);
  ck_assert_int_eq(w->ledger.bytes, 0);
}

cumega_status faults_destroy_objects(world *w) {
  emulated_objects_destroy(&w->objects);
  return CUMEGA_OK;
}

cumega_status faults_workspace_size(world *w) {
  int64_t bytes;
  return emulated_run_workspace_size(w->ctx, &w->objects, w->run, &bytes);
}

cumega_status faults_prepare(world *w) {
  const run_operation *operation = w->run->shape->operation;
  return operation->prepare(w->ctx, &w->objects, w->run, w->run->views);
}

/* ---- the caller's CUDA ---- */

typedef struct manners {
  struct CUctx_st *current;
  cudaError_t pending;
} manners;

/* In turn: no context is current, the primary one, a foreign one; with and without a pending
 * error. */
static manners manners_begin(int64_t turn, struct CUctx_st *foreign) {
  manners before;
  void *too_much;
  if (turn % 3 == 1) ck_assert_int_eq(cudaSetDevice(0), cudaSuccess);
  if (turn % 3 != 1) set_current_context(turn % 3 == 0 ? NULL : foreign);
  before.current = current_context();
  (void)cudaGetLastError();
  if (turn % 2 == 1) {
    ck_assert_int_eq(cudaMalloc(&too_much, (size_t)1 << 60), cudaErrorMemoryAllocation);
    set_current_context(before.current);
  }
  before.pending = cudaPeekAtLastError();
  return before;
}

/* Whether a call that restores the context was made to fail: then it stays wrong. */
static int context_calls_failed(const plan *p, int64_t nth) {
  int64_t count;
  if (p->from != CUDA_CALL) return 0;
  const char *const *names = emulation_calls(&count);
  const int64_t last = p->for_ever ? count : nth;
  for (int64_t i = nth - 1; i < last; i++)
    if (strncmp(names[i], "cuCtx", 5) == 0) return 1;
  return 0;
}

static void manners_held(const manners *before, const plan *p, int excused, int failed) {
  const cudaError_t pending = cudaPeekAtLastError();
  if (!excused) ck_assert_msg(current_context() == before->current, "another context is current");
  if (p->sticky) return;
  if (before->pending == cudaSuccess)
    ck_assert_msg(pending == cudaSuccess, "%s is pending", cudaGetErrorName(pending));
  else if (failed)
    ck_assert_msg(pending != cudaSuccess, "the caller's pending error is gone");
  else if (p->from != CUDA_CALL)
    ck_assert_msg(pending == before->pending, "%s is pending", cudaGetErrorName(pending));
}

/* ---- one injection ---- */

/* Whether a call may succeed although this call in it failed: it returns no status or makes calls
 * of its own, or the failed call frees memory or restores the caller's context after the work. */
static int may_succeed(const scenario *s, const plan *p, int64_t nth) {
  static const char *const releases[] = {"cudaFree", "cudaStreamDestroy", "cudaEventDestroy",
                                         "cufftDestroy", "cublasDestroy"};
  int64_t count;
  if (p->from == JSON_ALLOCATION || strstr(s->name, "_destroy") || (s->needs & CALLS_CUDA))
    return 1;
  if (p->from == HOST_ALLOCATION) return 0;
  const char *const *names = emulation_calls(&count), *failed = names[nth - 1];
  for (size_t i = 0; i < sizeof releases / sizeof releases[0]; i++)
    if (strcmp(failed, releases[i]) == 0) return 1;
  if (strcmp(failed, "cudaSetDevice") == 0)
    return nth < count && strcmp(names[nth], "cudaFree") == 0;
  return nth > 1 && strncmp(failed, "cuCtx", 5) == 0;
}

/* Whether a copy had been enqueued when the nth call failed. If an object's parameters were being
 * replaced, it may then have the old ones, the new ones or a mixture. */
static int has_copied(const plan *p, int64_t nth) {
  int64_t count;
  if (p->from != CUDA_CALL) return 0;
  const char *const *names = emulation_calls(&count);
  for (int64_t i = 0; i < nth - 1 && i < count; i++)
    if (strcmp(names[i], "cudaMemcpyAsync") == 0) return 1;
  return 0;
}

static void judge(const scenario *s, world *w, const plan *p, int64_t nth, cumega_status status) {
  int64_t count;
  const char *failed = p->from == CUDA_CALL ? emulation_calls(&count)[nth - 1] : "an allocation";
  const int undoes = s->undo != NULL && (status == CUMEGA_OK || has_copied(p, nth));
  const char *sentence = cumega_context_message(w->ctx);
  if (p->error == cudaErrorMemoryAllocation &&
      (strcmp(failed, "cudaMalloc") == 0 || strncmp(failed, "cudaEventCreate", 15) == 0))
    ck_assert_msg(status == CUMEGA_ERROR_RESOURCE, "status %d: %s", (int)status, sentence);
  if (status != CUMEGA_OK) ck_assert_msg(sentence[0] != '\0', "no sentence");
  if (status == CUMEGA_ERROR_FATAL) ck_assert_msg(p->sticky, "FATAL: %s", sentence);
  if (p->sticky) {
    if (w->ctx != NULL) {
      if (status == CUMEGA_OK) status = cumega_context_synchronize(w->ctx);
      ck_assert_msg(status == CUMEGA_ERROR_FATAL, "status %d: %s", (int)status, sentence);
      ck_assert_int_eq(cumega_context_synchronize(w->ctx), CUMEGA_ERROR_FATAL);
    }
    return;
  }
  if (s->holds != NULL) ck_assert_msg(s->holds(w, status), "outputs after status %d", (int)status);
  if (undoes) MUST(w->ctx, s->undo(w));
  if (w->ctx == NULL) w->ctx = emulated_context(&w->ledger, NULL, NULL);
  fill_missing_objects(w);
  run_is_right(w);
}

/* A capture that the call could not end, which prevents every free. */
static void end_capture(cudaStream_t stream, const plan *p) {
  enum cudaStreamCaptureStatus status = cudaStreamCaptureStatusNone;
  cudaGraph_t graph = NULL;
  emulation_revive();
  if (cudaStreamIsCapturing(stream, &status) == cudaSuccess &&
      status != cudaStreamCaptureStatusNone && cudaStreamEndCapture(stream, &graph) == cudaSuccess)
    (void)cudaGraphDestroy(graph);
  if (!p->sticky) return;
  emulation_fail(1, p->error, 0, 1); /* lost again */
  (void)cudaDeviceSynchronize();
}

/* Returns whether the nth call was reached. */
static int inject(const scenario *s, emulated_run *run, cudaStream_t stream,
                  struct CUctx_st *foreign, const plan *p, int64_t nth, int *failed) {
  world w;
  int64_t count;
  const char *text;
  const int64_t leaks = emulation_leaks(&text);
  world_open(&w, s, run, stream);
  manners before = manners_begin(s->needs & CALLS_CUDA ? 1 : nth, foreign);
  arm(&w, p, nth);
  const int64_t first = calls_of(&w, p->from);
  const cumega_status status = s->call(&w);
  const int reached = calls_of(&w, p->from) - first >= nth;
  disarm(&w);
  *failed = status != CUMEGA_OK;
  manners_held(&before, p, reached && context_calls_failed(p, nth), *failed);
  if (s->needs & CALLS_CUDA) end_capture(stream, p);
  ck_assert_msg(reached || !*failed, "fails without a fault: %s", cumega_context_message(w.ctx));
  if (!reached && s->holds != NULL) ck_assert_msg(s->holds(&w, status), "outputs without a fault");
  if (reached) {
    const char *call = p->from == CUDA_CALL ? emulation_calls(&count)[nth - 1] : "an allocation";
    ck_assert_msg(*failed || may_succeed(s, p, nth), "succeeds after %s failed", call);
    judge(s, &w, p, nth, status);
  }
  world_close(&w);
  (void)cudaGetLastError();
  ck_assert_msg(emulation_leaks(&text) == leaks, "leaks:\n%s", text);
  ck_assert_msg(emulation_faults(&text) == 0, "%s", text);
  return reached;
}

static int64_t run_scenario(const scenario *s, int64_t *failed_calls) {
  emulated_run *run = emulated_run_new(faults_shape(s->shape), 7);
  struct CUctx_st *foreign = emulation_context_create(0);
  cudaStream_t stream;
  int64_t injections = 0, failures = 0;
  (void)faults_weights_path();
  ck_assert_int_eq(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  for (size_t i = 0; i < sizeof plans / sizeof plans[0]; i++) {
    int failed;
    for (int64_t nth = 1;; nth++) {
      char place[200];
      snprintf(place, sizeof place, "%s, %s, plan %zu, call %" PRId64, s->name, run->shape->name,
               i, nth);
      if (getenv("CUMEGA_TEST_TRACE") != NULL) printf("%s\n", place);
      if (!inject(s, run, stream, foreign, &plans[i], nth, &failed)) break;
      injections++;
      failures += failed;
    }
  }
  ck_assert_int_eq(cudaSetDevice(0), cudaSuccess);
  ck_assert_int_eq(cudaStreamDestroy(stream), cudaSuccess);
  emulated_run_free(run);
  printf("%6" PRId64 " injections, %6" PRId64 " failures: %s, %s\n", injections, failures, s->name,
         s->shape);
  *failed_calls += failures;
  return injections;
}

int64_t faults_inject(const scenario *scenarios, int count, int64_t *failed_calls) {
  int64_t injections = 0;
  json_set_alloc_funcs(json_allocate, free);
  const char *only = getenv("CUMEGA_TEST_SCENARIO");
  for (int i = 0; i < count; i++)
    if (only == NULL || strstr(scenarios[i].name, only) != NULL)
      injections += run_scenario(&scenarios[i], failed_calls);
  json_set_alloc_funcs(malloc, free);
  return injections;
}
