/* Runs of the EMA on emulated CUDA: how the blocks of CHUNKED wait for one another under any
 * schedule, and what FFT keeps in a context, within which limits. */
#include <string.h>
#include "emulated_run.h"
#include "runner.h"

START_TEST(chunks_wait_for_one_another_in_any_schedule) {
  const run_shape shape = {
      "chunks", &ema_operation, .own_bits = 1,
      .ema = {2500, 2, 5, 2, cumega_float32, cumega_float32, .algorithm = CUMEGA_EMA_CHUNKED}};
  emulation_set_schedule(EMULATION_FIXED, 0);
  emulated_run *run = emulated_run_new(&shape, 1);
  cumega_context *ctx = emulated_context(NULL, NULL, NULL);
  run_objects objects = emulated_objects_new(ctx, &shape);
  for (uint64_t seed = 0; seed < 10; seed++) {
    emulation_set_schedule(EMULATION_RANDOM, seed);
    emulated_run_clear(run);
    MUST(ctx, emulated_run_start(ctx, &objects, run));
    MUST(ctx, cumega_context_synchronize(ctx));
    ck_assert_msg(emulated_run_is_right(run), "seed %d", (int)seed);
  }
  emulated_objects_destroy(&objects);
  cumega_context_destroy(ctx);
  emulated_run_free(run);
}
END_TEST

/* ---- FFT ---- */

static cumega_context *context_with_limit(int64_t limit) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  cumega_context *ctx = NULL;
  options.device = (DLDevice){kDLCUDA, 0};
  options.memory_limit = limit;
  MUST(NULL, cumega_context_create(&options, &ctx));
  return ctx;
}

static cumega_ema *truncated_ema_of(cumega_context *ctx, int64_t D, int64_t truncation) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, D);
  config.truncation_length = truncation;
  cumega_ema *ema = NULL;
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
  return ema;
}

static cumega_ema *ema_of(cumega_context *ctx, int64_t D) {
  return truncated_ema_of(ctx, D, CUMEGA_NO_TRUNCATION);
}

/* x and y share one place, of which only the beginning may exist. */
typedef struct in_place {
  cumega_tensor x;
  cumega_ema_io io;
} in_place;

static cumega_ema_io *at(in_place *t, void *data, int64_t L, int64_t B, int64_t D) {
  const int64_t shape[] = {L, B, D};
  t->io = (cumega_ema_io){.struct_size = sizeof t->io, .algorithm = CUMEGA_EMA_FFT};
  t->io.y = cumega_tensor_init(&t->x, data, (DLDevice){kDLCUDA, 0}, cumega_float32, 3, shape);
  t->io.x = t->io.y;
  return &t->io;
}

static int64_t workspace(int64_t limit, int64_t L, int64_t B, int64_t D) {
  static float nothing[1];
  cumega_context *ctx = context_with_limit(limit);
  cumega_ema *ema = ema_of(ctx, D);
  in_place t;
  int64_t bytes = -1;
  MUST(ctx, cumega_ema_workspace_size(ctx, ema, at(&t, nothing, L, B, D), &bytes));
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
  return bytes;
}

START_TEST(tiles_are_bounded_by_their_most_and_an_eighth_of_the_limit) {
  enum { L = 500000, B = 4, D = 100 };
  const int64_t row = 4 * (1000000 + 2), most = (int64_t)256 << 20; /* 10^6: no factor above 7 */
  ck_assert_int_eq(workspace(0, L, B, D), most / row * row);
  ck_assert_int_eq(workspace((int64_t)1 << 40, L, B, D), most / row * row);
  ck_assert_int_eq(workspace((int64_t)1 << 30, L, B, D), most / 2 / row * row);
  ck_assert_int_eq(workspace((int64_t)1 << 24, L, B, D), row); /* at least one */
  ck_assert_int_eq(workspace(0, L, B, 1), B * row);
  ck_assert_int_eq(workspace(0, 0, B, D), 0);
  ck_assert_int_eq(workspace(0, L, 0, D), 0);
}
END_TEST

/* One row: L + min(L, truncation) - 1 numbers, rounded up to the next even number without a
 * factor above 7, and two more. */
START_TEST(a_row_has_the_least_good_length) {
  static float nothing[1];
  cumega_context *ctx = context_with_limit(0);
  cumega_ema *ema = truncated_ema_of(ctx, 1, 5);
  in_place t;
  int64_t bytes = -1;
  ck_assert_int_eq(workspace(0, 47, 1, 1), 4 * (96 + 2)); /* 94 is 2 * 47 */
  ck_assert_int_eq(workspace(0, 100, 1, 1), 4 * (200 + 2));
  MUST(ctx, cumega_ema_workspace_size(ctx, ema, at(&t, nothing, 100, 1, 1), &bytes));
  ck_assert_int_eq(bytes, 4 * (108 + 2)); /* 104 has 13, 106 has 53 */
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
}
END_TEST

/* An eighth of the limit is less than a row of floats, or of the doubles that the spectrum is
 * made from. */
START_TEST(a_small_limit_has_the_bits_of_none) {
  enum { L = 2000, B = 2, PITCH = 4000 + 2 };
  static float x[L * B], y[2][L * B];
  uint64_t seed = 3;
  for (int i = 0; i < L * B; i++) x[i] = (float)random_noise(&seed);
  for (int i = 0; i < 2; i++) {
    cumega_context *ctx = context_with_limit(i == 0 ? 0 : 31 * PITCH);
    cumega_ema *ema = ema_of(ctx, 1);
    in_place t;
    void *data;
    MUST(ctx, cumega_memory_allocate(ctx, sizeof x, &data));
    MUST(ctx, cumega_memory_write(ctx, data, x, sizeof x));
    MUST(ctx, cumega_ema_forward(ctx, ema, at(&t, data, L, B, 1)));
    MUST(ctx, cumega_memory_read(ctx, y[i], data, sizeof x));
    MUST(ctx, cumega_memory_release(ctx, data, sizeof x));
    cumega_ema_destroy(ema);
    cumega_context_destroy(ctx);
  }
  ck_assert_mem_eq(y[0], y[1], sizeof x);
}
END_TEST

START_TEST(a_run_without_steps_or_sequences_makes_nothing) {
  cumega_context *ctx = context_with_limit(0);
  cumega_ema *ema = ema_of(ctx, 3);
  in_place t;
  void *data;
  int64_t count;
  MUST(ctx, cumega_memory_allocate(ctx, 4, &data));
  for (int i = 0; i < 2; i++) {
    emulation_calls_begin();
    const cumega_ema_io *io = at(&t, data, i == 0 ? 0 : 5, i == 0 ? 5 : 0, 3);
    MUST(ctx, cumega_ema_prepare(ctx, ema, io));
    MUST(ctx, cumega_ema_forward(ctx, ema, io));
    const char *const *calls = emulation_calls(&count);
    for (int64_t k = 0; k < count; k++)
      ck_assert_msg(strncmp(calls[k], "cufft", 5) != 0 && strcmp(calls[k], "cudaMalloc") != 0,
                    "%s", calls[k]);
  }
  MUST(ctx, cumega_memory_release(ctx, data, 4));
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
}
END_TEST

/* A context keeps eight plans. If waiting for the work that may use the oldest plan fails,
 * nothing changes. */
START_TEST(the_ninth_plan_waits_for_work_with_the_oldest) {
  enum { D = 2, PLANS = 8, BYTES = 4096 };
  cumega_context *ctx = context_with_limit(0);
  cumega_ema *ema = ema_of(ctx, D);
  in_place t;
  void *data;
  MUST(ctx, cumega_memory_allocate(ctx, BYTES, &data));
  for (int i = 0; i < PLANS; i++)
    MUST(ctx, cumega_ema_prepare(ctx, ema, at(&t, data, 10 * (i + 1), 1, D)));
  const cumega_ema_io *ninth = at(&t, data, 100, 1, D);
  int failures = 0;
  for (cumega_status status = CUMEGA_ERROR_DEVICE; status != CUMEGA_OK; failures++) {
    emulation_calls_begin();
    emulation_fail(failures + 1, cudaErrorInvalidValue, 0, 0);
    status = cumega_ema_prepare(ctx, ema, ninth);
    ck_assert(status == CUMEGA_OK || status == CUMEGA_ERROR_DEVICE);
    if (emulated_calls_of("cufftDestroy") > 0) break; /* the oldest is gone */
  }
  emulation_fail(0, cudaSuccess, 0, 0);
  ck_assert_int_gt(failures, 3); /* the scope, the check for a capture, and the wait */
  MUST(ctx, cumega_ema_prepare(ctx, ema, ninth));
  for (int i = PLANS; i > 0;
       i--) { /* from the youngest on; the oldest is made again and replaces it */
    emulation_calls_begin();
    MUST(ctx, cumega_ema_prepare(ctx, ema, at(&t, data, 10 * i, 1, D)));
    ck_assert_int_eq(emulated_calls_of("cufftCreate"), i == 1 ? 2 : 0);
  }
  MUST(ctx, cumega_memory_release(ctx, data, BYTES));
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
}
END_TEST

/* The context has the plan for such a run but not its spectrum, or the spectrum but no plan for
 * that number of rows. */
START_TEST(a_capture_needs_its_own_spectrum_and_plan) {
  enum { BYTES = 320 };
  cudaStream_t stream;
  cudaGraph_t graph;
  in_place t, twice;
  void *data;
  ck_assert_int_eq(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
  cumega_context *ctx = emulated_context(NULL, stream, NULL);
  cumega_ema *ema = ema_of(ctx, 2), *other = ema_of(ctx, 2);
  MUST(ctx, cumega_memory_allocate(ctx, BYTES, &data));
  const cumega_ema_io *io = at(&t, data, 20, 1, 2);
  MUST(ctx, cumega_ema_prepare(ctx, ema, io));
  MUST(ctx, cumega_context_reserve(ctx, 4096));
  ck_assert_int_eq(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
  ck_assert_int_eq(cumega_ema_forward(ctx, other, io), CUMEGA_ERROR_RESOURCE);
  ck_assert_ptr_nonnull(strstr(cumega_context_message(ctx), "call cumega_ema_prepare before"));
  ck_assert_int_eq(cumega_ema_forward(ctx, ema, at(&twice, data, 20, 2, 2)),
                   CUMEGA_ERROR_RESOURCE);
  ck_assert_ptr_nonnull(strstr(cumega_context_message(ctx), "call cumega_ema_prepare before"));
  MUST(ctx, cumega_ema_forward(ctx, ema, io));
  ck_assert_int_eq(cudaStreamEndCapture(stream, &graph), cudaSuccess);
  ck_assert_int_eq(cudaGraphDestroy(graph), cudaSuccess);
  MUST(ctx, cumega_memory_release(ctx, data, BYTES));
  cumega_ema_destroy(ema);
  cumega_ema_destroy(other);
  cumega_context_destroy(ctx);
  ck_assert_int_eq(cudaStreamDestroy(stream), cudaSuccess);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("emulated_ema");
  TCase *tests = add_case(suite, "ema", 60);
  tcase_add_checked_fixture(tests, emulation_reset, emulated_nothing_is_left);
  tcase_add_test(tests, chunks_wait_for_one_another_in_any_schedule);
  tcase_add_test(tests, tiles_are_bounded_by_their_most_and_an_eighth_of_the_limit);
  tcase_add_test(tests, a_row_has_the_least_good_length);
  tcase_add_test(tests, a_small_limit_has_the_bits_of_none);
  tcase_add_test(tests, a_run_without_steps_or_sequences_makes_nothing);
  tcase_add_test(tests, the_ninth_plan_waits_for_work_with_the_oldest);
  tcase_add_test(tests, a_capture_needs_its_own_spectrum_and_plan);
  return run_suite(suite);
}
