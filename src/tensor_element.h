/* Single elements of a tensor_view as doubles, exactly one rounding on the way in. For parameters,
 * coefficients and kernels; runs have their own loops. */
#ifndef CUMEGA_SRC_TENSOR_ELEMENT_H
#define CUMEGA_SRC_TENSOR_ELEMENT_H

#include "math/float16.h"
#include "tensor_view.h"

static inline double tensor_element(const tensor_view *view, int64_t offset) {
  switch (view->type) {
  case TYPE_FLOAT32: return ((const float *)view->data)[offset];
  case TYPE_FLOAT64: return ((const double *)view->data)[offset];
  case TYPE_FLOAT16: return float16_to_float(((const uint16_t *)view->data)[offset]);
  default: return bfloat16_to_float(((const uint16_t *)view->data)[offset]);
  }
}

static inline void tensor_set_element(const tensor_view *view, int64_t offset, double value) {
  switch (view->type) {
  case TYPE_FLOAT32: ((float *)view->data)[offset] = (float)value; break;
  case TYPE_FLOAT64: ((double *)view->data)[offset] = value; break;
  case TYPE_FLOAT16: ((uint16_t *)view->data)[offset] = double_to_float16(value); break;
  default: ((uint16_t *)view->data)[offset] = double_to_bfloat16(value); break;
  }
}

#endif
