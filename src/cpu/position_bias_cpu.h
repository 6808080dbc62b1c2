/* Position biases on a CPU: what their files share.
 *
 *   position_bias_rows_cpu.c    apply and softmax cut into items (some rows of scores)
 *   position_bias_row.h         one row: written once, compiled for float and double
 *   position_bias_forward_cpu.c the (L, L) matrix
 *   rotary_table_cpu.c          a rotary bias's table */
#ifndef CUMEGA_SRC_CPU_POSITION_BIAS_CPU_H
#define CUMEGA_SRC_CPU_POSITION_BIAS_CPU_H

#include "../backend.h"
#include "../math/tree.h"
#include "vector.h"

/* Rows in scratch are whole vectors at every level; what is behind the last key is -inf. */
#define ROW_PADDING 16

/* One row of scores: element offsets, and its part of the masks. */
typedef struct row_place {
  position_row row;
  int64_t from, to;                   /* of key 0 in scores and output */
  const uint8_t *attention, *padding; /* of key 0; NULL: none */
} row_place;

static inline int64_t row_padded(int64_t keys) {
  return (keys + ROW_PADDING - 1) / ROW_PADDING * ROW_PADDING;
}

/* How many numbers of scratch a row of so many keys needs: the row, and behind a row of several
 * groups the terms of one. */
static inline int64_t row_scratch(int64_t keys) {
  return row_padded(keys) + (keys > TREE_GROUP ? TREE_GROUP : 0);
}

void LEVEL(position_row_f32)(const position_bias_run *run, const row_place *place, float *scratch);
void LEVEL(position_row_f64)(const position_bias_run *run, const row_place *place, double *scratch);

int64_t LEVEL(position_bias_workspace_cpu)(const cumega_context *ctx, const position_bias_run *run);
cumega_status LEVEL(position_bias_rows_cpu)(cumega_context *ctx, const position_bias_run *run);
cumega_status LEVEL(position_bias_forward_cpu)(cumega_context *ctx,
                                               const position_bias_matrix *run);
void LEVEL(rotary_table_cpu)(const rotary_table *t);

#endif
