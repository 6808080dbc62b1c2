/* apply and softmax on the CPU: cut into items of some rows each, which the context's threads take
 * one by one. No row depends on another. */
#include "../fp_environment.h"
#include "position_bias_cpu.h"

#define ITEM_SCORES 32768 /* fewer are done before another thread would have woken up for them */

static int64_t scratch_bytes(const position_bias_run *run) {
  const int64_t real = run->type == TYPE_FLOAT64 ? (int64_t)sizeof(double) : (int64_t)sizeof(float);
  const int64_t bytes = row_scratch(run->Lk) * real;
  return (bytes + MEMORY_ALIGNMENT - 1) / MEMORY_ALIGNMENT * MEMORY_ALIGNMENT;
}

int64_t LEVEL(position_bias_workspace_cpu)(const cumega_context *ctx,
                                           const position_bias_run *run) {
  return ctx->threads * scratch_bytes(run);
}

typedef struct job {
  const position_bias_run *run;
  int64_t rows, rows_of_item;
  char *scratch;
} job;

/* The sequence's padding mask, or NULL where it has none, or masks all of its keys. */
static const uint8_t *padding_of(const position_bias_run *run, int64_t b) {
  if (run->padding.data == NULL) return NULL;
  const uint8_t *mask = run->padding.data + b * run->padding.stride_b;
  const int64_t keys = position_keys(run, b);
  for (int64_t j = 0; j < keys; j++)
    if (!mask[j * run->padding.stride_k]) return mask;
  return NULL;
}

static void run_item(void *argument, int64_t index, int worker) {
  const job *j = argument;
  const position_bias_run *run = j->run;
  void *scratch = j->scratch + worker * scratch_bytes(run);
  const int64_t first = index * j->rows_of_item;
  const int64_t end = first + j->rows_of_item < j->rows ? first + j->rows_of_item : j->rows;
  const uint8_t *padding = NULL;
  for (int64_t r = first; r < end; r++) {
    const int64_t i = r % run->Lq, h = r / run->Lq % run->H, b = r / run->Lq / run->H;
    if (r == first || r % (run->Lq * run->H) == 0) padding = padding_of(run, b);
    const position_scores *x = &run->scores, *y = &run->output;
    row_place place = {.row =
                           position_row_of(run, i, position_queries(run, b), position_keys(run, b)),
                       .from = b * x->stride_b + h * x->stride_h + i * x->stride_q,
                       .to = b * y->stride_b + h * y->stride_h + i * y->stride_q,
                       .padding = padding};
    if (run->attention.data)
      place.attention =
          run->attention.data + b * run->attention.stride_b + i * run->attention.stride_q;
    if (run->type == TYPE_FLOAT64)
      LEVEL(position_row_f64)(run, &place, scratch);
    else
      LEVEL(position_row_f32)(run, &place, scratch);
  }
}

cumega_status LEVEL(position_bias_rows_cpu)(cumega_context *ctx, const position_bias_run *run) {
  void *scratch;
  fp_environment environment;
  TRY(context_scratch(ctx, ctx->threads * scratch_bytes(run), &scratch));
  job j = {.run = run, .rows = run->B * run->H * run->Lq, .scratch = scratch};
  j.rows_of_item = ITEM_SCORES / run->Lk + 1;
  const int64_t items = (j.rows + j.rows_of_item - 1) / j.rows_of_item;
  fp_begin(&environment);
  pool_run(items > 3 ? ctx->pool : NULL, run_item, &j, items);
  fp_end(&environment);
  return CUMEGA_OK;
}
