/* A residual connection from inside. */
#ifndef CUMEGA_SRC_RESIDUAL_OBJECT_H
#define CUMEGA_SRC_RESIDUAL_OBJECT_H

#include <cumega/residual.h>
#include "object.h"
#include "residual_run.h"

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

/* What the host keeps: numbers that a run takes by value. */
typedef struct residual_numbers {
  double alpha, beta; /* resolved: beta is the c of an Affine that has one number */
} residual_numbers;

struct cumega_residual {
  object base;
  cumega_residual_config config;        /* as given */
  int64_t at[RESIDUAL_PARAMETER_COUNT]; /* in the block, of those that the kind has as vectors */
};

/* Checks the settings, but for what depends on parameters, and computes alpha and beta. */
cumega_status residual_config_check(cumega_context *ctx, const cumega_residual_config *config);
void residual_config_resolve(const cumega_residual_config *config, double *alpha, double *beta);

/* Whether the kind reads x, and whether it has a parameter. */
int residual_reads_x(const cumega_residual_config *config);
int residual_has_parameter(const cumega_residual_config *config, int which);

/* call_enter, and residual is not NULL and on ctx's device. */
cumega_status residual_enter(cumega_context *ctx, const cumega_residual *residual);

const residual_numbers *residual_numbers_of(const cumega_residual *residual);

/* As a run reads a parameter that is a vector or matrix; NULLs where the kind does not have it. */
real_vector residual_vector(const cumega_residual *residual, int which);

#endif
