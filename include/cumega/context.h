/* A context is where calls run: one device, one stream, scratch memory, and the sentence of the
 * last error.
 *
 * Threads. One thread at a time may use a context; different contexts are independent. A library
 * that was built without NDEBUG (a Debug build) checks this: a call on a context that another
 * thread is using returns CUMEGA_ERROR_STATE, puts its sentence into cumega_context_message(NULL)
 * and leaves the context alone; so does cumega_context_destroy. A release build does not check.
 *
 * Objects (cumega_ema, ...) are made through a context and may be used through every context of
 * the same device.
 *
 * CPU calls have finished when they return. They keep the caller's floating-point environment
 * (rounding mode, flush-to-zero, exception flags) as it was, and compute the same bits whatever
 * it is.
 *
 * Each function lists the statuses that it can return. Where it lists none, it returns CUMEGA_OK,
 * CUMEGA_ERROR_ARGUMENT, CUMEGA_ERROR_STATE or CUMEGA_ERROR_FATAL (docs/errors.md).
 *
 * After fork, calls in the child on contexts of the parent return CUMEGA_ERROR_STATE. Destroying
 * them there is allowed and releases nothing. */
#ifndef CUMEGA_CONTEXT_H
#define CUMEGA_CONTEXT_H

#include <stddef.h>
#include <cumega/status.h>
#include <cumega/tensor.h>

typedef struct cumega_context cumega_context;

/* The caller's own source of host memory. allocate returns memory aligned to `alignment` (a power
 * of two) or NULL; release gets back what allocate returned, with its size.
 *
 * Both are called by the thread that makes the cumega call. That is several threads at once where
 * contexts share an allocator, or where one thread changes or destroys an object while another
 * uses the context that made it: an object's memory always comes from the context that made it.
 * The functions and `user` must stay valid until that context and all objects made through it are
 * destroyed. */
typedef struct cumega_allocator {
  void *(*allocate)(void *user, size_t bytes, size_t alignment);
  void (*release)(void *user, void *memory, size_t bytes);
  void *user;
} cumega_allocator;

typedef enum cumega_log_level {
  /* What was chosen and why: device, CPU level, scratch that grew. */
  CUMEGA_LOG_INFO = 0
} cumega_log_level;

/* Called by the thread that makes the cumega call, during that call; it may not use the context.
 * message is valid until it returns. */
typedef void (*cumega_log_callback)(void *user, cumega_log_level level, const char *message);

typedef struct cumega_context_options {
  size_t struct_size;
  /* cumega_cpu (default), or {kDLCUDA, n} for a GPU. */
  DLDevice device;
  /* CUDA: the caller's cudaStream_t; NULL: the context creates its own non-blocking stream. CPU:
   * NULL. */
  void *stream;
  /* CPU: threads that share the work of a call, the caller's included: 1 (default) .. 1024. */
  int32_t threads;
  /* Bytes that the context and the objects made through it may hold; 0 (default): no limit. */
  int64_t memory_limit;
  /* All NULL (default): the C library's. */
  cumega_allocator allocator;
  /* NULL (default): nothing is logged. The library never prints. */
  cumega_log_callback log_callback;
  void *log_user;
} cumega_context_options;

/* Error flags of cumega_context_report: what kernels found in index tensors on the device. */
typedef enum cumega_report_bit {
  /* A sequence length outside 0 .. L was clamped. */
  CUMEGA_REPORT_LENGTH = 1,
  /* Sequence offsets decrease or point outside the tensor; the sequence was skipped. */
  CUMEGA_REPORT_OFFSET = 2,
  /* A slot points outside the pool of states; the sequence was skipped. */
  CUMEGA_REPORT_SLOT = 4
} cumega_report_bit;

typedef struct cumega_statistics {
  size_t struct_size;
  /* Host and device memory that the context and the objects made through it hold now. */
  int64_t bytes_held;
  /* The largest value of bytes_held so far. */
  int64_t bytes_peak;
  /* The part of bytes_held that is the context's scratch. */
  int64_t scratch_bytes;
  /* Runs (forward, step) that were started, including those of length 0. */
  int64_t runs;
} cumega_statistics;

#ifdef __cplusplus
extern "C" {
#endif

/* Every struct that a caller fills has a function like this one. It writes the defaults, and
 * struct_size, into the first struct_size bytes of the struct; pass sizeof of the struct as your
 * program was compiled with it:
 *
 *   cumega_context_options options;
 *   cumega_context_options_init(&options, sizeof options);
 *
 * The defaults here are a CPU context with one thread. */
CUMEGA_API void cumega_context_options_init(cumega_context_options *options, size_t struct_size);
CUMEGA_API void cumega_statistics_init(cumega_statistics *statistics, size_t struct_size);

/* The words "info"; "length", "offset" and "slot"; NULL for any other value. _from_name returns
 * 1, or 0 where there is no such word or an argument is NULL; the output is then unchanged. */
CUMEGA_API const char *cumega_log_level_name(cumega_log_level level);
CUMEGA_API CUMEGA_CHECK_RESULT int cumega_log_level_from_name(const char *name,
                                                              cumega_log_level *level);
CUMEGA_API const char *cumega_report_bit_name(cumega_report_bit bit);
CUMEGA_API CUMEGA_CHECK_RESULT int cumega_report_bit_from_name(const char *name,
                                                               cumega_report_bit *bit);

/* Makes a context. options may be NULL for the defaults. On failure *ctx is NULL, and the
 * sentence is in cumega_context_message(NULL). The environment variable CUMEGA_CPU=plain|v3|v4
 * chooses the CPU level (docs/environment.md). Returns CUMEGA_OK, CUMEGA_ERROR_ARGUMENT,
 * CUMEGA_ERROR_UNSUPPORTED (a CPU level that the machine lacks), CUMEGA_ERROR_RESOURCE,
 * CUMEGA_ERROR_DEVICE (no such device, or no backend, driver or compiled code for it),
 * CUMEGA_ERROR_STATE (the stream is being captured), CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_context_create(const cumega_context_options *options, cumega_context **ctx);

/* Waits for the context's work, then releases what it holds. NULL is allowed. Objects made
 * through it stay valid, have their own _destroy calls, before or after this one, and return
 * their memory to the context's allocator. */
CUMEGA_API void cumega_context_destroy(cumega_context *ctx);

/* Waits until all work that was enqueued through ctx has finished. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_context_synchronize(cumega_context *ctx);

/* The sentence of the last failed call on ctx; "" where the last call succeeded. Valid until the
 * next call on ctx. For NULL: the sentence of this thread's last failed call that had no context.
 * Never NULL. */
CUMEGA_API const char *cumega_context_message(const cumega_context *ctx);

/* Makes the scratch memory at least `bytes` large, so that later runs which need no more (see the
 * _workspace_size functions) allocate no scratch. It never shrinks. Returns CUMEGA_OK,
 * CUMEGA_ERROR_ARGUMENT (bytes < 0), CUMEGA_ERROR_RESOURCE, CUMEGA_ERROR_STATE,
 * CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_context_reserve(cumega_context *ctx,
                                                                    int64_t bytes);

/* CUDA: later calls are enqueued on `stream`, a cudaStream_t of the device's primary context
 * (NULL: the stream that the context creates for itself). An event makes them wait there for what
 * was enqueued through ctx before; this call does not wait. While one of the two streams is being
 * captured it orders nothing: the caller does, as for every launch of a graph. The caller's
 * stream has to live until another one is set or ctx is destroyed. CPU: CUMEGA_ERROR_UNSUPPORTED
 * unless stream is NULL. Returns CUMEGA_OK, CUMEGA_ERROR_ARGUMENT, CUMEGA_ERROR_UNSUPPORTED,
 * CUMEGA_ERROR_STATE, CUMEGA_ERROR_DEVICE, CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_context_set_stream(cumega_context *ctx,
                                                                       void *stream);

/* *bits: the error flags of all runs since the last report (cumega_report_bit, or-ed), which are
 * then cleared. Waits for those runs. Always 0 on a CPU, where index tensors are checked before
 * anything is written. Returns CUMEGA_OK, CUMEGA_ERROR_ARGUMENT, CUMEGA_ERROR_STATE,
 * CUMEGA_ERROR_DEVICE, CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_context_report(cumega_context *ctx,
                                                                   uint32_t *bits);

/* Fills *statistics, up to the struct_size that the caller has set. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_context_statistics(cumega_context *ctx, cumega_statistics *statistics);

/* The name of the backend in use, as "cpu-x86-64-v3" or "cuda". Valid as long as ctx; "" for
 * NULL. */
CUMEGA_API const char *cumega_context_backend(const cumega_context *ctx);

/* The names of the kernels that the last run on ctx launched, separated by spaces; "" on a CPU,
 * for a run that had nothing to launch, and for NULL. Valid until the next run on ctx. */
CUMEGA_API const char *cumega_context_kernels(const cumega_context *ctx);

/* Memory of the context's device, for programs that do not call CUDA themselves; host memory on a
 * CPU. It counts against memory_limit. Release it with the size that it was allocated with,
 * before ctx is destroyed. cumega_memory_release accepts NULL and waits for what was enqueued
 * through ctx. Both return CUMEGA_OK, CUMEGA_ERROR_ARGUMENT, CUMEGA_ERROR_RESOURCE,
 * CUMEGA_ERROR_STATE (also while ctx's stream is being captured), CUMEGA_ERROR_DEVICE,
 * CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_memory_allocate(cumega_context *ctx,
                                                                    int64_t bytes, void **pointer);
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_memory_release(cumega_context *ctx,
                                                                   void *pointer, int64_t bytes);

/* Copies from the host to the context's device (write) and back (read), after everything that was
 * enqueued through ctx. The copy has finished on return. Both return what cumega_memory_allocate
 * does. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_memory_write(cumega_context *ctx, void *to,
                                                                 const void *from, int64_t bytes);
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_memory_read(cumega_context *ctx, void *to,
                                                                const void *from, int64_t bytes);

#ifdef __cplusplus
}
#endif
#endif
