/* One pass of a residual connection as a backend gets it: every default resolved, plain numbers
 * and pointers into the memory of the run's device, so that a kernel takes it by value. C11 and
 * CUDA C++ alike. */
#ifndef CUMEGA_SRC_RESIDUAL_RUN_H
#define CUMEGA_SRC_RESIDUAL_RUN_H

#include <stdint.h>
#include <cumega/status.h>
#include "real_vector.h"
#include "tensor_type.h"

#define RESIDUAL_DIMS 8 /* CUMEGA_MAX_DIMS */

/* What is done to the elements x, y and gate of one place; c is the channel's. */
typedef enum residual_form {
  RESIDUAL_COPY,     /* y */
  RESIDUAL_SCALE,    /* beta * y */
  RESIDUAL_SUM,      /* fma(alpha, x, beta * y) */
  RESIDUAL_CHANNELS, /* fma(alpha, x, c * y) */
  RESIDUAL_GATED,    /* fma(sigmoid(gate), y - x, x) */
  /* s = sigmoid(gate + y); fma(s, y, alpha * (1 - s) * x), gate being Wx(x) and y being Wy(y) */
  RESIDUAL_HIGHWAY,
  RESIDUAL_HIGHWAY_SCALE /* the same with c * y for y */
} residual_form;

enum { OPERAND_X, OPERAND_Y, OPERAND_GATE, OPERAND_OUT, OPERAND_NORMALIZED, OPERAND_COUNT };

/* A tensor; type 0: absent. Strides in elements. */
typedef struct residual_operand {
  void *data;
  tensor_type type;
  int64_t strides[RESIDUAL_DIMS];
} residual_operand;

/* r = the type's factor, from the row's sums; the result is fma((v - mean) * r, weight, bias).
 * Types without a mean have mean 0, without weights weight 1, and without a bias -0, the identity
 * of addition. */
typedef struct norm_run {
  int type;           /* cumega_norm_type; negative: none */
  double eps;         /* basic_norm: the exponential of its parameter */
  double scale;       /* scale_norm's */
  real_vector weight; /* (D) */
  real_vector bias;   /* (D) */
} norm_run;

/* Highway's Linear layers, row-major, a row per output channel; NULLs where there is none. */
typedef struct residual_products {
  real_vector x_weight, x_bias, y_weight, y_bias;
} residual_products;

typedef struct residual_run {
  residual_form form;
  tensor_type type; /* of the tensors */
  int ndim;         /* outermost first; dimensions that can be walked as one are merged */
  int64_t shape[RESIDUAL_DIMS];
  int channel; /* the dimension of channels: the last one with a norm or products; -1 where no
                  element depends on it */
  residual_operand operands[OPERAND_COUNT];
  double alpha, beta;
  real_vector channels; /* c */
  norm_run norm;
  residual_products products; /* for a Highway's forms: gate (and y) are computed from these */
} residual_run;

struct cumega_context;

/* What a backend does with it. */
typedef struct residual_functions {
  int64_t (*workspace)(const struct cumega_context *ctx, const residual_run *run);
  /* Makes what a Highway would make at first use, so that it may be captured; NULL: there is
   * nothing. */
  cumega_status (*prepare)(struct cumega_context *ctx);
  cumega_status (*forward)(struct cumega_context *ctx, const residual_run *run);
} residual_functions;

#endif
