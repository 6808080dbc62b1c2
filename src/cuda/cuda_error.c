/* The driver's context functions are found through the runtime, which has opened libcuda by then.
 * If this library linked libcuda, it could not be loaded without a driver. cudaSetDevice cannot
 * restore the current context: if there was none, it would make one on device 0. */
#include "cuda_error.h"
#include <stdatomic.h>
#include <string.h>

/* Types of the driver's functions. CUresult is an int whose values mean the same as those of
 * cudaError_t. */
typedef int (*get_current)(struct CUctx_st **current);
typedef int (*set_current)(struct CUctx_st *current);
typedef int (*stream_context)(struct CUstream_st *stream, struct CUctx_st **context);

/* Threads that look at the same time find the same functions. */
static struct {
  _Atomic get_current get_current;
  _Atomic set_current set_current;
  _Atomic stream_context stream_context;
} driver;
static atomic_int complete; /* whether `driver` is complete; after that it never changes */

/* function points to a function pointer. ISO C does not allow a void * to be converted to one. */
static cudaError_t find(const char *name, void *function) {
  void *symbol = NULL;
  enum cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  cudaError_t error =
      cudaGetDriverEntryPointByVersion(name, &symbol, 12000, cudaEnableDefault, &found);
#else
  cudaError_t error = cudaGetDriverEntryPoint(name, &symbol, cudaEnableDefault, &found);
#endif
  memcpy(function, &symbol, sizeof symbol);
  const int is_missing = error == cudaSuccess && found != cudaDriverEntryPointSuccess;
  return is_missing ? cudaErrorSymbolNotFound : error;
}

/* After a failure the next call tries again. */
static cudaError_t look_once(void) {
  get_current get = NULL;
  set_current set = NULL;
  stream_context of_stream = NULL;
  if (atomic_load_explicit(&complete, memory_order_acquire)) return cudaSuccess;
  cudaError_t error = find("cuCtxGetCurrent", &get);
  if (error == cudaSuccess) error = find("cuCtxSetCurrent", &set);
  if (error == cudaSuccess) error = find("cuStreamGetCtx", &of_stream);
  if (error != cudaSuccess) return error;
  atomic_store_explicit(&driver.get_current, get, memory_order_relaxed);
  atomic_store_explicit(&driver.set_current, set, memory_order_relaxed);
  atomic_store_explicit(&driver.stream_context, of_stream, memory_order_relaxed);
  atomic_store_explicit(&complete, 1, memory_order_release);
  return cudaSuccess;
}

cudaError_t cuda_scope_enter(cuda_scope *scope, int device) {
  scope->current = NULL;
  scope->entered = 0;
  scope->pending = cudaPeekAtLastError();
  cudaError_t error = look_once();
  if (error == cudaSuccess) error = (cudaError_t)driver.get_current(&scope->current);
  if (error != cudaSuccess) return error;
  scope->entered = 1;
  return cudaSetDevice(device);
}

cumega_status cuda_enter(cumega_context *ctx, cuda_scope *scope) {
  CUDA_TRY(ctx, cuda_scope_enter(scope, ctx->device.device_id));
  return CUMEGA_OK;
}

void cuda_scope_leave(const cuda_scope *scope) {
  if (scope->entered) driver.set_current(scope->current);
  if (scope->pending == cudaSuccess) (void)cudaGetLastError();
}

cudaError_t cuda_stream_is_ours(cudaStream_t stream, int *ours) {
  struct CUctx_st *current = NULL, *of_stream = NULL;
  cudaError_t error = (cudaError_t)driver.get_current(&current);
  if (error != cudaSuccess) return error;
  error = (cudaError_t)driver.stream_context(stream, &of_stream);
  *ours = of_stream == current; /* the current one is the primary context */
  const int is_no_stream =
      error == cudaErrorInvalidResourceHandle || error == cudaErrorInvalidValue;
  return is_no_stream ? cudaSuccess : error;
}

/* After these every call on the device fails until the process ends or resets the device. */
static int is_fatal(cudaError_t error) {
  switch (error) {
  case cudaErrorIllegalAddress:
  case cudaErrorLaunchTimeout:
  case cudaErrorLaunchFailure:
  case cudaErrorAssert:
  case cudaErrorHardwareStackError:
  case cudaErrorIllegalInstruction:
  case cudaErrorMisalignedAddress:
  case cudaErrorInvalidAddressSpace:
  case cudaErrorInvalidPc:
  case cudaErrorECCUncorrectable:
  case cudaErrorNvlinkUncorrectable:
  case cudaErrorContextIsDestroyed:
  case cudaErrorCudartUnloading:
  case cudaErrorUnknown: return 1;
  default: return 0;
  }
}

cumega_status cuda_fail(cumega_context *ctx, cudaError_t error, const char *call, const char *file,
                        int line) {
  cumega_status status = CUMEGA_ERROR_DEVICE;
  if (error == cudaErrorMemoryAllocation) status = CUMEGA_ERROR_RESOURCE;
  if (is_fatal(error)) status = CUMEGA_ERROR_FATAL;
  front->fail(ctx, status, "%.200s at %s:%d on cuda:%d: %s (%s)", call, basename(file), line,
              ctx->device.device_id, cudaGetErrorString(error), cudaGetErrorName(error));
  if (status == CUMEGA_ERROR_FATAL) ctx->poisoned = status;
  return status;
}
