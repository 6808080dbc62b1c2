#include "cublas_cuda.h"
#include <cublas_v2.h>
#include "library_cuda.h"

/* X(member, function, parameters), with the symbols that cublas_v2.h maps its functions to. */
#define CUBLAS_FUNCTIONS(X)                                                                       \
  X(create, cublasCreate_v2, (cublasHandle_t * handle))                                           \
  X(destroy, cublasDestroy_v2, (cublasHandle_t handle))                                           \
  X(set_stream, cublasSetStream_v2, (cublasHandle_t handle, cudaStream_t stream))                 \
  X(set_workspace, cublasSetWorkspace_v2, (cublasHandle_t handle, void *workspace, size_t bytes)) \
  X(set_math_mode, cublasSetMathMode, (cublasHandle_t handle, cublasMath_t mode))                 \
  X(sgemm, cublasSgemm_v2,                                                                        \
    (cublasHandle_t handle, cublasOperation_t a_op, cublasOperation_t b_op, int m, int n, int k,  \
     const float *alpha, const float *a, int lda, const float *b, int ldb, const float *beta,     \
     float *c, int ldc))                                                                          \
  X(dgemm, cublasDgemm_v2,                                                                        \
    (cublasHandle_t handle, cublasOperation_t a_op, cublasOperation_t b_op, int m, int n, int k,  \
     const double *alpha, const double *a, int lda, const double *b, int ldb, const double *beta, \
     double *c, int ldc))

static struct {
#define CUBLAS_MEMBER(name, symbol, parameters) cublasStatus_t(*name) parameters;
  CUBLAS_FUNCTIONS(CUBLAS_MEMBER)
#undef CUBLAS_MEMBER
} cublas;

#define CUBLAS_FUNCTION(name, symbol, parameters) {#symbol, &cublas.name},
static const library_function functions[] = {CUBLAS_FUNCTIONS(CUBLAS_FUNCTION)};

static library cublas_file = {.need = "Highway's products need cuBLAS",
                              LIBRARY_FILE(cublas, "cuBLAS", "libcublas.so.12", "libcublas.so.13"),
                              LIBRARY_FUNCTIONS(functions)};

static cumega_status fail(cumega_context *ctx, cublasStatus_t error, const char *call) {
  TRY(cuda_check_device(ctx)); /* a lost device explains more */
  const cumega_status status =
      error == CUBLAS_STATUS_ALLOC_FAILED || error == CUBLAS_STATUS_NOT_INITIALIZED
          ? CUMEGA_ERROR_RESOURCE
          : CUMEGA_ERROR_DEVICE;
  return front->fail(ctx, status, "%s on cuda:%d: cuBLAS status %d", call, ctx->device.device_id,
                     (int)error);
}

#define CUBLAS_TRY(ctx, call)                                                                     \
  do {                                                                                            \
    cublasStatus_t cublas_try_error = cublas.call;                                                \
    if (cublas_try_error != CUBLAS_STATUS_SUCCESS) return fail(ctx, cublas_try_error, #call);     \
  } while (0)

/* The cuBLAS handle of a context. */
typedef struct handle_entry {
  kept base;
  cublasHandle_t handle;
} handle_entry;

static void release_handle(cumega_context *ctx, kept *base) {
  handle_entry *entry = (handle_entry *)base;
  (void)cublas.destroy(entry->handle);
  front->memory_free(ctx->memory, entry, sizeof *entry);
}

static const int64_t no_key[6];

static cublasHandle_t handle_of(cumega_context *ctx) {
  const handle_entry *entry = (handle_entry *)front->kept_find(ctx, release_handle, no_key);
  return entry ? entry->handle : NULL;
}

static cumega_status make_handle(cumega_context *ctx, cublasHandle_t *handle) {
  CUBLAS_TRY(ctx, create(handle));
  const cublasStatus_t error = cublas.set_math_mode(*handle, CUBLAS_PEDANTIC_MATH);
  if (error == CUBLAS_STATUS_SUCCESS) return CUMEGA_OK;
  (void)cublas.destroy(*handle);
  return fail(ctx, error, "cublasSetMathMode");
}

cumega_status cublas_open(cumega_context *ctx) {
  int capturing = 0;
  if (handle_of(ctx) != NULL) return CUMEGA_OK;
  TRY(cuda_is_capturing(ctx, &capturing));
  if (capturing)
    return front->fail(
        ctx, CUMEGA_ERROR_RESOURCE,
        "the run needs cuBLAS, which this context has not opened yet, and its stream "
        "is being captured: call cumega_residual_prepare before");
  TRY(library_need(ctx, &cublas_file));
  handle_entry *entry = front->memory_allocate(ctx->memory, sizeof *entry);
  if (entry == NULL)
    return front->fail(ctx, CUMEGA_ERROR_RESOURCE, "cannot allocate %zu bytes for cuBLAS's handle",
                       sizeof *entry);
  *entry = (handle_entry){.base = {.captured = 1, .release = release_handle}};
  const cumega_status status = make_handle(ctx, &entry->handle);
  if (status == CUMEGA_OK)
    front->kept_add(ctx, &entry->base);
  else
    front->memory_free(ctx->memory, entry, sizeof *entry);
  return status;
}

/* Setting a stream resets the workspace, so both are set together. */
cumega_status cublas_begin(cumega_context *ctx, void *workspace) {
  cublasHandle_t handle = handle_of(ctx);
  CUBLAS_TRY(ctx, set_stream(handle, cuda_context_of(ctx)->stream));
  CUBLAS_TRY(ctx, set_workspace(handle, workspace, (size_t)CUBLAS_WORKSPACE_BYTES));
  return CUMEGA_OK;
}

/* Matrices in cuBLAS are column-major, so each is the transpose of one here. */
cumega_status cublas_product(cumega_context *ctx, int is_double, int64_t rows, int64_t D,
                             const void *in, int64_t in_stride, const void *weight, void *out) {
  cublasHandle_t handle = handle_of(ctx);
  const int d = (int)D, ld = (int)in_stride;
  const double one = 1, zero = 0;
  const float one_f = 1, zero_f = 0;
  for (int64_t row = 0; row < rows; row += CUBLAS_MOST_ROWS) {
    const int n = (int)(rows - row < CUBLAS_MOST_ROWS ? rows - row : CUBLAS_MOST_ROWS);
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
