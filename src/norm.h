/* A normalisation from inside. */
#ifndef CUMEGA_SRC_NORM_H
#define CUMEGA_SRC_NORM_H

#include <cumega/norm.h>
#include "real_table.h"

enum { NORM_WEIGHT, NORM_BIAS };

struct cumega_norm {
  object_owner owner;
  cumega_norm_config config;
  real_table table; /* weight and bias as runs read them (norm_run) */
  double scalar;    /* the parameter of shape (): scale_norm's scale, basic_norm's eps */
};

/* What the first published header had. */
#define NORM_CONFIG_SMALLEST     END_OF(cumega_norm_config, eps)
#define NORM_PARAMETERS_SMALLEST END_OF(cumega_norm_parameters, eps)

/* As a run reads it; norm NULL: none. */
norm_run norm_run_of(const cumega_norm *norm);

#endif
