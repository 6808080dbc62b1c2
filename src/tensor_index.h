/* Lengths, offsets and slots as a backend reads them. C11 and CUDA C++ alike. */
#ifndef CUMEGA_SRC_TENSOR_INDEX_H
#define CUMEGA_SRC_TENSOR_INDEX_H

#include "math/math_attributes.h"

/* A strided vector of int32 or int64; data NULL: absent. */
typedef struct tensor_index {
  const void *data;
  int64_t stride;
  int is_int64;
} tensor_index;

CUMEGA_MATH int64_t tensor_index_at(const tensor_index *index, int64_t i) {
  return index->is_int64 ? ((const int64_t *)index->data)[i * index->stride]
                         : ((const int32_t *)index->data)[i * index->stride];
}

#endif
