/* What all functions of src/math/ use: their qualifiers, the fused multiply-add, and access to the
 * bits of numbers.
 *
 * The headers of this folder give the same bits wherever they are compiled: as C11 by gcc and
 * clang at any optimisation and vector width, as C++17, and as CUDA for host and device. So they
 * use only IEEE + - * / and sqrt, explicit fma, integer operations, comparisons and selects, in
 * round-to-nearest with subnormals kept. They have no table, no libm, and no branch that depends
 * on a value, so that a plain loop over any of them is vectorised. The build must not contract
 * products and sums (-ffp-contract=off, nvcc -fmad=false). If the result is a NaN, its sign and
 * payload depend on the hardware. */
#ifndef CUMEGA_SRC_MATH_ATTRIBUTES_H
#define CUMEGA_SRC_MATH_ATTRIBUTES_H

#include <stdint.h>
#include <string.h>

#if defined(__CUDACC__)
#define CUMEGA_MATH        static __host__ __device__ __forceinline__
#define MATH_FMA(a, b, c)  fma((double)(a), (double)(b), (double)(c))
#define MATH_FMAF(a, b, c) fmaf((a), (b), (c))
#define MATH_SQRT(x)       sqrt((double)(x))
#define MATH_SQRTF(x)      sqrtf(x)
#else
#define CUMEGA_MATH        static inline
#define MATH_FMA(a, b, c)  __builtin_fma((a), (b), (c))
#define MATH_FMAF(a, b, c) __builtin_fmaf((a), (b), (c))
#define MATH_SQRT(x)       __builtin_sqrt(x)
#define MATH_SQRTF(x)      __builtin_sqrtf(x)
#endif

CUMEGA_MATH uint32_t math_bits_f32(float x) {
  uint32_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

CUMEGA_MATH float math_f32_of(uint32_t bits) {
  float x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

CUMEGA_MATH uint64_t math_bits_f64(double x) {
  uint64_t bits;
  memcpy(&bits, &x, sizeof bits);
  return bits;
}

CUMEGA_MATH double math_f64_of(uint64_t bits) {
  double x;
  memcpy(&x, &bits, sizeof x);
  return x;
}

/* The absolute value, and the magnitude of one number with the sign of another. */
CUMEGA_MATH float math_absf(float x) {
  return math_f32_of(math_bits_f32(x) & 0x7fffffffu);
}

CUMEGA_MATH double math_abs(double x) {
  return math_f64_of(math_bits_f64(x) & 0x7fffffffffffffffu);
}

CUMEGA_MATH float math_with_signf(float magnitude, float sign) {
  return math_f32_of(math_bits_f32(magnitude) | (math_bits_f32(sign) & 0x80000000u));
}

CUMEGA_MATH double math_with_sign(double magnitude, double sign) {
  return math_f64_of(math_bits_f64(magnitude) | (math_bits_f64(sign) & 0x8000000000000000u));
}

/* Clamps x to [low, high]. A NaN stays a NaN. On x86 this compiles to one min and one max. */
CUMEGA_MATH float math_clampf(float x, float low, float high) {
  x = low > x ? low : x;
  return high < x ? high : x;
}

CUMEGA_MATH double math_clamp(double x, double low, double high) {
  x = low > x ? low : x;
  return high < x ? high : x;
}

#endif
