/* The results of reference/residual.c, each with a bound for a result that is rounded to its type
 * at the end. u = 2^-24 (2^-53 for float64) is the rounding of the arithmetic inside. */
#ifndef CUMEGA_TESTS_ORACLE_RESIDUAL_ORACLE_H
#define CUMEGA_TESTS_ORACLE_RESIDUAL_ORACLE_H

#include "reference/residual.h"

typedef struct oracle_value {
  real exact, bound; /* the bound does not include the last rounding */
} oracle_value;

/* alpha * x + beta * y: alpha and beta are rounded once each, then a product and an fma. */
oracle_value oracle_linear(real alpha, real x, real beta, real y, real u);

/* x + sigmoid(gate) * (h - x): the sigmoid has at most 4 roundings, the difference and the fma
 * one each. */
oracle_value oracle_gated(real x, real gate, real h, real u);

/* A row of Highway: sums of D products in any order. Takes Wy (D) if elementwise, else Wy_weight
 * and Wy_bias. */
typedef struct oracle_highway {
  int64_t D;
  const double *Wx_weight, *Wx_bias, *Wy_weight, *Wy_bias, *Wy;
  real k;
} oracle_highway;
oracle_value oracle_highway_at(const oracle_highway *h, const double *x, const double *y,
                               int64_t d, real u);

/* Channel d of the norm of v, where v is exact. */
oracle_value oracle_norm_at(const reference_norm *norm, const double *v, int64_t d, real u);

#endif
