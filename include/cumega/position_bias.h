/* Position biases, and attention scores that never meet an (L, L) bias: ESPnet's
 * RelativePositionBias and RotaryRelativePositionBias
 * (espnet2.asr_transducer.decoder.modules.mega.positional_bias; Ma et al., "Mega: Moving Average
 * Equipped Gated Attention", 2022). The maths, with the rotation identity and its proof, is in
 * docs/position_bias.md.
 *
 *   relative   bias[i, j] = w[max_positions - 1 + j - i]            w: (2 * max_positions - 1)
 *   rotary     bias[m, n] = sum over k of (a1 b1 + a2 b2)_k cos((m - n) theta_k)
 *                                       + (a1 b2 - a2 b1)_k sin((m - n) theta_k)
 *              a1, a2 and b1, b2: the halves of alpha and beta; theta_k = 10000^(-k / (size / 2))
 *
 * Either depends on j - i alone: a table of 2 L - 1 values stands for the (L, L) matrix, and apply
 * and softmax read it instead. In attention, with B sequences, H heads, Lq queries and Lk >= Lq
 * keys, the queries being the last Lq of the Lk positions:
 *
 *   s = scale * scores + bias[i + Lk - Lq, j]                       what apply writes
 *   s = -inf where the attention mask, the causal rule (j > i + Lk - Lq) or the padding mask says so
 *   weights = exp(s - max s) / sum of exp(s - max s), over j        what softmax writes
 *
 * A row of weights depends on its own unmasked scores at their key indices alone, to the last bit:
 * not on the batch, the layout, the number of threads, the CPU level or the device, nor on keys
 * that the causal rule hides, so that a row of a prefill and the same row as a decoding step are
 * equal. (All NaNs count as equal.) */
#ifndef CUMEGA_POSITION_BIAS_H
#define CUMEGA_POSITION_BIAS_H

#include <cumega/context.h>
#include <cumega/weights.h>

typedef struct cumega_position_bias cumega_position_bias;

typedef enum cumega_position_bias_kind {
  CUMEGA_POSITION_BIAS_RELATIVE = 0,
  CUMEGA_POSITION_BIAS_ROTARY = 1
} cumega_position_bias_kind;

/* What a bias was made with; the library fills it. */
typedef struct cumega_position_bias_config {
  size_t struct_size;
  cumega_position_bias_kind kind;
  int64_t max_positions; /* relative: no length goes beyond it; rotary: as given, and no limit */
  int64_t size;          /* rotary: the size of alpha and beta; relative: 0 */
} cumega_position_bias_config;

/* The parameters under ESPnet's names: on the CPU, any floating type, any strides, finite. Those of
 * the other kind are NULL. */
typedef struct cumega_position_bias_parameters {
  size_t struct_size;
  DLTensor *relative_position_bias; /* (2 * max_positions - 1) */
  DLTensor *alpha;                  /* (1, size) or (size) */
  DLTensor *beta;                   /* (1, size) or (size) */
} cumega_position_bias_parameters;

/* The tensors of apply and softmax, in the memory of the context's device. Any strides;
 * element-aligned pointers. Start from cumega_position_bias_io_default(); leave NULL or 0 what you
 * do not need. */
typedef struct cumega_position_bias_io {
  size_t struct_size;
  const DLTensor *scores; /* (B, H, Lq, Lk), Lq <= Lk: float32, float16, bfloat16 or float64 */
  DLTensor *output;       /* like scores; may be exactly scores (same memory and strides) */
  double scale;           /* finite; default 1 */
  int32_t causal;         /* not 0: a query sees no key behind its own position */
  int32_t nan_rows; /* softmax only. Not 0: a row without any key is NaN, as in ESPnet; 0: zeros */
  const DLTensor *attention_mask; /* (Lq, Lk) or (B, 1, Lq, Lk), bool or uint8, nonzero = masked */
  const DLTensor *key_padding_mask; /* (B, Lk), bool or uint8, nonzero = masked; a sequence whose
                                       keys are all masked counts as unmasked, as in ESPnet */
  const DLTensor *query_lengths;    /* (B) int32 or int64, 0 .. Lq; NULL: Lq */
  const DLTensor *key_lengths;      /* (B) int32 or int64, query length .. Lk; NULL: Lk */
} cumega_position_bias_io;

#ifdef __cplusplus
extern "C" {
#endif

static inline cumega_position_bias_io cumega_position_bias_io_default(void) {
  cumega_position_bias_io io;
  memset(&io, 0, sizeof io);
  io.struct_size = sizeof io;
  io.scale = 1.0;
  return io;
}

/* Make a bias on ctx's device. Parameters are copied, so their memory is free on return; NULL (for
 * rotary: both) means reset_parameters(0, 0.02, seed 0). max_positions >= 1; size >= 2 and even.
 * *bias is NULL on failure. Contexts of one device share a bias; a run never changes it. Return
 * CUMEGA_OK, _ARGUMENT (a setting, or a parameter: one that is not finite is named with its index),
 * _RESOURCE, _STATE (also while ctx's stream is being captured), _DEVICE, _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_position_bias_create_relative(
    cumega_context *ctx, int64_t max_positions, const DLTensor *relative_position_bias,
    cumega_position_bias **bias);
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_position_bias_create_rotary(
    cumega_context *ctx, int64_t size, int64_t max_positions, const DLTensor *alpha,
    const DLTensor *beta, cumega_position_bias **bias);

/* The same from a weight file: the tensors prefix.relative_position_bias, or prefix.alpha and
 * prefix.beta (prefix NULL or "": no prefix; a dot is put between where prefix has none at its
 * end). Also return _FILE, and _FORMAT where a tensor is missing or has another shape or type. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_position_bias_create_relative_from_weights(
    cumega_context *ctx, const cumega_weights *weights, const char *prefix, int64_t max_positions,
    cumega_position_bias **bias);
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_position_bias_create_rotary_from_weights(
    cumega_context *ctx, const cumega_weights *weights, const char *prefix, int64_t size,
    int64_t max_positions, cumega_position_bias **bias);

/* NULL is allowed. No run may still use it. */
CUMEGA_API void cumega_position_bias_destroy(cumega_position_bias *bias);

/* Fills *config, whose struct_size the caller has set. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_position_bias_get_config(
    cumega_context *ctx, const cumega_position_bias *bias, cumega_position_bias_config *config);

/* Copies the parameters out, rounded once to the types of the given tensors; NULL members are left
 * out. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_position_bias_get_parameters(cumega_context *ctx, const cumega_position_bias *bias,
                                    const cumega_position_bias_parameters *parameters);

/* Replaces all of the bias's parameters and what is derived from them; tables that contexts hold
 * are made anew. On failure the old ones stay. No run may use bias meanwhile, and no graph that was
 * captured with it may be launched afterwards. Returns as create, and _UNSUPPORTED (a struct with
 * settings that this version does not know). */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_position_bias_set_parameters(cumega_context *ctx, cumega_position_bias *bias,
                                    const cumega_position_bias_parameters *parameters);

/* New random parameters, float32 values, normal(val, std); ESPnet's defaults are 0 and 0.02. The
 * generator is Philox4x32-10 with Box-Muller: the same numbers on every machine. Returns CUMEGA_OK,
 * _ARGUMENT (a negative or non-finite number), _RESOURCE, _STATE, _DEVICE, _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_position_bias_reset_parameters(
    cumega_context *ctx, cumega_position_bias *bias, double val, double std, uint64_t seed);

/* Makes ctx's table for sequences of up to `length` positions, so that later runs make none. A
 * rotary bias has one table in every context that uses it, as long as the longest sequence seen
 * there; it is made on first use, which allocates memory and, on a GPU, waits for the stream, and
 * which is refused while the stream is being captured. For a relative bias, whose table is its
 * parameter, only the length is checked. Tables of destroyed or changed biases are released when a
 * context makes its next table, and with the context; those that a captured graph has seen with the
 * context only. Returns CUMEGA_OK, _ARGUMENT (length negative, or beyond a relative bias's
 * max_positions), _RESOURCE (also: a table is missing, and the stream is being captured), _STATE,
 * _DEVICE, _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_position_bias_prepare(cumega_context *ctx, const cumega_position_bias *bias, int64_t length);

/* ESPnet's forward(length): output (L, L), float32, float16, bfloat16 or float64, any strides, in
 * the memory of ctx's device; output[i, j] = bias[i, j], rounded once from float32 (float64 where
 * output is). Enqueued on ctx's stream. Returns CUMEGA_OK, _ARGUMENT (nothing is written; L beyond a
 * relative bias's max_positions is one), _RESOURCE, _STATE, _DEVICE, _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_position_bias_forward(
    cumega_context *ctx, const cumega_position_bias *bias, DLTensor *output);

/* Scratch bytes that apply and softmax of this io need: give the largest to
 * cumega_context_reserve, and with the tables prepared runs allocate nothing. Depends on shapes,
 * types and the context's threads only. Returns as apply. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_position_bias_workspace_size(cumega_context *ctx, const cumega_position_bias *bias,
                                    const cumega_position_bias_io *io, int64_t *bytes);

/* output = s, softmax-ready scores. bias may be NULL: none is added. What lies behind a sequence's
 * query or key length becomes -inf; the causal rule, the bias and the padding rule use the
 * sequence's own lengths, its queries being rows 0 .. query length - 1.
 *
 * The arithmetic is float32 inside, one fma, and float64 where scores are; one rounding at the
 * store. Enqueued on ctx's stream (a CPU call has finished on return). Lk beyond a relative bias's
 * max_positions is an ARGUMENT error. B, H, Lq or Lk = 0 succeed. On a GPU lengths are clamped
 * (cumega_context_report). Returns CUMEGA_OK, _ARGUMENT (nothing is written), _UNSUPPORTED (a
 * struct with settings that this version does not know), _RESOURCE, _STATE, _DEVICE, _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_position_bias_apply(
    cumega_context *ctx, const cumega_position_bias *bias, const cumega_position_bias_io *io);

/* output = weights, the softmax of what apply would give before its rounding, in one read and one
 * write of the scores as long as a row fits a GPU's registers or a CPU's cache. Masked keys are
 * exactly 0. A row without any key, or with -inf in every one, is zero, or NaN with nan_rows. A NaN
 * or +inf among a row's unmasked scores makes the row NaN over its sequence's keys. What lies behind
 * a sequence's lengths becomes 0. Otherwise as apply. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_position_bias_softmax(
    cumega_context *ctx, const cumega_position_bias *bias, const cumega_position_bias_io *io);

#ifdef __cplusplus
}
#endif
#endif
