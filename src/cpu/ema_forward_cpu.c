/* A run on the CPU: cut into items, a sequence and a group of its channels each, which the
 * context's threads take one by one. No item depends on another, and an item's bits do not depend
 * on how the channels are grouped, so neither do they on the number of threads.
 *
 * A group's states and coefficients, (5 N + 1) numbers per channel, are to stay in the first-level
 * cache while rows of x and y pass through it. */
#include "../fp_environment.h"
#include "ema_cpu.h"

#define GROUP_MAX 512

/* Fewer steps of channels and heads than this are done before another thread would have woken up for them. */
#define ITEM_LEAST_WORK 32768

static int64_t whole_lines(int64_t bytes) {
  return (bytes + MEMORY_ALIGNMENT - 1) / MEMORY_ALIGNMENT * MEMORY_ALIGNMENT;
}

static ema_plan make_plan(const cumega_context *ctx, const cumega_ema *ema, const ema_run *run) {
  const int64_t D = ema->config.size, N = ema->config.num_heads;
  int is_double = ema->tables.f64.q != NULL;
  int64_t real = is_double ? (int64_t)sizeof(double) : (int64_t)sizeof(float);
  const double steps = (double)run->L * (double)N; /* of one head each; packed: of all sequences */
  ema_plan p;
  p.group = GROUP_MAX * 4 / N * (int64_t)sizeof(float) / real;
  if (p.group > GROUP_MAX) p.group = GROUP_MAX;
  if (p.group > D)
    p.group = (D + EMA_CHANNEL_PADDING - 1) / EMA_CHANNEL_PADDING * EMA_CHANNEL_PADDING;
  /* A few items for every thread, so that none waits long for the last one, unless they would be small. */
  while (p.group > EMA_CHANNEL_PADDING && ctx->threads > 1 &&
         steps * (double)p.group >= ITEM_LEAST_WORK &&
         run->B * ((D + p.group - 1) / p.group) < 4 * (int64_t)ctx->threads)
    p.group /= 2;
  p.group = p.group / EMA_CHANNEL_PADDING * EMA_CHANNEL_PADDING;
  if (p.group == 0) p.group = EMA_CHANNEL_PADDING;
  p.groups = (D + p.group - 1) / p.group;
  p.state_bytes = whole_lines(p.group * N * real);
  p.terms_bytes = whole_lines(N * VECTOR_BYTES);
  p.history_bytes =
      run->truncated ? (ema->config.truncation_length - 1 + TILE_STEPS) * TILE_CHANNELS * real : 0;
  const double rows = run->packed ? 1 : (double)run->B;
  p.pool = steps * (double)D * rows >= 4 * ITEM_LEAST_WORK ? ctx->pool : NULL;
  /* Slices of time, where several threads have too few sequences and channels. */
  const int64_t items = run->B * p.groups;
  const int too_few = items > 0 && items < 2 * ctx->threads && p.pool;
  p.slices = ema_slices_of(ema, run, too_few ? 4 * ctx->threads / items : 1);
  return p;
}

/* Each thread's own, then the states of slices. */
static int64_t workspace_of(const cumega_context *ctx, const cumega_ema *ema, const ema_run *run,
                            const ema_plan *p) {
  return ctx->threads * ema_bytes_per_thread(p) + LEVEL(ema_sliced_bytes)(ema, run, p);
}

int64_t LEVEL(ema_workspace_cpu)(const cumega_context *ctx, const cumega_ema *ema,
                                 const ema_run *run) {
  ema_plan p = make_plan(ctx, ema, run);
  return workspace_of(ctx, ema, run, &p);
}

ema_item LEVEL(ema_item_of)(const cumega_ema *ema, const ema_run *run, int64_t b, int64_t d0,
                            int64_t channels) {
  ema_item item = {.b = b, .d0 = d0, .d1 = d0 + channels};
  item.first = ema_run_first(run, b);
  item.length = ema_run_length(run, b);
  item.rows = run->packed ? item.length : run->L;
  if (item.d1 > ema->config.size) item.d1 = ema->config.size;
  item.initial = &run->initial;
  item.final = &run->final;
  item.initial_row = ema_state_row(&run->initial, &run->initial_slots, b);
  item.final_row = ema_state_row(&run->final, &run->final_slots, b);
  return item;
}

void LEVEL(ema_item_run)(const cumega_ema *ema, const ema_run *run, const ema_item *item,
                         const ema_memory *parts) {
  if (ema->tables.f64.q)
    LEVEL(ema_item_f64)(ema, run, item, parts);
  else
    LEVEL(ema_item_f32)(ema, run, item, parts);
}

typedef struct job {
  const cumega_ema *ema;
  const ema_run *run;
  const ema_plan *plan;
  char *scratch;
} job;

static void run_item(void *argument, int64_t index, int worker) {
  const job *j = argument;
  const ema_plan *p = j->plan;
  const ema_memory parts = ema_memory_of(p, j->scratch, worker);
  const ema_item item =
      LEVEL(ema_item_of)(j->ema, j->run, index / p->groups, index % p->groups * p->group, p->group);
  LEVEL(ema_item_run)(j->ema, j->run, &item, &parts);
  stream_fence();
}

cumega_status LEVEL(ema_forward_cpu)(cumega_context *ctx, const cumega_ema *ema,
                                     const ema_run *run) {
  if (run->L == 0 && run->final.data == NULL) return CUMEGA_OK;
  ema_plan p = make_plan(ctx, ema, run);
  void *scratch;
  fp_environment environment;
  TRY(context_scratch(ctx, workspace_of(ctx, ema, run, &p), &scratch));
  job j = {ema, run, &p, scratch};
  char *states = (char *)scratch + ctx->threads * ema_bytes_per_thread(&p);
  fp_begin(&environment);
  if (p.slices.count > 1)
    LEVEL(ema_sliced_cpu)(ema, run, &p, scratch, states);
  else
    pool_run(p.pool, run_item, &j, run->B * p.groups);
  fp_end(&environment);
  return CUMEGA_OK;
}
