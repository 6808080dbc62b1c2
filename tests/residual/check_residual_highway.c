/* Highway's products, which cuBLAS makes on CUDA. Wherever the tensors lie, the bits are those of
 * compact rows. What cuBLAS cannot read in place is copied first. */
#include <string.h>
#include "residual_runs.h"
#include "runner.h"

enum { D = 5 };

/* x and y of one run, of one or two dimensions. */
typedef struct highway_case {
  int ndim;
  int64_t rows;
  DLDataType dtype;
  test_layout x, y, out;
  int is_copied; /* on CUDA */
} highway_case;

static cumega_residual *highway_new(cumega_context *ctx, DLDataType dtype) {
  problem p = {.norm = -1, .dtype = dtype, .shape = {1, 1, D}, .seed = 3};
  cumega_residual *residual;
  cumega_norm *norm;
  cumega_residual_config_init(&p.config, sizeof p.config, CUMEGA_RESIDUAL_HIGHWAY, 1, D);
  problem_make(ctx, &p, &residual, &norm);
  return residual;
}

static test_tensor *rows_new(const highway_case *c, const test_layout *layout) {
  const int64_t shape[] = {c->rows, D};
  return tensor_new(c->dtype, c->ndim, shape + 2 - c->ndim, layout);
}

static double get(const highway_case *c, const test_tensor *t, int64_t row, int64_t d) {
  return c->ndim == 1 ? tensor_get(t, d, 0, 0) : tensor_get(t, row, d, 0);
}

static void run(cumega_context *ctx, const cumega_residual *residual, test_tensor *x,
                test_tensor *y, test_tensor *out) {
  const DLTensor *in[] = {dl(x), dl(y), dl(out)};
  staging s;
  const int staged = staging_begin(&s, ctx);
  for (int i = 0; staged && i < 3; i++) staging_add(&s, &in[i]);
  if (staged) staging_there(&s);
  cumega_residual_io io = {.struct_size = sizeof io, .x = in[0], .y = in[1]};
  io.out = (DLTensor *)(uintptr_t)in[2];
  MUST(ctx, cumega_residual_forward(ctx, residual, &io));
  if (staged) staging_back(&s);
}

static void check(const highway_case *c) {
  const highway_case plain = {.ndim = 2, .rows = c->rows, .dtype = c->dtype};
  cumega_context *ctx = context_new();
  cumega_residual *residual = highway_new(ctx, c->dtype);
  test_tensor *x = rows_new(c, &c->x), *y = rows_new(c, &c->y), *out = rows_new(c, &c->out);
  test_tensor *compact[] = {rows_new(&plain, NULL), rows_new(&plain, NULL),
                            rows_new(&plain, NULL)};
  uint64_t seed = 8;
  for (int64_t i = 0; i < c->rows; i++)
    for (int64_t d = 0; d < D; d++) {
      const int64_t at[] = {c->ndim == 1 ? d : i, c->ndim == 1 ? 0 : d};
      tensor_set(x, at[0], at[1], 0, random_noise(&seed));
      tensor_set(y, at[0], at[1], 0, random_noise(&seed));
    }
  for (int64_t i = 0; i < c->rows; i++) /* the last row's, if rows share memory */
    for (int64_t d = 0; d < D; d++) {
      tensor_set(compact[0], i, d, 0, get(c, x, i, d));
      tensor_set(compact[1], i, d, 0, get(c, y, i, d));
    }
  run(ctx, residual, x, y, out);
  if (device_is_cuda())
    ck_assert_msg((strstr(cumega_context_kernels(ctx), "residual_gather_kernel") != NULL) ==
                      c->is_copied,
                  "%s", cumega_context_kernels(ctx));
  run(ctx, residual, compact[0], compact[1], compact[2]);
  for (int64_t i = 0; i < c->rows; i++)
    for (int64_t d = 0; d < D; d++)
      ck_assert_msg(get(c, out, i, d) == tensor_get(compact[2], i, d, 0), "row %lld, channel %lld",
                    (long long)i, (long long)d);
  ck_assert(tensor_gaps_hold(out));
  test_tensor *all[] = {x, y, out, compact[0], compact[1], compact[2]};
  for (int i = 0; i < 6; i++) tensor_free(all[i]);
  cumega_residual_destroy(residual);
  cumega_context_destroy(ctx);
}

#define F32                                                                                       \
  { kDLFloat, 32, 1 }
#define F64                                                                                       \
  { kDLFloat, 64, 1 }
#define B16                                                                                       \
  { kDLBfloat, 16, 1 }
#define IN_ORDER .ordered = 1, .order = {0, 1}

static const highway_case cases[] = {
    {1, 1, F32, .is_copied = 0}, /* a vector */
    {1, 1, F64, .is_copied = 0},
    {2, 1, F32, .is_copied = 0},
    {2, 150, F32, .is_copied = 0}, /* more rows than an emulated product takes at once */
    {2, 70, F64, .is_copied = 0},
    {2, 4, F32, .x = {IN_ORDER, .gap = {0, 3}}, .y = {IN_ORDER, .gap = {0, 1}}, .is_copied = 0},
    {2, 4, F32, .x = {IN_ORDER, .repeated = 1}, .is_copied = 1}, /* one row for all */
    {2, 4, F32, .y = {.ordered = 1, .order = {1, 0}}, .is_copied = 1},
    {2, 4, F32, .x = {IN_ORDER, .reversed = 2}, .is_copied = 1}, /* channels, not rows */
    {2, 4, F32, .y = {IN_ORDER, .reversed = 2}, .is_copied = 1},
    /* Rows of whole 16-byte pieces, the last of which is not full. */
    {2,
     9,
     B16,
     {IN_ORDER, .gap = {0, 3}},
     {IN_ORDER, .gap = {0, 3}},
     {IN_ORDER, .gap = {0, 3}},
     .is_copied = 1},
};

START_TEST(bits_do_not_depend_on_where_the_rows_lie) {
  check(&cases[_i]);
}
END_TEST

/* cuBLAS takes 32-bit distances between rows, and no rows that overlap. Tensors of the first kind
 * are larger than a test's memory, so the test only asks for the copy's size. */
START_TEST(rows_too_far_apart_for_cublas_or_too_near_are_copied) {
  cumega_context *ctx = context_new();
  cumega_residual *residual = highway_new(ctx, cumega_float32);
  const int64_t shape[] = {64, D}, apart[] = {INT32_MAX, (int64_t)INT32_MAX + 1, D, D - 1};
  int64_t bytes[4];
  float data[3][64 * D]; /* x's last row, of which only the beginning exists */
  cumega_tensor x, y, out;
  for (int i = 0; i < 4; i++) {
    cumega_residual_io io = {.struct_size = sizeof io};
    io.y = cumega_tensor_init(&y, data[0], device_of_tests(), cumega_float32, 2, shape);
    io.out = cumega_tensor_init(&out, data[1], device_of_tests(), cumega_float32, 2, shape);
    io.x = cumega_tensor_init(&x, data[2], device_of_tests(), cumega_float32, 2, shape);
    x.dl.strides[0] = apart[i];
    MUST(ctx, cumega_residual_workspace_size(ctx, residual, &io, &bytes[i]));
  }
  for (int i = 0; i < 4; i += 2)
    ck_assert_int_eq(bytes[i + 1] - bytes[i],
                     device_is_cuda() ? 64 * D * (int64_t)sizeof(float) : 0);
  cumega_residual_destroy(residual);
  cumega_context_destroy(ctx);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("residual_highway");
  TCase *tests = add_case(suite, "highway", 60);
  tcase_add_loop_test(tests, bits_do_not_depend_on_where_the_rows_lie, 0,
                      (int)(sizeof cases / sizeof *cases));
  tcase_add_test(tests, rows_too_far_apart_for_cublas_or_too_near_are_copied);
  return run_suite(suite);
}
