#include "emulated_run.h"

#define SPARE 3 /* rows of a pool that are not used */

enum { X, Y, INITIAL, FINAL, LENGTHS, FROM, TO, MASK };

static int64_t steps_of(const ema_shape *s) {
  return s->L > 0 ? s->L : 1;
}

static void lay_out(emulated_run *run) {
  const ema_shape *s = &run->shape->ema;
  const int64_t L = steps_of(s), rows = s->pooled ? s->B + SPARE : s->B;
  const int64_t dense[] = {L, s->B, s->D}, flat[] = {L * s->B, s->D};
  for (int which = X; which <= Y; which++)
    emulated_run_add(run, which, which == Y, s->dtype, s->packed ? 2 : 3,
                     s->packed ? flat : dense);
  if (!s->stateless) {
    const int64_t states[] = {rows, s->D, s->N};
    emulated_run_add(run, INITIAL, 0, s->state_dtype, 3, states);
    emulated_run_add(run, FINAL, 1, s->state_dtype, 3, states);
  }
  if (s->L > 0)
    emulated_run_add(run, LENGTHS, 0, cumega_int64, 1, (int64_t[]){s->B + (s->packed != 0)});
  if (s->pooled) {
    emulated_run_add(run, FROM, 0, cumega_int64, 1, &s->B);
    emulated_run_add(run, TO, 0, cumega_int64, 1, &s->B);
  }
  if (s->masked) emulated_run_add(run, MASK, 0, cumega_uint8, 2, (int64_t[]){s->B, L});
}

/* Lengths from 0 to L, or offsets with such distances; distinct slots, some of them negative. */
static void fill_indices(emulated_run *run, uint64_t *seed) {
  const ema_shape *s = &run->shape->ema;
  int64_t *lengths = (int64_t *)(void *)run->host[LENGTHS], at = 0;
  for (int64_t b = 0; b < s->B && lengths != NULL; b++) {
    const int64_t length = random_below(seed, steps_of(s) + 1);
    lengths[b] = s->packed ? at : length;
    at += length;
  }
  if (s->packed) lengths[s->B] = at;
  const int64_t first = random_below(seed, SPARE + 1);
  for (int which = FROM; which <= TO; which++) {
    int64_t *slots = (int64_t *)(void *)run->host[which];
    for (int64_t b = 0; b < s->B && slots != NULL; b++) slots[b] = first + b;
    if (slots != NULL && random_below(seed, 2) == 0) slots[random_below(seed, s->B)] = -1;
  }
}

static void fill(emulated_run *run, uint64_t *seed) {
  emulated_run_fill_numbers(run, X, seed);
  if (run->bytes[INITIAL] > 0) emulated_run_fill_numbers(run, INITIAL, seed);
  fill_indices(run, seed);
  for (int64_t i = 0; i < run->bytes[MASK]; i++) run->host[MASK][i] = random_below(seed, 3) == 0;
}

cumega_ema_config emulated_ema_config(const run_shape *shape) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, shape->ema.D);
  config.num_heads = shape->ema.N;
  config.state_dtype = shape->ema.state_dtype;
  if (shape->ema.truncation > 0) config.truncation_length = shape->ema.truncation;
  return config;
}

static run_objects make(cumega_context *ctx, const run_shape *shape) {
  const cumega_ema_config config = emulated_ema_config(shape);
  run_objects objects = {NULL};
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &objects.ema));
  return objects;
}

static cumega_ema_io io_with(const emulated_run *run, cumega_tensor *views) {
  cumega_ema_io io = {.struct_size = sizeof io,
                      .algorithm = run->shape->ema.algorithm,
                      .x = emulated_run_view(run, views, X),
                      .y = emulated_run_view(run, views, Y),
                      .mask = emulated_run_view(run, views, MASK),
                      .initial_state = emulated_run_view(run, views, INITIAL),
                      .final_state = emulated_run_view(run, views, FINAL),
                      .initial_slots = emulated_run_view(run, views, FROM),
                      .final_slots = emulated_run_view(run, views, TO)};
  if (run->shape->ema.packed)
    io.sequence_offsets = emulated_run_view(run, views, LENGTHS);
  else
    io.sequence_lengths = emulated_run_view(run, views, LENGTHS);
  return io;
}

static cumega_status workspace_size(cumega_context *ctx, const run_objects *objects,
                                    const emulated_run *run, cumega_tensor *views,
                                    int64_t *bytes) {
  const cumega_ema_io io = io_with(run, views);
  return cumega_ema_workspace_size(ctx, objects->ema, &io, bytes);
}

static cumega_status prepare(cumega_context *ctx, const run_objects *objects,
                             const emulated_run *run, cumega_tensor *views) {
  const cumega_ema_io io = io_with(run, views);
  return cumega_ema_prepare(ctx, objects->ema, &io);
}

static cumega_status start(cumega_context *ctx, const run_objects *objects,
                           const emulated_run *run, cumega_tensor *views) {
  const cumega_ema_io io = io_with(run, views);
  return run->shape->ema.L == 0 ? cumega_ema_step(ctx, objects->ema, &io)
                                : cumega_ema_forward(ctx, objects->ema, &io);
}

static const char *function(const run_shape *shape) {
  return shape->ema.L == 0 ? "cumega_ema_step" : "cumega_ema_forward";
}

/* A longer length, if there is one, and more sequences. */
static run_shape larger(const run_shape *shape, int step) {
  run_shape other = *shape;
  if (shape->ema.L > 0) other.ema.L += 8 * step;
  other.ema.B += step;
  return other;
}

const run_operation ema_operation = {lay_out, fill,  make,     workspace_size,
                                     prepare, start, function, larger};
