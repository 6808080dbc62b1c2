/* apply and softmax on the CPU, divided into items of a few rows, which the context's threads take
 * one by one. Rows do not depend on each other. */
#include "attention_cpu.h"

typedef struct rows_plan {
  const attention_run *run;
  int64_t rows, item_rows;
  char *scratch;
} rows_plan;

static int64_t scratch_bytes(const attention_run *run) {
  const int64_t number = real_bytes(run->type == TYPE_FLOAT64);
  return round_up(row_scratch(run->Lk) * number, MEMORY_ALIGNMENT);
}

int64_t LEVEL(attention_scores_workspace_cpu)(const cumega_context *ctx,
                                              const attention_run *run) {
  return ctx->threads * scratch_bytes(run);
}

/* A sequence's padding mask; NULL if there is none, or if it masks every key. */
static const uint8_t *padding_of(const attention_run *run, int64_t b) {
  if (run->padding.data == NULL) return NULL;
  const uint8_t *mask = run->padding.data + b * run->padding.stride_b;
  const int64_t keys = batch_span_of(&run->keys, b).length;
  for (int64_t j = 0; j < keys; j++)
    if (!mask[j * run->padding.stride_k]) return mask;
  return NULL;
}

static void run_item(void *argument, int64_t index, int worker) {
  const rows_plan *p = argument;
  const attention_run *run = p->run;
  void *scratch = p->scratch + worker * scratch_bytes(run);
  const int64_t first = index * p->item_rows;
  const int64_t end = smaller(first + p->item_rows, p->rows);
  const uint8_t *padding = NULL;
  for (int64_t r = first; r < end; r++) {
    const int64_t i = r % run->Lq, h = r / run->Lq % run->H, b = r / run->Lq / run->H;
    if (r == first || r % (run->Lq * run->H) == 0) padding = padding_of(run, b);
    const attention_tensor *x = &run->scores, *y = &run->output;
    row_place place = {.row = attention_row_of(run, i, batch_span_of(&run->queries, b).length,
                                               batch_span_of(&run->keys, b).length),
                       .from = b * x->stride_b + h * x->stride_h + i * x->stride_q,
                       .to = b * y->stride_b + h * y->stride_h + i * y->stride_q,
                       .padding = padding};
    if (run->attention.data)
      place.attention =
          run->attention.data + b * run->attention.stride_b + i * run->attention.stride_q;
    if (run->type == TYPE_FLOAT64)
      LEVEL(attention_row_f64)(run, &place, scratch);
    else
      LEVEL(attention_row_f32)(run, &place, scratch);
  }
}

cumega_status LEVEL(attention_scores_cpu)(cumega_context *ctx, const attention_run *run) {
  void *scratch;
  TRY(call_scratch(ctx, ctx->threads * scratch_bytes(run), &scratch));
  rows_plan p = {run, run->B * run->H * run->Lq, ROWS_SCORES / run->Lk + 1, scratch};
  run_items(ctx, run_item, &p, divide_up(p.rows, p.item_rows));
  return CUMEGA_OK;
}
