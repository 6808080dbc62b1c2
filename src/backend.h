/* What a backend does: one constant table per backend and CPU level, to which a context points.
 * It has a sub-table for each operation, declared with the operation's run. The front has checked
 * every argument and resolved every default before it calls. */
#ifndef CUMEGA_SRC_BACKEND_H
#define CUMEGA_SRC_BACKEND_H

#include "attention_run.h"
#include "call.h"
#include "ema_run.h"
#include "kept.h"
#include "position_bias_run.h"
#include "residual_run.h"

/* What a backend for a device with its own memory and streams does besides. None of these
 * functions changes the caller's current CUDA context or pending CUDA error. */
typedef struct backend_device {
  /* Fills ctx->device_state; stream NULL: the context creates its own. context_close is allowed
   * after a failure; it waits, and removes all that ctx keeps. */
  cumega_status (*context_open)(cumega_context *ctx, void *stream);
  void (*context_close)(cumega_context *ctx);
  cumega_status (*context_synchronize)(cumega_context *ctx);
  cumega_status (*context_reserve)(cumega_context *ctx, int64_t bytes);
  cumega_status (*context_set_stream)(cumega_context *ctx, void *stream);
  cumega_status (*context_report)(cumega_context *ctx, uint32_t *bits);

  /* Memory of the device, in ctx's account, and copies that have finished on return. */
  cumega_status (*memory_allocate)(cumega_context *ctx, int64_t bytes, void **pointer);
  cumega_status (*memory_release)(cumega_context *ctx, void *pointer, int64_t bytes);
  cumega_status (*memory_write)(cumega_context *ctx, void *to, const void *from, int64_t bytes);
  cumega_status (*memory_read)(cumega_context *ctx, void *to, const void *from, int64_t bytes);

  /* Copies host memory to an object's *block, which is allocated in ctx's account where it is
   * NULL. The copy has finished on return. `noun` is for the sentence ("an EMA"). On failure a
   * new block is released again. */
  cumega_status (*object_write)(cumega_context *ctx, const char *noun, const void *from,
                                int64_t bytes, void **block);
  /* Needs no context: the one that made the object may be gone. Does nothing in a forked child. */
  void (*object_release)(memory *account, DLDevice device, pid_t owner, void *block,
                         int64_t bytes);
  cumega_status (*is_capturing)(cumega_context *ctx, int *capturing); /* ctx's stream */
} backend_device;

typedef struct backend {
  const char *name; /* cumega_context_backend */
  ema_functions ema;
  position_bias_functions position_bias;
  attention_functions attention;
  residual_functions residual;
  const backend_device *device; /* NULL in the CPU's tables */
} backend;

/* src/cpu/backend.c, compiled once per level. */
extern const backend backend_cpu_plain;
extern const backend backend_cpu_v3;
extern const backend backend_cpu_v4;

/* The best level of this machine, or the one that CUMEGA_CPU names; NULL with the reason in ctx's
 * message (src/cpu_level.c). */
const backend *backend_cpu_choose(cumega_context *ctx);

/* The levels compiled in, and whether this machine runs them, for `cumega info` and the tests: i =
 * 0, 1, ... until the name is NULL. */
const char *backend_cpu_level(int i, int *runs_here);

/* The CUDA backend's table, from libcumega_cuda.so.0, which is opened at the first call and stays
 * open. DEVICE, with the reason in ctx's message, where there is none (src/backend_cuda.c). */
cumega_status backend_cuda_find(cumega_context *ctx, const backend **found);

/* What a backend in another library calls of libcumega. */
typedef struct backend_front {
  const char *build_id; /* BUILD_ID of libcumega */
  cumega_status (*fail)(cumega_context *ctx, cumega_status status, const char *format, ...)
      __attribute__((format(printf, 3, 4)));
  void (*log)(cumega_context *ctx, cumega_log_level level, const char *format, ...)
      __attribute__((format(printf, 3, 4)));
  void *(*memory_allocate)(memory *m, int64_t bytes);
  void (*memory_free)(memory *m, void *pointer, int64_t bytes);
  int (*memory_charge)(memory *m, int64_t bytes);
  void (*memory_discharge)(memory *m, int64_t bytes);
  int64_t (*memory_held)(const memory *m);
  int64_t (*memory_limit)(const memory *m);
  kept *(*kept_find)(cumega_context *ctx, kept_type type, const int64_t key[6]);
  kept *(*kept_excess)(cumega_context *ctx, kept_type type, int most);
  void (*kept_add)(cumega_context *ctx, kept *entry);
  void (*kept_remove)(cumega_context *ctx, kept *entry);
  void (*kept_remove_all)(cumega_context *ctx);
  void (*ema_kernel_row_channel)(const ema_numbers *numbers, int64_t d, ema_kernel_row *row);
} backend_front;

/* The one symbol of libcumega_cuda. NULL where the two libraries are not of one build (BUILD_ID,
 * which cmake/build_id.cmake makes from the sources). */
typedef const backend *(*backend_cuda_entry)(const backend_front *front);
#define BACKEND_CUDA_LIBRARY "libcumega_cuda.so.0"
#define BACKEND_CUDA_ENTRY   "cumega_backend_cuda"

#endif
