/* Attention scores, their masks and the softmax, with an optional position bias that is never an
 * (L, L) tensor. The maths is in docs/position_bias.md.
 *
 * With B sequences, H heads, Lq queries and Lk >= Lq keys, the queries being the last Lq of the
 * Lk positions:
 *
 *   s = scale * scores + bias[i + Lk - Lq, j]                       cumega_attention_scores
 *   s = -inf where the attention mask, the causal rule (j > i + Lk - Lq) or the padding mask
 *       hides the key
 *   weights = exp(s - max s) / sum of exp(s - max s), over j        cumega_attention_softmax
 *
 * Bits. A row of weights depends on its own unmasked scores at their key indices alone: not on
 * the batch, the layout, the number of threads, the CPU level or the device, nor on keys that the
 * causal rule hides. A row of a prefill and the same row as a decoding step are equal. (All NaNs
 * count as equal.) */
#ifndef CUMEGA_ATTENTION_H
#define CUMEGA_ATTENTION_H

#include <cumega/position_bias.h>

/* The tensors of a run, in the memory of the context's device: any strides, pointers aligned to
 * their element. What a run does not need stays NULL or 0. */
typedef struct cumega_attention_scores_io {
  size_t struct_size;
  /* (B, H, Lq, Lk), Lq <= Lk: float32, float16, bfloat16 or float64. */
  const DLTensor *scores;
  /* Like scores. May be exactly scores (same memory and strides). */
  DLTensor *output;
  /* Finite; default 1. */
  double scale;
  /* Not 0: a query sees no key after its own position. */
  int32_t causal;
  /* Softmax only. Not 0: a row without any key is NaN, as in ESPnet; 0: zeros. */
  int32_t nan_rows;
  /* (Lq, Lk) or (B, 1, Lq, Lk), bool or uint8, nonzero = masked. */
  const DLTensor *attention_mask;
  /* (B, Lk), bool or uint8, nonzero = masked. A sequence whose keys are all masked counts as
   * unmasked, as in ESPnet. */
  const DLTensor *key_padding_mask;
  /* (B) int32 or int64, 0 .. Lq; NULL: Lq. */
  const DLTensor *query_lengths;
  /* (B) int32 or int64, the sequence's query length .. Lk; NULL: Lk. */
  const DLTensor *key_lengths;
  /* NULL: none is added. Its dtype is float64 where scores are, else float32. */
  const cumega_position_bias *bias;
} cumega_attention_scores_io;

#ifdef __cplusplus
extern "C" {
#endif

/* Writes the defaults into the first struct_size bytes (cumega_context_options_init). */
CUMEGA_API void cumega_attention_scores_io_init(cumega_attention_scores_io *io,
                                                size_t struct_size);

/* The scratch bytes that scores and softmax need for this io. Give the largest to
 * cumega_context_reserve, and with the tables prepared (cumega_position_bias_prepare) runs
 * allocate nothing. Depends on shapes, types and the context's threads only. Returns what
 * cumega_attention_scores does. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_attention_scores_workspace_size(
    cumega_context *ctx, const cumega_attention_scores_io *io, int64_t *bytes);

/* output = s, the scores that a softmax expects. Positions past a sequence's query or key length
 * become -inf; the causal rule, the bias and the padding rule use the sequence's own lengths, its
 * queries being rows 0 .. query length - 1.
 *
 * The arithmetic is one fma in float32, or in float64 where scores are, with one rounding at the
 * store. Enqueued on ctx's stream (a CPU call has finished on return). Lk above a relative bias's
 * max_positions is an error. B, H, Lq or Lk = 0 succeed. On a GPU lengths are clamped
 * (cumega_context_report). Returns CUMEGA_OK, CUMEGA_ERROR_ARGUMENT (nothing is written),
 * CUMEGA_ERROR_UNSUPPORTED (a struct with settings that this version does not know),
 * CUMEGA_ERROR_RESOURCE, CUMEGA_ERROR_STATE, CUMEGA_ERROR_DEVICE, CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_attention_scores(cumega_context *ctx, const cumega_attention_scores_io *io);

/* output = weights, the softmax of what cumega_attention_scores gives before its rounding, with
 * one read and one write of the scores as long as a row fits a GPU's registers or a CPU's cache.
 * Masked keys are exactly 0. A row without any key, or with -inf in every one, is zero, or NaN
 * with nan_rows. A NaN or +inf among a row's unmasked scores makes the row NaN over its
 * sequence's keys. Positions past a sequence's lengths become 0. Returns what
 * cumega_attention_scores does. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_attention_softmax(cumega_context *ctx, const cumega_attention_scores_io *io);

#ifdef __cplusplus
}
#endif
#endif
