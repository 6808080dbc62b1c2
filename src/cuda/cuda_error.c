/* The driver's context functions are found through the runtime, which has opened libcuda by then:
 * linking libcuda would make this library unloadable where there is no driver, and cudaSetDevice
 * could not give back what was current (it would make a context on device 0 where there was none).
 */
#include "cuda_error.h"
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

/* What these functions of the driver look like. CUresult is an int whose values mean what the
 * runtime's errors of the same numbers do. */
typedef struct driver_functions {
  int (*get_current)(struct CUctx_st **current);
  int (*set_current)(struct CUctx_st *current);
  int (*stream_context)(struct CUstream_st *stream, struct CUctx_st **context);
} driver_functions;

static pthread_mutex_t looking = PTHREAD_MUTEX_INITIALIZER;
static driver_functions driver;
static atomic_int complete; /* driver is, and never changes again */

/* *function: a pointer to a function pointer, which ISO C does not let a void * become. */
static cudaError_t find(const char *name, void *function) {
  void *symbol = NULL;
  enum cudaDriverEntryPointQueryResult found = cudaDriverEntryPointSymbolNotFound;
#if CUDART_VERSION >= 12050
  cudaError_t error =
      cudaGetDriverEntryPointByVersion(name, &symbol, 12000, cudaEnableDefault, &found);
#else
  cudaError_t error = cudaGetDriverEntryPoint(name, &symbol, cudaEnableDefault, &found);
#endif
  /* GCOVR_EXCL_START: emulated drivers have all of it */
  if (error == cudaSuccess && (found != cudaDriverEntryPointSuccess || symbol == NULL))
    error = cudaErrorSymbolNotFound;
  /* GCOVR_EXCL_STOP */
  if (error == cudaSuccess) memcpy(function, &symbol, sizeof symbol);
  return error;
}

static cudaError_t look(void) {
  cudaError_t error = find("cuCtxGetCurrent", &driver.get_current);
  if (error == cudaSuccess) error = find("cuCtxSetCurrent", &driver.set_current);
  if (error == cudaSuccess) error = find("cuStreamGetCtx", &driver.stream_context);
  return error;
}

/* A failure is not remembered: the next call looks again. */
static cudaError_t look_once(void) {
  cudaError_t error = cudaSuccess;
  if (atomic_load_explicit(&complete, memory_order_acquire)) return cudaSuccess;
  pthread_mutex_lock(&looking);
  /* GCOVR_EXCL_START: two threads are seldom here together */
  if (!atomic_load_explicit(&complete, memory_order_relaxed)) {
    /* GCOVR_EXCL_STOP */
    error = look();
    if (error == cudaSuccess) atomic_store_explicit(&complete, 1, memory_order_release);
  }
  pthread_mutex_unlock(&looking);
  return error;
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
  struct CUctx_st *current = NULL;
  if (scope->entered && (driver.get_current(&current) != 0 || current != scope->current))
    driver.set_current(scope->current);
  if (scope->pending == cudaSuccess) (void)cudaGetLastError();
}

cudaError_t cuda_stream_is_ours(cudaStream_t stream, int *ours) {
  struct CUctx_st *current = NULL, *of_stream = NULL;
  cudaError_t error = (cudaError_t)driver.get_current(&current);
  if (error != cudaSuccess) return error;
  error = (cudaError_t)driver.stream_context(stream, &of_stream);
  *ours = error == cudaSuccess && of_stream == current;
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
  const char *name = strrchr(file, '/');
  cumega_status status = CUMEGA_ERROR_DEVICE;
  if (error == cudaErrorMemoryAllocation) status = CUMEGA_ERROR_RESOURCE;
  if (is_fatal(error)) status = CUMEGA_ERROR_FATAL;
  front->fail(ctx, status, "%.200s at %s:%d on cuda:%d: %s (%s)", call, name ? name + 1 : file,
              line, ctx->device.device_id, cudaGetErrorString(error), cudaGetErrorName(error));
  if (status == CUMEGA_ERROR_FATAL) ctx->poisoned = status;
  return status;
}
