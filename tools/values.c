#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "failure.h"
#include "values.h"

int values_allocate(cumega_tensor *tensor, const char *name, DLDataType dtype, int ndim,
                    const int64_t *shape) {
  int64_t bytes = dtype.bits / 8;
  int too_large = 0;
  for (int i = 0; i < ndim; i++) too_large |= __builtin_mul_overflow(bytes, shape[i], &bytes);
  void *memory = too_large || bytes < 0 ? NULL : calloc(1, bytes > 0 ? (size_t)bytes : 1);
  if (memory == NULL) return fail(EXIT_DEVICE, "no memory for tensor '%s'", name);
  if (cumega_tensor_init(tensor, memory, cumega_cpu, dtype, ndim, shape) == NULL) {
    free(memory);
    return fail(EXIT_INPUT, "tensor '%s' has a shape that no tensor can have", name);
  }
  return EXIT_OK;
}

void values_release(cumega_tensor *tensor) {
  free(tensor->dl.data);
  tensor->dl.data = NULL;
}

int64_t values_count(const DLTensor *tensor) {
  int64_t count = 1;
  for (int i = 0; i < tensor->ndim; i++) count *= tensor->shape[i];
  return count;
}

int64_t values_bytes(const DLTensor *tensor) {
  return values_count(tensor) * (tensor->dtype.bits / 8);
}

int values_dtype_equal(DLDataType a, DLDataType b) {
  return a.code == b.code && a.bits == b.bits && a.lanes == b.lanes;
}

DLDataType values_real_dtype(DLDataType dtype) {
  return dtype.bits == 64 ? cumega_float64 : cumega_float32;
}

const char *values_dtype_name(DLDataType dtype) {
  const struct {
    DLDataType dtype;
    const char *name;
  } names[] = {
      {cumega_float32, "float32"},   {cumega_float64, "float64"}, {cumega_float16, "float16"},
      {cumega_bfloat16, "bfloat16"}, {cumega_bool, "bool"},       {cumega_uint8, "uint8"},
      {cumega_int32, "int32"},       {cumega_int64, "int64"},
  };
  for (size_t i = 0; i < sizeof names / sizeof *names; i++)
    if (values_dtype_equal(names[i].dtype, dtype)) return names[i].name;
  return "unknown";
}

int values_dtype_from_name(const char *name, DLDataType *dtype) {
  const DLDataType known[] = {cumega_float32, cumega_float64, cumega_float16, cumega_bfloat16};
  for (size_t i = 0; i < sizeof known / sizeof *known; i++)
    if (strcmp(values_dtype_name(known[i]), name) == 0) {
      *dtype = known[i];
      return 1;
    }
  return 0;
}

int values_is_floating(DLDataType dtype) {
  return values_dtype_equal(dtype, cumega_float32) || values_dtype_equal(dtype, cumega_float64) ||
         values_dtype_equal(dtype, cumega_float16) || values_dtype_equal(dtype, cumega_bfloat16);
}

static double from_float16(uint16_t bits) {
  int exponent = (bits >> 10) & 31, fraction = bits & 1023;
  double value = exponent == 31  ? (fraction != 0 ? NAN : INFINITY)
                 : exponent == 0 ? ldexp(fraction, -24)
                                 : ldexp(fraction + 1024, exponent - 25);
  return bits >> 15 ? -value : value;
}

static double from_bfloat16(uint16_t bits) {
  uint32_t wide = (uint32_t)bits << 16;
  float value;
  memcpy(&value, &wide, sizeof value);
  return value;
}

double values_at(const DLTensor *tensor, int64_t i) {
  if (tensor->dtype.code == kDLBfloat) return from_bfloat16(((const uint16_t *)tensor->data)[i]);
  if (tensor->dtype.bits == 64) return ((const double *)tensor->data)[i];
  if (tensor->dtype.bits == 32) return ((const float *)tensor->data)[i];
  return from_float16(((const uint16_t *)tensor->data)[i]);
}

/* Exact for zero and for normal numbers of at most 11 bits. */
static uint16_t to_float16(double value) {
  int exponent;
  double fraction = frexp(fabs(value), &exponent); /* 0.5 .. 1 */
  if (value == 0) return 0;
  int bits = (exponent + 14) << 10 | ((int)(fraction * 2048) & 1023);
  return (uint16_t)(bits | (value < 0 ? 0x8000 : 0));
}

void values_put(DLTensor *tensor, int64_t i, double value) {
  float single = (float)value;
  uint32_t wide;
  memcpy(&wide, &single, sizeof wide);
  if (tensor->dtype.code == kDLBfloat)
    ((uint16_t *)tensor->data)[i] = (uint16_t)(wide >> 16);
  else if (tensor->dtype.bits == 64)
    ((double *)tensor->data)[i] = value;
  else if (tensor->dtype.bits == 32)
    ((float *)tensor->data)[i] = single;
  else
    ((uint16_t *)tensor->data)[i] = to_float16(value);
}

double values_roundoff(DLDataType dtype) {
  if (dtype.bits == 64) return 0x1p-53;
  if (dtype.bits == 32) return 0x1p-24;
  return dtype.code == kDLBfloat ? 0x1p-8 : 0x1p-11;
}

void values_order_like(DLTensor *tensor, const DLTensor *other) {
  memcpy(tensor->strides, other->strides, (size_t)tensor->ndim * sizeof *tensor->strides);
}

char *values_shape_text(const DLTensor *tensor, char *text, size_t size) {
  size_t used = (size_t)snprintf(text, size, "(");
  for (int i = 0; i < tensor->ndim && used < size; i++)
    used += (size_t)snprintf(text + used, size - used, "%s%" PRId64, i > 0 ? ", " : "",
                             tensor->shape[i]);
  if (used < size) snprintf(text + used, size - used, ")");
  return text;
}

double values_error(const DLTensor *out, const DLTensor *exact) {
  double largest = 0, difference = 0;
  int64_t count = values_count(exact);
  for (int64_t i = 0; i < count; i++) {
    double a = values_at(out, i), e = values_at(exact, i);
    if (isfinite(e)) {
      if (!isfinite(a)) return INFINITY;
      largest = fmax(largest, fabs(e));
      difference = fmax(difference, fabs(a - e));
    } else if (isnan(e) ? !isnan(a) : a != e) {
      return INFINITY;
    }
  }
  return difference == 0 ? 0 : difference / largest; /* infinite if largest is 0 */
}
