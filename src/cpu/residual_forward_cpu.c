/* A residual connection's run on the CPU, divided into items that the context's threads take one
 * by one. No element depends on how a run is divided, so the bits do not depend on the number of
 * threads. */
#include "residual_cpu.h"

static int has_products(const residual_run *run) {
  return run->form >= RESIDUAL_HIGHWAY;
}

/* Whether non-temporal stores write the outputs: if they are large and do not overwrite an input,
 * whose cache lines have been loaded anyway. */
static int can_stream(const residual_run *run, int64_t elements) {
  const residual_operand *o = run->operands;
  if (!CAN_STREAM || elements < STREAM_BYTES / (int64_t)sizeof(float)) return 0;
  for (int out = OPERAND_OUT; out < OPERAND_COUNT; out++)
    for (int in = 0; in < OPERAND_OUT; in++)
      if (o[out].type && o[in].type && o[out].data == o[in].data) return 0;
  return 1;
}

static residual_plan make_plan(const residual_run *run) {
  const int64_t length = run->shape[run->ndim - 1];
  const int64_t number = real_bytes(run->type == TYPE_FLOAT64), rows = PRODUCT_ROWS(number);
  residual_plan p = {.run = run, .lines = 1, .pieces = 1, .piece = length};
  for (int i = 0; i < run->ndim - 1; i++) p.lines *= run->shape[i];
  p.by_rows = run->norm.type >= 0 || has_products(run);
  if (!p.by_rows && length > RESIDUAL_ELEMENTS) {
    p.piece = RESIDUAL_ELEMENTS;
    p.pieces = divide_up(length, p.piece);
  }
  p.units = p.lines * p.pieces;
  p.item_units = RESIDUAL_ELEMENTS / p.piece;
  if (p.item_units == 0) p.item_units = 1;
  if (has_products(run)) p.item_units = round_up(p.item_units, rows);
  if (p.by_rows) p.bytes_per_thread = round_up(length * number, MEMORY_ALIGNMENT);
  if (has_products(run))
    p.bytes_per_thread = round_up((1 + 3 * rows) * length * number, MEMORY_ALIGNMENT);
  p.stream = can_stream(run, p.lines * length);
  p.narrow = LEVEL(residual_is_narrow)(run);
  return p;
}

int64_t LEVEL(residual_workspace_cpu)(const cumega_context *ctx, const residual_run *run) {
  return ctx->threads * make_plan(run).bytes_per_thread;
}

static void run_item(void *argument, int64_t index, int worker) {
  const residual_plan *p = argument;
  const int64_t first = index * p->item_units, count = smaller(p->units - first, p->item_units);
  void *own = p->scratch + worker * p->bytes_per_thread;
  if (p->run->type == TYPE_FLOAT64)
    LEVEL(residual_item_f64)(p, first, count, own);
  else
    LEVEL(residual_item_f32)(p, first, count, own);
  stream_fence();
}

cumega_status LEVEL(residual_forward_cpu)(cumega_context *ctx, const residual_run *run) {
  residual_plan p = make_plan(run);
  void *scratch = NULL;
  if (p.bytes_per_thread) TRY(call_scratch(ctx, ctx->threads * p.bytes_per_thread, &scratch));
  p.scratch = scratch;
  run_items(ctx, run_item, &p, divide_up(p.units, p.item_units));
  return CUMEGA_OK;
}
