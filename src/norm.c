/* Normalisations as objects. They are applied by the runs of a residual connection
 * (residual_run.c). */
#include <math.h>
#include "enum_names.h"
#include "math/elementary_f64.h"
#include "norm_object.h"
#include "trace.h"

static const enum_name types[] = {
#define NORM_ROW(enumerator, value, name, eps) {enumerator, name},
    CUMEGA_NORM_LIST(NORM_ROW)
#undef NORM_ROW
};
DEFINE_ENUM_NAMES(cumega_norm_type, types)

/* What the host keeps: numbers that a run takes by value. */
typedef struct norm_numbers {
  double scale;   /* of scale_norm */
  double log_eps; /* of basic_norm: the parameter "eps" */
  double eps;     /* the norm's */
} norm_numbers;

/* The parameters, in the order of cumega_norm_parameters. */
enum { WEIGHT, BIAS, SCALE, EPS, PARAMETER_COUNT };

static const cumega_norm *norm_of(const object *o) {
  return (const cumega_norm *)o;
}

static cumega_status check(cumega_context *ctx, object *o) {
  cumega_norm *norm = (cumega_norm *)o;
  const cumega_norm_config *config = &norm->config;
  if (config->size < 1)
    return call_fail_argument(ctx, "config.size is %lld, expected at least 1",
                              (long long)config->size);
  if (cumega_norm_type_name(config->type) == NULL)
    return call_fail_argument(ctx, "config.type is %d, expected 0 to %d", (int)config->type,
                              ENUM_COUNT(types) - 1);
  TRY(object_check_dtype(ctx, "dtype", config->dtype));
  const int is_basic = config->type == CUMEGA_NORM_BASIC;
  if (!(isfinite(config->eps) && (is_basic ? config->eps > 0 : config->eps >= 0)))
    return call_fail_argument(ctx, "config.eps is %g, expected a finite number %s", config->eps,
                              is_basic ? "above 0" : ">= 0");
  object_layout l = {0};
  const int64_t real = tensor_type_bytes(tensor_type_of(config->dtype));
  norm->weight_at = object_take(&l, 1, config->size, real);
  norm->bias_at = object_take(&l, 1, config->size, real);
  o->block_bytes = l.used;
  o->host_bytes = sizeof(norm_numbers);
  return object_check_layout(ctx, o->class, &l);
}

static parameter parameter_of(const object *o, int which) {
  static const char *const names[PARAMETER_COUNT] = {"weight", "bias", "scale", "eps"};
  const cumega_norm *norm = norm_of(o);
  const cumega_norm_type type = norm->config.type;
  parameter p = {.name = names[which], .type = TYPE_FLOAT64};
  const int is_vector = which == SCALE ? type == CUMEGA_NORM_RMS : type == CUMEGA_NORM_LAYER;
  const int is_number = which == SCALE ? type == CUMEGA_NORM_SCALE : type == CUMEGA_NORM_BASIC;
  if (which != EPS && is_vector) {
    p.shape = (parameter_shape){"(D)", 1, {norm->config.size}};
    p.type = tensor_type_of(norm->config.dtype);
    p.is_in_block = 1;
    p.offset = which == BIAS ? norm->bias_at : norm->weight_at;
  } else if (which >= SCALE && is_number) {
    p.shape = (parameter_shape){"()", 0, {0}};
    p.also = (parameter_shape){"(1)", 1, {1}};
    p.offset = which == SCALE ? (int64_t)offsetof(norm_numbers, scale)
                              : (int64_t)offsetof(norm_numbers, log_eps);
  }
  return p;
}

static void fill_vector(const cumega_norm *norm, void *values, double value) {
  for (int64_t i = 0; i < norm->config.size; i++)
    if (tensor_type_of(norm->config.dtype) == TYPE_FLOAT64)
      ((double *)values)[i] = value;
    else
      ((float *)values)[i] = (float)value;
}

/* ESPnet's initial values. */
static cumega_status fill(cumega_context *ctx, const object *o, const object_source *from,
                          int which, void *values) {
  (void)ctx;
  (void)from;
  const cumega_norm *norm = norm_of(o);
  const parameter p = parameter_of(o, which);
  if (p.is_in_block)
    fill_vector(norm, values, which == BIAS ? 0 : 1);
  else
    *(double *)values = which == EPS ? math_log(norm->config.eps) : 1;
  return CUMEGA_OK;
}

/* What a type does not have changes nothing: weight 1, bias -0 (norm_run). */
static cumega_status derive(cumega_context *ctx, const object *o, void *host, void *block) {
  const cumega_norm *norm = norm_of(o);
  norm_numbers *numbers = host;
  const cumega_norm_type type = norm->config.type;
  if (type == CUMEGA_NORM_SCALE || type == CUMEGA_NORM_BASIC)
    fill_vector(norm, (char *)block + norm->weight_at, 1);
  if (type != CUMEGA_NORM_LAYER) fill_vector(norm, (char *)block + norm->bias_at, -0.0);
  numbers->eps = type == CUMEGA_NORM_BASIC ? math_exp(numbers->log_eps) : norm->config.eps;
  if (isfinite(numbers->eps)) return CUMEGA_OK;
  return call_fail_argument(ctx, "eps is %g, expected the logarithm of a finite number",
                            numbers->log_eps);
}

static const object_class norm_class = {
    .argument = "norm",
    .noun = "a normalisation",
    .bytes = sizeof(cumega_norm),
    .config_at = offsetof(cumega_norm, config),
    .config_bytes = sizeof(cumega_norm_config),
    .config_smallest = END_OF(cumega_norm_config, dtype),
    .parameter_count = PARAMETER_COUNT,
    .parameters_smallest = END_OF(cumega_norm_parameters, eps),
    .check = check,
    .parameter_of = parameter_of,
    .fill = fill,
    .derive = derive,
};

void cumega_norm_config_init(cumega_norm_config *config, size_t struct_size, cumega_norm_type type,
                             int64_t size) {
  cumega_norm_config known = {
      .struct_size = sizeof known, .size = size, .type = type, .dtype = cumega_float32};
#define NORM_EPS(name, value, text, default_eps)                                                  \
  if (type == name) known.eps = default_eps;
  CUMEGA_NORM_LIST(NORM_EPS)
#undef NORM_EPS
  call_init_struct(config, struct_size, &known, sizeof known);
}

DEFINE_ZERO_INIT(cumega_norm_parameters)

cumega_status cumega_norm_create(cumega_context *ctx, const cumega_norm_config *config,
                                 const cumega_norm_parameters *parameters, cumega_norm **norm) {
  TRACE(ctx, 0);
  const object_source from = {.parameters = parameters};
  return object_create(ctx, &norm_class, config, &from, norm);
}

cumega_status cumega_norm_create_from_weights(cumega_context *ctx, const cumega_weights *weights,
                                              const char *prefix, const cumega_norm_config *config,
                                              cumega_norm **norm) {
  TRACE(ctx, 0);
  const object_source from = {.from_weights = 1, .weights = weights, .prefix = prefix};
  return object_create(ctx, &norm_class, config, &from, norm);
}

void cumega_norm_destroy(cumega_norm *norm) {
  object_destroy((object *)norm);
}

static const norm_numbers *numbers_of(const cumega_norm *norm) {
  return norm->base.host;
}

cumega_status cumega_norm_get_config(cumega_context *ctx, const cumega_norm *norm,
                                     cumega_norm_config *config) {
  TRACE(ctx, 0);
  TRY(object_get_config(ctx, &norm_class, (const object *)norm, config));
  config->eps = numbers_of(norm)->eps;
  return CUMEGA_OK;
}

cumega_status cumega_norm_set_parameters(cumega_context *ctx, cumega_norm *norm,
                                         const cumega_norm_parameters *parameters) {
  TRACE(ctx, 0);
  return object_set_parameters(ctx, &norm_class, (object *)norm, parameters);
}

cumega_status cumega_norm_get_parameters(cumega_context *ctx, const cumega_norm *norm,
                                         const cumega_norm_parameters *parameters) {
  TRACE(ctx, 0);
  return object_get_parameters(ctx, &norm_class, (const object *)norm, parameters);
}

cumega_status norm_check_use(cumega_context *ctx, const cumega_norm *norm, const tensor_view *y,
                             int64_t channels) {
  TRY(call_check_device(ctx, "norm", norm->base.device));
  if (norm->config.size != channels)
    return call_fail_argument(ctx, "norm is of size %lld, expected the %lld channels of %s",
                              (long long)norm->config.size, (long long)channels, y->name);
  return object_check_type(ctx, "norm", norm->config.dtype, y->name, y->type);
}

norm_run norm_run_of(const cumega_norm *norm) {
  norm_run run = {.type = -1};
  if (norm == NULL) return run;
  run.type = (int)norm->config.type;
  run.eps = numbers_of(norm)->eps;
  run.scale = numbers_of(norm)->scale;
  run.weight = object_vector(&norm->base, norm->config.dtype, norm->weight_at);
  run.bias = object_vector(&norm->base, norm->config.dtype, norm->bias_at);
  return run;
}
