/* The types of elements that cumega knows. */
#ifndef CUMEGA_SRC_TENSOR_TYPE_H
#define CUMEGA_SRC_TENSOR_TYPE_H

/* Element types, as bits so that a call can name a set of them. */
typedef enum tensor_type {
  TYPE_FLOAT32 = 1,
  TYPE_FLOAT16 = 2,
  TYPE_BFLOAT16 = 4,
  TYPE_FLOAT64 = 8,
  TYPE_BOOL = 16,
  TYPE_UINT8 = 32,
  TYPE_INT32 = 64,
  TYPE_INT64 = 128
} tensor_type;

/* Sets of them. */
#define TYPES_FLOAT (TYPE_FLOAT32 | TYPE_FLOAT16 | TYPE_BFLOAT16 | TYPE_FLOAT64)
#define TYPES_MASK  (TYPE_BOOL | TYPE_UINT8)
#define TYPES_INDEX (TYPE_INT32 | TYPE_INT64)

#endif
