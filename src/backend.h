/* What a backend does. One constant table per backend (and per CPU level); the context points to
 * its own. The front has checked every argument and resolved every default before it calls. */
#ifndef CUMEGA_SRC_BACKEND_H
#define CUMEGA_SRC_BACKEND_H

#include "context.h"
#include "ema.h"

typedef struct backend {
  const char *name; /* cumega_context_backend */
  void (*ema_kernel_row)(const ema_kernel_row *row);
  int64_t (*ema_workspace)(const cumega_context *ctx, const cumega_ema *ema, const ema_run *run);
  cumega_status (*ema_forward)(cumega_context *ctx, const cumega_ema *ema, const ema_run *run);
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

#endif
