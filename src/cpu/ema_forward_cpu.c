/* A run of the EMA on the CPU, divided into items that the context's threads take one by one.
 *
 * A long sequence with few channels is divided into slices of time as well (src/ema_slices.h
 * explains why this keeps the bits). The first pass runs all slices in parallel. The second pass
 * goes through the slices of each sequence in order. If a slice began with a state other than the
 * final state of the slice before it, the slice is computed again.
 *
 * No result depends on how a run is divided, so the bits do not depend on the number of
 * threads. */
#include "../ema_slices.h"
#include "ema_cpu.h"

/* Whether y may be written with non-temporal stores: it is large, and its rows are whole aligned
 * vectors of float32. */
static int can_stream(const ema_run *run) {
  const ema_sequences *y = &run->y;
  const int64_t lanes = VECTOR_BYTES / (int64_t)sizeof(float);
  if (!CAN_STREAM || run->type != TYPE_FLOAT32 || run->is_double || y->stride_d != 1) return 0;
  if ((uintptr_t)y->data % VECTOR_BYTES || y->stride_t % lanes || y->stride_b % lanes) return 0;
  const int64_t elements =
      run->batch.rows * (run->batch.packed ? 1 : run->batch.count) * run->channels;
  return elements >= STREAM_BYTES / (int64_t)sizeof(float);
}

/* Chooses the size of a group so that each thread gets a few items, unless they would be too
 * small. */
static int64_t group_channels(const cumega_context *ctx, const ema_plan *p) {
  const int64_t D = p->run->channels, N = p->run->heads;
  const double steps = (double)p->run->batch.rows * (double)N;
  int64_t group =
      EMA_GROUP_CHANNELS * 4 / N * (int64_t)sizeof(float) / real_bytes(p->run->is_double);
  group = smaller(group, EMA_GROUP_CHANNELS);
  if (group > D) group = round_up(D, EMA_CHANNEL_PADDING);
  while (group > EMA_CHANNEL_PADDING && ctx->threads > 1 &&
         steps * (double)group >= EMA_ITEM_WORK &&
         p->run->batch.count * divide_up(D, group) < EMA_ITEMS_PER_THREAD * (int64_t)ctx->threads)
    group /= 2;
  group = group / EMA_CHANNEL_PADDING * EMA_CHANNEL_PADDING;
  return group == 0 ? EMA_CHANNEL_PADDING : group;
}

static ema_plan make_plan(const cumega_context *ctx, const ema_run *run) {
  const int64_t D = run->channels, N = run->heads;
  ema_plan p = {.run = run};
  const int64_t number = real_bytes(run->is_double);
  p.group = group_channels(ctx, &p);
  p.groups = divide_up(D, p.group);
  p.stream = can_stream(run);

  /* The work of all sequences. In a packed batch, rows is the sum of their lengths. */
  const double work = (double)run->batch.rows * (double)N * (double)D *
                      (run->batch.packed ? 1 : (double)run->batch.count);
  p.pool = work >= (double)POOL_ITEMS * EMA_ITEM_WORK ? ctx->pool : NULL;
  const int64_t items = run->batch.count * p.groups;
  const int too_few = items > 0 && items < EMA_FEW_ITEMS * ctx->threads && p.pool;
  p.slices = ema_slices_of(run, too_few ? EMA_ITEMS_PER_THREAD * ctx->threads / items : 1);

  p.state_bytes = round_up(p.group * N * number, MEMORY_ALIGNMENT);
  p.terms_bytes = round_up(N * VECTOR_BYTES, MEMORY_ALIGNMENT);
  if (run->truncated)
    p.history_bytes = (run->truncation - 1 + TILE_STEPS) * TILE_CHANNELS * number;
  if (p.slices.count > 1) p.slice_bytes = run->batch.count * p.slices.count * D * N * number;
  return p;
}

static int64_t workspace_of(const cumega_context *ctx, const ema_plan *p) {
  return ctx->threads * ema_thread_bytes(p) + 2 * p->slice_bytes;
}

int64_t LEVEL(ema_workspace_cpu)(const cumega_context *ctx, const ema_run *run) {
  const ema_plan p = make_plan(ctx, run);
  return workspace_of(ctx, &p);
}

static int64_t clamp(int64_t n, int64_t most) {
  return n < 0 ? 0 : smaller(n, most);
}

ema_item LEVEL(ema_item_of)(const ema_plan *p, int64_t index) {
  const ema_run *run = p->run;
  const int64_t slice = index / p->groups % p->slices.count;
  const int64_t b = index / p->groups / p->slices.count;
  ema_item item = {.b = b, .initial = &run->initial, .final = &run->final};
  item.d0 = index % p->groups * p->group;
  item.d1 = smaller(item.d0 + p->group, p->run->channels);
  const batch_span span = batch_span_of(&run->batch, b);
  item.first = span.first;
  item.length = span.length;
  item.rows = run->batch.packed ? item.length : run->batch.rows;
  item.initial_row = ema_state_row(&run->initial, &run->initial_slots, b);
  item.final_row = ema_state_row(&run->final, &run->final_slots, b);
  if (p->slices.count == 1) return item;

  const int64_t t = slice * p->slices.steps, row = b * p->slices.count + slice;
  item.first += t;
  item.length = clamp(item.length - t, p->slices.steps);
  item.rows = clamp(item.rows - t, p->slices.steps);
  item.final = &p->end;
  item.final_row = row;
  if (p->from_end) {
    item.initial = &p->end;
    item.initial_row = row - 1;
  } else if (slice > 0 && item.length == 0) {
    item.initial_row = item.final_row = -1; /* only writes the zeros after the sequence */
  } else if (slice > 0) {
    item.initial_row = -1;
    item.warmup = p->slices.warmup;
  }
  return item;
}

cumega_status LEVEL(ema_forward_cpu)(cumega_context *ctx, const ema_run *run) {
  if (run->batch.rows == 0 && run->final.data == NULL) return CUMEGA_OK;
  const int64_t D = run->channels, N = run->heads;
  ema_plan p = make_plan(ctx, run);
  void *scratch;
  fp_environment environment;
  TRY(call_scratch(ctx, workspace_of(ctx, &p), &scratch));
  p.scratch = scratch;
  char *states = p.scratch + ctx->threads * ema_thread_bytes(&p);
  const int64_t rows = run->batch.count * p.slices.count;
  p.begin = (ema_state){states, D * N, N, 1};
  p.end = (ema_state){states + p.slice_bytes, D * N, N, 1};
  fp_begin(&environment);
  pool_run(p.pool, run->is_double ? LEVEL(ema_item_f64) : LEVEL(ema_item_f32), &p,
           rows * p.groups);
  if (p.slices.count > 1)
    pool_run(p.pool, run->is_double ? LEVEL(ema_check_f64) : LEVEL(ema_check_f32), &p,
             run->batch.count * p.groups);
  fp_end(&environment);
  return CUMEGA_OK;
}
