/* The context from inside. Its life is in context.c; how calls use it is in call.h. */
#ifndef CUMEGA_SRC_CONTEXT_STRUCT_H
#define CUMEGA_SRC_CONTEXT_STRUCT_H

#include <sys/types.h>
#include <cumega/context.h>
#include "memory.h"
#include "pool.h"

struct backend;
struct kept;

struct cumega_context {
  const struct backend *backend;
  const struct backend *host; /* the CPU's table, with which objects are made on every device */
  DLDevice device;            /* a CUDA context's type is kDLCUDA, never kDLCUDAManaged */
  memory *memory;
  pool *pool; /* NULL for one thread */
  int threads;
  void *scratch; /* host memory */
  int64_t scratch_bytes;
  void *device_state; /* the backend's own; NULL on a CPU */
  int64_t device_scratch_bytes;
  struct kept *kept;   /* what it keeps between calls, the last used first (kept.h) */
  const char *kernels; /* cumega_context_kernels */
  int64_t runs;
  cumega_log_callback log_callback;
  void *log_user;
  int traces;  /* calls are ranges on a profiler's timeline (trace.h) */
  pid_t owner; /* the process that made it */
#ifndef NDEBUG
  const void *user; /* identifies the thread that is in a call, or NULL; atomic */
  int depth;        /* of that thread's nested calls */
#endif
  cumega_status poisoned; /* CUMEGA_OK, or CUMEGA_ERROR_FATAL once the device has failed */
  char message[768];
};

#endif
