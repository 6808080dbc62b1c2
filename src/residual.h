/* A residual connection from inside. */
#ifndef CUMEGA_SRC_RESIDUAL_H
#define CUMEGA_SRC_RESIDUAL_H

#include <cumega/residual.h>
#include "norm.h"

/* The parameters, in the order of cumega_residual_parameters. */
enum {
  RESIDUAL_AFFINE,
  RESIDUAL_WX_WEIGHT,
  RESIDUAL_WX_BIAS,
  RESIDUAL_WY_WEIGHT,
  RESIDUAL_WY_BIAS,
  RESIDUAL_WY,
  RESIDUAL_PARAMETER_COUNT
};

struct cumega_residual {
  object_owner owner;
  cumega_residual_config config; /* as given */
  double alpha, beta;            /* resolved: beta is an Affine's first c */
  real_table table;              /* the kind's parameters, in their order */
};

/* What the first published header had. */
#define RESIDUAL_CONFIG_SMALLEST     END_OF(cumega_residual_config, elemwise)
#define RESIDUAL_PARAMETERS_SMALLEST END_OF(cumega_residual_parameters, Wy)
#define RESIDUAL_IO_SMALLEST         END_OF(cumega_residual_io, normalized)
#define RESIDUAL_GATED_IO_SMALLEST   END_OF(cumega_residual_gated_io, normalized)

/* Checks the settings, but for what depends on parameters, and computes alpha and beta. */
cumega_status residual_config_check(cumega_context *ctx, const cumega_residual_config *config);
void residual_config_resolve(const cumega_residual_config *config, double *alpha, double *beta);

/* Whether the kind reads x. */
int residual_reads_x(const cumega_residual_config *config);

/* ctx entered, residual not NULL and on ctx's device. */
cumega_status residual_enter(cumega_context *ctx, const cumega_residual *residual);

/* The place of a parameter in the table; -1 where the kind does not have it. */
int residual_slot(const cumega_residual_config *config, int which);

#endif
