/* The context from inside, and how calls begin, fail and find memory. */
#ifndef CUMEGA_SRC_CONTEXT_H
#define CUMEGA_SRC_CONTEXT_H

#include <stddef.h>
#include <sys/types.h>
#include <cumega/context.h>
#include "memory.h"
#include "pool.h"

struct backend;
struct position_entry;

struct cumega_context {
  const struct backend *backend;
  const struct backend *host; /* the CPU's table, with which objects are made on every device */
  DLDevice device;            /* a CUDA context's type is kDLCUDA, never kDLCUDAManaged */
  memory *memory;
  pool *pool; /* NULL for one thread */
  int threads;
  void *scratch; /* in the host's memory */
  int64_t scratch_bytes;
  void *device_state; /* the backend's own; NULL on a CPU */
  int64_t device_scratch_bytes;
  struct position_entry *position_tables; /* src/position_bias_table.c */
  const char *kernels;                    /* cumega_context_kernels */
  int64_t runs;
  cumega_log_callback log_callback;
  void *log_user;
  int traces;  /* calls are ranges on a profiler's timeline (trace.h) */
  pid_t owner; /* the process that made it */
#ifndef NDEBUG
  const void *user; /* what names the thread that is in a call, or NULL; atomic */
  int depth;        /* of that thread's calls within calls */
#endif
  cumega_status poisoned; /* CUMEGA_OK, or CUMEGA_ERROR_FATAL for ever */
  char message[768];
};

#define TRY(call)                                                                                  \
  do {                                                                                             \
    cumega_status try_status = (call);                                                             \
    if (try_status != CUMEGA_OK) return try_status;                                                \
  } while (0)

/* Every public call begins with it: ctx is not NULL, made in this process, not in use by another thread
 * (where HOLD looks) and not poisoned; clears the message. */
cumega_status context_enter(cumega_context *ctx);

/* HOLD(ctx), a declaration: until the function returns, ctx is this thread's, and another thread that
 * calls with it is refused by context_enter. Only where NDEBUG is not defined: one thread at a time is
 * the caller's duty, and a look at it costs an atomic exchange. */
#ifdef NDEBUG
#define HOLD(ctx)
#else
#define HOLD(ctx)                                                                                  \
  __attribute__((cleanup(context_let_go), unused)) cumega_context *const held_by_this_call =       \
      context_hold(ctx);

cumega_context *context_hold(cumega_context *ctx); /* NULL where another thread has it */
void context_let_go(cumega_context *const *held);
#endif

/* ARGUMENT where an object, `name`, was made for another device than ctx's. */
cumega_status context_check_device(cumega_context *ctx, const char *name, DLDevice device);

/* Writes the sentence and returns status. ctx NULL: the thread's own sentence
 * (cumega_context_message(NULL)). */
cumega_status context_fail(cumega_context *ctx, cumega_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* Logs a sentence where the caller asked for it. */
void context_log(cumega_context *ctx, cumega_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* memory_allocate with a sentence: RESOURCE, "cannot allocate N bytes for <what>: ...". */
cumega_status context_allocate(cumega_context *ctx, int64_t bytes, const char *what,
                               void **pointer);

/* What ctx allocates from now on, of every device, counts for this account; returns the one before, to be
 * put back. An object that gets new parameters may have been made through another context, whose
 * account and allocator its memory is released to. */
static inline memory *context_use_account(cumega_context *ctx, memory *account) {
  memory *before = ctx->memory;
  ctx->memory = account;
  return before;
}

/* The context's scratch in the host's memory, at least bytes large; grown where it is not. Contents
 * are undefined. */
cumega_status context_scratch(cumega_context *ctx, int64_t bytes, void **pointer);

/* The size of a struct whose last member this is: what its first published form had. */
#define END_OF(type, member) (offsetof(type, member) + sizeof(((type *)NULL)->member))

/* Copies a public struct that begins with its size into `known` (known_size bytes, already holding
 * defaults). smallest is the size of its first published form. A struct from a newer header is
 * accepted while what this version does not know is zero. */
cumega_status context_read_struct(cumega_context *ctx, const char *name, const void *given,
                                  size_t smallest, void *known, size_t known_size);

/* The other way: fills the caller's struct as far as it reaches, keeping its struct_size. */
cumega_status context_write_struct(cumega_context *ctx, const char *name, void *given,
                                   size_t smallest, const void *known, size_t known_size);

#endif
