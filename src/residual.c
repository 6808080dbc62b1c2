/* Residual connections as objects. Their runs are in residual_run.c. */
#include <math.h>
#include "residual_object.h"
#include "trace.h"

static const cumega_residual *residual_of(const object *o) {
  return (const cumega_residual *)o;
}

static int is_matrix(int which) {
  return which == RESIDUAL_WX_WEIGHT || which == RESIDUAL_WY_WEIGHT;
}

/* An Affine's c that is one number: a run takes it by value. */
static int is_number(const cumega_residual_config *config, int which) {
  return which == RESIDUAL_AFFINE && config->scalar;
}

static cumega_status check(cumega_context *ctx, object *o) {
  cumega_residual *residual = (cumega_residual *)o;
  const cumega_residual_config *config = &residual->config;
  TRY(residual_config_check(ctx, config));
  object_layout l = {0};
  const int64_t D = config->d_model, real = tensor_type_bytes(tensor_type_of(config->dtype));
  for (int which = 0; which < RESIDUAL_PARAMETER_COUNT; which++) {
    if (!residual_has_parameter(config, which) || is_number(config, which)) continue;
    residual->at[which] = object_take(&l, is_matrix(which) ? D : 1, D, real);
  }
  o->block_bytes = l.used;
  o->host_bytes = sizeof(residual_numbers);
  return object_check_layout(ctx, o->class, &l);
}

static parameter parameter_of(const object *o, int which) {
  static const char *const names[RESIDUAL_PARAMETER_COUNT] = {"affine",    "Wx.weight", "Wx.bias",
                                                              "Wy.weight", "Wy.bias",   "Wy"};
  const cumega_residual *residual = residual_of(o);
  const cumega_residual_config *config = &residual->config;
  const int64_t D = config->d_model;
  parameter p = {.name = names[which]};
  if (!residual_has_parameter(config, which)) return p;
  if (is_number(config, which)) {
    p.shape = (parameter_shape){"(1)", 1, {1}};
    p.also = (parameter_shape){"()", 0, {0}};
    p.type = TYPE_FLOAT64;
    p.offset = offsetof(residual_numbers, beta);
    return p;
  }
  p.shape =
      is_matrix(which) ? (parameter_shape){"(D, D)", 2, {D, D}} : (parameter_shape){"(D)", 1, {D}};
  p.type = tensor_type_of(config->dtype);
  p.is_in_block = 1;
  p.offset = residual->at[which];
  return p;
}

/* An Affine's initial c, beta * i_layer^-gamma. A Highway has no initial values. */
static cumega_status fill(cumega_context *ctx, const object *o, const object_source *from,
                          int which, void *values) {
  (void)from;
  const cumega_residual_config *config = &residual_of(o)->config;
  const parameter p = parameter_of(o, which);
  double alpha, beta;
  if (which != RESIDUAL_AFFINE)
    return call_fail_argument(ctx, "%s is missing, which Highway needs", p.name);
  if (config->gamma != 0 && config->i_layer < 1)
    return call_fail_argument(ctx,
                              "config.i_layer is %lld, expected at least 1 for an Affine whose "
                              "gamma is %g and whose affine is not given",
                              (long long)config->i_layer, config->gamma);
  residual_config_resolve(config, &alpha, &beta);
  if (!isfinite(p.type == TYPE_FLOAT32 ? (double)(float)beta : beta))
    return call_fail_argument(ctx,
                              "config.gamma is %g, expected one whose beta * i_layer^-gamma is "
                              "finite in the type of its parameters",
                              config->gamma);
  for (int64_t i = 0; i < parameter_count(&p); i++)
    if (p.type == TYPE_FLOAT32)
      ((float *)values)[i] = (float)beta;
    else
      ((double *)values)[i] = beta;
  return CUMEGA_OK;
}

static cumega_status derive(cumega_context *ctx, const object *o, void *host, void *block) {
  (void)ctx;
  (void)block;
  const cumega_residual_config *config = &residual_of(o)->config;
  residual_numbers *numbers = host;
  double beta;
  residual_config_resolve(config, &numbers->alpha, &beta);
  if (config->kind != CUMEGA_RESIDUAL_AFFINE) numbers->beta = beta;
  return CUMEGA_OK;
}

static const object_class residual_class = {
    .argument = "residual",
    .noun = "a residual connection",
    .bytes = sizeof(cumega_residual),
    .config_at = offsetof(cumega_residual, config),
    .config_bytes = sizeof(cumega_residual_config),
    .config_smallest = END_OF(cumega_residual_config, dtype),
    .parameter_count = RESIDUAL_PARAMETER_COUNT,
    .parameters_smallest = END_OF(cumega_residual_parameters, Wy),
    .check = check,
    .parameter_of = parameter_of,
    .fill = fill,
    .derive = derive,
};

DEFINE_ZERO_INIT(cumega_residual_parameters)

cumega_status residual_enter(cumega_context *ctx, const cumega_residual *residual) {
  return object_enter(ctx, &residual_class, (const object *)residual);
}

const residual_numbers *residual_numbers_of(const cumega_residual *residual) {
  return residual->base.host;
}

real_vector residual_vector(const cumega_residual *residual, int which) {
  if (!residual_has_parameter(&residual->config, which)) return (real_vector){NULL, NULL};
  return object_vector(&residual->base, residual->config.dtype, residual->at[which]);
}

cumega_status cumega_residual_create(cumega_context *ctx, const cumega_residual_config *config,
                                     const cumega_residual_parameters *parameters,
                                     cumega_residual **residual) {
  TRACE(ctx, 0);
  const object_source from = {.parameters = parameters};
  return object_create(ctx, &residual_class, config, &from, residual);
}

cumega_status cumega_residual_create_from_weights(cumega_context *ctx,
                                                  const cumega_weights *weights,
                                                  const char *prefix,
                                                  const cumega_residual_config *config,
                                                  cumega_residual **residual) {
  TRACE(ctx, 0);
  const object_source from = {.from_weights = 1, .weights = weights, .prefix = prefix};
  return object_create(ctx, &residual_class, config, &from, residual);
}

void cumega_residual_destroy(cumega_residual *residual) {
  object_destroy((object *)residual);
}

cumega_status cumega_residual_get_config(cumega_context *ctx, const cumega_residual *residual,
                                         cumega_residual_config *config) {
  TRACE(ctx, 0);
  return object_get_config(ctx, &residual_class, (const object *)residual, config);
}

cumega_status cumega_residual_get_multipliers(cumega_context *ctx, const cumega_residual *residual,
                                              double *alpha, double *beta) {
  TRACE(ctx, 0);
  TRY(residual_enter(ctx, residual));
  const cumega_residual_config *config = &residual->config;
  if (config->kind == CUMEGA_RESIDUAL_HIGHWAY)
    return call_fail_argument(ctx, "residual is a Highway, which has no alpha and beta");
  if (config->kind == CUMEGA_RESIDUAL_AFFINE && !config->scalar && beta)
    return call_fail_argument(ctx,
                              "residual is an Affine with a multiplier of y per channel, which "
                              "cumega_residual_get_parameters gives: expected beta to be NULL");
  if (alpha) *alpha = residual_numbers_of(residual)->alpha;
  if (beta) *beta = residual_numbers_of(residual)->beta;
  return CUMEGA_OK;
}

cumega_status cumega_residual_set_parameters(cumega_context *ctx, cumega_residual *residual,
                                             const cumega_residual_parameters *parameters) {
  TRACE(ctx, 0);
  return object_set_parameters(ctx, &residual_class, (object *)residual, parameters);
}

cumega_status cumega_residual_get_parameters(cumega_context *ctx, const cumega_residual *residual,
                                             const cumega_residual_parameters *parameters) {
  TRACE(ctx, 0);
  return object_get_parameters(ctx, &residual_class, (const object *)residual, parameters);
}
