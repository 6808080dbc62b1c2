/* A vector or matrix of numbers that an object stores in one type, as a backend reads it. C11 and
 * CUDA C++ alike. */
#ifndef CUMEGA_SRC_REAL_VECTOR_H
#define CUMEGA_SRC_REAL_VECTOR_H

/* The member of its type is set, the other is NULL; both are where there is no vector. */
typedef struct real_vector {
  const float *f32;
  const double *f64;
} real_vector;

#endif
