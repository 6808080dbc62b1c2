/* The bias as an (L, L) matrix: row i is the part of the table that begins at distance -i. */
#include "element.h"
#include "attention_cpu.h"

typedef struct matrix_plan {
  const position_bias_matrix *run;
  int64_t item_rows;
} matrix_plan;

static void run_item(void *argument, int64_t index, int worker) {
  const matrix_plan *p = argument;
  const position_bias_matrix *run = p->run;
  const int64_t first = index * p->item_rows, end = smaller(first + p->item_rows, run->L);
  (void)worker;
  for (int64_t i = first; i < end; i++) {
    const element_block row =
        element_row(run->data, run->type, i * run->stride_i, run->L, run->stride_j);
    if (run->type == TYPE_FLOAT64)
      LEVEL(element_store_f64)(&row, run->table.f64 - i, 0);
    else
      LEVEL(element_store_f32)(&row, run->table.f32 - i, 0);
  }
}

cumega_status LEVEL(position_bias_forward_cpu)(cumega_context *ctx,
                                               const position_bias_matrix *run) {
  matrix_plan p = {run, MATRIX_VALUES / run->L + 1};
  run_items(ctx, run_item, &p, divide_up(run->L, p.item_rows));
  return CUMEGA_OK;
}
