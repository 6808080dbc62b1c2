#include "load_worker.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "measure.h"

#define LEAKED_BYTES   512
#define CHECK_INTERVAL 997 /* calls between two runs of the fixed request */

/* Memory on the device. */
typedef struct buffer {
  void *there;
  int64_t bytes;
} buffer;

typedef struct lane {
  cumega_context *ctx;
  buffer x, y, pool, lengths, offsets, initial, final;
} lane;

typedef struct worker {
  load_worker *out;
  const load_plan *plan;
  lane *lanes;
  cumega_ema *own; /* NULL: the shared weights */
  float *numbers, *fixed;
  uint64_t random;
} worker;

static uint64_t draw(worker *w, uint64_t below) {
  w->random ^= w->random << 13;
  w->random ^= w->random >> 7;
  w->random ^= w->random << 17;
  return (w->random >> 11) % below;
}

static int say(worker *w, const char *what, cumega_context *ctx) {
  snprintf(w->out->failure, sizeof w->out->failure, "thread %d, call %lld: %s: %s", w->out->index,
           (long long)w->out->calls, what, cumega_context_message(ctx));
  return 0;
}

static cumega_status allocate(lane *l, buffer *b, int64_t bytes) {
  b->bytes = bytes;
  return cumega_memory_allocate(l->ctx, bytes, &b->there);
}

static void close_lane(lane *l) {
  buffer *all[] = {&l->x, &l->y, &l->pool, &l->lengths, &l->offsets, &l->initial, &l->final};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    if (all[i]->there) (void)!cumega_memory_release(l->ctx, all[i]->there, all[i]->bytes);
    memset(all[i], 0, sizeof *all[i]);
  }
  cumega_context_destroy(l->ctx);
  l->ctx = NULL;
}

static int open_lane(worker *w, lane *l) {
  const load_plan *p = w->plan;
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  options.device = p->device;
  options.allocator = p->allocator;
  cumega_status status = cumega_context_create(&options, &l->ctx);
  if (status != CUMEGA_OK) return say(w, "a context", NULL);
  int64_t rows = p->most_length * p->most_batch, B = p->most_batch;
  status = allocate(l, &l->x, rows * p->channels * 4);
  if (status == CUMEGA_OK) status = allocate(l, &l->y, rows * p->channels * 4);
  if (status == CUMEGA_OK) status = allocate(l, &l->pool, LOAD_SLOTS * p->channels * p->heads * 4);
  if (status == CUMEGA_OK) status = allocate(l, &l->lengths, B * 4);
  if (status == CUMEGA_OK) status = allocate(l, &l->offsets, (B + 1) * 8);
  if (status == CUMEGA_OK) status = allocate(l, &l->initial, B * 4);
  if (status == CUMEGA_OK) status = allocate(l, &l->final, B * 4);
  if (status == CUMEGA_OK)
    status = cumega_memory_write(l->ctx, l->x.there, w->numbers, l->x.bytes);
  if (status == CUMEGA_OK) { /* zeros: the initial states of new sequences */
    float *zeros = calloc(1, (size_t)l->pool.bytes);
    status = zeros ? cumega_memory_write(l->ctx, l->pool.there, zeros, l->pool.bytes)
                   : CUMEGA_ERROR_RESOURCE;
    free(zeros);
  }
  return status == CUMEGA_OK ? 1 : say(w, "memory", l->ctx);
}

/* A request: which sequences, how long, in which form. */
typedef struct request {
  enum load_kind kind;
  int packed;
  int64_t batch, longest, tokens;
  int32_t lengths[LOAD_MOST_BATCH], initial[LOAD_MOST_BATCH], final[LOAD_MOST_BATCH];
  int64_t offsets[LOAD_MOST_BATCH + 1];
} request;

/* Each sequence has its own slot, and continues from the state in it or starts again. */
static void make_request(worker *w, request *r) {
  const load_plan *p = w->plan;
  uint64_t slot = draw(w, LOAD_SLOTS), stride = 1 + draw(w, LOAD_SLOTS - 1);
  r->kind = draw(w, 4) == 0 ? LOAD_PREFILL : LOAD_STEP;
  r->packed = r->kind == LOAD_PREFILL && draw(w, 2);
  r->batch = 1 + (int64_t)draw(w, (uint64_t)p->most_batch);
  r->longest = 1;
  r->offsets[0] = 0;
  for (int64_t b = 0; b < r->batch; b++) {
    int prefill = r->kind == LOAD_PREFILL;
    int64_t length = prefill ? (int64_t)draw(w, (uint64_t)p->most_length + 1) : 1;
    r->lengths[b] = (int32_t)length;
    r->offsets[b + 1] = r->offsets[b] + length;
    r->final[b] = (int32_t)slot;
    r->initial[b] = prefill && draw(w, 2) ? -1 : (int32_t)slot;
    slot = (slot + stride) % LOAD_SLOTS;
    if (length > r->longest) r->longest = length;
  }
  r->tokens = r->offsets[r->batch];
}

static cumega_status send_indices(const lane *l, const request *r) {
  int64_t B = r->batch;
  cumega_status status = cumega_memory_write(l->ctx, l->initial.there, r->initial, B * 4);
  if (status == CUMEGA_OK) status = cumega_memory_write(l->ctx, l->final.there, r->final, B * 4);
  if (status == CUMEGA_OK && r->kind == LOAD_PREFILL && !r->packed)
    status = cumega_memory_write(l->ctx, l->lengths.there, r->lengths, B * 4);
  if (status == CUMEGA_OK && r->packed)
    status = cumega_memory_write(l->ctx, l->offsets.there, r->offsets, (B + 1) * 8);
  return status;
}

static cumega_status serve(const load_plan *p, const cumega_ema *ema, const lane *l,
                           const request *r) {
  const int64_t D = p->channels, B = r->batch, ends[] = {B + 1};
  const int64_t packed[] = {r->tokens, D}, padded[] = {r->longest, B, D}, step[] = {B, D};
  const int64_t pool[] = {LOAD_SLOTS, D, p->heads};
  const int64_t *shape = r->kind == LOAD_STEP ? step : r->packed ? packed : padded;
  const int ndim = r->kind == LOAD_PREFILL && !r->packed ? 3 : 2;
  cumega_tensor x, y, states, lengths, offsets, initial, final;
  cumega_ema_io io = {.struct_size = sizeof io};
  io.x = cumega_tensor_init(&x, l->x.there, p->device, cumega_float32, ndim, shape);
  io.y = cumega_tensor_init(&y, l->y.there, p->device, cumega_float32, ndim, shape);
  io.final_state = cumega_tensor_init(&states, l->pool.there, p->device, cumega_float32, 3, pool);
  io.initial_state = io.final_state;
  io.initial_slots =
      cumega_tensor_init(&initial, l->initial.there, p->device, cumega_int32, 1, &B);
  io.final_slots = cumega_tensor_init(&final, l->final.there, p->device, cumega_int32, 1, &B);
  if (r->packed)
    io.sequence_offsets =
        cumega_tensor_init(&offsets, l->offsets.there, p->device, cumega_int64, 1, ends);
  else if (r->kind == LOAD_PREFILL)
    io.sequence_lengths =
        cumega_tensor_init(&lengths, l->lengths.there, p->device, cumega_int32, 1, &B);
  cumega_status status = r->kind == LOAD_STEP ? cumega_ema_step(l->ctx, ema, &io)
                                              : cumega_ema_forward(l->ctx, ema, &io);
  return status == CUMEGA_OK ? cumega_context_synchronize(l->ctx) : status;
}

cumega_status load_fixed_request(const load_plan *plan, cumega_context *ctx, const cumega_ema *ema,
                                 float *y) {
  const int64_t shape[] = {LOAD_FIXED_LENGTH, 1, plan->channels};
  const int64_t bytes = LOAD_FIXED_LENGTH * plan->channels * 4;
  cumega_tensor tx, ty;
  cumega_ema_io io = {.struct_size = sizeof io};
  void *there = NULL;
  for (int64_t i = 0; i < LOAD_FIXED_LENGTH * plan->channels; i++) y[i] = (float)(i % 11 - 5) / 4;
  cumega_status status = cumega_memory_allocate(ctx, bytes, &there);
  if (status != CUMEGA_OK) return status;
  status = cumega_memory_write(ctx, there, y, bytes);
  io.x = cumega_tensor_init(&tx, there, plan->device, cumega_float32, 3, shape);
  io.y = cumega_tensor_init(&ty, there, plan->device, cumega_float32, 3, shape);
  if (status == CUMEGA_OK) status = cumega_ema_forward(ctx, ema, &io);
  if (status == CUMEGA_OK) status = cumega_memory_read(ctx, y, there, bytes);
  cumega_status released = cumega_memory_release(ctx, there, bytes);
  return status == CUMEGA_OK ? released : status;
}

/* Whether the fixed request has the same bits in the middle of the other work. */
static int check(worker *w, const lane *l, const cumega_ema *ema) {
  if (load_fixed_request(w->plan, l->ctx, ema, w->fixed) != CUMEGA_OK)
    return say(w, "the fixed request", l->ctx);
  w->out->checked++;
  size_t bytes = (size_t)(LOAD_FIXED_LENGTH * w->plan->channels) * sizeof(float);
  if (memcmp(w->fixed, w->plan->expected, bytes) == 0) return 1;
  return say(w, "the fixed request has other bits than alone", l->ctx);
}

static void record(load_histogram *h, double seconds) {
  uint64_t ns = seconds > 0 ? (uint64_t)(1e9 * seconds) + 16 : 16;
  int power = 63 - __builtin_clzll(ns);
  h->buckets[power * 16 + (int)(ns >> (power - 4) & 15)]++;
  h->count++;
}

double load_percentile(const load_histogram *h, double share) {
  int64_t below = 0, wanted = (int64_t)(share * (double)h->count);
  for (int i = 0; i < LOAD_BUCKETS; i++) {
    below += h->buckets[i];
    if (below > wanted || (below == h->count && h->count > 0 && below >= wanted))
      return (double)(17 + i % 16) * (double)(1ull << (i / 16)) / 16 * 1e-9 - 16e-9;
  }
  return 0;
}

void load_histogram_add(load_histogram *into, const load_histogram *from) {
  into->count += from->count;
  for (int i = 0; i < LOAD_BUCKETS; i++) into->buckets[i] += from->buckets[i];
}

/* A server that runs for weeks sometimes loads new weights and makes new contexts. */
static int renew(worker *w, lane *l) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, w->plan->channels);
  config.num_heads = w->plan->heads;
  close_lane(l);
  if (!open_lane(w, l)) return 0;
  cumega_ema_destroy(w->own);
  w->own = NULL;
  if (cumega_ema_create(l->ctx, &config, NULL, &w->own) == CUMEGA_OK) return 1;
  return say(w, "new weights", l->ctx);
}

static int one_call(worker *w, request *r) {
  const load_plan *p = w->plan;
  lane *l = &w->lanes[draw(w, (uint64_t)p->contexts)];
  const cumega_ema *ema = w->own && draw(w, 2) ? w->own : p->ema;
  make_request(w, r);
  if (send_indices(l, r) != CUMEGA_OK) return say(w, "indices", l->ctx);
  double start = steady_seconds();
  if (serve(p, ema, l, r) != CUMEGA_OK) return say(w, "a request", l->ctx);
  record(&w->out->latencies[r->kind], steady_seconds() - start);
  w->out->tokens += r->tokens;
  int64_t calls = ++w->out->calls;
  if (p->leaks) {
    volatile char *lost = malloc(LEAKED_BYTES);
    if (lost) lost[0] = lost[LEAKED_BYTES - 1] = 1;
  }
  if (calls % CHECK_INTERVAL == 0 && !check(w, l, ema)) return 0;
  return calls % p->renewal != 0 || renew(w, l);
}

void *load_work(void *argument) {
  load_worker *out = argument;
  const load_plan *p = out->plan;
  worker w = {
      .out = out, .plan = p, .random = p->seed * 0x9e3779b97f4a7c15u + 1 + (uint64_t)out->index};
  request r;
  int64_t values = p->most_length * p->most_batch * p->channels;
  w.lanes = calloc((size_t)p->contexts, sizeof *w.lanes);
  w.numbers = malloc((size_t)values * sizeof *w.numbers);
  w.fixed = malloc((size_t)(LOAD_FIXED_LENGTH * p->channels) * sizeof *w.fixed);
  int fine = w.lanes && w.numbers && w.fixed;
  if (!fine) (void)say(&w, "memory of a thread", NULL);
  for (int64_t i = 0; fine && i < values; i++) w.numbers[i] = (float)(i % 127 - 63) / 64;
  for (int i = 0; fine && i < p->contexts; i++) fine = open_lane(&w, &w.lanes[i]);
  while (fine && !out->plan->stop && (p->calls == 0 || out->calls < p->calls))
    fine = one_call(&w, &r);
  cumega_ema_destroy(w.own);
  for (int i = 0; w.lanes && i < p->contexts; i++) close_lane(&w.lanes[i]);
  free(w.lanes);
  free(w.numbers);
  free(w.fixed);
  return NULL;
}
