/* cos and sin of m * theta for integers m up to 2^50, as exact as those of a small angle. theta is
 * given in quarter turns per step, as two doubles, so one rounding to an integer removes the whole
 * turns of m * theta and the remainder keeps full precision. docs/arithmetic.md has the measured
 * errors. */
#ifndef CUMEGA_SRC_MATH_ROTATION_H
#define CUMEGA_SRC_MATH_ROTATION_H

#include "elementary_f64.h"

/* hi + lo, with |lo| at most half a unit in hi's last place. */
typedef struct math_two {
  double hi, lo;
} math_two;

/* a + b and a * b, exactly. */
CUMEGA_MATH math_two math_two_sum(double a, double b) {
  math_two sum;
  sum.hi = a + b;
  double b_taken = sum.hi - a;
  sum.lo = (a - (sum.hi - b_taken)) + (b - b_taken);
  return sum;
}

CUMEGA_MATH math_two math_two_product(double a, double b) {
  math_two product;
  product.hi = a * b;
  product.lo = MATH_FMA(a, b, -product.hi);
  return product;
}

/* a + b with a relative error of about 2^-103. */
CUMEGA_MATH math_two math_two_add(math_two a, math_two b) {
  math_two sum = math_two_sum(a.hi, b.hi);
  math_two rest = math_two_sum(a.lo, b.lo);
  sum = math_two_sum(sum.hi, sum.lo + rest.hi);
  return math_two_sum(sum.hi, sum.lo + rest.lo);
}

CUMEGA_MATH math_two math_two_multiply(math_two a, math_two b) {
  math_two product = math_two_product(a.hi, b.hi);
  double rest = MATH_FMA(a.hi, b.lo, a.lo * b.hi);
  return math_two_sum(product.hi, product.lo + rest);
}

CUMEGA_MATH math_two math_two_divide(math_two a, double b) {
  double first = a.hi / b;
  math_two taken = math_two_product(first, b);
  double rest = (a.hi - taken.hi) - taken.lo + a.lo;
  return math_two_sum(first, rest / b);
}

/* exp(x) for -700 <= x <= 0 with a relative error of about 2^-90: exp(r / 512) - 1 by Taylor's
 * series with |r| <= 0.35, squared nine times. */
CUMEGA_MATH math_two math_two_exp(math_two x) {
  double n = (x.hi * MATH_LOG2E_F64 + MATH_ROUNDER_F64) - MATH_ROUNDER_F64;
  math_two r = math_two_add(x, math_two_product(-n, MATH_LN2_HI_F64));
  r = math_two_add(r, math_two_product(-n, MATH_LN2_LO_F64));
  r.hi *= 0x1p-9;
  r.lo *= 0x1p-9;
  const math_two one = {1.0, 0.0};
  math_two p = one;
  for (int i = 10; i >= 2; --i)
    p = math_two_add(one, math_two_divide(math_two_multiply(r, p), (double)i));
  math_two y = math_two_multiply(r, p);
  for (int i = 0; i < 9; ++i) {
    math_two square = math_two_multiply(y, y);
    y.hi *= 2.0;
    y.lo *= 2.0;
    y = math_two_add(y, square);
  }
  y = math_two_add(one, y);
  double scale = math_f64_of((uint64_t)((int64_t)n + 1023) << 52);
  y.hi *= scale;
  y.lo *= scale;
  return y;
}

/* Quarter turns per step of theta = 10000^(-k / pairs): theta * 2 / pi. */
CUMEGA_MATH math_two math_rotary_quarters(int64_t k, int64_t pairs) {
  const math_two minus_log = {-0x1.26bb1bbb55516p+3, 0x1.f48ad494ea3e9p-51}; /* -ln(10000) */
  const math_two quarters = {0x1.45f306dc9c883p-1, -0x1.6b01ec5417056p-55};  /* 2 / pi */
  const math_two factor = {(double)k, 0.0};
  math_two x = math_two_divide(math_two_multiply(minus_log, factor), (double)pairs);
  return math_two_multiply(math_two_exp(x), quarters);
}

typedef struct math_rotation {
  double cosine, sine;
} math_rotation;

/* theta is quarters + quarters_lo, in quarter turns. m * quarters must be below 2^51. */
CUMEGA_MATH math_rotation math_rotate(double m, double quarters, double quarters_lo) {
  double whole = m * quarters;
  double shifted = whole + MATH_ROUNDER_F64;
  double nearest = shifted - MATH_ROUNDER_F64;
  double lost = MATH_FMA(m, quarters, -whole);
  math_two rest = math_two_sum(whole - nearest, MATH_FMA(m, quarters_lo, lost));
  double r = rest.hi * 0x1.921fb54442d18p0;
  double tail = MATH_FMA(rest.hi, 0x1.921fb54442d18p0, -r);
  tail += MATH_FMA(rest.hi, 0x1.1a62633145c07p-54, rest.lo * 0x1.921fb54442d18p0);
  double sine = math_sin_polynomial(r, tail);
  double cosine = math_cos_polynomial(r, tail);
  uint64_t quadrant = math_bits_f64(shifted);
  math_rotation out;
  out.cosine = (quadrant & 1u) != 0 ? sine : cosine;
  out.sine = (quadrant & 1u) != 0 ? cosine : sine;
  out.cosine = math_f64_of(math_bits_f64(out.cosine) ^ (((quadrant + 1u) & 2u) << 62));
  out.sine = math_f64_of(math_bits_f64(out.sine) ^ ((quadrant & 2u) << 62));
  return out;
}

#endif
