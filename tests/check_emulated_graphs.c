/* Capture and replay: every run may be captured once its scratch is there, a graph serves other values,
 * lengths and slots, and what would have to allocate or wait is refused politely. */
#include <string.h>
#include "emulated_run.h"
#include "runner.h"

static cudaStream_t streams[2];

static void setup(void) {
  emulation_reset();
  for (int i = 0; i < 2; i++)
    ck_assert_int_eq(cudaStreamCreateWithFlags(&streams[i], cudaStreamNonBlocking), cudaSuccess);
}

static void teardown(void) {
  const char *text;
  for (int i = 0; i < 2; i++) ck_assert_int_eq(cudaStreamDestroy(streams[i]), cudaSuccess);
  ck_assert_msg(emulation_faults(&text) == 0, "%s", text);
  ck_assert_msg(emulation_leaks(&text) == 0, "%s", text);
  emulation_reset();
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

/* A context, an EMA and a run whose scratch is there. */
typedef struct server {
  cumega_context *ctx;
  cumega_ema *ema;
  emulated_run *run;
  cudaStream_t stream;
} server;

static server open_server(const run_shape *shape, cudaStream_t stream, uint64_t seed) {
  server s = {emulated_context(NULL, stream, NULL), NULL, emulated_run_new(shape, seed), stream};
  int64_t scratch;
  MUST(s.ctx, cumega_ema_create(s.ctx, &s.run->config, NULL, &s.ema));
  MUST(s.ctx, cumega_ema_workspace_size(s.ctx, s.ema, &s.run->io, &scratch));
  MUST(s.ctx, cumega_context_reserve(s.ctx, scratch));
  return s;
}

static void close_server(server *s) {
  cumega_ema_destroy(s->ema);
  cumega_context_destroy(s->ctx);
  emulated_run_free(s->run);
}

static cudaGraphExec_t captured(server *s) {
  begin_capture(s->stream);
  MUST(s->ctx, emulated_run_start(s->ctx, s->ema, s->run));
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

/* Values, lengths, offsets, slots and masks are others at each replay. */
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

/* The scratch that the graph names stays when others need more. */
START_TEST(a_graph_is_right_after_the_scratch_has_grown) {
  server s = open_server(&run_shapes[_i], streams[0], 1);
  cudaGraphExec_t graph = captured(&s);
  cumega_statistics before = {.struct_size = sizeof before}, after = before;
  MUST(s.ctx, cumega_context_statistics(s.ctx, &before));
  MUST(s.ctx, cumega_context_reserve(s.ctx, before.scratch_bytes + 4096));
  MUST(s.ctx, cumega_context_statistics(s.ctx, &after));
  ck_assert_int_ge(after.scratch_bytes, before.scratch_bytes + 4096);
  for (int seed = 0; seed < 3; seed++) {
    set_schedule(seed);
    emulated_run_refill(s.run, (uint64_t)seed);
    replay_is_right(&s, graph);
    emulated_run_clear(s.run); /* and so are runs beside the graph */
    MUST(s.ctx, emulated_run_start(s.ctx, s.ema, s.run));
    MUST(s.ctx, cumega_context_synchronize(s.ctx));
    ck_assert(emulated_run_is_right(s.run));
    MUST(s.ctx, cumega_context_reserve(s.ctx, after.scratch_bytes + 4096 * (seed + 1)));
  }
  must(cudaGraphExecDestroy(graph));
  close_server(&s);
}
END_TEST

/* Two contexts capture at once, each in its own stream, with one EMA; the graphs run side by side. */
START_TEST(graphs_of_two_contexts_run_side_by_side) {
  server a = open_server(&run_shapes[_i], streams[0], 1);
  server b = open_server(&run_shapes[_i], streams[1], 2);
  begin_capture(a.stream);
  begin_capture(b.stream);
  MUST(b.ctx, emulated_run_start(b.ctx, a.ema, b.run));
  MUST(a.ctx, emulated_run_start(a.ctx, a.ema, a.run));
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

/* What kernels meet in a replay is reported, and nothing of that sequence is written. */
START_TEST(a_replay_reports_what_it_meets_in_index_tensors) {
  server s = open_server(&run_shapes[1], streams[0], 1); /* packed, with pools */
  cudaGraphExec_t graph = captured(&s);
  uint32_t bits = 9;
  replay_is_right(&s, graph);
  MUST(s.ctx, cumega_context_report(s.ctx, &bits));
  ck_assert_uint_eq(bits, 0);
  const int64_t outside[] = {99, 99, 99};
  must(cudaMemcpy(s.run->views[RUN_TO].dl.data, outside, sizeof outside, cudaMemcpyHostToDevice));
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

static void says(cumega_context *ctx, cumega_status status, cumega_status expected,
                 const char *part) {
  ck_assert_int_eq(status, expected);
  const char *sentence = cumega_context_message(ctx);
  ck_assert_msg(strstr(sentence, part) != NULL, "'%s' is not in: %s", part, sentence);
}

/* Each with its sentence, and the capture is as good as before. */
START_TEST(what_waits_or_allocates_is_refused_during_capture) {
  server s = open_server(&run_shapes[_i], streams[0], 1);
  void *memory = NULL, *other = NULL;
  uint32_t bits;
  float value = 1;
  cumega_status status;
  cumega_ema *made = NULL;
  MUST(s.ctx, cumega_memory_allocate(s.ctx, 16, &memory));
  begin_capture(s.stream);
  says(s.ctx, cumega_context_synchronize(s.ctx), CUMEGA_ERROR_STATE, "waiting for it is not");
  says(s.ctx, cumega_context_reserve(s.ctx, 1 << 20), CUMEGA_ERROR_STATE, "reserving scratch is");
  says(s.ctx, cumega_context_report(s.ctx, &bits), CUMEGA_ERROR_STATE, "a copy that waits is not");
  says(s.ctx, cumega_memory_allocate(s.ctx, 8, &other), CUMEGA_ERROR_STATE, "allocating is not");
  says(s.ctx, cumega_memory_write(s.ctx, memory, &value, 4), CUMEGA_ERROR_STATE, "is not allowed");
  says(s.ctx, cumega_memory_read(s.ctx, &value, memory, 4), CUMEGA_ERROR_STATE, "is not allowed");
  says(s.ctx, cumega_memory_release(s.ctx, memory, 16), CUMEGA_ERROR_STATE, "is being captured");
  says(s.ctx, cumega_ema_create(s.ctx, &s.run->config, NULL, &made), CUMEGA_ERROR_STATE,
       "making or changing an object is not allowed");
  says(s.ctx, cumega_ema_reset_parameters(s.ctx, s.ema, 0, 1, 1, 3), CUMEGA_ERROR_STATE,
       "making or changing an object is not allowed");
  ck_assert_ptr_null(made);
  ck_assert_ptr_null(other);
  ck_assert_ptr_null(emulated_context(NULL, s.stream, &status));
  ck_assert_int_eq(status, CUMEGA_ERROR_STATE);
  ck_assert_ptr_nonnull(strstr(cumega_context_message(NULL), "making a context is not allowed"));
  MUST(s.ctx, emulated_run_start(s.ctx, s.ema, s.run));
  cudaGraphExec_t graph = end_capture(s.stream);
  replay_is_right(&s, graph);
  must(cudaGraphExecDestroy(graph));
  MUST(s.ctx, cumega_memory_release(s.ctx, memory, 16));
  close_server(&s);
}
END_TEST

START_TEST(a_run_without_its_scratch_names_the_call_that_reserves_it) {
  emulated_run *run = emulated_run_new(&run_shapes[_i], 1);
  cumega_context *ctx = emulated_context(NULL, streams[0], NULL);
  cumega_ema *ema = NULL;
  int64_t scratch;
  MUST(ctx, cumega_ema_create(ctx, &run->config, NULL, &ema));
  MUST(ctx, cumega_ema_workspace_size(ctx, ema, &run->io, &scratch));
  begin_capture(streams[0]);
  if (scratch > 0)
    says(ctx, emulated_run_start(ctx, ema, run), CUMEGA_ERROR_RESOURCE,
         "call cumega_context_reserve before");
  else
    MUST(ctx, emulated_run_start(ctx, ema, run));
  cudaGraphExec_t graph = end_capture(streams[0]);
  must(cudaGraphLaunch(graph, streams[0]));
  must(cudaStreamSynchronize(streams[0]));
  ck_assert(scratch > 0 ? emulated_run_is_clear(run) : emulated_run_is_right(run));
  must(cudaGraphExecDestroy(graph));
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
  emulated_run_free(run);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("emulated_graphs");
  TCase *tests = add_case(suite, "graphs", 60);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_loop_test(tests, a_graph_serves_other_values_and_indices, 0, run_shape_count);
  tcase_add_loop_test(tests, a_graph_is_right_after_the_scratch_has_grown, 0, run_shape_count);
  tcase_add_loop_test(tests, graphs_of_two_contexts_run_side_by_side, 0, run_shape_count);
  tcase_add_test(tests, a_replay_reports_what_it_meets_in_index_tensors);
  tcase_add_loop_test(tests, what_waits_or_allocates_is_refused_during_capture, 0, run_shape_count);
  tcase_add_loop_test(tests, a_run_without_its_scratch_names_the_call_that_reserves_it, 0,
                      run_shape_count);
  return run_suite(suite);
}
