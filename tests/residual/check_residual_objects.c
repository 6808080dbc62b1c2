/* Residual connections and norms as objects: their parameters, and every way in which they can be
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

/* ---- parameters ---- */

static test_tensor *numbers(int ndim, int64_t a, int64_t b, double first) {
  test_tensor *t = tensor_new(cumega_float64, ndim, (int64_t[]){a, b}, NULL);
  for (int64_t i = 0; i < a * b; i++)
    tensor_set(t, ndim < 2 ? i : i / b, ndim < 2 ? 0 : i % b, 0, first + 0.25 * (double)i);
  return t;
}

/* As the object's dtype stores them, exactly in float64. */
static void check_read_back(DLDataType dtype) {
  cumega_residual_config c = residual_config_of(CUMEGA_RESIDUAL_AFFINE, 4, D);
  cumega_residual *made;
  test_tensor *given = numbers(1, D, 1, 0.1), *back = numbers(1, D, 1, 0),
              *wrong = numbers(1, 5, 1, 0);
  cumega_residual_parameters in = {.struct_size = sizeof in}, out = {.struct_size = sizeof out};
  c.scalar = 0;
  c.gamma = 1;
  c.dtype = dtype;
  MUST(ctx, cumega_residual_create(ctx, &c, NULL, &made));
  out.affine = dl(back);
  MUST(ctx, cumega_residual_get_parameters(ctx, made, &out));
  for (int64_t i = 0; i < D; i++)
    ck_assert_double_eq_tol(tensor_get(back, i, 0, 0), 0.25, 0x1p-50);
  in.affine = dl(given);
  MUST(ctx, cumega_residual_set_parameters(ctx, made, &in));
  in.affine = dl(wrong);
  MUST_FAIL(ctx, cumega_residual_set_parameters(ctx, made, &in), CUMEGA_ERROR_ARGUMENT,
            "affine has shape (5)", "(D) = (6)");
  in.affine = dl(given);
  tensor_set(given, 2, 0, 0, INFINITY);
  MUST_FAIL(ctx, cumega_residual_set_parameters(ctx, made, &in), CUMEGA_ERROR_ARGUMENT,
            "affine is inf", "[2]");
  tensor_set(given, 2, 0, 0, 0.1 + 0.5);
  MUST(ctx, cumega_residual_get_parameters(ctx, made, &out));
  for (int64_t i = 0; i < D; i++)
    ck_assert_double_eq(tensor_get(back, i, 0, 0),
                        number_round(dtype, tensor_get(given, i, 0, 0)));
  out.Wy = dl(wrong);
  MUST_FAIL(ctx, cumega_residual_get_parameters(ctx, made, &out), CUMEGA_ERROR_ARGUMENT,
            "Wy is given", "this residual has none");
  in.Wx_bias = dl(wrong);
  MUST_FAIL(ctx, cumega_residual_set_parameters(ctx, made, &in), CUMEGA_ERROR_ARGUMENT,
            "Wx.bias is given", "this residual has none");
  MUST_FAIL(ctx, cumega_residual_set_parameters(ctx, made, NULL), CUMEGA_ERROR_ARGUMENT,
            "parameters is NULL", "expected");
  tensor_free(given);
  tensor_free(back);
  tensor_free(wrong);
  cumega_residual_destroy(made);
}

START_TEST(parameters_are_set_and_read_back) {
  check_read_back(cumega_float32);
  check_read_back(cumega_float64);
}
END_TEST

/* 1e300 does not fit in float32. */
START_TEST(a_parameter_beyond_the_range_of_dtype_is_refused) {
  cumega_residual_config c = residual_config_of(CUMEGA_RESIDUAL_AFFINE, 4, D);
  cumega_norm_config n = norm_config_of(CUMEGA_NORM_LAYER, D);
  test_tensor *t = numbers(1, D, 1, 1);
  const cumega_residual_parameters in = {.struct_size = sizeof in, .affine = dl(t)};
  const cumega_norm_parameters of_norm = {.struct_size = sizeof of_norm, .bias = dl(t)};
  cumega_residual *made;
  cumega_norm *norm;
  tensor_set(t, 3, 0, 0, 1e300);
  c.scalar = 0;
  MUST_FAIL(ctx, cumega_residual_create(ctx, &c, &in, &made), CUMEGA_ERROR_ARGUMENT,
            "affine is 1e+300 at [3]", "within the range of float32");
  MUST_FAIL(ctx, cumega_norm_create(ctx, &n, &of_norm, &norm), CUMEGA_ERROR_ARGUMENT,
            "bias is 1e+300 at [3]", "within the range of float32");
  c.dtype = n.dtype = cumega_float64;
  MUST(ctx, cumega_residual_create(ctx, &c, &in, &made));
  MUST(ctx, cumega_norm_create(ctx, &n, &of_norm, &norm));
  cumega_residual_destroy(made);
  cumega_norm_destroy(norm);
  tensor_free(t);
}
END_TEST

/* Each number is kept once, in the object's dtype; one that a run takes by value needs no more
 * memory. */
START_TEST(an_object_holds_its_parameters_and_no_more) {
  enum { WIDE = 64, VECTOR = WIDE, MATRIX = WIDE * WIDE };
  static const struct {
    cumega_residual_kind kind;
    int32_t scalar, elemwise;
    int64_t numbers;
  } rows[] = {{CUMEGA_RESIDUAL_FEEDFORWARD, 1, 0, 0},
              {CUMEGA_RESIDUAL_DECAY, 1, 0, 0},
              {CUMEGA_RESIDUAL_AFFINE, 1, 0, 0},
              {CUMEGA_RESIDUAL_AFFINE, 0, 0, VECTOR},
              {CUMEGA_RESIDUAL_HIGHWAY, 1, 0, 2 * (MATRIX + VECTOR)},
              {CUMEGA_RESIDUAL_HIGHWAY, 1, 1, MATRIX + 2 * VECTOR}};
  enum { ROWS = sizeof rows / sizeof *rows };
  int64_t alone = 0;
  for (int k = 0; k < 2 * ROWS; k++) {
    const int i = k % ROWS;
    problem p = {.norm = -1, .shape = {1, 1, WIDE}, .seed = 1};
    p.dtype = k < ROWS ? cumega_float32 : cumega_float64;
    cumega_residual *made;
    cumega_norm *norm;
    const int64_t before = bytes_held(ctx);
    cumega_residual_config_init(&p.config, sizeof p.config, rows[i].kind, 1, WIDE);
    p.config.scalar = rows[i].scalar;
    p.config.elemwise = rows[i].elemwise;
    problem_make(ctx, &p, &made, &norm);
    const int64_t held = bytes_held(ctx) - before;
    if (i == 0) alone = held;
    ck_assert_int_eq(held - alone, rows[i].numbers * p.dtype.bits / 8);
    cumega_residual_destroy(made);
    ck_assert_int_eq(bytes_held(ctx), before);
  }
}
END_TEST

START_TEST(a_highway_needs_all_of_its_parameters) {
  test_tensor *square = numbers(2, D, D, 0), *vector = numbers(1, D, 1, 0);
  cumega_residual_config c;
  cumega_residual_config_init(&c, sizeof c, CUMEGA_RESIDUAL_HIGHWAY, 1, D);
  cumega_residual_parameters in = {.struct_size = sizeof in, .Wx_weight = dl(square)};
  cumega_residual *made;
  const int64_t before = bytes_held(ctx);
  MUST_FAIL(ctx, cumega_residual_create(ctx, &c, &in, &made), CUMEGA_ERROR_ARGUMENT, "Wx.bias",
            "missing");
  in.Wx_bias = dl(vector);
  MUST_FAIL(ctx, cumega_residual_create(ctx, &c, &in, &made), CUMEGA_ERROR_ARGUMENT, "Wy.weight",
            "missing");
  in.Wy_weight = dl(vector);
  in.Wy_bias = dl(vector);
  MUST_FAIL(ctx, cumega_residual_create(ctx, &c, &in, &made), CUMEGA_ERROR_ARGUMENT,
            "Wy.weight has shape (6)", "(D, D) = (6, 6)");
  c.elemwise = 1;
  MUST_FAIL(ctx, cumega_residual_create(ctx, &c, &in, &made), CUMEGA_ERROR_ARGUMENT,
            "parameters.Wy.weight is given, expected NULL", "this residual has none");
  in.Wy_weight = in.Wy_bias = NULL;
  MUST_FAIL(ctx, cumega_residual_create(ctx, &c, &in, &made), CUMEGA_ERROR_ARGUMENT,
            "Wy is missing", "Highway");
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
    cumega_norm_config c = norm_config_of((cumega_norm_type)type, D), back;
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
    MUST_FAIL(ctx, cumega_norm_get_parameters(ctx, norm, &out), CUMEGA_ERROR_ARGUMENT, "bias",
              type == CUMEGA_NORM_LAYER ? "(D) = (6)" : "has none");
    tensor_free(vector);
    tensor_free(number);
    cumega_norm_destroy(norm);
  }
  cumega_norm_destroy(NULL);
}
END_TEST

/* The layer norm is the only type that adds anything. On the CPU. */
START_TEST(a_zero_keeps_its_sign) {
  static const cumega_norm_type types[] = {CUMEGA_NORM_RMS, CUMEGA_NORM_SCALE, CUMEGA_NORM_BASIC};
  cumega_residual_config c;
  cumega_residual_config_init(&c, sizeof c, CUMEGA_RESIDUAL_FEEDFORWARD, 1, D);
  cumega_context *cpu = NULL;
  cumega_residual *residual;
  MUST(NULL, cumega_context_create(NULL, &cpu));
  MUST(cpu, cumega_residual_create(cpu, &c, NULL, &residual));
  for (int i = 0; i < 3; i++) {
    cumega_norm_config config;
    cumega_norm_config_init(&config, sizeof config, types[i], D);
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
  cumega_norm_config c;
  cumega_norm_config_init(&c, sizeof c, CUMEGA_NORM_BASIC, D);
  test_tensor *number = numbers(0, 1, 1, 1000);
  cumega_norm_parameters in = {.struct_size = sizeof in, .eps = dl(number)};
  MUST_FAIL(ctx, cumega_norm_create(ctx, &c, &in, &norm), CUMEGA_ERROR_ARGUMENT, "eps is 1000",
            "logarithm");
  c.eps = 0;
  MUST_FAIL(ctx, cumega_norm_create(ctx, &c, NULL, &norm), CUMEGA_ERROR_ARGUMENT,
            "config.eps is 0", "above 0");
  c.type = CUMEGA_NORM_LAYER;
  MUST(ctx, cumega_norm_create(ctx, &c, NULL, &norm));
  cumega_norm_destroy(norm);
  c.eps = -1;
  MUST_FAIL(ctx, cumega_norm_create(ctx, &c, NULL, &norm), CUMEGA_ERROR_ARGUMENT,
            "config.eps is -1", ">= 0");
  c.eps = INFINITY;
  MUST_FAIL(ctx, cumega_norm_create(ctx, &c, NULL, &norm), CUMEGA_ERROR_ARGUMENT,
            "config.eps is inf", "finite");
  c.eps = 0;
  c.dtype = cumega_bfloat16;
  MUST_FAIL(ctx, cumega_norm_create(ctx, &c, NULL, &norm), CUMEGA_ERROR_ARGUMENT,
            "config.dtype is bfloat16", "float32 or float64");
  c.type = (cumega_norm_type)4;
  MUST_FAIL(ctx, cumega_norm_create(ctx, &c, NULL, &norm), CUMEGA_ERROR_ARGUMENT,
            "config.type is 4", "0 to 3");
  c.size = 0;
  MUST_FAIL(ctx, cumega_norm_create(ctx, &c, NULL, &norm), CUMEGA_ERROR_ARGUMENT,
            "config.size is 0", "at least 1");
  ck_assert_ptr_null(norm);
  MUST_FAIL(ctx, cumega_norm_create(ctx, &c, NULL, NULL), CUMEGA_ERROR_ARGUMENT, "norm is NULL",
            "expected");
  MUST_FAIL(ctx, cumega_norm_get_config(ctx, NULL, &c), CUMEGA_ERROR_ARGUMENT, "norm is NULL",
            "expected");
  MUST_FAIL(ctx, cumega_norm_create_from_weights(ctx, NULL, "", &c, &norm), CUMEGA_ERROR_ARGUMENT,
            "weights is NULL", "expected");
  tensor_free(number);
}
END_TEST

/* Layer norm: weight and bias; a tensor left out of a set call gets ESPnet's initial value
 * again. */
START_TEST(parameters_of_a_norm_are_set_and_read_back) {
  cumega_norm_config c;
  cumega_norm_config_init(&c, sizeof c, CUMEGA_NORM_LAYER, D);
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
  MUST_FAIL(ctx, cumega_norm_set_parameters(ctx, norm, &in), CUMEGA_ERROR_ARGUMENT,
            "bias has shape (5)", "(6)");
  MUST(ctx,
       cumega_norm_get_parameters(ctx, norm, &out)); /* the refused calls have changed nothing */
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
  MUST_FAIL(ctx, cumega_norm_get_parameters(ctx, norm, &out), CUMEGA_ERROR_ARGUMENT, "bias",
            "weight");
  out.weight = dl(wrong);
  MUST_FAIL(ctx, cumega_norm_get_parameters(ctx, norm, &out), CUMEGA_ERROR_ARGUMENT,
            "weight has shape (5)", "(6)");
  in.struct_size = out.struct_size = 3;
  MUST_FAIL(ctx, cumega_norm_get_parameters(ctx, norm, &out), CUMEGA_ERROR_ARGUMENT, "struct_size",
            "3");
  MUST_FAIL(ctx, cumega_norm_set_parameters(ctx, norm, &in), CUMEGA_ERROR_ARGUMENT, "struct_size",
            "3");
  cumega_norm_destroy(norm);
  tensor_free(weight);
  tensor_free(bias);
  tensor_free(wrong);
  tensor_free(got[0]);
  tensor_free(got[1]);
}
END_TEST

/* A scalar has no index to name, and Highway's five parameters share no memory. */
START_TEST(wrong_parameters_and_places_for_them_are_named) {
  cumega_norm_config n;
  cumega_norm_config_init(&n, sizeof n, CUMEGA_NORM_SCALE, D);
  cumega_residual_config c;
  cumega_residual_config_init(&c, sizeof c, CUMEGA_RESIDUAL_HIGHWAY, 1, D);
  test_tensor *number = numbers(0, 1, 1, NAN), *square = numbers(2, D, D, 0),
              *line = numbers(1, D, 1, 0);
  cumega_norm_parameters np = {.struct_size = sizeof np, .scale = dl(number)};
  cumega_residual_parameters p = {sizeof p,   NULL,     dl(square), dl(line),
                                  dl(square), dl(line), NULL};
  cumega_norm *norm;
  cumega_residual *made;
  MUST_FAIL(ctx, cumega_norm_create(ctx, &n, &np, &norm), CUMEGA_ERROR_ARGUMENT,
            "scale is nan at []", "finite");
  MUST(ctx, cumega_residual_create(ctx, &c, &p, &made));
  MUST_FAIL(ctx, cumega_residual_get_parameters(ctx, made, &p), CUMEGA_ERROR_ARGUMENT, "Wy.weight",
            "Wx.weight");
  p.Wx_weight = dl(line);
  MUST_FAIL(ctx, cumega_residual_get_parameters(ctx, made, &p), CUMEGA_ERROR_ARGUMENT,
            "Wx.weight has shape (6)", "(6, 6)");
  p.struct_size = 3;
  MUST_FAIL(ctx, cumega_residual_get_parameters(ctx, made, &p), CUMEGA_ERROR_ARGUMENT,
            "struct_size", "3");
  MUST_FAIL(ctx, cumega_residual_set_parameters(ctx, made, &p), CUMEGA_ERROR_ARGUMENT,
            "struct_size", "3");
  cumega_residual_destroy(made);
  tensor_free(number);
  tensor_free(square);
  tensor_free(line);
}
END_TEST

START_TEST(parameters_that_no_machine_holds_are_a_resource_error) {
  cumega_residual_config c;
  cumega_residual_config_init(&c, sizeof c, CUMEGA_RESIDUAL_HIGHWAY, 1, INT64_MAX / 2);
  cumega_norm_config n;
  cumega_norm_config_init(&n, sizeof n, CUMEGA_NORM_LAYER, INT64_MAX / 4);
  n.dtype = cumega_float64;
  test_tensor *line = numbers(1, D, 1, 0);
  cumega_residual_parameters p = {sizeof p, NULL, dl(line), dl(line), dl(line), dl(line), NULL};
  cumega_residual *made;
  cumega_norm *norm;
  MUST_FAIL(ctx, cumega_residual_create(ctx, &c, &p, &made), CUMEGA_ERROR_RESOURCE,
            "cannot allocate", "more than 9223372036854775807 bytes");
  MUST_FAIL(ctx, cumega_norm_create(ctx, &n, NULL, &norm), CUMEGA_ERROR_RESOURCE,
            "cannot allocate", "more than 9223372036854775807 bytes");
  c.d_input = c.d_model = (int64_t)1 << 40; /* the low bits of its square are 0 */
  MUST_FAIL(ctx, cumega_residual_create(ctx, &c, &p, &made), CUMEGA_ERROR_RESOURCE,
            "cannot allocate", "more than 9223372036854775807 bytes");
  n.size = (int64_t)1 << 62; /* the low bits of its byte count are 0 */
  MUST_FAIL(ctx, cumega_norm_create(ctx, &n, NULL, &norm), CUMEGA_ERROR_RESOURCE,
            "cannot allocate", "more than 9223372036854775807 bytes");
  n.size = INT64_MAX / 8; /* a vector fits, but not when rounded up to a cache line */
  MUST_FAIL(ctx, cumega_norm_create(ctx, &n, NULL, &norm), CUMEGA_ERROR_RESOURCE,
            "cannot allocate", "more than 9223372036854775807 bytes");
  n.size = INT64_MAX / 9; /* one vector fits, but not all of them */
  MUST_FAIL(ctx, cumega_norm_create(ctx, &n, NULL, &norm), CUMEGA_ERROR_RESOURCE,
            "cannot allocate", "more than 9223372036854775807 bytes");
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
  cumega_residual_config c;
  cumega_residual_config_init(&c, sizeof c, CUMEGA_RESIDUAL_HIGHWAY, 3, 8);
  cumega_norm_config n;
  cumega_norm_config_init(&n, sizeof n, CUMEGA_NORM_RMS, 8);
  MUST(ctx, cumega_weights_open(ctx, path, &file));
  MUST(ctx, cumega_residual_create_from_weights(ctx, file, "parameters", &c, &made));
  must_have_read_highway(file, made);
  cumega_residual_destroy(made);
  MUST_FAIL(ctx, cumega_residual_create_from_weights(ctx, file, "", &c, &made),
            CUMEGA_ERROR_FORMAT, "no tensor", "'Wx.weight'");
  c.d_input = c.d_model = 9;
  MUST_FAIL(ctx, cumega_residual_create_from_weights(ctx, file, "parameters.", &c, &made),
            CUMEGA_ERROR_FORMAT, "parameters.Wx.weight has shape (8, 8)", "(9, 9)");
  MUST_FAIL(ctx, cumega_residual_create_from_weights(ctx, NULL, "", &c, &made),
            CUMEGA_ERROR_ARGUMENT, "weights is NULL", "expected");
  MUST_FAIL(ctx, cumega_norm_create_from_weights(ctx, file, "norm", &n, &norm),
            CUMEGA_ERROR_FORMAT, "no tensor", "'norm.scale'");
  cumega_weights_close(file);
  MUST(ctx, cumega_weights_open(
                ctx, SOURCE_DIR "/tests/golden/gated_residual-layer_norm.safetensors", &file));
  cumega_norm_config_init(&n, sizeof n, CUMEGA_NORM_LAYER, 24);
  MUST(ctx, cumega_norm_create_from_weights(ctx, file, "parameters.norm", &n, &norm));
  must_have_read(file, norm);
  cumega_norm_destroy(norm);
  char prefix[1100];
  memset(prefix, 'p', sizeof prefix);
  prefix[sizeof prefix - 1] = '\0';
  MUST_FAIL(ctx, cumega_norm_create_from_weights(ctx, file, prefix, &n, &norm),
            CUMEGA_ERROR_ARGUMENT, "prefix has 1099 characters", "fewer than");
  cumega_weights_close(file);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("residual_objects");
  TCase *tests = add_case(suite, "residual connections and norms as objects", 60);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, parameters_are_set_and_read_back);
  tcase_add_test(tests, a_parameter_beyond_the_range_of_dtype_is_refused);
  tcase_add_test(tests, an_object_holds_its_parameters_and_no_more);
  tcase_add_test(tests, a_highway_needs_all_of_its_parameters);
  tcase_add_test(tests, a_norm_begins_as_espnets);
  tcase_add_test(tests, a_zero_keeps_its_sign);
  tcase_add_test(tests, a_wrong_norm_is_an_argument_error_that_names_what_is_wrong);
  tcase_add_test(tests, parameters_of_a_norm_are_set_and_read_back);
  tcase_add_test(tests, wrong_parameters_and_places_for_them_are_named);
  tcase_add_test(tests, parameters_that_no_machine_holds_are_a_resource_error);
  tcase_add_test(tests, parameters_come_from_weight_files_under_espnets_names);
  return run_suite(suite);
}
