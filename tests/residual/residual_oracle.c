#include "residual_oracle.h"
#include <math.h>

long double oracle_decay_beta(const cumega_residual_config *c) {
  return powl((long double)c->i_layer, -(long double)c->power);
}

long double oracle_decay_alpha(const cumega_residual_config *c) {
  const long double beta = oracle_decay_beta(c);
  return c->l2 ? sqrtl(1 - beta * beta) : 1 - beta;
}

long double oracle_affine_beta(const cumega_residual_config *c) {
  return c->beta * powl((long double)c->i_layer, -(long double)c->gamma);
}

oracle_value oracle_linear(long double alpha, long double x, long double beta, long double y,
                           long double u) {
  return (oracle_value){alpha * x + beta * y, 4 * u * (fabsl(alpha * x) + fabsl(beta * y))};
}

static long double sigmoid(long double v) {
  return 1 / (1 + expl(-v));
}

oracle_value oracle_gated(long double x, long double gate, long double h, long double u) {
  return (oracle_value){x + sigmoid(gate) * (h - x), 8 * u * (fabsl(x) + fabsl(h - x))};
}

/* A sum of D products with a bias: each term meets at most D + 2 roundings, and 2 of its factors.
 */
static oracle_value linear_layer(const double *weight, const double *bias, const double *in,
                                 int64_t D, int64_t d, long double u) {
  long double sum = bias[d], sizes = fabsl((long double)bias[d]);
  for (int64_t i = 0; i < D; i++) {
    const long double term = (long double)weight[d * D + i] * in[i];
    sum += term;
    sizes += fabsl(term);
  }
  return (oracle_value){sum, (long double)(D + 4) * u * sizes};
}

oracle_value oracle_highway_at(const oracle_highway *h, const double *x, const double *y, int64_t d,
                               long double u) {
  const oracle_value gate = linear_layer(h->Wx_weight, h->Wx_bias, x, h->D, d, u);
  oracle_value inner = {0, 0};
  if (h->Wy != NULL) {
    inner.exact = (long double)h->Wy[d] * y[d];
    inner.bound = 2 * u * fabsl(inner.exact);
  } else {
    inner = linear_layer(h->Wy_weight, h->Wy_bias, y, h->D, d, u);
  }
  /* The sigmoid's slope is at most 1/4; its own error and that of what follows is 4 roundings. */
  const long double r = sigmoid(gate.exact + inner.exact);
  const long double through = (gate.bound + inner.bound) / 4 + 4 * u;
  const long double sizes = h->k * fabsl((long double)x[d]) + fabsl(inner.exact) + inner.bound;
  return (oracle_value){h->k * (1 - r) * x[d] + r * inner.exact,
                        sizes * (through + 4 * u) + inner.bound};
}

/* Sums by halves: a term meets at most log2(D) + 1 roundings, and one for each group of 4,096. */
static long double roundings_of_sum(int64_t D) {
  return ceill(log2l((long double)D)) + 1 + (long double)(D / 4096);
}

/* The mean is off by its roundings of the mean size; the sum of squares by its own, relatively, for
 * the mean's error enters squared; the factor by half of that and a few; then (v - mean) * r *
 * weight + bias. */
oracle_value oracle_norm_at(const oracle_norm *n, const double *v, int64_t d, long double u) {
  const int is_layer = n->type == CUMEGA_NORM_LAYER;
  const long double D = (long double)n->D, rounds = roundings_of_sum(n->D);
  long double mean = 0, size = 0, squares = 0, factor;
  for (int64_t i = 0; i < n->D; i++) mean += v[i] / D, size += fabsl((long double)v[i]) / D;
  if (!is_layer) mean = size = 0;
  for (int64_t i = 0; i < n->D; i++) squares += (v[i] - mean) * (v[i] - mean);
  switch (n->type) {
  case CUMEGA_NORM_RMS: factor = 1 / (sqrtl(squares / D) + n->eps); break;
  case CUMEGA_NORM_SCALE: factor = n->scale / fmaxl(sqrtl(squares), n->eps); break;
  default: factor = 1 / sqrtl(squares / D + n->eps); break;
  }
  const long double weight = n->weight != NULL ? n->weight[d] : 1;
  const long double bias = n->bias != NULL ? n->bias[d] : 0;
  const long double product = (v[d] - mean) * factor * weight;
  const long double off = (rounds + 2) * u * size; /* of the mean */
  return (oracle_value){product + bias, fabsl(product) * (rounds / 2 + 10) * u +
                                            fabsl(factor * weight) * off + 2 * u * fabsl(bias)};
}
