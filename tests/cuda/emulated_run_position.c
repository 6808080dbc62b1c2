#include "defaults.h"
#include "emulated_run.h"

enum { SCORES, OUTPUT, ATTENTION, PADDING, QUERIES, KEYS };

static void lay_out(emulated_run *run) {
  const position_shape *s = &run->shape->position;
  const int64_t matrix[] = {s->Lk, s->Lk}, scores[] = {s->B, s->H, s->Lq, s->Lk};
  if (s->call == POSITION_MATRIX) {
    emulated_run_add(run, OUTPUT, 1, s->dtype, 2, matrix);
    return;
  }
  emulated_run_add(run, SCORES, 0, s->dtype, 4, scores);
  emulated_run_add(run, OUTPUT, 1, s->dtype, 4, scores);
  if (!s->ragged) return;
  emulated_run_add(run, ATTENTION, 0, cumega_uint8, 2, (int64_t[]){s->Lq, s->Lk});
  emulated_run_add(run, PADDING, 0, cumega_uint8, 2, (int64_t[]){s->B, s->Lk});
  emulated_run_add(run, QUERIES, 0, cumega_int64, 1, &s->B);
  emulated_run_add(run, KEYS, 0, cumega_int64, 1, &s->B);
}

static void fill(emulated_run *run, uint64_t *seed) {
  const position_shape *s = &run->shape->position;
  int64_t *queries = (int64_t *)(void *)run->host[QUERIES];
  int64_t *keys = (int64_t *)(void *)run->host[KEYS];
  if (run->bytes[SCORES] > 0) emulated_run_fill_numbers(run, SCORES, seed);
  for (int which = ATTENTION; which <= PADDING; which++)
    for (int64_t i = 0; i < run->bytes[which]; i++)
      run->host[which][i] = random_below(seed, 4) == 0;
  for (int64_t b = 0; b < s->B && queries != NULL; b++) {
    queries[b] = random_below(seed, s->Lq + 1);
    keys[b] = queries[b] + random_below(seed, s->Lk - queries[b] + 1);
  }
}

/* The same for a larger shape. */
int64_t emulated_positions(const run_shape *shape) {
  int64_t positions = 1;
  while (positions < shape->position.Lk) positions *= 2;
  return positions;
}

static run_objects make(cumega_context *ctx, const run_shape *shape) {
  const DLDataType dtype = real_dtype_of(shape->position.dtype);
  run_objects objects = {NULL};
  if (shape->position.kind == CUMEGA_POSITION_BIAS_RELATIVE)
    MUST(ctx, bias_relative_as(dtype, ctx, emulated_positions(shape), NULL, &objects.bias));
  else
    MUST(ctx, bias_rotary_as(dtype, ctx, EMULATED_ROTARY_SIZE, 1, NULL, NULL, &objects.bias));
  return objects;
}

static cumega_attention_scores_io io_with(const emulated_run *run, cumega_tensor *views) {
  cumega_attention_scores_io io;
  cumega_attention_scores_io_init(&io, sizeof io);
  io.scores = emulated_run_view(run, views, SCORES);
  io.output = emulated_run_view(run, views, OUTPUT);
  io.scale = 0.75;
  io.causal = run->shape->position.ragged;
  io.attention_mask = emulated_run_view(run, views, ATTENTION);
  io.key_padding_mask = emulated_run_view(run, views, PADDING);
  io.query_lengths = emulated_run_view(run, views, QUERIES);
  io.key_lengths = emulated_run_view(run, views, KEYS);
  return io;
}

static cumega_status workspace_size(cumega_context *ctx, const run_objects *objects,
                                    const emulated_run *run, cumega_tensor *views,
                                    int64_t *bytes) {
  const cumega_attention_scores_io io = io_with(run, views);
  *bytes = 0;
  if (run->shape->position.call == POSITION_MATRIX) return CUMEGA_OK;
  return scores_size_with(ctx, objects->bias, &io, bytes);
}

static cumega_status prepare(cumega_context *ctx, const run_objects *objects,
                             const emulated_run *run, cumega_tensor *views) {
  (void)views;
  return cumega_position_bias_prepare(ctx, objects->bias, run->shape->position.Lk);
}

static cumega_status start(cumega_context *ctx, const run_objects *objects,
                           const emulated_run *run, cumega_tensor *views) {
  const cumega_attention_scores_io io = io_with(run, views);
  switch (run->shape->position.call) {
  case POSITION_MATRIX: return cumega_position_bias_forward(ctx, objects->bias, io.output);
  case POSITION_SCORES: return scores_with(ctx, objects->bias, &io);
  default: return softmax_with(ctx, objects->bias, &io);
  }
}

static const char *function(const run_shape *shape) {
  switch (shape->position.call) {
  case POSITION_MATRIX: return "cumega_position_bias_forward";
  case POSITION_SCORES: return "cumega_attention_scores";
  default: return "cumega_attention_softmax";
  }
}

/* Beyond a rotary table's first 256 positions, within a relative bias's table. */
static run_shape larger(const run_shape *shape, int step) {
  run_shape other = *shape;
  other.position.Lk += shape->position.kind == CUMEGA_POSITION_BIAS_ROTARY ? 256 * step : step;
  if (shape->position.call != POSITION_MATRIX) other.position.B += step;
  return other;
}

const run_operation position_operation = {lay_out, fill,  make,     workspace_size,
                                          prepare, start, function, larger};
