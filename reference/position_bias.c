#include "reference/position_bias.h"

void reference_rotation(int64_t m, int64_t k, int64_t pairs, real *cosine, real *sine) {
  real theta = pow((real)10000, -(real)k / (real)pairs);
  *cosine = cos((real)m * theta);
  *sine = sin((real)m * theta);
}

/* Values k and k + pairs of a vector, rotated to position m. */
static void rotate(const double *vector, int64_t k, int64_t pairs, int64_t m, real rotated[2]) {
  real c, s;
  reference_rotation(m, k, pairs, &c, &s);
  rotated[0] = vector[k] * c - vector[k + pairs] * s;
  rotated[1] = vector[k + pairs] * c + vector[k] * s;
}

real reference_rotary_bias(const double *alpha, const double *beta, int64_t size, int64_t m,
                           int64_t n) {
  real sum = 0, a[2], b[2];
  for (int64_t k = 0; k < size / 2; k++) {
    rotate(alpha, k, size / 2, m, a);
    rotate(beta, k, size / 2, n, b);
    sum += a[0] * b[0] + a[1] * b[1];
  }
  return sum;
}

real reference_relative_bias(const double *weights, int64_t max_positions, int64_t m, int64_t n) {
  return weights[max_positions - 1 + n - m];
}

void reference_softmax(int64_t keys, const real *s, real *weights) {
  real most = s[0], sum = 0;
  for (int64_t n = 1; n < keys; n++)
    if (s[n] > most) most = s[n];
  for (int64_t n = 0; n < keys; n++) {
    weights[n] = s[n] == -(real)INFINITY ? 0 : exp(s[n] - most);
    sum += weights[n];
  }
  for (int64_t n = 0; sum > 0 && n < keys; n++) weights[n] /= sum;
}
