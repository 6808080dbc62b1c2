/* cumega: the sequence modules of ESPnet's MEGA and S4 models for batch inference servers.
 * Includes every public header. */
#ifndef CUMEGA_CUMEGA_H
#define CUMEGA_CUMEGA_H

#include <cumega/version.h>
#include <cumega/status.h>
#include <cumega/tensor.h>
#include <cumega/context.h>
#include <cumega/weights.h>
#include <cumega/activation.h>
#include <cumega/ema.h>
#include <cumega/position_bias.h>
#include <cumega/attention.h>
#include <cumega/norm.h>
#include <cumega/residual.h>

#endif
