/* Errors of CUDA calls, and a scope that restores the calling thread's CUDA state. */
#ifndef CUMEGA_SRC_CUDA_CUDA_ERROR_H
#define CUMEGA_SRC_CUDA_CUDA_ERROR_H

#include <cuda_runtime_api.h>
#include "../backend.h"

/* The front's functions, set before the first context is opened (src/cuda/backend.c). */
extern const backend_front *front;

/* A CUDA call within a scope. A failure returns its status, with call, file, line and the
 * runtime's text in ctx's message. If the error means that the device is lost, every later call
 * with ctx fails. */
#define CUDA_TRY(ctx, call)                                                                       \
  do {                                                                                            \
    cudaError_t cuda_try_error = (call);                                                          \
    if (cuda_try_error != cudaSuccess)                                                            \
      return cuda_fail(ctx, cuda_try_error, #call, __FILE__, __LINE__);                           \
  } while (0)

cumega_status cuda_fail(cumega_context *ctx, cudaError_t error, const char *call, const char *file,
                        int line);

struct CUctx_st; /* the driver's context */

/* The calling thread's state before the scope. */
typedef struct cuda_scope {
  struct CUctx_st *current;
  int entered; /* `current` is known and may have been replaced */
  cudaError_t pending;
} cuda_scope;

/* Makes the primary context of `device` current. An error that the caller has left pending stays
 * pending. If a call in the scope fails too, its error may replace that one, because the runtime
 * keeps only one error and has no call to set it. cuda_scope_leave must be called even if enter
 * fails. */
cudaError_t cuda_scope_enter(cuda_scope *scope, int device);
void cuda_scope_leave(const cuda_scope *scope);

/* The same for ctx's device, as a status with a sentence. */
cumega_status cuda_enter(cumega_context *ctx, cuda_scope *scope);

/* The body of a hook: returns the status of `call`, made within a scope. */
#define CUDA_WITHIN_SCOPE(ctx, call)                                                              \
  do {                                                                                            \
    cuda_scope scope_of_call;                                                                     \
    cumega_status status_of_call = cuda_enter(ctx, &scope_of_call);                               \
    if (status_of_call == CUMEGA_OK) status_of_call = (call);                                     \
    cuda_scope_leave(&scope_of_call);                                                             \
    return status_of_call;                                                                        \
  } while (0)

/* Whether stream belongs to the primary context that is current. */
cudaError_t cuda_stream_is_ours(cudaStream_t stream, int *ours);

#endif
