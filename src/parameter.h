/* An object's parameters: what the tensor of one must look like, how it is stored, and how values
 * get in and out. All of this is host memory, whatever ctx's device. */
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

typedef struct parameter {
  const char *name;      /* ESPnet's */
  parameter_shape shape; /* letters NULL: this object has no such parameter */
  parameter_shape also;  /* accepted too, with as many values; letters NULL: there is no other */
  tensor_type type;      /* it is stored row-major as TYPE_FLOAT32 or TYPE_FLOAT64 */
  int is_in_block;       /* in the block that runs read, else in the host's (object.h) */
  int64_t offset;        /* bytes from its beginning */
} parameter;

int64_t parameter_count(const parameter *p);
int64_t parameter_bytes(const parameter *p);

/* values = the tensor, rounded once to p->type. CUMEGA_ERROR_ARGUMENT where it does not have p's
 * shape, or where a value is not finite, or not in p->type: it is named with its index. name is
 * the parameter's in sentences: a weight file's has a prefix. */
cumega_status parameter_read(cumega_context *ctx, const parameter *p, const char *name,
                             const DLTensor *tensor, void *values);

/* The same from the file's tensor prefix.name (prefix NULL or "": name; a dot is added where
 * prefix does not end in one). CUMEGA_ERROR_FORMAT where it is missing or does not fit. */
cumega_status parameter_read_weights(cumega_context *ctx, const parameter *p,
                                     const cumega_weights *weights, const char *prefix,
                                     void *values);

/* A standard deviation for random values: finite and >= 0. */
cumega_status parameter_check_spread(cumega_context *ctx, const char *name, double value);

/* Checks a tensor that parameter_write is to fill. */
cumega_status parameter_check_output(cumega_context *ctx, const parameter *p,
                                     const DLTensor *tensor, tensor_view *view);

/* The tensor = values of this type, row-major, rounded once. */
void parameter_write(const tensor_view *view, tensor_type type, const void *values);

#endif
