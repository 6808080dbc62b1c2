/* One forward or step of the EMA as a backend gets it, and what its chain reads. Plain numbers and
 * pointers into the memory of the run's device, so that a kernel takes them by value: this header
 * is C11 and CUDA C++ alike. */
#ifndef CUMEGA_SRC_EMA_RUN_H
#define CUMEGA_SRC_EMA_RUN_H

#include "tensor_index.h"
#include "tensor_type.h"

/* What the chain reads, each (N, padded D) with channels innermost and zeros behind D. */
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
  int64_t rows, stride_row, stride_d, stride_n;
} ema_state;

/* A sequence tensor. Strides in elements; stride_b is 0 where packed. */
typedef struct ema_sequences {
  void *data;
  int64_t stride_t, stride_b, stride_d;
} ema_sequences;

/* A sequence's time in `count` slices of `steps` steps, the last ones shorter or empty; each begins
 * `warmup` <= steps steps early (src/ema_slices.h). count 1: whole. */
typedef struct ema_slices {
  int64_t count, steps, warmup;
} ema_slices;

/* One forward or step, every default resolved. */
typedef struct ema_run {
  int64_t L, B;     /* packed: L is the number of rows of all sequences together */
  int packed;       /* offsets are given */
  int raw;          /* write e */
  int algorithm;    /* cumega_ema_algorithm */
  int truncated;    /* steps from truncation_length on use the kernel's table */
  tensor_type type; /* of x and y */
  ema_sequences x, y;
  const uint8_t *mask; /* or NULL */
  int64_t mask_stride_b, mask_stride_t;
  tensor_index lengths, offsets, initial_slots, final_slots;
  ema_state initial, final;
} ema_run;

/* Where sequence b lies: its first row, and how many it has. Indices have been checked. */
CUMEGA_MATH int64_t ema_run_first(const ema_run *run, int64_t b) {
  return run->packed ? tensor_index_at(&run->offsets, b) : 0;
}
CUMEGA_MATH int64_t ema_run_length(const ema_run *run, int64_t b) {
  if (run->packed) return tensor_index_at(&run->offsets, b + 1) - tensor_index_at(&run->offsets, b);
  return run->lengths.data ? tensor_index_at(&run->lengths, b) : run->L;
}

/* The row of a state that sequence b reads or writes; negative: none. */
CUMEGA_MATH int64_t ema_state_row(const ema_state *state, const tensor_index *slots, int64_t b) {
  if (state->data == NULL) return -1;
  return slots->data ? tensor_index_at(slots, b) : b;
}

#endif
