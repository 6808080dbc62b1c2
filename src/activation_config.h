/* The settings of an activation, which several configurations embed. */
#ifndef CUMEGA_SRC_ACTIVATION_CONFIG_H
#define CUMEGA_SRC_ACTIVATION_CONFIG_H

#include <cumega/activation.h>
#include "call.h"

extern const cumega_activation_arguments activation_default_arguments;

/* Checks the activation and its own arguments, and resolves those that have a default below 0. */
cumega_status activation_check(cumega_context *ctx, cumega_activation activation,
                               cumega_activation_arguments *arguments);

#endif
