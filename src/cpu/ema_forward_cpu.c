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

/* How a run is cut, and what a thread needs. */
typedef struct plan {
  int64_t group;  /* channels of an item */
  int64_t groups; /* items of a sequence */
  int64_t state_bytes, terms_bytes, history_bytes;
  int shared; /* among the context's threads */
} plan;

static int64_t whole_lines(int64_t bytes) {
  return (bytes + MEMORY_ALIGNMENT - 1) / MEMORY_ALIGNMENT * MEMORY_ALIGNMENT;
}

static plan make_plan(const cumega_context *ctx, const cumega_ema *ema, const ema_run *run) {
  const int64_t D = ema->config.size, N = ema->config.num_heads;
  int is_double = ema->tables.f64.q != NULL;
  int64_t real = is_double ? (int64_t)sizeof(double) : (int64_t)sizeof(float);
  const double steps = (double)run->L * (double)N; /* of one head each; packed: of all sequences */
  plan p;
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
  p.shared = ctx->pool && steps * (double)D * rows >= 4 * ITEM_LEAST_WORK;
  return p;
}

static int64_t bytes_per_thread(const plan *p) {
  return p->state_bytes + p->terms_bytes + p->history_bytes;
}

int64_t LEVEL(ema_workspace_cpu)(const cumega_context *ctx, const cumega_ema *ema,
                                 const ema_run *run) {
  plan p = make_plan(ctx, ema, run);
  return ctx->threads * bytes_per_thread(&p);
}

typedef struct job {
  const cumega_ema *ema;
  const ema_run *run;
  const plan *plan;
  char *scratch;
} job;

static void run_item(void *argument, int64_t index, int worker) {
  const job *j = argument;
  const plan *p = j->plan;
  char *own = j->scratch + worker * bytes_per_thread(p);
  ema_memory parts = {own, own + p->state_bytes, own + p->state_bytes + p->terms_bytes};
  ema_item item;
  item.b = index / p->groups;
  item.first = ema_run_first(j->run, item.b);
  item.length = ema_run_length(j->run, item.b);
  item.d0 = index % p->groups * p->group;
  item.d1 = item.d0 + p->group;
  if (item.d1 > j->ema->config.size) item.d1 = j->ema->config.size;
  if (j->ema->tables.f64.q)
    LEVEL(ema_item_f64)(j->ema, j->run, &item, &parts);
  else
    LEVEL(ema_item_f32)(j->ema, j->run, &item, &parts);
  stream_fence();
}

cumega_status LEVEL(ema_forward_cpu)(cumega_context *ctx, const cumega_ema *ema,
                                     const ema_run *run) {
  if (run->L == 0 && run->final.data == NULL) return CUMEGA_OK;
  plan p = make_plan(ctx, ema, run);
  void *scratch;
  fp_environment environment;
  TRY(context_scratch(ctx, ctx->threads * bytes_per_thread(&p), &scratch));
  job j = {ema, run, &p, scratch};
  fp_begin(&environment);
  if (p.shared)
    pool_run(ctx->pool, run_item, &j, run->B * p.groups);
  else
    for (int64_t i = 0; i < run->B * p.groups; i++) run_item(&j, i, 0);
  fp_end(&environment);
  return CUMEGA_OK;
}
