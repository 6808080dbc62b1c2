/* One apply, softmax or forward of a position bias as a backend gets it. Plain numbers and pointers
 * into the memory of the run's device, so that a kernel takes them by value: this header is C11 and
 * CUDA C++ alike. */
#ifndef CUMEGA_SRC_POSITION_BIAS_RUN_H
#define CUMEGA_SRC_POSITION_BIAS_RUN_H

#include "tensor_index.h"
#include "tensor_type.h"

/* bias[i, j] = table[j - i]: both point at the value of 0, and reach - 1 values lie on either side.
 * NULL: no bias is added. */
typedef struct position_table {
  const float *f32;
  const double *f64;
  int64_t reach;
} position_table;

/* A tensor (B, H, Lq, Lk). Strides in elements. */
typedef struct position_scores {
  void *data;
  int64_t stride_b, stride_h, stride_q, stride_k;
} position_scores;

/* Strides in elements, 0 along what the mask has not; data NULL: absent. */
typedef struct position_mask {
  const uint8_t *data;
  int64_t stride_b, stride_q, stride_k;
} position_mask;

/* One apply or softmax, every default resolved. */
typedef struct position_bias_run {
  int64_t B, H, Lq, Lk;
  tensor_type type;
  int softmax; /* else apply */
  int causal, nan_rows;
  double scale;
  position_scores scores, output;
  position_mask attention, padding;
  tensor_index query_lengths, key_lengths;
  position_table table;
} position_bias_run;

/* bias as an (L, L) matrix. */
typedef struct position_bias_matrix {
  void *data;
  int64_t L, stride_i, stride_j;
  tensor_type type;
  position_table table;
} position_bias_matrix;

/* What a row of scores sees: keys 0 .. visible - 1 of its sequence's `keys`, key j with the bias of
 * j + first. A row behind its sequence's queries has keys 0. */
typedef struct position_row {
  int64_t keys, visible, first;
} position_row;

CUMEGA_MATH int64_t position_keys(const position_bias_run *run, int64_t b) {
  return run->key_lengths.data ? tensor_index_at(&run->key_lengths, b) : run->Lk;
}
CUMEGA_MATH int64_t position_queries(const position_bias_run *run, int64_t b) {
  return run->query_lengths.data ? tensor_index_at(&run->query_lengths, b) : run->Lq;
}

/* Row i of a sequence of so many queries and keys. */
CUMEGA_MATH position_row position_row_of(const position_bias_run *run, int64_t i, int64_t queries,
                                         int64_t keys) {
  const int64_t own = i + keys - queries; /* the query's position */
  position_row row;
  row.keys = i < queries ? keys : 0;
  row.visible = run->causal && own + 1 < row.keys ? own + 1 : row.keys;
  row.first = -own;
  return row;
}

#endif
