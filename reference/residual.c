#include "reference/residual.h"

void reference_multipliers(const cumega_residual_config *config, real *alpha, real *beta) {
  *alpha = config->alpha;
  *beta = config->beta;
  switch (config->kind) {
  case CUMEGA_RESIDUAL_RESIDUAL: break;
  case CUMEGA_RESIDUAL_FEEDFORWARD: *alpha = 0, *beta = 1; break;
  case CUMEGA_RESIDUAL_AFFINE: *beta *= pow((real)config->i_layer, -(real)config->gamma); break;
  case CUMEGA_RESIDUAL_DECAY:
    *beta = pow((real)config->i_layer, -(real)config->power);
    *alpha = config->l2 ? sqrt(1 - *beta * *beta) : 1 - *beta;
    break;
  case CUMEGA_RESIDUAL_HIGHWAY:
  default: *alpha = *beta = NAN; break; /* the kind has none */
  }
}

static real sigmoid(real v) {
  return 1 / (1 + exp(-v));
}

real reference_gated(real x, real gate, real h) {
  return x + sigmoid(gate) * (h - x);
}

real reference_linear_layer(int64_t D, const double *weight, const double *bias, const double *in,
                            int64_t d) {
  real sum = bias[d];
  for (int64_t i = 0; i < D; i++) sum += (real)weight[d * D + i] * in[i];
  return sum;
}

real reference_highway(real k, real x, real gate, real Wy_y) {
  real r = sigmoid(gate + Wy_y);
  return k * (1 - r) * x + r * Wy_y;
}

real reference_connect(const reference_residual *residual, const double *x, const double *y,
                       int64_t d) {
  const cumega_residual_config *config = residual->config;
  const int64_t D = config->d_model;
  real alpha, beta;
  if (config->kind == CUMEGA_RESIDUAL_HIGHWAY) {
    real gate = reference_linear_layer(D, residual->Wx_weight, residual->Wx_bias, x, d);
    real Wy_y = config->elemwise
                    ? (real)residual->Wy[d] * y[d]
                    : reference_linear_layer(D, residual->Wy_weight, residual->Wy_bias, y, d);
    return reference_highway(config->scaling_correction ? 1.732L : 1, x[d], gate, Wy_y);
  }
  reference_multipliers(config, &alpha, &beta);
  if (residual->affine != NULL) beta = residual->affine[config->scalar ? 0 : d];
  return alpha * x[d] + beta * y[d];
}

void reference_norm_statistics(const reference_norm *norm, const double *v, real *mean,
                               real *factor) {
  real D = norm->D, squares = 0;
  *mean = 0;
  for (int64_t i = 0; norm->type == CUMEGA_NORM_LAYER && i < norm->D; i++) *mean += v[i] / D;
  for (int64_t i = 0; i < norm->D; i++) squares += (v[i] - *mean) * (v[i] - *mean);
  switch (norm->type) {
  case CUMEGA_NORM_LAYER:
  case CUMEGA_NORM_BASIC: *factor = 1 / sqrt(squares / D + norm->eps); break;
  case CUMEGA_NORM_RMS: *factor = 1 / (sqrt(squares / D) + norm->eps); break;
  case CUMEGA_NORM_SCALE: *factor = norm->scale / fmax(sqrt(squares), norm->eps); break;
  default: *factor = NAN; break; /* there is no such norm */
  }
}

real reference_norm_apply(const reference_norm *norm, const double *v, int64_t d, real mean,
                          real factor) {
  real weight = norm->weight != NULL ? norm->weight[d] : 1;
  real bias = norm->bias != NULL ? norm->bias[d] : 0;
  return (v[d] - mean) * factor * weight + bias;
}
