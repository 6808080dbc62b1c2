/* A normalisation from inside. */
#ifndef CUMEGA_SRC_NORM_OBJECT_H
#define CUMEGA_SRC_NORM_OBJECT_H

#include <cumega/norm.h>
#include "object.h"
#include "residual_run.h"

struct cumega_norm {
  object base;
  cumega_norm_config config;
  int64_t weight_at, bias_at; /* in the block: (D) each */
};

/* As a run reads it; norm NULL: none. */
norm_run norm_run_of(const cumega_norm *norm);

/* CUMEGA_ERROR_ARGUMENT where norm is for another device, size, or type of tensor than `y` has. */
cumega_status norm_check_use(cumega_context *ctx, const cumega_norm *norm, const tensor_view *y,
                             int64_t channels);

#endif
