/* Residual connections on a CPU: what their files share.
 *
 *   residual_forward_cpu.c  a run divided into items: pieces of lines, or rows
 *   residual_item.h         an item, for float and for double
 *   residual_block.h        one block of elements through the formula
 *   residual_product.h      Highway's matrix products
 *   residual_narrow_cpu.c   lines of 16-bit types with a linear formula, in a single loop
 *
 * Without a norm or products the elements are independent, and a run goes by lines along the
 * innermost dimension. With them it goes by rows: all channels of one step. */
#ifndef CUMEGA_SRC_CPU_RESIDUAL_CPU_H
#define CUMEGA_SRC_CPU_RESIDUAL_CPU_H

#include "../math/residual.h"
#include "../math/tree.h"
#include "cpu.h"

/* Rows of Highway's products that are computed together: two vectors, with a row in each lane. */
#define PRODUCT_ROWS(real_size) (2 * VECTOR_BYTES / (int64_t)(real_size))

/* How a run is divided into items. */
typedef struct residual_plan {
  const residual_run *run;
  int by_rows;
  int64_t lines;  /* the product of all dimensions but the innermost */
  int64_t pieces; /* per line, each of at most `piece` elements; 1 when a run goes by rows */
  int64_t piece;
  int64_t units;      /* lines * pieces */
  int64_t item_units; /* per item; the last one may have fewer */
  int64_t bytes_per_thread;
  char *scratch;
  int stream; /* out and normalized are written with non-temporal stores */
  int narrow; /* residual_narrow_line computes the lines */
} residual_plan;

/* A line or row: its index in the outer dimensions, and its first element in each operand. */
typedef struct residual_place {
  int64_t index[RESIDUAL_DIMS];
  int64_t offsets[OPERAND_COUNT];
} residual_place;

static inline void residual_find(const residual_run *run, int64_t line, residual_place *p) {
  memset(p, 0, sizeof *p);
  for (int i = run->ndim - 2; i >= 0; i--) {
    p->index[i] = line % run->shape[i];
    line /= run->shape[i];
    for (int k = 0; k < OPERAND_COUNT; k++)
      p->offsets[k] += p->index[i] * run->operands[k].strides[i];
  }
}

static inline void residual_next(const residual_run *run, residual_place *p) {
  for (int i = run->ndim - 2; i >= 0; i--) {
    const int wraps = ++p->index[i] == run->shape[i];
    const int64_t steps = wraps ? 1 - run->shape[i] : 1;
    for (int k = 0; k < OPERAND_COUNT; k++) p->offsets[k] += steps * run->operands[k].strides[i];
    if (!wraps) return;
    p->index[i] = 0;
  }
}

/* Runs units first .. first + count - 1, with the scratch of one thread. */
void LEVEL(residual_item_f32)(const residual_plan *plan, int64_t first, int64_t count, void *own);
void LEVEL(residual_item_f64)(const residual_plan *plan, int64_t first, int64_t count, void *own);

/* Whether all operands are contiguous and of one 16-bit type, and the formula is linear. */
int LEVEL(residual_is_narrow)(const residual_run *run);
/* Runs elements from .. to - 1 of the line at p. */
void LEVEL(residual_narrow_line)(const residual_plan *plan, const residual_place *p, int64_t from,
                                 int64_t to);

int64_t LEVEL(residual_workspace_cpu)(const cumega_context *ctx, const residual_run *run);
cumega_status LEVEL(residual_forward_cpu)(cumega_context *ctx, const residual_run *run);

#endif
