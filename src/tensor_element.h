/* Elements of a tensor_view as doubles, one rounding at most, for parameters, coefficients and
 * kernels; runs have their own loops. `stride` is in elements. The view is of a floating type. */
#ifndef CUMEGA_SRC_TENSOR_ELEMENT_H
#define CUMEGA_SRC_TENSOR_ELEMENT_H

#include "tensor_view.h"

void tensor_load(const tensor_view *view, int64_t offset, int64_t stride, int64_t count,
                 double *values);
void tensor_store(const tensor_view *view, int64_t offset, int64_t stride, int64_t count,
                  const double *values);

#endif
