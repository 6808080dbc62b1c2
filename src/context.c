/* The life of a context, and the calls on it.
 *
 * A context is filled in place, and failures are written to its own message as for any call. Where
 * it cannot be finished, the sentence moves to the thread's message before the context is
 * destroyed. So there is one path for messages and one for release, whatever fails. */
#include <inttypes.h>
#include <unistd.h>
#include "call.h"
#include "cpu_level.h"
#include "kept.h"
#include "trace.h"

#define MOST_THREADS 1024

#define CONTEXT_OPTIONS_SMALLEST END_OF(cumega_context_options, log_user)
#define STATISTICS_SMALLEST      END_OF(cumega_statistics, runs)

static const cumega_context_options default_options = {
    .struct_size = sizeof(cumega_context_options), .device = {kDLCPU, 0}, .threads = 1};

void cumega_context_options_init(cumega_context_options *options, size_t struct_size) {
  call_init_struct(options, struct_size, &default_options, sizeof default_options);
}

DEFINE_ZERO_INIT(cumega_statistics)

static cumega_status check_device(const cumega_context_options *options) {
  int type = (int)options->device.device_type, id = options->device.device_id;
  int cuda = type == kDLCUDA || type == kDLCUDAManaged;
  if (type != kDLCPU && !cuda)
    return call_fail_argument(
        NULL, "options.device is {type %d, id %d}, expected cumega_cpu or {kDLCUDA, n}", type, id);
  if (type == kDLCPU && id != 0)
    return call_fail_argument(NULL, "options.device is cpu:%d, expected cpu:0", id);
  if (id < 0)
    return call_fail_argument(NULL, "options.device is cuda:%d, expected an id of at least 0", id);
  if (type == kDLCPU && options->stream)
    return call_fail_argument(NULL, "options.stream is %p, expected NULL for a CPU context",
                              options->stream);
  return CUMEGA_OK;
}

static cumega_status check_options(const cumega_context_options *options) {
  TRY(check_device(options));
  if (options->threads < 1 || options->threads > MOST_THREADS)
    return call_fail_argument(NULL, "options.threads is %" PRId32 ", expected 1 .. %d",
                              options->threads, MOST_THREADS);
  if (options->memory_limit < 0)
    return call_fail_argument(
        NULL, "options.memory_limit is %" PRId64 ", expected bytes, or 0 for no limit",
        options->memory_limit);
  const cumega_allocator *allocator = &options->allocator;
  if (!allocator->allocate != !allocator->release)
    return call_fail_argument(
        NULL, "options.allocator has only %s, expected allocate and release, or neither",
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
    return call_fail(ctx, CUMEGA_ERROR_RESOURCE, "cannot make options.threads = %d threads: %s",
                     ctx->threads, reason);
  return CUMEGA_OK;
}

cumega_status cumega_context_create(const cumega_context_options *options, cumega_context **ctx) {
  cumega_context_options known = default_options;
  call_fail(NULL, CUMEGA_OK, "%s", ""); /* clears the thread's message */
  if (!ctx) return call_fail_argument(NULL, "ctx is NULL");
  *ctx = NULL;
  if (options)
    TRY(call_read_struct(NULL, "options", options, CONTEXT_OPTIONS_SMALLEST, &known,
                         sizeof known));
  TRY(check_options(&known));
  cumega_context *made = allocate_context(&known);
  if (!made)
    return call_fail(NULL, CUMEGA_ERROR_RESOURCE,
                     "cannot allocate the context itself: the allocator gave no memory aligned "
                     "to %d bytes, or options.memory_limit (%" PRId64 ") is below %zu",
                     MEMORY_ALIGNMENT, known.memory_limit, sizeof *made);
  cumega_status status = equip_context(made, known.stream);
  if (status != CUMEGA_OK) {
    call_fail(NULL, status, "%s", made->message);
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
  if (!call_hold(ctx)) {
    (void)call_fail_in_use();
    return;
  }
#endif
  pool_destroy(ctx->pool);
  if (ctx->device_state)
    ctx->backend->device->context_close(ctx); /* which waits, and removes what is kept */
  kept_remove_all(ctx);
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
  TRY(call_enter(ctx));
  return device_of(ctx) ? device_of(ctx)->context_synchronize(ctx) : CUMEGA_OK;
}

cumega_status cumega_context_reserve(cumega_context *ctx, int64_t bytes) {
  TRACE(ctx, bytes);
  void *scratch;
  TRY(call_enter(ctx));
  if (bytes < 0)
    return call_fail_argument(ctx, "bytes is %" PRId64 ", expected at least 0", bytes);
  if (device_of(ctx)) return device_of(ctx)->context_reserve(ctx, bytes);
  return call_scratch(ctx, bytes, &scratch);
}

cumega_status cumega_context_set_stream(cumega_context *ctx, void *stream) {
  TRACE(ctx, 0);
  TRY(call_enter(ctx));
  if (device_of(ctx)) return device_of(ctx)->context_set_stream(ctx, stream);
  if (stream)
    return call_fail(ctx, CUMEGA_ERROR_UNSUPPORTED,
                     "stream is %p, expected NULL: a CPU context has no streams", stream);
  return CUMEGA_OK;
}

cumega_status cumega_context_report(cumega_context *ctx, uint32_t *bits) {
  TRACE(ctx, 0);
  TRY(call_enter(ctx));
  if (!bits) return call_fail_argument(ctx, "bits is NULL");
  *bits = 0;
  return device_of(ctx) ? device_of(ctx)->context_report(ctx, bits) : CUMEGA_OK;
}

cumega_status cumega_context_statistics(cumega_context *ctx, cumega_statistics *statistics) {
  TRACE(ctx, 0);
  TRY(call_enter(ctx));
  cumega_statistics known = {
      .struct_size = sizeof known,
      .bytes_held = memory_held(ctx->memory),
      .bytes_peak = memory_peak(ctx->memory),
      .scratch_bytes = ctx->scratch_bytes + ctx->device_scratch_bytes,
      .runs = ctx->runs,
  };
  return call_write_struct(ctx, "statistics", statistics, STATISTICS_SMALLEST, &known,
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
  TRY(call_enter(ctx));
  if (bytes < 0)
    return call_fail_argument(ctx, "bytes is %" PRId64 ", expected at least 0", bytes);
  if (!pointer && bytes > 0)
    return call_fail_argument(ctx, "%s is NULL, expected %" PRId64 " bytes", name, bytes);
  return CUMEGA_OK;
}

cumega_status cumega_memory_allocate(cumega_context *ctx, int64_t bytes, void **pointer) {
  TRACE(ctx, bytes);
  if (pointer) *pointer = NULL;
  TRY(enter_memory(ctx, "pointer", pointer, bytes));
  if (!pointer) return call_fail_argument(ctx, "pointer is NULL");
  if (device_of(ctx)) return device_of(ctx)->memory_allocate(ctx, bytes, pointer);
  return call_allocate(ctx, bytes, "the caller", pointer);
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
