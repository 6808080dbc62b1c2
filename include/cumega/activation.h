/* The activations of ESPnet's MEGA models, as an EMA and a feed-forward network apply them
 * (espnet2.asr_transducer.activation). Their formulas and error bounds are in
 * docs/arithmetic.md. */
#ifndef CUMEGA_ACTIVATION_H
#define CUMEGA_ACTIVATION_H

#include <stddef.h>
#include <cumega/version.h>

/* X(enumerator, value, ESPnet's name) */
#define CUMEGA_ACTIVATION_LIST(X)                                                                 \
  X(CUMEGA_ACTIVATION_IDENTITY, 0, "identity")                                                    \
  X(CUMEGA_ACTIVATION_RELU, 1, "relu")                                                            \
  X(CUMEGA_ACTIVATION_SWISH, 2, "swish")                                                          \
  X(CUMEGA_ACTIVATION_TANH, 3, "tanh")                                                            \
  X(CUMEGA_ACTIVATION_LEAKY_RELU, 4, "leaky_relu")                                                \
  X(CUMEGA_ACTIVATION_HARDTANH, 5, "hardtanh")                                                    \
  X(CUMEGA_ACTIVATION_SELU, 6, "selu")                                                            \
  X(CUMEGA_ACTIVATION_MISH, 7, "mish")                                                            \
  X(CUMEGA_ACTIVATION_SMISH, 8, "smish")                                                          \
  X(CUMEGA_ACTIVATION_FTSWISH, 9, "ftswish")

typedef enum cumega_activation {
#define CUMEGA_ACTIVATION_ENUMERATOR(name, value, text) name = value,
  CUMEGA_ACTIVATION_LIST(CUMEGA_ACTIVATION_ENUMERATOR)
#undef CUMEGA_ACTIVATION_ENUMERATOR
} cumega_activation;

/* The arguments of the activations that have any, under ESPnet's names; those of other activations
 * are ignored. Embedded in the configurations that name an activation, whose _init function fills
 * it. All values are finite. */
typedef struct cumega_activation_arguments {
  /* beta * x * sigmoid(x) where it is above 1, else x * sigmoid(x). Default 1. */
  double swish_beta;
  /* The slope below 0. Default 0.01. */
  double leakyrelu_neg_slope;
  /* Default -1 and 1; the minimum is below the maximum. */
  double hardtanh_min_val;
  double hardtanh_max_val;
  /* Default 1; a value <= 0 becomes 1. */
  double smish_alpha;
  double smish_beta;
  /* Default -0.2; below 0. */
  double ftswish_threshold;
  /* Default 0. */
  double ftswish_mean_shift;
} cumega_activation_arguments;

#ifdef __cplusplus
extern "C" {
#endif

/* ESPnet's name of an activation; NULL for any other value. */
CUMEGA_API const char *cumega_activation_name(cumega_activation activation);

/* The activation with that name ("silu" is swish). Returns 1, or 0 where there is none or an
 * argument is NULL; *activation is then unchanged. */
CUMEGA_API CUMEGA_CHECK_RESULT int cumega_activation_from_name(const char *name,
                                                               cumega_activation *activation);

#ifdef __cplusplus
}
#endif
#endif
