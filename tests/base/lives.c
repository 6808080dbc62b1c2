#include "defaults.h"
#include "lives.h"
#include <stdio.h>
#include <string.h>

enum { D = 8, ROWS = 5, LONG = 17000, BYTES = 4 * LONG };

/* What a life has; NULL for what does not exist yet, or no longer. */
typedef struct scene {
  cumega_context *ctx;
  DLDevice device;
  void *memory; /* on the device, BYTES */
  cumega_position_bias *bias;
  cumega_residual *residual;
  cumega_norm *norm;
  cumega_ema *ema;
  cumega_tensor views[8];
  int used;
} scene;

#define DO(call)                                                                                  \
  do {                                                                                            \
    cumega_status did = (call);                                                                   \
    if (did != CUMEGA_OK) return did;                                                             \
  } while (0)

/* The device's memory as a tensor; everything in a life shares it where possible. */
static DLTensor *view_at(scene *s, int64_t offset, DLDataType dtype, int ndim,
                         const int64_t *shape) {
  cumega_tensor *t = &s->views[s->used++ % 8];
  return cumega_tensor_init(t, (char *)s->memory + offset, s->device, dtype, ndim, shape);
}

/* What could not wait for the stream has released nothing, and is called again. Returns memory
 * that is lost with its device. */
static void *end(scene *s) {
  void *lost = NULL;
  if (s->memory && cumega_memory_release(s->ctx, s->memory, BYTES) != CUMEGA_OK &&
      cumega_memory_release(s->ctx, s->memory, BYTES) != CUMEGA_OK)
    lost = s->memory;
  cumega_position_bias_destroy(s->bias);
  cumega_residual_destroy(s->residual);
  cumega_norm_destroy(s->norm);
  cumega_ema_destroy(s->ema);
  cumega_context_destroy(s->ctx);
  return lost;
}

static life_end live(const cumega_context_options *options, cumega_status (*body)(scene *s)) {
  static const float zeros[BYTES / sizeof(float)];
  scene s;
  memset(&s, 0, sizeof s);
  s.device = options->device;
  life_end e = {.status = cumega_context_create(options, &s.ctx)};
  e.has_context = s.ctx != NULL;
  if (e.status == CUMEGA_OK) e.status = cumega_memory_allocate(s.ctx, BYTES, &s.memory);
  if (e.status == CUMEGA_OK) e.status = cumega_memory_write(s.ctx, s.memory, zeros, BYTES);
  if (e.status == CUMEGA_OK) e.status = body(&s);
  if (e.status != CUMEGA_OK)
    snprintf(e.sentence, sizeof e.sentence, "%s", cumega_context_message(s.ctx));
  e.lost = end(&s);
  return e;
}

/* ---- position biases ---- */

/* In place. Only rows of more than 16K keys need scratch. There is no bias, since its table would
 * take long to make. */
static cumega_status use_bias(scene *s) {
  const int64_t matrix[] = {4, 4}, lengthy[] = {1, 1, 1, LONG}, shape[] = {1, 1, 2, 40};
  int64_t bytes;
  cumega_attention_scores_io io;
  cumega_attention_scores_io_init(&io, sizeof io);
  io.output = view_at(s, 0, cumega_float32, 4, shape);
  io.scores = io.output;
  DO(cumega_position_bias_prepare(s->ctx, s->bias, 16));
  DO(scores_size_with(s->ctx, s->bias, &io, &bytes));
  DO(softmax_with(s->ctx, s->bias, &io));
  DO(cumega_position_bias_reset_parameters(s->ctx, s->bias, 0, 1, 1));
  DO(scores_with(s->ctx, s->bias, &io));
  DO(cumega_position_bias_forward(s->ctx, s->bias, view_at(s, 0, cumega_float32, 2, matrix)));
  io.output = view_at(s, 0, cumega_float32, 4, lengthy);
  io.scores = io.output;
  DO(softmax_with(s->ctx, NULL, &io));
  return cumega_context_synchronize(s->ctx);
}

static cumega_status relative_body(scene *s) {
  DO(bias_relative(s->ctx, 64, NULL, &s->bias));
  return use_bias(s);
}

static cumega_status rotary_body(scene *s) {
  DO(bias_rotary(s->ctx, 4, 64, NULL, NULL, &s->bias));
  return use_bias(s);
}

/* ---- residual connections ---- */

/* Replaces the existing one. */
static cumega_status make_highway(scene *s, DLDataType dtype, cumega_residual_parameters *p) {
  cumega_residual_config config;
  cumega_residual_config_init(&config, sizeof config, CUMEGA_RESIDUAL_HIGHWAY, 0, D);
  config.dtype = dtype;
  cumega_residual_destroy(s->residual);
  s->residual = NULL;
  return cumega_residual_create(s->ctx, &config, p, &s->residual);
}

/* dtype: half precision, which the products cannot read in place. */
static cumega_status run_highway(scene *s, DLDataType dtype) {
  const int64_t shape[] = {ROWS, D};
  int64_t bytes;
  cumega_residual_io io = {.struct_size = sizeof io,
                           .x = view_at(s, 0, dtype, 2, shape),
                           .y = view_at(s, 1024, dtype, 2, shape),
                           .out = view_at(s, 2048, dtype, 2, shape)};
  DO(cumega_residual_workspace_size(s->ctx, s->residual, &io, &bytes));
  return cumega_residual_forward(s->ctx, s->residual, &io);
}

static cumega_status highway_body(scene *s) {
  static float square[D * D], line[D], back[D];
  const int64_t matrix[] = {D, D}, vector[] = {D};
  cumega_tensor w, b, out;
  DLTensor *weight = cumega_tensor_init(&w, square, cumega_cpu, cumega_float32, 2, matrix);
  DLTensor *bias = cumega_tensor_init(&b, line, cumega_cpu, cumega_float32, 1, vector);
  cumega_residual_parameters p = {sizeof p, NULL, weight, bias, weight, bias, NULL};
  DO(make_highway(s, cumega_float64, &p));
  DO(cumega_residual_prepare(s->ctx, s->residual));
  DO(run_highway(s, cumega_float64)); /* the largest first: one allocation of scratch */
  DO(make_highway(s, cumega_float32, &p));
  DO(run_highway(s, cumega_float16));
  DO(run_highway(s, cumega_float32));
  DO(cumega_residual_set_parameters(s->ctx, s->residual, &p));
  p = (cumega_residual_parameters){.struct_size = sizeof p};
  p.Wx_bias = cumega_tensor_init(&out, back, cumega_cpu, cumega_float32, 1, vector);
  DO(cumega_residual_get_parameters(s->ctx, s->residual, &p));
  return cumega_context_synchronize(s->ctx);
}

static cumega_status norm_body(scene *s) {
  const int64_t shape[] = {ROWS, D};
  cumega_norm_config config;
  cumega_norm_config_init(&config, sizeof config, CUMEGA_NORM_LAYER, D);
  cumega_residual_config kind;
  cumega_residual_config_init(&kind, sizeof kind, CUMEGA_RESIDUAL_AFFINE, 1, D);
  cumega_norm_parameters defaults = {.struct_size = sizeof defaults};
  DO(cumega_norm_create(s->ctx, &config, NULL, &s->norm));
  DO(cumega_residual_create(s->ctx, &kind, NULL, &s->residual));
  cumega_residual_io io = {.struct_size = sizeof io,
                           .x = view_at(s, 0, cumega_float32, 2, shape),
                           .y = view_at(s, 1024, cumega_float32, 2, shape),
                           .out = view_at(s, 2048, cumega_float32, 2, shape)};
  DO(cumega_residual_forward(s->ctx, s->residual, &io));
  io.norm = s->norm;
  io.normalized = view_at(s, 3072, cumega_float32, 2, shape);
  DO(cumega_residual_forward(s->ctx, s->residual, &io));
  DO(cumega_norm_set_parameters(s->ctx, s->norm, &defaults));
  cumega_residual_gated_io gated = {
      .struct_size = sizeof gated, .x = io.x, .gate = io.y, .h = io.y, .out = io.out};
  DO(cumega_residual_gated_forward(s->ctx, &gated));
  return cumega_context_synchronize(s->ctx);
}

/* ---- the EMA's algorithms ---- */

static cumega_status run_ema(scene *s, cumega_ema_algorithm algorithm, DLDataType dtype,
                             int64_t length) {
  const int64_t shape[] = {length, 1, D};
  int64_t bytes;
  cumega_ema_io io = {.struct_size = sizeof io,
                      .x = view_at(s, 0, dtype, 3, shape),
                      .y = view_at(s, BYTES / 2, dtype, 3, shape),
                      .algorithm = algorithm};
  DO(cumega_ema_workspace_size(s->ctx, s->ema, &io, &bytes));
  DO(cumega_ema_prepare(s->ctx, s->ema, &io));
  return cumega_ema_forward(s->ctx, s->ema, &io);
}

static cumega_status ema_body_of(scene *s, DLDataType state) {
  const int cuda = s->device.device_type == kDLCUDA;
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, D);
  config.state_dtype = state;
  DO(cumega_ema_create(s->ctx, &config, NULL, &s->ema));
  DO(run_ema(s, CUMEGA_EMA_DEFAULT, state, 50));
  DO(run_ema(s, CUMEGA_EMA_SLICED, state, 200));
  if (cuda) DO(run_ema(s, CUMEGA_EMA_CHUNKED, state, 40));
  for (int64_t length = 3; cuda && length < 16; length += 6)
    DO(run_ema(s, CUMEGA_EMA_FFT, state, length));
  return cumega_context_synchronize(s->ctx);
}

static cumega_status ema_body(scene *s) {
  return ema_body_of(s, cumega_float32);
}

static cumega_status ema_body_f64(scene *s) {
  return ema_body_of(s, cumega_float64);
}

/* One sequence, whose row of the pool is read and written in place; both slots are zeros in the
 * memory. */
static cumega_status slots_body(scene *s) {
  const int64_t x[] = {3, 1, D}, pool[] = {2, D, 4}, slots[] = {1};
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, D);
  cumega_ema_io io = {.struct_size = sizeof io,
                      .x = view_at(s, 0, cumega_float32, 3, x),
                      .y = view_at(s, 1024, cumega_float32, 3, x),
                      .final_state = view_at(s, 2048, cumega_float32, 3, pool),
                      .initial_slots = view_at(s, 4096, cumega_int32, 1, slots),
                      .final_slots = view_at(s, 5120, cumega_int64, 1, slots)};
  io.initial_state = io.final_state;
  config.num_heads = 4;
  DO(cumega_ema_create(s->ctx, &config, NULL, &s->ema));
  DO(cumega_ema_forward(s->ctx, s->ema, &io));
  return cumega_context_synchronize(s->ctx);
}

#define LIFE(name)                                                                                \
  static life_end live_##name(const cumega_context_options *options) {                            \
    return live(options, name);                                                                   \
  }
LIFE(relative_body)
LIFE(rotary_body)
LIFE(highway_body)
LIFE(norm_body)
LIFE(ema_body)
LIFE(ema_body_f64)
LIFE(slots_body)

const life lives[] = {{"a relative position bias", live_relative_body},
                      {"a rotary position bias", live_rotary_body},
                      {"a Highway", live_highway_body},
                      {"an Affine and a layer norm", live_norm_body},
                      {"an EMA", live_ema_body},
                      {"an EMA with states in float64", live_ema_body_f64},
                      {"an EMA with a pool of states", live_slots_body}};
const int life_count = (int)(sizeof lives / sizeof *lives);
