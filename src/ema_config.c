/* The EMA's settings: words, defaults, checks. */
#include "activation_config.h"
#include "ema_object.h"
#include "enum_names.h"

static const enum_name algorithms[] = {
    {CUMEGA_EMA_DEFAULT, "default"}, {CUMEGA_EMA_RECURRENT, "recurrent"},
    {CUMEGA_EMA_SLICED, "sliced"},   {CUMEGA_EMA_CHUNKED, "chunked"},
    {CUMEGA_EMA_FFT, "fft"},         {CUMEGA_EMA_FASTEST, "fastest"},
};
DEFINE_ENUM_NAMES(cumega_ema_algorithm, algorithms)

void cumega_ema_config_init(cumega_ema_config *config, size_t struct_size, int64_t size) {
  const cumega_ema_config known = {.struct_size = sizeof known,
                                   .size = size,
                                   .num_heads = 4,
                                   .truncation_length = CUMEGA_NO_TRUNCATION,
                                   .state_dtype = cumega_float32,
                                   .activation = CUMEGA_ACTIVATION_RELU,
                                   .activation_arguments = activation_default_arguments};
  call_init_struct(config, struct_size, &known, sizeof known);
}

cumega_status ema_config_check(cumega_context *ctx, cumega_ema_config *config) {
  if (config->size < 1)
    return call_fail_argument(ctx, "config.size is %lld, expected at least 1",
                              (long long)config->size);
  if (config->num_heads < 1 || config->num_heads > CUMEGA_EMA_MAX_HEADS)
    return call_fail_argument(ctx, "config.num_heads is %lld, expected 1 to %d",
                              (long long)config->num_heads, CUMEGA_EMA_MAX_HEADS);
  if (config->truncation_length < 1)
    return call_fail_argument(ctx,
                              "config.truncation_length is %lld, expected at least 1, or "
                              "CUMEGA_NO_TRUNCATION",
                              (long long)config->truncation_length);
  TRY(object_check_dtype(ctx, "state_dtype", config->state_dtype));
  return activation_check(ctx, config->activation, &config->activation_arguments);
}
