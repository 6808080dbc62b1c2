/* The EMA from inside: the object with everything precomputed, and a run with every argument
 * resolved. */
#ifndef CUMEGA_SRC_EMA_H
#define CUMEGA_SRC_EMA_H

#include <cumega/ema.h>
#include "memory.h"

/* Coefficients of one arithmetic, each (N, padded D) with channels innermost, zero behind D. */
typedef struct ema_coefficients_f32 {
  float *q_hi, *q_lo; /* q = q_hi + q_lo */
  float *gain;        /* p * expansion */
  float *projection;  /* scaling * kernel_projection */
  float *residual;    /* (padded D) residual_weight */
  float *kernel;      /* (K, padded D) where there is a truncation, else NULL */
} ema_coefficients_f32;

typedef struct ema_coefficients_f64 {
  double *q, *gain, *projection, *residual, *kernel;
} ema_coefficients_f64;

struct cumega_ema {
  memory *memory;
  DLDevice device;
  cumega_ema_config config;
  int64_t padded; /* D rounded up to EMA_CHANNEL_PADDING */
  double
      *parameters; /* damping, decay, expansion, projection (D, N) each, then residual (D): exact */
  double *p, *q, *one_minus_q; /* (D, N) */
  void *block;                 /* the memory of all of the above and below */
  int64_t block_bytes;
  ema_coefficients_f32 f32; /* used where state_dtype is float32 */
  ema_coefficients_f64 f64; /* used where state_dtype is float64 */
};

#define EMA_CHANNEL_PADDING 64

typedef enum ema_type { EMA_FLOAT32, EMA_FLOAT16, EMA_BFLOAT16, EMA_FLOAT64 } ema_type;

/* A strided vector of int32 or int64; data NULL: absent. */
typedef struct ema_index {
  const void *data;
  int64_t stride;
  int is_int64;
} ema_index;

static inline int64_t ema_index_at(const ema_index *index, int64_t i) {
  return index->is_int64 ? ((const int64_t *)index->data)[i * index->stride]
                         : ((const int32_t *)index->data)[i * index->stride];
}

/* All strides in elements. */
typedef struct ema_run {
  int64_t L, B, total; /* padded: L steps of B rows; packed: total rows, L = 0 */
  int packed, raw, truncated;
  ema_type type;
  const void *x;
  void *y;
  int64_t x_stride_t, x_stride_b, x_stride_d; /* stride_b 0 where packed */
  int64_t y_stride_t, y_stride_b, y_stride_d;
  const uint8_t *mask; /* or NULL */
  int64_t mask_stride_b, mask_stride_t;
  ema_index lengths, offsets, initial_slots, final_slots;
  const void *initial_state; /* or NULL; state_dtype */
  void *final_state;         /* or NULL */
  int64_t initial_stride_b, initial_stride_d, initial_stride_n;
  int64_t final_stride_b, final_stride_d, final_stride_n;
  int64_t initial_rows, final_rows;
} ema_run;

#endif
