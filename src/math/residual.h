/* The formulas of residual connections and norms, one source for all compilers
 * (math_attributes.h). */
#ifndef CUMEGA_SRC_MATH_RESIDUAL_H
#define CUMEGA_SRC_MATH_RESIDUAL_H

#include <cumega/norm.h>
#include "elementary_f32.h"
#include "elementary_f64.h"

/* The logistic sigmoid. A NaN stays a NaN. */
CUMEGA_MATH float residual_sigmoid_f32(float v) {
  float s = 1.0f / math_one_plus_expf(-v);
  return v != v ? v : s;
}

CUMEGA_MATH double residual_sigmoid_f64(double v) {
  return 1.0 / (1.0 + math_exp(-v));
}

/* x + sigmoid(gate) * (h - x) */
CUMEGA_MATH float residual_gated_f32(float x, float h, float gate) {
  return MATH_FMAF(residual_sigmoid_f32(gate), h - x, x);
}

CUMEGA_MATH double residual_gated_f64(double x, double h, double gate) {
  return MATH_FMA(residual_sigmoid_f64(gate), h - x, x);
}

/* r = sigmoid(gate + y); k * (1 - r) * x + r * y */
CUMEGA_MATH float residual_highway_f32(float k, float x, float y, float gate) {
  float r = residual_sigmoid_f32(gate + y);
  return MATH_FMAF(r, y, k * (1.0f - r) * x);
}

CUMEGA_MATH double residual_highway_f64(double k, double x, double y, double gate) {
  double r = residual_sigmoid_f64(gate + y);
  return MATH_FMA(r, y, k * (1.0 - r) * x);
}

/* The factor of v - mean, from the sum of squares over count channels. */
CUMEGA_MATH float norm_factor_f32(int type, float eps, float scale, float squares, float count) {
  if (type == CUMEGA_NORM_RMS) return 1.0f / (MATH_SQRTF(squares / count) + eps);
  if (type == CUMEGA_NORM_SCALE) {
    float length = MATH_SQRTF(squares);
    return scale / (length < eps ? eps : length);
  }
  return 1.0f / MATH_SQRTF(squares / count + eps); /* layer_norm and basic_norm */
}

CUMEGA_MATH double norm_factor_f64(int type, double eps, double scale, double squares,
                                   double count) {
  if (type == CUMEGA_NORM_RMS) return 1.0 / (MATH_SQRT(squares / count) + eps);
  if (type == CUMEGA_NORM_SCALE) {
    double length = MATH_SQRT(squares);
    return scale / (length < eps ? eps : length);
  }
  return 1.0 / MATH_SQRT(squares / count + eps);
}

#endif
