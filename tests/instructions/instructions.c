/* The cases of scripts/count_instructions: a run of the library for each hot loop of the CPU
 * backend. A case ends with case_over, and only instructions of the library count. */
#include <stdarg.h>
#include <stdio.h>
#include "defaults.h"
#include "ema_harness.h"
#include "runner.h"

#define TYPES 4
static const DLDataType types[TYPES] = {
    {kDLFloat, 32, 1}, {kDLFloat, 16, 1}, {kDLBfloat, 16, 1}, {kDLFloat, 64, 1}};

/* A transposed matrix with a gap after each column: no dimension is contiguous. */
static const test_layout strided = {.ordered = 1, .order = {1, 0}, .gap = {0, 1}};

/* A tensor of zeros for a mask, otherwise of one normal number. Every byte of it is 0x3c: 0.0115
 * in float32 and bfloat16, 1.06 in float16, 1.5e-18 in float64. */
static test_tensor *case_tensor(DLDataType dtype, int ndim, const int64_t *shape,
                                const test_layout *layout) {
  test_tensor *t = tensor_new(dtype, ndim, shape, layout);
  memset(t->block, dtype.bits == 8 ? 0 : 0x3c, (size_t)t->block_bytes);
  return t;
}

static void free_all(int count, test_tensor **tensors) {
  for (int i = 0; i < count; i++) tensor_free(tensors[i]);
}

/* Prints the name of the case that ends here, formatted as by printf, without spaces. */
static __attribute__((noinline, format(printf, 1, 2))) void case_over(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf("case ");
  vprintf(format, arguments);
  putchar('\n');
  va_end(arguments);
}

/* ---- EMA: 64 steps of 64 channels, unless a case says otherwise ---- */

typedef struct ema_case {
  DLDataType dtype, state_dtype;
  int64_t heads, truncation;
  cumega_activation activation;
  cumega_ema_algorithm algorithm;
  int masked;
  test_layout layout;
} ema_case;

static ema_case ema_case_of(DLDataType dtype) {
  return (ema_case){.dtype = dtype,
                    .state_dtype = dtype.bits == 64 ? cumega_float64 : cumega_float32,
                    .heads = 4,
                    .activation = CUMEGA_ACTIVATION_RELU};
}

static cumega_ema *ema_of(cumega_context *ctx, const ema_case *c) {
  cumega_ema_config config = ema_config_of(64);
  config.activation = c->activation;
  config.state_dtype = c->state_dtype;
  config.num_heads = c->heads;
  if (c->truncation) config.truncation_length = c->truncation;
  cumega_ema *ema;
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
  return ema;
}

static void count_ema(cumega_context *ctx, const ema_case *c, const char *name) {
  cumega_ema *ema = ema_of(ctx, c);
  test_tensor *t[] = {case_tensor(c->dtype, 3, (int64_t[]){64, 1, 64}, &c->layout),
                      case_tensor(c->dtype, 3, (int64_t[]){64, 1, 64}, &c->layout),
                      case_tensor(cumega_bool, 2, (int64_t[]){1, 64}, NULL)};
  cumega_ema_io io = io_of(t[0], t[1]);
  io.algorithm = c->algorithm;
  if (c->masked) io.mask = dl(t[2]);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  case_over("ema,%s,%s", number_name(c->dtype), name);
  free_all(3, t);
  cumega_ema_destroy(ema);
}

static void count_step(cumega_context *ctx, DLDataType dtype) {
  const ema_case c = ema_case_of(dtype);
  cumega_ema *ema = ema_of(ctx, &c);
  test_tensor *t[] = {case_tensor(dtype, 2, (int64_t[]){16, 64}, NULL),
                      case_tensor(dtype, 2, (int64_t[]){16, 64}, NULL),
                      case_tensor(c.state_dtype, 3, (int64_t[]){16, 64, 4}, NULL)};
  cumega_ema_io io = io_of(t[0], t[1]);
  io.initial_state = io.final_state = dl(t[2]);
  MUST(ctx, cumega_ema_step(ctx, ema, &io));
  case_over("ema,%s,step", number_name(dtype));
  free_all(3, t);
  cumega_ema_destroy(ema);
}

static void count_layouts(cumega_context *ctx) {
  static const struct {
    const char *name;
    test_layout layout;
  } layouts[] = {{"channels-inside", {0}},
                 {"time-inside", {.ordered = 1, .order = {1, 2, 0}}},
                 {"strided", {.ordered = 1, .order = {0, 2, 1}, .gap = {0, 0, 1}}}};
  for (int type = 0; type < TYPES; type++)
    for (int i = 0; i < 3; i++) {
      ema_case c = ema_case_of(types[type]);
      c.layout = layouts[i].layout;
      count_ema(ctx, &c, layouts[i].name);
    }
}

static void count_heads(cumega_context *ctx) {
  static const struct {
    const char *name;
    int64_t heads;
  } cases[] = {{"heads=1", 1}, {"heads=3", 3}, {"heads=8", 8}, {"heads=16", 16}};
  for (int i = 0; i < 4; i++) {
    ema_case c = ema_case_of(cumega_float32);
    c.heads = cases[i].heads;
    count_ema(ctx, &c, cases[i].name);
  }
}

static void count_activations(cumega_context *ctx) {
  static const cumega_activation activations[] = {
      CUMEGA_ACTIVATION_SWISH, CUMEGA_ACTIVATION_TANH,  CUMEGA_ACTIVATION_SELU,
      CUMEGA_ACTIVATION_MISH,  CUMEGA_ACTIVATION_SMISH, CUMEGA_ACTIVATION_FTSWISH};
  for (int i = 0; i < 6; i++) {
    ema_case c = ema_case_of(cumega_float32);
    c.activation = activations[i];
    count_ema(ctx, &c, cumega_activation_name(c.activation));
  }
}

static void count_emas(cumega_context *ctx) {
  ema_case masked = ema_case_of(cumega_float32), truncated = masked, sliced = masked;
  ema_case exact = masked, exact_sliced = ema_case_of(cumega_float64);
  masked.masked = 1;
  truncated.truncation = 6;
  exact.state_dtype = cumega_float64;
  sliced.algorithm = exact_sliced.algorithm = CUMEGA_EMA_SLICED;
  count_layouts(ctx);
  count_heads(ctx);
  count_activations(ctx);
  count_ema(ctx, &masked, "masked");
  count_ema(ctx, &truncated, "truncated");
  count_ema(ctx, &exact, "float64-state");
  count_ema(ctx, &sliced, "sliced");
  count_ema(ctx, &exact_sliced, "sliced");
  count_step(ctx, cumega_float32);
  count_step(ctx, cumega_bfloat16);
  count_step(ctx, cumega_float64);
}

/* ---- attention scores: 4 rows of 256 keys ---- */

typedef struct row_case {
  const char *name;
  DLDataType dtype;
  int64_t keys;
  int relative, masked;
  const test_layout *layout;
} row_case;

static void count_rows(cumega_context *ctx, const row_case *c) {
  const int64_t shape[] = {1, 1, 4, c->keys}, parameters = 2 * c->keys - 1;
  test_tensor *t[] = {case_tensor(c->dtype, 4, shape, c->layout),
                      case_tensor(c->dtype, 4, shape, c->layout),
                      case_tensor(cumega_bool, 4, shape, NULL),
                      case_tensor(cumega_bool, 2, (int64_t[]){1, c->keys}, NULL),
                      case_tensor(cumega_float32, 1, &parameters, NULL)};
  cumega_position_bias *bias = NULL;
  if (c->relative)
    MUST(ctx, bias_relative_as(real_dtype_of(c->dtype), ctx, c->keys, dl(t[4]), &bias));
  cumega_attention_scores_io io;
  cumega_attention_scores_io_init(&io, sizeof io);
  io.scores = dl(t[0]);
  io.output = dl(t[1]);
  io.scale = 0.5;
  if (c->masked) io.attention_mask = dl(t[2]), io.key_padding_mask = dl(t[3]);
  MUST(ctx, softmax_with(ctx, bias, &io));
  case_over("softmax,%s,%s", number_name(c->dtype), c->name);
  if (c->relative) {
    MUST(ctx, scores_with(ctx, bias, &io));
    case_over("scores,%s,%s", number_name(c->dtype), c->name);
  }
  cumega_position_bias_destroy(bias);
  free_all(5, t);
}

static void count_attention(cumega_context *ctx) {
  static const test_layout across = {.ordered = 1, .order = {0, 1, 3, 2}, .gap = {0, 0, 0, 1}};
  for (int type = 0; type < TYPES; type++)
    count_rows(ctx, &(row_case){"relative", types[type], 256, 1, 0, NULL});
  count_rows(ctx, &(row_case){"masked", cumega_float32, 256, 0, 1, NULL});
  count_rows(ctx, &(row_case){"strided", cumega_float32, 256, 1, 0, &across});
  count_rows(ctx, &(row_case){"long", cumega_float32, 5000, 0, 0, NULL});

  test_tensor *alpha = case_tensor(cumega_float32, 1, (int64_t[]){32}, NULL);
  test_tensor *table = case_tensor(cumega_float32, 2, (int64_t[]){64, 64}, NULL);
  cumega_position_bias *rotary;
  MUST(ctx, bias_rotary(ctx, 32, 4, dl(alpha), dl(alpha), &rotary));
  MUST(ctx, cumega_position_bias_forward(ctx, rotary, dl(table)));
  case_over("bias,float32,rotary");
  cumega_position_bias_destroy(rotary);
  free_all(2, (test_tensor *[]){alpha, table});
}

/* ---- residual connections and norms: 8 rows of 256 channels ---- */

static void count_residual(cumega_context *ctx, cumega_residual_config config, int normed,
                           DLDataType dtype, const test_layout *layout, const char *name) {
  const int64_t D = config.d_model, shape[] = {8, D};
  test_tensor *t[] = {case_tensor(dtype, 2, shape, layout),
                      case_tensor(dtype, 2, shape, layout),
                      case_tensor(dtype, 2, shape, layout),
                      case_tensor(dtype, 2, shape, layout),
                      case_tensor(cumega_float32, 2, (int64_t[]){D, D}, NULL),
                      case_tensor(cumega_float32, 1, &D, NULL)};
  cumega_residual_parameters parameters = {.struct_size = sizeof parameters};
  if (config.kind == CUMEGA_RESIDUAL_AFFINE) parameters.affine = dl(t[5]);
  if (config.kind == CUMEGA_RESIDUAL_HIGHWAY) {
    parameters.Wx_weight = parameters.Wy_weight = dl(t[4]);
    parameters.Wx_bias = parameters.Wy_bias = dl(t[5]);
  }
  cumega_norm_config norm_config = norm_config_of(CUMEGA_NORM_LAYER, D);
  config.dtype = norm_config.dtype = real_dtype_of(dtype);
  cumega_residual *residual;
  cumega_norm *norm = NULL;
  MUST(ctx, cumega_residual_create(ctx, &config, &parameters, &residual));
  if (normed) MUST(ctx, cumega_norm_create(ctx, &norm_config, NULL, &norm));
  const cumega_residual_io io = {.struct_size = sizeof io,
                                 .x = dl(t[0]),
                                 .y = dl(t[1]),
                                 .out = dl(t[2]),
                                 .norm = norm,
                                 .normalized = norm ? dl(t[3]) : NULL};
  MUST(ctx, cumega_residual_forward(ctx, residual, &io));
  case_over("residual,%s,%s", number_name(dtype), name);
  cumega_norm_destroy(norm);
  cumega_residual_destroy(residual);
  free_all(6, t);
}

static void count_gated(cumega_context *ctx, DLDataType dtype) {
  test_tensor *t[4];
  for (int i = 0; i < 4; i++) t[i] = case_tensor(dtype, 2, (int64_t[]){8, 256}, NULL);
  const cumega_residual_gated_io io = {
      .struct_size = sizeof io, .x = dl(t[0]), .gate = dl(t[1]), .h = dl(t[2]), .out = dl(t[3])};
  MUST(ctx, cumega_residual_gated_forward(ctx, &io));
  case_over("residual,%s,gated", number_name(dtype));
  free_all(4, t);
}

static void count_residuals(cumega_context *ctx) {
  const DLDataType f32 = cumega_float32, f64 = cumega_float64;
  cumega_residual_config sum = residual_config_of(CUMEGA_RESIDUAL_RESIDUAL, 1, 256);
  cumega_residual_config affine = residual_config_of(CUMEGA_RESIDUAL_AFFINE, 1, 256);
  cumega_residual_config highway = residual_config_of(CUMEGA_RESIDUAL_HIGHWAY, 1, 64);
  affine.scalar = 0;
  for (int type = 0; type < TYPES; type++) {
    count_residual(ctx, sum, 0, types[type], NULL, "sum");
    count_residual(ctx, sum, 1, types[type], NULL, "layer_norm");
    count_gated(ctx, types[type]);
  }
  count_residual(ctx, sum, 0, f32, &strided, "sum,strided");
  count_residual(ctx, affine, 0, f32, NULL, "affine");
  count_residual(ctx, highway, 0, f32, NULL, "highway");
  count_residual(ctx, highway, 0, f64, NULL, "highway");
}

START_TEST(every_case) {
  cumega_context *ctx = context_of_level(NULL, 1);
  ck_assert_ptr_nonnull(ctx);
  count_emas(ctx);
  count_attention(ctx);
  count_residuals(ctx);
  cumega_context_destroy(ctx);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("instructions");
  tcase_add_test(add_case(suite, "every case", 0), every_case);
  return run_suite(suite);
}
