/* The part of cuBLAS that the CUDA backend uses, in a simple form (tests/emulation/cublas.cpp):
 * products are operations of their stream, and need a workspace, which setting a stream takes
 * away. EMULATION_CUBLAS=off in the environment hides it, as on a machine without the library. */
#ifndef EMULATION_CUBLAS_V2_H
#define EMULATION_CUBLAS_V2_H

#include <cuda_runtime_api.h>
#include <stddef.h>

typedef struct cublasContext *cublasHandle_t;

typedef enum cublasStatus_t {
  CUBLAS_STATUS_SUCCESS = 0,
  CUBLAS_STATUS_NOT_INITIALIZED = 1,
  CUBLAS_STATUS_ALLOC_FAILED = 3,
  CUBLAS_STATUS_INVALID_VALUE = 7,
  CUBLAS_STATUS_EXECUTION_FAILED = 13
} cublasStatus_t;

typedef enum cublasOperation_t { CUBLAS_OP_N = 0, CUBLAS_OP_T = 1 } cublasOperation_t;
typedef enum cublasMath_t { CUBLAS_DEFAULT_MATH = 0, CUBLAS_PEDANTIC_MATH = 2 } cublasMath_t;

#ifdef __cplusplus
extern "C" {
#endif

void *emulation_cublas_open(void);
void *emulation_cublas_find(const char *name);

#ifdef __cplusplus
}
#endif

#endif
