/* A residual connection's run on the CPU: cut into items that the context's threads take one by
 * one. No element depends on how it is cut, so neither do the bits on the number of threads. */
#include "../fp_environment.h"
#include "residual_cpu.h"

/* An item has at least so many elements: fewer are done before another thread would have woken up.
 */
#define ITEM_ELEMENTS 8192

static int64_t whole_lines(int64_t bytes) {
  return (bytes + MEMORY_ALIGNMENT - 1) / MEMORY_ALIGNMENT * MEMORY_ALIGNMENT;
}

static int has_products(const residual_run *run) {
  return run->form >= RESIDUAL_HIGHWAY;
}

/* Outputs past the caches: larger than they are, and not read before. */
static int can_stream(const residual_run *run, int64_t elements) {
  const residual_operand *o = run->operands;
  if (!CAN_STREAM || elements < RESIDUAL_STREAM_BYTES / (int64_t)sizeof(float)) return 0;
  for (int out = OPERAND_OUT; out < OPERAND_COUNT; out++)
    for (int in = 0; in < OPERAND_OUT; in++)
      if (o[out].type && o[in].type && o[out].data == o[in].data) return 0;
  return 1;
}

static residual_plan make_plan(const residual_run *run) {
  const int64_t length = run->shape[run->ndim - 1];
  const int is_double = run->type == TYPE_FLOAT64;
  const int64_t real = is_double ? (int64_t)sizeof(double) : (int64_t)sizeof(float);
  const int64_t rows = is_double ? PRODUCT_ROWS_F64 : PRODUCT_ROWS_F32;
  residual_plan p = {.lines = 1, .pieces = 1, .piece = length};
  for (int i = 0; i < run->ndim - 1; i++) p.lines *= run->shape[i];
  p.by_rows = run->norm.type >= 0 || has_products(run);
  if (!p.by_rows && length > ITEM_ELEMENTS) {
    p.piece = ITEM_ELEMENTS;
    p.pieces = (length + p.piece - 1) / p.piece;
  }
  p.units = p.lines * p.pieces;
  p.per_item = ITEM_ELEMENTS / p.piece;
  if (p.per_item == 0) p.per_item = 1;
  if (has_products(run)) p.per_item = (p.per_item + rows - 1) / rows * rows;
  if (p.by_rows) p.bytes_per_thread = whole_lines(length * real);
  if (has_products(run)) p.bytes_per_thread = whole_lines((1 + 3 * rows) * length * real);
  p.stream = can_stream(run, p.lines * length);
  p.narrow = LEVEL(residual_is_narrow)(run);
  return p;
}

int64_t LEVEL(residual_workspace_cpu)(const cumega_context *ctx, const residual_run *run) {
  return ctx->threads * make_plan(run).bytes_per_thread;
}

typedef struct job {
  const residual_run *run;
  const residual_plan *plan;
  char *scratch;
} job;

static void run_item(void *argument, int64_t index, int worker) {
  const job *j = argument;
  const residual_plan *p = j->plan;
  const int64_t first = index * p->per_item, left = p->units - first;
  const int64_t count = left < p->per_item ? left : p->per_item;
  void *own = j->scratch + worker * p->bytes_per_thread;
  if (j->run->type == TYPE_FLOAT64)
    LEVEL(residual_item_f64)(j->run, p, first, count, own);
  else
    LEVEL(residual_item_f32)(j->run, p, first, count, own);
  stream_fence();
}

cumega_status LEVEL(residual_forward_cpu)(cumega_context *ctx, const residual_run *run) {
  const residual_plan p = make_plan(run);
  const int64_t items = (p.units + p.per_item - 1) / p.per_item;
  void *scratch = NULL;
  fp_environment environment;
  if (p.bytes_per_thread) TRY(context_scratch(ctx, ctx->threads * p.bytes_per_thread, &scratch));
  job j = {run, &p, scratch};
  fp_begin(&environment);
  pool_run(items > 3 ? ctx->pool : NULL, run_item, &j, items);
  fp_end(&environment);
  return CUMEGA_OK;
}
