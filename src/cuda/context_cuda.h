/* What a CUDA context has besides: its stream, the device's scratch and the error flags. */
#ifndef CUMEGA_SRC_CUDA_CONTEXT_CUDA_H
#define CUMEGA_SRC_CUDA_CONTEXT_CUDA_H

#include "cuda_error.h"

typedef struct cuda_context {
  cudaStream_t stream;  /* where calls are enqueued: `own`, or the caller's */
  cudaStream_t own;     /* NULL until it is needed */
  uint32_t *report;     /* on the device: bits that kernels have set */
  void *scratch;        /* on the device */
  int scratch_captured; /* a graph has seen it: it stays until the context is destroyed */
  char kernels[512];    /* the names of several, for cumega_context_kernels */
} cuda_context;

static inline cuda_context *cuda_context_of(const cumega_context *ctx) {
  return (cuda_context *)ctx->device_state;
}

cumega_status context_open_cuda(cumega_context *ctx, void *stream);
void context_close_cuda(cumega_context *ctx);
cumega_status context_synchronize_cuda(cumega_context *ctx);
cumega_status is_capturing_cuda(cumega_context *ctx, int *capturing);
cumega_status context_reserve_cuda(cumega_context *ctx, int64_t bytes);
cumega_status context_set_stream_cuda(cumega_context *ctx, void *stream);
cumega_status context_report_cuda(cumega_context *ctx, uint32_t *bits);

cumega_status memory_allocate_cuda(cumega_context *ctx, int64_t bytes, void **pointer);
cumega_status memory_release_cuda(cumega_context *ctx, void *pointer, int64_t bytes);
cumega_status memory_write_cuda(cumega_context *ctx, void *to, const void *from, int64_t bytes);
cumega_status memory_read_cuda(cumega_context *ctx, void *to, const void *from, int64_t bytes);

/* Those below are called within a scope. */

/* Whether ctx's stream is being captured. */
cumega_status cuda_is_capturing(cumega_context *ctx, int *capturing);

/* FATAL where the device is lost. A library with a runtime of its own knows before ours does. */
cumega_status cuda_check_device(cumega_context *ctx);

/* STATE, saying that `what` is not allowed, while ctx's stream is being captured. */
cumega_status cuda_refuse_capture(cumega_context *ctx, const char *what);

/* Device memory in ctx's account: RESOURCE with a sentence where there is none for `what`. */
cumega_status cuda_allocate(cumega_context *ctx, int64_t bytes, const char *what, void **pointer);
void cuda_release(memory *account, void *pointer, int64_t bytes); /* NULL is allowed */

/* The device's scratch, at least bytes large: NULL for 0. It grows outside a capture; within one
 * a scratch that is too small is RESOURCE. */
cumega_status cuda_scratch(cumega_context *ctx, int64_t bytes, void **pointer);

#endif
