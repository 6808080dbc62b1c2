#include "position_oracle.h"
#include <math.h>

/* Constants as sums of doubles, each exact. */
static oracle_wide half_pi(void) {
  return (oracle_wide)0x1.921fb54442d18p+0 + 0x1.1a62633145c07p-54 - 0x1.f1976b7ed8fbcp-110;
}
static oracle_wide log_of_2(void) {
  return (oracle_wide)0x1.62e42fefa39efp-1 + 0x1.abc9e3b39803fp-56 + 0x1.7b57a079a1934p-111;
}
static oracle_wide log_of_10000(void) {
  return (oracle_wide)0x1.26bb1bbb55516p+3 - 0x1.f48ad494ea3e9p-51 - 0x1.9ebae3ae0260cp-105;
}

/* x = n * unit + r, |r| <= unit / 2 */
static int64_t nearest(oracle_wide x) {
  return (int64_t)(x < 0 ? x - (oracle_wide)0.5 : x + (oracle_wide)0.5);
}

oracle_wide oracle_exp(oracle_wide x) {
  if (x < -12000) return 0;
  const int64_t n = nearest(x / log_of_2());
  const oracle_wide r = x - (oracle_wide)n * log_of_2();
  oracle_wide term = 1, sum = 1;
  for (int i = 1; i < 40; i++) sum += term *= r / i;
  for (int64_t i = 0; i < n; i++) sum *= 2;
  for (int64_t i = 0; i > n; i--) sum /= 2;
  return sum;
}

/* sin(angle + turns * pi / 2) by the series of cosine or sine around the nearest quarter turn. */
static oracle_wide sine_of(oracle_wide angle, int turns) {
  const int64_t n = nearest(angle / half_pi());
  const oracle_wide r = angle - (oracle_wide)n * half_pi();
  const int quadrant = (int)(((n + turns) % 4 + 4) % 4), odd = quadrant % 2 == 0;
  oracle_wide term = odd ? r : 1, sum = term;
  for (int i = 1; i < 20; i++) sum += term *= -r * r / ((2 * i - 1 + odd) * (2 * i + odd));
  return quadrant < 2 ? sum : -sum;
}

double oracle_rotary_magnitude(const double *alpha, const double *beta, int64_t size) {
  const int64_t pairs = size / 2;
  double sum = 0;
  for (int64_t k = 0; k < size; k++) sum += fabs(alpha[k] * beta[k]);
  for (int64_t k = 0; k < pairs; k++)
    sum += fabs(alpha[k] * beta[k + pairs]) + fabs(alpha[k + pairs] * beta[k]);
  return sum;
}

/* The reference's names in this precision. The base of its powers is always 10000. */
#define REFERENCE_REAL_H
#define real                    oracle_wide
#define exp(x)                  oracle_exp(x)
#define pow(base, x)            oracle_exp((x)*log_of_10000())
#define cos(angle)              sine_of(angle, 1)
#define sin(angle)              sine_of(angle, 0)
#define reference_rotation      oracle_rotation
#define reference_rotary_bias   oracle_rotary_bias
#define reference_relative_bias oracle_relative_bias
#define reference_softmax       oracle_softmax
#include "reference/position_bias.c"
