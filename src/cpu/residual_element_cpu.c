/* Elements of residual connections between the caller's memory and ours. Contiguous ones have loops
 * that the compiler turns into vector moves. */
#include "../math/float16.h"
#include "residual_cpu.h"

#define COPY_BOTH(n, stride, CONTIGUOUS, STRIDED)                                                  \
  do {                                                                                             \
    if ((stride) == 1)                                                                             \
      for (int64_t i = 0; i < (n); i++) CONTIGUOUS;                                                \
    else                                                                                           \
      for (int64_t i = 0; i < (n); i++) STRIDED;                                                   \
  } while (0)

#define LOAD_CASE(tag, element, CONVERT)                                                           \
  case tag: {                                                                                      \
    const element *p = (const element *)from->data + offset;                                       \
    COPY_BOTH(n, stride, to[i] = CONVERT(p[i]), to[i] = CONVERT(p[i * stride]));                   \
    break;                                                                                         \
  }

#define STORE_CASE(tag, element, CONVERT)                                                          \
  case tag: {                                                                                      \
    element *p = (element *)to->data + offset;                                                     \
    COPY_BOTH(n, stride, p[i] = CONVERT(from[i]), p[i * stride] = CONVERT(from[i]));               \
    break;                                                                                         \
  }

#define UNCHANGED(v) (v)

void LEVEL(residual_load_f32)(const residual_operand *from, int64_t offset, int64_t stride,
                              int64_t n, float *buffer) {
  float *restrict to = buffer;
  switch (from->type) {
    LOAD_CASE(TYPE_FLOAT16, uint16_t, float16_to_float)
    LOAD_CASE(TYPE_BFLOAT16, uint16_t, bfloat16_to_float)
  default: {
    const float *p = (const float *)from->data + offset;
    for (int64_t i = 0; i < n; i++) to[i] = p[i * stride];
  }
  }
}

void LEVEL(residual_load_f64)(const residual_operand *from, int64_t offset, int64_t stride,
                              int64_t n, double *buffer) {
  double *restrict to = buffer;
  const double *p = (const double *)from->data + offset;
  for (int64_t i = 0; i < n; i++) to[i] = p[i * stride];
}

void LEVEL(residual_store_f32)(const residual_operand *to, int64_t offset, int64_t stride,
                               int64_t n, const float *buffer) {
  const float *restrict from = buffer;
  switch (to->type) {
    STORE_CASE(TYPE_FLOAT16, uint16_t, float_to_float16)
    STORE_CASE(TYPE_BFLOAT16, uint16_t, float_to_bfloat16)
  default: {
    float *p = (float *)to->data + offset;
    COPY_BOTH(n, stride, p[i] = from[i], p[i * stride] = from[i]);
  }
  }
}

void LEVEL(residual_store_f64)(const residual_operand *to, int64_t offset, int64_t stride,
                               int64_t n, const double *buffer) {
  const double *restrict from = buffer;
  double *p = (double *)to->data + offset;
  COPY_BOTH(n, stride, p[i] = from[i], p[i * stride] = from[i]);
}

void LEVEL(residual_round_f32)(tensor_type type, int64_t n, float *buffer) {
  if (type == TYPE_FLOAT16)
    for (int64_t i = 0; i < n; i++) buffer[i] = float16_to_float(float_to_float16(buffer[i]));
  else if (type == TYPE_BFLOAT16)
    for (int64_t i = 0; i < n; i++) buffer[i] = bfloat16_to_float(float_to_bfloat16(buffer[i]));
}
