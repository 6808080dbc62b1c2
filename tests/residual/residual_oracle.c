#include "residual_oracle.h"

oracle_value oracle_linear(real alpha, real x, real beta, real y, real u) {
  return (oracle_value){alpha * x + beta * y, 4 * u * (fabs(alpha * x) + fabs(beta * y))};
}

oracle_value oracle_gated(real x, real gate, real h, real u) {
  return (oracle_value){reference_gated(x, gate, h), 8 * u * (fabs(x) + fabs(h - x))};
}

/* A sum of D products with a bias: each term has at most D + 2 roundings, and 2 in its factors. */
static oracle_value linear_layer(const double *weight, const double *bias, const double *in,
                                 int64_t D, int64_t d, real u) {
  real sizes = fabs((real)bias[d]);
  for (int64_t i = 0; i < D; i++) sizes += fabs((real)weight[d * D + i] * in[i]);
  return (oracle_value){reference_linear_layer(D, weight, bias, in, d), (real)(D + 4) * u * sizes};
}

oracle_value oracle_highway_at(const oracle_highway *h, const double *x, const double *y,
                               int64_t d, real u) {
  const oracle_value gate = linear_layer(h->Wx_weight, h->Wx_bias, x, h->D, d, u);
  oracle_value inner = {0, 0};
  if (h->Wy != NULL) {
    inner.exact = (real)h->Wy[d] * y[d];
    inner.bound = 2 * u * fabs(inner.exact);
  } else {
    inner = linear_layer(h->Wy_weight, h->Wy_bias, y, h->D, d, u);
  }
  /* The sigmoid's slope is at most 1/4; its own error and that of the rest is 4 roundings. */
  const real through = (gate.bound + inner.bound) / 4 + 4 * u;
  const real sizes = h->k * fabs((real)x[d]) + fabs(inner.exact) + inner.bound;
  return (oracle_value){reference_highway(h->k, x[d], gate.exact, inner.exact),
                        sizes * (through + 4 * u) + inner.bound};
}

/* Sums by halves: a term has at most log2(D) + 1 roundings, and one for each group of 4,096. */
static real roundings_of_sum(int64_t D) {
  return ceil(log2((real)D)) + 1 + (real)(D / 4096);
}

/* The mean has an error of its roundings times the mean magnitude. The sum of squares has only
 * its own relative error, since the mean's error enters squared. The factor has half of that and
 * a few roundings. Then comes (v - mean) * factor * weight + bias. */
oracle_value oracle_norm_at(const reference_norm *norm, const double *v, int64_t d, real u) {
  const real rounds = roundings_of_sum(norm->D);
  const real weight = norm->weight != NULL ? norm->weight[d] : 1;
  const real bias = norm->bias != NULL ? norm->bias[d] : 0;
  real mean, factor, size = 0;
  reference_norm_statistics(norm, v, &mean, &factor);
  for (int64_t i = 0; norm->type == CUMEGA_NORM_LAYER && i < norm->D; i++)
    size += fabs((real)v[i]) / (real)norm->D;
  const real exact = reference_norm_apply(norm, v, d, mean, factor);
  const real off = (rounds + 2) * u * size; /* of the mean */
  return (oracle_value){exact, fabs(exact - bias) * (rounds / 2 + 10) * u +
                                   fabs(factor * weight) * off + 2 * u * fabs(bias)};
}
