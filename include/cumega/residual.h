/* Residual connections, as in ESPnet's espnet2.asr.state_spaces.residual: what joins a layer's
 * input x and its output y. The maths, with every settled point, is in docs/residual.md.
 *
 *   Residual        alpha * x + beta * y; where alpha is 0, x is not read
 *   Feedforward     y
 *   Affine          alpha * x + c * y, c a parameter
 *   Highway         y' = Wy(y), r = sigmoid(Wx(x) + y'), k * (1 - r) * x + r * y'
 *   DecayResidual   beta = i_layer^-power, alpha = sqrt(1 - beta^2); alpha * x + beta * y
 *
 * and the gated residual that ends a MEGA block, x + sigmoid(gate) * (h - x). Each is one pass
 * over memory (a Highway has its products before it) that includes the normalisation which
 * follows in MEGA blocks.
 *
 * Bits. They do not depend on the batch, layout, alignment, number of threads, CPU level or
 * device, except for a Highway on CUDA, whose products cuBLAS computes (docs/residual.md). (All
 * NaNs count as equal.) */
#ifndef CUMEGA_RESIDUAL_H
#define CUMEGA_RESIDUAL_H

#include <cumega/norm.h>

/* X(enumerator, value, ESPnet's class) */
#define CUMEGA_RESIDUAL_KIND_LIST(X)                                                              \
  X(CUMEGA_RESIDUAL_RESIDUAL, 0, "Residual")                                                      \
  X(CUMEGA_RESIDUAL_FEEDFORWARD, 1, "Feedforward")                                                \
  X(CUMEGA_RESIDUAL_AFFINE, 2, "Affine")                                                          \
  X(CUMEGA_RESIDUAL_HIGHWAY, 3, "Highway")                                                        \
  X(CUMEGA_RESIDUAL_DECAY, 4, "DecayResidual")

typedef enum cumega_residual_kind {
#define CUMEGA_RESIDUAL_ENUMERATOR(name, value, text) name = value,
  CUMEGA_RESIDUAL_KIND_LIST(CUMEGA_RESIDUAL_ENUMERATOR)
#undef CUMEGA_RESIDUAL_ENUMERATOR
} cumega_residual_kind;

typedef struct cumega_residual cumega_residual;

/* Settings. Those that the kind does not have are ignored, except where it says otherwise. */
typedef struct cumega_residual_config {
  size_t struct_size;
  cumega_residual_kind kind;
  /* From 1. Needed by DecayResidual, and by an Affine with a gamma whose c is not given. */
  int64_t i_layer;
  /* Channels of x: d_model, unless x is not read (alpha 0, Feedforward). */
  int64_t d_input;
  /* Channels of y, D >= 1. */
  int64_t d_model;
  /* Residual, Affine: finite, default 1. DecayResidual, Highway: 1, or an error. */
  double alpha;
  double beta;
  /* Affine: default 0; the initial c is beta * i_layer^-gamma. */
  double gamma;
  /* DecayResidual: finite, default 0.5; >= 0 with l2. */
  double power;
  /* Affine: c is one number (default 1), or 0: one per channel. */
  int32_t scalar;
  /* DecayResidual: alpha = sqrt(1 - beta^2) (default 1), or 0: alpha = 1 - beta. */
  int32_t l2;
  /* Highway: k is 1.732 instead of 1; default 0. */
  int32_t scaling_correction;
  /* Highway: y' = Wy * y channel by channel; default 0. */
  int32_t elemwise;
  /* The type in which vectors and matrices of parameters are kept: cumega_float32 (default) for
   * runs in float32, float16 or bfloat16; cumega_float64 for runs in float64. Kinds without them
   * run in every type. */
  DLDataType dtype;
} cumega_residual_config;

/* On the CPU, any floating type, any strides, finite. Members that the kind does not have are
 * NULL. */
typedef struct cumega_residual_parameters {
  size_t struct_size;
  /* Affine: (1) or () where scalar, else (D). NULL: beta * i_layer^-gamma. */
  DLTensor *affine;
  /* Highway: (D, D), a row per output channel, and (D). */
  DLTensor *Wx_weight;
  DLTensor *Wx_bias;
  /* Highway without elemwise: (D, D) and (D). */
  DLTensor *Wy_weight;
  DLTensor *Wy_bias;
  /* Highway with elemwise: (D). */
  DLTensor *Wy;
} cumega_residual_parameters;

/* The tensors of a run, in the memory of the context's device: float32, float16, bfloat16 or
 * float64, all of one type and shape, up to eight dimensions, any strides, pointers aligned to
 * their element. (..., D), or with transposed (..., D, L). What a run does not need stays NULL or
 * 0. */
typedef struct cumega_residual_io {
  size_t struct_size;
  /* Ignored, and may be NULL, where the kind does not read it. */
  const DLTensor *x;
  const DLTensor *y;
  /* May be exactly x or y. NULL with normalized: the sum is not kept. */
  DLTensor *out;
  /* Not 0: channels are the second to last dimension. Not with Highway or norm: permute the
   * views. */
  int32_t transposed;
  /* Of size D, and of the dtype that serves the tensors; given together with normalized, or not
   * at all. */
  const cumega_norm *norm;
  /* The normalisation of out, as stored. May be exactly x or y, not out. */
  DLTensor *normalized;
} cumega_residual_io;

/* The same for the gated residual: x, gate and h are (..., D). */
typedef struct cumega_residual_gated_io {
  size_t struct_size;
  const DLTensor *x;
  const DLTensor *gate;
  const DLTensor *h;
  /* May be exactly x, gate or h. NULL with normalized: the sum is not kept. */
  DLTensor *out;
  /* As in cumega_residual_io. */
  const cumega_norm *norm;
  /* May be exactly x, gate or h, not out. */
  DLTensor *normalized;
} cumega_residual_gated_io;

#ifdef __cplusplus
extern "C" {
#endif

/* Write the defaults into the first struct_size bytes (cumega_context_options_init). */
CUMEGA_API void cumega_residual_config_init(cumega_residual_config *config, size_t struct_size,
                                            cumega_residual_kind kind, int64_t i_layer,
                                            int64_t d_model);
CUMEGA_API void cumega_residual_parameters_init(cumega_residual_parameters *parameters,
                                                size_t struct_size);
CUMEGA_API void cumega_residual_io_init(cumega_residual_io *io, size_t struct_size);
CUMEGA_API void cumega_residual_gated_io_init(cumega_residual_gated_io *io, size_t struct_size);

/* ESPnet's class of a kind; NULL for any other value. */
CUMEGA_API const char *cumega_residual_kind_name(cumega_residual_kind kind);

/* The kind of a class ("DecayResidual") or of a name in ESPnet's registry: R, residual; F, N,
 * none, ff, feedforward; A, affine; H, highway; D, decay. Returns 1, or 0 where there is none or
 * an argument is NULL; *kind is then unchanged. */
CUMEGA_API CUMEGA_CHECK_RESULT int cumega_residual_kind_from_name(const char *name,
                                                                  cumega_residual_kind *kind);

/* Makes a residual connection on ctx's device. Parameters are copied, so the caller may free them
 * on return; NULL where the kind needs none. *residual is NULL on failure. Contexts of one device
 * share it; a run never changes it. Returns CUMEGA_OK, CUMEGA_ERROR_ARGUMENT (a setting or
 * parameter; one that is not finite, or beyond the range of config.dtype, is named with its
 * index), CUMEGA_ERROR_UNSUPPORTED (a struct with settings that this version does not know),
 * CUMEGA_ERROR_RESOURCE, CUMEGA_ERROR_STATE (also while ctx's stream is being captured),
 * CUMEGA_ERROR_DEVICE, CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_residual_create(cumega_context *ctx, const cumega_residual_config *config,
                       const cumega_residual_parameters *parameters, cumega_residual **residual);

/* The same from a weight file: prefix.affine, or prefix.Wx.weight, .Wx.bias, .Wy.weight,
 * .Wy.bias, or .Wy with elemwise; nothing is read for the other kinds. prefix is as in
 * cumega_ema_create_from_weights. Also returns CUMEGA_ERROR_FILE, and CUMEGA_ERROR_FORMAT where a
 * tensor is missing or its shape or type is not what config says. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_residual_create_from_weights(
    cumega_context *ctx, const cumega_weights *weights, const char *prefix,
    const cumega_residual_config *config, cumega_residual **residual);

/* NULL is allowed. No run may still be using it. */
CUMEGA_API void cumega_residual_destroy(cumega_residual *residual);

/* Fills *config, up to the struct_size that the caller has set, as it was given:
 * cumega_residual_create takes it again. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_residual_get_config(
    cumega_context *ctx, const cumega_residual *residual, cumega_residual_config *config);

/* The resolved multipliers of x and y, before rounding; either pointer may be NULL. Feedforward:
 * 0 and 1. Affine: beta is c. CUMEGA_ERROR_ARGUMENT for Highway, which has none, and for the beta
 * of an Affine that has one per channel. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_residual_get_multipliers(
    cumega_context *ctx, const cumega_residual *residual, double *alpha, double *beta);

/* Copies the parameters out, rounded once to the types of the caller's tensors. NULL members are
 * left out. Waits for the stream where they are kept on a GPU. Returns CUMEGA_OK,
 * CUMEGA_ERROR_ARGUMENT (also for a parameter that the kind does not have),
 * CUMEGA_ERROR_RESOURCE, CUMEGA_ERROR_STATE, CUMEGA_ERROR_DEVICE, CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_residual_get_parameters(cumega_context *ctx, const cumega_residual *residual,
                               const cumega_residual_parameters *parameters);

/* Replaces all parameters of the kind, in the same memory. Where the arguments are refused or
 * memory runs out the old ones stay; a GPU that fails during the copy leaves them undefined,
 * until they are set again. No run may be using residual meanwhile. Returns what
 * cumega_residual_create does; parameters may not be NULL here. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_residual_set_parameters(
    cumega_context *ctx, cumega_residual *residual, const cumega_residual_parameters *parameters);

/* The scratch bytes that forward needs for this io. Give the largest to cumega_context_reserve,
 * and runs allocate nothing. Depends on shapes, strides, types and alignment only. Return what
 * forward does. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_residual_workspace_size(cumega_context *ctx, const cumega_residual *residual,
                               const cumega_residual_io *io, int64_t *bytes);
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_residual_gated_workspace_size(
    cumega_context *ctx, const cumega_residual_gated_io *io, int64_t *bytes);

/* Highway on CUDA: loads cuBLAS and makes ctx's handle, so that a later forward may be captured.
 * Does nothing for other kinds and on a CPU. A forward that finds no handle makes it. Returns
 * CUMEGA_OK, CUMEGA_ERROR_ARGUMENT, CUMEGA_ERROR_DEVICE (cuBLAS cannot be loaded),
 * CUMEGA_ERROR_RESOURCE, CUMEGA_ERROR_STATE, CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_residual_prepare(cumega_context *ctx, const cumega_residual *residual);

/* out = the kind's sum of x and y; normalized = norm(out).
 *
 * The arithmetic is float32, or float64 where the tensors are, with one rounding at the store.
 * The normalisation reads the sum as stored, so the bits are those of two calls. Tensors without
 * elements succeed and nothing is touched.
 *
 * Enqueued on ctx's stream (a CPU call has finished on return). Returns CUMEGA_OK,
 * CUMEGA_ERROR_ARGUMENT (nothing is written), CUMEGA_ERROR_UNSUPPORTED (a struct with settings
 * that this version does not know), CUMEGA_ERROR_RESOURCE, CUMEGA_ERROR_STATE,
 * CUMEGA_ERROR_DEVICE, CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_residual_forward(
    cumega_context *ctx, const cumega_residual *residual, const cumega_residual_io *io);

/* out = x + sigmoid(gate) * (h - x); normalized = norm(out). Otherwise as
 * cumega_residual_forward. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_residual_gated_forward(cumega_context *ctx, const cumega_residual_gated_io *io);

#ifdef __cplusplus
}
#endif
#endif
