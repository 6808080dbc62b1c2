/* Residual connections' and normalisations' calls. */
#include "calls.h"

static cumega_residual *any_residual(calls *c, cumega_residual_config *config) {
  int kind = input_byte(&c->in);
  const made_residual *chosen = &c->residuals[kind % CALLS_RESIDUALS];
  *config = chosen->config;
  if (chosen->residual == NULL)
    cumega_residual_config_init(config, sizeof *config, (cumega_residual_kind)0, 1, 4);
  return kind >= 252 ? NULL : chosen->residual;
}

/* The type of tensors that fit it. */
static DLDataType usual_dtype(const cumega_residual_config *config) {
  return config->dtype.bits == 64 ? cumega_float64 : cumega_float32;
}

void call_norm_create(calls *c) {
  cumega_context *ctx = any_context(c);
  int i = input_below(&c->in, CALLS_NORMS), given = input_below(&c->in, 2);
  int64_t D = input_below(&c->in, 8) == 7 ? input_number(&c->in) : 1 + input_below(&c->in, 5);
  cumega_norm_type type = (cumega_norm_type)input_below(&c->in, 5);
  cumega_norm_config config;
  cumega_norm_config_init(&config, sizeof config, type, D);
  if (i == CALLS_NORMS - 1) config.dtype = cumega_float64; /* the others serve narrower types */
  cumega_norm_parameters p = {.struct_size = sizeof p};
  cumega_norm *made = (cumega_norm *)c;
  wanted like = {cumega_float32, 1, {D}}, one = {cumega_float32, 1, {1}};
  call_begin(c);
  p.weight = any_tensor(c, &like, 0, 1);
  p.bias = any_tensor(c, &like, 0, 1);
  p.scale = any_tensor(c, input_below(&c->in, 2) ? &like : &one, 0, 1);
  p.eps = any_tensor(c, &one, 0, 1);
  void *parameters = given ? any_struct(c, &p, sizeof p, sizeof p) : NULL;
  cumega_status status = cumega_norm_create(
      ctx, any_struct(c, &config, sizeof config, sizeof config), parameters, &made);
  call_end(c, ctx, status);
  MUST((status == CUMEGA_OK) == (made != NULL), "status %d", (int)status);
  if (made == NULL) return;
  cumega_norm_destroy(c->norms[i]);
  c->norms[i] = made;
}

static cumega_residual_parameters any_parameters(calls *c, int64_t D, int64_t d_input,
                                                 int output) {
  cumega_residual_parameters p = {.struct_size = sizeof p};
  wanted square = {cumega_float32, 2, {D, D}}, channels = {cumega_float32, 1, {D}};
  wanted affine = {cumega_float32, 1, {input_below(&c->in, 2) ? 1 : d_input}};
  p.affine = any_tensor(c, &affine, output, 1);
  p.Wx_weight = any_tensor(c, &square, output, 1);
  p.Wx_bias = any_tensor(c, &channels, output, 1);
  p.Wy_weight = any_tensor(c, &square, output, 1);
  p.Wy_bias = any_tensor(c, &channels, output, 1);
  p.Wy = any_tensor(c, &channels, output, 1);
  return p;
}

void call_residual_create(calls *c) {
  cumega_context *ctx = any_context(c);
  int i = input_below(&c->in, CALLS_RESIDUALS), given = input_below(&c->in, 2);
  int harm = input_byte(&c->in), flags = input_byte(&c->in);
  cumega_residual_config config;
  cumega_residual_config_init(&config, sizeof config, (cumega_residual_kind)input_below(&c->in, 5),
                              1 + input_below(&c->in, 4), 1 + input_below(&c->in, 5));
  cumega_residual *made = (cumega_residual *)c;
  config.scalar = flags & 1;
  config.l2 = flags & 2;
  config.elemwise = flags & 4;
  config.scaling_correction = flags & 8;
  if (flags & 16) config.dtype = cumega_float64;
  if (flags >= 240) config.dtype = any_dtype(c, config.dtype);
  if (harm >= 192) config.alpha = input_real(&c->in);
  if (harm >= 200) config.beta = input_real(&c->in);
  if (harm >= 208) config.gamma = input_real(&c->in);
  if (harm >= 216) config.power = input_real(&c->in);
  if (harm >= 224) config.i_layer = input_number(&c->in);
  if (harm >= 232) config.d_input = input_number(&c->in);
  if (harm >= 240) config.d_model = input_number(&c->in);
  if (harm >= 248) config.kind = (cumega_residual_kind)input_number(&c->in);
  call_begin(c);
  cumega_residual_parameters p = any_parameters(c, config.d_model, config.d_input, 0);
  void *parameters = given ? any_struct(c, &p, sizeof p, sizeof p) : NULL;
  cumega_status status = cumega_residual_create(
      ctx, any_struct(c, &config, sizeof config, sizeof config), parameters, &made);
  call_end(c, ctx, status);
  MUST((status == CUMEGA_OK) == (made != NULL), "status %d", (int)status);
  if (made == NULL) return;
  cumega_residual_destroy(c->residuals[i].residual);
  c->residuals[i] = (made_residual){made, config};
}

void call_residual_object(calls *c) {
  cumega_context *ctx = any_context(c);
  cumega_residual_config config;
  cumega_residual *residual = any_residual(c, &config);
  int kind = input_below(&c->in, 5);
  double alpha, beta;
  cumega_status status;
  call_begin(c);
  if (kind == 0) {
    status = cumega_residual_prepare(ctx, residual);
  } else if (kind == 1) {
    status = cumega_residual_get_multipliers(ctx, residual, &alpha, &beta);
  } else if (kind == 2) {
    status = cumega_residual_get_config(ctx, residual,
                                        any_struct(c, &config, sizeof config, sizeof config));
  } else {
    cumega_residual_parameters p = any_parameters(c, config.d_model, config.d_input, kind == 3);
    void *given = any_struct(c, &p, sizeof p, sizeof p);
    status = kind == 3 ? cumega_residual_get_parameters(ctx, residual, given)
                       : cumega_residual_set_parameters(ctx, residual, given);
  }
  call_end(c, ctx, status);
}

void call_residual_forward(calls *c) {
  cumega_context *ctx = any_context(c);
  cumega_residual_config config;
  cumega_residual *residual = any_residual(c, &config);
  cumega_residual_io io = {.struct_size = sizeof io};
  int parts = input_byte(&c->in);
  wanted like = {
      any_dtype(c, usual_dtype(&config)), 3, {input_below(&c->in, 4), 2, config.d_model}};
  int64_t bytes = -1;
  call_begin(c);
  if (parts & 1) like = (wanted){like.dtype, 3, {2, config.d_model, 1 + input_below(&c->in, 3)}};
  io.x = any_tensor(c, &like, 0, 0);
  io.y = any_tensor(c, &like, 0, 0);
  io.out = any_tensor(c, &like, 1, 0);
  io.transposed = parts & 1;
  if (parts & 2) io.norm = c->norms[input_below(&c->in, CALLS_NORMS)];
  if (parts & 4) io.normalized = any_tensor(c, &like, 1, 0);
  void *given = any_struct(c, &io, sizeof io, sizeof io);
  check_message(ctx, cumega_residual_workspace_size(ctx, residual, given, &bytes));
  call_end(c, ctx, cumega_residual_forward(ctx, residual, given));
}

void call_residual_gated(calls *c) {
  cumega_context *ctx = any_context(c);
  cumega_residual_gated_io io = {.struct_size = sizeof io};
  int parts = input_byte(&c->in);
  wanted like = {
      any_dtype(c, cumega_float32), 2, {input_below(&c->in, 4), 1 + input_below(&c->in, 5)}};
  call_begin(c);
  io.x = any_tensor(c, &like, 0, 0);
  io.gate = any_tensor(c, &like, 0, 0);
  io.h = any_tensor(c, &like, 0, 0);
  io.out = any_tensor(c, &like, 1, 0);
  if (parts & 2) io.norm = c->norms[input_below(&c->in, CALLS_NORMS)];
  if (parts & 4) io.normalized = any_tensor(c, &like, 1, 0);
  call_end(c, ctx, cumega_residual_gated_forward(ctx, any_struct(c, &io, sizeof io, sizeof io)));
}
