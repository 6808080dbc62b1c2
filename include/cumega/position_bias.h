/* Position biases of attention: ESPnet's RelativePositionBias and RotaryRelativePositionBias
 * (espnet2.asr_transducer.decoder.modules.mega.positional_bias; Ma et al., "Mega: Moving Average
 * Equipped Gated Attention", 2022). The maths, with the rotation identity and its proof, is in
 * docs/position_bias.md.
 *
 *   relative   bias[i, j] = w[max_positions - 1 + j - i]            w: (2 * max_positions - 1)
 *   rotary     bias[m, n] = sum over k of (a1 b1 + a2 b2)_k cos((m - n) theta_k)
 *                                       + (a1 b2 - a2 b1)_k sin((m - n) theta_k)
 *              a1, a2 and b1, b2: the halves of alpha and beta; theta_k = 10000^(-k / (size / 2))
 *
 * Either depends on j - i alone, so a table of 2 L - 1 values stands for the (L, L) matrix, and
 * attention (cumega/attention.h) reads the table. */
#ifndef CUMEGA_POSITION_BIAS_H
#define CUMEGA_POSITION_BIAS_H

#include <cumega/context.h>
#include <cumega/weights.h>

typedef struct cumega_position_bias cumega_position_bias;

typedef enum cumega_position_bias_kind {
  CUMEGA_POSITION_BIAS_RELATIVE = 0,
  CUMEGA_POSITION_BIAS_ROTARY = 1
} cumega_position_bias_kind;

/* Settings. */
typedef struct cumega_position_bias_config {
  size_t struct_size;
  cumega_position_bias_kind kind;
  /* >= 1. Relative: the longest sequence. Rotary: kept, and no limit. */
  int64_t max_positions;
  /* Rotary: the size of alpha and beta, even and >= 2. Relative: ignored. */
  int64_t size;
  /* The type of the table: cumega_float32 (default) for scores and outputs of float32, float16 or
   * bfloat16; cumega_float64 for float64 ones. */
  DLDataType dtype;
} cumega_position_bias_config;

/* The parameters, under ESPnet's names: on the CPU, any floating type, any strides, finite. Those
 * of the other kind are NULL. */
typedef struct cumega_position_bias_parameters {
  size_t struct_size;
  /* (2 * max_positions - 1), kept in config.dtype. */
  DLTensor *relative_position_bias;
  /* (1, size) or (size), kept exactly. */
  DLTensor *alpha;
  DLTensor *beta;
} cumega_position_bias_parameters;

#ifdef __cplusplus
extern "C" {
#endif

/* Write the defaults into the first struct_size bytes (cumega_context_options_init): a relative
 * bias with that many positions. */
CUMEGA_API void cumega_position_bias_config_init(cumega_position_bias_config *config,
                                                 size_t struct_size, int64_t max_positions);
CUMEGA_API void cumega_position_bias_parameters_init(cumega_position_bias_parameters *parameters,
                                                     size_t struct_size);

/* The words "relative" and "rotary"; NULL for any other value. _from_name returns 1, or 0 where
 * there is no such word or an argument is NULL; *kind is then unchanged. */
CUMEGA_API const char *cumega_position_bias_kind_name(cumega_position_bias_kind kind);
CUMEGA_API CUMEGA_CHECK_RESULT int
cumega_position_bias_kind_from_name(const char *name, cumega_position_bias_kind *kind);

/* Makes a bias on ctx's device. Parameters are copied, so the caller may free them on return;
 * NULL means cumega_position_bias_reset_parameters(0, 0.02, seed 0). *bias is NULL on failure.
 * Contexts of one device share a bias; a run never changes it. Returns CUMEGA_OK,
 * CUMEGA_ERROR_ARGUMENT (a setting or parameter; one that is not finite is named with its index),
 * CUMEGA_ERROR_UNSUPPORTED (a struct with settings that this version does not know),
 * CUMEGA_ERROR_RESOURCE, CUMEGA_ERROR_STATE (also while ctx's stream is being captured),
 * CUMEGA_ERROR_DEVICE, CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_position_bias_create(
    cumega_context *ctx, const cumega_position_bias_config *config,
    const cumega_position_bias_parameters *parameters, cumega_position_bias **bias);

/* The same from a weight file: the tensors prefix.relative_position_bias, or prefix.alpha and
 * prefix.beta. prefix is as in cumega_ema_create_from_weights. Also returns CUMEGA_ERROR_FILE,
 * and CUMEGA_ERROR_FORMAT where a tensor is missing or its shape or type is not what config
 * says. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_position_bias_create_from_weights(
    cumega_context *ctx, const cumega_weights *weights, const char *prefix,
    const cumega_position_bias_config *config, cumega_position_bias **bias);

/* NULL is allowed. No run may still be using it. */
CUMEGA_API void cumega_position_bias_destroy(cumega_position_bias *bias);

/* Fills *config, up to the struct_size that the caller has set. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_position_bias_get_config(
    cumega_context *ctx, const cumega_position_bias *bias, cumega_position_bias_config *config);

/* Copies the parameters out, rounded once to the types of the caller's tensors. NULL members are
 * left out. Waits for the stream where they are kept on a GPU. Returns CUMEGA_OK,
 * CUMEGA_ERROR_ARGUMENT, CUMEGA_ERROR_RESOURCE, CUMEGA_ERROR_STATE, CUMEGA_ERROR_DEVICE,
 * CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_position_bias_get_parameters(cumega_context *ctx, const cumega_position_bias *bias,
                                    const cumega_position_bias_parameters *parameters);

/* Replaces all parameters of the bias. Contexts make their tables of a rotary bias anew; no graph
 * that was captured with one may be launched afterwards. A relative bias keeps its memory. Where
 * the arguments are refused or memory runs out the old ones stay; a GPU that fails during the
 * copy leaves them undefined, until they are set again. No run may be using bias meanwhile.
 * Returns what cumega_position_bias_create does. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_position_bias_set_parameters(cumega_context *ctx, cumega_position_bias *bias,
                                    const cumega_position_bias_parameters *parameters);

/* New random parameters, float32 values, normal(val, std); ESPnet's defaults are 0 and 0.02. The
 * generator is Philox4x32-10 with Box-Muller: the same numbers on every machine. Returns
 * CUMEGA_OK, CUMEGA_ERROR_ARGUMENT (a negative or non-finite number), CUMEGA_ERROR_RESOURCE,
 * CUMEGA_ERROR_STATE, CUMEGA_ERROR_DEVICE, CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_position_bias_reset_parameters(
    cumega_context *ctx, cumega_position_bias *bias, double val, double std, uint64_t seed);

/* Makes ctx's table of a rotary bias for sequences of up to `length` positions, so that later
 * runs make none. A context keeps such a table, as long as the longest sequence so far, for each
 * of the 64 rotary biases that it used last, and every table that a captured graph has seen. A
 * run that finds no table makes it, which allocates memory and, on a GPU, waits for the stream;
 * while the stream is being captured that is refused. A relative bias's table is its parameter:
 * only the length is checked. Returns CUMEGA_OK, CUMEGA_ERROR_ARGUMENT (length is negative, or
 * above a relative bias's max_positions), CUMEGA_ERROR_RESOURCE (also: a table is missing and the
 * stream is being captured), CUMEGA_ERROR_STATE, CUMEGA_ERROR_DEVICE, CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_position_bias_prepare(
    cumega_context *ctx, const cumega_position_bias *bias, int64_t length);

/* ESPnet's forward(length): output (L, L), any floating type that config.dtype serves, any
 * strides, in the memory of ctx's device; output[i, j] = bias[i, j], rounded once. Enqueued on
 * ctx's stream. Returns CUMEGA_OK, CUMEGA_ERROR_ARGUMENT (nothing is written; also where L is
 * above a relative bias's max_positions), CUMEGA_ERROR_RESOURCE, CUMEGA_ERROR_STATE,
 * CUMEGA_ERROR_DEVICE, CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_position_bias_forward(
    cumega_context *ctx, const cumega_position_bias *bias, DLTensor *output);

#ifdef __cplusplus
}
#endif
#endif
