/* Position biases' calls. */
#include "calls.h"

static cumega_position_bias *any_bias(calls *c, cumega_position_bias_config *config) {
  int kind = input_byte(&c->in);
  const made_bias *chosen = &c->biases[kind % CALLS_BIASES];
  *config = chosen->config;
  return kind >= 252 ? NULL : chosen->bias;
}

/* The type of tensors that fit a bias. */
static DLDataType usual_dtype(const cumega_position_bias_config *config) {
  return config->dtype.bits == 64 ? cumega_float64 : cumega_float32;
}

void call_position_bias_create(calls *c) {
  cumega_context *ctx = any_context(c);
  cumega_position_bias_config config;
  cumega_position_bias_config_init(&config, sizeof config, 1);
  cumega_position_bias_parameters p = {.struct_size = sizeof p};
  cumega_position_bias *made = (cumega_position_bias *)c;
  int i = input_below(&c->in, CALLS_BIASES), harm = input_byte(&c->in);
  config.kind = (cumega_position_bias_kind)input_below(&c->in, 2);
  config.max_positions = 1 + input_below(&c->in, 9);
  config.size = 2 * (1 + input_below(&c->in, 4));
  if (harm & 2) config.dtype = cumega_float64;
  if (harm >= 208 && harm < 212) config.dtype = any_dtype(c, config.dtype);
  if (harm >= 212 && harm < 216) config.kind = (cumega_position_bias_kind)input_number(&c->in);
  if (harm >= 224) config.max_positions = input_number(&c->in);
  if (harm >= 232) config.size = input_number(&c->in);
  wanted relative = {cumega_float32, 1, {2 * (config.max_positions & 0xFFFF) - 1}};
  wanted rotary = {cumega_float32, 1, {config.size}};
  call_begin(c);
  DLTensor *first = any_tensor(c, config.kind ? &rotary : &relative, 0, 1);
  DLTensor *second = any_tensor(c, &rotary, 0, 1);
  if (config.kind == CUMEGA_POSITION_BIAS_RELATIVE || harm >= 240)
    p.relative_position_bias = first;
  if (config.kind != CUMEGA_POSITION_BIAS_RELATIVE) {
    p.alpha = first;
    p.beta = second;
  }
  const int odd_structs = harm >= 192 && harm < 224;
  void *settings = odd_structs ? any_struct(c, &config, sizeof config, sizeof config) : &config;
  void *parameters = odd_structs ? any_struct(c, &p, sizeof p, sizeof p) : &p;
  cumega_status status =
      cumega_position_bias_create(ctx, settings, harm & 1 ? NULL : parameters, &made);
  call_end(c, ctx, status);
  MUST((status == CUMEGA_OK) == (made != NULL), "status %d", (int)status);
  if (made == NULL) return;
  cumega_position_bias_destroy(c->biases[i].bias);
  c->biases[i] = (made_bias){made, config};
}

void call_position_bias_object(calls *c) {
  cumega_context *ctx = any_context(c);
  cumega_position_bias_config config;
  cumega_position_bias *bias = any_bias(c, &config);
  cumega_position_bias_parameters p = {.struct_size = sizeof p};
  int kind = input_below(&c->in, 6);
  cumega_status status;
  call_begin(c);
  wanted relative = {cumega_float32, 1, {2 * config.max_positions - 1}};
  wanted rotary = {cumega_float32, 1 + input_below(&c->in, 2), {config.size}};
  if (rotary.ndim == 2) rotary = (wanted){cumega_float32, 2, {1, config.size}};
  double val = input_real(&c->in);
  if (kind < 2 && config.size == 0) p.relative_position_bias = any_tensor(c, &relative, !kind, 1);
  if (kind < 2 && config.size > 0) p.alpha = any_tensor(c, &rotary, !kind, 1);
  if (kind < 2 && config.size > 0) p.beta = any_tensor(c, &rotary, !kind, 1);
  void *given = any_struct(c, &p, sizeof p, sizeof p);
  switch (kind) {
  case 0: status = cumega_position_bias_get_parameters(ctx, bias, given); break;
  case 1: status = cumega_position_bias_set_parameters(ctx, bias, given); break;
  case 2:
    status = cumega_position_bias_reset_parameters(ctx, bias, val, input_real(&c->in), 1);
    break;
  case 3: status = cumega_position_bias_prepare(ctx, bias, input_number(&c->in)); break;
  default:
    status = cumega_position_bias_get_config(ctx, bias,
                                             any_struct(c, &config, sizeof config, sizeof config));
  }
  call_end(c, ctx, status);
}

void call_position_bias_forward(calls *c) {
  cumega_context *ctx = any_context(c);
  cumega_position_bias_config config;
  cumega_position_bias *bias = any_bias(c, &config);
  call_begin(c);
  int64_t length = input_below(&c->in, 10);
  wanted like = {usual_dtype(&config), 2, {length, length}};
  call_end(c, ctx, cumega_position_bias_forward(ctx, bias, any_tensor(c, &like, 1, 0)));
}

static cumega_attention_scores_io any_io(calls *c, DLDataType dtype) {
  cumega_attention_scores_io io;
  cumega_attention_scores_io_init(&io, sizeof io);
  const int64_t B = input_below(&c->in, 3), Lk = input_below(&c->in, 10);
  const int64_t Lq = input_below(&c->in, 4) == 0 ? input_below(&c->in, 10) : Lk;
  int parts = input_byte(&c->in);
  wanted scores = {dtype, 4, {B, 1 + input_below(&c->in, 2), Lq, Lk}};
  wanted mask = {cumega_bool, 2, {Lq, Lk}}, padding = {cumega_uint8, 2, {B, Lk}};
  wanted lengths = {parts & 128 ? cumega_int64 : cumega_int32, 1, {B}};
  if (parts & 1) mask = (wanted){cumega_bool, 4, {B, 1, Lq, Lk}};
  io.scores = any_tensor(c, &scores, 0, 0);
  io.output = any_tensor(c, &scores, 1, 0);
  io.scale = parts & 2 ? input_real(&c->in) : 1;
  io.causal = parts & 4;
  io.nan_rows = parts & 8;
  if (parts & 16) io.attention_mask = any_tensor(c, &mask, 0, 0);
  if (parts & 32) io.key_padding_mask = any_tensor(c, &padding, 0, 0);
  if (parts & 64) io.key_lengths = any_tensor(c, &lengths, 0, 0);
  if ((parts & 65) == 65) io.query_lengths = any_tensor(c, &lengths, 0, 0);
  return io;
}

void call_position_bias_scores(calls *c) {
  cumega_context *ctx = any_context(c);
  cumega_position_bias_config config;
  cumega_position_bias *bias = any_bias(c, &config);
  int softmax = input_below(&c->in, 2);
  int64_t bytes = -1;
  call_begin(c);
  cumega_attention_scores_io io = any_io(c, usual_dtype(&config));
  io.bias = bias;
  void *given = any_struct(c, &io, sizeof io, sizeof io);
  check_message(ctx, cumega_attention_scores_workspace_size(ctx, given, &bytes));
  call_end(c, ctx,
           softmax ? cumega_attention_softmax(ctx, given) : cumega_attention_scores(ctx, given));
}
