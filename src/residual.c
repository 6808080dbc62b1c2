/* Residual connections as objects: made, read back, given new parameters, destroyed. Their runs are
 * in residual_run.c. */
#include "residual.h"
#include <math.h>
#include "backend.h"
#include "fp_environment.h"
#include "parameter.h"
#include "trace.h"

static const char *const what = "a residual connection";

static const char *const parameter_names[RESIDUAL_PARAMETER_COUNT] = {
    "affine", "Wx.weight", "Wx.bias", "Wy.weight", "Wy.bias", "Wy"};

cumega_status residual_enter(cumega_context *ctx, const cumega_residual *residual) {
  TRY(context_enter(ctx));
  if (residual == NULL)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "residual is NULL, expected a residual connection");
  return context_check_device(ctx, "residual", residual->owner.device);
}

static parameter parameter_of(const cumega_residual_config *config, int which) {
  const int64_t D = config->d_model;
  parameter p = {parameter_names[which], {"(D)", 1, {D}}, {NULL, 0, {0}}};
  if (which == RESIDUAL_WX_WEIGHT || which == RESIDUAL_WY_WEIGHT)
    p.shape = (parameter_shape){"(D, D)", 2, {D, D}};
  if (which == RESIDUAL_AFFINE && config->scalar) {
    p.shape = (parameter_shape){"(1)", 1, {1}};
    p.also = (parameter_shape){"()", 0, {0}};
  }
  return p;
}

static cumega_status read_parameter_struct(cumega_context *ctx,
                                           const cumega_residual_parameters *given,
                                           DLTensor **tensors) {
  cumega_residual_parameters p;
  memset(&p, 0, sizeof p);
  TRY(context_read_struct(ctx, "parameters", given, RESIDUAL_PARAMETERS_SMALLEST, &p, sizeof p));
  tensors[RESIDUAL_AFFINE] = p.affine;
  tensors[RESIDUAL_WX_WEIGHT] = p.Wx_weight;
  tensors[RESIDUAL_WX_BIAS] = p.Wx_bias;
  tensors[RESIDUAL_WY_WEIGHT] = p.Wy_weight;
  tensors[RESIDUAL_WY_BIAS] = p.Wy_bias;
  tensors[RESIDUAL_WY] = p.Wy;
  return CUMEGA_OK;
}

typedef struct source {
  const cumega_residual_parameters *parameters; /* or NULL */
  const cumega_weights *weights;                /* or NULL */
  const char *prefix;
} source;

/* c where nobody gives it: beta * i_layer^-gamma. */
static cumega_status fill_affine(cumega_context *ctx, const cumega_residual_config *config,
                                 double *values, int64_t count) {
  double alpha, beta;
  fp_environment environment;
  if (config->gamma != 0 && config->i_layer < 1)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "config.i_layer is %lld, expected at least 1 for an Affine whose gamma is "
                        "%g and whose affine is not given",
                        (long long)config->i_layer, config->gamma);
  fp_begin(&environment);
  residual_config_resolve(config, &alpha, &beta);
  fp_end(&environment);
  if (!isfinite(beta))
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "config.gamma is %g, expected one whose beta * i_layer^-gamma is finite",
                        config->gamma);
  for (int64_t i = 0; i < count; i++) values[i] = beta;
  return CUMEGA_OK;
}

static cumega_status read_source(cumega_context *ctx, const cumega_residual_config *config,
                                 const source *from, real_table *table) {
  DLTensor *tensors[RESIDUAL_PARAMETER_COUNT] = {NULL};
  if (from->parameters) TRY(read_parameter_struct(ctx, from->parameters, tensors));
  for (int which = 0; which < RESIDUAL_PARAMETER_COUNT; which++) {
    const int slot = residual_slot(config, which);
    if (slot < 0) continue;
    const parameter p = parameter_of(config, which);
    double *values = table->f64[slot];
    if (from->weights)
      TRY(parameter_read_weights(ctx, &p, from->weights, from->prefix, values));
    else if (tensors[which])
      TRY(parameter_read(ctx, &p, p.name, tensors[which], values));
    else if (which == RESIDUAL_AFFINE) /* an Affine has no other */
      return fill_affine(ctx, config, values, table->sizes[slot]);
    else
      return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "%s is missing, which Highway needs", p.name);
  }
  return CUMEGA_OK;
}

/* A table from a source; on failure there is none. */
static cumega_status make_table(cumega_context *ctx, const cumega_residual_config *config,
                                const source *from, real_table *table) {
  /* The first is for parameters that the kind does not have. */
  int64_t sizes[1 + REAL_TABLE_VECTORS] = {0}, square;
  memset(table, 0, sizeof *table);
  if (__builtin_mul_overflow(config->d_model, config->d_model, &square)) square = INT64_MAX;
  for (int which = 0; which < RESIDUAL_PARAMETER_COUNT; which++) {
    const parameter p = parameter_of(config, which);
    sizes[1 + residual_slot(config, which)] = p.shape.ndim == 2 ? square : p.shape.sizes[0];
  }
  cumega_status status = real_table_allocate(ctx, what, sizes + 1, table);
  if (status == CUMEGA_OK) status = read_source(ctx, config, from, table);
  if (status == CUMEGA_OK) status = real_table_finish(ctx, what, table);
  if (status != CUMEGA_OK) {
    const object_owner owner = object_owner_of(ctx);
    real_table_free(&owner, table);
  }
  return status;
}

static void set_table(cumega_residual *residual, const real_table *table) {
  fp_environment environment;
  real_table_free(&residual->owner, &residual->table);
  residual->table = *table;
  fp_begin(&environment);
  residual_config_resolve(&residual->config, &residual->alpha, &residual->beta);
  fp_end(&environment);
  if (residual->config.kind == CUMEGA_RESIDUAL_AFFINE) residual->beta = table->f64[0][0];
}

static cumega_status create(cumega_context *ctx, const cumega_residual_config *config,
                            const source *from, cumega_residual **residual) {
  if (residual == NULL)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "residual is NULL, expected where to put the residual connection");
  cumega_residual made;
  real_table table;
  void *object;
  memset(&made, 0, sizeof made);
  TRY(context_read_struct(ctx, "config", config, RESIDUAL_CONFIG_SMALLEST, &made.config,
                          sizeof made.config));
  TRY(residual_config_check(ctx, &made.config));
  made.config.struct_size = sizeof made.config;
  made.owner = object_owner_of(ctx);
  TRY(make_table(ctx, &made.config, from, &table));
  set_table(&made, &table);
  cumega_status status = context_allocate(ctx, sizeof made, what, &object);
  if (status != CUMEGA_OK) {
    real_table_free(&made.owner, &made.table);
    return status;
  }
  memory_retain(ctx->memory);
  *residual = object;
  **residual = made;
  return CUMEGA_OK;
}

cumega_status cumega_residual_create(cumega_context *ctx, const cumega_residual_config *config,
                                     const cumega_residual_parameters *parameters,
                                     cumega_residual **residual) {
  TRACE(ctx, 0);
  const source from = {parameters, NULL, NULL};
  if (residual) *residual = NULL;
  TRY(context_enter(ctx));
  return create(ctx, config, &from, residual);
}

cumega_status cumega_residual_create_from_weights(cumega_context *ctx,
                                                  const cumega_weights *weights, const char *prefix,
                                                  const cumega_residual_config *config,
                                                  cumega_residual **residual) {
  TRACE(ctx, 0);
  const source from = {NULL, weights, prefix};
  if (residual) *residual = NULL;
  TRY(context_enter(ctx));
  if (weights == NULL)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "weights is NULL, expected an open weight file");
  return create(ctx, config, &from, residual);
}

void cumega_residual_destroy(cumega_residual *residual) {
  if (residual == NULL) return;
  memory *account = residual->owner.memory;
  real_table_free(&residual->owner, &residual->table);
  memory_free(account, residual, sizeof *residual);
  memory_release(account);
}

cumega_status cumega_residual_get_config(cumega_context *ctx, const cumega_residual *residual,
                                         cumega_residual_config *config) {
  TRACE(ctx, 0);
  TRY(residual_enter(ctx, residual));
  return context_write_struct(ctx, "config", config, RESIDUAL_CONFIG_SMALLEST, &residual->config,
                              sizeof residual->config);
}

cumega_status cumega_residual_get_multipliers(cumega_context *ctx, const cumega_residual *residual,
                                              double *alpha, double *beta) {
  TRACE(ctx, 0);
  TRY(residual_enter(ctx, residual));
  const cumega_residual_config *c = &residual->config;
  if (c->kind == CUMEGA_RESIDUAL_HIGHWAY)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "residual is a Highway, which has no alpha and beta");
  if (c->kind == CUMEGA_RESIDUAL_AFFINE && !c->scalar && beta)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "residual is an Affine with a multiplier of y per channel, which "
                        "cumega_residual_get_parameters gives: expected beta to be NULL");
  if (alpha) *alpha = residual->alpha;
  if (beta) *beta = residual->beta;
  return CUMEGA_OK;
}

cumega_status cumega_residual_set_parameters(cumega_context *ctx, cumega_residual *residual,
                                             const cumega_residual_parameters *parameters) {
  TRACE(ctx, 0);
  const source from = {parameters, NULL, NULL};
  real_table table;
  TRY(residual_enter(ctx, residual));
  if (parameters == NULL)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "parameters is NULL, expected tensors");
  memory *account = context_use_account(ctx, residual->owner.memory);
  cumega_status status = make_table(ctx, &residual->config, &from, &table);
  context_use_account(ctx, account);
  if (status == CUMEGA_OK) set_table(residual, &table);
  return status;
}

cumega_status cumega_residual_get_parameters(cumega_context *ctx, const cumega_residual *residual,
                                             const cumega_residual_parameters *parameters) {
  TRACE(ctx, 0);
  DLTensor *tensors[RESIDUAL_PARAMETER_COUNT];
  tensor_view views[RESIDUAL_PARAMETER_COUNT];
  TRY(residual_enter(ctx, residual));
  TRY(read_parameter_struct(ctx, parameters, tensors));
  memset(views, 0, sizeof views); /* what is absent has no elements */
  const cumega_residual_config *c = &residual->config;
  for (int i = 0; i < RESIDUAL_PARAMETER_COUNT; i++) {
    if (tensors[i] == NULL) continue;
    if (residual_slot(c, i) < 0)
      return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "%s is given, and this %s has none",
                          parameter_names[i], cumega_residual_kind_name(c->kind));
    const parameter p = parameter_of(c, i);
    TRY(parameter_check_output(ctx, &p, tensors[i], &views[i]));
    for (int j = 0; j < i; j++) TRY(tensor_view_check_apart(ctx, &views[i], &views[j], 0));
  }
  for (int i = 0; i < RESIDUAL_PARAMETER_COUNT; i++)
    if (tensors[i]) parameter_write(&views[i], residual->table.f64[residual_slot(c, i)]);
  return CUMEGA_OK;
}
