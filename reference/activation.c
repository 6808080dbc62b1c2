#include <stdlib.h>
#include "reference/ema.h"

static real sigmoid(real v) {
  return 1 / (1 + exp(-v));
}

static real swish(real z) {
  return z * sigmoid(z);
}

/* Klambauer et al., "Self-Normalizing Neural Networks" (2017). */
static real selu(real z) {
  const real alpha = 1.67326324235437728481704299167L;
  const real scale = 1.05070098735548049341933498529L;
  return z > 0 ? scale * z : scale * alpha * expm1(z);
}

static real smish(const cumega_activation_arguments *a, real z) {
  real alpha = a->smish_alpha > 0 ? a->smish_alpha : 1;
  real beta = a->smish_beta > 0 ? a->smish_beta : 1;
  return alpha * z * tanh(log1p(sigmoid(beta * z)));
}

static real ftswish(const cumega_activation_arguments *a, real z) {
  real v = swish(z) + a->ftswish_threshold;
  return (v >= 0 ? v : (real)a->ftswish_threshold) - a->ftswish_mean_shift;
}

static real hardtanh(const cumega_activation_arguments *a, real z) {
  if (z < a->hardtanh_min_val) return a->hardtanh_min_val;
  return z > a->hardtanh_max_val ? a->hardtanh_max_val : z;
}

real reference_activation(const cumega_ema_config *config, real z) {
  const cumega_activation_arguments *a = &config->activation_arguments;
  switch (config->activation) {
  case CUMEGA_ACTIVATION_IDENTITY: return z;
  case CUMEGA_ACTIVATION_RELU: return z < 0 ? 0 : z;
  case CUMEGA_ACTIVATION_SWISH: return (a->swish_beta > 1 ? a->swish_beta : 1) * swish(z);
  case CUMEGA_ACTIVATION_TANH: return tanh(z);
  case CUMEGA_ACTIVATION_LEAKY_RELU: return z < 0 ? a->leakyrelu_neg_slope * z : z;
  case CUMEGA_ACTIVATION_HARDTANH: return hardtanh(a, z);
  case CUMEGA_ACTIVATION_SELU: return selu(z);
  case CUMEGA_ACTIVATION_MISH: return z * tanh(log1p(exp(z)));
  case CUMEGA_ACTIVATION_SMISH: return smish(a, z);
  case CUMEGA_ACTIVATION_FTSWISH: return ftswish(a, z);
  default: abort(); /* the library has accepted it, so it is one of these */
  }
}
