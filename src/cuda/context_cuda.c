/* CUDA contexts. Every hook is a scope around a function that may fail at any point. The scope
 * restores the caller's current context in any case.
 *
 * Nothing here uses the default stream. Only opening, closing, reserving, reporting and copying
 * wait for the device. */
#include "context_cuda.h"
#include <inttypes.h>
#include <string.h>
#include "report_cuda.h"

static cumega_status fail_device(cumega_context *ctx, const char *sentence) {
  return front->fail(ctx, CUMEGA_ERROR_DEVICE, "device cuda:%d was asked for, but %s",
                     ctx->device.device_id, sentence);
}

/* Explains why cudaGetDeviceCount failed, so that a user can fix it. */
static cumega_status explain_no_device(cumega_context *ctx, cudaError_t error) {
  int installed = 0;
  if (error == cudaErrorNoDevice) return fail_device(ctx, "the driver sees no CUDA device");
  if (error != cudaErrorInsufficientDriver) {
    fail_device(ctx, cudaGetErrorString(error));
    return CUMEGA_ERROR_DEVICE;
  }
  (void)cudaDriverGetVersion(&installed); /* leaves 0 if it fails */
  if (installed == 0) return fail_device(ctx, "no CUDA driver is installed (libcuda.so.1)");
  return front->fail(ctx, CUMEGA_ERROR_DEVICE,
                     "device cuda:%d was asked for, but the installed driver is of CUDA %d.%d, "
                     "expected at least %d.%d",
                     ctx->device.device_id, installed / 1000, installed % 1000 / 10,
                     CUDART_VERSION / 1000, CUDART_VERSION % 1000 / 10);
}

static cumega_status check_device(cumega_context *ctx) {
  int count = 0;
  cudaError_t error = cudaGetDeviceCount(&count);
  if (error != cudaSuccess) return explain_no_device(ctx, error);
  if (ctx->device.device_id < count) return CUMEGA_OK;
  return front->fail(ctx, CUMEGA_ERROR_DEVICE,
                     "device cuda:%d was asked for, but there are %d CUDA devices here",
                     ctx->device.device_id, count);
}

static cumega_status is_capturing(cumega_context *ctx, cudaStream_t stream, int *capturing) {
  enum cudaStreamCaptureStatus capture = cudaStreamCaptureStatusNone;
  CUDA_TRY(ctx, cudaStreamIsCapturing(stream, &capture));
  *capturing = capture != cudaStreamCaptureStatusNone;
  return CUMEGA_OK;
}

cumega_status cuda_is_capturing(cumega_context *ctx, int *capturing) {
  return is_capturing(ctx, cuda_context_of(ctx)->stream, capturing);
}

/* Makes later work in `stream` wait for the work enqueued before, which uses the same scratch.
 * Whoever waits for `stream` then waits for that work too. This cannot be captured: the caller who
 * launches the graph must keep the order. */
static cumega_status follow(cumega_context *ctx, cudaStream_t stream) {
  cuda_context *c = cuda_context_of(ctx);
  cudaEvent_t before = NULL;
  int leaving_capture = 0, entering_capture = 0;
  if (c->stream == NULL || c->stream == stream) return CUMEGA_OK;
  TRY(is_capturing(ctx, c->stream, &leaving_capture));
  TRY(is_capturing(ctx, stream, &entering_capture));
  if (leaving_capture || entering_capture) return CUMEGA_OK;
  CUDA_TRY(ctx, cudaEventCreateWithFlags(&before, cudaEventDisableTiming));
  cudaError_t error = cudaEventRecord(before, c->stream);
  if (error == cudaSuccess) error = cudaStreamWaitEvent(stream, before, 0);
  (void)cudaEventDestroy(before); /* takes effect once the event has been reached */
  return error == cudaSuccess ? CUMEGA_OK
                              : cuda_fail(ctx, error, "leaving a stream", __FILE__, __LINE__);
}

static cumega_status choose_stream(cumega_context *ctx, cudaStream_t stream) {
  cuda_context *c = cuda_context_of(ctx);
  int ours = 1;
  if (stream != NULL) {
    CUDA_TRY(ctx, cuda_stream_is_ours(stream, &ours));
    if (!ours)
      return front->fail(ctx, CUMEGA_ERROR_ARGUMENT,
                         "stream is %p, expected a stream of the primary context of cuda:%d",
                         (void *)stream, ctx->device.device_id);
  } else {
    if (c->own == NULL) CUDA_TRY(ctx, cudaStreamCreateWithFlags(&c->own, cudaStreamNonBlocking));
    stream = c->own;
  }
  TRY(follow(ctx, stream));
  c->stream = stream;
  return CUMEGA_OK;
}

cumega_status cuda_check_device(cumega_context *ctx) {
  int capturing; /* unused: any query finds a lost device */
  return cuda_is_capturing(ctx, &capturing);
}

cumega_status cuda_refuse_capture(cumega_context *ctx, const char *what) {
  int capturing = 0;
  TRY(cuda_is_capturing(ctx, &capturing));
  if (!capturing) return CUMEGA_OK;
  return front->fail(ctx, CUMEGA_ERROR_STATE,
                     "the context's stream is being captured, and %s is not allowed meanwhile",
                     what);
}

cumega_status cuda_allocate(cumega_context *ctx, int64_t bytes, const char *what, void **pointer) {
  if (bytes == 0) bytes = 1;
  *pointer = NULL;
  if (!front->memory_charge(ctx->memory, bytes))
    return front->fail(ctx, CUMEGA_ERROR_RESOURCE,
                       "cannot allocate %" PRId64 " bytes on cuda:%d for %s: memory_limit is "
                       "%" PRId64 ", of which %" PRId64 " are held",
                       bytes, ctx->device.device_id, what, front->memory_limit(ctx->memory),
                       front->memory_held(ctx->memory));
  cudaError_t error = cudaMalloc(pointer, (size_t)bytes);
  if (error == cudaSuccess) return CUMEGA_OK;
  *pointer = NULL;
  front->memory_discharge(ctx->memory, bytes);
  if (error != cudaErrorMemoryAllocation)
    return cuda_fail(ctx, error, "cudaMalloc", __FILE__, __LINE__);
  return front->fail(ctx, CUMEGA_ERROR_RESOURCE,
                     "cannot allocate %" PRId64 " bytes on cuda:%d for %s: %s", bytes,
                     ctx->device.device_id, what, cudaGetErrorString(error));
}

void cuda_release(memory *account, void *pointer, int64_t bytes) {
  if (pointer == NULL) return;
  (void)cudaFree(pointer); /* an error here is one of earlier work, and cannot be handled */
  front->memory_discharge(account, bytes == 0 ? 1 : bytes);
}

/* ---- scratch ---- */

/* Scratch that was replaced by a larger one, but that a captured graph may still use. */
typedef struct retired {
  kept base;
  void *block;
  int64_t bytes;
} retired;

static void release_retired(cumega_context *ctx, kept *base) {
  retired *entry = (retired *)base;
  cuda_release(ctx->memory, entry->block, entry->bytes);
  front->memory_free(ctx->memory, entry, sizeof *entry);
}

/* Gives up the scratch, after waiting for work in flight. Scratch that a graph was captured with
 * is kept. */
static cumega_status retire(cumega_context *ctx) {
  cuda_context *c = cuda_context_of(ctx);
  if (c->scratch == NULL) return CUMEGA_OK;
  if (!c->scratch_captured) {
    CUDA_TRY(ctx, cudaStreamSynchronize(c->stream));
    cuda_release(ctx->memory, c->scratch, ctx->device_scratch_bytes);
    return CUMEGA_OK;
  }
  retired *entry = front->memory_allocate(ctx->memory, sizeof *entry);
  if (entry == NULL)
    return front->fail(ctx, CUMEGA_ERROR_RESOURCE,
                       "cannot allocate %zu bytes to keep a graph's scratch", sizeof *entry);
  *entry = (retired){.base = {.captured = 1, .release = release_retired},
                     .block = c->scratch,
                     .bytes = ctx->device_scratch_bytes};
  front->kept_add(ctx, &entry->base);
  c->scratch_captured = 0;
  return CUMEGA_OK;
}

static cumega_status grow_scratch(cumega_context *ctx, int64_t bytes) {
  cuda_context *c = cuda_context_of(ctx);
  void *grown;
  int64_t before = ctx->device_scratch_bytes;
  TRY(cuda_allocate(ctx, bytes, "scratch", &grown));
  cumega_status status = retire(ctx);
  if (status != CUMEGA_OK) {
    cuda_release(ctx->memory, grown, bytes);
    return status;
  }
  c->scratch = grown;
  ctx->device_scratch_bytes = bytes;
  front->log(ctx, CUMEGA_LOG_INFO, "scratch grew from %" PRId64 " to %" PRId64 " bytes", before,
             bytes);
  return CUMEGA_OK;
}

cumega_status cuda_scratch(cumega_context *ctx, int64_t bytes, void **pointer) {
  cuda_context *c = cuda_context_of(ctx);
  *pointer = NULL;
  if (bytes == 0) return CUMEGA_OK;
  int capturing = 0;
  TRY(cuda_is_capturing(ctx, &capturing));
  if (bytes > ctx->device_scratch_bytes && capturing)
    return front->fail(ctx, CUMEGA_ERROR_RESOURCE,
                       "the run needs %" PRId64 " bytes of scratch and has %" PRId64
                       ", and its stream is being captured: call cumega_context_reserve before",
                       bytes, ctx->device_scratch_bytes);
  if (bytes > ctx->device_scratch_bytes) TRY(grow_scratch(ctx, bytes));
  c->scratch_captured |= capturing;
  *pointer = c->scratch;
  return CUMEGA_OK;
}

/* ---- the hooks ---- */

static cumega_status clear_report(cumega_context *ctx) {
  cuda_context *c = cuda_context_of(ctx);
  cudaError_t error = report_clear_launch(c->report, c->stream);
  if (error == cudaErrorNoKernelImageForDevice)
    return fail_device(ctx, "this build has no code for it (CUMEGA_CUDA_ARCHITECTURES)");
  if (error != cudaSuccess)
    return cuda_fail(ctx, error, "clearing the report", __FILE__, __LINE__);
  CUDA_TRY(ctx, cudaStreamSynchronize(c->stream));
  return CUMEGA_OK;
}

static cumega_status open_parts(cumega_context *ctx, void *stream) {
  cuda_context *c = cuda_context_of(ctx);
  void *report;
  TRY(choose_stream(ctx, (cudaStream_t)stream));
  TRY(cuda_refuse_capture(ctx, "making a context"));
  TRY(cuda_allocate(ctx, sizeof *c->report, "the report", &report));
  c->report = report;
  return clear_report(ctx);
}

cumega_status context_open_cuda(cumega_context *ctx, void *stream) {
  cuda_scope scope = {.pending = cudaPeekAtLastError()};
  cumega_status status = check_device(ctx);
  if (status != CUMEGA_OK) {
    if (scope.pending == cudaSuccess) (void)cudaGetLastError();
    return status;
  }
  ctx->device_state = front->memory_allocate(ctx->memory, sizeof(cuda_context));
  if (ctx->device_state == NULL)
    return front->fail(ctx, CUMEGA_ERROR_RESOURCE, "cannot allocate %zu bytes for a context",
                       sizeof(cuda_context));
  memset(ctx->device_state, 0, sizeof(cuda_context));
  status = cuda_enter(ctx, &scope);
  if (status == CUMEGA_OK) status = open_parts(ctx, stream);
  cuda_scope_leave(&scope);
  return status;
}

/* After a fatal error all of these calls fail, which is as good as freeing. */
void context_close_cuda(cumega_context *ctx) {
  cuda_context *c = cuda_context_of(ctx);
  cuda_scope scope;
  /* Without error flags nothing was enqueued, and waiting could break a capture of the caller. */
  if (cuda_scope_enter(&scope, ctx->device.device_id) == cudaSuccess && c->report != NULL)
    (void)cudaStreamSynchronize(c->stream);
  front->kept_remove_all(ctx);
  cuda_release(ctx->memory, c->scratch, ctx->device_scratch_bytes);
  cuda_release(ctx->memory, c->report, sizeof *c->report);
  if (c->own != NULL) (void)cudaStreamDestroy(c->own);
  cuda_scope_leave(&scope);
  front->memory_free(ctx->memory, c, sizeof *c);
  ctx->device_state = NULL;
}

static cumega_status synchronize(cumega_context *ctx) {
  TRY(cuda_refuse_capture(ctx, "waiting for it"));
  CUDA_TRY(ctx, cudaStreamSynchronize(cuda_context_of(ctx)->stream));
  return CUMEGA_OK;
}

cumega_status context_synchronize_cuda(cumega_context *ctx) {
  CUDA_WITHIN_SCOPE(ctx, synchronize(ctx));
}

cumega_status is_capturing_cuda(cumega_context *ctx, int *capturing) {
  CUDA_WITHIN_SCOPE(ctx, cuda_is_capturing(ctx, capturing));
}

static cumega_status reserve(cumega_context *ctx, int64_t bytes) {
  if (bytes <= ctx->device_scratch_bytes) return CUMEGA_OK;
  TRY(cuda_refuse_capture(ctx, "reserving scratch"));
  return grow_scratch(ctx, bytes);
}

cumega_status context_reserve_cuda(cumega_context *ctx, int64_t bytes) {
  CUDA_WITHIN_SCOPE(ctx, reserve(ctx, bytes));
}

cumega_status context_set_stream_cuda(cumega_context *ctx, void *stream) {
  CUDA_WITHIN_SCOPE(ctx, choose_stream(ctx, (cudaStream_t)stream));
}

static cumega_status copy(cumega_context *ctx, void *to, const void *from, int64_t bytes,
                          enum cudaMemcpyKind kind) {
  cuda_context *c = cuda_context_of(ctx);
  TRY(cuda_refuse_capture(ctx, "a copy that waits"));
  CUDA_TRY(ctx, cudaMemcpyAsync(to, from, (size_t)bytes, kind, c->stream));
  CUDA_TRY(ctx, cudaStreamSynchronize(c->stream));
  return CUMEGA_OK;
}

static cumega_status report(cumega_context *ctx, uint32_t *bits) {
  uint32_t met = 0;
  TRY(copy(ctx, &met, cuda_context_of(ctx)->report, sizeof met, cudaMemcpyDeviceToHost));
  *bits = met; /* valid even if clearing fails */
  return met != 0 ? clear_report(ctx) : CUMEGA_OK;
}

cumega_status context_report_cuda(cumega_context *ctx, uint32_t *bits) {
  CUDA_WITHIN_SCOPE(ctx, report(ctx, bits));
}

static cumega_status allocate(cumega_context *ctx, int64_t bytes, void **pointer) {
  TRY(cuda_refuse_capture(ctx, "allocating"));
  return cuda_allocate(ctx, bytes, "the caller", pointer);
}

cumega_status memory_allocate_cuda(cumega_context *ctx, int64_t bytes, void **pointer) {
  CUDA_WITHIN_SCOPE(ctx, allocate(ctx, bytes, pointer));
}

static cumega_status release(cumega_context *ctx, void *pointer, int64_t bytes) {
  TRY(synchronize(ctx));
  cuda_release(ctx->memory, pointer, bytes);
  return CUMEGA_OK;
}

cumega_status memory_release_cuda(cumega_context *ctx, void *pointer, int64_t bytes) {
  CUDA_WITHIN_SCOPE(ctx, release(ctx, pointer, bytes));
}

cumega_status memory_write_cuda(cumega_context *ctx, void *to, const void *from, int64_t bytes) {
  CUDA_WITHIN_SCOPE(ctx, copy(ctx, to, from, bytes, cudaMemcpyHostToDevice));
}

cumega_status memory_read_cuda(cumega_context *ctx, void *to, const void *from, int64_t bytes) {
  CUDA_WITHIN_SCOPE(ctx, copy(ctx, to, from, bytes, cudaMemcpyDeviceToHost));
}
