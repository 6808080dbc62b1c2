/* Multi-head damped exponential moving average, as in ESPnet's MultiHeadDampedEMA
 * (espnet2.asr_transducer.decoder.modules.mega.multi_head_damped_ema; Ma et al., "Mega: Moving
 * Average Equipped Gated Attention", 2022). The maths, with every settled point, is in
 * docs/ema.md.
 *
 *   D channels (size), N heads, L steps, B sequences
 *   p = sigmoid(damping_factor), q = 1 - p * sigmoid(decay_factor)                 (D, N)
 *   h[t] = p * expansion * x~[t] + q * h[t-1]        the state, h before the first step given or 0
 *   e[t] = sum over heads of sqrt(1/N) * kernel_projection * h[t]
 *   y[t] = activation(e[t] + residual_weight * x[t])
 *
 * where x~ is x with masked steps set to zero. With a truncation_length K below L, e[t] sees the
 * last K steps only.
 *
 * Bits. The default algorithm computes each channel of each sequence as one recurrence in time
 * order. The bits of y and of the state therefore do not depend on the batch, its order, padding,
 * layout or alignment, on the number of threads, the CPU level or the device, or on how a
 * sequence is cut into chunks and steps. (All NaNs count as equal.) A run's `algorithm` can ask
 * for other orders. */
#ifndef CUMEGA_EMA_H
#define CUMEGA_EMA_H

#include <cumega/activation.h>
#include <cumega/context.h>
#include <cumega/weights.h>

/* The most heads: one pairwise sum (docs/ema.md). */
#define CUMEGA_EMA_MAX_HEADS 4096

#define CUMEGA_NO_TRUNCATION INT64_MAX

/* The steps of a chunk of CUMEGA_EMA_CHUNKED. */
#define CUMEGA_EMA_CHUNK_STEPS 64

/* How forward computes. docs/ema.md says which algorithm pays when. */
typedef enum cumega_ema_algorithm {
  /* RECURRENT, or SLICED where shapes and coefficients make that pay. Both have the same bits. */
  CUMEGA_EMA_DEFAULT = 0,
  /* One walk through each sequence, step by step. */
  CUMEGA_EMA_RECURRENT = 1,
  /* Slices of time that run side by side, each after a warm-up. A slice that turns out to have
   * started from a wrong state is computed again, so the bits are RECURRENT's. Refused where y is
   * x or the run is truncated; on CUDA up to 16 heads. */
  CUMEGA_EMA_SLICED = 2,
  /* A chunked scan: each sequence is cut every CUMEGA_EMA_CHUNK_STEPS steps, counted from its
   * first step in the call, and a state crosses a chunk by one product with
   * q^CUMEGA_EMA_CHUNK_STEPS. CUDA only, up to 16 heads, not truncated. The bits are not
   * RECURRENT's, but they do not depend on batch, layout or padding, and they stay the same when
   * a sequence is cut at multiples of CUMEGA_EMA_CHUNK_STEPS. Where q to that power is 0, an
   * infinite state becomes NaN instead of staying infinite. */
  CUMEGA_EMA_CHUNKED = 3,
  /* The convolution with the kernel, truncated or not, by cuFFT, which is loaded at first use.
   * CUDA only, without states. The bits depend on length and batch; rounding errors, infinities
   * and NaN of one step reach all steps of its channel and sequence. */
  CUMEGA_EMA_FFT = 4,
  /* DEFAULT, or CHUNKED on CUDA where few channels walk through many steps and slices do not pay.
   * Its bits depend on shapes and coefficients. */
  CUMEGA_EMA_FASTEST = 5
} cumega_ema_algorithm;

typedef struct cumega_ema cumega_ema;

/* Settings. */
typedef struct cumega_ema_config {
  size_t struct_size;
  /* D >= 1. */
  int64_t size;
  /* N, 1 .. CUMEGA_EMA_MAX_HEADS; default 4. */
  int64_t num_heads;
  /* K >= 1; default CUMEGA_NO_TRUNCATION. The EMA holds a table of K * D values. */
  int64_t truncation_length;
  /* cumega_float32 (default) or cumega_float64. */
  DLDataType state_dtype;
  /* Default CUMEGA_ACTIVATION_RELU. */
  cumega_activation activation;
  cumega_activation_arguments activation_arguments;
} cumega_ema_config;

/* The five parameters, under ESPnet's names: on the CPU, any floating type, any strides,
 * finite. */
typedef struct cumega_ema_parameters {
  size_t struct_size;
  /* (D, N, 1) or (D, N). */
  DLTensor *damping_factor;
  DLTensor *decay_factor;
  DLTensor *ema_expansion_matrix;
  /* (D, N). */
  DLTensor *kernel_projection_matrix;
  /* (D). */
  DLTensor *residual_weight;
} cumega_ema_parameters;

/* The tensors of a run, in the memory of the context's device: any strides, pointers aligned to
 * their element, x and y of one type. What a run does not need stays NULL or 0.
 *
 * A batch comes in one of two forms:
 *   padded: x and y (L, B, D), with sequence_lengths (B) where sequences are shorter than L;
 *   packed: x and y (total, D), with sequence_offsets (B + 1): sequence b is rows offsets[b] to
 *           offsets[b + 1] - 1.
 * Use sequence_lengths for padding, not a mask: the state still decays at a masked step. */
typedef struct cumega_ema_io {
  size_t struct_size;
  /* float32, float16, bfloat16, or float64 (which needs state_dtype float64). */
  const DLTensor *x;
  /* Like x. May be exactly x (same memory and strides). Rows past a sequence's length become 0;
   * packed rows outside every sequence are left alone. */
  DLTensor *y;
  /* (B, 1, L) or (B, L), bool or uint8, nonzero = ignore. Padded form only. */
  const DLTensor *mask;
  /* (B) int32 or int64, 0 .. L. */
  const DLTensor *sequence_lengths;
  /* (B + 1) int32 or int64, never decreasing, within 0 .. total. */
  const DLTensor *sequence_offsets;
  /* (B, D, N), or (rows, D, N) with initial_slots; state_dtype. NULL: zeros. */
  const DLTensor *initial_state;
  /* (B, D, N), or (rows, D, N) with final_slots. NULL: not kept. May be exactly initial_state, as
   * long as no sequence reads a row that another one writes. */
  DLTensor *final_state;
  /* (B) int32 or int64: rows of initial_state; negative: zeros. */
  const DLTensor *initial_slots;
  /* (B) int32 or int64: rows of final_state, each at most once; negative: not kept. */
  const DLTensor *final_slots;
  /* Not 0: run without truncation_length. */
  int32_t ignore_truncation;
  /* cumega_ema_step only. Not 0: write e, without residual and activation. */
  int32_t raw;
  /* Of forward. A step takes CUMEGA_EMA_DEFAULT only. */
  cumega_ema_algorithm algorithm;
} cumega_ema_io;

#ifdef __cplusplus
extern "C" {
#endif

/* Write the defaults into the first struct_size bytes (cumega_context_options_init). */
CUMEGA_API void cumega_ema_config_init(cumega_ema_config *config, size_t struct_size,
                                       int64_t size);
CUMEGA_API void cumega_ema_parameters_init(cumega_ema_parameters *parameters, size_t struct_size);
CUMEGA_API void cumega_ema_io_init(cumega_ema_io *io, size_t struct_size);

/* The words "default", "recurrent", "sliced", "chunked", "fft", "fastest"; NULL for any other
 * value. _from_name returns 1, or 0 where there is no such word or an argument is NULL;
 * *algorithm is then unchanged. */
CUMEGA_API const char *cumega_ema_algorithm_name(cumega_ema_algorithm algorithm);
CUMEGA_API CUMEGA_CHECK_RESULT int cumega_ema_algorithm_from_name(const char *name,
                                                                  cumega_ema_algorithm *algorithm);

/* Makes an EMA on ctx's device. Parameters are copied, so the caller may free them on return;
 * NULL means cumega_ema_reset_parameters with its defaults and seed 0. *ema is NULL on failure.
 * Contexts of one device share an EMA; a run never changes it. Returns CUMEGA_OK,
 * CUMEGA_ERROR_ARGUMENT (a setting or parameter; one that is not finite, or beyond the range of
 * state_dtype, is named with its index), CUMEGA_ERROR_UNSUPPORTED (a struct with settings that
 * this version does not know), CUMEGA_ERROR_RESOURCE, CUMEGA_ERROR_STATE (also while ctx's stream
 * is being captured), CUMEGA_ERROR_DEVICE, CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_ema_create(cumega_context *ctx, const cumega_ema_config *config,
                  const cumega_ema_parameters *parameters, cumega_ema **ema);

/* The same from a weight file: the tensors prefix.damping_factor and so on. prefix may be NULL or
 * "" for none; a dot is added where it does not end in one; a name has at most 1,023 bytes. Other
 * tensors of the file are ignored. Also returns CUMEGA_ERROR_FILE, and CUMEGA_ERROR_FORMAT where
 * a tensor is missing or its shape or type is not what config says. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_create_from_weights(
    cumega_context *ctx, const cumega_weights *weights, const char *prefix,
    const cumega_ema_config *config, cumega_ema **ema);

/* NULL is allowed. No run may still be using it. */
CUMEGA_API void cumega_ema_destroy(cumega_ema *ema);

/* Fills *config, up to the struct_size that the caller has set, with every default resolved. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_get_config(cumega_context *ctx,
                                                                   const cumega_ema *ema,
                                                                   cumega_ema_config *config);

/* Copies the parameters out as they were given, rounded once to the types of the caller's
 * tensors. NULL members are left out. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_get_parameters(
    cumega_context *ctx, const cumega_ema *ema, const cumega_ema_parameters *parameters);

/* Replaces all five parameters and what is derived from them, in the same memory. Where the
 * arguments are refused or memory runs out the old ones stay; a GPU that fails during the copy
 * leaves them undefined, until they are set again. No run may be using ema meanwhile. Returns
 * what cumega_ema_create does. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_set_parameters(
    cumega_context *ctx, cumega_ema *ema, const cumega_ema_parameters *parameters);

/* New random parameters, float32 values: damping and decay normal(val, std1); expansion
 * normal(val, 0.02) plus +1, -1, ... along the heads; projection and residual weight normal(val,
 * std2). ESPnet's defaults are 0, 0.2, 1. The generator is Philox4x32-10 with Box-Muller: the
 * same numbers on every machine. Returns CUMEGA_OK, CUMEGA_ERROR_ARGUMENT (a negative or
 * non-finite number), CUMEGA_ERROR_RESOURCE, CUMEGA_ERROR_STATE, CUMEGA_ERROR_DEVICE,
 * CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_reset_parameters(
    cumega_context *ctx, cumega_ema *ema, double val, double std1, double std2, uint64_t seed);

/* p and q, each (D, N, 1) or (D, N), any floating type: computed in double within 3 units in the
 * last place, then rounded once. Either may be NULL. They are host memory on every device, and
 * complete on return. ESPnet: compute_ema_coefficients, get_ema_coefficients. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_ema_compute_coefficients(cumega_context *ctx, const cumega_ema *ema,
                                DLTensor *damping_factor, DLTensor *prev_timestep_weight);

/* kernel (D, length), any floating type:
 *
 *   k[d, l] = sum over heads of scaling * projection * p * expansion * q^l
 *
 * The tensor gives the length; truncation_length does not cut it. It is host memory on every
 * device, and complete on return. Returns CUMEGA_OK, CUMEGA_ERROR_ARGUMENT,
 * CUMEGA_ERROR_RESOURCE, CUMEGA_ERROR_STATE, CUMEGA_ERROR_FATAL. ESPnet: compute_ema_kernel. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_compute_kernel(cumega_context *ctx,
                                                                       const cumega_ema *ema,
                                                                       DLTensor *kernel);

/* The scratch bytes that forward or step needs for this io. Give the largest to
 * cumega_context_reserve, and runs need no more. Depends on shapes, types, io.algorithm, whether
 * y is x, ctx's threads and memory_limit, and the decays (so ask again after new parameters);
 * tensors' values are not read. Returns what forward does. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_workspace_size(cumega_context *ctx,
                                                                       const cumega_ema *ema,
                                                                       const cumega_ema_io *io,
                                                                       int64_t *bytes);

/* Makes everything that forward or step would make at the first use of such an io: scratch, and
 * for FFT the plans and the kernel's spectrum, which the context keeps for the last lengths and
 * EMAs. After it the run makes nothing and may be captured. Prepare again after new parameters.
 * Depends on shapes, strides, types and which tensors are given; values are not read. Waits for
 * the stream. Returns what forward does, and CUMEGA_ERROR_STATE while the stream is being
 * captured. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_prepare(cumega_context *ctx,
                                                                const cumega_ema *ema,
                                                                const cumega_ema_io *io);

/* y = activation(EMA(x) + residual_weight * x): whole sequences, chunks of them, or single steps.
 *
 * An empty sequence copies its initial state (or zeros) to its final one; L = 0 and B = 0
 * succeed. With an initial or final state, a truncation_length below L (packed: below total,
 * whatever the lengths of the sequences) is an error unless ignore_truncation is set, which is
 * exact for sequences that are not longer than it. Without a state each step of a truncated EMA
 * sees its last truncation_length steps; a step with fewer steps before it has the bits of the
 * untruncated EMA.
 *
 * The arithmetic is float32, or float64 where x is, with one rounding at the store. With
 * state_dtype float64 and a narrower x the recurrence, the sum over heads and the residual are
 * float64, rounded to float32 for the activation. After an infinite input e is infinite or NaN.
 *
 * Enqueued on ctx's stream (a CPU call has finished on return). Returns CUMEGA_OK,
 * CUMEGA_ERROR_ARGUMENT (nothing is written; also where io.algorithm cannot compute this run),
 * CUMEGA_ERROR_UNSUPPORTED (a struct with settings that this version does not know; an algorithm
 * that ctx's device does not have), CUMEGA_ERROR_RESOURCE, CUMEGA_ERROR_STATE,
 * CUMEGA_ERROR_DEVICE, CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_forward(cumega_context *ctx,
                                                                const cumega_ema *ema,
                                                                const cumega_ema_io *io);

/* One step of every sequence: x and y (B, D) or (1, B, D); mask (B), (B, 1) or (B, 1, 1); no
 * lengths or offsets. It has the bits of forward with L = 1. truncation_length is ignored, as in
 * ESPnet's ema_one_step, whose output `raw` gives. Returns what forward does. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_step(cumega_context *ctx,
                                                             const cumega_ema *ema,
                                                             const cumega_ema_io *io);

#ifdef __cplusplus
}
#endif
#endif
