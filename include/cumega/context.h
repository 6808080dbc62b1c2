/* A context is where calls run: one device, one stream, scratch memory, and the text of the last
 * error.
 *
 * One thread at a time may use a context; different contexts are independent. A library that was
 * built without NDEBUG (a Debug build) looks: a call on a context that is in a call of another
 * thread returns CUMEGA_ERROR_STATE, with its sentence in cumega_context_message(NULL), and leaves
 * the context alone; so does cumega_context_destroy. A release build does not look. Objects
 * (cumega_ema, ...) are made through a context and may be used through every context of the same device. CPU
 * calls have finished when they return. A CPU context keeps the caller's floating-point environment
 * (rounding mode, flush-to-zero, exception flags) as found, and computes the same bits whatever it
 * is.
 *
 * What a call may return is said with it. Where nothing is, it returns CUMEGA_OK, _ARGUMENT, _STATE or
 * _FATAL (docs/errors.md).
 *
 * After fork, calls in the child return CUMEGA_ERROR_STATE on contexts made in the parent;
 * destroying them there releases nothing but is allowed. */
#ifndef CUMEGA_CONTEXT_H
#define CUMEGA_CONTEXT_H

#include <string.h>
#include <cumega/status.h>
#include <cumega/tensor.h>

typedef struct cumega_context cumega_context;

/* Host memory of the caller's own making. allocate returns memory aligned to `alignment` (a power
 * of two) or NULL; release gets back what allocate returned, and its size. Both are called from the
 * thread that makes the cumega call: from several at once where contexts share an allocator, and
 * where an object is changed or destroyed in one thread while its maker's context works in another,
 * for an object's memory is always its maker's. Functions and user are needed until the context and
 * all objects made through it are destroyed. */
typedef struct cumega_allocator {
  void *(*allocate)(void *user, size_t bytes, size_t alignment);
  void (*release)(void *user, void *memory, size_t bytes);
  void *user;
} cumega_allocator;

typedef enum cumega_log_level {
  CUMEGA_LOG_INFO = 0,   /* what was chosen, and why: device, CPU level, scratch that grew */
  CUMEGA_LOG_WARNING = 1 /* none yet */
} cumega_log_level;

/* Called in the thread that makes the cumega call, within it: it may not use the context. message is
 * valid until it returns. */
typedef void (*cumega_log_callback)(void *user, cumega_log_level level, const char *message);

typedef struct cumega_context_options {
  size_t struct_size;
  DLDevice device; /* default cumega_cpu; {kDLCUDA, n} for a GPU */
  void *stream; /* CUDA: the caller's cudaStream_t; NULL: an own non-blocking stream. CPU: NULL */
  int32_t threads; /* CPU: threads that share a call's work: 1 (default: the caller's) .. 1024 */
  int64_t memory_limit; /* bytes that the context and the objects made through it may hold; 0: no
                           limit */
  cumega_allocator allocator;       /* all NULL: the C library's */
  cumega_log_callback log_callback; /* NULL: nothing is logged; the library never prints */
  void *log_user;
} cumega_context_options;

/* Bits of cumega_context_report: what kernels met in index tensors on the device. */
typedef enum cumega_report_bit {
  CUMEGA_REPORT_LENGTH = 1, /* a sequence length outside 0 .. L was clamped */
  CUMEGA_REPORT_OFFSET =
      2,                 /* sequence offsets outside the tensor or decreasing: sequence skipped */
  CUMEGA_REPORT_SLOT = 4 /* a slot outside the pool: sequence skipped */
} cumega_report_bit;

typedef struct cumega_statistics {
  size_t struct_size;
  int64_t bytes_held;    /* memory, of host and device, held now by the context and the objects
                            made through it */
  int64_t bytes_peak;    /* the largest value of bytes_held so far */
  int64_t scratch_bytes; /* of these, the context's scratch memory */
  int64_t runs;          /* runs (forward, step) that were started, those of length 0 included */
} cumega_statistics;

#ifdef __cplusplus
extern "C" {
#endif

/* A CPU context with one thread. Start from this, then change what you need. */
static inline cumega_context_options cumega_context_options_default(void) {
  cumega_context_options options;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.device = cumega_cpu;
  options.threads = 1;
  return options;
}

/* options may be NULL: the default. *ctx is set to NULL on failure; the sentence is then in
 * cumega_context_message(NULL). The environment variable CUMEGA_CPU=plain|v3|v4 chooses the CPU
 * level (docs/environment.md); a level that the machine lacks is CUMEGA_ERROR_UNSUPPORTED. Returns
 * CUMEGA_OK, CUMEGA_ERROR_ARGUMENT, _UNSUPPORTED, _RESOURCE, _DEVICE (no such device, or no
 * backend, driver or compiled code for it), _STATE (the stream is being captured), or _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_context_create(const cumega_context_options *options, cumega_context **ctx);

/* Waits for the context's work, then releases what it holds. NULL is allowed. Objects made through
 * it live on and are destroyed by their own calls, before or after; they give back their memory
 * through the context's allocator. */
CUMEGA_API void cumega_context_destroy(cumega_context *ctx);

/* Waits until all that was enqueued through ctx has finished. Returns CUMEGA_OK, _ARGUMENT, _STATE,
 * _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_context_synchronize(cumega_context *ctx);

/* The sentence of the last failed call on ctx; "" where the last call succeeded. Valid until the
 * next call on ctx. With NULL: of the last failed call in this thread that had no context. Never
 * NULL. */
CUMEGA_API const char *cumega_context_message(const cumega_context *ctx);

/* Makes the scratch memory at least `bytes` large, so that later runs which need no more (see the
 * _workspace_size calls) allocate no scratch. It never shrinks.
 * Returns CUMEGA_OK, _ARGUMENT (bytes < 0), _RESOURCE, _STATE, _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_context_reserve(cumega_context *ctx,
                                                                    int64_t bytes);

/* CUDA: later calls are enqueued on `stream` (a cudaStream_t of the device's primary context; NULL: the
 * context's own), and there they wait for what was enqueued through ctx before, by an event: this
 * call does not wait. While one of the two streams is being captured it orders nothing; the caller
 * does, as for every launch of a graph. A stream of the caller's has to live until another one is
 * set or ctx is destroyed, and may be destroyed behind that. CPU: CUMEGA_ERROR_UNSUPPORTED unless
 * NULL. Returns CUMEGA_OK, _ARGUMENT, _UNSUPPORTED, _STATE, _DEVICE, _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_context_set_stream(cumega_context *ctx,
                                                                       void *stream);

/* *bits: what the runs since the last report met, as a sum of cumega_report_bit, then cleared. Waits
 * for them. Always 0 on a CPU, where index tensors are checked before anything is written. Returns
 * CUMEGA_OK, _ARGUMENT, _STATE, _DEVICE, _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_context_report(cumega_context *ctx,
                                                                   uint32_t *bits);

/* Fills *statistics, whose struct_size the caller has set. Returns CUMEGA_OK, _ARGUMENT, _STATE,
 * _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_context_statistics(cumega_context *ctx, cumega_statistics *statistics);

/* The name of the backend in use, as "cpu-x86-64-v3" or "cuda". Valid as long as ctx; "" for NULL.
 */
CUMEGA_API const char *cumega_context_backend(const cumega_context *ctx);

/* The names of the kernels that the last run on ctx launched, with spaces between; "" on a CPU, and
 * where there was nothing to launch. Valid until the next run on ctx; "" for NULL. */
CUMEGA_API const char *cumega_context_kernels(const cumega_context *ctx);

/* Memory of the context's device, for programs that have no other way to it: on a CPU the host's.
 * It counts against memory_limit, and is released with the size that it was allocated with, before
 * ctx is destroyed. Return CUMEGA_OK, _ARGUMENT, _RESOURCE, _STATE (also while ctx's stream is
 * being captured), _DEVICE, _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_memory_allocate(cumega_context *ctx,
                                                                    int64_t bytes, void **pointer);
/* Waits for what was enqueued through ctx first. pointer may be NULL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_memory_release(cumega_context *ctx,
                                                                   void *pointer, int64_t bytes);

/* Copies from the host to the context's device (write) and back (read), behind what was enqueued
 * through ctx; finished on return. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_memory_write(cumega_context *ctx, void *to,
                                                                 const void *from, int64_t bytes);
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_memory_read(cumega_context *ctx, void *to,
                                                                const void *from, int64_t bytes);

#ifdef __cplusplus
}
#endif
#endif
