/* A position bias as a backend reads it: plain numbers and pointers into the memory of the run's
 * device, so that a kernel takes them by value. C11 and CUDA C++ alike. */
#ifndef CUMEGA_SRC_POSITION_BIAS_RUN_H
#define CUMEGA_SRC_POSITION_BIAS_RUN_H

#include <stdint.h>
#include <cumega/status.h>
#include "tensor_type.h"

/* bias[i, j] = table[j - i]: it points at the value of 0, with reach - 1 values on
 * either side. One of the two is set, for the type of the run; both are NULL where no bias is
 * added. */
typedef struct position_table {
  const float *f32;
  const double *f64;
  int64_t reach;
} position_table;

/* bias as an (L, L) matrix. */
typedef struct position_bias_matrix {
  void *data;
  int64_t L, stride_i, stride_j;
  tensor_type type;
  position_table table;
} position_bias_matrix;

#define ROTARY_BLOCK 64 /* positions that share their sines and cosines with every other block */

/* out[-d] and out[d] for 0 <= d < length: sums over pairs of even * cos(d theta) + odd * sin(d
 * theta), and with -odd. */
typedef struct rotary_table {
  int64_t pairs, length; /* length is a multiple of ROTARY_BLOCK */
  const double *quarters, *quarters_lo, *even, *odd;
  double *scratch; /* ROTARY_SCRATCH(pairs) doubles, aligned */
  double *out;     /* the value of 0 */
} rotary_table;
#define ROTARY_SCRATCH(pairs) ((2 * ROTARY_BLOCK + 4) * (pairs))

struct cumega_context;

/* What a backend does with it. */
typedef struct position_bias_functions {
  void (*rotary_table)(const rotary_table *t); /* CPU tables only: ctx->host has one */
  cumega_status (*forward)(struct cumega_context *ctx, const position_bias_matrix *run);
} position_bias_functions;

#endif
