/* Residual connections and norms as objects: names, settings, multipliers, parameters, and every
 * way in which they can be wrong. */
#include <math.h>
#include <stdlib.h>
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

static void must_say(cumega_status found, cumega_status status, const char *a, const char *b) {
  const char *sentence = cumega_context_message(ctx);
  ck_assert_msg(found == status, "%s: %s", cumega_status_string(found), sentence);
  ck_assert_msg(strstr(sentence, a) && strstr(sentence, b), "'%s' has not '%s' and '%s'", sentence,
                a, b);
}

START_TEST(classes_and_names_of_the_registry_are_kinds) {
  static const struct {
    const char *names[6];
    cumega_residual_kind kind;
  } rows[] = {{{"R", "residual", "Residual"}, CUMEGA_RESIDUAL_RESIDUAL},
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

#define SPOIL(name, statement)                                                                     \
  static void name(cumega_residual_config *c) {                                                    \
    statement;                                                                                     \
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
      {CUMEGA_RESIDUAL_DECAY, huge_power, {"power is -1e+06", "finite"}}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    cumega_residual_config c = cumega_residual_config_default(rows[i].kind, 2, D);
    cumega_residual *made = (cumega_residual *)&c;
    rows[i].spoil(&c);
    if (rows[i].kind == CUMEGA_RESIDUAL_DECAY && rows[i].spoil == no_layer) c.i_layer = 0;
    must_say(cumega_residual_create(ctx, &c, NULL, &made), CUMEGA_ERROR_ARGUMENT, rows[i].says[0],
             rows[i].says[1]);
    ck_assert_ptr_null(made);
  }
  must_say(cumega_residual_create(ctx, NULL, NULL, NULL), CUMEGA_ERROR_ARGUMENT, "residual is NULL",
           "expected");
}
END_TEST

START_TEST(kinds_that_do_not_read_x_take_any_d_input_and_layer) {
  cumega_residual_config c = cumega_residual_config_default(CUMEGA_RESIDUAL_FEEDFORWARD, 0, D);
  cumega_residual *made;
  c.d_input = 5;
  MUST(ctx, cumega_residual_create(ctx, &c, NULL, &made));
  cumega_residual_destroy(made);
  c = cumega_residual_config_default(CUMEGA_RESIDUAL_RESIDUAL, -3, D);
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
  cumega_residual_config c = cumega_residual_config_default(CUMEGA_RESIDUAL_AFFINE, 0, D);
  double alpha, beta;
  c.beta = 1.1;
  multipliers_of(&c, &alpha, &beta); /* any i_layer to the power of 0 is 1 */
  ck_assert(alpha == 1 && beta == c.beta);
  c.kind = CUMEGA_RESIDUAL_RESIDUAL;
  c.scalar = 0;
  multipliers_of(&c, &alpha, &beta);
  ck_assert(alpha == 1 && beta == c.beta);
  c = cumega_residual_config_default(CUMEGA_RESIDUAL_DECAY, 4, D);
  c.l2 = 0; /* so that power may be negative */
  c.power = -0.5;
  multipliers_of(&c, &alpha, &beta);
  ck_assert_double_eq_tol(alpha, -1, 0x1p-50);
  ck_assert_double_eq_tol(beta, 2, 0x1p-50);
}
END_TEST

START_TEST(settings_read_back_make_the_same_again) {
  cumega_residual_config c = cumega_residual_config_default(CUMEGA_RESIDUAL_DECAY, 7, D), back;
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

/* An exponential of a product of a logarithm: three roundings, the last of an argument of up to 5 *
 * 1.7. */
START_TEST(multipliers_are_those_of_the_definition) {
  static const int64_t layers[] = {1, 2, 3, 7, 48, 1000};
  static const double powers[] = {0, 0.5, 1, 1.5, 2.25};
  for (int i = 0; i < 60; i++) {
    cumega_residual_config c =
        cumega_residual_config_default(CUMEGA_RESIDUAL_DECAY, layers[i % 6], D);
    double alpha, beta;
    c.power = powers[i / 12];
    c.l2 = i / 6 % 2;
    multipliers_of(&c, &alpha, &beta);
    ck_assert_double_le(fabs(beta - (double)oracle_decay_beta(&c)), 0x1p-49 * beta);
    ck_assert_double_le(fabs(alpha - (double)oracle_decay_alpha(&c)), 0x1p-49);
    if (c.l2) ck_assert_double_le(fabs(alpha * alpha + beta * beta - 1), 0x1p-49);
  }
  cumega_residual_config c = cumega_residual_config_default(CUMEGA_RESIDUAL_AFFINE, 5, D);
  double alpha, beta;
  c.gamma = 0.5;
  c.beta = 3;
  multipliers_of(&c, &alpha, &beta);
  ck_assert_double_eq(alpha, 1);
  ck_assert_double_le(fabs(beta - (double)oracle_affine_beta(&c)), 0x1p-49);
  c = cumega_residual_config_default(CUMEGA_RESIDUAL_FEEDFORWARD, 5, D);
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
          cumega_residual_config c =
              cumega_residual_config_default(CUMEGA_RESIDUAL_DECAY, layer + (k == 1), D);
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
  p.config = cumega_residual_config_default(CUMEGA_RESIDUAL_HIGHWAY, 1, D);
  problem_make(ctx, &p, &made, &norm);
  must_say(cumega_residual_get_multipliers(ctx, made, &alpha, NULL), CUMEGA_ERROR_ARGUMENT,
           "Highway", "no alpha");
  cumega_residual_destroy(made);
  p.config = cumega_residual_config_default(CUMEGA_RESIDUAL_AFFINE, 1, D);
  p.config.scalar = 0;
  problem_make(ctx, &p, &made, &norm);
  must_say(cumega_residual_get_multipliers(ctx, made, &alpha, &beta), CUMEGA_ERROR_ARGUMENT,
           "per channel", "NULL");
  MUST(ctx, cumega_residual_get_multipliers(ctx, made, &alpha, NULL));
  cumega_residual_destroy(made);
  must_say(cumega_residual_get_multipliers(ctx, NULL, &alpha, &beta), CUMEGA_ERROR_ARGUMENT,
           "residual is NULL", "expected");
}
END_TEST

/* ---- parameters ---- */

static test_tensor *numbers(int ndim, int64_t a, int64_t b, double first) {
  test_tensor *t = tensor_new(cumega_float64, ndim, (int64_t[]){a, b}, NULL);
  for (int64_t i = 0; i < a * b; i++)
    tensor_set(t, ndim < 2 ? i : i / b, ndim < 2 ? 0 : i % b, 0, first + 0.25 * (double)i);
  return t;
}

START_TEST(parameters_are_set_and_read_back_exactly) {
  cumega_residual_config c = cumega_residual_config_default(CUMEGA_RESIDUAL_AFFINE, 4, D);
  cumega_residual *made;
  test_tensor *given = numbers(1, D, 1, 0.1), *back = numbers(1, D, 1, 0),
              *wrong = numbers(1, 5, 1, 0);
  cumega_residual_parameters in = {.struct_size = sizeof in}, out = {.struct_size = sizeof out};
  c.scalar = 0;
  c.gamma = 1;
  MUST(ctx, cumega_residual_create(ctx, &c, NULL, &made));
  out.affine = dl(back);
  MUST(ctx, cumega_residual_get_parameters(ctx, made, &out));
  for (int64_t i = 0; i < D; i++) ck_assert_double_eq_tol(tensor_get(back, i, 0, 0), 0.25, 0x1p-50);
  in.affine = dl(given);
  MUST(ctx, cumega_residual_set_parameters(ctx, made, &in));
  in.affine = dl(wrong);
  must_say(cumega_residual_set_parameters(ctx, made, &in), CUMEGA_ERROR_ARGUMENT,
           "affine has shape (5)", "(D) = (6)");
  in.affine = dl(given);
  tensor_set(given, 2, 0, 0, INFINITY);
  must_say(cumega_residual_set_parameters(ctx, made, &in), CUMEGA_ERROR_ARGUMENT, "affine is inf",
           "[2]");
  tensor_set(given, 2, 0, 0, 0.1 + 0.5);
  MUST(ctx, cumega_residual_get_parameters(ctx, made, &out));
  for (int64_t i = 0; i < D; i++)
    ck_assert_double_eq(tensor_get(back, i, 0, 0), tensor_get(given, i, 0, 0));
  out.Wy = dl(wrong);
  must_say(cumega_residual_get_parameters(ctx, made, &out), CUMEGA_ERROR_ARGUMENT, "Wy is given",
           "Affine");
  must_say(cumega_residual_set_parameters(ctx, made, NULL), CUMEGA_ERROR_ARGUMENT,
           "parameters is NULL", "expected");
  tensor_free(given);
  tensor_free(back);
  tensor_free(wrong);
  cumega_residual_destroy(made);
}
END_TEST

/* Of every number a double and a float, in vectors of whole cache lines; on a device once more. */
START_TEST(an_object_holds_its_parameters_and_no_more) {
  enum { WIDE = 64, VECTOR = 12 * WIDE, MATRIX = WIDE * VECTOR, NUMBER = 128 };
  static const struct {
    cumega_residual_kind kind;
    int32_t scalar, elemwise;
    int64_t bytes;
  } rows[] = {{CUMEGA_RESIDUAL_FEEDFORWARD, 1, 0, 0},
              {CUMEGA_RESIDUAL_DECAY, 1, 0, 0},
              {CUMEGA_RESIDUAL_AFFINE, 1, 0, NUMBER},
              {CUMEGA_RESIDUAL_AFFINE, 0, 0, VECTOR},
              {CUMEGA_RESIDUAL_HIGHWAY, 1, 0, 2 * (MATRIX + VECTOR)},
              {CUMEGA_RESIDUAL_HIGHWAY, 1, 1, MATRIX + 2 * VECTOR}};
  int64_t alone = 0;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    problem p = {.norm = -1, .dtype = cumega_float32, .shape = {1, 1, WIDE}, .seed = 1};
    cumega_residual *made;
    cumega_norm *norm;
    const int64_t before = bytes_held(ctx);
    p.config = cumega_residual_config_default(rows[i].kind, 1, WIDE);
    p.config.scalar = rows[i].scalar;
    p.config.elemwise = rows[i].elemwise;
    problem_make(ctx, &p, &made, &norm);
    const int64_t held = bytes_held(ctx) - before;
    if (i == 0) alone = held;
    ck_assert_int_eq(held - alone, rows[i].bytes * (device_is_cuda() ? 2 : 1));
    cumega_residual_destroy(made);
    ck_assert_int_eq(bytes_held(ctx), before);
  }
}
END_TEST

START_TEST(a_highway_needs_all_of_its_parameters) {
  test_tensor *square = numbers(2, D, D, 0), *vector = numbers(1, D, 1, 0);
  cumega_residual_config c = cumega_residual_config_default(CUMEGA_RESIDUAL_HIGHWAY, 1, D);
  cumega_residual_parameters in = {.struct_size = sizeof in, .Wx_weight = dl(square)};
  cumega_residual *made;
  const int64_t before = bytes_held(ctx);
  must_say(cumega_residual_create(ctx, &c, &in, &made), CUMEGA_ERROR_ARGUMENT, "Wx.bias",
           "missing");
  in.Wx_bias = dl(vector);
  must_say(cumega_residual_create(ctx, &c, &in, &made), CUMEGA_ERROR_ARGUMENT, "Wy.weight",
           "missing");
  in.Wy_weight = dl(vector);
  in.Wy_bias = dl(vector);
  must_say(cumega_residual_create(ctx, &c, &in, &made), CUMEGA_ERROR_ARGUMENT,
           "Wy.weight has shape (6)", "(D, D) = (6, 6)");
  c.elemwise = 1;
  must_say(cumega_residual_create(ctx, &c, &in, &made), CUMEGA_ERROR_ARGUMENT, "Wy is missing",
           "Highway");
  in.Wy = dl(vector);
  ck_assert_int_eq(bytes_held(ctx), before);
  MUST(ctx, cumega_residual_create(ctx, &c, &in, &made));
  cumega_residual_destroy(made);
  tensor_free(square);
  tensor_free(vector);
}
END_TEST

/* ---- norms ---- */

START_TEST(a_norm_begins_as_espnets) {
  for (int type = 0; type < 4; type++) {
    cumega_norm_config c = cumega_norm_config_default((cumega_norm_type)type, D), back;
    cumega_norm *norm;
    test_tensor *vector = numbers(1, D, 1, 7), *number = numbers(0, 1, 1, 7);
    const int has_number = type == CUMEGA_NORM_SCALE || type == CUMEGA_NORM_BASIC;
    cumega_norm_parameters out = {.struct_size = sizeof out};
    back.struct_size = sizeof back;
    MUST(ctx, cumega_norm_create(ctx, &c, NULL, &norm));
    MUST(ctx, cumega_norm_get_config(ctx, norm, &back));
    ck_assert_double_eq_tol(back.eps, c.eps, 0x1p-50);
    if (type == CUMEGA_NORM_LAYER) out.weight = dl(vector);
    if (type == CUMEGA_NORM_RMS) out.scale = dl(vector);
    if (type == CUMEGA_NORM_SCALE) out.scale = dl(number);
    if (type == CUMEGA_NORM_BASIC) out.eps = dl(number);
    MUST(ctx, cumega_norm_get_parameters(ctx, norm, &out));
    ck_assert_double_eq_tol(tensor_get(has_number ? number : vector, 0, 0, 0),
                            type == CUMEGA_NORM_BASIC ? log(0.25) : 1, 0x1p-50);
    if (type == CUMEGA_NORM_LAYER) {
      out = (cumega_norm_parameters){.struct_size = sizeof out, .bias = dl(vector)};
      MUST(ctx, cumega_norm_get_parameters(ctx, norm, &out));
      ck_assert(tensor_get(vector, 0, 0, 0) == 0 && !signbit(tensor_get(vector, 0, 0, 0)));
    }
    out.bias = dl(type == CUMEGA_NORM_LAYER ? number : vector);
    must_say(cumega_norm_get_parameters(ctx, norm, &out), CUMEGA_ERROR_ARGUMENT, "bias",
             type == CUMEGA_NORM_LAYER ? "(D) = (6)" : "has none");
    tensor_free(vector);
    tensor_free(number);
    cumega_norm_destroy(norm);
  }
  cumega_norm_destroy(NULL);
}
END_TEST

/* No type but the layer norm adds anything. On the CPU. */
START_TEST(a_zero_keeps_its_sign) {
  static const cumega_norm_type types[] = {CUMEGA_NORM_RMS, CUMEGA_NORM_SCALE, CUMEGA_NORM_BASIC};
  const cumega_residual_config c =
      cumega_residual_config_default(CUMEGA_RESIDUAL_FEEDFORWARD, 1, D);
  cumega_context *cpu = NULL;
  cumega_residual *residual;
  MUST(NULL, cumega_context_create(NULL, &cpu));
  MUST(cpu, cumega_residual_create(cpu, &c, NULL, &residual));
  for (int i = 0; i < 3; i++) {
    const cumega_norm_config config = cumega_norm_config_default(types[i], D);
    float y[D] = {-0.0f, 1, 2, 3, 4, 5}, normalized[D] = {9};
    cumega_tensor t_y, t_normalized;
    cumega_norm *norm;
    MUST(cpu, cumega_norm_create(cpu, &config, NULL, &norm));
    cumega_residual_io io = {.struct_size = sizeof io, .norm = norm};
    io.y = io.out = cumega_tensor_init(&t_y, y, cumega_cpu, cumega_float32, 1, (int64_t[]){D});
    io.normalized = cumega_tensor_init(&t_normalized, normalized, cumega_cpu, cumega_float32, 1,
                                       (int64_t[]){D});
    MUST(cpu, cumega_residual_forward(cpu, residual, &io));
    ck_assert(normalized[0] == 0 && signbit(normalized[0]));
    cumega_norm_destroy(norm);
  }
  cumega_residual_destroy(residual);
  cumega_context_destroy(cpu);
}
END_TEST

START_TEST(a_wrong_norm_is_an_argument_error_that_names_what_is_wrong) {
  cumega_norm *norm;
  cumega_norm_config c = cumega_norm_config_default(CUMEGA_NORM_BASIC, D);
  test_tensor *number = numbers(0, 1, 1, 1000);
  cumega_norm_parameters in = {.struct_size = sizeof in, .eps = dl(number)};
  must_say(cumega_norm_create(ctx, &c, &in, &norm), CUMEGA_ERROR_ARGUMENT, "eps is 1000",
           "logarithm");
  c.eps = 0;
  must_say(cumega_norm_create(ctx, &c, NULL, &norm), CUMEGA_ERROR_ARGUMENT, "config.eps is 0",
           "above 0");
  c.type = CUMEGA_NORM_LAYER;
  MUST(ctx, cumega_norm_create(ctx, &c, NULL, &norm));
  cumega_norm_destroy(norm);
  c.eps = -1;
  must_say(cumega_norm_create(ctx, &c, NULL, &norm), CUMEGA_ERROR_ARGUMENT, "config.eps is -1",
           ">= 0");
  c.eps = INFINITY;
  must_say(cumega_norm_create(ctx, &c, NULL, &norm), CUMEGA_ERROR_ARGUMENT, "config.eps is inf",
           "finite");
  c.type = (cumega_norm_type)4;
  must_say(cumega_norm_create(ctx, &c, NULL, &norm), CUMEGA_ERROR_ARGUMENT, "config.type is 4",
           "0 to 3");
  c.size = 0;
  must_say(cumega_norm_create(ctx, &c, NULL, &norm), CUMEGA_ERROR_ARGUMENT, "config.size is 0",
           "at least 1");
  ck_assert_ptr_null(norm);
  must_say(cumega_norm_create(ctx, &c, NULL, NULL), CUMEGA_ERROR_ARGUMENT, "norm is NULL",
           "expected");
  must_say(cumega_norm_get_config(ctx, NULL, &c), CUMEGA_ERROR_ARGUMENT, "norm is NULL",
           "expected");
  must_say(cumega_norm_create_from_weights(ctx, NULL, "", &c, &norm), CUMEGA_ERROR_ARGUMENT,
           "weights is NULL", "expected");
  tensor_free(number);
}
END_TEST

/* Layer norm: weight and bias; what is left out of a set becomes ESPnet's initial value again. */
START_TEST(parameters_of_a_norm_are_set_and_read_back_exactly) {
  cumega_norm_config c = cumega_norm_config_default(CUMEGA_NORM_LAYER, D);
  cumega_norm *norm;
  test_tensor *weight = numbers(1, D, 1, 0.5), *bias = numbers(1, D, 1, -3),
              *wrong = numbers(1, 5, 1, 0);
  test_tensor *got[2] = {numbers(1, D, 1, 9), numbers(1, D, 1, 9)};
  cumega_norm_parameters in = {.struct_size = sizeof in, .weight = dl(weight), .bias = dl(bias)};
  cumega_norm_parameters out = {
      .struct_size = sizeof out, .weight = dl(got[0]), .bias = dl(got[1])};
  MUST(ctx, cumega_norm_create(ctx, &c, NULL, &norm));
  MUST(ctx, cumega_norm_set_parameters(ctx, norm, &in));
  in.bias = dl(wrong);
  must_say(cumega_norm_set_parameters(ctx, norm, &in), CUMEGA_ERROR_ARGUMENT, "bias has shape (5)",
           "(6)");
  MUST(ctx,
       cumega_norm_get_parameters(ctx, norm, &out)); /* the refused ones have changed nothing */
  for (int i = 0; i < D; i++) {
    ck_assert_double_eq(tensor_get(got[0], i, 0, 0), 0.5 + 0.25 * i);
    ck_assert_double_eq(tensor_get(got[1], i, 0, 0), -3 + 0.25 * i);
  }
  in.bias = NULL;
  MUST(ctx, cumega_norm_set_parameters(ctx, norm, &in));
  out.weight = NULL;
  MUST(ctx, cumega_norm_get_parameters(ctx, norm, &out));
  for (int i = 0; i < D; i++) ck_assert_double_eq(tensor_get(got[1], i, 0, 0), 0);
  out.weight = dl(got[1]);
  must_say(cumega_norm_get_parameters(ctx, norm, &out), CUMEGA_ERROR_ARGUMENT, "bias", "weight");
  out.weight = dl(wrong);
  must_say(cumega_norm_get_parameters(ctx, norm, &out), CUMEGA_ERROR_ARGUMENT,
           "weight has shape (5)", "(6)");
  in.struct_size = out.struct_size = 3;
  must_say(cumega_norm_get_parameters(ctx, norm, &out), CUMEGA_ERROR_ARGUMENT, "struct_size", "3");
  must_say(cumega_norm_set_parameters(ctx, norm, &in), CUMEGA_ERROR_ARGUMENT, "struct_size", "3");
  cumega_norm_destroy(norm);
  tensor_free(weight);
  tensor_free(bias);
  tensor_free(wrong);
  tensor_free(got[0]);
  tensor_free(got[1]);
}
END_TEST

/* A scalar has no index to name, and a Highway's five no memory to share. */
START_TEST(wrong_parameters_and_places_for_them_are_named) {
  cumega_norm_config n = cumega_norm_config_default(CUMEGA_NORM_SCALE, D);
  cumega_residual_config c = cumega_residual_config_default(CUMEGA_RESIDUAL_HIGHWAY, 1, D);
  test_tensor *number = numbers(0, 1, 1, NAN), *square = numbers(2, D, D, 0),
              *line = numbers(1, D, 1, 0);
  cumega_norm_parameters np = {.struct_size = sizeof np, .scale = dl(number)};
  cumega_residual_parameters p = {sizeof p, NULL, dl(square), dl(line), dl(square), dl(line), NULL};
  cumega_norm *norm;
  cumega_residual *made;
  must_say(cumega_norm_create(ctx, &n, &np, &norm), CUMEGA_ERROR_ARGUMENT, "scale is nan at []",
           "finite");
  MUST(ctx, cumega_residual_create(ctx, &c, &p, &made));
  must_say(cumega_residual_get_parameters(ctx, made, &p), CUMEGA_ERROR_ARGUMENT, "Wy.weight",
           "Wx.weight");
  p.Wx_weight = dl(line);
  must_say(cumega_residual_get_parameters(ctx, made, &p), CUMEGA_ERROR_ARGUMENT,
           "Wx.weight has shape (6)", "(6, 6)");
  p.struct_size = 3;
  must_say(cumega_residual_get_parameters(ctx, made, &p), CUMEGA_ERROR_ARGUMENT, "struct_size",
           "3");
  must_say(cumega_residual_set_parameters(ctx, made, &p), CUMEGA_ERROR_ARGUMENT, "struct_size",
           "3");
  cumega_residual_destroy(made);
  tensor_free(number);
  tensor_free(square);
  tensor_free(line);
}
END_TEST

START_TEST(parameters_that_no_machine_holds_are_a_resource_error) {
  cumega_residual_config c =
      cumega_residual_config_default(CUMEGA_RESIDUAL_HIGHWAY, 1, INT64_MAX / 2);
  cumega_norm_config n = cumega_norm_config_default(CUMEGA_NORM_LAYER, INT64_MAX / 4);
  test_tensor *line = numbers(1, D, 1, 0);
  cumega_residual_parameters p = {sizeof p, NULL, dl(line), dl(line), dl(line), dl(line), NULL};
  cumega_residual *made;
  cumega_norm *norm;
  must_say(cumega_residual_create(ctx, &c, &p, &made), CUMEGA_ERROR_RESOURCE, "cannot allocate",
           "more than 9223372036854775807 bytes");
  must_say(cumega_norm_create(ctx, &n, NULL, &norm), CUMEGA_ERROR_RESOURCE, "cannot allocate",
           "more than 9223372036854775807 bytes");
  c.d_input = c.d_model = (int64_t)1 << 40; /* whose square's low bits are 0 */
  must_say(cumega_residual_create(ctx, &c, &p, &made), CUMEGA_ERROR_RESOURCE, "cannot allocate",
           "more than 9223372036854775807 bytes");
  n.size = (int64_t)1 << 62; /* all of whose bytes' low bits are 0 */
  must_say(cumega_norm_create(ctx, &n, NULL, &norm), CUMEGA_ERROR_RESOURCE, "cannot allocate",
           "more than 9223372036854775807 bytes");
  n.size = INT64_MAX / 8; /* a vector fits, what rounds it up to a cache line does not */
  must_say(cumega_norm_create(ctx, &n, NULL, &norm), CUMEGA_ERROR_RESOURCE, "cannot allocate",
           "more than 9223372036854775807 bytes");
  n.size = INT64_MAX / 9; /* a vector fits, all of them do not */
  must_say(cumega_norm_create(ctx, &n, NULL, &norm), CUMEGA_ERROR_RESOURCE, "cannot allocate",
           "more than 9223372036854775807 bytes");
  tensor_free(line);
}
END_TEST

/* ---- weight files ---- */

/* Both parameters of a layer norm of 24 channels. */
static void must_have_read(const cumega_weights *file, const cumega_norm *norm) {
  test_tensor *read[2] = {numbers(1, 24, 1, 9), numbers(1, 24, 1, 9)};
  const char *const names[] = {"parameters.norm.weight", "parameters.norm.bias"};
  cumega_norm_parameters out = {.struct_size = sizeof out};
  out.weight = dl(read[0]);
  out.bias = dl(read[1]);
  MUST(ctx, cumega_norm_get_parameters(ctx, norm, &out));
  for (int k = 0; k < 2; k++) {
    float values[24];
    MUST(ctx, cumega_weights_read(ctx, file, cumega_weights_find(file, names[k]), values,
                                  sizeof values));
    for (int i = 0; i < 24; i++) ck_assert_double_eq(tensor_get(read[k], i, 0, 0), values[i]);
    tensor_free(read[k]);
  }
}

/* All four of a Highway of 8 channels. */
static void must_have_read_highway(const cumega_weights *file, const cumega_residual *made) {
  test_tensor *read[4] = {numbers(2, 8, 8, 9), numbers(1, 8, 1, 9), numbers(2, 8, 8, 9),
                          numbers(1, 8, 1, 9)};
  static const char *const names[] = {"parameters.Wx.weight", "parameters.Wx.bias",
                                      "parameters.Wy.weight", "parameters.Wy.bias"};
  cumega_residual_parameters out = {sizeof out,  NULL,        dl(read[0]), dl(read[1]),
                                    dl(read[2]), dl(read[3]), NULL};
  MUST(ctx, cumega_residual_get_parameters(ctx, made, &out));
  for (int k = 0; k < 4; k++) {
    float values[64];
    MUST(ctx, cumega_weights_read(ctx, file, cumega_weights_find(file, names[k]), values,
                                  sizeof values));
    for (int i = 0; i < (k % 2 ? 8 : 64); i++)
      ck_assert_double_eq(tensor_get(read[k], k % 2 ? i : i / 8, k % 2 ? 0 : i % 8, 0), values[i]);
    tensor_free(read[k]);
  }
}

START_TEST(parameters_come_from_weight_files_under_espnets_names) {
  const char *path = SOURCE_DIR "/tests/golden/residual-H.safetensors";
  cumega_weights *file;
  cumega_residual *made;
  cumega_norm *norm;
  cumega_residual_config c = cumega_residual_config_default(CUMEGA_RESIDUAL_HIGHWAY, 3, 8);
  cumega_norm_config n = cumega_norm_config_default(CUMEGA_NORM_RMS, 8);
  MUST(ctx, cumega_weights_open(ctx, path, &file));
  MUST(ctx, cumega_residual_create_from_weights(ctx, file, "parameters", &c, &made));
  must_have_read_highway(file, made);
  cumega_residual_destroy(made);
  must_say(cumega_residual_create_from_weights(ctx, file, "", &c, &made), CUMEGA_ERROR_FORMAT,
           "no tensor", "'Wx.weight'");
  c.d_input = c.d_model = 9;
  must_say(cumega_residual_create_from_weights(ctx, file, "parameters.", &c, &made),
           CUMEGA_ERROR_FORMAT, "parameters.Wx.weight has shape (8, 8)", "(9, 9)");
  must_say(cumega_residual_create_from_weights(ctx, NULL, "", &c, &made), CUMEGA_ERROR_ARGUMENT,
           "weights is NULL", "expected");
  must_say(cumega_norm_create_from_weights(ctx, file, "norm", &n, &norm), CUMEGA_ERROR_FORMAT,
           "no tensor", "'norm.scale'");
  cumega_weights_close(file);
  MUST(ctx, cumega_weights_open(
                ctx, SOURCE_DIR "/tests/golden/gated_residual-layer_norm.safetensors", &file));
  n = cumega_norm_config_default(CUMEGA_NORM_LAYER, 24);
  MUST(ctx, cumega_norm_create_from_weights(ctx, file, "parameters.norm", &n, &norm));
  must_have_read(file, norm);
  cumega_norm_destroy(norm);
  char prefix[1100];
  memset(prefix, 'p', sizeof prefix);
  prefix[sizeof prefix - 1] = '\0';
  must_say(cumega_norm_create_from_weights(ctx, file, prefix, &n, &norm), CUMEGA_ERROR_ARGUMENT,
           "prefix has 1099 characters", "fewer than");
  cumega_weights_close(file);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("residual_objects");
  TCase *tests = add_case(suite, "residual connections and norms as objects", 60);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, classes_and_names_of_the_registry_are_kinds);
  tcase_add_test(tests, a_wrong_setting_is_an_argument_error_that_names_it);
  tcase_add_test(tests, kinds_that_do_not_read_x_take_any_d_input_and_layer);
  tcase_add_test(tests, settings_that_change_nothing_are_ignored);
  tcase_add_test(tests, settings_read_back_make_the_same_again);
  tcase_add_test(tests, multipliers_are_those_of_the_definition);
  tcase_add_test(tests, a_higher_power_and_a_greater_depth_decay_faster);
  tcase_add_test(tests, multipliers_that_are_not_there_are_refused);
  tcase_add_test(tests, parameters_are_set_and_read_back_exactly);
  tcase_add_test(tests, an_object_holds_its_parameters_and_no_more);
  tcase_add_test(tests, a_highway_needs_all_of_its_parameters);
  tcase_add_test(tests, a_norm_begins_as_espnets);
  tcase_add_test(tests, a_zero_keeps_its_sign);
  tcase_add_test(tests, a_wrong_norm_is_an_argument_error_that_names_what_is_wrong);
  tcase_add_test(tests, parameters_of_a_norm_are_set_and_read_back_exactly);
  tcase_add_test(tests, wrong_parameters_and_places_for_them_are_named);
  tcase_add_test(tests, parameters_that_no_machine_holds_are_a_resource_error);
  tcase_add_test(tests, parameters_come_from_weight_files_under_espnets_names);
  return run_suite(suite);
}
