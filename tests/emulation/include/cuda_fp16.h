/* __half as a storage type, and its conversions: to float exactly, from float with one rounding
 * to nearest even. Arithmetic is done in float. */
#ifndef EMULATION_CUDA_FP16_H
#define EMULATION_CUDA_FP16_H

#include "emulation_math.h"

typedef struct __half {
  unsigned short __x;
} __half;
typedef struct __attribute__((aligned(4))) __half2 {
  __half x, y;
} __half2;
#if !defined(CUDA_NO_HALF)
typedef __half half;
typedef __half2 half2;
#endif

static inline unsigned short __half_as_ushort(__half h) {
  return h.__x;
}
static inline __half __ushort_as_half(unsigned short bits) {
  __half h;
  h.__x = bits;
  return h;
}

static inline float __half2float(__half h) {
  const int exponent = h.__x >> 10 & 31, fraction = h.__x & 1023;
  const float sign = h.__x & 0x8000 ? -1.0f : 1.0f;
  if (exponent == 31) return fraction != 0 ? __builtin_nanf("") : sign * __builtin_inff();
  if (exponent == 0) return sign * (float)fraction * 0x1p-24f;
  return sign * __builtin_ldexpf((float)(1024 + fraction), exponent - 25);
}

/* The number in units of its result's last place, rounded by the processor. */
static inline __half __float2half_rn(float x) {
  const unsigned sign = __float_as_uint(x) >> 16 & 0x8000u;
  const float a = __builtin_fabsf(x);
  if (x != x) return __ushort_as_half(0x7fff);
  if (a >= 65520.0f) return __ushort_as_half((unsigned short)(sign | 0x7c00u));
  const int raw = (int)(__float_as_uint(a) >> 23) - 127, exponent = raw < -14 ? -14 : raw;
  const float units = __builtin_rintf(__builtin_ldexpf(a, 10 - exponent)); /* <= 2048 */
  return __ushort_as_half(
      (unsigned short)(sign | ((unsigned)(exponent + 14) * 1024u + (unsigned)units)));
}
static inline __half __float2half(float x) {
  return __float2half_rn(x);
}

#endif
