/* Configurations and calls in one expression, for tests. */
#ifndef CUMEGA_TESTS_DEFAULTS_H
#define CUMEGA_TESTS_DEFAULTS_H

#include <cumega/cumega.h>

static inline cumega_ema_config ema_config_of(int64_t size) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, size);
  return config;
}

static inline cumega_norm_config norm_config_of(cumega_norm_type type, int64_t size) {
  cumega_norm_config config;
  cumega_norm_config_init(&config, sizeof config, type, size);
  return config;
}

static inline cumega_residual_config residual_config_of(cumega_residual_kind kind, int64_t i_layer,
                                                        int64_t d_model) {
  cumega_residual_config config;
  cumega_residual_config_init(&config, sizeof config, kind, i_layer, d_model);
  return config;
}

static inline cumega_position_bias_config relative_config_of(int64_t max_positions) {
  cumega_position_bias_config config;
  cumega_position_bias_config_init(&config, sizeof config, max_positions);
  return config;
}

static inline cumega_position_bias_config rotary_config_of(int64_t size, int64_t max_positions) {
  cumega_position_bias_config config = relative_config_of(max_positions);
  config.kind = CUMEGA_POSITION_BIAS_ROTARY;
  config.size = size;
  return config;
}

/* A bias from tensors: NULL for random ones; dtype: of its table. */
static inline cumega_status bias_relative_as(DLDataType dtype, cumega_context *ctx,
                                             int64_t max_positions, const DLTensor *values,
                                             cumega_position_bias **bias) {
  cumega_position_bias_config config = relative_config_of(max_positions);
  cumega_position_bias_parameters p;
  cumega_position_bias_parameters_init(&p, sizeof p);
  config.dtype = dtype;
  p.relative_position_bias = (DLTensor *)(uintptr_t)values;
  return cumega_position_bias_create(ctx, &config, values ? &p : NULL, bias);
}

static inline cumega_status bias_rotary_as(DLDataType dtype, cumega_context *ctx, int64_t size,
                                           int64_t max_positions, const DLTensor *alpha,
                                           const DLTensor *beta, cumega_position_bias **bias) {
  cumega_position_bias_config config = rotary_config_of(size, max_positions);
  cumega_position_bias_parameters p;
  cumega_position_bias_parameters_init(&p, sizeof p);
  config.dtype = dtype;
  p.alpha = (DLTensor *)(uintptr_t)alpha;
  p.beta = (DLTensor *)(uintptr_t)beta;
  return cumega_position_bias_create(ctx, &config, alpha || beta ? &p : NULL, bias);
}

static inline cumega_status bias_relative(cumega_context *ctx, int64_t max_positions,
                                          const DLTensor *values, cumega_position_bias **bias) {
  return bias_relative_as(cumega_float32, ctx, max_positions, values, bias);
}

static inline cumega_status bias_rotary(cumega_context *ctx, int64_t size, int64_t max_positions,
                                        const DLTensor *alpha, const DLTensor *beta,
                                        cumega_position_bias **bias) {
  return bias_rotary_as(cumega_float32, ctx, size, max_positions, alpha, beta, bias);
}

static inline cumega_status bias_relative_from_weights(cumega_context *ctx,
                                                       const cumega_weights *weights,
                                                       const char *prefix, int64_t max_positions,
                                                       cumega_position_bias **bias) {
  const cumega_position_bias_config config = relative_config_of(max_positions);
  return cumega_position_bias_create_from_weights(ctx, weights, prefix, &config, bias);
}

static inline cumega_status
bias_rotary_from_weights(cumega_context *ctx, const cumega_weights *weights, const char *prefix,
                         int64_t size, int64_t max_positions, cumega_position_bias **bias) {
  const cumega_position_bias_config config = rotary_config_of(size, max_positions);
  return cumega_position_bias_create_from_weights(ctx, weights, prefix, &config, bias);
}

/* The dtype of objects that serve tensors of a type. */
static inline DLDataType real_dtype_of(DLDataType type) {
  return type.bits == 64 ? cumega_float64 : cumega_float32;
}

/* io with another bias, in *copy. NULL and a struct of another size are returned as they are. */
static inline const cumega_attention_scores_io *
scores_io_with(const cumega_attention_scores_io *io, const cumega_position_bias *bias,
               cumega_attention_scores_io *copy) {
  if (io == NULL || io->struct_size != sizeof *io) return io;
  *copy = *io;
  copy->bias = bias;
  return copy;
}

static inline cumega_status scores_with(cumega_context *ctx, const cumega_position_bias *bias,
                                        const cumega_attention_scores_io *io) {
  cumega_attention_scores_io copy;
  return cumega_attention_scores(ctx, scores_io_with(io, bias, &copy));
}

static inline cumega_status softmax_with(cumega_context *ctx, const cumega_position_bias *bias,
                                         const cumega_attention_scores_io *io) {
  cumega_attention_scores_io copy;
  return cumega_attention_softmax(ctx, scores_io_with(io, bias, &copy));
}

static inline cumega_status scores_size_with(cumega_context *ctx, const cumega_position_bias *bias,
                                             const cumega_attention_scores_io *io,
                                             int64_t *bytes) {
  cumega_attention_scores_io copy;
  return cumega_attention_scores_workspace_size(ctx, scores_io_with(io, bias, &copy), bytes);
}

#endif
