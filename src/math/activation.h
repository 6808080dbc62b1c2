/* The ten activations (cumega/activation.h lists them, docs/arithmetic.md says how exact they
 * are), for float and double, with PyTorch's values at infinities and NaN.
 *
 * activation_apply is a switch on the kind. If the kind is a compile-time constant, the switch
 * folds away and a loop over the values is vectorised. The formulas must stay as they are, because
 * the bits depend on them, with sigma(v) = 1 / (1 + exp(-v)):
 *
 *   swish       v / (1 + exp(-v)), times a
 *   mish        v * n / (n + 2), n = w (w + 2), w = exp(v): tanh(log(1 + w)) without either
 *   smish       a (v * n / (n + 2)), n = s (s + 2), s = sigma(b v): tanh(log(1 + s)) likewise
 *   ftswish     u = v sigma(v) + a; u where u >= 0, else a (so NaN gives a); minus b
 *   selu        scale * v, or scale * alpha * expm1(v) for v <= 0 */
#ifndef CUMEGA_SRC_MATH_ACTIVATION_H
#define CUMEGA_SRC_MATH_ACTIVATION_H

#include <cumega/activation.h>
#include "elementary_f32.h"
#include "elementary_f64.h"

/* The meaning of a and b by kind; 0 if not listed:
 *   swish       a: the factor, 1 or beta       leaky_relu  a: the slope below 0
 *   hardtanh    a: minimum, b: maximum         smish       a: alpha, b: beta, both above 0
 *   ftswish     a: threshold, b: mean shift */
typedef struct activation_f64 {
  int kind; /* a cumega_activation */
  double a, b;
} activation_f64;

typedef struct activation_f32 {
  int kind;
  float a, b;
} activation_f32;

#define ACTIVATION_SELU_SCALE       1.0507009873554804934193349852946
#define ACTIVATION_SELU_SCALE_ALPHA 1.7580993408473768599402175208123

/* From this v on exp(v) squared is so large that n / (n + 2) is 1. */
#define ACTIVATION_MISH_LINEAR_F32 20.0f
#define ACTIVATION_MISH_LINEAR_F64 40.0

CUMEGA_MATH activation_f64 activation_resolve_f64(cumega_activation kind,
                                                  const cumega_activation_arguments *arguments) {
  activation_f64 resolved = {(int)kind, 0.0, 0.0};
  switch (kind) {
  case CUMEGA_ACTIVATION_IDENTITY:
  case CUMEGA_ACTIVATION_RELU:
  case CUMEGA_ACTIVATION_TANH:
  case CUMEGA_ACTIVATION_SELU:
  case CUMEGA_ACTIVATION_MISH: break;
  case CUMEGA_ACTIVATION_SWISH:
    resolved.a = arguments->swish_beta > 1.0 ? arguments->swish_beta : 1.0;
    break;
  case CUMEGA_ACTIVATION_LEAKY_RELU: resolved.a = arguments->leakyrelu_neg_slope; break;
  case CUMEGA_ACTIVATION_HARDTANH:
    resolved.a = arguments->hardtanh_min_val;
    resolved.b = arguments->hardtanh_max_val;
    break;
  case CUMEGA_ACTIVATION_SMISH:
    resolved.a = arguments->smish_alpha > 0.0 ? arguments->smish_alpha : 1.0;
    resolved.b = arguments->smish_beta > 0.0 ? arguments->smish_beta : 1.0;
    break;
  case CUMEGA_ACTIVATION_FTSWISH:
    resolved.a = arguments->ftswish_threshold;
    resolved.b = arguments->ftswish_mean_shift;
    break;
  }
  return resolved;
}

/* The same, with each argument rounded once to float. */
CUMEGA_MATH activation_f32 activation_resolve_f32(cumega_activation kind,
                                                  const cumega_activation_arguments *arguments) {
  activation_f64 exact = activation_resolve_f64(kind, arguments);
  activation_f32 resolved = {exact.kind, (float)exact.a, (float)exact.b};
  return resolved;
}

CUMEGA_MATH float activation_swish_f32(float v) {
  return v / math_one_plus_expf(-v);
}

CUMEGA_MATH float activation_mish_f32(float v) {
  float linear = ACTIVATION_MISH_LINEAR_F32;
  float w = math_expf(linear < v ? linear : v);
  float n = w * (w + 2.0f);
  return v * (n / (n + 2.0f));
}

CUMEGA_MATH float activation_smish_f32(float alpha, float beta, float v) {
  float s = 1.0f / math_one_plus_expf(-(beta * v));
  float n = s * (s + 2.0f);
  return alpha * (v * (n / (n + 2.0f)));
}

CUMEGA_MATH float activation_ftswish_f32(float threshold, float mean_shift, float v) {
  float u = activation_swish_f32(v) + threshold;
  return (u >= 0.0f ? u : threshold) - mean_shift;
}

CUMEGA_MATH float activation_selu_f32(float v) {
  float below = (float)ACTIVATION_SELU_SCALE_ALPHA * math_expm1f(v);
  return v <= 0.0f ? below : (float)ACTIVATION_SELU_SCALE * v;
}

CUMEGA_MATH float activation_apply_f32(int kind, float a, float b, float v) {
  switch (kind) {
  case CUMEGA_ACTIVATION_RELU: return v < 0.0f ? 0.0f : v;
  case CUMEGA_ACTIVATION_SWISH: return activation_swish_f32(v) * a;
  case CUMEGA_ACTIVATION_TANH: return math_tanhf(v);
  case CUMEGA_ACTIVATION_LEAKY_RELU: return v > 0.0f ? v : v * a;
  case CUMEGA_ACTIVATION_HARDTANH: return math_clampf(v, a, b);
  case CUMEGA_ACTIVATION_SELU: return activation_selu_f32(v);
  case CUMEGA_ACTIVATION_MISH: return activation_mish_f32(v);
  case CUMEGA_ACTIVATION_SMISH: return activation_smish_f32(a, b, v);
  case CUMEGA_ACTIVATION_FTSWISH: return activation_ftswish_f32(a, b, v);
  default: return v; /* identity */
  }
}

CUMEGA_MATH double activation_swish_f64(double v) {
  return v / (1.0 + math_exp(-v));
}

CUMEGA_MATH double activation_mish_f64(double v) {
  double linear = ACTIVATION_MISH_LINEAR_F64;
  double w = math_exp(linear < v ? linear : v);
  double n = w * (w + 2.0);
  return v * (n / (n + 2.0));
}

CUMEGA_MATH double activation_smish_f64(double alpha, double beta, double v) {
  double s = 1.0 / (1.0 + math_exp(-(beta * v)));
  double n = s * (s + 2.0);
  return alpha * (v * (n / (n + 2.0)));
}

CUMEGA_MATH double activation_ftswish_f64(double threshold, double mean_shift, double v) {
  double u = activation_swish_f64(v) + threshold;
  return (u >= 0.0 ? u : threshold) - mean_shift;
}

CUMEGA_MATH double activation_selu_f64(double v) {
  double below = ACTIVATION_SELU_SCALE_ALPHA * math_expm1(v);
  return v <= 0.0 ? below : ACTIVATION_SELU_SCALE * v;
}

CUMEGA_MATH double activation_apply_f64(int kind, double a, double b, double v) {
  switch (kind) {
  case CUMEGA_ACTIVATION_RELU: return v < 0.0 ? 0.0 : v;
  case CUMEGA_ACTIVATION_SWISH: return activation_swish_f64(v) * a;
  case CUMEGA_ACTIVATION_TANH: return math_tanh(v);
  case CUMEGA_ACTIVATION_LEAKY_RELU: return v > 0.0 ? v : v * a;
  case CUMEGA_ACTIVATION_HARDTANH: return math_clamp(v, a, b);
  case CUMEGA_ACTIVATION_SELU: return activation_selu_f64(v);
  case CUMEGA_ACTIVATION_MISH: return activation_mish_f64(v);
  case CUMEGA_ACTIVATION_SMISH: return activation_smish_f64(a, b, v);
  case CUMEGA_ACTIVATION_FTSWISH: return activation_ftswish_f64(a, b, v);
  default: return v; /* identity */
  }
}

#endif
