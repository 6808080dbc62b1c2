/* TRACE(ctx, bytes), the first line of every public call: it holds the context (HOLD in context.h), and is a
 * range on the profiler's timeline: NVTX, domain "cumega", named after the call, with the bytes of
 * the tensors that it was given as payload.
 *
 * NVTX is headers only; a profiler's library is loaded by them at the first range. A context traces
 * where a profiler says that it is there (NVTX_INJECTION64_PATH, which nsys sets) or where
 * CUMEGA_NVTX=1 asks for it; otherwise a call costs a look at the context. A build without the
 * headers has none of it. */
#ifndef CUMEGA_SRC_TRACE_H
#define CUMEGA_SRC_TRACE_H

#include "context.h"

/* Reads CUMEGA_NVTX into ctx->traces. ARGUMENT: it is neither 0 nor 1. UNSUPPORTED: it is 1, and the
 * build has no NVTX. */
cumega_status trace_choose(cumega_context *ctx);

/* The bytes of `count` tensors. They have not been checked: NULL and what makes no sense counts 0. */
int64_t trace_bytes(int count, const DLTensor *const *tensors);

#ifdef CUMEGA_HAS_NVTX

int trace_begin(const char *name, int64_t bytes);
void trace_end(const int *begun);

/* bytes is evaluated where ctx traces. The range ends where the function returns. */
#define TRACE(ctx, bytes)                                                                          \
  HOLD(ctx)                                                                                        \
  __attribute__((cleanup(trace_end), unused)) const int trace_of_this_call =                       \
      (ctx) && (ctx)->traces ? trace_begin(__func__, (bytes)) : 0

#else

#define TRACE(ctx, bytes)                                                                          \
  HOLD(ctx)                                                                                        \
  do {                                                                                             \
    if (0) (void)(bytes);                                                                          \
  } while (0)

#endif

#endif
