/* Every way in which a run of a residual connection can be wrong: it must give the status and a
 * message that names the argument and what was expected, and write nothing. */
#include <math.h>
#include <stdlib.h>
#include "defaults.h"
#include "residual_runs.h"
#include "runner.h"

enum { A = 3, B = 4, D = 6 };

static cumega_context *ctx;
static cumega_residual *decay, *affine, *highway, *none;
static cumega_norm *norm, *small_norm;
static test_tensor *x, *y, *gate, *out, *normalized, *spare;

static void make(cumega_residual_kind kind, int norm_type, int64_t size,
                 cumega_residual **residual, cumega_norm **made) {
  problem p = {.norm = norm_type, .dtype = cumega_float32, .shape = {1, 1, size}, .seed = 1};
  cumega_norm *unused;
  cumega_residual_config_init(&p.config, sizeof p.config, kind, 2, size);
  problem_make(ctx, &p, residual, made ? made : &unused);
}

static void setup(void) {
  cumega_residual *unused;
  ctx = context_new();
  make(CUMEGA_RESIDUAL_DECAY, CUMEGA_NORM_LAYER, D, &decay, &norm);
  make(CUMEGA_RESIDUAL_AFFINE, -1, D, &affine, NULL);
  make(CUMEGA_RESIDUAL_HIGHWAY, -1, D, &highway, NULL);
  make(CUMEGA_RESIDUAL_FEEDFORWARD, -1, D, &none, NULL);
  make(CUMEGA_RESIDUAL_DECAY, CUMEGA_NORM_RMS, D - 1, &unused, &small_norm);
  cumega_residual_destroy(unused);
  test_tensor **all[] = {&x, &y, &gate, &out, &normalized};
  for (int i = 0; i < 5; i++) {
    *all[i] = tensor_new_3(cumega_float32, A, B, D);
    for (int64_t k = 0; k < A * B * D; k++)
      tensor_set(*all[i], k / (B * D), k / D % B, k % D, (double)(k % 5) - i);
  }
  spare = NULL;
}

static void teardown(void) {
  test_tensor *all[] = {x, y, gate, out, normalized, spare};
  for (int i = 0; i < 6; i++) tensor_free(all[i]);
  cumega_residual_destroy(decay);
  cumega_residual_destroy(affine);
  cumega_residual_destroy(highway);
  cumega_residual_destroy(none);
  cumega_norm_destroy(norm);
  cumega_norm_destroy(small_norm);
  cumega_context_destroy(ctx);
}

static cumega_residual_io right_io(void) {
  return (cumega_residual_io){.struct_size = sizeof(cumega_residual_io),
                              .x = dl(x),
                              .y = dl(y),
                              .out = dl(out),
                              .norm = norm,
                              .normalized = dl(normalized)};
}

static cumega_residual_gated_io right_gated_io(void) {
  return (cumega_residual_gated_io){.struct_size = sizeof(cumega_residual_gated_io),
                                    .x = dl(x),
                                    .gate = dl(gate),
                                    .h = dl(y),
                                    .out = dl(out),
                                    .norm = norm,
                                    .normalized = dl(normalized)};
}

/* If the suite runs on a device, the io is given the other memory space. */
static void stage(staging *s, const DLTensor **members[], int count) {
  if (!staging_begin(s, ctx)) return;
  for (int i = 0; i < count; i++) staging_add(s, members[i]);
}

static void remember(void) {
  tensor_remember(out);
  tensor_remember(normalized);
}

static void must_refuse(const cumega_residual *residual, cumega_residual_io io, const char *a,
                        const char *b) {
  staging s;
  const DLTensor *to = io.out, *normal = io.normalized;
  const DLTensor **members[] = {&io.x, &io.y, &to, &normal};
  int64_t bytes;
  remember();
  stage(&s, members, 4);
  io.out = (DLTensor *)(uintptr_t)to;
  io.normalized = (DLTensor *)(uintptr_t)normal;
  MUST_FAIL(ctx, cumega_residual_forward(ctx, residual, &io), CUMEGA_ERROR_ARGUMENT, a, b);
  MUST_FAIL(ctx, cumega_residual_workspace_size(ctx, residual, &io, &bytes), CUMEGA_ERROR_ARGUMENT,
            a, b);
  ck_assert(tensor_unchanged(out) && tensor_unchanged(normalized));
}

static void must_refuse_gated(cumega_residual_gated_io io, const char *a, const char *b) {
  staging s;
  const DLTensor *to = io.out, *normal = io.normalized;
  const DLTensor **members[] = {&io.x, &io.gate, &io.h, &to, &normal};
  int64_t bytes;
  remember();
  stage(&s, members, 5);
  io.out = (DLTensor *)(uintptr_t)to;
  io.normalized = (DLTensor *)(uintptr_t)normal;
  MUST_FAIL(ctx, cumega_residual_gated_forward(ctx, &io), CUMEGA_ERROR_ARGUMENT, a, b);
  MUST_FAIL(ctx, cumega_residual_gated_workspace_size(ctx, &io, &bytes), CUMEGA_ERROR_ARGUMENT, a,
            b);
  ck_assert(tensor_unchanged(out) && tensor_unchanged(normalized));
}

static test_tensor *spare_of(DLDataType dtype, int ndim, int64_t a, int64_t b, int64_t c) {
  tensor_free(spare);
  return spare = tensor_new(dtype, ndim, (int64_t[]){a, b, c}, NULL);
}

#define REFUSED(residual, change, a, b)                                                           \
  do {                                                                                            \
    cumega_residual_io io = right_io();                                                           \
    change;                                                                                       \
    must_refuse(residual, io, a, b);                                                              \
  } while (0)

#define REFUSED_GATED(change, a, b)                                                               \
  do {                                                                                            \
    cumega_residual_gated_io io = right_gated_io();                                               \
    change;                                                                                       \
    must_refuse_gated(io, a, b);                                                                  \
  } while (0)

START_TEST(a_missing_argument_is_named) {
  REFUSED(NULL, (void)io, "residual is NULL", "expected");
  REFUSED(decay, io.struct_size = 0, "struct_size", "0");
  REFUSED(decay, io.x = NULL, "x is NULL", "expected a tensor");
  REFUSED(decay, io.y = NULL, "y is NULL", "expected a tensor");
  REFUSED(decay, (io.out = NULL, io.norm = NULL, io.normalized = NULL), "out is NULL", "expected");
  REFUSED(decay, io.norm = NULL, "normalized is given without norm", "both");
  REFUSED(decay, io.normalized = NULL, "norm is given without normalized", "both");
  REFUSED_GATED(io.struct_size = 3, "struct_size", "3");
  REFUSED_GATED(io.x = NULL, "x is NULL", "expected a tensor");
  REFUSED_GATED(io.gate = NULL, "gate is NULL", "expected a tensor");
  REFUSED_GATED(io.h = NULL, "h is NULL", "expected a tensor");
  REFUSED_GATED((io.out = NULL, io.norm = NULL, io.normalized = NULL), "out is NULL", "expected");
  MUST_FAIL(ctx, cumega_residual_forward(ctx, decay, NULL), CUMEGA_ERROR_ARGUMENT, "io is NULL",
            "NULL");
  MUST_FAIL(ctx, cumega_residual_prepare(ctx, NULL), CUMEGA_ERROR_ARGUMENT, "residual is NULL",
            "expected");
}
END_TEST

START_TEST(a_wrong_shape_or_type_is_named_with_what_was_expected) {
  REFUSED(decay, io.x = dl(spare_of(cumega_float32, 3, A, B, 5)), "x has shape (3, 4, 5)",
          "the shape of y = (3, 4, 6)");
  REFUSED(decay, io.y = dl(spare_of(cumega_float32, 3, A, B, 5)), "y has 5 channels",
          "d_model, 6");
  REFUSED(decay, io.out = dl(spare_of(cumega_float32, 2, B, D, 0)), "out has shape (4, 6)",
          "(3, 4, 6)");
  REFUSED(decay, io.normalized = dl(spare_of(cumega_float32, 3, B, A, D)),
          "normalized has shape (4, 3, 6)", "(3, 4, 6)");
  REFUSED(decay, io.x = dl(spare_of(cumega_float16, 3, A, B, D)), "x is float16", "float32");
  REFUSED(decay, io.y = dl(spare_of(cumega_int32, 3, A, B, D)), "y is int32", "float32");
  REFUSED(decay, io.x = dl(spare_of(cumega_int32, 3, A, B, D)), "x is int32",
          "expected float32, float16, bfloat16 or float64");
  REFUSED(decay, io.y = dl(spare_of(cumega_float32, 0, 0, 0, 0)), "y has 0 dimensions",
          "(..., D)");
  REFUSED(decay, io.norm = small_norm, "norm is of size 5", "6 channels");
  REFUSED_GATED(io.gate = dl(spare_of(cumega_bfloat16, 3, A, B, D)), "gate is bfloat16",
                "h's type");
  REFUSED_GATED(io.x = dl(spare_of(cumega_float32, 3, A, B, 5)), "x has shape (3, 4, 5)", "of h");
  REFUSED_GATED(io.norm = small_norm, "norm is of size 5", "6 channels of h");
}
END_TEST

/* Vectors are kept in one type. A kind without vectors runs in every type. */
START_TEST(an_object_of_another_dtype_than_the_tensors_is_refused) {
  cumega_residual_config c = residual_config_of(CUMEGA_RESIDUAL_AFFINE, 1, D);
  cumega_residual *narrow, *wide;
  test_tensor *t[4];
  for (int i = 0; i < 4; i++) t[i] = tensor_new_3(cumega_float64, A, B, D);
  c.scalar = 0;
  MUST(ctx, cumega_residual_create(ctx, &c, NULL, &narrow));
  c.dtype = cumega_float64;
  MUST(ctx, cumega_residual_create(ctx, &c, NULL, &wide));
#define WITHOUT_NORM (io.norm = NULL, io.normalized = NULL)
#define OF_FLOAT64   (io.x = dl(t[0]), io.y = dl(t[1]), io.out = dl(t[2]))
  REFUSED(wide, WITHOUT_NORM, "residual has dtype float64, expected float32", "y is float32");
  REFUSED(narrow, (OF_FLOAT64, WITHOUT_NORM), "residual has dtype float32, expected float64",
          "y is float64");
  REFUSED(highway, (OF_FLOAT64, WITHOUT_NORM), "residual has dtype float32, expected float64",
          "y is float64");
  REFUSED(decay, (OF_FLOAT64, io.normalized = dl(t[3])),
          "norm has dtype float32, expected float64", "y is float64");
  REFUSED_GATED((io.x = dl(t[0]), io.h = dl(t[1]), io.gate = dl(t[1]), io.out = dl(t[2]),
                 io.normalized = dl(t[3])),
                "norm has dtype float32, expected float64", "h is float64");
  for (int i = 0; i < 4; i++) tensor_free(t[i]);
  cumega_residual_destroy(narrow);
  cumega_residual_destroy(wide);
}
END_TEST

START_TEST(a_kind_without_vectors_runs_in_every_type_whatever_its_dtype) {
  const cumega_residual *kinds[] = {decay, affine, none};
  for (int k = 0; k < 3; k++) {
    test_tensor *t[3];
    staging s;
    for (int i = 0; i < 3; i++) {
      t[i] = tensor_new_3(cumega_float64, A, B, D);
      for (int64_t n = 0; n < A * B * D; n++)
        tensor_set(t[i], n / (B * D), n / D % B, n % D, 1 + 0x1p-40);
    }
    const DLTensor *at[] = {dl(t[0]), dl(t[1]), dl(t[2])};
    double alpha, beta;
    MUST(ctx, cumega_residual_get_multipliers(ctx, kinds[k], &alpha, &beta));
    const int staged = staging_begin(&s, ctx);
    for (int i = 0; i < 3 && staged; i++) staging_add(&s, &at[i]);
    if (staged) staging_there(&s);
    const cumega_residual_io io = {
        .struct_size = sizeof io, .x = at[0], .y = at[1], .out = (DLTensor *)(uintptr_t)at[2]};
    MUST(ctx, cumega_residual_forward(ctx, kinds[k], &io));
    if (staged) staging_back(&s);
    ck_assert_double_eq_tol(tensor_get(t[2], 2, 3, 5), (alpha + beta) * (1 + 0x1p-40), 0x1p-50);
    for (int i = 0; i < 3; i++) tensor_free(t[i]);
  }
}
END_TEST

START_TEST(transposed_channels_are_second_to_last) {
  REFUSED(decay, io.transposed = 1, "norm is given with transposed", "permuted");
  REFUSED(affine, (io.transposed = 1, io.norm = NULL, io.normalized = NULL), "y has 4 channels",
          "dimension 1");
  REFUSED(highway, (io.transposed = 1, io.norm = NULL, io.normalized = NULL), "transposed",
          "Highway");
  REFUSED(affine,
          (io.transposed = 1, io.norm = NULL, io.normalized = NULL,
           io.y = dl(spare_of(cumega_float32, 1, D, 0, 0))),
          "y has 1 dimensions", "(..., D, L)");
}
END_TEST

START_TEST(outputs_that_overlap_are_refused) {
  test_tensor *rows = tensor_new_3(cumega_float32, A + 1, B, D);
  cumega_tensor low, high;
  const int64_t shape[] = {A, B, D};
  DLTensor *first =
      cumega_tensor_init(&low, tensor_at(rows, 0, 0, 0), cumega_cpu, cumega_float32, 3, shape);
  DLTensor *second =
      cumega_tensor_init(&high, tensor_at(rows, 1, 0, 0), cumega_cpu, cumega_float32, 3, shape);
  REFUSED(decay, (io.x = first, io.out = second), "out", "x");
  REFUSED(decay, (io.y = first, io.normalized = second), "normalized", "y");
  REFUSED(decay, io.normalized = dl(out), "normalized", "out");
  REFUSED_GATED((io.gate = first, io.out = second), "out", "gate");
  low.strides[0] = 0;
  REFUSED(decay, io.out = first, "out", "element");
  tensor_free(rows);
}
END_TEST

START_TEST(an_input_that_is_not_read_is_not_looked_at) {
  problem p = {.norm = -1, .dtype = cumega_float32, .shape = {A, B, D}, .seed = 3};
  cumega_residual_config_init(&p.config, sizeof p.config, CUMEGA_RESIDUAL_RESIDUAL, 1, D);
  p.config.alpha = 0;
  result r = problem_run(ctx, &p, NULL); /* x is NULL there */
  for (int64_t i = 0; i < r.count; i++) ck_assert_double_eq(r.out[i], r.inputs[IN_Y][i]);
  result_free(&r);
}
END_TEST

/* Affine multiplies x by 0, as ESPnet does, so that a NaN shows; Residual does not read it. */
START_TEST(an_affine_reads_x_even_at_alpha_0) {
  cumega_residual_config c;
  cumega_residual_config_init(&c, sizeof c, CUMEGA_RESIDUAL_AFFINE, 1, D);
  cumega_residual *made;
  staging s;
  c.alpha = 0;
  MUST(ctx, cumega_residual_create(ctx, &c, NULL, &made));
  tensor_set(x, 1, 2, 3, NAN);
  cumega_residual_io io = right_io();
  io.norm = NULL;
  io.normalized = NULL;
  const DLTensor *to = io.out;
  const DLTensor **members[] = {&io.x, &io.y, &to};
  if (staging_begin(&s, ctx)) {
    stage(&s, members, 3);
    staging_there(&s);
    io.out = (DLTensor *)(uintptr_t)to;
  }
  MUST(ctx, cumega_residual_forward(ctx, made, &io));
  if (s.count) staging_back(&s);
  ck_assert(isnan(tensor_get(out, 1, 2, 3)) && !isnan(tensor_get(out, 1, 2, 2)));
  cumega_residual_destroy(made);
}
END_TEST

START_TEST(empty_tensors_succeed_and_touch_nothing) {
  problem p = {.norm = CUMEGA_NORM_LAYER, .dtype = cumega_float32, .seed = 3};
  const int64_t shapes[][3] = {{0, B, D}, {A, 0, D}};
  for (int kind = 0; kind < 6; kind++)
    for (int i = 0; i < 2; i++) {
      memcpy(p.shape, shapes[i], sizeof p.shape);
      p.gated = kind == 5;
      cumega_residual_config_init(&p.config, sizeof p.config,
                                  p.gated ? CUMEGA_RESIDUAL_RESIDUAL : (cumega_residual_kind)kind,
                                  1, D);
      result r = problem_run(ctx, &p, NULL);
      ck_assert_int_eq(r.count, 0);
      result_free(&r);
    }
}
END_TEST

START_TEST(four_dimensions_are_as_good_as_three) {
  problem p = {.norm = CUMEGA_NORM_SCALE, .dtype = cumega_float32, .shape = {A, B, D}, .seed = 5};
  cumega_residual_config_init(&p.config, sizeof p.config, CUMEGA_RESIDUAL_DECAY, 4, D);
  result r = problem_run(ctx, &p, NULL);
  cumega_residual *residual;
  cumega_norm *scale;
  problem_make(ctx, &p, &residual, &scale);
  for (int64_t k = 0; k < r.count; k++) {
    tensor_set(x, k / (B * D), k / D % B, k % D, r.inputs[IN_X][k]);
    tensor_set(y, k / (B * D), k / D % B, k % D, r.inputs[IN_Y][k]);
  }
  test_tensor *three[] = {x, y, out, normalized};
  cumega_tensor four[4];
  const DLTensor *views[4];
  const int64_t shape[] = {A, 2, B / 2, D};
  for (int i = 0; i < 4; i++)
    views[i] = cumega_tensor_init(&four[i], tensor_at(three[i], 0, 0, 0), cumega_cpu,
                                  cumega_float32, 4, shape);
  staging s;
  const DLTensor **members[] = {&views[0], &views[1], &views[2], &views[3]};
  if (staging_begin(&s, ctx)) {
    stage(&s, members, 4);
    staging_there(&s);
  }
  cumega_residual_io io = {sizeof io,
                           views[0],
                           views[1],
                           (DLTensor *)(uintptr_t)views[2],
                           0,
                           scale,
                           (DLTensor *)(uintptr_t)views[3]};
  MUST(ctx, cumega_residual_forward(ctx, residual, &io));
  if (s.count) staging_back(&s);
  for (int64_t k = 0; k < r.count; k++)
    ck_assert_uint_eq(tensor_bits(normalized, k / (B * D), k / D % B, k % D),
                      r.normalized_bits[k]);
  result_free(&r);
  cumega_residual_destroy(residual);
  cumega_norm_destroy(scale);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("residual_statuses");
  TCase *tests = add_case(suite, "runs of residual connections", 60);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, a_missing_argument_is_named);
  tcase_add_test(tests, a_wrong_shape_or_type_is_named_with_what_was_expected);
  tcase_add_test(tests, an_object_of_another_dtype_than_the_tensors_is_refused);
  tcase_add_test(tests, a_kind_without_vectors_runs_in_every_type_whatever_its_dtype);
  tcase_add_test(tests, transposed_channels_are_second_to_last);
  tcase_add_test(tests, outputs_that_overlap_are_refused);
  tcase_add_test(tests, an_input_that_is_not_read_is_not_looked_at);
  tcase_add_test(tests, an_affine_reads_x_even_at_alpha_0);
  tcase_add_test(tests, empty_tensors_succeed_and_touch_nothing);
  tcase_add_test(tests, four_dimensions_are_as_good_as_three);
  return run_suite(suite);
}
