/* What a residual connection's run hands to a backend: the backend here computes nothing and
 * records its arguments. */
#include <string.h>
#include "backend.h"
#include "defaults.h"
#include "harness.h"
#include "norm_object.h"
#include "residual_object.h"
#include "runner.h"

enum { D = 4 };

static cumega_context *ctx;
static const backend *usual;
static backend written;
static residual_run seen;
static int calls;
static double memory_of[4][64],
    zeros[D * D]; /* of x, y and two outputs; of a Highway's parameters */

static cumega_status write_down(cumega_context *unused, const residual_run *run) {
  (void)unused;
  seen = *run;
  calls++;
  return CUMEGA_OK;
}

static int64_t ask_for_77(const cumega_context *unused, const residual_run *run) {
  (void)unused;
  seen = *run;
  calls++;
  return 77;
}

static cumega_status count_prepare(cumega_context *unused) {
  (void)unused;
  calls++;
  return CUMEGA_OK;
}

static void setup(void) {
  MUST(NULL, cumega_context_create(NULL, &ctx));
  usual = ctx->backend;
  written = *usual;
  written.residual = (residual_functions){
      .workspace = ask_for_77, .prepare = count_prepare, .forward = write_down};
  ctx->backend = &written;
  calls = 0;
}

static void teardown(void) {
  ctx->backend = usual;
  cumega_context_destroy(ctx);
}

static cumega_residual *residual_of(cumega_residual_kind kind, int one) {
  cumega_residual_config c;
  cumega_residual_config_init(&c, sizeof c, kind, 2, D);
  cumega_tensor matrix, vector;
  cumega_residual *made = NULL;
  DLTensor *square =
      cumega_tensor_init(&matrix, zeros, cumega_cpu, cumega_float64, 2, (int64_t[]){D, D});
  DLTensor *line =
      cumega_tensor_init(&vector, zeros, cumega_cpu, cumega_float64, 1, (int64_t[]){D});
  const cumega_residual_parameters p = {
      sizeof p, NULL, square, line, one ? NULL : square, one ? NULL : line, one ? line : NULL};
  c.scalar = c.elemwise = one;
  MUST(ctx, cumega_residual_create(ctx, &c, kind == CUMEGA_RESIDUAL_HIGHWAY ? &p : NULL, &made));
  return made;
}

static cumega_norm *norm_of(void) {
  cumega_norm_config c;
  cumega_norm_config_init(&c, sizeof c, CUMEGA_NORM_RMS, D);
  cumega_norm *made = NULL;
  MUST(ctx, cumega_norm_create(ctx, &c, NULL, &made));
  return made;
}

static DLTensor *tensor_of(cumega_tensor *t, int which, int ndim, const int64_t *shape,
                           const int64_t *strides) {
  DLTensor *made =
      cumega_tensor_init(t, memory_of[which] + 32, cumega_cpu, cumega_float32, ndim, shape);
  for (int i = 0; i < ndim && strides[0]; i++) t->strides[i] = strides[i];
  return made;
}

/* ---- loops ---- */

typedef struct loop_row {
  cumega_residual_kind kind;
  int one; /* Affine's scalar, Highway's elemwise */
  int transposed;
  int norm; /* 1: the sum is not kept; 2: it is, and is written first */
  int ndim;
  int64_t shape[4];
  int64_t x[4], out[4]; /* strides; y has those of x; 0: compact */
  residual_form form;
  int loops, channel;
  int64_t sizes[4], x_strides[4], out_strides[4];
} loop_row;

#define DECAY    CUMEGA_RESIDUAL_DECAY, 0
#define CHANNEL  CUMEGA_RESIDUAL_AFFINE, 0
#define SCALAR   CUMEGA_RESIDUAL_AFFINE, 1
#define HIGHWAY  CUMEGA_RESIDUAL_HIGHWAY, 0
#define ELEMWISE CUMEGA_RESIDUAL_HIGHWAY, 1
#define COPY     CUMEGA_RESIDUAL_FEEDFORWARD, 0
#define IS(form) RESIDUAL_##form

static const loop_row loop_rows[] = {
    /* as few as possible: compact dimensions become one */
    {DECAY, 0, 0, 3, {2, 3, D}, {0}, {0}, IS(SUM), 1, -1, {24}, {1}, {1}},
    {COPY, 0, 0, 3, {2, 3, D}, {0}, {0}, IS(COPY), 1, -1, {24}, {1}, {1}},
    {SCALAR, 0, 0, 3, {2, 3, D}, {0}, {0}, IS(SUM), 1, -1, {24}, {1}, {1}},
    {SCALAR, 1, 0, 3, {2, D, 3}, {0}, {0}, IS(SUM), 1, -1, {24}, {1}, {1}},
    {DECAY, 0, 0, 3, {2, 3, D}, {30, 4, 1}, {0}, IS(SUM), 2, -1, {2, 12}, {30, 1}, {12, 1}},
    {DECAY, 0, 0, 3, {2, 3, D}, {0}, {30, 4, 1}, IS(SUM), 2, -1, {2, 12}, {12, 1}, {30, 1}},
    /* dimensions of one element are left out */
    {DECAY, 0, 0, 4, {1, 3, 1, D}, {0}, {0}, IS(SUM), 1, -1, {12}, {1}, {1}},
    {DECAY, 0, 0, 4, {3, 1, 1, D}, {5, 9, 7, 1}, {0}, IS(SUM), 2, -1, {3, D}, {5, 1}, {4, 1}},
    /* in the output's order, whichever way that goes */
    {DECAY, 0, 0, 3, {2, 3, D}, {1, 2, 6}, {1, 2, 6}, IS(SUM), 1, -1, {24}, {1}, {1}},
    {DECAY, 0, 0, 3, {2, 3, D}, {0}, {1, 2, 6}, IS(SUM), 3, -1, {D, 3, 2}, {1, 4, 12}, {6, 2, 1}},
    {DECAY, 0, 0, 3, {2, 3, D}, {0}, {4, 8, 1}, IS(SUM), 3, -1, {3, 2, D}, {4, 12, 1}, {8, 4, 1}},
    {DECAY, 0, 0, 2, {2, D}, {0}, {-4, 1}, IS(SUM), 2, -1, {2, D}, {4, 1}, {-4, 1}},
    /* channels stay separate */
    {CHANNEL, 0, 0, 3, {2, 3, D}, {0}, {0}, IS(CHANNELS), 2, 1, {6, D}, {4, 1}, {4, 1}},
    {CHANNEL, 1, 0, 3, {2, D, 3}, {0}, {0}, IS(CHANNELS), 3, 1, {2, D, 3}, {12, 3, 1}, {12, 3, 1}},
    {CHANNEL, 0, 0, 3, {2, 3, D}, {0}, {3, 1, 6}, IS(CHANNELS), 2, 0, {D, 6}, {1, 4}, {6, 1}},
    /* and come last if rows of them are taken together */
    {DECAY, 0, 1, 3, {2, 3, D}, {0}, {3, 1, 6}, IS(SUM), 2, 1, {6, D}, {4, 1}, {1, 6}},
    {DECAY, 0, 2, 3, {2, 3, D}, {0}, {3, 1, 6}, IS(SUM), 2, 1, {6, D}, {4, 1}, {1, 6}},
    {HIGHWAY, 0, 0, 3, {2, 3, D}, {0}, {3, 1, 6}, IS(HIGHWAY), 2, 1, {6, D}, {4, 1}, {1, 6}},
    {ELEMWISE, 0, 0, 2, {3, D}, {0}, {1, 3}, IS(HIGHWAY_SCALE), 2, 1, {3, D}, {4, 1}, {1, 3}},
};

START_TEST(a_run_has_as_few_loops_as_can_be_in_the_outputs_order) {
  const loop_row *row = &loop_rows[_i];
  cumega_residual *residual = residual_of(row->kind, row->one);
  cumega_norm *norm = norm_of();
  cumega_tensor x, y, out, compact;
  DLTensor *to = tensor_of(&out, 2, row->ndim, row->shape, row->out);
  DLTensor *other = tensor_of(&compact, 3, row->ndim, row->shape, (int64_t[]){0});
  const cumega_residual_io io = {.struct_size = sizeof io,
                                 .x = tensor_of(&x, 0, row->ndim, row->shape, row->x),
                                 .y = tensor_of(&y, 1, row->ndim, row->shape, row->x),
                                 .out = row->norm == 1 ? NULL : to,
                                 .transposed = row->transposed,
                                 .norm = row->norm ? norm : NULL,
                                 .normalized = row->norm == 0   ? NULL
                                               : row->norm == 1 ? to
                                                                : other};
  const int key = row->norm == 1 ? OPERAND_NORMALIZED : OPERAND_OUT;
  MUST(ctx, cumega_residual_forward(ctx, residual, &io));
  ck_assert_int_eq(calls, 1);
  ck_assert_int_eq(seen.form, row->form);
  ck_assert_int_eq(seen.ndim, row->loops);
  ck_assert_int_eq(seen.channel, row->channel);
  for (int i = 0; i < row->loops; i++) {
    ck_assert_int_eq(seen.shape[i], row->sizes[i]);
    ck_assert_int_eq(seen.operands[OPERAND_Y].strides[i], row->x_strides[i]);
    ck_assert_int_eq(seen.operands[key].strides[i], row->out_strides[i]);
  }
  ck_assert_int_eq(seen.operands[OPERAND_GATE].type, 0); /* absent */
  cumega_residual_destroy(residual);
  cumega_norm_destroy(norm);
}
END_TEST

/* If the kind has channels, this dimension is their loop. */
START_TEST(one_element_is_one_loop) {
  cumega_residual *residual = residual_of(CUMEGA_RESIDUAL_DECAY, 0);
  residual->config.d_model = 1;
  cumega_tensor x, y, out;
  const int64_t shape[] = {1, 1}, compact[] = {0};
  const cumega_residual_io io = {.struct_size = sizeof io,
                                 .x = tensor_of(&x, 0, 2, shape, compact),
                                 .y = tensor_of(&y, 1, 2, shape, compact),
                                 .out = tensor_of(&out, 2, 2, shape, compact)};
  MUST(ctx, cumega_residual_forward(ctx, residual, &io));
  ck_assert(seen.ndim == 1 && seen.shape[0] == 1 && seen.channel == -1);
  cumega_residual_destroy(residual);
  residual = residual_of(CUMEGA_RESIDUAL_AFFINE, 0);
  residual->config.d_model = 1;
  MUST(ctx, cumega_residual_forward(ctx, residual, &io));
  ck_assert(seen.ndim == 1 && seen.shape[0] == 1 && seen.channel == 0);
  cumega_residual_destroy(residual);
}
END_TEST

/* ---- calls ---- */

START_TEST(nothing_is_asked_of_a_backend_for_empty_tensors) {
  cumega_residual *residual = residual_of(CUMEGA_RESIDUAL_DECAY, 0);
  for (int64_t rows = 0; rows < 2; rows++) {
    cumega_tensor x, y, out;
    const int64_t shape[] = {rows, D}, compact[] = {0};
    int64_t bytes = 5;
    const cumega_residual_io io = {.struct_size = sizeof io,
                                   .x = tensor_of(&x, 0, 2, shape, compact),
                                   .y = tensor_of(&y, 1, 2, shape, compact),
                                   .out = tensor_of(&out, 2, 2, shape, compact)};
    MUST(ctx, cumega_residual_workspace_size(ctx, residual, &io, &bytes));
    MUST(ctx, cumega_residual_forward(ctx, residual, &io));
    ck_assert_int_eq(bytes, rows * 77);
    ck_assert_int_eq(calls, rows * 2);
  }
  cumega_residual_destroy(residual);
}
END_TEST

START_TEST(only_a_highway_is_prepared) {
  for (int kind = 0; kind < 5; kind++) {
    cumega_residual *residual = residual_of((cumega_residual_kind)kind, 0);
    calls = 0;
    written.residual.prepare = count_prepare;
    MUST(ctx, cumega_residual_prepare(ctx, residual));
    ck_assert_int_eq(calls, kind == CUMEGA_RESIDUAL_HIGHWAY);
    written.residual.prepare = NULL; /* as on a CPU */
    MUST(ctx, cumega_residual_prepare(ctx, residual));
    cumega_residual_destroy(residual);
  }
}
END_TEST

/* y is float64 for an object of that dtype, else float32. */
static void run_vectors(DLDataType dtype) {
  const int is_double = dtype.bits == 64;
  cumega_residual_config c = residual_config_of(CUMEGA_RESIDUAL_HIGHWAY, 2, D);
  cumega_norm_config n = norm_config_of(CUMEGA_NORM_LAYER, D);
  cumega_tensor t[4], matrix, vector;
  cumega_residual *residual;
  cumega_norm *norm;
  c.dtype = n.dtype = dtype;
  DLTensor *square =
      cumega_tensor_init(&matrix, zeros, cumega_cpu, cumega_float64, 2, (int64_t[]){D, D});
  DLTensor *line =
      cumega_tensor_init(&vector, zeros, cumega_cpu, cumega_float64, 1, (int64_t[]){D});
  const cumega_residual_parameters p = {sizeof p, NULL, square, line, square, line, NULL};
  MUST(ctx, cumega_residual_create(ctx, &c, &p, &residual));
  MUST(ctx, cumega_norm_create(ctx, &n, NULL, &norm));
  for (int i = 0; i < 4; i++)
    ck_assert_ptr_nonnull(
        cumega_tensor_init(&t[i], memory_of[i], cumega_cpu, dtype, 1, (int64_t[]){D}));
  const cumega_residual_io io = {.struct_size = sizeof io,
                                 .x = &t[0].dl,
                                 .y = &t[1].dl,
                                 .out = &t[2].dl,
                                 .norm = norm,
                                 .normalized = &t[3].dl};
  MUST(ctx, cumega_residual_forward(ctx, residual, &io));
  const real_vector found[] = {seen.products.x_weight, seen.products.x_bias,
                               seen.products.y_weight, seen.products.y_bias,
                               seen.norm.weight,       seen.norm.bias};
  const char *const blocks[] = {residual->base.block, norm->base.block};
  const int64_t real = is_double ? sizeof(double) : sizeof(float), line_bytes = 64;
  const int64_t square_bytes = (D * D * real + 63) / 64 * 64;
  const int64_t at[] = {0, square_bytes, square_bytes + line_bytes, 2 * square_bytes + line_bytes,
                        0, line_bytes};
  for (int i = 0; i < 6; i++) {
    const char *expected = blocks[i / 4] + at[i];
    ck_assert_ptr_eq(found[i].f64, is_double ? expected : NULL);
    ck_assert_ptr_eq(found[i].f32, is_double ? NULL : expected);
  }
  ck_assert(seen.channels.f32 == NULL && seen.channels.f64 == NULL);
  cumega_residual_destroy(residual);
  cumega_norm_destroy(norm);
}

START_TEST(vectors_are_where_the_objects_block_has_them) {
  run_vectors(cumega_float32);
  run_vectors(cumega_float64);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("inside_residual");
  TCase *tests = add_case(suite, "what a backend gets of residual connections", 60);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_loop_test(tests, a_run_has_as_few_loops_as_can_be_in_the_outputs_order, 0,
                      (int)(sizeof loop_rows / sizeof *loop_rows));
  tcase_add_test(tests, one_element_is_one_loop);
  tcase_add_test(tests, nothing_is_asked_of_a_backend_for_empty_tensors);
  tcase_add_test(tests, only_a_highway_is_prepared);
  tcase_add_test(tests, vectors_are_where_the_objects_block_has_them);
  return run_suite(suite);
}
