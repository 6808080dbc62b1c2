/* The floating types, read and written one value at a time. */
#include <math.h>
#include <string.h>
#include "numbers.h"

static const struct named_type {
  const char *name;
  DLDataType dtype;
} types[] = {
    {"float32", {kDLFloat, 32, 1}},
    {"float16", {kDLFloat, 16, 1}},
    {"bfloat16", {kDLBfloat, 16, 1}},
    {"float64", {kDLFloat, 64, 1}},
};
#define TYPES (sizeof types / sizeof *types)

int value_type_from_name(const char *name, DLDataType *dtype) {
  for (size_t i = 0; i < TYPES; i++)
    if (strcmp(types[i].name, name) == 0) {
      *dtype = types[i].dtype;
      return 1;
    }
  return 0;
}

const char *value_type_name(DLDataType dtype) {
  for (size_t i = 0; i < TYPES; i++)
    if (types[i].dtype.code == dtype.code && types[i].dtype.bits == dtype.bits)
      return types[i].name;
  return "unknown";
}

static double from_half(uint16_t bits) {
  int exponent = bits >> 10 & 31, fraction = bits & 1023;
  double size = exponent == 31  ? (fraction ? NAN : INFINITY)
                : exponent == 0 ? ldexp(fraction, -24)
                                : ldexp(1024 + fraction, exponent - 25);
  return bits & 0x8000 ? -size : size;
}

/* Of a normal number of at most 11 bits, or zero: exactly. */
static uint16_t to_half(double value) {
  int exponent;
  double fraction = frexp(fabs(value), &exponent); /* 0.5 .. 1 */
  if (value == 0) return 0;
  int bits = (exponent + 14) << 10 | ((int)(fraction * 2048) & 1023);
  return (uint16_t)(bits | (value < 0 ? 0x8000 : 0));
}

double value_read(DLDataType dtype, const void *memory, int64_t i) {
  if (dtype.bits == 64) return ((const double *)memory)[i];
  if (dtype.bits == 32) return (double)((const float *)memory)[i];
  uint16_t bits = ((const uint16_t *)memory)[i];
  if (dtype.code == kDLFloat) return from_half(bits);
  uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return (double)value;
}

void value_write(DLDataType dtype, void *memory, int64_t i, double value) {
  float single = (float)value;
  uint32_t wide;
  memcpy(&wide, &single, sizeof wide);
  if (dtype.bits == 64)
    ((double *)memory)[i] = value;
  else if (dtype.bits == 32)
    ((float *)memory)[i] = single;
  else
    ((uint16_t *)memory)[i] = dtype.code == kDLFloat ? to_half(value) : (uint16_t)(wide >> 16);
}

double value_roundoff(DLDataType dtype) {
  if (dtype.bits == 64) return 0x1p-53;
  if (dtype.bits == 32) return 0x1p-24;
  return dtype.code == kDLFloat ? 0x1p-11 : 0x1p-8;
}
