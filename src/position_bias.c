/* A position bias as an object: made, read back, given new parameters, destroyed. Its runs are in
 * position_bias_run.c. */
#include <math.h>
#include "backend.h"
#include "fp_environment.h"
#include "math/philox.h"
#include "parameter.h"
#include "trace.h"

#define MOST_PARAMETERS (INT64_C(1) << 40)
#define RANDOM_STREAM   16 /* of the generator; the EMA's parameters have 0 to 4 */

cumega_status position_bias_enter(cumega_context *ctx, const cumega_position_bias *bias) {
  TRY(context_enter(ctx));
  if (bias == NULL)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "bias is NULL, expected a position bias");
  return context_check_device(ctx, "bias", bias->device);
}

/* 0, or for rotary 0 and 1. */
static parameter parameter_of(const cumega_position_bias_config *config, int which) {
  const int64_t size = config->size;
  if (config->kind == CUMEGA_POSITION_BIAS_RELATIVE) {
    const parameter_shape shape = {"(2 * max_positions - 1)", 1, {2 * config->max_positions - 1}};
    return (parameter){"relative_position_bias", shape, shape};
  }
  return (parameter){
      which == 0 ? "alpha" : "beta", {"(1, size)", 2, {1, size}}, {"(size)", 1, {size}}};
}

static int parameters_of(const cumega_position_bias_config *config) {
  return config->kind == CUMEGA_POSITION_BIAS_RELATIVE ? 1 : 2;
}

/* Where new parameters come from: one of the three. */
typedef struct source {
  int given;
  const DLTensor *tensors[2];
  const cumega_weights *weights;
  const char *prefix;
  double val, std;
  uint64_t seed;
} source;

/* Random parameters, as float32 values. */
static cumega_status draw(cumega_context *ctx, const parameter *p, int which, const source *from,
                          double *values) {
  int beyond = 0;
  fp_environment environment;
  fp_begin(&environment);
  for (int64_t i = 0; i < parameter_count(p); i++) {
    const double normal = normal_at(from->seed, (uint64_t)(RANDOM_STREAM + which), (uint64_t)i);
    const float value = (float)(from->val + from->std * normal);
    beyond |= !isfinite(value);
    values[i] = value;
  }
  fp_end(&environment);
  if (!beyond) return CUMEGA_OK;
  return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                      "val %g with a standard deviation of %g goes beyond float32 in %s", from->val,
                      from->std, p->name);
}

static cumega_status read_parameters(cumega_context *ctx, const cumega_position_bias *bias,
                                     const source *from, position_values *values) {
  for (int which = 0; which < parameters_of(&bias->config); which++) {
    const parameter p = parameter_of(&bias->config, which);
    double *to = values->parameters[which];
    if (from->weights)
      TRY(parameter_read_weights(ctx, &p, from->weights, from->prefix, to));
    else if (from->given)
      TRY(parameter_read(ctx, &p, p.name, from->tensors[which], to));
    else
      TRY(draw(ctx, &p, which, from, to));
  }
  return CUMEGA_OK;
}

/* New values from a source take the place of the old ones, or on failure leave them. */
static cumega_status replace_values(cumega_context *ctx, cumega_position_bias *bias,
                                    const source *from) {
  position_values values;
  memory *account = context_use_account(ctx, bias->memory);
  cumega_status status = position_values_allocate(ctx, bias, &values);
  if (status == CUMEGA_OK) status = read_parameters(ctx, bias, from, &values);
  if (status == CUMEGA_OK) status = position_values_derive(ctx, bias, &values);
  context_use_account(ctx, account);
  if (status == CUMEGA_OK) {
    position_values old = bias->values;
    bias->values = values;
    values = old;
  }
  position_values_free(bias, &values);
  return status;
}

static cumega_status check_count(cumega_context *ctx, const char *name, int64_t count) {
  if (count <= MOST_PARAMETERS) return CUMEGA_OK;
  return context_fail(ctx, CUMEGA_ERROR_RESOURCE, "%s is %lld: too large for memory", name,
                      (long long)count);
}

static cumega_status check_config(cumega_context *ctx, const cumega_position_bias_config *config) {
  if (config->max_positions < 1)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "max_positions is %lld, expected at least 1",
                        (long long)config->max_positions);
  if (config->kind == CUMEGA_POSITION_BIAS_RELATIVE)
    return check_count(ctx, "max_positions", config->max_positions);
  if (config->size < 2 || config->size % 2 != 0)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "size is %lld, expected an even number >= 2",
                        (long long)config->size);
  return check_count(ctx, "size", config->size);
}

static cumega_status create(cumega_context *ctx, cumega_position_bias_config config,
                            const source *from, cumega_position_bias **bias) {
  if (bias) *bias = NULL;
  TRY(context_enter(ctx));
  if (bias == NULL)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "bias is NULL, expected where to put the bias");
  TRY(check_config(ctx, &config));
  config.struct_size = sizeof config;
  cumega_position_bias made = {.memory = ctx->memory,
                               .backend = ctx->backend,
                               .owner = ctx->owner,
                               .device = ctx->device,
                               .config = config};
  TRY(replace_values(ctx, &made, from));
  cumega_position_bias *object = memory_allocate(ctx->memory, sizeof *object);
  if (object == NULL) {
    position_values_free(&made, &made.values);
    return context_fail(ctx, CUMEGA_ERROR_RESOURCE, "cannot allocate %zu bytes for a position bias",
                        sizeof *object);
  }
  memory_retain(ctx->memory);
  *object = made;
  *bias = object;
  return CUMEGA_OK;
}

static cumega_position_bias_config relative_config(int64_t max_positions) {
  return (cumega_position_bias_config){.kind = CUMEGA_POSITION_BIAS_RELATIVE,
                                       .max_positions = max_positions};
}

static cumega_position_bias_config rotary_config(int64_t size, int64_t max_positions) {
  return (cumega_position_bias_config){
      .kind = CUMEGA_POSITION_BIAS_ROTARY, .max_positions = max_positions, .size = size};
}

/* The defaults of ESPnet's reset_parameters. */
static source drawn_or_given(const DLTensor *first, const DLTensor *second) {
  return (source){.given = first || second, .tensors = {first, second}, .val = 0, .std = 0.02};
}

cumega_status cumega_position_bias_create_relative(cumega_context *ctx, int64_t max_positions,
                                                   const DLTensor *relative_position_bias,
                                                   cumega_position_bias **bias) {
  TRACE(ctx, 0);
  const source from = drawn_or_given(relative_position_bias, NULL);
  return create(ctx, relative_config(max_positions), &from, bias);
}

cumega_status cumega_position_bias_create_rotary(cumega_context *ctx, int64_t size,
                                                 int64_t max_positions, const DLTensor *alpha,
                                                 const DLTensor *beta,
                                                 cumega_position_bias **bias) {
  TRACE(ctx, 0);
  const source from = drawn_or_given(alpha, beta);
  return create(ctx, rotary_config(size, max_positions), &from, bias);
}

static cumega_status create_from_weights(cumega_context *ctx, cumega_position_bias_config config,
                                         const cumega_weights *weights, const char *prefix,
                                         cumega_position_bias **bias) {
  const source from = {.weights = weights, .prefix = prefix};
  if (bias) *bias = NULL;
  TRY(context_enter(ctx));
  if (weights == NULL)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "weights is NULL, expected an open weight file");
  return create(ctx, config, &from, bias);
}

cumega_status cumega_position_bias_create_relative_from_weights(cumega_context *ctx,
                                                                const cumega_weights *weights,
                                                                const char *prefix,
                                                                int64_t max_positions,
                                                                cumega_position_bias **bias) {
  TRACE(ctx, 0);
  return create_from_weights(ctx, relative_config(max_positions), weights, prefix, bias);
}

cumega_status cumega_position_bias_create_rotary_from_weights(cumega_context *ctx,
                                                              const cumega_weights *weights,
                                                              const char *prefix, int64_t size,
                                                              int64_t max_positions,
                                                              cumega_position_bias **bias) {
  TRACE(ctx, 0);
  return create_from_weights(ctx, rotary_config(size, max_positions), weights, prefix, bias);
}

void cumega_position_bias_destroy(cumega_position_bias *bias) {
  if (bias == NULL) return;
  memory *account = bias->memory;
  position_values_free(bias, &bias->values);
  memory_free(account, bias, sizeof *bias);
  memory_release(account);
}

cumega_status cumega_position_bias_get_config(cumega_context *ctx, const cumega_position_bias *bias,
                                              cumega_position_bias_config *config) {
  TRACE(ctx, 0);
  TRY(position_bias_enter(ctx, bias));
  return context_write_struct(ctx, "config", config, POSITION_CONFIG_SMALLEST, &bias->config,
                              sizeof bias->config);
}

/* The tensors of bias's kind; those of the other kind have to be NULL. */
static cumega_status read_parameter_struct(cumega_context *ctx, const cumega_position_bias *bias,
                                           const cumega_position_bias_parameters *given,
                                           DLTensor **tensors) {
  cumega_position_bias_parameters p;
  memset(&p, 0, sizeof p);
  TRY(context_read_struct(ctx, "parameters", given, POSITION_PARAMETERS_SMALLEST, &p, sizeof p));
  const int relative = bias->config.kind == CUMEGA_POSITION_BIAS_RELATIVE;
  const char *stray = p.relative_position_bias ? "relative_position_bias" : NULL;
  if (relative) stray = p.alpha ? "alpha" : p.beta ? "beta" : NULL;
  if (stray)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "parameters.%s is given to a %s bias, expected NULL", stray,
                        relative ? "relative" : "rotary");
  tensors[0] = relative ? p.relative_position_bias : p.alpha;
  tensors[1] = p.beta;
  return CUMEGA_OK;
}

cumega_status
cumega_position_bias_get_parameters(cumega_context *ctx, const cumega_position_bias *bias,
                                    const cumega_position_bias_parameters *parameters) {
  TRACE(ctx, 0);
  DLTensor *tensors[2] = {NULL, NULL};
  tensor_view views[2];
  memset(views, 0, sizeof views); /* a tensor that is left out shares no memory */
  TRY(position_bias_enter(ctx, bias));
  TRY(read_parameter_struct(ctx, bias, parameters, tensors));
  const int count = parameters_of(&bias->config);
  for (int i = 0; i < count; i++) {
    const parameter p = parameter_of(&bias->config, i);
    if (tensors[i]) TRY(parameter_check_output(ctx, &p, tensors[i], &views[i]));
  }
  TRY(tensor_view_check_apart(ctx, &views[1], &views[0], 0));
  for (int i = 0; i < count; i++) parameter_write(&views[i], bias->values.parameters[i]);
  return CUMEGA_OK;
}

cumega_status
cumega_position_bias_set_parameters(cumega_context *ctx, cumega_position_bias *bias,
                                    const cumega_position_bias_parameters *parameters) {
  TRACE(ctx, 0);
  DLTensor *tensors[2] = {NULL, NULL};
  TRY(position_bias_enter(ctx, bias));
  TRY(read_parameter_struct(ctx, bias, parameters, tensors));
  const source from = {.given = 1, .tensors = {tensors[0], tensors[1]}};
  return replace_values(ctx, bias, &from);
}

cumega_status cumega_position_bias_reset_parameters(cumega_context *ctx, cumega_position_bias *bias,
                                                    double val, double std, uint64_t seed) {
  TRACE(ctx, 0);
  const source from = {.val = val, .std = std, .seed = seed};
  TRY(position_bias_enter(ctx, bias));
  if (!isfinite(val))
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "val is %g, expected a finite number", val);
  TRY(parameter_check_spread(ctx, "std", std));
  return replace_values(ctx, bias, &from);
}
