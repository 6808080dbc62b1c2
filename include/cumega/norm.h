/* The normalisations of ESPnet's MEGA blocks (espnet2.asr_transducer.normalization), as objects
 * that a residual connection applies in its own pass (cumega/residual.h). Over the D channels v
 * of one position, with parameters under ESPnet's names:
 *
 *   layer_norm   (v - mean) / sqrt(variance + eps) * weight + bias        weight, bias (D)
 *   rms_norm     scale * v / (sqrt(mean of v^2) + eps)                    scale (D)
 *   scale_norm   scale * v / max(sqrt(sum of v^2), eps)                   scale ()
 *   basic_norm   v / sqrt(mean of v^2 + exp(eps))                         eps ()
 *
 * ESPnet's `partial` of rms_norm is not supported. The order of computation is in
 * docs/residual.md. */
#ifndef CUMEGA_NORM_H
#define CUMEGA_NORM_H

#include <cumega/context.h>
#include <cumega/weights.h>

/* X(enumerator, value, ESPnet's name, ESPnet's default eps) */
#define CUMEGA_NORM_LIST(X)                                                                       \
  X(CUMEGA_NORM_LAYER, 0, "layer_norm", 1e-12)                                                    \
  X(CUMEGA_NORM_RMS, 1, "rms_norm", 1e-5)                                                         \
  X(CUMEGA_NORM_SCALE, 2, "scale_norm", 1e-5)                                                     \
  X(CUMEGA_NORM_BASIC, 3, "basic_norm", 0.25)

typedef enum cumega_norm_type {
#define CUMEGA_NORM_ENUMERATOR(name, value, text, eps) name = value,
  CUMEGA_NORM_LIST(CUMEGA_NORM_ENUMERATOR)
#undef CUMEGA_NORM_ENUMERATOR
} cumega_norm_type;

typedef struct cumega_norm cumega_norm;

/* Settings. */
typedef struct cumega_norm_config {
  size_t struct_size;
  /* D >= 1. */
  int64_t size;
  cumega_norm_type type;
  /* Finite, >= 0. Above 0 for basic_norm, where it gives the initial value of the parameter eps,
   * its logarithm. The default is ESPnet's for the type. */
  double eps;
  /* The type in which weight, bias and scale are kept: cumega_float32 (default) for runs in
   * float32, float16 or bfloat16; cumega_float64 for runs in float64. */
  DLDataType dtype;
} cumega_norm_config;

/* On the CPU, any floating type, any strides, finite. NULL: ESPnet's initial value (weight and
 * scale 1, bias 0, eps the logarithm of config.eps). Members that the type does not have are
 * NULL. */
typedef struct cumega_norm_parameters {
  size_t struct_size;
  /* (D): layer_norm. */
  DLTensor *weight;
  /* (D): layer_norm. */
  DLTensor *bias;
  /* (D): rms_norm. () or (1): scale_norm. */
  DLTensor *scale;
  /* () or (1): basic_norm. */
  DLTensor *eps;
} cumega_norm_parameters;

#ifdef __cplusplus
extern "C" {
#endif

/* Write the defaults into the first struct_size bytes (cumega_context_options_init). */
CUMEGA_API void cumega_norm_config_init(cumega_norm_config *config, size_t struct_size,
                                        cumega_norm_type type, int64_t size);
CUMEGA_API void cumega_norm_parameters_init(cumega_norm_parameters *parameters,
                                            size_t struct_size);

/* ESPnet's name of a type; NULL for any other value. */
CUMEGA_API const char *cumega_norm_type_name(cumega_norm_type type);

/* The type with that name. Returns 1, or 0 where there is none or an argument is NULL; *type is
 * then unchanged. */
CUMEGA_API CUMEGA_CHECK_RESULT int cumega_norm_type_from_name(const char *name,
                                                              cumega_norm_type *type);

/* Makes a normalisation on ctx's device. Parameters are copied, so the caller may free them on
 * return; NULL means ESPnet's initial values. *norm is NULL on failure. Contexts of one device
 * share it; a run never changes it. Returns CUMEGA_OK, CUMEGA_ERROR_ARGUMENT (a setting or
 * parameter; one that is not finite, or beyond the range of config.dtype, is named with its
 * index), CUMEGA_ERROR_UNSUPPORTED (a struct with settings that this version does not know),
 * CUMEGA_ERROR_RESOURCE, CUMEGA_ERROR_STATE (also while ctx's stream is being captured),
 * CUMEGA_ERROR_DEVICE, CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_norm_create(cumega_context *ctx, const cumega_norm_config *config,
                   const cumega_norm_parameters *parameters, cumega_norm **norm);

/* The same from a weight file: all tensors prefix.weight and so on that the type has. prefix is
 * as in cumega_ema_create_from_weights. Also returns CUMEGA_ERROR_FILE, and CUMEGA_ERROR_FORMAT
 * where a tensor is missing or its shape or type is not what config says. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_norm_create_from_weights(
    cumega_context *ctx, const cumega_weights *weights, const char *prefix,
    const cumega_norm_config *config, cumega_norm **norm);

/* NULL is allowed. No run may still be using it. */
CUMEGA_API void cumega_norm_destroy(cumega_norm *norm);

/* Fills *config, up to the struct_size that the caller has set. The eps of a basic_norm is the
 * exponential of its parameter. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_norm_get_config(cumega_context *ctx,
                                                                    const cumega_norm *norm,
                                                                    cumega_norm_config *config);

/* Copies the parameters out, rounded once to the types of the caller's tensors. NULL members are
 * left out. Waits for the stream where they are kept on a GPU. Returns CUMEGA_OK,
 * CUMEGA_ERROR_ARGUMENT (also for a parameter that the type does not have),
 * CUMEGA_ERROR_RESOURCE, CUMEGA_ERROR_STATE, CUMEGA_ERROR_DEVICE, CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_norm_get_parameters(
    cumega_context *ctx, const cumega_norm *norm, const cumega_norm_parameters *parameters);

/* Replaces all parameters of the type (NULL members: ESPnet's initial values), in the same
 * memory. Where the arguments are refused or memory runs out the old ones stay; a GPU that fails
 * during the copy leaves them undefined, until they are set again. No run may be using norm
 * meanwhile. Returns what cumega_norm_create does; parameters may not be NULL here. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_norm_set_parameters(
    cumega_context *ctx, cumega_norm *norm, const cumega_norm_parameters *parameters);

#ifdef __cplusplus
}
#endif
#endif
