/* The residual connections' settings: names, checks, multipliers. */
#include <math.h>
#include "fp_environment.h"
#include "math/elementary_f64.h"
#include "residual.h"

static const struct {
  cumega_residual_kind value;
  const char *name;
} classes[] = {
#define KIND_ROW(enumerator, value, name) {enumerator, name},
    CUMEGA_RESIDUAL_KIND_LIST(KIND_ROW)
#undef KIND_ROW
};
#define KIND_COUNT ((int)(sizeof classes / sizeof *classes))

/* ESPnet's registry. */
static const struct {
  cumega_residual_kind value;
  const char *name;
} registry[] = {
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

const char *cumega_residual_kind_name(cumega_residual_kind kind) {
  for (int i = 0; i < KIND_COUNT; i++)
    if (classes[i].value == kind) return classes[i].name;
  return NULL;
}

int cumega_residual_kind_from_name(const char *name, cumega_residual_kind *kind) {
  if (name == NULL || kind == NULL) return 0;
  for (size_t i = 0; i < sizeof registry / sizeof *registry; i++)
    if (strcmp(name, registry[i].name) == 0) return *kind = registry[i].value, 1;
  for (int i = 0; i < KIND_COUNT; i++)
    if (strcmp(name, classes[i].name) == 0) return *kind = classes[i].value, 1;
  return 0;
}

int residual_reads_x(const cumega_residual_config *config) {
  if (config->kind == CUMEGA_RESIDUAL_FEEDFORWARD) return 0;
  return config->kind != CUMEGA_RESIDUAL_RESIDUAL || config->alpha != 0;
}

int residual_slot(const cumega_residual_config *config, int which) {
  /* of a Highway: affine, Wx.weight, Wx.bias, Wy.weight, Wy.bias, Wy */
  static const int slots[2][RESIDUAL_PARAMETER_COUNT] = {{-1, 0, 1, 2, 3, -1},
                                                         {-1, 0, 1, -1, -1, 2}};
  if (config->kind == CUMEGA_RESIDUAL_AFFINE) return which == RESIDUAL_AFFINE ? 0 : -1;
  if (config->kind != CUMEGA_RESIDUAL_HIGHWAY) return -1;
  return slots[config->elemwise != 0][which];
}

static cumega_status fail_number(cumega_context *ctx, const char *name, double value,
                                 const char *expected) {
  return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "config.%s is %g, expected %s", name, value,
                      expected);
}

static cumega_status check_layer(cumega_context *ctx, const cumega_residual_config *c) {
  if (c->i_layer >= 1) return CUMEGA_OK;
  return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                      "config.i_layer is %lld, expected at least 1 for %s", (long long)c->i_layer,
                      cumega_residual_kind_name(c->kind));
}

static cumega_status check_sizes(cumega_context *ctx, const cumega_residual_config *c) {
  if (c->d_model < 1)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "config.d_model is %lld, expected at least 1",
                        (long long)c->d_model);
  if (c->d_input < 1)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "config.d_input is %lld, expected at least 1",
                        (long long)c->d_input);
  if (c->d_input != c->d_model && residual_reads_x(c))
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
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
  default: break;
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
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "config.kind is %d, expected 0 to %d",
                        (int)config->kind, KIND_COUNT - 1);
  fp_environment environment;
  fp_begin(&environment);
  cumega_status status = check_sizes(ctx, config);
  if (status == CUMEGA_OK) status = check_kind(ctx, config);
  fp_end(&environment);
  return status;
}

/* In double without cancellation: 1 - beta = -expm1(log beta), and 1 - beta^2 likewise. An i_layer
 * below 1 is left to whoever needs it. */
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
  default: break;
  }
}
