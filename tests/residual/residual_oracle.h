/* Residual connections and norms from their definitions, in long double with the C library: no
 * formula or order of the library's own. Each gives the exact value and the bound of a result that
 * rounds to type dtype at the end, u = 2^-24 (2^-53 for float64) being the rounding of the
 * arithmetic inside. */
#ifndef CUMEGA_TESTS_ORACLE_RESIDUAL_ORACLE_H
#define CUMEGA_TESTS_ORACLE_RESIDUAL_ORACLE_H

#include <cumega/residual.h>

typedef struct oracle_value {
  long double exact, bound; /* the bound is without the last rounding */
} oracle_value;

/* alpha and beta of DecayResidual, and beta of Affine before it has parameters. */
long double oracle_decay_beta(const cumega_residual_config *config);
long double oracle_decay_alpha(const cumega_residual_config *config);
long double oracle_affine_beta(const cumega_residual_config *config);

/* alpha * x + beta * y: alpha and beta are rounded once, then a product and an fma. */
oracle_value oracle_linear(long double alpha, long double x, long double beta, long double y,
                           long double u);

/* x + sigmoid(gate) * (h - x): the sigmoid has at most 4 roundings, the difference and the fma one.
 */
oracle_value oracle_gated(long double x, long double gate, long double h, long double u);

/* A row of Highway: sums of D products in any order. Wy (D) where elemwise, else Wy_weight and
 * Wy_bias. */
typedef struct oracle_highway {
  int64_t D;
  const double *Wx_weight, *Wx_bias, *Wy_weight, *Wy_bias, *Wy;
  long double k;
} oracle_highway;
oracle_value oracle_highway_at(const oracle_highway *h, const double *x, const double *y, int64_t d,
                               long double u);

/* Channel d of the normalisation of v, which is exact. */
typedef struct oracle_norm {
  cumega_norm_type type;
  int64_t D;
  double eps, scale;           /* basic_norm: eps is the exponential of its parameter */
  const double *weight, *bias; /* (D); rms_norm: weight is its scale */
} oracle_norm;
oracle_value oracle_norm_at(const oracle_norm *n, const double *v, int64_t d, long double u);

#endif
