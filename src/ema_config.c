/* The EMA's settings: names, checks, reading back. */
#include <math.h>
#include "ema.h"
#include "fp_environment.h"
#include "trace.h"

static const struct {
  cumega_activation value;
  const char *name;
} activations[] = {
#define ACTIVATION_ROW(enumerator, value, name) {enumerator, name},
    CUMEGA_ACTIVATION_LIST(ACTIVATION_ROW)
#undef ACTIVATION_ROW
};
#define ACTIVATION_COUNT ((int)(sizeof activations / sizeof *activations))

const char *cumega_activation_name(cumega_activation activation) {
  for (int i = 0; i < ACTIVATION_COUNT; i++)
    if (activations[i].value == activation) return activations[i].name;
  return NULL;
}

int cumega_activation_from_name(const char *name, cumega_activation *activation) {
  if (name == NULL || activation == NULL) return 0;
  if (strcmp(name, "silu") == 0) name = "swish";
  for (int i = 0; i < ACTIVATION_COUNT; i++) {
    if (strcmp(name, activations[i].name) != 0) continue;
    *activation = activations[i].value;
    return 1;
  }
  return 0;
}

static cumega_status check_finite(cumega_context *ctx, const char *name, double value) {
  if (isfinite(value)) return CUMEGA_OK;
  return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "config.%s is %g, expected a finite number", name,
                      value);
}

/* The chosen activation's own arguments. */
static cumega_status check_activation(cumega_context *ctx, cumega_ema_config *config) {
  switch (config->activation) {
  case CUMEGA_ACTIVATION_SWISH: return check_finite(ctx, "swish_beta", config->swish_beta);
  case CUMEGA_ACTIVATION_LEAKY_RELU:
    return check_finite(ctx, "leakyrelu_neg_slope", config->leakyrelu_neg_slope);
  case CUMEGA_ACTIVATION_HARDTANH:
    TRY(check_finite(ctx, "hardtanh_min_val", config->hardtanh_min_val));
    TRY(check_finite(ctx, "hardtanh_max_val", config->hardtanh_max_val));
    if (config->hardtanh_min_val < config->hardtanh_max_val) return CUMEGA_OK;
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "config.hardtanh_min_val is %g, expected less than hardtanh_max_val, %g",
                        config->hardtanh_min_val, config->hardtanh_max_val);
  case CUMEGA_ACTIVATION_SMISH:
    TRY(check_finite(ctx, "smish_alpha", config->smish_alpha));
    TRY(check_finite(ctx, "smish_beta", config->smish_beta));
    if (config->smish_alpha <= 0) config->smish_alpha = 1;
    if (config->smish_beta <= 0) config->smish_beta = 1;
    return CUMEGA_OK;
  case CUMEGA_ACTIVATION_FTSWISH:
    TRY(check_finite(ctx, "ftswish_threshold", config->ftswish_threshold));
    TRY(check_finite(ctx, "ftswish_mean_shift", config->ftswish_mean_shift));
    if (config->ftswish_threshold < 0) return CUMEGA_OK;
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "config.ftswish_threshold is %g, expected less than 0",
                        config->ftswish_threshold);
  default: break;
  }
  if (cumega_activation_name(config->activation) != NULL) return CUMEGA_OK;
  return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "config.activation is %d, expected 0 to %d",
                      (int)config->activation, ACTIVATION_COUNT - 1);
}

static cumega_status check_settings(cumega_context *ctx, cumega_ema_config *config) {
  if (config->size < 1)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "config.size is %lld, expected at least 1",
                        (long long)config->size);
  if (config->num_heads < 1 || config->num_heads > CUMEGA_EMA_MAX_HEADS)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "config.num_heads is %lld, expected 1 to %d",
                        (long long)config->num_heads, CUMEGA_EMA_MAX_HEADS);
  if (config->truncation_length < 1)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "config.truncation_length is %lld, expected at least 1, or "
                        "CUMEGA_NO_TRUNCATION",
                        (long long)config->truncation_length);
  tensor_type state = tensor_type_of(config->state_dtype);
  if ((state != TYPE_FLOAT32 && state != TYPE_FLOAT64) || config->state_dtype.lanes != 1)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "config.state_dtype is %s, expected float32 or float64",
                        state ? tensor_type_name(state) : "unknown");
  return check_activation(ctx, config);
}

cumega_status ema_config_check(cumega_context *ctx, cumega_ema_config *config) {
  fp_environment environment;
  fp_begin(&environment);
  cumega_status status = check_settings(ctx, config);
  fp_end(&environment);
  return status;
}

cumega_status cumega_ema_get_config(cumega_context *ctx, const cumega_ema *ema,
                                    cumega_ema_config *config) {
  TRACE(ctx, 0);
  TRY(ema_enter(ctx, ema));
  return context_write_struct(ctx, "config", config, EMA_CONFIG_SMALLEST, &ema->config,
                              sizeof ema->config);
}
