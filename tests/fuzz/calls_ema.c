/* The EMA's calls. */
#include "calls.h"

/* Sometimes NULL; tensors are then made to fit a small one. */
static cumega_ema *any_ema(calls *c, cumega_ema_config *config) {
  int kind = input_byte(&c->in);
  const made_ema *chosen = &c->emas[kind % CALLS_EMAS];
  if (chosen->ema == NULL) chosen = &c->emas[0];
  *config = chosen->config;
  if (chosen->ema == NULL) cumega_ema_config_init(config, sizeof *config, 3);
  return kind >= 252 ? NULL : chosen->ema;
}

static cumega_ema_config any_config(calls *c) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 1 + input_below(&c->in, 6));
  int harm = input_byte(&c->in);
  config.num_heads = 1 + input_below(&c->in, 5);
  config.activation = (cumega_activation)input_below(&c->in, 10);
  config.state_dtype = input_below(&c->in, 2) ? cumega_float64 : cumega_float32;
  if (harm >= 128 && harm < 160) config.truncation_length = input_number(&c->in);
  if (harm >= 160 && harm < 168) config.size = input_number(&c->in);
  if (harm >= 168 && harm < 176) config.num_heads = input_number(&c->in);
  if (harm >= 176 && harm < 184) config.state_dtype = any_dtype(c, config.state_dtype);
  if (harm >= 184 && harm < 192) config.activation = (cumega_activation)input_number(&c->in);
  if (harm >= 192 && harm < 224) {
    config.activation_arguments.swish_beta = input_real(&c->in);
    config.activation_arguments.leakyrelu_neg_slope = input_real(&c->in);
    config.activation_arguments.hardtanh_min_val = input_real(&c->in);
    config.activation_arguments.hardtanh_max_val = input_real(&c->in);
    config.activation_arguments.smish_alpha = input_real(&c->in);
    config.activation_arguments.smish_beta = input_real(&c->in);
    config.activation_arguments.ftswish_threshold = input_real(&c->in);
    config.activation_arguments.ftswish_mean_shift = input_real(&c->in);
  }
  return config;
}

/* The five tensors, in CPU memory on every device. */
static cumega_ema_parameters any_parameters(calls *c, const cumega_ema_config *config,
                                            int output) {
  cumega_ema_parameters p = {.struct_size = sizeof p};
  const int64_t D = config->size, N = config->num_heads;
  wanted like = {cumega_float32, 2 + input_below(&c->in, 2), {D, N, 1}};
  p.damping_factor = any_tensor(c, &like, output, 1);
  p.decay_factor = any_tensor(c, &like, output, 1);
  p.ema_expansion_matrix = any_tensor(c, &like, output, 1);
  like.ndim = 2;
  p.kernel_projection_matrix = any_tensor(c, &like, output, 1);
  like.ndim = 1;
  p.residual_weight = any_tensor(c, &like, output, 1);
  return p;
}

#define PARAMETERS(c, p) any_struct(c, p, sizeof *(p), sizeof *(p))

void call_ema_create(calls *c) {
  int i = input_below(&c->in, CALLS_EMAS), given = input_below(&c->in, 2);
  cumega_context *ctx = any_context(c);
  cumega_ema_config config = any_config(c);
  cumega_ema *made = (cumega_ema *)c;
  call_begin(c);
  cumega_ema_parameters p = any_parameters(c, &config, 0);
  cumega_ema_parameters *parameters = given ? PARAMETERS(c, &p) : NULL;
  cumega_status status = cumega_ema_create(
      ctx, any_struct(c, &config, sizeof config, sizeof config), parameters, &made);
  call_end(c, ctx, status);
  MUST((status == CUMEGA_OK) == (made != NULL), "status %d", (int)status);
  if (made == NULL) return;
  cumega_ema_destroy(c->emas[i].ema);
  c->emas[i] = (made_ema){made, config};
}

void call_ema_destroy(calls *c) {
  int i = input_below(&c->in, CALLS_EMAS);
  cumega_ema_destroy(c->emas[i].ema);
  c->emas[i].ema = NULL;
}

void call_ema_config(calls *c) {
  cumega_context *ctx = any_context(c);
  cumega_ema_config config;
  cumega_ema *ema = any_ema(c, &config);
  call_begin(c);
  void *given = any_struct(c, &config, sizeof config, sizeof config);
  call_end(c, ctx, cumega_ema_get_config(ctx, ema, given));
}

void call_ema_parameters(calls *c) {
  cumega_context *ctx = any_context(c);
  cumega_ema_config config;
  cumega_ema *ema = any_ema(c, &config);
  int kind = input_below(&c->in, 3);
  cumega_status status;
  call_begin(c);
  if (kind == 0) {
    double val = input_real(&c->in), std1 = input_real(&c->in), std2 = input_real(&c->in);
    status = cumega_ema_reset_parameters(ctx, ema, val, std1, std2, (uint64_t)input_byte(&c->in));
  } else {
    cumega_ema_parameters p = any_parameters(c, &config, kind == 1);
    status = kind == 1 ? cumega_ema_get_parameters(ctx, ema, PARAMETERS(c, &p))
                       : cumega_ema_set_parameters(ctx, ema, PARAMETERS(c, &p));
  }
  call_end(c, ctx, status);
}

void call_ema_compute(calls *c) {
  cumega_context *ctx = any_context(c);
  cumega_ema_config config;
  cumega_ema *ema = any_ema(c, &config);
  const int64_t D = config.size, N = config.num_heads;
  cumega_status status;
  call_begin(c);
  if (input_below(&c->in, 2)) {
    wanted like = {cumega_float32, 2, {D, input_byte(&c->in)}};
    status = cumega_ema_compute_kernel(ctx, ema, any_tensor(c, &like, 1, 1));
  } else {
    wanted like = {cumega_float64, 2 + input_below(&c->in, 2), {D, N, 1}};
    DLTensor *p = any_tensor(c, &like, 1, 1);
    status = cumega_ema_compute_coefficients(ctx, ema, p, any_tensor(c, &like, 1, 1));
  }
  call_end(c, ctx, status);
}

/* One bit chooses each of the optional tensors. */
static cumega_ema_io any_io(calls *c, const cumega_ema_config *config, int is_step) {
  cumega_ema_io io = {.struct_size = sizeof io};
  const int64_t D = config->size, N = config->num_heads;
  const int64_t L = is_step ? 1 : input_below(&c->in, 9), B = input_below(&c->in, 5);
  int parts = input_byte(&c->in), packed = (parts & 3) == 3, rows = 1 + input_below(&c->in, 8);
  DLDataType index = input_below(&c->in, 2) ? cumega_int64 : cumega_int32;
  wanted x = {config->state_dtype, 3, {L, B, D}}, per_sequence = {index, 1, {B}};
  wanted packed_x = {x.dtype, 2, {L * B, D}}, offsets = {index, 1, {B + 1}};
  wanted mask = {cumega_bool, 3, {B, 1, L}}, state = {config->state_dtype, 3, {B, D, N}};
  if (input_below(&c->in, 4) == 0) x.dtype = packed_x.dtype = cumega_bfloat16;
  const wanted *sequences = packed ? &packed_x : &x;
  io.x = any_tensor(c, sequences, 0, 0);
  io.y = any_tensor(c, sequences, 1, 0);
  if (packed) io.sequence_offsets = any_tensor(c, &offsets, 0, 0);
  if ((parts & 3) == 1) io.sequence_lengths = any_tensor(c, &per_sequence, 0, 0);
  if (parts & 4) io.mask = any_tensor(c, &mask, 0, 0);
  if (parts & 8) io.initial_slots = any_tensor(c, &per_sequence, 0, 0);
  if (parts & 16) io.final_slots = any_tensor(c, &per_sequence, 0, 0);
  if (parts & 24) state.shape[0] = rows;
  if (parts & 40) io.initial_state = any_tensor(c, &state, 0, 0);
  if (parts & 80) io.final_state = any_tensor(c, &state, 1, 0);
  io.raw = is_step && (parts & 128);
  io.ignore_truncation = input_below(&c->in, 2);
  return io;
}

static void run(calls *c, int is_step) {
  cumega_context *ctx = any_context(c);
  cumega_ema_config config;
  cumega_ema *ema = any_ema(c, &config);
  int64_t bytes = -1;
  call_begin(c);
  cumega_ema_io io = any_io(c, &config, is_step);
  void *given = any_struct(c, &io, sizeof io, sizeof io);
  if (input_below(&c->in, 4) == 0) {
    cumega_status status = cumega_ema_workspace_size(ctx, ema, given, &bytes);
    check_message(ctx, status);
    if (status == CUMEGA_OK) check_message(ctx, cumega_context_reserve(ctx, bytes));
  }
  call_end(c, ctx,
           is_step ? cumega_ema_step(ctx, ema, given) : cumega_ema_forward(ctx, ema, given));
}

void call_ema_forward(calls *c) {
  run(c, 0);
}

void call_ema_step(calls *c) {
  run(c, 1);
}
