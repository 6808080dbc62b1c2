#include "position_oracle.h"

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

void oracle_rotation(int64_t m, int64_t k, int64_t pairs, oracle_wide *cosine, oracle_wide *sine) {
  const oracle_wide theta = oracle_exp(-(oracle_wide)k * log_of_10000() / (oracle_wide)pairs);
  const oracle_wide angle = (oracle_wide)m * theta;
  const int64_t n = nearest(angle / half_pi());
  const oracle_wide r = angle - (oracle_wide)n * half_pi();
  oracle_wide term = 1, c = 1, s = r, odd = r;
  for (int i = 1; i < 20; i++) {
    c += term *= -r * r / ((2 * i - 1) * (2 * i));
    s += odd *= -r * r / ((2 * i) * (2 * i + 1));
  }
  const int quadrant = (int)((n % 4 + 4) % 4);
  *cosine = quadrant == 0 ? c : quadrant == 1 ? -s : quadrant == 2 ? -c : s;
  *sine = quadrant == 0 ? s : quadrant == 1 ? c : quadrant == 2 ? -s : -c;
}

oracle_wide oracle_rotary(const double *alpha, const double *beta, int64_t size, int64_t m,
                          int64_t n) {
  const int64_t pairs = size / 2;
  oracle_wide sum = 0;
  for (int64_t k = 0; k < pairs; k++) {
    oracle_wide cm, sm, cn, sn;
    oracle_rotation(m, k, pairs, &cm, &sm);
    oracle_rotation(n, k, pairs, &cn, &sn);
    sum += (alpha[k] * cm - alpha[k + pairs] * sm) * (beta[k] * cn - beta[k + pairs] * sn);
    sum += (alpha[k + pairs] * cm + alpha[k] * sm) * (beta[k + pairs] * cn + beta[k] * sn);
  }
  return sum;
}

oracle_wide oracle_rotary_by_distance(const double *alpha, const double *beta, int64_t size,
                                      int64_t distance, double *magnitude) {
  const int64_t pairs = size / 2;
  oracle_wide sum = 0;
  *magnitude = 0;
  for (int64_t k = 0; k < pairs; k++) {
    oracle_wide c, s;
    const oracle_wide a1 = alpha[k], a2 = alpha[k + pairs], b1 = beta[k], b2 = beta[k + pairs];
    oracle_rotation(distance, k, pairs, &c, &s);
    const oracle_wide even = a1 * b1 + a2 * b2, odd = a1 * b2 - a2 * b1;
    sum += even * c + odd * s;
    const double products[] = {(double)(a1 * b1), (double)(a2 * b2), (double)(a1 * b2),
                               (double)(a2 * b1)};
    for (int i = 0; i < 4; i++) *magnitude += products[i] < 0 ? -products[i] : products[i];
  }
  return sum;
}
