/* cuBLAS, as far as the CUDA backend uses it. */
#include <cublas_v2.h>
#include <cuda_runtime.h>
#include <emulation_launch.h>
#include <set>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "call.h"
#include "library.h"

/* Setting a handle's stream takes its workspace away until it gets one again. The real cuBLAS
 * then falls back to its own memory, which it may not allocate during a capture. */
struct cublasContext {
  cudaStream_t stream;
  char *workspace;
  size_t bytes;
  cublasMath_t math;
};

namespace emulation {

static std::set<cublasHandle_t> handles;

long cublas_leaks(std::string *text) {
  for (size_t i = 0; i < handles.size(); i++) *text += "a handle of cuBLAS\n";
  return (long)handles.size();
}

static cublasStatus_t status_of(cudaError_t error) {
  return error == cudaSuccess                    ? CUBLAS_STATUS_SUCCESS
         : error == cudaErrorMemoryAllocation    ? CUBLAS_STATUS_ALLOC_FAILED
         : error == cudaErrorInitializationError ? CUBLAS_STATUS_NOT_INITIALIZED
                                                 : CUBLAS_STATUS_EXECUTION_FAILED;
}

static cublasStatus_t create(cublasHandle_t *handle) {
  call here(CALL_DEVICE | CALL_UNSAFE, "cublasCreate");
  if (here.refused()) return status_of(here.error());
  *handle = new cublasContext();
  handles.insert(*handle);
  return status_of(here.end(cudaSuccess));
}

static cublasStatus_t destroy(cublasHandle_t handle) {
  call here(CALL_DEVICE | CALL_UNSAFE | CALL_RELEASE, "cublasDestroy");
  if (here.refused()) return status_of(here.error());
  handles.erase(handle);
  delete handle;
  return status_of(here.end(cudaSuccess));
}

static cublasStatus_t set_stream(cublasHandle_t handle, cudaStream_t stream) {
  call here(CALL_PLAIN, "cublasSetStream");
  if (here.refused()) return status_of(here.error());
  handle->workspace = NULL;
  handle->stream = stream;
  return status_of(here.end(cudaSuccess));
}

static cublasStatus_t set_workspace(cublasHandle_t handle, void *workspace, size_t bytes) {
  call here(CALL_PLAIN, "cublasSetWorkspace");
  if (here.refused()) return status_of(here.error());
  if ((uintptr_t)workspace % 256 != 0) return CUBLAS_STATUS_INVALID_VALUE;
  handle->workspace = (char *)workspace;
  handle->bytes = bytes;
  return status_of(here.end(cudaSuccess));
}

static cublasStatus_t set_math_mode(cublasHandle_t handle, cublasMath_t math) {
  call here(CALL_PLAIN, "cublasSetMathMode");
  if (here.refused()) return status_of(here.error());
  handle->math = math;
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

static inline float multiply_add(float a, float b, float c) {
  return __builtin_fmaf(a, b, c);
}
static inline double multiply_add(double a, double b, double c) {
  return __builtin_fma(a, b, c);
}

/* Column-major, as in cuBLAS. A GPU's kernels also cut long sums into pieces. */
template <typename REAL> static void multiply(const problem<REAL> &p) {
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

/* Writes to the workspace, so that a test notices one that is too small or in use elsewhere. Only
 * products in PEDANTIC mode are right: in other modes the bits differ on a GPU, so all results
 * are wrong here. */
template <typename REAL>
static cublasStatus_t gemm(cublasHandle_t handle, cublasOperation_t a_op, cublasOperation_t b_op,
                           int m, int n, int k, const REAL *alpha, const REAL *a, int lda,
                           const REAL *b, int ldb, const REAL *beta, REAL *c, int ldc) {
  if (handle->workspace == NULL || m < 0 || n < 0 || k < 0) return CUBLAS_STATUS_INVALID_VALUE;
  if (lda < (a_op == CUBLAS_OP_T ? k : m) || ldb < (b_op == CUBLAS_OP_T ? n : k) || ldc < m)
    return CUBLAS_STATUS_INVALID_VALUE;
  const REAL factor = handle->math == CUBLAS_PEDANTIC_MATH ? *alpha : (REAL)NAN;
  const problem<REAL> p = {a_op, b_op, m, n, k, factor, *beta, a, b, lda, ldb, ldc, c};
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

static const symbol symbols[] = {
    {"cublasCreate_v2", (void *)create},          {"cublasDestroy_v2", (void *)destroy},
    {"cublasSetStream_v2", (void *)set_stream},   {"cublasSetWorkspace_v2", (void *)set_workspace},
    {"cublasSetMathMode", (void *)set_math_mode}, {"cublasSgemm_v2", (void *)gemm<float>},
    {"cublasDgemm_v2", (void *)gemm<double>},
};

} // namespace emulation

using namespace emulation;

void *emulation_cublas_open(void) {
  const char *word = getenv("EMULATION_CUBLAS");
  return word != NULL && strcmp(word, "off") == 0 ? NULL : (void *)symbols;
}

void *emulation_cublas_find(const char *name) {
  for (const symbol &s : symbols)
    if (strcmp(s.name, name) == 0 && !emulation::is_hidden(name)) return s.function;
  return NULL;
}
