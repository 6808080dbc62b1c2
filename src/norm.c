/* Normalisations as objects: made, read back, given new parameters, destroyed. They are applied by
 * the runs of a residual connection (residual_run.c). */
#include "norm.h"
#include <math.h>
#include "backend.h"
#include "fp_environment.h"
#include "math/elementary_f64.h"
#include "parameter.h"
#include "trace.h"

static const char *const what = "a normalisation";

static const struct {
  cumega_norm_type value;
  const char *name;
} types[] = {
#define NORM_ROW(enumerator, value, name, eps) {enumerator, name},
    CUMEGA_NORM_LIST(NORM_ROW)
#undef NORM_ROW
};
#define TYPE_COUNT ((int)(sizeof types / sizeof *types))

const char *cumega_norm_type_name(cumega_norm_type type) {
  for (int i = 0; i < TYPE_COUNT; i++)
    if (types[i].value == type) return types[i].name;
  return NULL;
}

int cumega_norm_type_from_name(const char *name, cumega_norm_type *type) {
  if (name == NULL || type == NULL) return 0;
  for (int i = 0; i < TYPE_COUNT; i++) {
    if (strcmp(name, types[i].name) != 0) continue;
    *type = types[i].value;
    return 1;
  }
  return 0;
}

/* ---- parameters: which a type has, and where they are kept ---- */

enum { P_WEIGHT, P_BIAS, P_SCALE, P_EPS, P_COUNT };

static const char *const parameter_names[P_COUNT] = {"weight", "bias", "scale", "eps"};

static int has_parameter(const cumega_norm *norm, int which) {
  switch (norm->config.type) {
  case CUMEGA_NORM_LAYER: return which == P_WEIGHT || which == P_BIAS;
  case CUMEGA_NORM_BASIC: return which == P_EPS;
  default: return which == P_SCALE;
  }
}

/* Of a parameter that the type has. */
static parameter parameter_of(const cumega_norm *norm, int which) {
  parameter p = {parameter_names[which], {"(D)", 1, {norm->config.size}}, {NULL, 0, {0}}};
  const int is_number =
      norm->config.type == CUMEGA_NORM_BASIC || norm->config.type == CUMEGA_NORM_SCALE;
  if (!is_number) return p;
  p.shape = (parameter_shape){"()", 0, {0}};
  p.also = (parameter_shape){"(1)", 1, {1}};
  return p;
}

/* Where its values lie in an object, of a parameter that the type has. */
static double *place_of(cumega_norm *norm, int which) {
  if (which == P_WEIGHT) return norm->table.f64[NORM_WEIGHT];
  if (which == P_BIAS) return norm->table.f64[NORM_BIAS];
  if (norm->config.type == CUMEGA_NORM_RMS) return norm->table.f64[NORM_WEIGHT];
  return &norm->scalar;
}

typedef struct source {
  const cumega_norm_parameters *parameters; /* NULL: initial values */
  const cumega_weights *weights;            /* or NULL */
  const char *prefix;
} source;

static cumega_status read_parameter_struct(cumega_context *ctx, const cumega_norm_parameters *given,
                                           DLTensor **tensors) {
  cumega_norm_parameters p;
  memset(&p, 0, sizeof p);
  TRY(context_read_struct(ctx, "parameters", given, NORM_PARAMETERS_SMALLEST, &p, sizeof p));
  tensors[P_WEIGHT] = p.weight;
  tensors[P_BIAS] = p.bias;
  tensors[P_SCALE] = p.scale;
  tensors[P_EPS] = p.eps;
  return CUMEGA_OK;
}

/* What a type does not have changes nothing: weight 1, bias -0 (norm_run). ESPnet's initial values.
 */
static void fill_initial(cumega_norm *norm) {
  const double bias = norm->config.type == CUMEGA_NORM_LAYER ? 0.0 : -0.0;
  for (int64_t i = 0; i < norm->config.size; i++) {
    norm->table.f64[NORM_WEIGHT][i] = 1;
    norm->table.f64[NORM_BIAS][i] = bias;
  }
  norm->scalar = norm->config.type == CUMEGA_NORM_BASIC ? math_log(norm->config.eps) : 1;
}

static cumega_status read_source(cumega_context *ctx, cumega_norm *norm, const source *from) {
  DLTensor *tensors[P_COUNT] = {NULL};
  fp_environment environment;
  fp_begin(&environment);
  fill_initial(norm);
  fp_end(&environment);
  if (from->parameters) TRY(read_parameter_struct(ctx, from->parameters, tensors));
  for (int which = 0; which < P_COUNT; which++) {
    if (!has_parameter(norm, which)) continue;
    const parameter p = parameter_of(norm, which);
    double *values = place_of(norm, which);
    if (from->weights)
      TRY(parameter_read_weights(ctx, &p, from->weights, from->prefix, values));
    else if (tensors[which])
      TRY(parameter_read(ctx, &p, p.name, tensors[which], values));
  }
  return CUMEGA_OK;
}

/* The exponential of basic_norm's parameter is its eps. */
static cumega_status resolve_eps(cumega_context *ctx, cumega_norm *norm) {
  if (norm->config.type != CUMEGA_NORM_BASIC) return CUMEGA_OK;
  fp_environment environment;
  fp_begin(&environment);
  norm->config.eps = math_exp(norm->scalar);
  fp_end(&environment);
  if (isfinite(norm->config.eps)) return CUMEGA_OK;
  return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                      "eps is %g, expected the logarithm of a finite number", norm->scalar);
}

/* Reads a source into a copy of *norm, which takes its place or on failure changes nothing. */
static cumega_status replace(cumega_context *ctx, cumega_norm *norm, const source *from) {
  cumega_norm made = *norm;
  memory *account = context_use_account(ctx, norm->owner.memory);
  const int64_t sizes[REAL_TABLE_VECTORS] = {norm->config.size, norm->config.size};
  cumega_status status = real_table_allocate(ctx, what, sizes, &made.table);
  if (status == CUMEGA_OK) status = read_source(ctx, &made, from);
  if (status == CUMEGA_OK) status = resolve_eps(ctx, &made);
  if (status == CUMEGA_OK) status = real_table_finish(ctx, what, &made.table);
  context_use_account(ctx, account);
  if (status != CUMEGA_OK) {
    real_table_free(&norm->owner, &made.table);
    return status;
  }
  real_table_free(&norm->owner, &norm->table);
  *norm = made;
  return CUMEGA_OK;
}

static cumega_status check_config(cumega_context *ctx, const cumega_norm_config *config) {
  if (config->size < 1)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "config.size is %lld, expected at least 1",
                        (long long)config->size);
  if (cumega_norm_type_name(config->type) == NULL)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "config.type is %d, expected 0 to %d",
                        (int)config->type, TYPE_COUNT - 1);
  const int is_basic = config->type == CUMEGA_NORM_BASIC;
  fp_environment environment;
  fp_begin(&environment);
  const int fits = isfinite(config->eps) && (is_basic ? config->eps > 0 : config->eps >= 0);
  fp_end(&environment);
  if (fits) return CUMEGA_OK;
  return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "config.eps is %g, expected a finite number %s",
                      config->eps, is_basic ? "above 0" : ">= 0");
}

static cumega_status create(cumega_context *ctx, const cumega_norm_config *config,
                            const source *from, cumega_norm **norm) {
  if (norm == NULL)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "norm is NULL, expected where to put the normalisation");
  cumega_norm made;
  memset(&made, 0, sizeof made);
  TRY(context_read_struct(ctx, "config", config, NORM_CONFIG_SMALLEST, &made.config,
                          sizeof made.config));
  TRY(check_config(ctx, &made.config));
  made.config.struct_size = sizeof made.config;
  made.owner = object_owner_of(ctx);
  TRY(replace(ctx, &made, from));
  void *object;
  cumega_status status = context_allocate(ctx, sizeof made, what, &object);
  if (status != CUMEGA_OK) {
    real_table_free(&made.owner, &made.table);
    return status;
  }
  memory_retain(ctx->memory);
  *norm = object;
  **norm = made;
  return CUMEGA_OK;
}

cumega_status cumega_norm_create(cumega_context *ctx, const cumega_norm_config *config,
                                 const cumega_norm_parameters *parameters, cumega_norm **norm) {
  TRACE(ctx, 0);
  const source from = {parameters, NULL, NULL};
  if (norm) *norm = NULL;
  TRY(context_enter(ctx));
  return create(ctx, config, &from, norm);
}

cumega_status cumega_norm_create_from_weights(cumega_context *ctx, const cumega_weights *weights,
                                              const char *prefix, const cumega_norm_config *config,
                                              cumega_norm **norm) {
  TRACE(ctx, 0);
  const source from = {NULL, weights, prefix};
  if (norm) *norm = NULL;
  TRY(context_enter(ctx));
  if (weights == NULL)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "weights is NULL, expected an open weight file");
  return create(ctx, config, &from, norm);
}

void cumega_norm_destroy(cumega_norm *norm) {
  if (norm == NULL) return;
  memory *account = norm->owner.memory;
  real_table_free(&norm->owner, &norm->table);
  memory_free(account, norm, sizeof *norm);
  memory_release(account);
}

static cumega_status enter(cumega_context *ctx, const cumega_norm *norm) {
  TRY(context_enter(ctx));
  if (norm == NULL)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "norm is NULL, expected a normalisation");
  return context_check_device(ctx, "norm", norm->owner.device);
}

cumega_status cumega_norm_get_config(cumega_context *ctx, const cumega_norm *norm,
                                     cumega_norm_config *config) {
  TRACE(ctx, 0);
  TRY(enter(ctx, norm));
  return context_write_struct(ctx, "config", config, NORM_CONFIG_SMALLEST, &norm->config,
                              sizeof norm->config);
}

cumega_status cumega_norm_set_parameters(cumega_context *ctx, cumega_norm *norm,
                                         const cumega_norm_parameters *parameters) {
  TRACE(ctx, 0);
  const source from = {parameters, NULL, NULL};
  TRY(enter(ctx, norm));
  if (parameters == NULL)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "parameters is NULL, expected tensors");
  return replace(ctx, norm, &from);
}

cumega_status cumega_norm_get_parameters(cumega_context *ctx, const cumega_norm *norm,
                                         const cumega_norm_parameters *parameters) {
  TRACE(ctx, 0);
  DLTensor *tensors[P_COUNT];
  tensor_view views[P_COUNT];
  TRY(enter(ctx, norm));
  TRY(read_parameter_struct(ctx, parameters, tensors));
  for (int i = 0; i < P_COUNT; i++) {
    if (tensors[i] == NULL) continue;
    if (!has_parameter(norm, i))
      return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "%s is given, and %s has none",
                          parameter_names[i], cumega_norm_type_name(norm->config.type));
    const parameter p = parameter_of(norm, i);
    TRY(parameter_check_output(ctx, &p, tensors[i], &views[i]));
    for (int j = 0; j < i; j++)
      if (tensors[j]) TRY(tensor_view_check_apart(ctx, &views[i], &views[j], 0));
  }
  cumega_norm from = *norm;
  for (int i = 0; i < P_COUNT; i++)
    if (tensors[i]) parameter_write(&views[i], place_of(&from, i));
  return CUMEGA_OK;
}

norm_run norm_run_of(const cumega_norm *norm) {
  norm_run run = {-1, 0, 0, {NULL, NULL}, {NULL, NULL}};
  if (norm == NULL) return run;
  run.type = (int)norm->config.type;
  run.eps = norm->config.eps;
  run.scale = norm->scalar;
  run.weight = real_table_vector(&norm->table, NORM_WEIGHT);
  run.bias = real_table_vector(&norm->table, NORM_BIAS);
  return run;
}
