/* The residual connections' settings: names, checks, multipliers. */
#include <math.h>
#include "enum_names.h"
#include "math/elementary_f64.h"
#include "residual_object.h"

/* ESPnet's classes, then the names in its registry. */
static const enum_name kinds[] = {
#define KIND_ROW(enumerator, value, name) {enumerator, name},
    CUMEGA_RESIDUAL_KIND_LIST(KIND_ROW)
#undef KIND_ROW
        {CUMEGA_RESIDUAL_RESIDUAL, "R"},
    {CUMEGA_RESIDUAL_RESIDUAL, "residual"},
    {CUMEGA_RESIDUAL_FEEDFORWARD, "F"},
    {CUMEGA_RESIDUAL_FEEDFORWARD, "N"},
    {CUMEGA_RESIDUAL_FEEDFORWARD, "none"},
    {CUMEGA_RESIDUAL_FEEDFORWARD, "ff"},
    {CUMEGA_RESIDUAL_FEEDFORWARD, "feedforward"},
    {CUMEGA_RESIDUAL_AFFINE, "A"},
    {CUMEGA_RESIDUAL_AFFINE, "affine"},
    {CUMEGA_RESIDUAL_HIGHWAY, "H"},
    {CUMEGA_RESIDUAL_HIGHWAY, "highway"},
    {CUMEGA_RESIDUAL_DECAY, "D"},
    {CUMEGA_RESIDUAL_DECAY, "decay"},
};
DEFINE_ENUM_NAMES(cumega_residual_kind, kinds)

void cumega_residual_config_init(cumega_residual_config *config, size_t struct_size,
                                 cumega_residual_kind kind, int64_t i_layer, int64_t d_model) {
  const cumega_residual_config known = {.struct_size = sizeof known,
                                        .kind = kind,
                                        .i_layer = i_layer,
                                        .d_input = d_model,
                                        .d_model = d_model,
                                        .alpha = 1,
                                        .beta = 1,
                                        .power = 0.5,
                                        .scalar = 1,
                                        .l2 = 1,
                                        .dtype = cumega_float32};
  call_init_struct(config, struct_size, &known, sizeof known);
}

int residual_reads_x(const cumega_residual_config *config) {
  if (config->kind == CUMEGA_RESIDUAL_FEEDFORWARD) return 0;
  return config->kind != CUMEGA_RESIDUAL_RESIDUAL || config->alpha != 0;
}

int residual_has_parameter(const cumega_residual_config *config, int which) {
  const int is_highway = config->kind == CUMEGA_RESIDUAL_HIGHWAY;
  if (which == RESIDUAL_AFFINE) return config->kind == CUMEGA_RESIDUAL_AFFINE;
  if (which == RESIDUAL_WY) return is_highway && config->elemwise;
  return is_highway && (which <= RESIDUAL_WX_BIAS || !config->elemwise);
}

static cumega_status fail_number(cumega_context *ctx, const char *name, double value,
                                 const char *expected) {
  return call_fail_argument(ctx, "config.%s is %g, expected %s", name, value, expected);
}

static cumega_status check_layer(cumega_context *ctx, const cumega_residual_config *c) {
  if (c->i_layer >= 1) return CUMEGA_OK;
  return call_fail_argument(ctx, "config.i_layer is %lld, expected at least 1 for %s",
                            (long long)c->i_layer, cumega_residual_kind_name(c->kind));
}

static cumega_status check_sizes(cumega_context *ctx, const cumega_residual_config *c) {
  if (c->d_model < 1)
    return call_fail_argument(ctx, "config.d_model is %lld, expected at least 1",
                              (long long)c->d_model);
  if (c->d_input < 1)
    return call_fail_argument(ctx, "config.d_input is %lld, expected at least 1",
                              (long long)c->d_input);
  if (c->d_input != c->d_model && residual_reads_x(c))
    return call_fail_argument(ctx,
                              "config.d_input is %lld, expected d_model, %lld, since x is read",
                              (long long)c->d_input, (long long)c->d_model);
  return CUMEGA_OK;
}

static cumega_status check_kind(cumega_context *ctx, const cumega_residual_config *c) {
  double alpha, beta;
  switch (c->kind) {
  case CUMEGA_RESIDUAL_FEEDFORWARD: return CUMEGA_OK;
  case CUMEGA_RESIDUAL_AFFINE:
    if (!isfinite(c->gamma)) return fail_number(ctx, "gamma", c->gamma, "a finite number");
    /* fall through */
  case CUMEGA_RESIDUAL_RESIDUAL:
    if (!isfinite(c->alpha)) return fail_number(ctx, "alpha", c->alpha, "a finite number");
    if (!isfinite(c->beta)) return fail_number(ctx, "beta", c->beta, "a finite number");
    return CUMEGA_OK;
  case CUMEGA_RESIDUAL_HIGHWAY:
  case CUMEGA_RESIDUAL_DECAY: break;
  }
  const char *one = c->kind == CUMEGA_RESIDUAL_DECAY ? "1: DecayResidual computes its own"
                                                     : "1: Highway has none";
  if (!(c->alpha == 1)) return fail_number(ctx, "alpha", c->alpha, one);
  if (!(c->beta == 1)) return fail_number(ctx, "beta", c->beta, one);
  if (c->kind == CUMEGA_RESIDUAL_HIGHWAY) return CUMEGA_OK;
  TRY(check_layer(ctx, c));
  if (!isfinite(c->power) || (c->l2 && c->power < 0))
    return fail_number(ctx, "power", c->power,
                       c->l2 ? "a finite number >= 0 with l2" : "a finite number");
  residual_config_resolve(c, &alpha, &beta);
  if (isfinite(alpha + beta)) return CUMEGA_OK; /* alpha is infinite only where beta is */
  return fail_number(ctx, "power", c->power, "one whose beta = i_layer^-power is finite");
}

cumega_status residual_config_check(cumega_context *ctx, const cumega_residual_config *config) {
  if (cumega_residual_kind_name(config->kind) == NULL)
    return call_fail_argument(ctx, "config.kind is %d, expected 0 to %d", (int)config->kind,
                              CUMEGA_RESIDUAL_DECAY);
  TRY(check_sizes(ctx, config));
  TRY(object_check_dtype(ctx, "dtype", config->dtype));
  return check_kind(ctx, config);
}

/* In double without cancellation: 1 - beta = -expm1(log beta), and 1 - beta^2 likewise. An i_layer
 * below 1 is checked where it is needed. */
void residual_config_resolve(const cumega_residual_config *c, double *alpha, double *beta) {
  const double log_layer = c->i_layer >= 1 ? math_log((double)c->i_layer) : 0;
  *alpha = c->alpha;
  *beta = c->beta;
  switch (c->kind) {
  case CUMEGA_RESIDUAL_FEEDFORWARD:
    *alpha = 0;
    *beta = 1;
    break;
  case CUMEGA_RESIDUAL_AFFINE:
    *beta = c->beta * math_exp(-c->gamma * log_layer); /* exactly beta where gamma is 0 */
    break;
  case CUMEGA_RESIDUAL_DECAY:
    *beta = math_exp(-c->power * log_layer);
    *alpha = c->l2 ? MATH_SQRT(math_abs(math_expm1(-2 * c->power * log_layer)))
                   : 0 - math_expm1(-c->power * log_layer);
    break;
  case CUMEGA_RESIDUAL_RESIDUAL:
  case CUMEGA_RESIDUAL_HIGHWAY: break;
  }
}
