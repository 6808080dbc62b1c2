/* cuBLAS, as far as the CUDA backend uses it. */
#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <emulation_launch.h>
#include <stdlib.h>
#include <string.h>
#include "call.h"

/* A handle that has been given a stream has no workspace until it is given one again, as the real
 * one falls back to memory of its own then, which a capture may not allocate. */
struct cublasContext {
  cudaStream_t stream;
  char *workspace;
  size_t bytes;
};

namespace {

using emulation::call;

cublasStatus_t status_of(cudaError_t error) {
  switch (error) {
  case cudaSuccess: return CUBLAS_STATUS_SUCCESS;
  case cudaErrorMemoryAllocation: return CUBLAS_STATUS_ALLOC_FAILED;
  case cudaErrorInitializationError: return CUBLAS_STATUS_NOT_INITIALIZED;
  default: return CUBLAS_STATUS_EXECUTION_FAILED;
  }
}

cublasStatus_t create(cublasHandle_t *handle) {
  call here(emulation::CALL_DEVICE | emulation::CALL_UNSAFE, "cublasCreate_v2");
  if (here.refused()) return status_of(here.error());
  *handle = new cublasContext();
  return status_of(here.end(cudaSuccess));
}

cublasStatus_t destroy(cublasHandle_t handle) {
  call here(emulation::CALL_RELEASE, "cublasDestroy_v2");
  delete handle;
  return status_of(here.end(cudaSuccess));
}

cublasStatus_t set_stream(cublasHandle_t handle, cudaStream_t stream) {
  call here(emulation::CALL_PLAIN, "cublasSetStream_v2");
  if (here.refused()) return status_of(here.error());
  *handle = cublasContext();
  handle->stream = stream;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t set_workspace(cublasHandle_t handle, void *workspace, size_t bytes) {
  call here(emulation::CALL_PLAIN, "cublasSetWorkspace_v2");
  if (here.refused()) return status_of(here.error());
  if ((uintptr_t)workspace % 256 != 0) return CUBLAS_STATUS_INVALID_VALUE;
  handle->workspace = (char *)workspace;
  handle->bytes = bytes;
  return CUBLAS_STATUS_SUCCESS;
}

cublasStatus_t set_math_mode(cublasHandle_t, cublasMath_t) {
  call here(emulation::CALL_PLAIN, "cublasSetMathMode");
  return status_of(here.end(cudaSuccess));
}

template <typename REAL> struct problem {
  cublasOperation_t a_op, b_op;
  int m, n, k;
  REAL alpha, beta;
  const REAL *a, *b;
  int lda, ldb, ldc;
  REAL *c;
};

inline float multiply_add(float a, float b, float c) {
  return __builtin_fmaf(a, b, c);
}
inline double multiply_add(double a, double b, double c) {
  return __builtin_fma(a, b, c);
}

/* Columns first, as cuBLAS counts. A GPU's kernels cut long sums into pieces too. */
template <typename REAL> void multiply(const problem<REAL> &p) {
  const int64_t piece = 64;
  for (int64_t j = 0; j < p.n; j++)
    for (int64_t i = 0; i < p.m; i++) {
      REAL sum = 0;
      for (int64_t start = 0; start < p.k; start += piece) {
        REAL part = 0;
        for (int64_t l = start; l < p.k && l < start + piece; l++)
          part = multiply_add(p.a[p.a_op == CUBLAS_OP_T ? i * p.lda + l : l * p.lda + i],
                              p.b[p.b_op == CUBLAS_OP_T ? l * p.ldb + j : j * p.ldb + l], part);
        sum += part;
      }
      REAL *c = p.c + j * p.ldc + i;
      *c = p.beta == 0 ? p.alpha * sum : p.alpha * sum + p.beta * *c;
    }
}

/* The workspace is written, so that one which is too small or in use elsewhere is seen. */
template <typename REAL>
cublasStatus_t gemm(cublasHandle_t handle, cublasOperation_t a_op, cublasOperation_t b_op, int m,
                    int n, int k, const REAL *alpha, const REAL *a, int lda, const REAL *b, int ldb,
                    const REAL *beta, REAL *c, int ldc) {
  if (handle->workspace == NULL || m < 0 || n < 0 || k < 0 || ldc < m)
    return CUBLAS_STATUS_INVALID_VALUE;
  const problem<REAL> p = {a_op, b_op, m, n, k, *alpha, *beta, a, b, lda, ldb, ldc, c};
  char *workspace = handle->workspace;
  const size_t bytes = handle->bytes;
  const char *name = sizeof(REAL) == sizeof(float) ? "cublasSgemm" : "cublasDgemm";
  const cudaError_t error =
      emulation_launch(name, dim3(1), dim3(1), 0, handle->stream, [p, workspace, bytes]() {
        workspace[0] = workspace[bytes - 1] = 1;
        multiply(p);
      });
  return status_of(error);
}

struct symbol {
  const char *name;
  void *function;
};

const symbol symbols[] = {
    {"cublasCreate_v2", (void *)create},          {"cublasDestroy_v2", (void *)destroy},
    {"cublasSetStream_v2", (void *)set_stream},   {"cublasSetWorkspace_v2", (void *)set_workspace},
    {"cublasSetMathMode", (void *)set_math_mode}, {"cublasSgemm_v2", (void *)gemm<float>},
    {"cublasDgemm_v2", (void *)gemm<double>},
};

} // namespace

void *emulation_cublas_open(void) {
  const char *word = getenv("EMULATION_CUBLAS");
  return word != NULL && strcmp(word, "off") == 0 ? NULL : (void *)symbols;
}

void *emulation_cublas_find(const char *name) {
  for (const symbol &s : symbols)
    if (strcmp(s.name, name) == 0) return s.function;
  return NULL;
}
