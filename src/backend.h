/* What a backend does. One constant table per backend (and per CPU level); the context points to
 * its own. The front has checked every argument and resolved every default before it calls. */
#ifndef CUMEGA_SRC_BACKEND_H
#define CUMEGA_SRC_BACKEND_H

#include "context.h"
#include "ema.h"
#include "position_bias.h"
#include "residual.h"

/* What a backend with memory and streams of its own does beyond that. Every one of them leaves the
 * caller's current CUDA context and pending CUDA error as found. */
typedef struct backend_device {
  /* Fills ctx->device_state; stream NULL: an own one. context_close is allowed after a failure. */
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

  /* An object's copy of host memory, in ctx's account and on the device when it returns; `what` is
   * for the sentence ("the coefficients of an EMA"). *block is NULL on failure. Release needs no
   * context: the one that made the object may be gone. In a forked child it does nothing. */
  cumega_status (*object_upload)(cumega_context *ctx, const char *what, const void *from,
                                 int64_t bytes, void **block);
  void (*object_release)(memory *account, DLDevice device, pid_t owner, void *block, int64_t bytes);
  cumega_status (*is_capturing)(cumega_context *ctx, int *capturing); /* ctx's stream */

  /* What forward of such a run makes at first use, so that it may be captured. */
  cumega_status (*ema_prepare)(cumega_context *ctx, const cumega_ema *ema, const ema_run *run);
} backend_device;

typedef struct backend {
  const char *name;                                  /* cumega_context_backend */
  void (*ema_kernel_row)(const ema_kernel_row *row); /* CPU tables only: ctx->host has one */
  int64_t (*ema_workspace)(const cumega_context *ctx, const cumega_ema *ema, const ema_run *run);
  cumega_status (*ema_forward)(cumega_context *ctx, const cumega_ema *ema, const ema_run *run);
  void (*rotary_table)(const rotary_table *t); /* CPU tables only: ctx->host has one */
  int64_t (*position_bias_workspace)(const cumega_context *ctx, const position_bias_run *run);
  cumega_status (*position_bias_rows)(cumega_context *ctx, const position_bias_run *run);
  cumega_status (*position_bias_forward)(cumega_context *ctx, const position_bias_matrix *run);
  int64_t (*residual_workspace)(const cumega_context *ctx, const residual_run *run);
  cumega_status (*residual_forward)(cumega_context *ctx, const residual_run *run);
  cumega_status (*residual_prepare)(cumega_context *ctx); /* or NULL: there is nothing to prepare */
  const backend_device *device;                           /* NULL in the CPU's tables */
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

/* What a backend in a library of its own calls of ours. */
typedef struct backend_front {
  int version;         /* CUMEGA_VERSION_NUMBER */
  size_t struct_bytes; /* BACKEND_STRUCT_BYTES: both sides read the same structs */
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
  void (*ema_kernel_row_channel)(const cumega_ema *ema, const ema_tables *tables, int64_t d,
                                 ema_kernel_row *row);
} backend_front;

/* A number that differs where any of the shared structs has another size. */
#define BACKEND_STRUCT_BYTES                                                                       \
  (((((sizeof(cumega_context) * 1024 + sizeof(cumega_ema)) * 1024 + sizeof(ema_run)) * 1024 +      \
     sizeof(backend_device)) *                                                                     \
        1024 +                                                                                     \
    sizeof(position_bias_run)) *                                                                   \
       7 +                                                                                         \
   sizeof(residual_run) + sizeof(backend))

/* The one symbol of libcumega_cuda. NULL where the two libraries are not of one build. */
typedef const backend *(*backend_cuda_entry)(const backend_front *front);
#define BACKEND_CUDA_LIBRARY "libcumega_cuda.so.0"
#define BACKEND_CUDA_ENTRY   "cumega_backend_cuda"

#endif
