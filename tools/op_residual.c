/* Residual connections, the gated residual, and the norms that follow. */
#include <cumega/residual.h>
#include <stdlib.h>
#include "bench.h"
#include "failure.h"
#include "reference/residual.h"
#include "values.h"

/* residual is NULL for the gated residual, which has its own io. */
typedef struct residual_call {
  cumega_residual *residual;
  cumega_norm *norm;
  cumega_residual_config config;
  int norm_type;   /* cumega_norm_type; negative: none */
  double norm_eps; /* NAN: the norm's default */
  cumega_residual_io io;
  cumega_residual_gated_io gated;
} residual_call;

#define AT(member) .offset = offsetof(residual_call, member)

/* The settings of residual. gated_residual has the last three. */
static const setting settings[] = {
    {"kind", SETTING_WORD, AT(config.kind), .flags = SETTING_NEEDED, .word = word_of_kind,
     .find = find_kind, .bench = "Residual"},
    {"i_layer", SETTING_INTEGER, AT(config.i_layer), .bench = "3"},
    {"transposed", SETTING_BOOLEAN, AT(io.transposed), .bench = "="},
    {"alpha", SETTING_NUMBER, AT(config.alpha)},
    {"beta", SETTING_NUMBER, AT(config.beta)},
    {"gamma", SETTING_NUMBER, AT(config.gamma)},
    {"scalar", SETTING_BOOLEAN, AT(config.scalar)},
    {"power", SETTING_NUMBER, AT(config.power)},
    {"l2", SETTING_BOOLEAN, AT(config.l2)},
    {"scaling_correction", SETTING_BOOLEAN, AT(config.scaling_correction)},
    {"elemwise", SETTING_BOOLEAN, AT(config.elemwise)},
    {"size", SETTING_INTEGER, AT(config.d_model), .flags = SETTING_NEEDED, .bench = "=D"},
    {"norm.type", SETTING_WORD, AT(norm_type), .flags = SETTING_NEEDED, .word = word_of_norm,
     .bench = "none"},
    {"norm.eps", SETTING_NUMBER, AT(norm_eps)},
    {.name = NULL}};
#define LAST_THREE (settings + sizeof settings / sizeof *settings - 4)

static const operation_input residual_inputs[] = {{"x", offsetof(residual_call, io.x), 0},
                                                  {"y", offsetof(residual_call, io.y), 1},
                                                  {.name = NULL}};
static const operation_input gated_inputs[] = {{"x", offsetof(residual_call, gated.x), 1},
                                               {"gate", offsetof(residual_call, gated.gate), 1},
                                               {"h", offsetof(residual_call, gated.h), 1},
                                               {.name = NULL}};

/* ---- running a case ---- */

static void set_defaults(void *object) {
  residual_call *call = object;
  cumega_residual_config_init(&call->config, sizeof call->config, CUMEGA_RESIDUAL_RESIDUAL, 1, 0);
  call->io.struct_size = sizeof call->io;
  call->gated.struct_size = sizeof call->gated;
  call->norm_type = -1;
  call->norm_eps = NAN;
}

/* The parameters of connections and of norms. */
enum { AFFINE, WX_WEIGHT, WX_BIAS, WY_WEIGHT, WY_BIAS, WY, WEIGHT, BIAS, SCALE, EPS, PARAMETERS };
static const char *const names[PARAMETERS + 1] = {
    "affine",      "Wx.weight", "Wx.bias",    "Wy.weight", "Wy.bias", "Wy",
    "norm.weight", "norm.bias", "norm.scale", "norm.eps",  NULL};

/* Whether the kind or the norm has the parameter, and how many dimensions of size D it has. */
static int has_parameter(const residual_call *call, int parameter, int *ndim) {
  const int highway = call->config.kind == CUMEGA_RESIDUAL_HIGHWAY, norm = call->norm_type;
  *ndim = parameter == WX_WEIGHT || parameter == WY_WEIGHT ? 2 : 1;
  switch (parameter) {
  case AFFINE: return call->config.kind == CUMEGA_RESIDUAL_AFFINE;
  case WX_WEIGHT:
  case WX_BIAS: return highway;
  case WY_WEIGHT:
  case WY_BIAS: return highway && !call->config.elemwise;
  case WY: return highway && call->config.elemwise;
  case WEIGHT:
  case BIAS: return norm == CUMEGA_NORM_LAYER;
  case SCALE: *ndim = norm == CUMEGA_NORM_RMS; return *ndim || norm == CUMEGA_NORM_SCALE;
  case EPS: *ndim = 0; return norm == CUMEGA_NORM_BASIC;
  default: return 0;
  }
}

/* Finds the parameters in the case that it must have. */
static int find_parameters(const job *j, DLTensor *found[PARAMETERS]) {
  int code = EXIT_OK, ndim;
  for (int i = 0; code == EXIT_OK && i < PARAMETERS; i++) {
    found[i] = NULL;
    if (has_parameter(j->object, i, &ndim))
      code = case_need(j->file, "parameters", names[i], &found[i]);
  }
  return code;
}

static cumega_norm_config norm_config_of(const residual_call *call) {
  cumega_norm_config config;
  cumega_norm_config_init(&config, sizeof config, (cumega_norm_type)call->norm_type,
                          call->config.d_model);
  config.dtype = call->config.dtype;
  if (!isnan(call->norm_eps)) config.eps = call->norm_eps;
  return config;
}

/* Makes the connection and the norm, if the case has them. */
static int make_objects(job *j, int gated) {
  residual_call *call = j->object;
  DLTensor *f[PARAMETERS];
  int code = find_parameters(j, f);
  call->config.d_input = call->config.d_model;
  call->config.dtype = values_real_dtype((gated ? call->gated.x : call->io.y)->dtype);
  const cumega_residual_parameters residual = {
      sizeof residual, f[AFFINE], f[WX_WEIGHT], f[WX_BIAS], f[WY_WEIGHT], f[WY_BIAS], f[WY]};
  const cumega_norm_parameters norm = {sizeof norm, f[WEIGHT], f[BIAS], f[SCALE], f[EPS]};
  if (code == EXIT_OK && !gated)
    code = job_check(j, cumega_residual_create(j->ctx, &call->config, &residual, &call->residual));
  if (code != EXIT_OK || call->norm_type < 0) return code;
  const cumega_norm_config config = norm_config_of(call);
  return job_check(j, cumega_norm_create(j->ctx, &config, &norm, &call->norm));
}

/* Makes the outputs, like `shaped`. With a norm there are two. */
static int make_outputs(job *j, const char *name, const DLTensor *shaped, DLTensor **out,
                        DLTensor **normalized) {
  const residual_call *call = j->object;
  job_describe(j, name, shaped);
  int code = job_add_output(j, "outputs.out", shaped->dtype, shaped->ndim, shaped->shape, out);
  if (code != EXIT_OK || call->norm == NULL) return code;
  return job_add_output(j, "outputs.normalized", shaped->dtype, shaped->ndim, shaped->shape,
                        normalized);
}

static int prepare_residual(job *j) {
  residual_call *call = j->object;
  int code = make_objects(j, 0);
  call->io.norm = call->norm;
  if (code != EXIT_OK) return code;
  return make_outputs(j, "y", call->io.y, &call->io.out, &call->io.normalized);
}

static cumega_status run_residual(job *j) {
  residual_call *call = j->object;
  return cumega_residual_forward(j->ctx, call->residual, &call->io);
}

static int prepare_gated(job *j) {
  residual_call *call = j->object;
  const DLTensor *x = call->gated.x;
  const long long size = call->config.d_model;
  int code = make_objects(j, 1);
  call->gated.norm = call->norm;
  if (code == EXIT_OK && (x->ndim < 1 || x->shape[x->ndim - 1] != size))
    return fail(EXIT_INPUT,
                "%s: the last dimension of tensor 'inputs.x' is not the %lld channels of setting "
                "'size'",
                j->file->path, size);
  if (code != EXIT_OK) return code;
  return make_outputs(j, "x", x, &call->gated.out, &call->gated.normalized);
}

static cumega_status run_gated(job *j) {
  residual_call *call = j->object;
  return cumega_residual_gated_forward(j->ctx, &call->gated);
}

static void release(void *object) {
  residual_call *call = object;
  cumega_residual_destroy(call->residual);
  cumega_norm_destroy(call->norm);
}

/* ---- measuring one ---- */

static int is_highway(const bench_row *row) {
  int kind = -1;
  return find_kind(bench_value(row, "kind"), &kind) && kind == (int)CUMEGA_RESIDUAL_HIGHWAY;
}

/* Adds a parameter with values so small that sums of many stay in range. */
static int add_parameter(case_file *file, const char *name, int ndim, const int64_t *shape) {
  DLTensor *tensor;
  int code = bench_case_add(file, "parameters", name, cumega_float32, ndim, shape, &tensor);
  if (code != EXIT_OK) return code;
  bench_fill(tensor, 3);
  float *values = tensor->data;
  int64_t count = values_count(tensor);
  for (int64_t i = 0; i < count; i++) values[i] *= ndim == 2 ? 0.0625f : 0.5f;
  return EXIT_OK;
}

/* Adds parameters for D channels, then inputs (L, B, D). */
static int make(const bench_row *row, cumega_context *host, case_file *file) {
  const int64_t D = row->shape[2], square[] = {D, D}, one = 1;
  const operation_input *in = row->what->inputs;
  residual_call call = {0};
  int code, ndim;
  (void)host;
  set_defaults(&call);
  code = settings_read(file, row->what->settings, &call);
  for (int i = 0; code == EXIT_OK && i < PARAMETERS; i++)
    if (has_parameter(&call, i, &ndim))
      code =
          add_parameter(file, names[i], ndim, i == AFFINE && call.config.scalar ? &one : square);
  for (int i = 0; code == EXIT_OK && in[i].name != NULL; i++) {
    DLTensor *tensor;
    code = bench_case_add(file, "inputs", in[i].name, row->dtype, 3, row->shape, &tensor);
    if (code == EXIT_OK) bench_fill(tensor, (uint64_t)i + 1);
  }
  return code;
}

/* ---- the check of its results ---- */

static reference_norm norm_of(const residual_call *call, double *const *p) {
  const cumega_norm_config config = norm_config_of(call);
  reference_norm norm = {config.type, config.size, config.eps, 0, p[WEIGHT], p[BIAS]};
  if (config.type == CUMEGA_NORM_BASIC) norm.eps = exp(p[EPS][0]);
  if (config.type == CUMEGA_NORM_SCALE) norm.scale = p[SCALE][0];
  if (config.type == CUMEGA_NORM_RMS) norm.weight = p[SCALE];
  return norm;
}

static void read_row(const DLTensor *tensor, int64_t r, int64_t D, double *numbers) {
  for (int64_t d = 0; d < D; d++) numbers[d] = values_at(tensor, r * D + d);
}

/* The sum, and the norm of the sum as the library stored it. */
static int exact_row(const job *j, double *const *p, int64_t r, real *const *exact) {
  const residual_call *call = j->object;
  const int gated = call->residual == NULL;
  const int64_t D = call->config.d_model;
  const reference_residual residual = {&call->config, p[AFFINE],  p[WX_WEIGHT], p[WX_BIAS],
                                       p[WY_WEIGHT],  p[WY_BIAS], p[WY]};
  double *x = malloc(3 * (size_t)D * sizeof *x);
  if (x == NULL) return fail(EXIT_DEVICE, "no memory for the reference");
  double *y = x + D, *gate = y + D;
  read_row(case_find(j->file, "inputs", "x"), r, D, x);
  read_row(case_find(j->file, "inputs", gated ? "h" : "y"), r, D, y);
  if (gated) read_row(case_find(j->file, "inputs", "gate"), r, D, gate);
  for (int64_t d = 0; d < D; d++)
    exact[0][d] =
        gated ? reference_gated(x[d], gate[d], y[d]) : reference_connect(&residual, x, y, d);
  if (call->norm != NULL) {
    const reference_norm norm = norm_of(call, p);
    real mean, factor;
    read_row(job_find(j, "out"), r, D, x);
    reference_norm_statistics(&norm, x, &mean, &factor);
    for (int64_t d = 0; d < D; d++) exact[1][d] = reference_norm_apply(&norm, x, d, mean, factor);
  }
  free(x);
  return EXIT_OK;
}

/* Highway's sums of D products have up to D roundings. */
static double roundings(const job *j) {
  const cumega_residual_config *config = &((const residual_call *)j->object)->config;
  return 16 + (config->kind == CUMEGA_RESIDUAL_HIGHWAY ? (double)config->d_model : 0);
}

#define RESIDUAL                                                                                  \
  .outputs = "out, normalized", .object_bytes = sizeof(residual_call),                            \
  .set_defaults = set_defaults, .release = release, .bench.dims = "L,B,D",                        \
  .bench.shape = {2048, 8, 512}, .bench.make = make, .bench.row_dims = 2,                         \
  .bench.parameters = names, .bench.exact = exact_row, .bench.roundings = roundings,              \
  .bench.reference = "reference/residual.c"

const operation op_residual = {
    RESIDUAL,
    .name = "residual",
    .summary = "a residual connection, and the normalisation that follows",
    .settings = settings,
    .inputs = residual_inputs,
    .prepare = prepare_residual,
    .run = run_residual,
    .bench.has_own_bits = is_highway,
    .bench.sweep =
        "kind=Affine; kind=DecayResidual; kind=Feedforward; kind=Highway shape=64,8,256; "
        "dtype=bfloat16; dtype=float16; dtype=float64; norm.type=layer_norm; norm.type=rms_norm; "
        "norm.type=scale_norm; norm.type=basic_norm; norm.type=layer_norm dtype=bfloat16; "
        "shape=1,8,512; cache=flushed; threads=2"};

const operation op_gated_residual = {
    RESIDUAL,
    .name = "gated_residual",
    .summary = "x + sigmoid(gate) * (h - x), and the normalisation that follows",
    .settings = LAST_THREE,
    .inputs = gated_inputs,
    .prepare = prepare_gated,
    .run = run_gated,
    .bench.sweep =
        "dtype=bfloat16; norm.type=layer_norm; shape=1,8,512; cache=flushed; threads=2"};
