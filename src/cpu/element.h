/* Elements of the caller's tensors are widened into contiguous float or double, and rounded when
 * they are stored. */
#ifndef CUMEGA_SRC_CPU_ELEMENT_H
#define CUMEGA_SRC_CPU_ELEMENT_H

#include "cpu.h"

/* A rectangle of elements. Strides are in elements. */
typedef struct element_block {
  void *data; /* of the tensor */
  tensor_type type;
  int64_t offset; /* of the rectangle's first element */
  int64_t rows, columns, row_stride, column_stride;
} element_block;

/* A row of n elements. */
static inline element_block element_row(void *data, tensor_type type, int64_t offset, int64_t n,
                                        int64_t stride) {
  return (element_block){data, type, offset, 1, n, 0, stride};
}

/* to[r * pitch + c] = element (r, c). float can hold every type but float64, which is loaded and
 * stored as double only. */
void LEVEL(element_load_f32)(const element_block *from, float *to, int64_t pitch);
void LEVEL(element_load_f64)(const element_block *from, double *to, int64_t pitch);

/* Element (r, c) = from[r * pitch + c], rounded once. Doubles are stored as float64 only. */
void LEVEL(element_store_f32)(const element_block *to, const float *from, int64_t pitch);
void LEVEL(element_store_f64)(const element_block *to, const double *from, int64_t pitch);

/* Sets all elements to a value that every type can represent. */
void LEVEL(element_fill)(const element_block *to, double value);

/* Rounds v[i] to this type, as if it were stored and loaded again. */
void LEVEL(element_round_f32)(tensor_type type, int64_t n, float *v);

#endif
