/* An object's parameters: what a tensor must look like, and how its values get in and out. They are
 * kept as doubles, row-major, exactly as given. All of it is host memory, whatever ctx's device. */
#ifndef CUMEGA_SRC_PARAMETER_H
#define CUMEGA_SRC_PARAMETER_H

#include <cumega/weights.h>
#include "tensor_view.h"

#define PARAMETER_DIMS 3

typedef struct parameter_shape {
  const char *letters; /* "(D, N, 1)" */
  int ndim;
  int64_t sizes[PARAMETER_DIMS];
} parameter_shape;

/* A tensor with `also`'s number of dimensions has to be of that shape, with as many values. */
typedef struct parameter {
  const char *name; /* ESPnet's */
  parameter_shape shape;
  parameter_shape also; /* letters NULL: there is no other */
} parameter;

int64_t parameter_count(const parameter *p);

/* name is the parameter's in sentences: a weight file's has a prefix. A value that is not finite is
 * an ARGUMENT error, named with its index. */
cumega_status parameter_read(cumega_context *ctx, const parameter *p, const char *name,
                             const DLTensor *tensor, double *values);

/* From the file's tensor prefix.name (prefix NULL or "": name; a dot is put between where prefix has
 * none at its end). One that is missing or does not fit is a FORMAT error. */
cumega_status parameter_read_weights(cumega_context *ctx, const parameter *p,
                                     const cumega_weights *weights, const char *prefix,
                                     double *values);

/* A standard deviation that random values are drawn with: finite and >= 0. */
cumega_status parameter_check_spread(cumega_context *ctx, const char *name, double value);

/* Checks a tensor that parameter_write is to fill, rounding once. */
cumega_status parameter_check_output(cumega_context *ctx, const parameter *p,
                                     const DLTensor *tensor, tensor_view *view);
void parameter_write(const tensor_view *view, const double *values);

#endif
