/* The life of a context, and how every call begins, fails and finds memory.
 *
 * A context is filled in place, with failures written to its own message like any other; where it
 * cannot be finished, the sentence moves to the thread's before the context is destroyed. So there
 * is one path for messages and one for release, whatever fails. */
#include "context.h"
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>
#include "cpu_level.h"
#include "trace.h"

#define MESSAGE_BYTES sizeof(((cumega_context *)NULL)->message)
#define MOST_THREADS  1024

/* A struct_size this far above ours is not a newer header's but memory that nobody has set. */
#define STRUCT_GROWTH_LIMIT 4096

#define CONTEXT_OPTIONS_SMALLEST END_OF(cumega_context_options, log_user)
#define STATISTICS_SMALLEST      END_OF(cumega_statistics, runs)

static _Thread_local char thread_message[MESSAGE_BYTES]; /* its address also names the thread */

cumega_status context_fail(cumega_context *ctx, cumega_status status, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(ctx ? ctx->message : thread_message, MESSAGE_BYTES, format, arguments);
  va_end(arguments);
  return status;
}

void context_log(cumega_context *ctx, cumega_log_level level, const char *format, ...) {
  if (!ctx || !ctx->log_callback) return;
  char sentence[MESSAGE_BYTES];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(sentence, sizeof sentence, format, arguments);
  va_end(arguments);
  ctx->log_callback(ctx->log_user, level, sentence);
}

#ifdef NDEBUG
#define IS_REFUSED(ctx) 0
#else
#define IS_REFUSED(ctx) ((ctx) == refused)

/* The context that another thread had when this thread's running call began. */
static _Thread_local const cumega_context *refused;

cumega_context *context_hold(cumega_context *ctx) {
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

void context_let_go(cumega_context *const *held) {
  cumega_context *ctx = *held;
  if (ctx && --ctx->depth == 0) __atomic_store_n(&ctx->user, NULL, __ATOMIC_RELEASE);
}
#endif

/* The sentence is the thread's, since ctx and its message belong to the other one. */
static cumega_status fail_in_use(void) {
  return context_fail(
      NULL, CUMEGA_ERROR_STATE,
      "the context is in a call of another thread: one thread at a time may use it");
}

cumega_status context_enter(cumega_context *ctx) {
  if (!ctx) return context_fail(NULL, CUMEGA_ERROR_ARGUMENT, "ctx is NULL");
  if (ctx->owner != getpid())
    return context_fail(ctx, CUMEGA_ERROR_STATE,
                        "the context was made in process %ld, and this is its child %ld: make a "
                        "context here",
                        (long)ctx->owner, (long)getpid());
  if (IS_REFUSED(ctx)) return fail_in_use();
  if (ctx->poisoned != CUMEGA_OK) return ctx->poisoned;
  ctx->message[0] = '\0';
  return CUMEGA_OK;
}

cumega_status context_check_device(cumega_context *ctx, const char *name, DLDevice device) {
  if (device.device_type == ctx->device.device_type && device.device_id == ctx->device.device_id)
    return CUMEGA_OK;
  return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                      "%s was made for device (%d, %d), expected the context's (%d, %d)", name,
                      (int)device.device_type, (int)device.device_id, (int)ctx->device.device_type,
                      (int)ctx->device.device_id);
}

cumega_status context_allocate(cumega_context *ctx, int64_t bytes, const char *what,
                               void **pointer) {
  *pointer = memory_allocate(ctx->memory, bytes);
  if (*pointer) return CUMEGA_OK;
  int64_t limit = memory_limit(ctx->memory), held = memory_held(ctx->memory);
  if (limit > 0 && bytes > limit - held)
    return context_fail(ctx, CUMEGA_ERROR_RESOURCE,
                        "cannot allocate %" PRId64 " bytes for %s: memory_limit is %" PRId64
                        ", of which %" PRId64 " are held",
                        bytes, what, limit, held);
  return context_fail(ctx, CUMEGA_ERROR_RESOURCE,
                      "cannot allocate %" PRId64 " bytes for %s: the allocator gave no memory "
                      "aligned to %d bytes",
                      bytes, what, MEMORY_ALIGNMENT);
}

/* The new scratch is had before the old one is given back, so that a failure changes nothing. */
cumega_status context_scratch(cumega_context *ctx, int64_t bytes, void **pointer) {
  if (bytes > ctx->scratch_bytes) {
    void *grown;
    TRY(context_allocate(ctx, bytes, "scratch", &grown));
    memory_free(ctx->memory, ctx->scratch, ctx->scratch_bytes);
    int64_t before = ctx->scratch_bytes;
    ctx->scratch = grown;
    ctx->scratch_bytes = bytes;
    context_log(ctx, CUMEGA_LOG_INFO, "scratch grew from %" PRId64 " to %" PRId64 " bytes", before,
                bytes);
  }
  *pointer = ctx->scratch;
  return CUMEGA_OK;
}

/* Reads *size, the struct's first member, and judges it. */
static cumega_status check_struct_size(cumega_context *ctx, const char *name, const void *given,
                                       size_t smallest, size_t known_size, size_t *size) {
  if (!given) return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "%s is NULL", name);
  memcpy(size, given, sizeof *size);
  if (*size < smallest)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "%s.struct_size is %zu, expected at least %zu: set it to the struct's "
                        "sizeof, or start from the struct's default",
                        name, *size, smallest);
  if (*size > known_size + STRUCT_GROWTH_LIMIT)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "%s.struct_size is %zu, expected the struct's sizeof, here %zu", name,
                        *size, known_size);
  return CUMEGA_OK;
}

cumega_status context_read_struct(cumega_context *ctx, const char *name, const void *given,
                                  size_t smallest, void *known, size_t known_size) {
  size_t size = 0;
  TRY(check_struct_size(ctx, name, given, smallest, known_size, &size));
  const char *from = given;
  for (size_t i = known_size; i < size; i++) {
    if (from[i] != 0)
      return context_fail(ctx, CUMEGA_ERROR_UNSUPPORTED,
                          "%s.struct_size is %zu and something is set behind the %zu bytes that "
                          "cumega %s knows: the program was built for a newer one",
                          name, size, known_size, cumega_version_string());
  }
  size_t copied = size < known_size ? size : known_size;
  memcpy((char *)known + sizeof size, from + sizeof size, copied - sizeof size);
  return CUMEGA_OK;
}

cumega_status context_write_struct(cumega_context *ctx, const char *name, void *given,
                                   size_t smallest, const void *known, size_t known_size) {
  size_t size = 0;
  TRY(check_struct_size(ctx, name, given, smallest, known_size, &size));
  size_t copied = size < known_size ? size : known_size;
  memset((char *)given + sizeof size, 0, size - sizeof size);
  memcpy((char *)given + sizeof size, (const char *)known + sizeof size, copied - sizeof size);
  return CUMEGA_OK;
}

static cumega_status check_device(const cumega_context_options *options) {
  int type = (int)options->device.device_type, id = options->device.device_id;
  int cuda = type == kDLCUDA || type == kDLCUDAManaged;
  if (type != kDLCPU && !cuda)
    return context_fail(NULL, CUMEGA_ERROR_ARGUMENT,
                        "options.device is {type %d, id %d}, expected cumega_cpu or {kDLCUDA, n}",
                        type, id);
  if (type == kDLCPU && id != 0)
    return context_fail(NULL, CUMEGA_ERROR_ARGUMENT, "options.device is cpu:%d, expected cpu:0",
                        id);
  if (id < 0)
    return context_fail(NULL, CUMEGA_ERROR_ARGUMENT,
                        "options.device is cuda:%d, expected an id of at least 0", id);
  if (type == kDLCPU && options->stream)
    return context_fail(NULL, CUMEGA_ERROR_ARGUMENT,
                        "options.stream is %p, expected NULL for a CPU context", options->stream);
  return CUMEGA_OK;
}

static cumega_status check_options(const cumega_context_options *options) {
  TRY(check_device(options));
  if (options->threads < 1 || options->threads > MOST_THREADS)
    return context_fail(NULL, CUMEGA_ERROR_ARGUMENT,
                        "options.threads is %" PRId32 ", expected 1 .. %d", options->threads,
                        MOST_THREADS);
  if (options->memory_limit < 0)
    return context_fail(NULL, CUMEGA_ERROR_ARGUMENT,
                        "options.memory_limit is %" PRId64 ", expected bytes, or 0 for no limit",
                        options->memory_limit);
  const cumega_allocator *allocator = &options->allocator;
  if (!allocator->allocate != !allocator->release)
    return context_fail(NULL, CUMEGA_ERROR_ARGUMENT,
                        "options.allocator has only %s, expected allocate and release, or neither",
                        allocator->allocate ? "allocate" : "release");
  return CUMEGA_OK;
}

/* A context that owns its account and nothing else yet; NULL where memory is refused. */
static cumega_context *allocate_context(const cumega_context_options *options) {
  memory *m = memory_create(&options->allocator, options->memory_limit);
  if (!m) return NULL;
  cumega_context *ctx = memory_allocate(m, sizeof *ctx);
  if (!ctx) {
    memory_release(m);
    return NULL;
  }
  memset(ctx, 0, sizeof *ctx);
  ctx->memory = m;
  ctx->device = options->device;
  ctx->kernels = "";
  if (ctx->device.device_type == kDLCUDAManaged) ctx->device.device_type = kDLCUDA;
  ctx->threads = (int)options->threads;
  ctx->log_callback = options->log_callback;
  ctx->log_user = options->log_user;
  ctx->owner = getpid();
  return ctx;
}

static cumega_status equip_context(cumega_context *ctx, void *stream) {
  const char *reason;
  TRY(cpu_level_choose(ctx, &ctx->host));
  TRY(trace_choose(ctx));
  ctx->backend = ctx->host;
  if (ctx->device.device_type != kDLCPU) {
    TRY(backend_cuda_find(ctx, &ctx->backend));
    return ctx->backend->device->context_open(ctx, stream);
  }
  if (ctx->threads == 1) return CUMEGA_OK;
  ctx->pool = pool_create(ctx->memory, ctx->threads, &reason);
  if (!ctx->pool)
    return context_fail(ctx, CUMEGA_ERROR_RESOURCE, "cannot make options.threads = %d threads: %s",
                        ctx->threads, reason);
  return CUMEGA_OK;
}

cumega_status cumega_context_create(const cumega_context_options *options, cumega_context **ctx) {
  cumega_context_options known = cumega_context_options_default();
  thread_message[0] = '\0';
  if (!ctx) return context_fail(NULL, CUMEGA_ERROR_ARGUMENT, "ctx is NULL");
  *ctx = NULL;
  if (options)
    TRY(context_read_struct(NULL, "options", options, CONTEXT_OPTIONS_SMALLEST, &known,
                            sizeof known));
  TRY(check_options(&known));
  cumega_context *made = allocate_context(&known);
  if (!made)
    return context_fail(NULL, CUMEGA_ERROR_RESOURCE,
                        "cannot allocate the context itself: the allocator gave no memory aligned "
                        "to %d bytes, or options.memory_limit (%" PRId64 ") is below %zu",
                        MEMORY_ALIGNMENT, known.memory_limit, sizeof *made);
  cumega_status status = equip_context(made, known.stream);
  if (status != CUMEGA_OK) {
    context_fail(NULL, status, "%s", made->message);
    cumega_context_destroy(made);
    return status;
  }
  *ctx = made;
  return CUMEGA_OK;
}

void cumega_context_destroy(cumega_context *ctx) {
  if (!ctx) return;
  if (ctx->owner != getpid()) {
    /* A forked child: the threads are not here, and the parent's allocator may have been copied
     * with a lock held. The memory goes with the process. */
    pool_abandon(ctx->pool);
    return;
  }
#ifndef NDEBUG
  if (!context_hold(ctx)) {
    (void)fail_in_use();
    return;
  }
#endif
  pool_destroy(ctx->pool);
  if (ctx->device_state && ctx->position_tables)
    (void)ctx->backend->device->context_synchronize(ctx);
  position_tables_free(ctx);
  if (ctx->device_state) ctx->backend->device->context_close(ctx);
  memory *m = ctx->memory;
  memory_free(m, ctx->scratch, ctx->scratch_bytes);
  memory_free(m, ctx, sizeof *ctx);
  memory_release(m);
}

/* What the context's backend does for a device; NULL on a CPU. */
static const backend_device *device_of(const cumega_context *ctx) {
  return ctx->backend->device;
}

cumega_status cumega_context_synchronize(cumega_context *ctx) {
  TRACE(ctx, 0);
  TRY(context_enter(ctx));
  return device_of(ctx) ? device_of(ctx)->context_synchronize(ctx) : CUMEGA_OK;
}

const char *cumega_context_message(const cumega_context *ctx) {
  return ctx ? ctx->message : thread_message;
}

cumega_status cumega_context_reserve(cumega_context *ctx, int64_t bytes) {
  TRACE(ctx, bytes);
  void *scratch;
  TRY(context_enter(ctx));
  if (bytes < 0)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "bytes is %" PRId64 ", expected at least 0",
                        bytes);
  if (device_of(ctx)) return device_of(ctx)->context_reserve(ctx, bytes);
  return context_scratch(ctx, bytes, &scratch);
}

cumega_status cumega_context_set_stream(cumega_context *ctx, void *stream) {
  TRACE(ctx, 0);
  TRY(context_enter(ctx));
  if (device_of(ctx)) return device_of(ctx)->context_set_stream(ctx, stream);
  if (stream)
    return context_fail(ctx, CUMEGA_ERROR_UNSUPPORTED,
                        "stream is %p, expected NULL: a CPU context has no streams", stream);
  return CUMEGA_OK;
}

cumega_status cumega_context_report(cumega_context *ctx, uint32_t *bits) {
  TRACE(ctx, 0);
  TRY(context_enter(ctx));
  if (!bits) return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "bits is NULL");
  *bits = 0;
  return device_of(ctx) ? device_of(ctx)->context_report(ctx, bits) : CUMEGA_OK;
}

cumega_status cumega_context_statistics(cumega_context *ctx, cumega_statistics *statistics) {
  TRACE(ctx, 0);
  TRY(context_enter(ctx));
  cumega_statistics known = {
      .struct_size = sizeof known,
      .bytes_held = memory_held(ctx->memory),
      .bytes_peak = memory_peak(ctx->memory),
      .scratch_bytes = ctx->scratch_bytes + ctx->device_scratch_bytes,
      .runs = ctx->runs,
  };
  return context_write_struct(ctx, "statistics", statistics, STATISTICS_SMALLEST, &known,
                              sizeof known);
}

const char *cumega_context_backend(const cumega_context *ctx) {
  return ctx ? ctx->backend->name : "";
}

const char *cumega_context_kernels(const cumega_context *ctx) {
  return ctx ? ctx->kernels : "";
}

static cumega_status enter_memory(cumega_context *ctx, const char *name, const void *pointer,
                                  int64_t bytes) {
  TRY(context_enter(ctx));
  if (bytes < 0)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "bytes is %" PRId64 ", expected at least 0",
                        bytes);
  if (!pointer && bytes > 0)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "%s is NULL, expected %" PRId64 " bytes", name,
                        bytes);
  return CUMEGA_OK;
}

cumega_status cumega_memory_allocate(cumega_context *ctx, int64_t bytes, void **pointer) {
  TRACE(ctx, bytes);
  if (pointer) *pointer = NULL;
  TRY(enter_memory(ctx, "pointer", pointer, bytes));
  if (!pointer) return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "pointer is NULL");
  if (device_of(ctx)) return device_of(ctx)->memory_allocate(ctx, bytes, pointer);
  return context_allocate(ctx, bytes, "the caller", pointer);
}

cumega_status cumega_memory_release(cumega_context *ctx, void *pointer, int64_t bytes) {
  TRACE(ctx, 0);
  TRY(enter_memory(ctx, "pointer", ctx, bytes)); /* a NULL pointer is allowed */
  if (!pointer) return CUMEGA_OK;
  if (device_of(ctx)) return device_of(ctx)->memory_release(ctx, pointer, bytes);
  memory_free(ctx->memory, pointer, bytes);
  return CUMEGA_OK;
}

cumega_status cumega_memory_write(cumega_context *ctx, void *to, const void *from, int64_t bytes) {
  TRACE(ctx, bytes);
  TRY(enter_memory(ctx, "to", to, bytes));
  TRY(enter_memory(ctx, "from", from, bytes));
  if (bytes == 0) return CUMEGA_OK;
  if (device_of(ctx)) return device_of(ctx)->memory_write(ctx, to, from, bytes);
  memcpy(to, from, (size_t)bytes);
  return CUMEGA_OK;
}

cumega_status cumega_memory_read(cumega_context *ctx, void *to, const void *from, int64_t bytes) {
  TRACE(ctx, bytes);
  TRY(enter_memory(ctx, "to", to, bytes));
  TRY(enter_memory(ctx, "from", from, bytes));
  if (bytes == 0) return CUMEGA_OK;
  if (device_of(ctx)) return device_of(ctx)->memory_read(ctx, to, from, bytes);
  memcpy(to, from, (size_t)bytes);
  return CUMEGA_OK;
}
