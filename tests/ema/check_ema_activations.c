/* Each activation against its long double definition. The EMA lets x pass (projection 0, residual
 * weight 1), so that the activation sees x itself.
 *
 * Tolerances are in u = 2^-24 (float64: 2^-53). exp, tanh and log1p are right to 2 units in the
 * last place, 4 u. A sigmoid is exp, a sum and a quotient: 4 + 1 + 1 u. swish multiplies by x and
 * by beta, which is rounded: 9 u. tanh: 4 u. mish: exp 4, which the argument of log1p passes on
 * (condition 1), log1p 4, tanh 4 (condition 1), product 1: 13 u. smish: the sigmoid's 6; the
 * rounded beta's effect on exp, which is |beta x| u times 1 - sigmoid, below 1.3 u |beta| max(1,
 * -x); then 4 + 4 and three products. selu must not lose exp(x) - 1 near 0: expm1 from these
 * functions takes two of them and three operations, 12 u. leaky_relu and hardtanh round their
 * arguments. ftswish adds its threshold and shift, which can cancel: 9 u of the swish plus 2 u of
 * each. A 16-bit type rounds once more. Where intermediates are subnormal or overflow, so that x
 * * sigmoid(x) is less than |x| times the smallest normal number, the error is absolute. */
#include <float.h>
#include <math.h>
#include "ema_harness.h"
#include "runner.h"

static cumega_context *ctx;

static void setup(void) {
  ctx = context_new();
}

static void teardown(void) {
  cumega_context_destroy(ctx);
}

static const DLDataType types[] = {
    {kDLFloat, 32, 1}, {kDLFloat, 64, 1}, {kDLFloat, 16, 1}, {kDLBfloat, 16, 1}};

static double units(const cumega_ema_config *config, double z) {
  switch (config->activation) {
  case CUMEGA_ACTIVATION_IDENTITY:
  case CUMEGA_ACTIVATION_RELU: return 0.0;
  case CUMEGA_ACTIVATION_TANH: return 4.0;
  case CUMEGA_ACTIVATION_LEAKY_RELU: return z < 0.0 ? 2.0 : 0.0;
  case CUMEGA_ACTIVATION_SELU: return 12.0;
  case CUMEGA_ACTIVATION_MISH: return 13.0;
  case CUMEGA_ACTIVATION_SMISH:
    return 17.0 + 1.3 * fabs(config->activation_arguments.smish_beta) * fmax(1.0, -z);
  default: return 9.0;
  }
}

/* Terms to which the units are relative. */
static double size_of(const cumega_ema_config *config, double z, double exact) {
  if (config->activation == CUMEGA_ACTIVATION_HARDTANH) return 0.12 * fabs(exact); /* 1 of 9 u */
  if (config->activation != CUMEGA_ACTIVATION_FTSWISH) return fabs(exact);
  return fabs(z / (1.0 + exp(-z))) +
         0.3 * (fabs(config->activation_arguments.ftswish_threshold) +
                fabs(config->activation_arguments.ftswish_mean_shift) + fabs(exact));
}

static double tolerance(const cumega_ema_config *config, DLDataType dtype, double z,
                        double exact) {
  double unit = dtype.bits == 64 ? 0x1p-53 : 0x1p-24;
  double least = dtype.bits == 64 ? DBL_MIN : FLT_MIN;
  int passes = units(config, z) == 0.0;
  double scale = fmax(1.0, config->activation_arguments.swish_beta) *
                 fmax(1.0, config->activation_arguments.smish_alpha);
  double bound = passes ? 0.0
                        : units(config, z) * unit * size_of(config, z, exact) +
                              2.0 * scale * least * (1.0 + fmin(fabs(z), 1500.0));
  return dtype.bits == 16 ? bound + number_rounding(dtype, fabs(exact) + bound) : bound;
}

/* ftswish jumps at v = 0: the value on the other side is accepted there. */
static int on_the_edge(const cumega_ema_config *config, double z, double unit) {
  if (config->activation != CUMEGA_ACTIVATION_FTSWISH) return 0;
  double swish = z / (1.0 + exp(-z)), v = swish + config->activation_arguments.ftswish_threshold;
  return fabs(v) <= 12.0 * unit * (fabs(swish) - config->activation_arguments.ftswish_threshold);
}

#define POINTS 20000

static double point(DLDataType dtype, int64_t i, uint64_t *seed) {
  static const double known[] = {0.0,  -0.0, 1.0,   -1.0,  0.5,    -0.5,   1e-30,  -1e-30,
                                 1e-6, 1e4,  -1e4,  88.7,  -88.7,  -103.9, 104.0,  -745.0,
                                 3e38, 2.0,  -3e38, -87.4, -0.999, 1.0001, -1e-20, -16.6};
  double value;
  if (i < 24)
    value = known[i];
  else if (i % 3 == 0)
    value = 120.0 * random_unit(seed) - 100.0;
  else if (i % 3 == 1)
    value = 4.0 * random_noise(seed);
  else
    value = random_noise(seed) * ldexp(1.0, (int)random_below(seed, 40) - 34);
  value = number_round(dtype, value);
  return isfinite(value) ? value : 0.25;
}

static void check(cumega_ema_config config, DLDataType dtype) {
  if (dtype.bits == 64) config.state_dtype = cumega_float64;
  cumega_ema *ema = ema_pass_through(ctx, config);
  test_tensor *x = tensor_new_3(dtype, POINTS / config.size, 1, config.size);
  test_tensor *y = tensor_new_3(dtype, POINTS / config.size, 1, config.size);
  uint64_t seed = 31 + (uint64_t)config.activation;
  for (int64_t i = 0; i < POINTS; i++)
    tensor_set(x, i / config.size, 0, i % config.size, point(dtype, i, &seed));
  cumega_ema_io io = io_of(x, y);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  for (int64_t i = 0; i < POINTS; i++) {
    double z = tensor_get(x, i / config.size, 0, i % config.size);
    double found = tensor_get(y, i / config.size, 0, i % config.size);
    double exact = number_round(dtype, (double)reference_activation(&config, z));
    if (dtype.bits == 64 || isfinite(exact)) exact = (double)reference_activation(&config, z);
    double bound = tolerance(&config, dtype, z, exact);
    int right = isfinite(exact) ? fabs(found - exact) <= bound : found == exact;
    if (!right && on_the_edge(&config, z, dtype.bits == 64 ? 0x1p-53 : 0x1p-24)) continue;
    ck_assert_msg(right, "%s of %.9g in %s: %.9g, exactly %.9g, off by %.3g, allowed %.3g",
                  cumega_activation_name(config.activation), z, number_name(dtype), found, exact,
                  fabs(found - exact), bound);
  }
  ck_assert(tensor_gaps_hold(y));
  tensor_free(x);
  tensor_free(y);
  cumega_ema_destroy(ema);
}

START_TEST(every_activation_holds_with_its_defaults) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 20);
  config.activation = (cumega_activation)_i;
  for (int i = 0; i < 4; i++) check(config, types[i]);
}
END_TEST

/* Arguments for every activation at once: each takes its own and ignores the rest. */
START_TEST(every_activation_holds_with_odd_arguments) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 20);
  config.activation = (cumega_activation)_i;
  config.activation_arguments.swish_beta = 1.75;
  config.activation_arguments.leakyrelu_neg_slope = -0.3;
  config.activation_arguments.hardtanh_min_val = -0.4;
  config.activation_arguments.hardtanh_max_val = 2.7;
  config.activation_arguments.smish_alpha = 2.1;
  config.activation_arguments.smish_beta = 0.45;
  config.activation_arguments.ftswish_threshold = -0.35;
  config.activation_arguments.ftswish_mean_shift = 0.1;
  for (int i = 0; i < 4; i++) check(config, types[i]);
  config.activation_arguments.swish_beta = 0.5; /* has no effect up to 1 */
  config.activation_arguments.leakyrelu_neg_slope = 2.0;
  config.activation_arguments.hardtanh_min_val = 0.5;
  config.activation_arguments.smish_alpha = -3.0; /* taken as 1 */
  config.activation_arguments.smish_beta = 0.0;   /* taken as 1 */
  config.activation_arguments.ftswish_threshold = -1.5;
  config.activation_arguments.ftswish_mean_shift = -2.0;
  for (int i = 0; i < 4; i++) check(config, types[i]);
}
END_TEST

static double activate(cumega_ema_config config, DLDataType dtype, double z) {
  config.size = 1;
  if (dtype.bits == 64) config.state_dtype = cumega_float64;
  cumega_ema *ema = ema_pass_through(ctx, config);
  test_tensor *x = tensor_new_3(dtype, 1, 1, 1), *y = tensor_new_3(dtype, 1, 1, 1);
  test_tensor *mask = tensor_new_2(cumega_bool, 1, 1);
  tensor_set(x, 0, 0, 0, z);
  tensor_set(mask, 0, 0, 0, 1); /* the EMA sees nothing, the residual path sees z */
  cumega_ema_io io = io_of(x, y);
  io.mask = dl(mask);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  double result = tensor_get(y, 0, 0, 0);
  tensor_free(x);
  tensor_free(y);
  tensor_free(mask);
  cumega_ema_destroy(ema);
  return result;
}

START_TEST(a_nan_passes_through_all_but_ftswish) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 1);
  config.activation = (cumega_activation)_i;
  for (int i = 0; i < 4; i++) {
    double y = activate(config, types[i], NAN);
    if (config.activation == CUMEGA_ACTIVATION_FTSWISH)
      ck_assert_double_eq_tol(y, -0.2, 0.2 * (types[i].code == kDLBfloat ? 0x1p-8 : 0x1p-11));
    else
      ck_assert_double_nan(y);
  }
}
END_TEST

START_TEST(infinities_have_their_limits) {
  static const double left[] = {-INFINITY,           0.0, NAN, -1.0, -INFINITY, -1.0,
                                -1.7580993408473766, NAN, NAN, -0.2};
  static const double right[] = {INFINITY, INFINITY, INFINITY, 1.0,      INFINITY,
                                 1.0,      INFINITY, INFINITY, INFINITY, INFINITY};
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 1);
  config.activation = (cumega_activation)_i;
  for (int i = 0; i < 2; i++) {
    double y = activate(config, types[i], INFINITY);
    ck_assert_msg(y == right[_i], "%s(inf) = %g", cumega_activation_name(config.activation), y);
    y = activate(config, types[i], -INFINITY);
    if (isnan(left[_i]))
      ck_assert_msg(isnan(y) || y == 0.0, "%s(-inf) = %g: neither the product's NaN nor the limit",
                    cumega_activation_name(config.activation), y);
    else
      ck_assert_msg(y == left[_i] || fabs(y - left[_i]) <= 0x1p-22, "%s(-inf) = %g",
                    cumega_activation_name(config.activation), y);
  }
}
END_TEST

START_TEST(names_are_espnets) {
  cumega_activation activation;
  for (int i = 0; i < 10; i++) {
    const char *name = cumega_activation_name((cumega_activation)i);
    ck_assert_ptr_nonnull(name);
    ck_assert_int_eq(cumega_activation_from_name(name, &activation), 1);
    ck_assert_int_eq(activation, i);
  }
  ck_assert_int_eq(cumega_activation_from_name("silu", &activation), 1);
  ck_assert_int_eq(activation, CUMEGA_ACTIVATION_SWISH);
  ck_assert_str_eq(cumega_activation_name(CUMEGA_ACTIVATION_SWISH), "swish");
  ck_assert_ptr_null(cumega_activation_name((cumega_activation)10));
  ck_assert_ptr_null(cumega_activation_name((cumega_activation)-1));
  static const char *const unknown[] = {"gelu", "", "RELU", "relu ", "sil"};
  for (int i = 0; i < 5; i++)
    ck_assert_int_eq(cumega_activation_from_name(unknown[i], &activation), 0);
  ck_assert_int_eq(cumega_activation_from_name(NULL, &activation), 0);
  ck_assert_int_eq(activation, CUMEGA_ACTIVATION_SWISH);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ema_activations");
  TCase *tests = add_case(suite, "activations", 60);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_loop_test(tests, every_activation_holds_with_its_defaults, 0, 10);
  tcase_add_loop_test(tests, every_activation_holds_with_odd_arguments, 0, 10);
  tcase_add_loop_test(tests, a_nan_passes_through_all_but_ftswish, 0, 10);
  tcase_add_loop_test(tests, infinities_have_their_limits, 0, 10);
  tcase_add_test(tests, names_are_espnets);
  return run_suite(suite);
}
