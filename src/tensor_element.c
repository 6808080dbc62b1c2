#include "tensor_element.h"
#include "math/float16.h"

void tensor_load(const tensor_view *view, int64_t offset, int64_t stride, int64_t count,
                 double *values) {
  const float *f32 = (const float *)(const void *)view->data + offset;
  const double *f64 = (const double *)(const void *)view->data + offset;
  const uint16_t *bits = (const uint16_t *)(const void *)view->data + offset;
  if (view->type == TYPE_FLOAT32)
    for (int64_t i = 0; i < count; i++) values[i] = f32[i * stride];
  else if (view->type == TYPE_FLOAT64)
    for (int64_t i = 0; i < count; i++) values[i] = f64[i * stride];
  else if (view->type == TYPE_FLOAT16)
    for (int64_t i = 0; i < count; i++) values[i] = float16_to_float(bits[i * stride]);
  else if (view->type == TYPE_BFLOAT16)
    for (int64_t i = 0; i < count; i++) values[i] = bfloat16_to_float(bits[i * stride]);
}

void tensor_store(const tensor_view *view, int64_t offset, int64_t stride, int64_t count,
                  const double *values) {
  float *f32 = (float *)(void *)view->data + offset;
  double *f64 = (double *)(void *)view->data + offset;
  uint16_t *bits = (uint16_t *)(void *)view->data + offset;
  if (view->type == TYPE_FLOAT32)
    for (int64_t i = 0; i < count; i++) f32[i * stride] = (float)values[i];
  else if (view->type == TYPE_FLOAT64)
    for (int64_t i = 0; i < count; i++) f64[i * stride] = values[i];
  else if (view->type == TYPE_FLOAT16)
    for (int64_t i = 0; i < count; i++) bits[i * stride] = double_to_float16(values[i]);
  else if (view->type == TYPE_BFLOAT16)
    for (int64_t i = 0; i < count; i++) bits[i * stride] = double_to_bfloat16(values[i]);
}
