/* Position biases and the softmax of attention scores from their definitions
 * (docs/position_bias.md): angles are plain products, and sums are in order of index. */
#ifndef REFERENCE_POSITION_BIAS_H
#define REFERENCE_POSITION_BIAS_H

#include <stdint.h>
#include "reference/real.h"

/* cos and sin of m * theta_k, theta_k = 10000^(-k / pairs). */
void reference_rotation(int64_t m, int64_t k, int64_t pairs, real *cosine, real *sine);

/* bias[m, n] as ESPnet defines it: the inner product of alpha (size), rotated to position m, and
 * beta (size), rotated to position n. */
real reference_rotary_bias(const double *alpha, const double *beta, int64_t size, int64_t m,
                           int64_t n);

/* bias[m, n] for weights of (2 * max_positions - 1). */
real reference_relative_bias(const double *weights, int64_t max_positions, int64_t m, int64_t n);

/* A row of weights: exp(s - max s) divided by their sum. A key whose s is -inf has weight 0. If
 * all are -inf, all weights are 0. */
void reference_softmax(int64_t keys, const real *s, real *weights);

#endif
