/* Multi-head damped exponential moving average, as in ESPnet's MultiHeadDampedEMA
 * (espnet2.asr_transducer.decoder.modules.mega.multi_head_damped_ema; Ma et al., "Mega: Moving
 * Average Equipped Gated Attention", 2022). The maths, with every settled point, is in docs/ema.md.
 *
 *   D channels (size), N heads, L steps, B sequences
 *   p = sigmoid(damping_factor), q = 1 - p * sigmoid(decay_factor)                 (D, N)
 *   h[t] = p * expansion * x~[t] + q * h[t-1]         the state, h before the first step given or 0
 *   e[t] = sum over heads of sqrt(1/N) * kernel_projection * h[t]
 *   y[t] = activation(e[t] + residual_weight * x[t])
 *
 * where x~ is x with masked steps set to zero. With a truncation_length K below L, e[t] sees the
 * last K steps only. The library's default order of computation is RECURRENT: each channel of each
 * sequence is one chain in time order, so the bits of y and of the state do not depend on the batch,
 * its order, padding, layout, alignment, the number of threads, the CPU level, or how a sequence is
 * cut into chunks and steps. (All NaNs count as equal.) Other orders are asked for by a run's
 * `algorithm`. */
#ifndef CUMEGA_EMA_H
#define CUMEGA_EMA_H

#include <cumega/context.h>
#include <cumega/weights.h>

#define CUMEGA_EMA_MAX_HEADS 4096 /* one halving tree (docs/ema.md) */
#define CUMEGA_NO_TRUNCATION INT64_MAX
#define CUMEGA_EMA_GRID      64 /* steps, of CHUNKED */

/* X(enumerator, value, ESPnet's name) */
#define CUMEGA_ACTIVATION_LIST(X)                                                                  \
  X(CUMEGA_ACTIVATION_IDENTITY, 0, "identity")                                                     \
  X(CUMEGA_ACTIVATION_RELU, 1, "relu")                                                             \
  X(CUMEGA_ACTIVATION_SWISH, 2, "swish")                                                           \
  X(CUMEGA_ACTIVATION_TANH, 3, "tanh")                                                             \
  X(CUMEGA_ACTIVATION_LEAKY_RELU, 4, "leaky_relu")                                                 \
  X(CUMEGA_ACTIVATION_HARDTANH, 5, "hardtanh")                                                     \
  X(CUMEGA_ACTIVATION_SELU, 6, "selu")                                                             \
  X(CUMEGA_ACTIVATION_MISH, 7, "mish")                                                             \
  X(CUMEGA_ACTIVATION_SMISH, 8, "smish")                                                           \
  X(CUMEGA_ACTIVATION_FTSWISH, 9, "ftswish")

typedef enum cumega_activation {
#define CUMEGA_ACTIVATION_ENUMERATOR(name, value, text) name = value,
  CUMEGA_ACTIVATION_LIST(CUMEGA_ACTIVATION_ENUMERATOR)
#undef CUMEGA_ACTIVATION_ENUMERATOR
} cumega_activation;

/* How forward computes. Which one pays when is in docs/ema.md. */
typedef enum cumega_ema_algorithm {
  /* The chain, whole or in slices of time, as shapes and coefficients make it pay: the same bits. */
  CUMEGA_EMA_RECURRENT = 0,
  /* The chain as one walk through each sequence. RECURRENT's bits. */
  CUMEGA_EMA_CHAIN = 1,
  /* The chain in slices of time that run beside each other; where a slice turns out to have begun
   * from a wrong state it is computed again. RECURRENT's bits. Not where y is x, nor truncated; on
   * CUDA up to 16 heads. */
  CUMEGA_EMA_SLICED = 2,
  /* Sums over a truncated kernel: what RECURRENT does too where truncation_length is below L, but
   * refused where the EMA has none or ignore_truncation is set. RECURRENT's bits. */
  CUMEGA_EMA_DIRECT = 3,
  /* Parallel in time: each sequence is cut every CUMEGA_EMA_GRID steps, counted from its first step
   * in the call; a state crosses a cell of that grid by one product with q^CUMEGA_EMA_GRID. CUDA
   * only, up to 16 heads, not truncated. Not RECURRENT's bits, but the same bits whatever the batch,
   * the layout and the padding, and when a sequence is cut at multiples of CUMEGA_EMA_GRID. Where q
   * to that power is 0, an infinite state becomes NaN rather than stays. */
  CUMEGA_EMA_CHUNKED = 4,
  /* The convolution with the kernel, truncated or not, through cuFFT, which is opened at first use.
   * CUDA only, without states. Its bits depend on length and batch; rounding, infinities and NaN of
   * a step reach all steps of its channel and sequence. */
  CUMEGA_EMA_FFT = 5,
  /* RECURRENT, or CHUNKED on CUDA where few channels walk through many steps and slices of time do
   * not pay: fast, at the price of bits that depend on shapes and coefficients. */
  CUMEGA_EMA_AUTO = 6
} cumega_ema_algorithm;

typedef struct cumega_ema cumega_ema;

/* Settings. Start from cumega_ema_config_default(size). Arguments of activations other than the
 * chosen one are ignored. */
typedef struct cumega_ema_config {
  size_t struct_size;
  int64_t size;      /* D >= 1 */
  int64_t num_heads; /* N, 1 .. CUMEGA_EMA_MAX_HEADS; default 4 */
  int64_t
      truncation_length; /* K >= 1; default CUMEGA_NO_TRUNCATION. A table of K * D values is held */
  DLDataType state_dtype;       /* cumega_float32 (default) or cumega_float64 */
  cumega_activation activation; /* default RELU */
  double swish_beta;            /* default 1; above 1: beta * x * sigmoid(x), else x * sigmoid(x) */
  double leakyrelu_neg_slope;   /* default 0.01 */
  double hardtanh_min_val;      /* default -1; below hardtanh_max_val */
  double hardtanh_max_val;      /* default 1 */
  double smish_alpha;           /* default 1; values <= 0 become 1 */
  double smish_beta;            /* default 1; values <= 0 become 1 */
  double ftswish_threshold;     /* default -0.2; below 0 */
  double ftswish_mean_shift;    /* default 0 */
} cumega_ema_config;

/* The five parameters, under ESPnet's names: on the CPU, any floating type, any strides, finite. */
typedef struct cumega_ema_parameters {
  size_t struct_size;
  DLTensor *damping_factor;           /* (D, N, 1) or (D, N) */
  DLTensor *decay_factor;             /* (D, N, 1) or (D, N) */
  DLTensor *ema_expansion_matrix;     /* (D, N, 1) or (D, N) */
  DLTensor *kernel_projection_matrix; /* (D, N) */
  DLTensor *residual_weight;          /* (D) */
} cumega_ema_parameters;

/* The tensors of a run, in the memory of the context's device. Any strides; element-aligned
 * pointers; x and y have one type. Set struct_size; leave NULL or 0 what you do not need.
 *
 * A batch comes in one of two forms:
 *   padded: x and y (L, B, D), with sequence_lengths (B) where sequences are shorter than L;
 *   packed: x and y (total, D), with sequence_offsets (B + 1): sequence b is rows offsets[b] ..
 * offsets[b+1]-1. Padding needs sequence_lengths, not a mask: a masked step still decays the state.
 */
typedef struct cumega_ema_io {
  size_t struct_size;
  const DLTensor *x; /* float32, float16, bfloat16, or float64 (which needs state_dtype float64) */
  DLTensor *y;       /* like x; may be exactly x (same memory and strides). Rows behind a sequence's
                        length become 0;       packed rows outside every sequence are left alone */
  const DLTensor *mask; /* (B, 1, L) or (B, L), bool or uint8, nonzero = ignore; padded form only */
  const DLTensor *sequence_lengths; /* (B) int32 or int64, 0 .. L */
  const DLTensor *sequence_offsets; /* (B + 1) int32 or int64, rising or equal, within 0 .. total */
  const DLTensor
      *initial_state; /* (B, D, N), or (rows, D, N) with initial_slots; state_dtype; NULL: zeros */
  DLTensor
      *final_state; /* (B, D, N), or (rows, D, N) with final_slots; NULL: not kept. May be exactly
                       initial_state, as long as no sequence reads a row that another one writes */
  const DLTensor *initial_slots; /* (B) int32 or int64: rows of initial_state; negative: zeros */
  const DLTensor *final_slots;   /* (B) int32 or int64: rows of final_state, each at most once;
                                    negative: not kept */
  int32_t ignore_truncation;     /* not 0: run without truncation_length */
  int32_t raw; /* cumega_ema_step only. Not 0: write e, without residual and activation */
  cumega_ema_algorithm algorithm; /* of forward; 0: RECURRENT. A step has no other */
  int32_t reserved;               /* 0 */
} cumega_ema_io;

#ifdef __cplusplus
extern "C" {
#endif

static inline cumega_ema_config cumega_ema_config_default(int64_t size) {
  cumega_ema_config config;
  memset(&config, 0, sizeof config);
  config.struct_size = sizeof config;
  config.size = size;
  config.num_heads = 4;
  config.truncation_length = CUMEGA_NO_TRUNCATION;
  config.state_dtype = cumega_float32;
  config.activation = CUMEGA_ACTIVATION_RELU;
  config.swish_beta = 1.0;
  config.leakyrelu_neg_slope = 0.01;
  config.hardtanh_min_val = -1.0;
  config.hardtanh_max_val = 1.0;
  config.smish_alpha = 1.0;
  config.smish_beta = 1.0;
  config.ftswish_threshold = -0.2;
  return config;
}

/* ESPnet's name of an activation; NULL where there is none of that value. */
CUMEGA_API const char *cumega_activation_name(cumega_activation activation);

/* The activation of that name ("silu" is swish). Returns 0 and leaves *activation alone where there
 * is none. */
CUMEGA_API CUMEGA_CHECK_RESULT int cumega_activation_from_name(const char *name,
                                                               cumega_activation *activation);

/* Makes an EMA on ctx's device. parameters are copied (NULL: reset with the defaults, seed 0), so
 * their memory is free on return. *ema is NULL on failure. Contexts of one device share an EMA; a
 * run never changes it. Returns CUMEGA_OK, _ARGUMENT (a setting or parameter; one that is not
 * finite, or beyond the range of state_dtype, is named with its index), _UNSUPPORTED (a struct with
 * settings that this version does not know), _RESOURCE, _STATE, _DEVICE, _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_ema_create(cumega_context *ctx, const cumega_ema_config *config,
                  const cumega_ema_parameters *parameters, cumega_ema **ema);

/* The same from a weight file: the tensors prefix.damping_factor and so on (prefix NULL or "": no
 * prefix; a dot is put between where prefix has none at its end; a name has at most 1,023 bytes).
 * Other tensors of the file are ignored. Also returns _FILE, and _FORMAT where a tensor is missing
 * or has another shape or type than config says. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_create_from_weights(
    cumega_context *ctx, const cumega_weights *weights, const char *prefix,
    const cumega_ema_config *config, cumega_ema **ema);

/* NULL is allowed. No run may still use it. */
CUMEGA_API void cumega_ema_destroy(cumega_ema *ema);

/* Fills *config, whose struct_size the caller has set, with every default resolved. Returns CUMEGA_OK,
 * _ARGUMENT, _STATE, _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_get_config(cumega_context *ctx,
                                                                   const cumega_ema *ema,
                                                                   cumega_ema_config *config);

/* Copies the parameters out, rounded once to the types of the given tensors; NULL members are left
 * out. Returns as cumega_ema_get_config. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_get_parameters(
    cumega_context *ctx, const cumega_ema *ema, const cumega_ema_parameters *parameters);

/* Replaces all five parameters and what is derived from them. On failure the old ones stay.
 * No run may use ema meanwhile. Returns as cumega_ema_create. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_set_parameters(
    cumega_context *ctx, cumega_ema *ema, const cumega_ema_parameters *parameters);

/* New random parameters, float32 values: damping and decay normal(val, std1); expansion normal(val,
 * 0.02) plus +1, -1, ... along the heads; projection and residual weight normal(val, std2).
 * ESPnet's defaults are 0, 0.2, 1. The generator is Philox4x32-10 with Box-Muller: the same numbers
 * on every machine. Returns CUMEGA_OK, _ARGUMENT (a negative or non-finite number), _RESOURCE,
 * _STATE, _DEVICE, _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_reset_parameters(
    cumega_context *ctx, cumega_ema *ema, double val, double std1, double std2, uint64_t seed);

/* p and q, each (D, N, 1) or (D, N), any floating type: computed in double within 3 units in the
 * last place, then rounded once. Either may be NULL. In the host's memory and finished on return, on
 * every device. Returns CUMEGA_OK, _ARGUMENT, _STATE, _FATAL. ESPnet: compute_ema_coefficients,
 * get_ema_coefficients. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_ema_compute_coefficients(cumega_context *ctx, const cumega_ema *ema,
                                DLTensor *damping_factor, DLTensor *prev_timestep_weight);

/* kernel (D, length), any floating type: k[d, l] = sum over heads of scaling * projection * p *
 * expansion * q^l. The length is the tensor's, not cut by truncation_length. In the host's memory and
 * finished on return, on every device. Returns CUMEGA_OK, _ARGUMENT, _RESOURCE, _STATE, _FATAL.
 * ESPnet: compute_ema_kernel. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_compute_kernel(cumega_context *ctx,
                                                                       const cumega_ema *ema,
                                                                       DLTensor *kernel);

/* Scratch bytes that forward or step of this io needs: give the largest to cumega_context_reserve,
 * and runs need no other. Depends on shapes, types, io.algorithm, whether y is x, ctx's threads and
 * memory_limit, and the decays: new parameters need it anew. Values of tensors are not read. Returns
 * as forward. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_workspace_size(cumega_context *ctx,
                                                                       const cumega_ema *ema,
                                                                       const cumega_ema_io *io,
                                                                       int64_t *bytes);

/* Makes everything that forward or step of such an io would make at its first use: scratch, and for
 * FFT plans and the kernel's spectrum, which the context keeps for the last lengths and EMAs. After
 * it the run makes nothing, and may be captured. New parameters need it anew. Depends on shapes,
 * strides, types and which tensors are there; values are not read. Waits for the stream. Returns as
 * forward, and _STATE while the stream is being captured. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_prepare(cumega_context *ctx,
                                                                const cumega_ema *ema,
                                                                const cumega_ema_io *io);

/* y = activation(EMA(x) + residual_weight * x): whole sequences, chunks of them, or single steps.
 *
 * An empty sequence copies its initial state (or zeros) to its final one; L = 0 and B = 0 succeed.
 * With an initial or final state, a truncation_length below L (packed: below total, whatever the
 * sequences' own lengths) is an ARGUMENT error unless ignore_truncation is set, which is exact for
 * sequences that are not longer than it. Without a state each step of a truncated EMA sees its last
 * truncation_length steps; a step that has fewer behind it has the bits of the untruncated EMA.
 *
 * The arithmetic is float32 inside, float64 where x is, with one rounding at the store. With
 * state_dtype float64 and a narrower x the chain, the sum over heads and the residual are float64,
 * rounded to float32 for the activation. After an infinite input e is infinite or NaN.
 *
 * Enqueued on ctx's stream (a CPU call has finished on return). Returns CUMEGA_OK, _ARGUMENT
 * (nothing is written; also where io.algorithm cannot compute this run), _UNSUPPORTED (a struct with
 * settings that this version does not know; an algorithm that ctx's device does not have),
 * _RESOURCE, _STATE, _DEVICE, _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_forward(cumega_context *ctx,
                                                                const cumega_ema *ema,
                                                                const cumega_ema_io *io);

/* One step of every sequence: x and y (B, D) or (1, B, D); mask (B), (B, 1) or (B, 1, 1); no
 * lengths or offsets. The same bits as forward with L = 1. truncation_length is ignored, as in
 * ESPnet's ema_one_step, whose output `raw` gives. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_ema_step(cumega_context *ctx,
                                                             const cumega_ema *ema,
                                                             const cumega_ema_io *io);

#ifdef __cplusplus
}
#endif
#endif
