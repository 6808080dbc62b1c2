/* Settings of residual connections: names, multipliers, and every way in which they can be
 * wrong. */
#include <math.h>
#include "defaults.h"
#include "residual_runs.h"
#include "runner.h"

enum { D = 6 };

static cumega_context *ctx;

static void setup(void) {
  ctx = context_new();
}

static void teardown(void) {
  cumega_context_destroy(ctx);
}

START_TEST(classes_and_names_of_the_registry_are_kinds) {
  static const struct {
    const char *names[6];
    cumega_residual_kind kind;
  } rows[] = {
      {{"R", "residual", "Residual"}, CUMEGA_RESIDUAL_RESIDUAL},
      {{"F", "N", "none", "ff", "feedforward", "Feedforward"}, CUMEGA_RESIDUAL_FEEDFORWARD},
      {{"A", "affine", "Affine"}, CUMEGA_RESIDUAL_AFFINE},
      {{"H", "highway", "Highway"}, CUMEGA_RESIDUAL_HIGHWAY},
      {{"D", "decay", "DecayResidual"}, CUMEGA_RESIDUAL_DECAY}};
  cumega_residual_kind kind = CUMEGA_RESIDUAL_HIGHWAY;
  cumega_norm_type type = CUMEGA_NORM_SCALE;
  for (int i = 0; i < 5; i++)
    for (int k = 0; k < 6 && rows[i].names[k]; k++) {
      ck_assert_int_eq(cumega_residual_kind_from_name(rows[i].names[k], &kind), 1);
      ck_assert_int_eq(kind, rows[i].kind);
    }
  kind = CUMEGA_RESIDUAL_HIGHWAY;
  ck_assert_int_eq(cumega_residual_kind_from_name("r", &kind), 0);
  ck_assert_int_eq(cumega_residual_kind_from_name(NULL, &kind), 0);
  ck_assert_int_eq(cumega_residual_kind_from_name("H", NULL), 0);
  ck_assert_int_eq(cumega_norm_type_from_name(NULL, &type), 0);
  ck_assert_int_eq(cumega_norm_type_from_name("rms_norm", NULL), 0);
  ck_assert_int_eq(kind, CUMEGA_RESIDUAL_HIGHWAY);
  ck_assert_str_eq(cumega_residual_kind_name(CUMEGA_RESIDUAL_DECAY), "DecayResidual");
  ck_assert_ptr_null(cumega_residual_kind_name((cumega_residual_kind)5));
  ck_assert_int_eq(cumega_norm_type_from_name("basic_norm", &type), 1);
  ck_assert_int_eq(type, CUMEGA_NORM_BASIC);
  ck_assert_int_eq(cumega_norm_type_from_name("batch_norm", &type), 0);
  ck_assert_str_eq(cumega_norm_type_name(CUMEGA_NORM_RMS), "rms_norm");
  ck_assert_ptr_null(cumega_norm_type_name((cumega_norm_type)-1));
}
END_TEST

/* ---- settings ---- */

typedef struct bad_setting {
  cumega_residual_kind kind;
  void (*spoil)(cumega_residual_config *c);
  const char *says[2];
} bad_setting;

#define SPOIL(name, statement)                                                                    \
  static void name(cumega_residual_config *c) {                                                   \
    statement;                                                                                    \
  }
SPOIL(no_size, c->struct_size = 0)
SPOIL(no_kind, c->kind = (cumega_residual_kind)9)
SPOIL(no_channels, c->d_model = 0)
SPOIL(no_input, c->d_input = -1)
SPOIL(another_input, c->d_input = 5)
SPOIL(nan_alpha, c->alpha = NAN)
SPOIL(nan_alpha_and_another_input, (c->alpha = NAN, c->d_input = 5))
SPOIL(nan_beta, c->beta = NAN)
SPOIL(infinite_beta, c->beta = INFINITY)
SPOIL(nan_gamma, c->gamma = NAN)
SPOIL(infinite_gamma, c->gamma = INFINITY)
SPOIL(half_alpha, c->alpha = 0.5)
SPOIL(half_beta, c->beta = 0.5)
SPOIL(no_layer, c->i_layer = 0)
SPOIL(no_layer_with_gamma, (c->i_layer = 0, c->gamma = 1))
SPOIL(huge_gamma, (c->i_layer = 3, c->gamma = -1e6))
SPOIL(nan_power, c->power = NAN)
SPOIL(infinite_power, (c->power = INFINITY, c->l2 = 0))
SPOIL(negative_power, c->power = -0.5)
SPOIL(huge_power, (c->power = -1e6, c->l2 = 0))
SPOIL(half_dtype, c->dtype = cumega_float16)
SPOIL(integer_dtype, c->dtype = cumega_int64)
SPOIL(lanes_dtype, c->dtype.lanes = 2)
SPOIL(nothing, (void)c)

START_TEST(a_wrong_setting_is_an_argument_error_that_names_it) {
  static const bad_setting rows[] = {
      {CUMEGA_RESIDUAL_RESIDUAL, no_size, {"struct_size", "0"}},
      {CUMEGA_RESIDUAL_RESIDUAL, no_kind, {"kind is 9", "0 to 4"}},
      {CUMEGA_RESIDUAL_RESIDUAL, no_channels, {"d_model is 0", "at least 1"}},
      {CUMEGA_RESIDUAL_RESIDUAL, no_input, {"d_input is -1", "at least 1"}},
      {CUMEGA_RESIDUAL_RESIDUAL, another_input, {"d_input is 5", "d_model, 6"}},
      {CUMEGA_RESIDUAL_DECAY, another_input, {"d_input is 5", "d_model, 6"}},
      {CUMEGA_RESIDUAL_RESIDUAL, nan_alpha, {"alpha is nan", "finite"}},
      {CUMEGA_RESIDUAL_RESIDUAL, nan_alpha_and_another_input, {"d_input is 5", "x is read"}},
      {CUMEGA_RESIDUAL_AFFINE, infinite_beta, {"beta is inf", "finite"}},
      {CUMEGA_RESIDUAL_AFFINE, nan_gamma, {"gamma is nan", "expected a finite number"}},
      {CUMEGA_RESIDUAL_AFFINE, infinite_gamma, {"gamma is inf", "expected a finite number"}},
      {CUMEGA_RESIDUAL_AFFINE, no_layer_with_gamma, {"i_layer is 0", "gamma"}},
      {CUMEGA_RESIDUAL_AFFINE, huge_gamma, {"gamma is -1e+06", "finite"}},
      {CUMEGA_RESIDUAL_DECAY, half_alpha, {"alpha is 0.5", "DecayResidual"}},
      {CUMEGA_RESIDUAL_DECAY, half_beta, {"beta is 0.5", "DecayResidual"}},
      {CUMEGA_RESIDUAL_DECAY, nan_alpha, {"alpha is nan", "DecayResidual"}},
      {CUMEGA_RESIDUAL_DECAY, nan_beta, {"beta is nan", "DecayResidual"}},
      {CUMEGA_RESIDUAL_HIGHWAY, half_alpha, {"alpha is 0.5", "Highway"}},
      {CUMEGA_RESIDUAL_HIGHWAY, half_beta, {"beta is 0.5", "Highway"}},
      {CUMEGA_RESIDUAL_HIGHWAY, nothing, {"Wx.weight is missing", "Highway"}},
      {CUMEGA_RESIDUAL_DECAY, no_layer, {"i_layer is 0", "DecayResidual"}},
      {CUMEGA_RESIDUAL_DECAY, nan_power, {"power is nan", "finite number >= 0 with l2"}},
      {CUMEGA_RESIDUAL_DECAY, infinite_power, {"power is inf", "expected a finite number"}},
      {CUMEGA_RESIDUAL_DECAY, negative_power, {"power is -0.5", ">= 0 with l2"}},
      {CUMEGA_RESIDUAL_DECAY, huge_power, {"power is -1e+06", "finite"}},
      {CUMEGA_RESIDUAL_AFFINE, half_dtype, {"dtype is float16", "float32 or float64"}},
      {CUMEGA_RESIDUAL_HIGHWAY, integer_dtype, {"dtype is int64", "float32 or float64"}},
      {CUMEGA_RESIDUAL_DECAY, lanes_dtype, {"dtype is", "expected float32 or float64"}}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    cumega_residual_config c;
    cumega_residual_config_init(&c, sizeof c, rows[i].kind, 2, D);
    cumega_residual *made = (cumega_residual *)&c;
    rows[i].spoil(&c);
    if (rows[i].kind == CUMEGA_RESIDUAL_DECAY && rows[i].spoil == no_layer) c.i_layer = 0;
    MUST_FAIL(ctx, cumega_residual_create(ctx, &c, NULL, &made), CUMEGA_ERROR_ARGUMENT,
              rows[i].says[0], rows[i].says[1]);
    ck_assert_ptr_null(made);
  }
  MUST_FAIL(ctx, cumega_residual_create(ctx, NULL, NULL, NULL), CUMEGA_ERROR_ARGUMENT,
            "residual is NULL", "expected");
}
END_TEST

START_TEST(kinds_that_do_not_read_x_take_any_d_input_and_layer) {
  cumega_residual_config c;
  cumega_residual_config_init(&c, sizeof c, CUMEGA_RESIDUAL_FEEDFORWARD, 0, D);
  cumega_residual *made;
  c.d_input = 5;
  MUST(ctx, cumega_residual_create(ctx, &c, NULL, &made));
  cumega_residual_destroy(made);
  cumega_residual_config_init(&c, sizeof c, CUMEGA_RESIDUAL_RESIDUAL, -3, D);
  c.d_input = 5;
  c.alpha = 0;
  MUST(ctx, cumega_residual_create(ctx, &c, NULL, &made));
  cumega_residual_destroy(made);
  cumega_residual_destroy(NULL);
}
END_TEST

static void multipliers_of(const cumega_residual_config *c, double *alpha, double *beta) {
  cumega_residual *made;
  MUST(ctx, cumega_residual_create(ctx, c, NULL, &made));
  MUST(ctx, cumega_residual_get_multipliers(ctx, made, alpha, beta));
  cumega_residual_destroy(made);
}

START_TEST(settings_that_change_nothing_are_ignored) {
  cumega_residual_config c;
  cumega_residual_config_init(&c, sizeof c, CUMEGA_RESIDUAL_AFFINE, 0, D);
  double alpha, beta;
  c.beta = 1.1;
  multipliers_of(&c, &alpha, &beta); /* any i_layer to the power of 0 is 1 */
  ck_assert(alpha == 1 && beta == c.beta);
  c.kind = CUMEGA_RESIDUAL_RESIDUAL;
  c.scalar = 0;
  multipliers_of(&c, &alpha, &beta);
  ck_assert(alpha == 1 && beta == c.beta);
  cumega_residual_config_init(&c, sizeof c, CUMEGA_RESIDUAL_DECAY, 4, D);
  c.l2 = 0; /* so that power may be negative */
  c.power = -0.5;
  multipliers_of(&c, &alpha, &beta);
  ck_assert_double_eq_tol(alpha, -1, 0x1p-50);
  ck_assert_double_eq_tol(beta, 2, 0x1p-50);
}
END_TEST

START_TEST(settings_read_back_make_the_same_again) {
  cumega_residual_config c = residual_config_of(CUMEGA_RESIDUAL_DECAY, 7, D), back;
  cumega_residual *made, *again;
  double alpha[2], beta[2];
  c.power = 1.25;
  back.struct_size = sizeof back;
  MUST(ctx, cumega_residual_create(ctx, &c, NULL, &made));
  MUST(ctx, cumega_residual_get_config(ctx, made, &back));
  ck_assert_int_eq(back.i_layer, 7);
  ck_assert_double_eq(back.power, 1.25);
  MUST(ctx, cumega_residual_create(ctx, &back, NULL, &again));
  MUST(ctx, cumega_residual_get_multipliers(ctx, made, &alpha[0], &beta[0]));
  MUST(ctx, cumega_residual_get_multipliers(ctx, again, &alpha[1], &beta[1]));
  ck_assert(alpha[0] == alpha[1] && beta[0] == beta[1]);
  cumega_residual_destroy(made);
  cumega_residual_destroy(again);
}
END_TEST

/* ---- multipliers ---- */

/* An exponential of a product with a logarithm: three roundings, the last of an argument of up to
 * 5 * 1.7. */
START_TEST(multipliers_are_those_of_the_definition) {
  static const int64_t layers[] = {1, 2, 3, 7, 48, 1000};
  static const double powers[] = {0, 0.5, 1, 1.5, 2.25};
  for (int i = 0; i < 60; i++) {
    cumega_residual_config c;
    cumega_residual_config_init(&c, sizeof c, CUMEGA_RESIDUAL_DECAY, layers[i % 6], D);
    double alpha, beta;
    real right_alpha, right_beta;
    c.power = powers[i / 12];
    c.l2 = i / 6 % 2;
    multipliers_of(&c, &alpha, &beta);
    reference_multipliers(&c, &right_alpha, &right_beta);
    ck_assert_double_le(fabs(beta - (double)right_beta), 0x1p-49 * beta);
    ck_assert_double_le(fabs(alpha - (double)right_alpha), 0x1p-49);
    if (c.l2) ck_assert_double_le(fabs(alpha * alpha + beta * beta - 1), 0x1p-49);
  }
  cumega_residual_config c;
  cumega_residual_config_init(&c, sizeof c, CUMEGA_RESIDUAL_AFFINE, 5, D);
  double alpha, beta;
  real right_alpha, right_beta;
  c.gamma = 0.5;
  c.beta = 3;
  multipliers_of(&c, &alpha, &beta);
  ck_assert_double_eq(alpha, 1);
  reference_multipliers(&c, &right_alpha, &right_beta);
  ck_assert_double_le(fabs(beta - (double)right_beta), 0x1p-49);
  cumega_residual_config_init(&c, sizeof c, CUMEGA_RESIDUAL_FEEDFORWARD, 5, D);
  multipliers_of(&c, &alpha, &beta);
  ck_assert(alpha == 0 && beta == 1);
  beta = 7;
  multipliers_of(&c, NULL, &beta);
  ck_assert(beta == 1);
}
END_TEST

START_TEST(a_higher_power_and_a_greater_depth_decay_faster) {
  for (int l2 = 0; l2 < 2; l2++)
    for (int64_t layer = 2; layer < 40; layer++)
      for (double power = 0.25; power < 3; power += 0.25) {
        double alpha[3], beta[3];
        for (int k = 0; k < 3; k++) {
          cumega_residual_config c;
          cumega_residual_config_init(&c, sizeof c, CUMEGA_RESIDUAL_DECAY, layer + (k == 1), D);
          c.power = power + (k == 2 ? 0.25 : 0);
          c.l2 = l2;
          multipliers_of(&c, &alpha[k], &beta[k]);
        }
        for (int k = 1; k < 3; k++) ck_assert(beta[k] < beta[0] && alpha[k] > alpha[0]);
      }
}
END_TEST

START_TEST(multipliers_that_are_not_there_are_refused) {
  problem p = {.norm = -1, .dtype = cumega_float32, .shape = {1, 1, D}, .seed = 1};
  cumega_residual *made;
  cumega_norm *norm;
  double alpha, beta;
  cumega_residual_config_init(&p.config, sizeof p.config, CUMEGA_RESIDUAL_HIGHWAY, 1, D);
  problem_make(ctx, &p, &made, &norm);
  MUST_FAIL(ctx, cumega_residual_get_multipliers(ctx, made, &alpha, NULL), CUMEGA_ERROR_ARGUMENT,
            "Highway", "no alpha");
  cumega_residual_destroy(made);
  cumega_residual_config_init(&p.config, sizeof p.config, CUMEGA_RESIDUAL_AFFINE, 1, D);
  p.config.scalar = 0;
  problem_make(ctx, &p, &made, &norm);
  MUST_FAIL(ctx, cumega_residual_get_multipliers(ctx, made, &alpha, &beta), CUMEGA_ERROR_ARGUMENT,
            "per channel", "NULL");
  MUST(ctx, cumega_residual_get_multipliers(ctx, made, &alpha, NULL));
  cumega_residual_destroy(made);
  MUST_FAIL(ctx, cumega_residual_get_multipliers(ctx, NULL, &alpha, &beta), CUMEGA_ERROR_ARGUMENT,
            "residual is NULL", "expected");
}
END_TEST

int main(void) {
  Suite *suite = suite_create("residual_config");
  TCase *tests = add_case(suite, "settings of residual connections", 60);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, classes_and_names_of_the_registry_are_kinds);
  tcase_add_test(tests, a_wrong_setting_is_an_argument_error_that_names_it);
  tcase_add_test(tests, kinds_that_do_not_read_x_take_any_d_input_and_layer);
  tcase_add_test(tests, settings_that_change_nothing_are_ignored);
  tcase_add_test(tests, settings_read_back_make_the_same_again);
  tcase_add_test(tests, multipliers_are_those_of_the_definition);
  tcase_add_test(tests, a_higher_power_and_a_greater_depth_decay_faster);
  tcase_add_test(tests, multipliers_that_are_not_there_are_refused);
  return run_suite(suite);
}
