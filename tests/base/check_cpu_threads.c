/* Which CPU runs the context's threads share: much work wakes them; little work, which would be
 * done before they woke, does not. The resulting bits cannot show this; the number of times that
 * a thread went to sleep does. */
#include <sys/resource.h>
#include "defaults.h"
#include "harness.h"
#include "runner.h"
#include "settled_threads.h"

/* A run of every family; the work grows with size. */
typedef void (*sized_run)(cumega_context *ctx, int64_t size);

/* With 64 channels and four heads. */
static void run_ema(cumega_context *ctx, test_tensor *x, test_tensor *offsets,
                    cumega_ema_algorithm algorithm) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 64);
  cumega_ema *ema;
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
  test_tensor *y = tensor_new(cumega_float32, dl(x)->ndim, dl(x)->shape, NULL);
  const cumega_ema_io io = {.struct_size = sizeof io,
                            .x = dl(x),
                            .y = dl(y),
                            .sequence_offsets = dl(offsets),
                            .algorithm = algorithm};
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  cumega_ema_destroy(ema);
  tensor_free(x);
  tensor_free(y);
  tensor_free(offsets);
}

static void run_sequences(cumega_context *ctx, int64_t L) {
  run_ema(ctx, tensor_new_3(cumega_float32, L, 2, 64), NULL, CUMEGA_EMA_DEFAULT);
}

static void run_slices(cumega_context *ctx, int64_t L) {
  run_ema(ctx, tensor_new_3(cumega_float32, L, 1, 64), NULL, CUMEGA_EMA_SLICED);
}

/* Two sequences with `steps` steps in total. */
static void run_packed(cumega_context *ctx, int64_t steps) {
  run_ema(ctx, tensor_new_2(cumega_float32, steps, 64),
          tensor_of_int64(3, (int64_t[]){0, 100, steps}), CUMEGA_EMA_DEFAULT);
}

static void run_softmax(cumega_context *ctx, int64_t Lq) {
  const int64_t shape[] = {1, 1, Lq, 32768};
  test_tensor *scores = tensor_new(cumega_float32, 4, shape, NULL);
  cumega_attention_scores_io io;
  cumega_attention_scores_io_init(&io, sizeof io);
  io.scores = io.output = dl(scores);
  MUST(ctx, softmax_with(ctx, NULL, &io));
  tensor_free(scores);
}

static void run_bias(cumega_context *ctx, int64_t L) {
  test_tensor *output = tensor_new_2(cumega_float32, L, L);
  cumega_position_bias *bias;
  MUST(ctx, bias_relative(ctx, L, NULL, &bias));
  MUST(ctx, cumega_position_bias_forward(ctx, bias, dl(output)));
  cumega_position_bias_destroy(bias);
  tensor_free(output);
}

static void run_residual(cumega_context *ctx, int64_t rows, int64_t D) {
  cumega_residual_config config;
  cumega_residual_config_init(&config, sizeof config, CUMEGA_RESIDUAL_RESIDUAL, 1, D);
  cumega_residual *residual;
  MUST(ctx, cumega_residual_create(ctx, &config, NULL, &residual));
  test_tensor *x = tensor_new_2(cumega_float32, rows, D),
              *y = tensor_new_2(cumega_float32, rows, D);
  const cumega_residual_io io = {.struct_size = sizeof io, .x = dl(x), .y = dl(y), .out = dl(y)};
  MUST(ctx, cumega_residual_forward(ctx, residual, &io));
  cumega_residual_destroy(residual);
  tensor_free(x);
  tensor_free(y);
}

static void run_rows(cumega_context *ctx, int64_t rows) {
  run_residual(ctx, rows, 8192);
}

static void run_pieces(cumega_context *ctx, int64_t D) {
  run_residual(ctx, 1, D);
}

/* How often the process's other threads have gone to sleep; waits until all of them sleep. */
static long sleeps_of_others(void) {
  struct rusage all, own;
  wait_for_settled_threads();
  ck_assert_int_eq(getrusage(RUSAGE_SELF, &all), 0);
  ck_assert_int_eq(getrusage(RUSAGE_THREAD, &own), 0);
  return all.ru_nvcsw - own.ru_nvcsw;
}

static int wakes_others(cumega_context *ctx, sized_run run, int64_t size) {
  const long before = sleeps_of_others();
  run(ctx, size);
  return sleeps_of_others() != before;
}

START_TEST(much_work_is_shared_and_little_is_not) {
  static const struct {
    const char *name;
    sized_run run;
    int64_t little, much; /* the largest run that the caller does alone, and the next */
  } runs[] = {{"sequences of an EMA", run_sequences, 255, 256},
              {"slices of an EMA", run_slices, 511, 512},
              {"packed sequences", run_packed, 511, 512},
              {"rows of a softmax", run_softmax, 6, 7},
              {"a bias's matrix", run_bias, 444, 445},
              {"rows of a residual connection", run_rows, 3, 4},
              {"pieces of a row", run_pieces, 3 * 8192, 3 * 8192 + 1}};
  cumega_context *ctx = context_of_level(NULL, 3);
  for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
    ck_assert_msg(!wakes_others(ctx, runs[i].run, runs[i].little), "%s: little", runs[i].name);
    ck_assert_msg(wakes_others(ctx, runs[i].run, runs[i].much), "%s: much", runs[i].name);
  }
  cumega_context_destroy(ctx);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("CPU threads");
  tcase_add_test(add_case(suite, "shared", 60), much_work_is_shared_and_little_is_not);
  return run_suite(suite);
}
