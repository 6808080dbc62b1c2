/* What a CUDA context has in addition: its stream, the device's scratch and the error flags. */
#ifndef CUMEGA_SRC_CUDA_CONTEXT_CUDA_H
#define CUMEGA_SRC_CUDA_CONTEXT_CUDA_H

#include "cuda_error.h"

typedef struct cuda_context {
  cudaStream_t stream;  /* where calls are enqueued: `own`, or the caller's */
  cudaStream_t own;     /* NULL until it is needed */
  uint32_t *report;     /* the error flags, on the device */
  void *scratch;        /* on the device */
  int scratch_captured; /* a captured graph uses it: it stays until the context goes */
  char kernels[512];    /* for cumega_context_kernels: the names of several kernels */
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

/* The functions below are called within a scope. */

/* Whether ctx's stream is being captured. */
cumega_status cuda_is_capturing(cumega_context *ctx, int *capturing);

/* FATAL if the device is lost. A library with its own CUDA runtime may notice that first. */
cumega_status cuda_check_device(cumega_context *ctx);

/* STATE, saying that `what` is not allowed, while ctx's stream is being captured. */
cumega_status cuda_refuse_capture(cumega_context *ctx, const char *what);

/* Device memory in ctx's account: RESOURCE with a sentence if there is none left for `what`. */
cumega_status cuda_allocate(cumega_context *ctx, int64_t bytes, const char *what, void **pointer);
void cuda_release(memory *account, void *pointer, int64_t bytes); /* NULL is allowed */

/* The device's scratch, of at least `bytes` bytes; NULL for 0. It can grow, but not during a
 * capture: if it is too small then, the status is RESOURCE. */
cumega_status cuda_scratch(cumega_context *ctx, int64_t bytes, void **pointer);

#endif
