/* exp, expm1, tanh and log1p of a float, in float arithmetic. docs/arithmetic.md has the measured
 * errors (over all 2^32 inputs) and how the polynomials were made.
 *
 * A number is rounded to an integer n by adding 1.5 * 2^23. The low bits of the sum then hold n in
 * two's complement. Shifted into the place of the exponent, its eight lowest bits scale by 2^n. */
#ifndef CUMEGA_SRC_MATH_ELEMENTARY_F32_H
#define CUMEGA_SRC_MATH_ELEMENTARY_F32_H

#include "math_attributes.h"

#define MATH_ROUNDER_F32 0x1.8p23f
#define MATH_LOG2E_F32   0x1.715476p0f
#define MATH_LN2_HI_F32  0x1.62e43p-1f
#define MATH_LN2_LO_F32  -0x1.05c61p-29f

/* x = n * ln2 + r with |r| <= 0.35, for |x| <= 128. n_bits holds the bits of n + 1.5 * 2^23. The
 * first subtraction is exact, so r has only one rounding. */
typedef struct math_reduced_f32 {
  float r;
  uint32_t n_bits;
} math_reduced_f32;

CUMEGA_MATH math_reduced_f32 math_reduce_ln2_f32(float x) {
  math_reduced_f32 reduced;
  float shifted = MATH_FMAF(x, MATH_LOG2E_F32, MATH_ROUNDER_F32);
  float n = shifted - MATH_ROUNDER_F32;
  float r = MATH_FMAF(-n, MATH_LN2_HI_F32, x);
  reduced.r = MATH_FMAF(-n, MATH_LN2_LO_F32, r);
  reduced.n_bits = math_bits_f32(shifted);
  return reduced;
}

/* exp(r) / 2 for |r| <= 0.35, within 2^-28 before rounding. Half of exp(r), so that even the
 * largest exp(x) can be made by adding to the exponent, and a power of two is left over. */
CUMEGA_MATH float math_half_exp_polynomial_f32(float r) {
  float p = 0x1.694ca8p-11f;
  p = MATH_FMAF(p, r, 0x1.123982p-8f);
  p = MATH_FMAF(p, r, 0x1.555a26p-6f);
  p = MATH_FMAF(p, r, 0x1.555492p-4f);
  p = MATH_FMAF(p, r, 0x1.fffffap-3f);
  p = MATH_FMAF(p, r, 0.5f);
  return MATH_FMAF(p, r, 0.5f);
}

/* Multiplies by 2^(n + 1) in two factors. The second product overflows and underflows with the
 * right rounding. exp(89) is inf, exp(-104) is 0. */
CUMEGA_MATH float math_expf(float x) {
  math_reduced_f32 reduced = math_reduce_ln2_f32(math_clampf(x, -104.0f, 89.0f));
  float p = math_half_exp_polynomial_f32(reduced.r);
  uint32_t half = reduced.n_bits >> 1;
  uint32_t rest = reduced.n_bits - half;
  return p * math_f32_of((half << 23) + 0x40000000u) * math_f32_of((rest << 23) + 0x3f800000u);
}

/* 1 + exp(x), the denominator of the logistic sigmoid 1 / (1 + exp(-v)). It has the same bits as
 * 1.0f + math_expf(x) and takes fewer operations. Only half of exp(x) is computed and then doubled
 * in the fma. Half of exp(x) does not overflow, nor does it underflow where that matters: below
 * -30 the sum is 1. For a NaN the result is meaningless, and the caller must bring in the NaN
 * through x. */
CUMEGA_MATH float math_one_plus_expf(float x) {
#if defined(__CUDA_ARCH__)
  float clamped = fminf(fmaxf(x, -30.0f), 89.0f); /* one instruction each, unlike selects */
#else
  float clamped = math_clampf(x, -30.0f, 89.0f);
#endif
  math_reduced_f32 reduced = math_reduce_ln2_f32(clamped);
  float p = math_half_exp_polynomial_f32(reduced.r);
  float half = math_f32_of(math_bits_f32(p) + (reduced.n_bits << 23));
  return MATH_FMAF(half, 2.0f, 1.0f);
}

/* exp(x) - 1 = 2^n (exp(r) - 1) + (2^n - 1), all halved so that n = 128 stays in range. The linear
 * part is added first, which is exact if n = 0, where it matters. The rest of the polynomial is
 * added last. */
CUMEGA_MATH float math_expm1f(float x) {
  math_reduced_f32 reduced = math_reduce_ln2_f32(math_clampf(x, -20.0f, 89.0f));
  float r = reduced.r;
  float p = 0x1.9e0c06p-13f;
  p = MATH_FMAF(p, r, 0x1.6d436cp-10f);
  p = MATH_FMAF(p, r, 0x1.111306p-7f);
  p = MATH_FMAF(p, r, 0x1.5554fp-5f);
  p = MATH_FMAF(p, r, 0x1.555554p-3f);
  p = MATH_FMAF(p, r, 0.5f);
  float half = math_f32_of((reduced.n_bits << 23) + 0x3f000000u);
  float linear = MATH_FMAF(half, r, half - 0.5f);
  float y = 2.0f * MATH_FMAF(half * r * r, p, linear);
  return math_absf(x) < 0x1p-26f ? x : y; /* keeps subnormals and -0 */
}

/* Up to 0.625 an odd polynomial; above that 1 - 2 / (exp(2|x|) + 1), which is 1 from 9.1 on. */
CUMEGA_MATH float math_tanhf(float x) {
  float a = math_absf(x);
  float square = x * x;
  float p = -0x1.758cap-8f;
  p = MATH_FMAF(p, square, 0x1.521152p-6f);
  p = MATH_FMAF(p, square, -0x1.b83898p-5f);
  p = MATH_FMAF(p, square, 0x1.110704p-3f);
  p = MATH_FMAF(p, square, -0x1.555532p-2f);
  float near_zero = MATH_FMAF(p * square, a, a);
  float beyond = 1.0f - 2.0f / math_one_plus_expf(2.0f * a);
  float y = a < 0.625f ? near_zero : beyond;
  return x != x ? x : math_with_signf(y, x);
}

/* log(1 + x) = k * ln2 + log(1 + f). 2^-k scales 1 + x into [0.75, 1.5), and f = 2^-k * x + (2^-k
 * - 1) is computed from x itself, so that no digits of x are lost in 1 + x. */
CUMEGA_MATH float math_log1pf(float x) {
  uint32_t order = (math_bits_f32(1.0f + x) - 0x3f400000u) & 0xff800000u; /* k << 23 */
  float scaled = math_f32_of(math_bits_f32(x) - order);
  float quarter = math_f32_of(0x40800000u - order); /* 4 * 2^-k, normal up to k = 128 */
  float f = scaled + MATH_FMAF(0.25f, quarter, -1.0f);
  float k = (float)(int32_t)order * 0x1p-23f;
  float p = -0x1.721e2ep-5f;
  p = MATH_FMAF(p, f, 0x1.ad45e2p-4f);
  p = MATH_FMAF(p, f, -0x1.0db768p-3f);
  p = MATH_FMAF(p, f, 0x1.288588p-3f);
  p = MATH_FMAF(p, f, -0x1.54eb3ep-3f);
  p = MATH_FMAF(p, f, 0x1.9968eap-3f);
  p = MATH_FMAF(p, f, -0x1.00004ep-2f);
  p = MATH_FMAF(p, f, 0x1.5555a6p-2f);
  p = MATH_FMAF(p, f, -0.5f);
  float y = MATH_FMAF(k, MATH_LN2_HI_F32, MATH_FMAF(f * f, p, f));
  y = math_absf(x) < 0x1p-26f ? x : y;                  /* keeps subnormals and -0 */
  y = x > -1.0f ? y : math_f32_of(0xff800000u);         /* -inf at -1 */
  return x >= -1.0f && x < math_f32_of(0x7f800000u) ? y /* a finite result */
         : x < -1.0f                                ? math_f32_of(0x7fc00000u)
                                                    : x; /* NaN below; +inf and NaN pass */
}

#endif
