/* exp, expm1, log, log1p, tanh, sin and cos of a double. They serve what is computed when an
 * object is made (coefficients, convolution kernels, rotary tables, random parameters) and float64
 * tensors. docs/arithmetic.md has the measured errors. elementary_f32.h explains the methods. */
#ifndef CUMEGA_SRC_MATH_ELEMENTARY_F64_H
#define CUMEGA_SRC_MATH_ELEMENTARY_F64_H

#include "math_attributes.h"

#define MATH_ROUNDER_F64 0x1.8p52
#define MATH_LOG2E_F64   0x1.71547652b82fep0
#define MATH_LN2_HI_F64  0x1.62e42fefa39efp-1
#define MATH_LN2_LO_F64  0x1.abc9e3b39803fp-56

typedef struct math_reduced_f64 {
  double r;
  uint64_t n_bits; /* the bits of n + 1.5 * 2^52 */
} math_reduced_f64;

CUMEGA_MATH math_reduced_f64 math_reduce_ln2_f64(double x) {
  math_reduced_f64 reduced;
  double shifted = MATH_FMA(x, MATH_LOG2E_F64, MATH_ROUNDER_F64);
  double n = shifted - MATH_ROUNDER_F64;
  double r = MATH_FMA(-n, MATH_LN2_HI_F64, x);
  reduced.r = MATH_FMA(-n, MATH_LN2_LO_F64, r);
  reduced.n_bits = math_bits_f64(shifted);
  return reduced;
}

CUMEGA_MATH double math_exp_polynomial_f64(double r) {
  double p = 0x1.ad93257f4b9cdp-26;
  p = MATH_FMA(p, r, 0x1.28ae058ff6f84p-22);
  p = MATH_FMA(p, r, 0x1.71df18d75b9ddp-19);
  p = MATH_FMA(p, r, 0x1.a0199956c1bccp-16);
  p = MATH_FMA(p, r, 0x1.a01a012ff3e99p-13);
  p = MATH_FMA(p, r, 0x1.6c16c18479738p-10);
  p = MATH_FMA(p, r, 0x1.1111111126b32p-7);
  p = MATH_FMA(p, r, 0x1.55555555506b5p-5);
  p = MATH_FMA(p, r, 0x1.55555555554fep-3);
  p = MATH_FMA(p, r, 0x1.000000000000ap-1);
  p = MATH_FMA(p, r, 1.0);
  return MATH_FMA(p, r, 1.0);
}

/* exp(710) is inf, exp(-746) is 0. */
CUMEGA_MATH double math_exp(double x) {
  math_reduced_f64 reduced = math_reduce_ln2_f64(math_clamp(x, -746.0, 710.0));
  double p = math_exp_polynomial_f64(reduced.r);
  uint64_t half = reduced.n_bits >> 1;
  uint64_t rest = reduced.n_bits - half;
  return p * math_f64_of((half << 52) + 0x3ff0000000000000u) *
         math_f64_of((rest << 52) + 0x3ff0000000000000u);
}

CUMEGA_MATH double math_expm1(double x) {
  math_reduced_f64 reduced = math_reduce_ln2_f64(math_clamp(x, -40.0, 710.0));
  double r = reduced.r;
  double p = 0x1.1f1a386be519ep-29;
  p = MATH_FMA(p, r, 0x1.af5f20fe6f77bp-26);
  p = MATH_FMA(p, r, 0x1.27e51335a4554p-22);
  p = MATH_FMA(p, r, 0x1.71ddf814ae753p-19);
  p = MATH_FMA(p, r, 0x1.a01a018e117dep-16);
  p = MATH_FMA(p, r, 0x1.a01a01b001f75p-13);
  p = MATH_FMA(p, r, 0x1.6c16c16c1aaf8p-10);
  p = MATH_FMA(p, r, 0x1.111111110f657p-7);
  p = MATH_FMA(p, r, 0x1.555555555554dp-5);
  p = MATH_FMA(p, r, 0x1.5555555555559p-3);
  p = MATH_FMA(p, r, 0.5);
  double half = math_f64_of((reduced.n_bits << 52) + 0x3fe0000000000000u);
  double linear = MATH_FMA(half, r, half - 0.5);
  double y = 2.0 * MATH_FMA(half * r * r, p, linear);
  return math_abs(x) < 0x1p-55 ? x : y;
}

/* Up to 0.55 an odd polynomial; above that 1 - 2 / (exp(2|x|) + 1). */
CUMEGA_MATH double math_tanh(double x) {
  double a = math_abs(x);
  double square = x * x;
  double p = -0x1.4709c2bd5502bp-16;
  p = MATH_FMA(p, square, 0x1.5d71385dfaa07p-14);
  p = MATH_FMA(p, square, -0x1.e96e9aaa7d034p-13);
  p = MATH_FMA(p, square, 0x1.34838ed8def4ap-11);
  p = MATH_FMA(p, square, -0x1.7d8fcf79b25dep-10);
  p = MATH_FMA(p, square, 0x1.d6d29b3a9be7ep-9);
  p = MATH_FMA(p, square, -0x1.226e2f11e98b2p-7);
  p = MATH_FMA(p, square, 0x1.664f4859598d1p-6);
  p = MATH_FMA(p, square, -0x1.ba1ba1b97d0ep-5);
  p = MATH_FMA(p, square, 0x1.1111111110794p-3);
  p = MATH_FMA(p, square, -0x1.555555555554fp-2);
  double near_zero = MATH_FMA(p * square, a, a);
  double beyond = 1.0 - 2.0 / (math_exp(2.0 * a) + 1.0);
  double y = a < 0.55 ? near_zero : beyond;
  return x != x ? x : math_with_sign(y, x);
}

/* k * ln2 + log(1 + f) for f in [-0.25, 0.5]. With s = f / (2 + f), log(1 + f) is 2 atanh(s). It
 * is computed as f - f^2/2 + s (f^2/2 + R(s)), whose leading term is f itself. */
CUMEGA_MATH double math_log_sum_f64(double f, double k) {
  double s = f / (2.0 + f);
  double z = s * s;
  double p = 0x1.1b75928799d54p-3;
  p = MATH_FMA(p, z, 0x1.0dcd50a6c0f7cp-3);
  p = MATH_FMA(p, z, 0x1.3b35a76777094p-3);
  p = MATH_FMA(p, z, 0x1.745c4b977115fp-3);
  p = MATH_FMA(p, z, 0x1.c71c748ce6f3fp-3);
  p = MATH_FMA(p, z, 0x1.24924921e6fe5p-2);
  p = MATH_FMA(p, z, 0x1.999999999c15bp-2);
  p = MATH_FMA(p, z, 0x1.555555555554fp-1);
  double half_square = 0.5 * f * f;
  double small = MATH_FMA(s, MATH_FMA(z, p, half_square), k * MATH_LN2_LO_F64);
  return MATH_FMA(k, MATH_LN2_HI_F64, f - (half_square - small));
}

/* k << 52 for the k with which x > 0 is in [0.75, 1.5) * 2^k. */
CUMEGA_MATH uint64_t math_nearest_order_f64(double x) {
  return (math_bits_f64(x) - 0x3fe8000000000000u) & 0xfff0000000000000u;
}

/* The same k as a double, through the low bits of a sum: before AVX-512, x86 can neither convert
 * vectors of 64-bit integers nor shift them arithmetically. */
CUMEGA_MATH double math_order_value_f64(uint64_t order) {
  uint64_t k_plus_1024 = (order + 0x4000000000000000u) >> 52;
  return math_f64_of(k_plus_1024 + 0x4338000000000000u) - (MATH_ROUNDER_F64 + 1024.0);
}

/* -inf for x at the pole (0 or -1), NaN below it, x for +inf and NaN, else y. */
CUMEGA_MATH double math_log_special_f64(double x, double pole, double y) {
  y = x > pole ? y : math_f64_of(0xfff0000000000000u);
  y = x < pole ? math_f64_of(0x7ff8000000000000u) : y;
  y = x == math_f64_of(0x7ff0000000000000u) ? x : y;
  return x != x ? x : y;
}

CUMEGA_MATH double math_log(double x) {
  int subnormal = x < 0x1p-1022;
  double normal = subnormal ? x * 0x1p54 : x;
  uint64_t order = math_nearest_order_f64(normal);
  double f = math_f64_of(math_bits_f64(normal) - order) - 1.0;
  double k = math_order_value_f64(order);
  return math_log_special_f64(x, 0.0, math_log_sum_f64(f, subnormal ? k - 54.0 : k));
}

CUMEGA_MATH double math_log1p(double x) {
  uint64_t order = math_nearest_order_f64(1.0 + x);
  double scaled = math_f64_of(math_bits_f64(x) - order);
  double quarter = math_f64_of(0x4010000000000000u - order); /* 4 * 2^-k, normal up to k = 1024 */
  double f = scaled + MATH_FMA(0.25, quarter, -1.0);
  double y = math_log_sum_f64(f, math_order_value_f64(order));
  y = math_abs(x) < 0x1p-55 ? x : y;
  return math_log_special_f64(x, -1.0, y);
}

/* x = n * pi/2 + r + tail with |r| <= 0.79. pi/2 is the sum of three doubles. Subtracting n times
 * the first is exact (by fma, since all numbers involved are multiples of 2^-53). The second is
 * subtracted as an exact product and an exact difference. What those round off goes into the tail,
 * together with the third. */
typedef struct math_reduced_angle {
  double r, tail;
  uint64_t n_bits;
} math_reduced_angle;

CUMEGA_MATH math_reduced_angle math_reduce_angle(double x) {
  math_reduced_angle reduced;
  double shifted = MATH_FMA(x, 0x1.45f306dc9c883p-1, MATH_ROUNDER_F64);
  double n = shifted - MATH_ROUNDER_F64;
  double coarse = MATH_FMA(-n, 0x1.921fb54442d18p0, x);
  double fine = n * 0x1.1a62633145c07p-54;
  double fine_lost = MATH_FMA(n, 0x1.1a62633145c07p-54, -fine);
  double r = coarse - fine;
  double fine_taken = coarse - r;
  double difference_lost = (coarse - (r + fine_taken)) + (fine_taken - fine);
  reduced.r = r;
  reduced.tail = MATH_FMA(-n, -0x1.f1976b7ed8fbcp-110, difference_lost - fine_lost);
  reduced.n_bits = math_bits_f64(shifted);
  return reduced;
}

/* sin and cos of r + tail. */
CUMEGA_MATH double math_sin_polynomial(double r, double tail) {
  double z = r * r;
  double p = 0x1.5d8e4234a0054p-33;
  p = MATH_FMA(p, z, -0x1.ae5e549c421c3p-26);
  p = MATH_FMA(p, z, 0x1.71de355f3628cp-19);
  p = MATH_FMA(p, z, -0x1.a01a019bf2523p-13);
  p = MATH_FMA(p, z, 0x1.111111110f75ep-7);
  p = MATH_FMA(p, z, -0x1.5555555555548p-3);
  double slope = MATH_FMA(-0.5, z, 1.0); /* cos r, exact enough for the tail */
  return r + MATH_FMA(p * z, r, tail * slope);
}

CUMEGA_MATH double math_cos_polynomial(double r, double tail) {
  double z = r * r;
  double p = -0x1.8fb13e95259f1p-37;
  p = MATH_FMA(p, z, 0x1.1ee9f1714b281p-29);
  p = MATH_FMA(p, z, -0x1.27e4f812e7a89p-22);
  p = MATH_FMA(p, z, 0x1.a01a019cbfa52p-16);
  p = MATH_FMA(p, z, -0x1.6c16c16c15221p-10);
  p = MATH_FMA(p, z, 0x1.555555555554cp-5);
  double head = MATH_FMA(-0.5, z, 1.0);
  double lost = MATH_FMA(-0.5, z, 1.0 - head); /* what rounding the head dropped */
  return head + (lost + MATH_FMA(p * z, z, -r * tail));
}

/* Quadrant q of the circle: sin, cos, -sin, -cos. Beyond 2^30 in magnitude the result is NaN. */
CUMEGA_MATH double math_quadrant(double x, uint64_t extra_quarters) {
  math_reduced_angle reduced = math_reduce_angle(x);
  uint64_t quadrant = reduced.n_bits + extra_quarters;
  double sine = math_sin_polynomial(reduced.r, reduced.tail);
  double cosine = math_cos_polynomial(reduced.r, reduced.tail);
  double y = (quadrant & 1u) != 0 ? cosine : sine;
  y = math_f64_of(math_bits_f64(y) ^ ((quadrant & 2u) << 62));
  return math_abs(x) <= 0x1p30 ? y : math_f64_of(0x7ff8000000000000u);
}

CUMEGA_MATH double math_sin(double x) {
  double y = math_quadrant(x, 0);
  return math_abs(x) < 0x1p-27 ? x : y; /* keeps -0 */
}

CUMEGA_MATH double math_cos(double x) {
  return math_quadrant(x, 1);
}

#endif
