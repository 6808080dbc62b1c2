/* The EMA from inside. */
#ifndef CUMEGA_SRC_EMA_OBJECT_H
#define CUMEGA_SRC_EMA_OBJECT_H

#include <cumega/ema.h>
#include "ema_run.h"
#include "object.h"

/* The parameters, in the order of cumega_ema_parameters. */
enum { EMA_DAMPING, EMA_DECAY, EMA_EXPANSION, EMA_PROJECTION, EMA_RESIDUAL, EMA_PARAMETER_COUNT };

/* The host keeps the parameters exactly as given; the block has the coefficients that runs
 * read. */
struct cumega_ema {
  object base;
  cumega_ema_config config;
  int64_t padded;                             /* channels in a row of the coefficients */
  int64_t parameters_at[EMA_PARAMETER_COUNT]; /* in host */
  struct {
    int64_t q, q_lo, gain, projection, residual, kernel;
  } at; /* in the block; q_lo only for float32 states, kernel only with a truncation */
};

/* What the host has besides the parameters, at its beginning. */
typedef struct ema_derived {
  int64_t warmup; /* steps of src/ema_slices.h */
} ema_derived;

/* Checks the settings and resolves those that depend on others (src/ema_config.c). */
cumega_status ema_config_check(cumega_context *ctx, cumega_ema_config *config);

/* Computes the coefficients (src/ema_coefficients.c). */
cumega_status ema_derive(cumega_context *ctx, const object *o, void *host, void *block);

/* call_enter, and ema is not NULL and on ctx's device. */
cumega_status ema_enter(cumega_context *ctx, const cumega_ema *ema);

/* The parameters of an EMA whose host piece is `host`. */
ema_numbers ema_numbers_at(const cumega_ema *ema, const void *host);

/* The coefficients in a block. */
ema_coefficients_f32 ema_coefficients_f32_at(const cumega_ema *ema, void *block);
ema_coefficients_f64 ema_coefficients_f64_at(const cumega_ema *ema, void *block);

/* p, q and 1 - q of one head of one channel, in double and without cancellation. */
typedef struct ema_decay {
  double p, q, one_minus_q;
} ema_decay;
ema_decay ema_decay_of(double damping, double decay);

/* Points the row's memory into ctx's scratch, of which it needs this many bytes. */
int64_t ema_kernel_row_bytes(int64_t heads);
cumega_status ema_kernel_row_begin(cumega_context *ctx, int64_t heads, ema_kernel_row *row);

#endif
