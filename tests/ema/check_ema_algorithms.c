/* Which runs an algorithm refuses, and with which message, on the device that the suites run
 * on. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ema_harness.h"
#include "runner.h"

enum { L = 6, B = 2, D = 3 };

typedef struct refusal {
  int algorithm;
  int64_t truncation, heads; /* 0: no truncation; 0: 4 heads */
  int in_place, ignores, has_state, step;
  cumega_status on_cpu, on_cuda;
  const char *says; /* the message if refused */
} refusal;

#define OK          CUMEGA_OK
#define ARGUMENT    CUMEGA_ERROR_ARGUMENT
#define UNSUPPORTED CUMEGA_ERROR_UNSUPPORTED

static const refusal refusals[] = {
    {.algorithm = CUMEGA_EMA_DEFAULT},
    {.algorithm = CUMEGA_EMA_DEFAULT, .truncation = 2},
    {.algorithm = CUMEGA_EMA_DEFAULT, .truncation = L},
    {.algorithm = CUMEGA_EMA_RECURRENT},
    {.algorithm = CUMEGA_EMA_RECURRENT, .truncation = 2},
    {.algorithm = CUMEGA_EMA_SLICED},
    {.algorithm = CUMEGA_EMA_SLICED, .truncation = 2, .ignores = 1},
    {.algorithm = CUMEGA_EMA_SLICED, .truncation = L},
    {CUMEGA_EMA_SLICED, 2, 0, 0, 0, 0, 0, ARGUMENT, ARGUMENT,
     "algorithm is SLICED, and the run is truncated"},
    {CUMEGA_EMA_SLICED, 0, 0, 1, 0, 0, 0, ARGUMENT, ARGUMENT, "algorithm is SLICED, and y is x"},
    {CUMEGA_EMA_SLICED, 0, 17, 0, 0, 0, 0, OK, UNSUPPORTED, "17 heads, expected at most 16"},
    {CUMEGA_EMA_CHUNKED, 0, 0, 1, 0, 1, 0, UNSUPPORTED, OK, "the CPU does not have"},
    {CUMEGA_EMA_CHUNKED, 0, 17, 0, 0, 0, 0, UNSUPPORTED, UNSUPPORTED, "CHUNKED"},
    {CUMEGA_EMA_CHUNKED, 2, 0, 0, 0, 0, 0, ARGUMENT, ARGUMENT,
     "algorithm is CHUNKED, and the run is truncated"},
    {CUMEGA_EMA_FFT, 2, 17, 1, 0, 0, 0, UNSUPPORTED, OK, "algorithm is FFT, which the CPU"},
    {CUMEGA_EMA_FFT, 0, 0, 0, 0, 1, 0, ARGUMENT, ARGUMENT, "FFT, and final_state is given"},
    {.algorithm = CUMEGA_EMA_FASTEST},
    {.algorithm = CUMEGA_EMA_FASTEST, .truncation = 2, .in_place = 1},
    {CUMEGA_EMA_FASTEST + 1, 0, 0, 0, 0, 0, 0, ARGUMENT, ARGUMENT, "expected 0 to"},
    {-1, 0, 0, 0, 0, 0, 0, ARGUMENT, ARGUMENT, "algorithm is -1"},
    {CUMEGA_EMA_RECURRENT, 0, 0, 0, 0, 0, 1, ARGUMENT, ARGUMENT, "for a step"},
};

START_TEST(an_algorithm_that_cannot_compute_the_run_is_refused) {
  const refusal *r = &refusals[_i];
  cumega_context *ctx = context_new();
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, D);
  if (r->truncation > 0) config.truncation_length = r->truncation;
  if (r->heads > 0) config.num_heads = r->heads;
  cumega_ema *ema = NULL;
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
  test_tensor *x = tensor_new_3(cumega_float32, r->step ? 1 : L, B, D);
  test_tensor *y = tensor_new_3(cumega_float32, r->step ? 1 : L, B, D);
  test_tensor *state = tensor_new_3(cumega_float32, B, D, config.num_heads);
  for (int i = 0; i < (r->step ? 1 : L) * B * D; i++)
    tensor_set(x, i / (B * D), i / D % B, i % D, 1);
  cumega_ema_io io = io_of(x, r->in_place ? x : y);
  io.algorithm = (cumega_ema_algorithm)r->algorithm;
  io.ignore_truncation = r->ignores;
  if (r->has_state) io.final_state = dl(state);
  tensor_remember(y);
  const cumega_status expected = device_is_cuda() ? r->on_cuda : r->on_cpu;
  const cumega_status status =
      r->step ? cumega_ema_step(ctx, ema, &io) : cumega_ema_forward(ctx, ema, &io);
  ck_assert_msg(status == expected, "%s: %s", cumega_status_string(status),
                cumega_context_message(ctx));
  if (status != CUMEGA_OK)
    ck_assert_msg(strstr(cumega_context_message(ctx), r->says) != NULL, "'%s' has no '%s'",
                  cumega_context_message(ctx), r->says);
  ck_assert_int_eq(tensor_unchanged(y), status != CUMEGA_OK || r->in_place);
  tensor_free(x);
  tensor_free(y);
  tensor_free(state);
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
}
END_TEST

/* Slow decays leave no room for slices, so on CUDA a long sequence uses CHUNKED. Fast decays and
 * short sequences keep RECURRENT's bits; the default keeps them for every shape. */
START_TEST(fastest_is_chunked_where_slices_do_not_pay) {
  static const struct {
    int64_t length;
    double slowest;
    cumega_ema_algorithm algorithm;
    int chunked;
  } rows[] = {{8192, 1e-3, CUMEGA_EMA_FASTEST, 1},
              {8192, 0.25, CUMEGA_EMA_FASTEST, 0},
              {512, 1e-3, CUMEGA_EMA_FASTEST, 0},
              {8192, 1e-3, CUMEGA_EMA_DEFAULT, 0}};
  cumega_context *ctx = context_new();
  for (int i = 0; i < 4; i++) {
    uint64_t seed = 1;
    test_parameters *parameters = parameters_new(1, 2);
    parameters_fill(parameters, &seed, rows[i].slowest);
    cumega_ema_config config;
    cumega_ema_config_init(&config, sizeof config, 1);
    config.num_heads = 2;
    cumega_ema *ema = ema_new(ctx, config, parameters, cumega_float32);
    test_tensor *x = tensor_new_3(cumega_float32, rows[i].length, 1, 1);
    test_tensor *y = tensor_new_3(cumega_float32, rows[i].length, 1, 1);
    for (int64_t t = 0; t < rows[i].length; t++) tensor_set(x, t, 0, 0, random_noise(&seed));
    cumega_ema_io io = io_of(x, y);
    io.algorithm = rows[i].algorithm;
    MUST(ctx, cumega_ema_forward(ctx, ema, &io));
    ck_assert_int_eq(strstr(cumega_context_kernels(ctx), "ema_chunked_kernel") != NULL,
                     device_is_cuda() && rows[i].chunked);
    tensor_free(x);
    tensor_free(y);
    parameters_free(parameters);
    cumega_ema_destroy(ema);
  }
  cumega_context_destroy(ctx);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ema_algorithms");
  TCase *tests = add_case(suite, "algorithms", 60);
  tcase_add_loop_test(tests, an_algorithm_that_cannot_compute_the_run_is_refused, 0,
                      (int)(sizeof refusals / sizeof *refusals));
  tcase_add_test(tests, fastest_is_chunked_where_slices_do_not_pay);
  return run_suite(suite);
}
