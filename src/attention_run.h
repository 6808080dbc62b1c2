/* A run of attention scores, with or without their softmax, as a backend gets it: plain numbers
 * and pointers into the memory of the run's device, so that a kernel takes them by value. C11 and
 * CUDA C++ alike. */
#ifndef CUMEGA_SRC_ATTENTION_RUN_H
#define CUMEGA_SRC_ATTENTION_RUN_H

#include "batch.h"
#include "position_bias_run.h"

/* A tensor (B, H, Lq, Lk). Strides in elements. */
typedef struct attention_tensor {
  void *data;
  int64_t stride_b, stride_h, stride_q, stride_k;
} attention_tensor;

/* Strides in elements, 0 along dimensions that the mask does not have; data NULL: absent. */
typedef struct attention_mask_view {
  const uint8_t *data;
  int64_t stride_b, stride_q, stride_k;
} attention_mask_view;

/* One run, every default resolved. */
typedef struct attention_run {
  int64_t B, H, Lq, Lk;
  tensor_type type;
  int softmax; /* else apply */
  int causal, nan_rows;
  double scale;
  attention_tensor scores, output;
  attention_mask_view attention, padding;
  batch_layout queries, keys; /* of Lq and Lk rows each */
  position_table table;
} attention_run;

/* The keys of a row of scores: 0 .. visible - 1 of its sequence's `keys`; key j has the bias of j
 * + first. A row past its sequence's queries has keys 0. */
typedef struct attention_row {
  int64_t keys, visible, first;
} attention_row;

/* Row i of a sequence with that many queries and keys. */
CUMEGA_MATH attention_row attention_row_of(const attention_run *run, int64_t i, int64_t queries,
                                           int64_t keys) {
  const int64_t own = i + keys - queries; /* the query's position */
  attention_row row;
  row.keys = i < queries ? keys : 0;
  row.visible = run->causal && own + 1 < row.keys ? own + 1 : row.keys;
  row.first = -own;
  return row;
}

struct cumega_context;

/* What a backend does with it. */
typedef struct attention_functions {
  int64_t (*scores_workspace)(const struct cumega_context *ctx, const attention_run *run);
  cumega_status (*scores)(struct cumega_context *ctx, const attention_run *run);
} attention_functions;

#endif
