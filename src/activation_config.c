#include "activation_config.h"
#include "enum_names.h"
#include "object.h"

static const enum_name activations[] = {
#define ACTIVATION_ROW(enumerator, value, name) {enumerator, name},
    CUMEGA_ACTIVATION_LIST(ACTIVATION_ROW)
#undef ACTIVATION_ROW
        {CUMEGA_ACTIVATION_SWISH, "silu"},
};
DEFINE_ENUM_NAMES(cumega_activation, activations)

const cumega_activation_arguments activation_default_arguments = {.swish_beta = 1.0,
                                                                  .leakyrelu_neg_slope = 0.01,
                                                                  .hardtanh_min_val = -1.0,
                                                                  .hardtanh_max_val = 1.0,
                                                                  .smish_alpha = 1.0,
                                                                  .smish_beta = 1.0,
                                                                  .ftswish_threshold = -0.2};

cumega_status activation_check(cumega_context *ctx, cumega_activation activation,
                               cumega_activation_arguments *a) {
  switch (activation) {
  case CUMEGA_ACTIVATION_IDENTITY:
  case CUMEGA_ACTIVATION_RELU:
  case CUMEGA_ACTIVATION_TANH:
  case CUMEGA_ACTIVATION_SELU:
  case CUMEGA_ACTIVATION_MISH: return CUMEGA_OK;
  case CUMEGA_ACTIVATION_SWISH: return object_check_finite(ctx, "swish_beta", a->swish_beta);
  case CUMEGA_ACTIVATION_LEAKY_RELU:
    return object_check_finite(ctx, "leakyrelu_neg_slope", a->leakyrelu_neg_slope);
  case CUMEGA_ACTIVATION_HARDTANH:
    TRY(object_check_finite(ctx, "hardtanh_min_val", a->hardtanh_min_val));
    TRY(object_check_finite(ctx, "hardtanh_max_val", a->hardtanh_max_val));
    if (a->hardtanh_min_val < a->hardtanh_max_val) return CUMEGA_OK;
    return call_fail_argument(
        ctx, "config.hardtanh_min_val is %g, expected less than hardtanh_max_val, %g",
        a->hardtanh_min_val, a->hardtanh_max_val);
  case CUMEGA_ACTIVATION_SMISH:
    TRY(object_check_finite(ctx, "smish_alpha", a->smish_alpha));
    TRY(object_check_finite(ctx, "smish_beta", a->smish_beta));
    if (a->smish_alpha <= 0) a->smish_alpha = 1;
    if (a->smish_beta <= 0) a->smish_beta = 1;
    return CUMEGA_OK;
  case CUMEGA_ACTIVATION_FTSWISH:
    TRY(object_check_finite(ctx, "ftswish_threshold", a->ftswish_threshold));
    TRY(object_check_finite(ctx, "ftswish_mean_shift", a->ftswish_mean_shift));
    if (a->ftswish_threshold < 0) return CUMEGA_OK;
    return call_fail_argument(ctx, "config.ftswish_threshold is %g, expected less than 0",
                              a->ftswish_threshold);
  }
  return call_fail_argument(ctx, "config.activation is %d, expected 0 to %d", (int)activation,
                            CUMEGA_ACTIVATION_FTSWISH);
}
