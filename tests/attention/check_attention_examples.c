/* The usage examples from ESPnet's documentation of its position biases, with its sizes, in C. */
#include <math.h>
#include "defaults.h"
#include "harness.h"
#include "position_device.h"
#include "runner.h"

START_TEST(a_rotary_bias_of_length_ten_is_ten_by_ten) {
  cumega_context *ctx = context_new();
  cumega_position_bias *bias = NULL;
  MUST(ctx, bias_rotary(ctx, 64, 2048, NULL, NULL, &bias));
  test_tensor *out = tensor_new_2(cumega_float32, 10, 10),
              *wrong = tensor_new_2(cumega_float32, 10, 9);
  MUST(ctx, cumega_position_bias_forward(ctx, bias, dl(out)));
  for (int64_t i = 0; i < 10; i++)
    for (int64_t j = 0; j < 10; j++) /* 64 products of normal(0, 0.02) numbers */
      ck_assert_double_le(fabs(tensor_get(out, i, j, 0)), 64 * 0.1 * 0.1);
  ck_assert(tensor_get(out, 0, 1, 0) != 0);
  ck_assert_int_eq(cumega_position_bias_forward(ctx, bias, dl(wrong)), CUMEGA_ERROR_ARGUMENT);
  tensor_free(out);
  tensor_free(wrong);
  cumega_position_bias_destroy(bias);
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(a_length_beyond_the_maximum_is_an_error) {
  cumega_context *ctx = context_new();
  cumega_position_bias *bias = NULL;
  MUST(ctx, bias_relative(ctx, 10, NULL, &bias));
  test_tensor *out = tensor_new_2(cumega_float32, 11, 11);
  tensor_remember(out);
  ck_assert_int_eq(cumega_position_bias_forward(ctx, bias, dl(out)), CUMEGA_ERROR_ARGUMENT);
  ck_assert(tensor_unchanged(out));
  tensor_free(out);
  cumega_position_bias_destroy(bias);
  cumega_context_destroy(ctx);
}
END_TEST

/* Around 0.5 with a deviation of 0.1: 19 numbers, their mean within 5 standard errors. */
START_TEST(parameters_are_reset_around_the_given_mean) {
  cumega_context *ctx = context_new();
  cumega_position_bias *bias = NULL;
  test_tensor *w = tensor_new_1(cumega_float32, 19);
  double mean = 0;
  MUST(ctx, bias_relative(ctx, 10, NULL, &bias));
  MUST(ctx, cumega_position_bias_reset_parameters(ctx, bias, 0.5, 0.1, 2022));
  cumega_position_bias_parameters p = {.struct_size = sizeof p, .relative_position_bias = dl(w)};
  MUST(ctx, cumega_position_bias_get_parameters(ctx, bias, &p));
  for (int i = 0; i < 19; i++) mean += tensor_get(w, i, 0, 0) / 19;
  ck_assert_double_le(fabs(mean - 0.5), 5 * 0.1 / sqrt(19));
  ck_assert(tensor_get(w, 0, 0, 0) != tensor_get(w, 1, 0, 0));
  tensor_free(w);
  cumega_position_bias_destroy(bias);
  cumega_context_destroy(ctx);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("position_examples");
  TCase *tests = add_case(suite, "examples", 30);
  tcase_add_test(tests, a_rotary_bias_of_length_ten_is_ten_by_ten);
  tcase_add_test(tests, a_length_beyond_the_maximum_is_an_error);
  tcase_add_test(tests, parameters_are_reset_around_the_given_mean);
  return run_suite(suite);
}
