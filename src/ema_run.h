/* One forward or step of the EMA as a backend gets it, and what its chain reads. Plain numbers and
 * pointers into the memory of the run's device, so that a kernel takes them by value: this header
 * is C11 and CUDA C++ alike. */
#ifndef CUMEGA_SRC_EMA_RUN_H
#define CUMEGA_SRC_EMA_RUN_H

#include <cumega/ema.h>
#include "math/activation.h"
#include "batch.h"
#include "tensor_type.h"

#define EMA_CHANNEL_PADDING 64 /* whole vectors and whole cache lines at every CPU level */

/* What the recurrence reads, each (N, padded D) with channels innermost and zeros past D. */
typedef struct ema_coefficients_f32 {
  float *q, *q_lo;   /* q in two floats: q + q_lo */
  float *gain;       /* p * expansion */
  float *projection; /* scaling * kernel_projection */
  float *residual;   /* (padded D): residual_weight */
  float *kernel;     /* (K, padded D) where there is a truncation, else NULL */
} ema_coefficients_f32;

typedef struct ema_coefficients_f64 {
  double *q, *gain, *projection, *residual, *kernel;
} ema_coefficients_f64;

/* A state tensor (rows, D, N); data NULL: absent. Strides in elements. */
typedef struct ema_state {
  void *data;
  int64_t stride_row, stride_d, stride_n;
} ema_state;

/* A sequence tensor. Strides in elements; stride_b is 0 where packed. */
typedef struct ema_sequences {
  void *data;
  int64_t stride_t, stride_b, stride_d;
} ema_sequences;

/* A sequence's time in `count` slices of `steps` steps, the last ones shorter or empty; each
 * begins `warmup` <= steps steps early (src/ema_slices.h). count 1: whole. */
typedef struct ema_slices {
  int64_t count, steps, warmup;
} ema_slices;

/* The parameters that the convolution kernel is made from, (D, N) each, in host memory. */
typedef struct ema_numbers {
  int64_t heads;
  const double *damping, *decay, *expansion, *projection;
} ema_numbers;

/* A stretch of one channel's kernel: out[i] = sum over heads of weight[n] * q[n]^(first + i), in
 * double, by pairwise summation. */
#define EMA_KERNEL_BLOCK 64
typedef struct ema_kernel_row {
  int64_t num_heads, first, count; /* count <= EMA_KERNEL_BLOCK */
  double *weight, *log_q;          /* (num_heads) */
  double *terms;                   /* (num_heads, EMA_KERNEL_BLOCK), scratch */
  double *out;                     /* (EMA_KERNEL_BLOCK) */
} ema_kernel_row;

/* Sets weight and log_q of channel d. */
void ema_kernel_row_channel(const ema_numbers *numbers, int64_t d, ema_kernel_row *row);

/* One forward or step, every default resolved. */
typedef struct ema_run {
  batch_layout batch; /* B sequences of x and y, L rows */
  int raw;            /* write e */
  int algorithm;      /* cumega_ema_algorithm */
  int truncated;      /* steps from truncation on use the kernel's table */
  tensor_type type;   /* of x and y */
  ema_sequences x, y;
  const uint8_t *mask; /* or NULL */
  int64_t mask_stride_b, mask_stride_t;
  ema_state initial, final;
  batch_slots initial_slots, final_slots;

  /* Of the EMA. */
  int64_t channels, heads; /* D, N */
  int64_t padded;          /* channels from one head's coefficients to the next's */
  int64_t truncation;      /* K */
  int is_double;           /* the state and f64, else f32 */
  ema_coefficients_f32 f32;
  ema_coefficients_f64 f64;
  activation_f32 finish_f32;
  activation_f64 finish_f64;
  int64_t warmup;      /* steps of src/ema_slices.h */
  ema_numbers numbers; /* in host memory on every device */
  uint64_t serial;     /* of the parameters: what is kept for others is of no use */
} ema_run;

/* The row of a state that sequence b reads or writes; negative: none. */
CUMEGA_MATH int64_t ema_state_row(const ema_state *state, const batch_slots *slots, int64_t b) {
  return state->data != NULL ? batch_slot(slots, b) : -1;
}

struct cumega_context;

/* What a backend does with it. */
typedef struct ema_functions {
  void (*kernel_row)(const ema_kernel_row *row); /* CPU tables only: ctx->host has one */
  int64_t (*workspace)(const struct cumega_context *ctx, const ema_run *run);
  /* Makes what forward would make at first use, so that it may be captured; NULL: there is
   * nothing. */
  cumega_status (*prepare)(struct cumega_context *ctx, const ema_run *run);
  cumega_status (*forward)(struct cumega_context *ctx, const ema_run *run);
} ema_functions;

#endif
