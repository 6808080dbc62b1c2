/* Attention scores and position biases on a CPU: what their files share.
 *
 *   attention_scores_cpu.c    apply and softmax, divided into items of a few rows of scores
 *   attention_row.h         one row, for float and for double
 *   position_bias_forward_cpu.c the bias as an (L, L) matrix
 *   rotary_table_cpu.c          the values of a rotary bias */
#ifndef CUMEGA_SRC_CPU_ATTENTION_CPU_H
#define CUMEGA_SRC_CPU_ATTENTION_CPU_H

#include "../math/tree.h"
#include "cpu.h"

/* The length of a row in scratch is a multiple of this, so that it is whole vectors at every
 * level. The row is padded with -inf. */
#define ROW_PADDING 16

/* One row of scores: the offsets of its first key, and its masks. */
typedef struct row_place {
  attention_row row;
  int64_t from, to;                   /* in scores and output */
  const uint8_t *attention, *padding; /* NULL: none */
} row_place;

/* How many numbers of scratch a row needs: one for each key and, if the row has several groups,
 * one for each term of a group. */
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
