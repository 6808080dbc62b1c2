/* Coefficients and kernels against the reference: for every finite parameter, p and q are within
 * 2 units in the last place (float64: 3); for every length, the kernel is within 2 * 2^-24 of the
 * sum of its terms. */
#include <float.h>
#include <math.h>
#include "defaults.h"
#include "ema_harness.h"
#include "runner.h"

static cumega_context *ctx;

static void setup(void) {
  ctx = context_new();
}

static void teardown(void) {
  cumega_context_destroy(ctx);
}

/* Units in the last place of `dtype` between a stored value and the exact one. */
static double units_off(DLDataType dtype, double stored, long double exact) {
  double unit = fmax(2.0 * number_rounding(dtype, (double)exact), DBL_TRUE_MIN);
  return (double)(fabsl(stored - exact) / unit);
}

/* -100 .. 100 densely, then extreme values. */
static double parameter(int64_t i, int64_t count, uint64_t *seed) {
  static const double extremes[] = {0.0,   -0.0,   1e-30,   -1e-30,   1e30,    -1e30,
                                    1e300, -1e300, FLT_MAX, -FLT_MAX, DBL_MAX, -DBL_MAX,
                                    745.2, -745.2, 709.8,   -709.8,   36.8,    -36.8,
                                    88.8,  -88.8,  103.9,   -103.9,   FLT_MIN, 5e-324};
  int64_t known = (int64_t)(sizeof extremes / sizeof extremes[0]);
  if (i < known) return extremes[i];
  if (i % 2 == 0) return 200.0 * random_unit(seed) - 100.0;
  return (-100.0 + 200.0 * (double)i / (double)count) * random_unit(seed);
}

/* Two units, but three for float64, where nothing hides what double arithmetic itself loses: one
 * unit in exp, and half a unit in each of 1 + e, the quotient, the product and the sum. Not all
 * of these can be in the last place of the result. p underflows to subnormal numbers far to the
 * left; q never does where p is not 1. */
static void check_coefficients_of_type(DLDataType dtype) {
  const int64_t D = 500, N = 24;
  const double units = dtype.bits == 64 ? 3.0 : 2.0;
  uint64_t seed = 5;
  test_parameters *parameters = parameters_new(D, N);
  for (int64_t i = 0; i < D * N; i++) {
    parameters->damping[i] = parameter(i % D, D, &seed);
    parameters->decay[i] = parameter(i / D < 12 ? i / D + 12 * (i % 2) : i % 97, D, &seed);
  }
  cumega_ema *ema = ema_new(ctx, ema_config_of(D), parameters, cumega_float64);
  test_tensor *p = tensor_new_3(dtype, D, N, 1), *q = tensor_new_2(dtype, D, N);
  MUST(ctx, cumega_ema_compute_coefficients(ctx, ema, dl(p), dl(q)));
  for (int64_t d = 0; d < D; d++)
    for (int64_t n = 0; n < N; n++) {
      int64_t i = d * N + n;
      double damping = parameters->damping[i], decay = parameters->decay[i];
      reference_coefficients pair = reference_ema_coefficients(damping, decay);
      double p_off = units_off(dtype, tensor_get(p, d, n, 0), pair.p);
      double q_off = units_off(dtype, tensor_get(q, d, n, 0), pair.q);
      ck_assert_msg(p_off <= units && q_off <= units,
                    "%s, damping %.17g, decay %.17g: p is %g units off, q %g", number_name(dtype),
                    damping, decay, p_off, q_off);
    }
  ck_assert(tensor_gaps_hold(p) && tensor_gaps_hold(q));
  tensor_free(p);
  tensor_free(q);
  cumega_ema_destroy(ema);
  parameters_free(parameters);
}

START_TEST(coefficients_are_within_their_units_for_every_finite_parameter) {
  check_coefficients_of_type(cumega_float64);
  check_coefficients_of_type(cumega_float32);
  check_coefficients_of_type(cumega_float16);
  check_coefficients_of_type(cumega_bfloat16);
}
END_TEST

START_TEST(either_coefficient_may_be_left_out) {
  uint64_t seed = 6;
  test_parameters *parameters = parameters_new(3, 2);
  parameters_fill(parameters, &seed, 0.1);
  cumega_ema *ema = ema_new(ctx, ema_config_of(3), parameters, cumega_float32);
  test_tensor *p = tensor_new_3(cumega_float64, 3, 2, 1),
              *q = tensor_new_3(cumega_float64, 3, 2, 1);
  MUST(ctx, cumega_ema_compute_coefficients(ctx, ema, dl(p), NULL));
  MUST(ctx, cumega_ema_compute_coefficients(ctx, ema, NULL, dl(q)));
  reference_coefficients pair =
      reference_ema_coefficients(parameters->damping[5], parameters->decay[5]);
  ck_assert_double_le(units_off(cumega_float64, tensor_get(p, 2, 1, 0), pair.p), 3.0);
  ck_assert_double_le(units_off(cumega_float64, tensor_get(q, 2, 1, 0), pair.q), 3.0);
  tensor_free(p);
  tensor_free(q);
  cumega_ema_destroy(ema);
  parameters_free(parameters);
}
END_TEST

/* The values of coefficients do not depend on the layout they are written in. */
START_TEST(coefficients_and_kernels_are_written_in_any_layout) {
  uint64_t seed = 7;
  test_parameters *parameters = parameters_new(5, 3);
  parameters_fill(parameters, &seed, 1e-3);
  cumega_ema *ema = ema_new(ctx, ema_config_of(5), parameters, cumega_float32);
  test_layout odd = {1, {1, 0}, {3, 2}, 1, 0, 1, 1};
  test_tensor *q = tensor_new_2(cumega_float32, 5, 3), *k = tensor_new_2(cumega_float32, 5, 40);
  test_tensor *odd_q = tensor_new(cumega_float32, 2, (int64_t[]){5, 3}, &odd);
  test_tensor *odd_k = tensor_new(cumega_float32, 2, (int64_t[]){5, 40}, &odd);
  MUST(ctx, cumega_ema_compute_coefficients(ctx, ema, NULL, dl(q)));
  MUST(ctx, cumega_ema_compute_coefficients(ctx, ema, NULL, dl(odd_q)));
  MUST(ctx, cumega_ema_compute_kernel(ctx, ema, dl(k)));
  MUST(ctx, cumega_ema_compute_kernel(ctx, ema, dl(odd_k)));
  for (int64_t d = 0; d < 5; d++) {
    for (int64_t n = 0; n < 3; n++)
      ck_assert_uint_eq(tensor_bits(q, d, n, 0), tensor_bits(odd_q, d, n, 0));
    for (int64_t l = 0; l < 40; l++)
      ck_assert_uint_eq(tensor_bits(k, d, l, 0), tensor_bits(odd_k, d, l, 0));
  }
  ck_assert(tensor_gaps_hold(odd_q) && tensor_gaps_hold(odd_k));
  test_tensor *all[] = {q, k, odd_q, odd_k};
  for (int i = 0; i < 4; i++) tensor_free(all[i]);
  cumega_ema_destroy(ema);
  parameters_free(parameters);
}
END_TEST

/* The bound of a kernel value. float32 and 16 bits: 2 u sum|term|, one more rounding at a 16-bit
 * store, and half of the smallest subnormal number for underflow. float64: each term is exp(l log
 * q) times three products; log q is right to 2 units, the product to half a unit, and both errors
 * are multiplied by |l log q|; exp is right to 2 units; the sum over N heads adds N roundings. */
static double kernel_bound(DLDataType dtype, const reference_ema *channel, int64_t l, double exact,
                           double magnitude) {
  if (dtype.bits == 64) {
    double exponent = 0.0;
    for (int64_t n = 0; n < channel->heads; n++) {
      reference_coefficients pair =
          reference_ema_coefficients(channel->damping[n], channel->decay[n]);
      double log_q = pair.q > 0.0L ? (double)-logl(pair.q) : 0.0;
      if (log_q * (double)l < 746.0) exponent = fmax(exponent, log_q * (double)l);
    }
    return (16.0 + (double)channel->heads + 6.0 * exponent) * 0x1p-53 * magnitude + 0x1p-1070;
  }
  double bound = 2.0 * 0x1p-24 * magnitude + 0x1p-149;
  return dtype.bits == 16 ? bound + number_rounding(dtype, fabs(exact) + bound) : bound;
}

static void check_kernel(cumega_ema *ema, const test_parameters *parameters, DLDataType dtype,
                         int64_t length) {
  int64_t D = parameters->channels;
  test_tensor *kernel = tensor_new_2(dtype, D, length);
  MUST(ctx, cumega_ema_compute_kernel(ctx, ema, dl(kernel)));
  for (int64_t d = 0; d < D; d++) {
    reference_ema channel = parameters_channel(parameters, d), sizes = channel;
    sizes.absolute = 1;
    for (int64_t l = 0; l < length; l += l < 64 || l > length - 64 ? 1 : 61) {
      real exact = reference_ema_kernel(&channel, l), magnitude = reference_ema_kernel(&sizes, l);
      double off = (double)fabsl(tensor_get(kernel, d, l, 0) - exact);
      double bound = kernel_bound(dtype, &channel, l, (double)exact, (double)magnitude);
      ck_assert_msg(off <= bound,
                    "%s, length %lld, k[%lld, %lld] = %.17g is off by %g, allowed %g",
                    number_name(dtype), (long long)length, (long long)d, (long long)l,
                    (double)exact, off, bound);
    }
  }
  ck_assert(tensor_gaps_hold(kernel));
  tensor_free(kernel);
}

START_TEST(kernels_are_within_two_roundings_of_their_terms) {
  static const int64_t lengths[] = {0, 1, 2, 31, 32, 33, 129, 1000, 4097, 65536};
  static const int64_t heads[] = {1, 2, 3, 4, 16, 33};
  static const double decays[] = {0.5, 1e-2, 1e-4, 1e-5};
  uint64_t seed = 8;
  for (int i = 0; i < 24; i++) {
    test_parameters *parameters = parameters_new(3, heads[i % 6]);
    parameters_fill(parameters, &seed, decays[i % 4]);
    cumega_ema *ema = ema_new(ctx, ema_config_of(3), parameters, cumega_float32);
    for (int j = 0; j < 10; j++) {
      check_kernel(ema, parameters, cumega_float32, lengths[j]);
      if (lengths[j] > 4097 && i % 8 > 0) continue;
      check_kernel(ema, parameters, cumega_float64, lengths[j]);
      check_kernel(ema, parameters, i % 2 ? cumega_float16 : cumega_bfloat16, lengths[j]);
    }
    cumega_ema_destroy(ema);
    parameters_free(parameters);
  }
}
END_TEST

/* q = 0 even in double, q = 1 even in double, and values between: q^0 is always 1. */
START_TEST(kernels_of_edge_parameters_are_finite_and_right) {
  static const double edges[] = {1e30, 1000.0, 40.0, 5.0, -40.0, -700.0, -1e30, FLT_MAX, -FLT_MAX};
  uint64_t seed = 9;
  test_parameters *parameters = parameters_new(9, 9);
  parameters_fill(parameters, &seed, 0.1);
  for (int64_t i = 0; i < 81; i++) {
    parameters->damping[i] = edges[i / 9];
    parameters->decay[i] = edges[i % 9];
  }
  cumega_ema *ema = ema_new(ctx, ema_config_of(9), parameters, cumega_float64);
  check_kernel(ema, parameters, cumega_float32, 1000);
  check_kernel(ema, parameters, cumega_float64, 1000);
  cumega_ema_destroy(ema);
  parameters_free(parameters);
}
END_TEST

START_TEST(a_kernel_is_not_cut_by_the_truncation_length) {
  uint64_t seed = 10;
  test_parameters *parameters = parameters_new(2, 4);
  parameters_fill(parameters, &seed, 0.1);
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 2);
  config.truncation_length = 3;
  cumega_ema *ema = ema_new(ctx, config, parameters, cumega_float32);
  check_kernel(ema, parameters, cumega_float32, 10);
  cumega_ema_destroy(ema);
  parameters_free(parameters);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ema_coefficients");
  TCase *tests = add_case(suite, "coefficients and kernels", 60);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, coefficients_are_within_their_units_for_every_finite_parameter);
  tcase_add_test(tests, either_coefficient_may_be_left_out);
  tcase_add_test(tests, coefficients_and_kernels_are_written_in_any_layout);
  tcase_add_test(tests, kernels_are_within_two_roundings_of_their_terms);
  tcase_add_test(tests, kernels_of_edge_parameters_are_finite_and_right);
  tcase_add_test(tests, a_kernel_is_not_cut_by_the_truncation_length);
  return run_suite(suite);
}
