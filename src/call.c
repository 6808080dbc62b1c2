#include "call.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#define MESSAGE_BYTES sizeof(((cumega_context *)NULL)->message)

/* A struct_size this far above ours does not come from a newer header: nobody has set it. */
#define STRUCT_GROWTH_LIMIT 4096

static _Thread_local char
    thread_message[MESSAGE_BYTES]; /* its address also identifies the thread */

const char *cumega_context_message(const cumega_context *ctx) {
  return ctx ? ctx->message : thread_message;
}

cumega_status call_fail(cumega_context *ctx, cumega_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(ctx ? ctx->message : thread_message, MESSAGE_BYTES, format, arguments);
  va_end(arguments);
  return status;
}

void call_log(cumega_context *ctx, cumega_log_level level, const char *format, ...) {
  if (!ctx || !ctx->log_callback) return;
  char sentence[MESSAGE_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(sentence, sizeof sentence, format, arguments);
  va_end(arguments);
  ctx->log_callback(ctx->log_user, level, sentence);
}

/* The sentence goes to the thread's own message, since ctx and its message are the other
 * thread's. */
cumega_status call_fail_in_use(void) {
  return call_fail(NULL, CUMEGA_ERROR_STATE,
                   "the context is in a call of another thread: one thread at a time may use it");
}

#ifdef NDEBUG
#define IS_REFUSED(ctx) 0
#else
#define IS_REFUSED(ctx) ((ctx) == refused)

/* The context that another thread was using when this thread's call began. */
static _Thread_local const cumega_context *refused;

cumega_context *call_hold(cumega_context *ctx) {
  const void *user = NULL;
  if (!ctx) return NULL;
  if (!__atomic_compare_exchange_n(&ctx->user, &user, thread_message, 0, __ATOMIC_ACQUIRE,
                                   __ATOMIC_RELAXED) &&
      user != thread_message) {
    refused = ctx;
    return NULL;
  }
  refused = NULL;
  ctx->depth++;
  return ctx;
}

void call_let_go(cumega_context *const *held) {
  cumega_context *ctx = *held;
  if (ctx && --ctx->depth == 0) __atomic_store_n(&ctx->user, NULL, __ATOMIC_RELEASE);
}
#endif

cumega_status call_enter(cumega_context *ctx) {
  if (!ctx) return call_fail_argument(NULL, "ctx is NULL");
  if (ctx->owner != getpid())
    return call_fail(ctx, CUMEGA_ERROR_STATE,
                     "the context was made in process %ld, and this is its child %ld: make a "
                     "context here",
                     (long)ctx->owner, (long)getpid());
  if (IS_REFUSED(ctx)) return call_fail_in_use();
  if (ctx->poisoned != CUMEGA_OK) return ctx->poisoned;
  ctx->message[0] = '\0';
  return CUMEGA_OK;
}

cumega_status call_check_device(cumega_context *ctx, const char *name, DLDevice device) {
  if (device.device_type == ctx->device.device_type && device.device_id == ctx->device.device_id)
    return CUMEGA_OK;
  return call_fail_argument(ctx,
                            "%s was made for device (%d, %d), expected the context's (%d, %d)",
                            name, (int)device.device_type, (int)device.device_id,
                            (int)ctx->device.device_type, (int)ctx->device.device_id);
}

cumega_status call_allocate(cumega_context *ctx, int64_t bytes, const char *what, void **pointer) {
  *pointer = memory_allocate(ctx->memory, bytes);
  if (*pointer) return CUMEGA_OK;
  int64_t limit = memory_limit(ctx->memory), held = memory_held(ctx->memory);
  if (limit > 0 && bytes > limit - held)
    return call_fail(ctx, CUMEGA_ERROR_RESOURCE,
                     "cannot allocate %" PRId64 " bytes for %s: memory_limit is %" PRId64
                     ", of which %" PRId64 " are held",
                     bytes, what, limit, held);
  return call_fail(ctx, CUMEGA_ERROR_RESOURCE,
                   "cannot allocate %" PRId64
                   " bytes for %s: the allocator gave no memory aligned "
                   "to %d bytes",
                   bytes, what, MEMORY_ALIGNMENT);
}

/* The new scratch is allocated before the old one is released, so that a failure changes
 * nothing. */
cumega_status call_scratch(cumega_context *ctx, int64_t bytes, void **pointer) {
  if (bytes > ctx->scratch_bytes) {
    void *grown;
    TRY(call_allocate(ctx, bytes, "scratch", &grown));
    memory_free(ctx->memory, ctx->scratch, ctx->scratch_bytes);
    int64_t before = ctx->scratch_bytes;
    ctx->scratch = grown;
    ctx->scratch_bytes = bytes;
    call_log(ctx, CUMEGA_LOG_INFO, "scratch grew from %" PRId64 " to %" PRId64 " bytes", before,
             bytes);
  }
  *pointer = ctx->scratch;
  return CUMEGA_OK;
}

/* Reads *size, the struct's first member, and checks it. */
static cumega_status check_struct_size(cumega_context *ctx, const char *name, const void *given,
                                       size_t smallest, size_t known_size, size_t *size) {
  if (!given) return call_fail_argument(ctx, "%s is NULL", name);
  memcpy(size, given, sizeof *size);
  if (*size < smallest)
    return call_fail_argument(ctx,
                              "%s.struct_size is %zu, expected at least %zu: set it to the "
                              "struct's sizeof, or start from the struct's _init function",
                              name, *size, smallest);
  if (*size > known_size + STRUCT_GROWTH_LIMIT)
    return call_fail_argument(ctx, "%s.struct_size is %zu, expected the struct's sizeof, here %zu",
                              name, *size, known_size);
  return CUMEGA_OK;
}

cumega_status call_read_struct(cumega_context *ctx, const char *name, const void *given,
                               size_t smallest, void *known, size_t known_size) {
  size_t size = 0;
  TRY(check_struct_size(ctx, name, given, smallest, known_size, &size));
  const char *from = given;
  for (size_t i = known_size; i < size; i++) {
    if (from[i] != 0)
      return call_fail(ctx, CUMEGA_ERROR_UNSUPPORTED,
                       "%s.struct_size is %zu and something is set after the %zu bytes that "
                       "cumega %s knows: the program was built for a newer one",
                       name, size, known_size, cumega_version_string());
  }
  size_t copied = size < known_size ? size : known_size;
  memcpy((char *)known + sizeof size, from + sizeof size, copied - sizeof size);
  return CUMEGA_OK;
}

static void write_struct(void *given, size_t size, const void *known, size_t known_size) {
  size_t copied = size < known_size ? size : known_size;
  memset((char *)given + sizeof size, 0, size - sizeof size);
  memcpy((char *)given + sizeof size, (const char *)known + sizeof size, copied - sizeof size);
}

cumega_status call_write_struct(cumega_context *ctx, const char *name, void *given,
                                size_t smallest, const void *known, size_t known_size) {
  size_t size = 0;
  TRY(check_struct_size(ctx, name, given, smallest, known_size, &size));
  write_struct(given, size, known, known_size);
  return CUMEGA_OK;
}

void call_init_struct(void *given, size_t size, const void *known, size_t known_size) {
  if (!given || size < sizeof size) return;
  memcpy(given, &size, sizeof size);
  write_struct(given, size, known, known_size);
}
