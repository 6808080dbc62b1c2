/* Residual connections and norms from their definitions (docs/residual.md). */
#ifndef REFERENCE_RESIDUAL_H
#define REFERENCE_RESIDUAL_H

#include <cumega/residual.h>
#include "reference/real.h"

/* The multipliers of x and y, for every kind but Highway. For Affine those without parameters. */
void reference_multipliers(const cumega_residual_config *config, real *alpha, real *beta);

/* x + sigmoid(gate) * (h - x) */
real reference_gated(real x, real gate, real h);

/* Output d of a layer with weight (D, D), a row per output channel, and bias (D). */
real reference_linear_layer(int64_t D, const double *weight, const double *bias, const double *in,
                            int64_t d);

/* Highway of x and Wy(y). gate is Wx(x). k is 1, or 1.732 with scaling_correction. */
real reference_highway(real k, real x, real gate, real Wy_y);

/* A connection of D channels. Parameters that its kind does not have are NULL, and so is Wy unless
 * elemwise. */
typedef struct reference_residual {
  const cumega_residual_config *config;
  const double *affine, *Wx_weight, *Wx_bias, *Wy_weight, *Wy_bias, *Wy;
} reference_residual;

/* Channel d of its sum. x and y are rows of D channels. */
real reference_connect(const reference_residual *residual, const double *x, const double *y,
                       int64_t d);

/* What a norm of D channels does to each of them: (v - mean) * factor * weight + bias. For
 * scale_norm the factor includes the scale. For basic_norm eps is the exponential of its
 * parameter. */
typedef struct reference_norm {
  cumega_norm_type type;
  int64_t D;
  double eps, scale;
  const double *weight, *bias; /* (D), or NULL: 1 and 0; weight is the scale of rms_norm */
} reference_norm;

void reference_norm_statistics(const reference_norm *norm, const double *v, real *mean,
                               real *factor);
real reference_norm_apply(const reference_norm *norm, const double *v, int64_t d, real mean,
                          real factor);

#endif
