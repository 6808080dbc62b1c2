/* Residual connections, as in ESPnet's espnet2.asr.state_spaces.residual: what joins a layer's
 * input x and its output y. The maths, with every settled point, is in docs/residual.md.
 *
 *   Residual        alpha * x + beta * y; where alpha is 0, x is not read
 *   Feedforward     y
 *   Affine          alpha * x + c * y, c a parameter
 *   Highway         y' = Wy(y), r = sigmoid(Wx(x) + y'), k * (1 - r) * x + r * y'
 *   DecayResidual   beta = i_layer^-power, alpha = sqrt(1 - beta^2); alpha * x + beta * y
 *
 * and the gated residual that ends a MEGA block, x + sigmoid(gate) * (h - x). Each is one pass over
 * memory (Highway: one behind its products), the normalisation that follows in MEGA blocks
 * included.
 *
 * The bits do not depend on the batch, layout, alignment, number of threads, CPU level or device,
 * except Highway's on CUDA, whose products are cuBLAS's (docs/residual.md). (All NaNs count as
 * equal.) */
#ifndef CUMEGA_RESIDUAL_H
#define CUMEGA_RESIDUAL_H

#include <cumega/norm.h>

/* X(enumerator, value, ESPnet's class) */
#define CUMEGA_RESIDUAL_KIND_LIST(X)                                                               \
  X(CUMEGA_RESIDUAL_RESIDUAL, 0, "Residual")                                                       \
  X(CUMEGA_RESIDUAL_FEEDFORWARD, 1, "Feedforward")                                                 \
  X(CUMEGA_RESIDUAL_AFFINE, 2, "Affine")                                                           \
  X(CUMEGA_RESIDUAL_HIGHWAY, 3, "Highway")                                                         \
  X(CUMEGA_RESIDUAL_DECAY, 4, "DecayResidual")

typedef enum cumega_residual_kind {
#define CUMEGA_RESIDUAL_ENUMERATOR(name, value, text) name = value,
  CUMEGA_RESIDUAL_KIND_LIST(CUMEGA_RESIDUAL_ENUMERATOR)
#undef CUMEGA_RESIDUAL_ENUMERATOR
} cumega_residual_kind;

typedef struct cumega_residual cumega_residual;

/* Settings. Start from cumega_residual_config_default(kind, i_layer, d_model). Settings that the
 * kind does not have are ignored, except where it says otherwise. */
typedef struct cumega_residual_config {
  size_t struct_size;
  cumega_residual_kind kind;
  int64_t
      i_layer; /* from 1 for DecayResidual, and for an Affine with a gamma that is not given c */
  int64_t d_input; /* channels of x: d_model, unless x is not read (alpha 0, Feedforward) */
  int64_t d_model; /* channels of y, D >= 1 */
  double alpha;    /* Residual, Affine: finite, default 1. DecayResidual, Highway: 1, or an error */
  double beta;     /* the same */
  double gamma;    /* Affine: default 0; c is first beta * i_layer^-gamma */
  double power;    /* DecayResidual: finite, default 0.5; >= 0 with l2 */
  int32_t scalar;  /* Affine: c is one number (default 1), or 0: one per channel */
  int32_t l2;      /* DecayResidual: alpha = sqrt(1 - beta^2) (default 1), or 0: alpha = 1 - beta */
  int32_t scaling_correction; /* Highway: k is 1.732 instead of 1; default 0 */
  int32_t elemwise;           /* Highway: y' = Wy * y channel by channel; default 0 */
} cumega_residual_config;

/* On the CPU, any floating type, any strides, finite; what the kind does not have is not looked at.
 */
typedef struct cumega_residual_parameters {
  size_t struct_size;
  DLTensor *affine;    /* Affine: (1) where scalar, else (d_input); NULL: beta * i_layer^-gamma */
  DLTensor *Wx_weight; /* Highway, all needed: (D, D), a row per output channel */
  DLTensor *Wx_bias;   /* (D) */
  DLTensor *Wy_weight; /* (D, D), without elemwise */
  DLTensor *Wy_bias;   /* (D), without elemwise */
  DLTensor *Wy;        /* (D), with elemwise */
} cumega_residual_parameters;

/* The tensors of a run, in the memory of the context's device: float32, float16, bfloat16 or
 * float64, all of one type and shape, up to eight dimensions, any strides, element-aligned. (...,
 * D), or with transposed (..., D, L). Set struct_size; leave NULL or 0 what you do not need. */
typedef struct cumega_residual_io {
  size_t struct_size;
  const DLTensor *x; /* not looked at, and may be NULL, where the kind does not read it */
  const DLTensor *y;
  DLTensor *out;      /* may be exactly x or y; NULL with normalized: the sum is not kept */
  int32_t transposed; /* channels are second to last; not with Highway or norm: permute the view */
  const cumega_norm *norm; /* of size D; both or none of these two */
  DLTensor *normalized;    /* the normalisation of out, as stored; may be exactly x or y, not out */
} cumega_residual_io;

typedef struct cumega_residual_gated_io {
  size_t struct_size;
  const DLTensor *x, *gate, *h; /* (..., D) */
  DLTensor *out;                /* may be exactly x, gate or h; NULL with normalized: not kept */
  const cumega_norm *norm;      /* of size D; both or none of these two */
  DLTensor *normalized;         /* may be exactly x, gate or h, not out */
} cumega_residual_gated_io;

#ifdef __cplusplus
extern "C" {
#endif

static inline cumega_residual_config
cumega_residual_config_default(cumega_residual_kind kind, int64_t i_layer, int64_t d_model) {
  cumega_residual_config config;
  memset(&config, 0, sizeof config);
  config.struct_size = sizeof config;
  config.kind = kind;
  config.i_layer = i_layer;
  config.d_input = config.d_model = d_model;
  config.alpha = config.beta = 1.0;
  config.power = 0.5;
  config.scalar = config.l2 = 1;
  return config;
}

/* ESPnet's class of a kind; NULL where there is none of that value. */
CUMEGA_API const char *cumega_residual_kind_name(cumega_residual_kind kind);

/* The kind of a class ("DecayResidual") or a name of ESPnet's registry: R, residual; F, N, none,
 * ff, feedforward; A, affine; H, highway; D, decay. Returns 0 and leaves *kind alone where there is
 * none. */
CUMEGA_API CUMEGA_CHECK_RESULT int cumega_residual_kind_from_name(const char *name,
                                                                  cumega_residual_kind *kind);

/* Makes a residual connection on ctx's device. parameters are copied; NULL where the kind needs
 * none. *residual is NULL on failure. Contexts of one device share it; a run never changes it.
 * Parameters are kept exactly; runs in float32, float16 and bfloat16 read them rounded to float32.
 * Returns CUMEGA_OK, _ARGUMENT (a setting or parameter; one that is not finite is named with its
 * index), _UNSUPPORTED (a struct with settings that this version does not know), _RESOURCE, _STATE,
 * _DEVICE, _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_residual_create(cumega_context *ctx, const cumega_residual_config *config,
                       const cumega_residual_parameters *parameters, cumega_residual **residual);

/* The same from a weight file: prefix.affine, or prefix.Wx.weight, .Wx.bias, .Wy.weight, .Wy.bias,
 * or .Wy with elemwise; for the other kinds nothing is read (prefix NULL or "": no prefix; a dot is
 * put between where prefix has none at its end). Also returns _FILE, and _FORMAT where a tensor is
 * missing or has another shape or type than config says. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_residual_create_from_weights(
    cumega_context *ctx, const cumega_weights *weights, const char *prefix,
    const cumega_residual_config *config, cumega_residual **residual);

/* NULL is allowed. No run may still use it. */
CUMEGA_API void cumega_residual_destroy(cumega_residual *residual);

/* Fills *config, whose struct_size the caller has set, as it was given: cumega_residual_create
 * takes it again. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_residual_get_config(
    cumega_context *ctx, const cumega_residual *residual, cumega_residual_config *config);

/* The resolved multipliers of x and y, before rounding; either pointer may be NULL. Feedforward: 0
 * and 1; Affine: beta is c. ARGUMENT for Highway, which has none, and for the beta of an Affine
 * that has one per channel. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_residual_get_multipliers(
    cumega_context *ctx, const cumega_residual *residual, double *alpha, double *beta);

/* Copies the parameters out, rounded once to the types of the given tensors; NULL members are left
 * out. ARGUMENT where a tensor is given for a parameter that the kind does not have. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_residual_get_parameters(cumega_context *ctx, const cumega_residual *residual,
                               const cumega_residual_parameters *parameters);

/* Replaces all parameters of the kind. On failure the old ones stay. No run may use residual
 * meanwhile. Returns as cumega_residual_create. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_residual_set_parameters(
    cumega_context *ctx, cumega_residual *residual, const cumega_residual_parameters *parameters);

/* Scratch bytes that forward of this io needs: give the largest to cumega_context_reserve, and runs
 * allocate nothing. Depends on shapes, strides, types and alignment only. Return as forward. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_residual_workspace_size(cumega_context *ctx, const cumega_residual *residual,
                               const cumega_residual_io *io, int64_t *bytes);
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_residual_gated_workspace_size(
    cumega_context *ctx, const cumega_residual_gated_io *io, int64_t *bytes);

/* Highway on CUDA: loads cuBLAS and makes ctx's handle, so that a later forward may be captured;
 * nothing elsewhere. The first forward does it where nobody else has. Returns CUMEGA_OK, _ARGUMENT,
 * _DEVICE (cuBLAS cannot be loaded), _RESOURCE, _STATE, _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_residual_prepare(cumega_context *ctx, const cumega_residual *residual);

/* out = the kind's sum of x and y; normalized = norm(out).
 *
 * The arithmetic is float32 inside, float64 where the tensors are, with one rounding at the store;
 * the normalisation reads the sum as stored, so the bits are those of two calls. Tensors without
 * elements succeed and touch nothing.
 *
 * Enqueued on ctx's stream (a CPU call has finished on return). Returns CUMEGA_OK, _ARGUMENT
 * (nothing is written), _UNSUPPORTED (a struct with settings that this version does not know),
 * _RESOURCE, _STATE, _DEVICE, _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_residual_forward(
    cumega_context *ctx, const cumega_residual *residual, const cumega_residual_io *io);

/* out = x + sigmoid(gate) * (h - x); normalized = norm(out). Otherwise as cumega_residual_forward.
 */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_residual_gated_forward(cumega_context *ctx, const cumega_residual_gated_io *io);

#ifdef __cplusplus
}
#endif
#endif
