/* Conversions of float16 (IEEE binary16) and bfloat16, as bits in a uint16_t, to and from float
 * and double.
 *
 * Widening is exact. Narrowing rounds once, to nearest even, with subnormals kept and overflow to
 * infinity. A NaN stays a NaN (the quiet 0x7e00 or 0x7fc0, with its sign). Normal results are
 * rounded as integers; subnormal ones by adding a power of two whose last place is their spacing,
 * so that the result is in the low bits of the sum. */
#ifndef CUMEGA_SRC_MATH_FLOAT16_H
#define CUMEGA_SRC_MATH_FLOAT16_H

#include "math_attributes.h"

CUMEGA_MATH float float16_to_float(uint16_t half) {
  uint32_t magnitude = (uint32_t)(half & 0x7fffu) << 13;
  uint32_t sign = (uint32_t)(half & 0x8000u) << 16;
  uint32_t finite = math_bits_f32(math_f32_of(magnitude) * 0x1p112f); /* rebias the exponent */
  uint32_t bits = magnitude < 0x0f800000u ? finite : magnitude | 0x7f800000u;
  return math_f32_of(sign | bits);
}

CUMEGA_MATH float bfloat16_to_float(uint16_t brain) {
  return math_f32_of((uint32_t)brain << 16);
}

CUMEGA_MATH uint16_t float_to_float16(float x) {
  float a = math_absf(x);
  uint32_t bits = math_bits_f32(a);
  uint32_t sign = math_bits_f32(x) >> 16 & 0x8000u;
  uint32_t normal = ((bits + 0xfffu + (bits >> 13 & 1u)) >> 13) - (112u << 10);
  uint32_t subnormal = math_bits_f32(a + 0.5f) - 0x3f000000u;
  uint32_t half = a < 0x1p-14f ? subnormal : normal;
  half = a >= 65520.0f ? 0x7c00u : half;
  half = x != x ? 0x7e00u : half;
  return (uint16_t)(sign | half);
}

CUMEGA_MATH uint16_t float_to_bfloat16(float x) {
  uint32_t bits = math_bits_f32(x);
  uint32_t rounded = (bits + 0x7fffu + (bits >> 16 & 1u)) >> 16; /* overflows to inf by itself */
  return (uint16_t)(x != x ? (bits >> 16 & 0x8000u) | 0x7fc0u : rounded);
}

CUMEGA_MATH uint16_t double_to_float16(double x) {
  double a = math_abs(x);
  uint64_t bits = math_bits_f64(a);
  uint64_t sign = math_bits_f64(x) >> 48 & 0x8000u;
  uint64_t normal = ((bits + 0x1ffffffffffu + (bits >> 42 & 1u)) >> 42) - (1008u << 10);
  uint64_t subnormal = math_bits_f64(a + 0x1p28) - 0x41b0000000000000u;
  uint64_t half = a < 0x1p-14 ? subnormal : normal;
  half = a >= 65520.0 ? 0x7c00u : half;
  half = x != x ? 0x7e00u : half;
  return (uint16_t)(sign | half);
}

CUMEGA_MATH uint16_t double_to_bfloat16(double x) {
  double a = math_abs(x);
  uint64_t bits = math_bits_f64(a);
  uint64_t sign = math_bits_f64(x) >> 48 & 0x8000u;
  uint64_t normal = ((bits + 0xfffffffffffu + (bits >> 45 & 1u)) >> 45) - (896u << 7);
  uint64_t subnormal = math_bits_f64(a + 0x1p-81) - 0x3ae0000000000000u;
  uint64_t brain = a < 0x1p-126 ? subnormal : normal;
  brain = a >= 0x1.ffp127 ? 0x7f80u : brain;
  brain = x != x ? 0x7fc0u : brain;
  return (uint16_t)(sign | brain);
}

#endif
