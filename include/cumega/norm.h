/* The normalisations of ESPnet's MEGA blocks (espnet2.asr_transducer.normalization), as objects
 * that a residual connection applies in its own pass (cumega/residual.h). Over the D channels v of
 * one position, with parameters under ESPnet's names:
 *
 *   layer_norm   (v - mean) / sqrt(variance + eps) * weight + bias        weight, bias (D)
 *   rms_norm     scale * v / (sqrt(mean of v^2) + eps)                    scale (D)
 *   scale_norm   scale * v / max(sqrt(sum of v^2), eps)                   scale ()
 *   basic_norm   v / sqrt(mean of v^2 + exp(eps))                         eps ()
 *
 * ESPnet's `partial` of rms_norm is not supported. The order of computation is in docs/residual.md.
 */
#ifndef CUMEGA_NORM_H
#define CUMEGA_NORM_H

#include <cumega/context.h>
#include <cumega/weights.h>

/* X(enumerator, value, ESPnet's name, ESPnet's default eps) */
#define CUMEGA_NORM_LIST(X)                                                                        \
  X(CUMEGA_NORM_LAYER, 0, "layer_norm", 1e-12)                                                     \
  X(CUMEGA_NORM_RMS, 1, "rms_norm", 1e-5)                                                          \
  X(CUMEGA_NORM_SCALE, 2, "scale_norm", 1e-5)                                                      \
  X(CUMEGA_NORM_BASIC, 3, "basic_norm", 0.25)

typedef enum cumega_norm_type {
#define CUMEGA_NORM_ENUMERATOR(name, value, text, eps) name = value,
  CUMEGA_NORM_LIST(CUMEGA_NORM_ENUMERATOR)
#undef CUMEGA_NORM_ENUMERATOR
} cumega_norm_type;

typedef struct cumega_norm cumega_norm;

/* Settings. Start from cumega_norm_config_default(type, size). */
typedef struct cumega_norm_config {
  size_t struct_size;
  int64_t size; /* D >= 1 */
  cumega_norm_type type;
  double
      eps; /* finite, >= 0; above 0 for basic_norm, whose parameter eps is its logarithm and wins */
} cumega_norm_config;

/* On the CPU, any floating type, any strides, finite. What the type does not have is not looked at;
 * NULL: ESPnet's initial value (weight and scale 1, bias 0, eps the logarithm of config.eps). */
typedef struct cumega_norm_parameters {
  size_t struct_size;
  DLTensor *weight; /* (D): layer_norm */
  DLTensor *bias;   /* (D): layer_norm */
  DLTensor *scale;  /* (D): rms_norm; () or (1): scale_norm */
  DLTensor *eps;    /* () or (1): basic_norm */
} cumega_norm_parameters;

#ifdef __cplusplus
extern "C" {
#endif

static inline cumega_norm_config cumega_norm_config_default(cumega_norm_type type, int64_t size) {
  cumega_norm_config config;
  memset(&config, 0, sizeof config);
  config.struct_size = sizeof config;
  config.size = size;
  config.type = type;
#define CUMEGA_NORM_DEFAULT(name, value, text, eps_value)                                          \
  if (type == name) config.eps = eps_value;
  CUMEGA_NORM_LIST(CUMEGA_NORM_DEFAULT)
#undef CUMEGA_NORM_DEFAULT
  return config;
}

/* ESPnet's name of a type; NULL where there is none of that value. */
CUMEGA_API const char *cumega_norm_type_name(cumega_norm_type type);

/* The type of that name. Returns 0 and leaves *type alone where there is none. */
CUMEGA_API CUMEGA_CHECK_RESULT int cumega_norm_type_from_name(const char *name,
                                                              cumega_norm_type *type);

/* Makes a normalisation on ctx's device. parameters are copied; NULL: ESPnet's initial values.
 * *norm is NULL on failure. Contexts of one device share it; a run never changes it. Parameters are
 * kept exactly; runs in float32, float16 and bfloat16 read them rounded to float32. Returns
 * CUMEGA_OK, _ARGUMENT (a setting or parameter; one that is not finite is named with its index),
 * _UNSUPPORTED (a struct with settings that this version does not know), _RESOURCE, _STATE,
 * _DEVICE, _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_norm_create(cumega_context *ctx, const cumega_norm_config *config,
                   const cumega_norm_parameters *parameters, cumega_norm **norm);

/* The same from a weight file: the tensors prefix.weight and so on that the type has, all of them
 * (prefix NULL or "": no prefix; a dot is put between where prefix has none at its end). Also
 * returns _FILE, and _FORMAT where a tensor is missing or has another shape or type than config
 * says. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_norm_create_from_weights(
    cumega_context *ctx, const cumega_weights *weights, const char *prefix,
    const cumega_norm_config *config, cumega_norm **norm);

/* NULL is allowed. No run may still use it. */
CUMEGA_API void cumega_norm_destroy(cumega_norm *norm);

/* Fills *config, whose struct_size the caller has set. basic_norm's eps is the exponential of its
 * parameter. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_norm_get_config(cumega_context *ctx,
                                                                    const cumega_norm *norm,
                                                                    cumega_norm_config *config);

/* Copies the parameters out, rounded once to the types of the given tensors; NULL members are left
 * out. ARGUMENT where a tensor is given for a parameter that the type does not have. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_norm_get_parameters(
    cumega_context *ctx, const cumega_norm *norm, const cumega_norm_parameters *parameters);

/* Replaces all parameters of the type (NULL members: ESPnet's initial values). On failure the old
 * ones stay. No run may use norm meanwhile. Unlike in cumega_norm_create, parameters may not be NULL.
 * Otherwise returns as that. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_norm_set_parameters(
    cumega_context *ctx, cumega_norm *norm, const cumega_norm_parameters *parameters);

#ifdef __cplusplus
}
#endif
#endif
