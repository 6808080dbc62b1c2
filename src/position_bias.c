/* Position biases as objects. What is derived from a rotary bias's parameters, per pair k of the
 * halves of alpha and beta:
 *
 *   even = a1 b1 + a2 b2, odd = a1 b2 - a2 b1,  quarters = theta_k * 2 / pi in two doubles */
#include <float.h>
#include <math.h>
#include "enum_names.h"
#include "math/rotation.h"
#include "position_bias_object.h"
#include "trace.h"

#define MOST_PARAMETERS (INT64_C(1) << 40)
#define RANDOM_STREAM   16 /* of the generator; the EMA's parameters have 0 to 4 */

static const enum_name kinds[] = {{CUMEGA_POSITION_BIAS_RELATIVE, "relative"},
                                  {CUMEGA_POSITION_BIAS_ROTARY, "rotary"}};
DEFINE_ENUM_NAMES(cumega_position_bias_kind, kinds)

/* The parameters, in the order of cumega_position_bias_parameters. */
enum { RELATIVE, ALPHA, BETA, PARAMETER_COUNT };

static const cumega_position_bias_config *config_of(const object *o) {
  return &((const cumega_position_bias *)o)->config;
}

/* Offsets of a rotary bias's numbers. */
typedef struct rotary_layout {
  int64_t alpha, beta, quarters, quarters_lo, even, odd, bytes;
} rotary_layout;

static rotary_layout layout_of(const cumega_position_bias_config *config) {
  const int64_t size = config->size, real = sizeof(double);
  object_layout l = {0};
  rotary_layout at = {.alpha = object_take(&l, 1, size, real)};
  at.beta = object_take(&l, 1, size, real);
  at.quarters = object_take(&l, 1, size / 2, real);
  at.quarters_lo = object_take(&l, 1, size / 2, real);
  at.even = object_take(&l, 1, size / 2, real);
  at.odd = object_take(&l, 1, size / 2, real);
  at.bytes = l.used; /* size has been checked */
  return at;
}

static double *doubles_at(void *host, int64_t offset) {
  return (double *)(void *)((char *)host + offset);
}

rotary_numbers rotary_numbers_at(const cumega_position_bias_config *config, void *host) {
  const rotary_layout at = layout_of(config);
  return (rotary_numbers){doubles_at(host, at.alpha),    doubles_at(host, at.beta),
                          doubles_at(host, at.quarters), doubles_at(host, at.quarters_lo),
                          doubles_at(host, at.even),     doubles_at(host, at.odd)};
}

static cumega_status check_count(cumega_context *ctx, const char *name, int64_t count) {
  if (count <= MOST_PARAMETERS) return CUMEGA_OK;
  return call_fail(ctx, CUMEGA_ERROR_RESOURCE, "config.%s is %lld: too large for memory", name,
                   (long long)count);
}

static cumega_status check(cumega_context *ctx, object *o) {
  const cumega_position_bias_config *config = config_of(o);
  if (config->max_positions < 1)
    return call_fail_argument(ctx, "config.max_positions is %lld, expected at least 1",
                              (long long)config->max_positions);
  TRY(object_check_dtype(ctx, "dtype", config->dtype));
  switch (config->kind) {
  case CUMEGA_POSITION_BIAS_RELATIVE:
    TRY(check_count(ctx, "max_positions", config->max_positions));
    o->block_bytes =
        (2 * config->max_positions - 1) * tensor_type_bytes(tensor_type_of(config->dtype));
    return CUMEGA_OK;
  case CUMEGA_POSITION_BIAS_ROTARY:
    if (config->size < 2 || config->size % 2 != 0)
      return call_fail_argument(ctx, "config.size is %lld, expected an even number >= 2",
                                (long long)config->size);
    TRY(check_count(ctx, "size", config->size));
    o->host_bytes = layout_of(config).bytes;
    return CUMEGA_OK;
  }
  return call_fail_argument(ctx, "config.kind is %d, expected 0 or 1", (int)config->kind);
}

static parameter parameter_of(const object *o, int which) {
  static const char *const names[PARAMETER_COUNT] = {"relative_position_bias", "alpha", "beta"};
  const cumega_position_bias_config *config = config_of(o);
  const int is_relative = config->kind == CUMEGA_POSITION_BIAS_RELATIVE;
  parameter p = {.name = names[which]};
  if (is_relative != (which == RELATIVE)) return p;
  if (is_relative) {
    p.shape = (parameter_shape){"(2 * max_positions - 1)", 1, {2 * config->max_positions - 1}};
    p.type = tensor_type_of(config->dtype);
    p.is_in_block = 1;
    return p;
  }
  const rotary_layout at = layout_of(config);
  p.shape = (parameter_shape){"(1, size)", 2, {1, config->size}};
  p.also = (parameter_shape){"(size)", 1, {config->size}};
  p.type = TYPE_FLOAT64;
  p.offset = which == ALPHA ? at.alpha : at.beta;
  return p;
}

static cumega_status fill(cumega_context *ctx, const object *o, const object_source *from,
                          int which, void *values) {
  const parameter p = parameter_of(o, which);
  return object_draw(ctx, &p, from, from->std1, RANDOM_STREAM + (which == BETA), values);
}

/* The sum over pairs of |even| + |odd| bounds every value of the table. Beyond float32 a run
 * would give NaN where the scores are finite. */
static cumega_status derive(cumega_context *ctx, const object *o, void *host, void *block) {
  const cumega_position_bias_config *config = config_of(o);
  (void)block;
  if (config->kind == CUMEGA_POSITION_BIAS_RELATIVE) return CUMEGA_OK;
  const rotary_layout at = layout_of(config);
  const int64_t pairs = config->size / 2;
  const double *a1 = doubles_at(host, at.alpha), *a2 = a1 + pairs;
  const double *b1 = doubles_at(host, at.beta), *b2 = b1 + pairs;
  double *even = doubles_at(host, at.even), *odd = doubles_at(host, at.odd);
  double largest = 0;
  for (int64_t k = 0; k < pairs; k++) {
    const math_two quarters = math_rotary_quarters(k, pairs);
    doubles_at(host, at.quarters)[k] = quarters.hi;
    doubles_at(host, at.quarters_lo)[k] = quarters.lo;
    even[k] = a1[k] * b1[k] + a2[k] * b2[k];
    odd[k] = a1[k] * b2[k] - a2[k] * b1[k];
    largest += fabs(even[k]) + fabs(odd[k]);
  }
  if (largest <= (double)FLT_MAX) return CUMEGA_OK;
  return call_fail_argument(ctx,
                            "alpha and beta have products that add up to %g, expected sums within "
                            "the range of float32",
                            largest);
}

static const object_class position_bias_class = {
    .argument = "bias",
    .noun = "a position bias",
    .bytes = sizeof(cumega_position_bias),
    .config_at = offsetof(cumega_position_bias, config),
    .config_bytes = sizeof(cumega_position_bias_config),
    .config_smallest = END_OF(cumega_position_bias_config, dtype),
    .parameter_count = PARAMETER_COUNT,
    .parameters_smallest = END_OF(cumega_position_bias_parameters, beta),
    .needs_all = 1,
    .check = check,
    .parameter_of = parameter_of,
    .fill = fill,
    .derive = derive,
};

void cumega_position_bias_config_init(cumega_position_bias_config *config, size_t struct_size,
                                      int64_t max_positions) {
  const cumega_position_bias_config known = {.struct_size = sizeof known,
                                             .kind = CUMEGA_POSITION_BIAS_RELATIVE,
                                             .max_positions = max_positions,
                                             .dtype = cumega_float32};
  call_init_struct(config, struct_size, &known, sizeof known);
}

DEFINE_ZERO_INIT(cumega_position_bias_parameters)

cumega_status position_bias_enter(cumega_context *ctx, const cumega_position_bias *bias) {
  return object_enter(ctx, &position_bias_class, (const object *)bias);
}

cumega_status cumega_position_bias_create(cumega_context *ctx,
                                          const cumega_position_bias_config *config,
                                          const cumega_position_bias_parameters *parameters,
                                          cumega_position_bias **bias) {
  TRACE(ctx, 0);
  const object_source from = {.parameters = parameters, .std1 = 0.02};
  return object_create(ctx, &position_bias_class, config, &from, bias);
}

cumega_status cumega_position_bias_create_from_weights(cumega_context *ctx,
                                                       const cumega_weights *weights,
                                                       const char *prefix,
                                                       const cumega_position_bias_config *config,
                                                       cumega_position_bias **bias) {
  TRACE(ctx, 0);
  const object_source from = {.from_weights = 1, .weights = weights, .prefix = prefix};
  return object_create(ctx, &position_bias_class, config, &from, bias);
}

void cumega_position_bias_destroy(cumega_position_bias *bias) {
  object_destroy((object *)bias);
}

cumega_status cumega_position_bias_get_config(cumega_context *ctx,
                                              const cumega_position_bias *bias,
                                              cumega_position_bias_config *config) {
  TRACE(ctx, 0);
  return object_get_config(ctx, &position_bias_class, (const object *)bias, config);
}

cumega_status
cumega_position_bias_get_parameters(cumega_context *ctx, const cumega_position_bias *bias,
                                    const cumega_position_bias_parameters *parameters) {
  TRACE(ctx, 0);
  return object_get_parameters(ctx, &position_bias_class, (const object *)bias, parameters);
}

cumega_status
cumega_position_bias_set_parameters(cumega_context *ctx, cumega_position_bias *bias,
                                    const cumega_position_bias_parameters *parameters) {
  TRACE(ctx, 0);
  return object_set_parameters(ctx, &position_bias_class, (object *)bias, parameters);
}

cumega_status cumega_position_bias_reset_parameters(cumega_context *ctx,
                                                    cumega_position_bias *bias, double val,
                                                    double std, uint64_t seed) {
  TRACE(ctx, 0);
  const object_source from = {.val = val, .std1 = std, .seed = seed};
  TRY(position_bias_enter(ctx, bias));
  TRY(object_check_val(ctx, val));
  TRY(parameter_check_spread(ctx, "std", std));
  return object_replace(ctx, (object *)bias, &from);
}
