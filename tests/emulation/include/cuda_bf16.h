/* __nv_bfloat16 as a storage type, and its conversions: to float exactly, from float with one
 * rounding to nearest even. Arithmetic is done in float. */
#ifndef EMULATION_CUDA_BF16_H
#define EMULATION_CUDA_BF16_H

#include "emulation_math.h"

typedef struct __nv_bfloat16 {
  unsigned short __x;
} __nv_bfloat16;
typedef struct __attribute__((aligned(4))) __nv_bfloat162 {
  __nv_bfloat16 x, y;
} __nv_bfloat162;

static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 b) {
  return b.__x;
}
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits) {
  __nv_bfloat16 b;
  b.__x = bits;
  return b;
}
static inline float __bfloat162float(__nv_bfloat16 b) {
  return __uint_as_float((unsigned)b.__x << 16);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float x) {
  const unsigned bits = __float_as_uint(x);
  if (x != x) return __ushort_as_bfloat16(0x7fff);
  return __ushort_as_bfloat16((unsigned short)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16));
}
static inline __nv_bfloat16 __float2bfloat16(float x) {
  return __float2bfloat16_rn(x);
}

#endif
