/* Capture and replay. Every run may be captured once everything it needs exists. A graph accepts
 * other values, lengths, masks and slots. A run that would have to allocate or wait is refused,
 * and the capture survives. */
#include <string.h>
#include "emulated_run.h"
#include "defaults.h"
#include "runner.h"

static cudaStream_t streams[2];

static void setup(void) {
  emulation_reset();
  for (int i = 0; i < 2; i++)
    ck_assert_int_eq(cudaStreamCreateWithFlags(&streams[i], cudaStreamNonBlocking), cudaSuccess);
}

static void teardown(void) {
  for (int i = 0; i < 2; i++) ck_assert_int_eq(cudaStreamDestroy(streams[i]), cudaSuccess);
  emulated_nothing_is_left();
}

static void must(cudaError_t error) {
  ck_assert_msg(error == cudaSuccess, "%s", cudaGetErrorString(error));
}

static void begin_capture(cudaStream_t stream) {
  must(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
}

static cudaGraphExec_t end_capture(cudaStream_t stream) {
  cudaGraph_t graph;
  cudaGraphExec_t ready;
  must(cudaStreamEndCapture(stream, &graph));
  must(cudaGraphInstantiate(&ready, graph, 0));
  must(cudaGraphDestroy(graph));
  return ready;
}

/* A context, a run, its objects, and everything that the run needs. */
typedef struct server {
  cumega_context *ctx;
  run_objects objects;
  emulated_run *run;
  cudaStream_t stream;
} server;

static server open_server(const run_shape *shape, cudaStream_t stream, uint64_t seed) {
  server s = {.ctx = emulated_context(NULL, stream, NULL),
              .run = emulated_run_new(shape, seed),
              .stream = stream};
  s.objects = emulated_objects_new(s.ctx, shape);
  MUST(s.ctx, emulated_run_prepare(s.ctx, &s.objects, s.run));
  return s;
}

static void close_server(server *s) {
  emulated_objects_destroy(&s->objects);
  cumega_context_destroy(s->ctx);
  emulated_run_free(s->run);
}

static void enqueue(server *s) {
  MUST(s->ctx, emulated_run_start(s->ctx, &s->objects, s->run));
}

static cudaGraphExec_t captured(server *s) {
  begin_capture(s->stream);
  enqueue(s);
  return end_capture(s->stream);
}

static void replay_is_right(server *s, cudaGraphExec_t graph) {
  must(cudaGraphLaunch(graph, s->stream));
  must(cudaStreamSynchronize(s->stream));
  ck_assert_msg(emulated_run_is_right(s->run), "%s", s->run->shape->name);
}

static void set_schedule(int seed) {
  emulation_set_schedule(seed == 0 ? EMULATION_FIXED : EMULATION_RANDOM, (uint64_t)seed);
}

/* Values, lengths, offsets, slots and masks change at each replay. */
START_TEST(a_graph_serves_other_values_and_indices) {
  server s = open_server(&run_shapes[_i], streams[0], 1);
  emulated_run_clear(s.run);
  cudaGraphExec_t graph = captured(&s);
  ck_assert_msg(emulated_run_is_clear(s.run), "%s ran while it was captured", s.run->shape->name);
  for (int seed = 0; seed < 6; seed++) {
    set_schedule(seed);
    emulated_run_refill(s.run, (uint64_t)(100 + seed));
    replay_is_right(&s, graph);
  }
  must(cudaGraphExecDestroy(graph));
  close_server(&s);
}
END_TEST

/* Runs of other sizes with the same objects in the same context: scratch and tables grow, and
 * there are more plans and spectra than a context keeps. */
static void compute_others(server *s, int count) {
  for (int step = 1; step <= count; step++) {
    const run_shape shape = s->run->shape->operation->larger(s->run->shape, step);
    emulated_run *other = emulated_run_new(&shape, (uint64_t)step);
    MUST(s->ctx, emulated_run_start(s->ctx, &s->objects, other));
    MUST(s->ctx, cumega_context_synchronize(s->ctx));
    ck_assert_msg(emulated_run_is_right(other), "%s, step %d", shape.name, step);
    emulated_run_free(other);
  }
}

/* What the graph refers to stays when other runs need more. */
START_TEST(a_graph_is_right_after_other_calls_have_grown_what_it_uses) {
  const int is_fft =
      run_shapes[_i].operation == &ema_operation && run_shapes[_i].ema.algorithm == CUMEGA_EMA_FFT;
  server s = open_server(&run_shapes[_i], streams[0], 1);
  cudaGraphExec_t graph = captured(&s);
  cumega_statistics before = {.struct_size = sizeof before}, after = before;
  MUST(s.ctx, cumega_context_statistics(s.ctx, &before));
  compute_others(&s, is_fft ? 12 : 2);
  MUST(s.ctx, cumega_context_reserve(s.ctx, before.scratch_bytes + 4096));
  MUST(s.ctx, cumega_context_statistics(s.ctx, &after));
  ck_assert_int_ge(after.scratch_bytes, before.scratch_bytes + 4096);
  for (int seed = 0; seed < 3; seed++) {
    set_schedule(seed);
    emulated_run_refill(s.run, (uint64_t)seed);
    replay_is_right(&s, graph);
    emulated_run_clear(s.run); /* so do runs outside the graph */
    enqueue(&s);
    MUST(s.ctx, cumega_context_synchronize(s.ctx));
    ck_assert(emulated_run_is_right(s.run));
    MUST(s.ctx, cumega_context_reserve(s.ctx, after.scratch_bytes + 4096 * (seed + 1)));
  }
  must(cudaGraphExecDestroy(graph));
  close_server(&s);
}
END_TEST

/* Two contexts capture at once, each in its own stream, with the same objects; the graphs run at
 * the same time. */
START_TEST(graphs_of_two_contexts_run_side_by_side) {
  server a = open_server(&run_shapes[_i], streams[0], 1);
  server b = open_server(&run_shapes[_i], streams[1], 2);
  MUST(b.ctx, emulated_run_prepare(b.ctx, &a.objects, b.run));
  begin_capture(a.stream);
  begin_capture(b.stream);
  MUST(b.ctx, emulated_run_start(b.ctx, &a.objects, b.run));
  enqueue(&a);
  cudaGraphExec_t of_a = end_capture(a.stream), of_b = end_capture(b.stream);
  for (int seed = 0; seed < 4; seed++) {
    set_schedule(seed);
    emulated_run_refill(a.run, (uint64_t)(2 * seed));
    emulated_run_refill(b.run, (uint64_t)(2 * seed + 1));
    must(cudaGraphLaunch(of_a, a.stream));
    must(cudaGraphLaunch(of_b, b.stream));
    must(cudaStreamSynchronize(b.stream));
    must(cudaStreamSynchronize(a.stream));
    ck_assert(emulated_run_is_right(a.run) && emulated_run_is_right(b.run));
  }
  must(cudaGraphExecDestroy(of_a));
  must(cudaGraphExecDestroy(of_b));
  close_server(&a);
  close_server(&b);
}
END_TEST

/* Wrong values that kernels meet in a replay are reported, and nothing of that sequence is
 * written. */
START_TEST(a_replay_reports_what_it_meets_in_index_tensors) {
  enum { PACKED_WITH_POOLS = 1, FINAL_SLOTS = 6 };
  server s = open_server(&run_shapes[PACKED_WITH_POOLS], streams[0], 1);
  cudaGraphExec_t graph = captured(&s);
  uint32_t bits = 9;
  replay_is_right(&s, graph);
  MUST(s.ctx, cumega_context_report(s.ctx, &bits));
  ck_assert_uint_eq(bits, 0);
  const int64_t outside[] = {99, 99, 99};
  ck_assert_int_eq(s.run->bytes[FINAL_SLOTS], sizeof outside);
  must(cudaMemcpy(s.run->views[FINAL_SLOTS].dl.data, outside, sizeof outside,
                  cudaMemcpyHostToDevice));
  emulated_run_clear(s.run);
  must(cudaGraphLaunch(graph, s.stream));
  MUST(s.ctx, cumega_context_report(s.ctx, &bits));
  ck_assert_uint_eq(bits, CUMEGA_REPORT_SLOT);
  ck_assert(emulated_run_is_clear(s.run));
  emulated_run_refill(s.run, 5);
  replay_is_right(&s, graph);
  must(cudaGraphExecDestroy(graph));
  close_server(&s);
}
END_TEST

/* ---- what is refused ---- */

#define STATE(ctx, call, part) MUST_FAIL(ctx, call, CUMEGA_ERROR_STATE, part)

static const char *const making = "making or changing an object is not allowed";

/* Each refusal has its message and leaves the capture intact. */
START_TEST(what_waits_or_allocates_is_refused_during_capture) {
  server s = open_server(&run_shapes[_i], streams[0], 1);
  void *memory = NULL, *other = NULL;
  uint32_t bits;
  float value = 1;
  cumega_status status;
  MUST(s.ctx, cumega_memory_allocate(s.ctx, 16, &memory));
  begin_capture(s.stream);
  STATE(s.ctx, cumega_context_synchronize(s.ctx), "waiting for it is not");
  STATE(s.ctx, cumega_context_reserve(s.ctx, 1 << 30), "reserving scratch is");
  STATE(s.ctx, cumega_context_report(s.ctx, &bits), "a copy that waits is not");
  STATE(s.ctx, cumega_memory_allocate(s.ctx, 8, &other), "allocating is not");
  STATE(s.ctx, cumega_memory_write(s.ctx, memory, &value, 4), "is not allowed");
  STATE(s.ctx, cumega_memory_read(s.ctx, &value, memory, 4), "is not allowed");
  STATE(s.ctx, cumega_memory_release(s.ctx, memory, 16), "is being captured");
  ck_assert_ptr_null(other);
  ck_assert_ptr_null(emulated_context(NULL, s.stream, &status));
  ck_assert_int_eq(status, CUMEGA_ERROR_STATE);
  ck_assert_ptr_nonnull(strstr(cumega_context_message(NULL), "making a context is not allowed"));
  enqueue(&s);
  cudaGraphExec_t graph = end_capture(s.stream);
  replay_is_right(&s, graph);
  must(cudaGraphExecDestroy(graph));
  MUST(s.ctx, cumega_memory_release(s.ctx, memory, 16));
  close_server(&s);
}
END_TEST

START_TEST(making_or_changing_an_object_is_refused_during_capture) {
  cumega_context *ctx = emulated_context(NULL, streams[0], NULL);
  run_objects made = {NULL}, none = {NULL};
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 4);
  cumega_norm_config norm;
  cumega_norm_config_init(&norm, sizeof norm, CUMEGA_NORM_LAYER, 4);
  cumega_residual_config affine;
  cumega_residual_config_init(&affine, sizeof affine, CUMEGA_RESIDUAL_AFFINE, 1, 4);
  cumega_norm_parameters ones = {.struct_size = sizeof ones};
  cumega_residual_parameters c = {.struct_size = sizeof c};
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &made.ema));
  MUST(ctx, bias_rotary(ctx, 4, 1, NULL, NULL, &made.bias));
  MUST(ctx, cumega_norm_create(ctx, &norm, NULL, &made.norm));
  MUST(ctx, cumega_residual_create(ctx, &affine, NULL, &made.residual));
  begin_capture(streams[0]);
  STATE(ctx, cumega_ema_create(ctx, &config, NULL, &none.ema), making);
  STATE(ctx, cumega_ema_reset_parameters(ctx, made.ema, 0, 1, 1, 3), making);
  STATE(ctx, bias_rotary(ctx, 4, 1, NULL, NULL, &none.bias), making);
  STATE(ctx, bias_relative(ctx, 4, NULL, &none.bias), making);
  STATE(ctx, cumega_position_bias_reset_parameters(ctx, made.bias, 0, 1, 3), making);
  STATE(ctx, cumega_norm_create(ctx, &norm, NULL, &none.norm), making);
  STATE(ctx, cumega_norm_set_parameters(ctx, made.norm, &ones), making);
  STATE(ctx, cumega_residual_create(ctx, &affine, NULL, &none.residual), making);
  STATE(ctx, cumega_residual_set_parameters(ctx, made.residual, &c), making);
  MUST_FAIL(ctx, cumega_position_bias_prepare(ctx, made.bias, 9), CUMEGA_ERROR_RESOURCE,
            "call cumega_position_bias_prepare before");
  must(cudaGraphExecDestroy(end_capture(streams[0])));
  ck_assert(none.ema == NULL && none.bias == NULL && none.norm == NULL && none.residual == NULL);
  emulated_objects_destroy(&made);
  cumega_context_destroy(ctx);
}
END_TEST

/* The call that a refusal's message names. */
static const char *help(server *s) {
  static const char *const names[] = {"cumega_context_reserve", "cumega_ema_prepare",
                                      "cumega_position_bias_prepare", "cumega_residual_prepare"};
  const char *sentence = cumega_context_message(s->ctx);
  int64_t scratch;
  size_t i = 0;
  while (i < 4 && strstr(sentence, names[i]) == NULL) i++;
  ck_assert_msg(i < 4, "names no call: %s", sentence);
  if (i == 0) {
    MUST(s->ctx, emulated_run_workspace_size(s->ctx, &s->objects, s->run, &scratch));
    MUST(s->ctx, cumega_context_reserve(s->ctx, scratch));
  } else {
    MUST(s->ctx, s->run->shape->operation->prepare(s->ctx, &s->objects, s->run, s->run->views));
  }
  return names[i];
}

/* Each refusal names a call, and the graph contains nothing of the run. After the calls in the
 * shape's table the capture succeeds. */
START_TEST(an_unprepared_run_is_refused_by_the_name_of_what_prepares_it) {
  const run_shape *shape = &run_shapes[_i];
  server s = {.ctx = emulated_context(NULL, streams[0], NULL),
              .run = emulated_run_new(shape, 1),
              .stream = streams[0]};
  char needed[100] = "";
  cumega_status status;
  cudaGraphExec_t graph;
  s.objects = emulated_objects_new(s.ctx, shape);
  for (int tries = 0;; tries++) {
    ck_assert_int_lt(tries, 4);
    begin_capture(s.stream);
    status = emulated_run_start(s.ctx, &s.objects, s.run);
    if (status == CUMEGA_OK) break;
    ck_assert_int_eq(status, CUMEGA_ERROR_RESOURCE);
    graph = end_capture(s.stream);
    must(cudaGraphLaunch(graph, s.stream));
    must(cudaStreamSynchronize(s.stream));
    ck_assert(emulated_run_is_clear(s.run));
    must(cudaGraphExecDestroy(graph));
    if (needed[0] != '\0') strcat(needed, " ");
    strcat(needed, help(&s));
  }
  ck_assert_str_eq(needed, shape->needs == NULL ? "" : shape->needs);
  graph = end_capture(s.stream);
  replay_is_right(&s, graph);
  must(cudaGraphExecDestroy(graph));
  close_server(&s);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("emulated_graphs");
  TCase *tests = add_case(suite, "graphs", 60);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_loop_test(tests, a_graph_serves_other_values_and_indices, 0, run_shape_count);
  tcase_add_loop_test(tests, a_graph_is_right_after_other_calls_have_grown_what_it_uses, 0,
                      run_shape_count);
  tcase_add_loop_test(tests, graphs_of_two_contexts_run_side_by_side, 0, run_shape_count);
  tcase_add_test(tests, a_replay_reports_what_it_meets_in_index_tensors);
  tcase_add_loop_test(tests, what_waits_or_allocates_is_refused_during_capture, 0,
                      run_shape_count);
  tcase_add_test(tests, making_or_changing_an_object_is_refused_during_capture);
  tcase_add_loop_test(tests, an_unprepared_run_is_refused_by_the_name_of_what_prepares_it, 0,
                      run_shape_count);
  return run_suite(suite);
}
