/* How every call begins, fails and finds memory, and how it reads the structs of its caller. */
#ifndef CUMEGA_SRC_CALL_H
#define CUMEGA_SRC_CALL_H

#include <stddef.h>
#include <string.h>
#include "context_struct.h"

/* Returns the status of a call that failed. For functions that own nothing at this point. */
#define TRY(call)                                                                                 \
  do {                                                                                            \
    cumega_status try_status = (call);                                                            \
    if (try_status != CUMEGA_OK) return try_status;                                               \
  } while (0)

/* Every public call begins with it. Checks that ctx is not NULL, was made in this process, is not
 * in use by another thread (where HOLD checks) and is not poisoned; clears the message. */
cumega_status call_enter(cumega_context *ctx);

/* HOLD(ctx), a declaration: until the function returns, ctx belongs to this thread, and call_enter
 * refuses it to others. In Debug builds only: one thread at a time is the caller's duty, and the
 * check costs an atomic exchange. */
#ifdef NDEBUG
#define HOLD(ctx)
#else
#define HOLD(ctx)                                                                                 \
  __attribute__((cleanup(call_let_go), unused)) cumega_context *const held_by_this_call =         \
      call_hold(ctx);
#endif

cumega_context *call_hold(cumega_context *ctx); /* NULL where another thread has it */
void call_let_go(cumega_context *const *held);

/* CUMEGA_ERROR_STATE, for a context that another thread is using. */
cumega_status call_fail_in_use(void);

/* CUMEGA_ERROR_ARGUMENT where an object, `name`, was made for another device than ctx's. */
cumega_status call_check_device(cumega_context *ctx, const char *name, DLDevice device);

/* Writes the sentence into ctx's message, or for NULL into the thread's (cumega_context_message).
 * Returns status. */
cumega_status call_fail(cumega_context *ctx, cumega_status status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

#define call_fail_argument(ctx, ...) call_fail(ctx, CUMEGA_ERROR_ARGUMENT, __VA_ARGS__)

/* Logs a sentence where the caller asked for it. */
void call_log(cumega_context *ctx, cumega_log_level level, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* memory_allocate; on failure CUMEGA_ERROR_RESOURCE, "cannot allocate N bytes for <what>: ...". */
cumega_status call_allocate(cumega_context *ctx, int64_t bytes, const char *what, void **pointer);

/* ctx's scratch in host memory, at least `bytes` large; it grows where it is smaller. Its
 * contents are undefined. */
cumega_status call_scratch(cumega_context *ctx, int64_t bytes, void **pointer);

/* The size of a struct whose last member this is: the size of its first published form. */
#define END_OF(type, member) (offsetof(type, member) + sizeof(((type *)NULL)->member))

/* Copies a public struct that begins with its size into `known` (known_size bytes, which hold the
 * defaults). smallest is the size of its first published form. A struct of a newer header is
 * accepted as long as the part that this version does not know is zero. */
cumega_status call_read_struct(cumega_context *ctx, const char *name, const void *given,
                               size_t smallest, void *known, size_t known_size);

/* The other direction: fills the caller's struct up to its struct_size, which it keeps. */
cumega_status call_write_struct(cumega_context *ctx, const char *name, void *given,
                                size_t smallest, const void *known, size_t known_size);

/* For the _init functions: `known` into the first `size` bytes of the caller's struct, and `size`
 * into its struct_size. What this version does not know becomes zero. */
void call_init_struct(void *given, size_t size, const void *known, size_t known_size);

/* The _init function of a struct whose defaults are all zero. */
#define DEFINE_ZERO_INIT(type)                                                                    \
  void type##_init(type *given, size_t struct_size) {                                             \
    const type known = {.struct_size = sizeof known};                                             \
    call_init_struct(given, struct_size, &known, sizeof known);                                   \
  }

#endif
