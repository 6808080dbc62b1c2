/* Position biases on a CPU: what their files share.
 *
 *   attention_scores_cpu.c    apply and softmax, cut into items of a few rows of scores
 *   attention_row.h         one row, for float and for double
 *   position_bias_forward_cpu.c the bias as an (L, L) matrix
 *   rotary_table_cpu.c          the values of a rotary bias */
#ifndef CUMEGA_SRC_CPU_ATTENTION_CPU_H
#define CUMEGA_SRC_CPU_ATTENTION_CPU_H

#include "../math/tree.h"
#include "cpu.h"

/* A row in scratch is a multiple of this long, whole vectors at every level; -inf fills its end. */
#define ROW_PADDING 16

/* One row of scores: the offsets of its key 0, and its part of the masks. */
typedef struct row_place {
  attention_row row;
  int64_t from, to;                   /* in scores and output */
  const uint8_t *attention, *padding; /* NULL: none */
} row_place;

/* Numbers of scratch per row: the row itself, and where it has several groups the terms of one. */
static inline int64_t row_scratch(int64_t keys) {
  return round_up(keys, ROW_PADDING) + (keys > TREE_GROUP ? TREE_GROUP : 0);
}

void LEVEL(attention_row_f32)(const attention_run *run, const row_place *place, float *scratch);
void LEVEL(attention_row_f64)(const attention_run *run, const row_place *place, double *scratch);

int64_t LEVEL(attention_scores_workspace_cpu)(const cumega_context *ctx, const attention_run *run);
cumega_status LEVEL(attention_scores_cpu)(cumega_context *ctx, const attention_run *run);
cumega_status LEVEL(position_bias_forward_cpu)(cumega_context *ctx,
                                               const position_bias_matrix *run);
void LEVEL(rotary_table_cpu)(const rotary_table *t);

#endif
