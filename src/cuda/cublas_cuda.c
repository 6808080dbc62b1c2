#include "cublas_cuda.h"
#include <cublas_v2.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

/* The functions, by the names that cublas_v2.h maps its own to. */
#define CUBLAS_FUNCTIONS(X)                                                                        \
  X(create, cublasCreate_v2, (cublasHandle_t * handle))                                            \
  X(destroy, cublasDestroy_v2, (cublasHandle_t handle))                                            \
  X(set_stream, cublasSetStream_v2, (cublasHandle_t handle, cudaStream_t stream))                  \
  X(set_workspace, cublasSetWorkspace_v2, (cublasHandle_t handle, void *workspace, size_t bytes))  \
  X(set_math_mode, cublasSetMathMode, (cublasHandle_t handle, cublasMath_t mode))                  \
  X(sgemm, cublasSgemm_v2,                                                                         \
    (cublasHandle_t handle, cublasOperation_t a_op, cublasOperation_t b_op, int m, int n, int k,   \
     const float *alpha, const float *a, int lda, const float *b, int ldb, const float *beta,      \
     float *c, int ldc))                                                                           \
  X(dgemm, cublasDgemm_v2,                                                                         \
    (cublasHandle_t handle, cublasOperation_t a_op, cublasOperation_t b_op, int m, int n, int k,   \
     const double *alpha, const double *a, int lda, const double *b, int ldb, const double *beta,  \
     double *c, int ldc))

typedef struct cublas_functions {
#define CUBLAS_MEMBER(name, symbol, parameters) cublasStatus_t(*name) parameters;
  CUBLAS_FUNCTIONS(CUBLAS_MEMBER)
#undef CUBLAS_MEMBER
} cublas_functions;

static pthread_once_t looked = PTHREAD_ONCE_INIT;
static cublas_functions cublas;
static char missing[256]; /* why cublas is not complete; empty where it is */

/* The library of the runtime's own major version; emulated CUDA has its functions inside, and an
 * environment variable that hides them. */
#if defined(CUMEGA_EMULATION)
#define LIBRARY                    "emulated cuBLAS"
#define open_library()             emulation_cublas_open()
#define find_symbol(library, name) emulation_cublas_find(name)
#define reason()                   "it is hidden"
#define MOST_ROWS                  64
#else
#define TEXT_OF(x) #x
#define TEXT(x)    TEXT_OF(x)
#if CUDART_VERSION >= 13000
#define LIBRARY "libcublas.so.13"
#else
#define LIBRARY "libcublas.so.12"
#endif
#define open_library() dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL)
#define find_symbol    dlsym
#define reason()       dlerror()
#define MOST_ROWS      ((int64_t)1 << 30) /* of one product: its sizes are ints */
#endif

static void fail_to_load(void) {
  snprintf(missing, sizeof missing, "%s cannot be loaded: %s", LIBRARY, reason());
}

static void load(void) {
  void *library = open_library(), *symbol;
  if (library == NULL) {
    fail_to_load();
    return;
  }
#define CUBLAS_FIND(name, function, parameters)                                                    \
  symbol = find_symbol(library, #function);                                                        \
  if (symbol == NULL) fail_to_load();                                                              \
  memcpy(&cublas.name, &symbol, sizeof symbol);
  CUBLAS_FUNCTIONS(CUBLAS_FIND)
#undef CUBLAS_FIND
}

static cumega_status fail(cumega_context *ctx, cublasStatus_t error, const char *call) {
  TRY(cuda_check_device(ctx)); /* the better reason */
  const cumega_status status =
      error == CUBLAS_STATUS_ALLOC_FAILED || error == CUBLAS_STATUS_NOT_INITIALIZED
          ? CUMEGA_ERROR_RESOURCE
          : CUMEGA_ERROR_DEVICE;
  return front->fail(ctx, status, "%s on cuda:%d: cuBLAS status %d", call, ctx->device.device_id,
                     (int)error);
}

#define CUBLAS_TRY(ctx, call)                                                                      \
  do {                                                                                             \
    cublasStatus_t cublas_try_error = cublas.call;                                                 \
    if (cublas_try_error != CUBLAS_STATUS_SUCCESS) return fail(ctx, cublas_try_error, #call);      \
  } while (0)

cumega_status cublas_open(cumega_context *ctx) {
  cuda_context *c = cuda_context_of(ctx);
  cublasHandle_t handle = NULL;
  int capturing = 0;
  if (c->cublas != NULL) return CUMEGA_OK;
  TRY(cuda_is_capturing(ctx, &capturing));
  if (capturing)
    return front->fail(
        ctx, CUMEGA_ERROR_RESOURCE,
        "the run needs cuBLAS, which this context has not opened yet, and its stream "
        "is being captured: call cumega_residual_prepare before");
  pthread_once(&looked, load);
  if (missing[0] != '\0')
    return front->fail(ctx, CUMEGA_ERROR_DEVICE, "Highway's products need cuBLAS, and %s", missing);
  CUBLAS_TRY(ctx, create(&handle));
  const cublasStatus_t error = cublas.set_math_mode(handle, CUBLAS_PEDANTIC_MATH);
  if (error != CUBLAS_STATUS_SUCCESS) {
    (void)cublas.destroy(handle);
    return fail(ctx, error, "cublasSetMathMode");
  }
  c->cublas = handle;
  return CUMEGA_OK;
}

void cublas_close(cumega_context *ctx) {
  cuda_context *c = cuda_context_of(ctx);
  if (c->cublas != NULL) (void)cublas.destroy(c->cublas);
  c->cublas = NULL;
}

/* Setting a stream takes the workspace away, so both go together. */
cumega_status cublas_begin(cumega_context *ctx, void *workspace) {
  cuda_context *c = cuda_context_of(ctx);
  CUBLAS_TRY(ctx, set_stream(c->cublas, c->stream));
  CUBLAS_TRY(ctx, set_workspace(c->cublas, workspace, (size_t)CUBLAS_WORKSPACE_BYTES));
  return CUMEGA_OK;
}

/* cuBLAS counts columns first: its matrices are the transposes of ours. */
cumega_status cublas_product(cumega_context *ctx, int is_double, int64_t rows, int64_t D,
                             const void *in, int64_t in_stride, const void *weight, void *out) {
  cublasHandle_t handle = cuda_context_of(ctx)->cublas;
  const int d = (int)D, ld = (int)in_stride;
  const double one = 1, zero = 0;
  const float one_f = 1, zero_f = 0;
  for (int64_t row = 0; row < rows; row += MOST_ROWS) {
    const int n = (int)(rows - row < MOST_ROWS ? rows - row : MOST_ROWS);
    const cublasStatus_t error =
        is_double ? cublas.dgemm(handle, CUBLAS_OP_T, CUBLAS_OP_N, d, n, d, &one, weight, d,
                                 (const double *)in + row * in_stride, ld, &zero,
                                 (double *)out + row * D, d)
                  : cublas.sgemm(handle, CUBLAS_OP_T, CUBLAS_OP_N, d, n, d, &one_f, weight, d,
                                 (const float *)in + row * in_stride, ld, &zero_f,
                                 (float *)out + row * D, d);
    if (error != CUBLAS_STATUS_SUCCESS) return fail(ctx, error, is_double ? "dgemm" : "sgemm");
  }
  return CUMEGA_OK;
}
