/* Tensors in their own memory, and their values as doubles. */
#ifndef CUMEGA_TOOLS_VALUES_H
#define CUMEGA_TOOLS_VALUES_H

#include <stddef.h>
#include <cumega/tensor.h>

/* Allocates a compact tensor of zeros in CPU memory. Returns 0, or an exit code after a message
 * that contains `name`. */
int values_allocate(cumega_tensor *tensor, const char *name, DLDataType dtype, int ndim,
                    const int64_t *shape);
void values_release(cumega_tensor *tensor);

int64_t values_count(const DLTensor *tensor);
int64_t values_bytes(const DLTensor *tensor);

/* "float32", "bool", ...; "unknown" for types that no operation takes. */
const char *values_dtype_name(DLDataType dtype);
int values_dtype_equal(DLDataType a, DLDataType b);
DLDataType values_real_dtype(DLDataType dtype); /* of objects for such tensors */
int values_is_floating(DLDataType dtype);       /* float32, float16, bfloat16 or float64 */

/* Gives a tensor that fills its memory the order of strides of another tensor of the same
 * shape. */
void values_order_like(DLTensor *tensor, const DLTensor *other);

/* The i-th value in the memory of a floating tensor that fills it. */
double values_at(const DLTensor *tensor, int64_t i);

/* Sets the i-th value to zero or to a normal number of at most 8 significant bits, which is exact
 * in every type. */
void values_put(DLTensor *tensor, int64_t i, double value);

/* Half the distance between 1 and the next number of a floating type. */
double values_roundoff(DLDataType dtype);

/* The floating type of that name. Returns 0 if there is none. */
int values_dtype_from_name(const char *name, DLDataType *dtype);

/* "(3, 4)" into text; returns text. */
char *values_shape_text(const DLTensor *tensor, char *text, size_t size);

/* max |out - exact| / max |exact| over the finite values of exact; 0 if both are all zero.
 * Infinite if NaNs and infinities do not match position by position, or if max |exact| is 0 and
 * out is not 0. Both are compact, floating and of the same shape. */
double values_error(const DLTensor *out, const DLTensor *exact);

#endif
