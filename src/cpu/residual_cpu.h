/* Residual connections on a CPU: what their files share.
 *
 *   residual_forward_cpu.c  a run cut into items (stretches of lines, or rows); the threads' memory
 *   residual_item.h         an item: written once, compiled for float and double
 *   residual_block.h        a block of elements in, through the formula, and out
 *   residual_product.h      Highway's products
 *   residual_narrow_cpu.c   lines of 16-bit types in one loop, where nothing but that is asked
 *   residual_element_cpu.c  elements of 16-bit types, and strided ones
 *
 * Without a norm nothing ties elements together, and a run is lines: the innermost dimension. With
 * a norm or products it is rows: the channels of one place. */
#ifndef CUMEGA_SRC_CPU_RESIDUAL_CPU_H
#define CUMEGA_SRC_CPU_RESIDUAL_CPU_H

#include "../backend.h"
#include "../math/residual.h"
#include "../math/tree.h"
#include "vector.h"

#define BLOCK_ELEMENTS 512

/* An output of at least so many bytes is written past the caches: by the time someone reads it, it
 * would be out of them anyway, and a plain store first reads the line that it overwrites. */
#ifndef RESIDUAL_STREAM_BYTES /* builds that look for mistakes set a small one */
#define RESIDUAL_STREAM_BYTES (16 << 20)
#endif

/* Rows of Highway's products that are done together: two vectors across rows. */
#define PRODUCT_ROWS_F32 (2 * LANES_F32)
#define PRODUCT_ROWS_F64 (2 * LANES_F64)

/* How a run is cut. */
typedef struct residual_plan {
  int by_rows;
  int64_t lines;  /* outer places: what all dimensions but the last make */
  int64_t pieces; /* of a line, each at most `piece` elements; 1 by rows */
  int64_t piece;
  int64_t units;    /* lines * pieces */
  int64_t per_item; /* units */
  int64_t bytes_per_thread;
  int stream; /* out and normalized go past the caches */
  int narrow; /* lines are residual_narrow_line's */
} residual_plan;

/* Where units lie: an index of the outer dimensions, and each operand's element there. */
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

/* Units first .. first + count - 1, with a thread's own memory. */
void LEVEL(residual_item_f32)(const residual_run *run, const residual_plan *plan, int64_t first,
                              int64_t count, void *own);
void LEVEL(residual_item_f64)(const residual_run *run, const residual_plan *plan, int64_t first,
                              int64_t count, void *own);

/* buffer[i] = element i, widened; and the other way, rounded once. */
void LEVEL(residual_load_f32)(const residual_operand *from, int64_t offset, int64_t stride,
                              int64_t n, float *buffer);
void LEVEL(residual_load_f64)(const residual_operand *from, int64_t offset, int64_t stride,
                              int64_t n, double *buffer);
void LEVEL(residual_store_f32)(const residual_operand *to, int64_t offset, int64_t stride,
                               int64_t n, const float *buffer);
void LEVEL(residual_store_f64)(const residual_operand *to, int64_t offset, int64_t stride,
                               int64_t n, const double *buffer);

/* Whether all operands are contiguous and of one 16-bit type, and the form is linear; then elements from .. to - 1
 * of the line at p. */
int LEVEL(residual_is_narrow)(const residual_run *run);
void LEVEL(residual_narrow_line)(const residual_run *run, const residual_plan *plan,
                                 const residual_place *p, int64_t from, int64_t to);

/* buffer[i] becomes what a store and a load of the type make of it. */
void LEVEL(residual_round_f32)(tensor_type type, int64_t n, float *buffer);

int64_t LEVEL(residual_workspace_cpu)(const cumega_context *ctx, const residual_run *run);
cumega_status LEVEL(residual_forward_cpu)(cumega_context *ctx, const residual_run *run);

#endif
