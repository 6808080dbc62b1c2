/* TRACE(ctx, bytes), the first line of every public call, holds the context (HOLD in call.h) and
 * opens a range on the profiler's timeline: NVTX, domain "cumega", named after the call, with the
 * bytes of the call's tensors as payload. The range ends where the function returns.
 *
 * NVTX is headers only; they load the profiler's library at the first range. A context traces
 * where a profiler announces itself (NVTX_INJECTION64_PATH, which nsys sets) or where
 * CUMEGA_NVTX=1 asks for it. Otherwise a call only looks at a flag of the context. A build
 * without the headers has no tracing. */
#ifndef CUMEGA_SRC_TRACE_H
#define CUMEGA_SRC_TRACE_H

#include "call.h"

/* Reads CUMEGA_NVTX into ctx->traces. CUMEGA_ERROR_ARGUMENT: it is neither 0 nor 1.
 * CUMEGA_ERROR_UNSUPPORTED: it is 1, and the build has no NVTX. */
cumega_status trace_choose(cumega_context *ctx);

/* The bytes of `count` tensors, which have not been checked: NULL and nonsense count 0. */
int64_t trace_bytes(int count, const DLTensor *const *tensors);

#ifdef CUMEGA_HAS_NVTX

int trace_begin(const char *name, int64_t bytes);
void trace_end(const int *begun);

/* bytes is evaluated only where ctx traces. */
#define TRACE(ctx, bytes)                                                                         \
  HOLD(ctx)                                                                                       \
  __attribute__((cleanup(trace_end), unused)) const int trace_of_this_call =                      \
      (ctx) && (ctx)->traces ? trace_begin(__func__, (bytes)) : 0

#else

#define TRACE(ctx, bytes)                                                                         \
  HOLD(ctx)                                                                                       \
  do {                                                                                            \
    if (0) (void)(bytes);                                                                         \
  } while (0)

#endif

#endif
