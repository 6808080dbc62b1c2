/* The EMA on a CPU: what its files share.
 *
 *   ema_forward_cpu.c     a run divided into items: a group of channels of
 *                         a sequence, or of a slice of it
 *   ema_item.h            an item, for float and for double
 *   ema_chain.h           the recurrence of one vector of channels, in registers
 *   ema_direct.h          truncated sums
 *   ema_slices.h          the check after the slices of a sequence have run in parallel
 *   ema_activation_cpu.c  activation functions
 *   ema_kernel_cpu.c      values of the convolution kernel */
#ifndef CUMEGA_SRC_CPU_EMA_CPU_H
#define CUMEGA_SRC_CPU_EMA_CPU_H

#include "../math/activation.h"
#include "cpu.h"

/* A tile is a few steps of a few channels, contiguous in the first-level cache. */
#define TILE_CHANNELS  EMA_CHANNEL_PADDING
#define TILE_STEPS     (TILE_ELEMENTS / TILE_CHANNELS)
#define TILE_STEPS_MAX (TILE_ELEMENTS / TILE_NARROW_CHANNELS)

/* How a run is divided into items. Item (b * slices.count + slice) * groups + group is one group
 * of channels in one slice of sequence b. */
typedef struct ema_plan {
  const ema_run *run;
  int64_t group;  /* channels per item, a multiple of EMA_CHANNEL_PADDING */
  int64_t groups; /* per sequence */
  ema_slices slices;
  int stream; /* y is written with non-temporal stores */
  pool *pool; /* NULL: the run is too small for other threads */

  /* The scratch of each thread, then the states of all slices. */
  int64_t state_bytes, terms_bytes, history_bytes, slice_bytes;
  char *scratch;
  ema_state begin, end; /* (B * slices, D, N): the states at the beginning and end of each slice */
  int from_end;         /* a slice begins with the final state of the slice before it */
} ema_plan;

static inline int64_t ema_thread_bytes(const ema_plan *p) {
  return p->state_bytes + p->terms_bytes + p->history_bytes;
}

typedef struct ema_item {
  int64_t b;             /* the sequence */
  int64_t d0, d1;        /* channels d0 .. d1 - 1 */
  int64_t first, length; /* its rows of x and y; in a padded batch a row is a step */
  int64_t rows;          /* of y: the rows after `length` become 0 */
  int64_t warmup;        /* steps before `first`, only to arrive at the right state */
  const ema_state *initial, *final;
  int64_t initial_row, final_row; /* rows of these; negative: begins with zeros, is not kept */
} ema_item;

ema_item LEVEL(ema_item_of)(const ema_plan *plan, int64_t index);

/* Tasks of the thread pool, whose argument is an ema_plan. ema_item runs one item. ema_check, with
 * index b * groups + group, checks one group of channels of a sequence whose slices have all
 * run. */
void LEVEL(ema_item_f32)(void *plan, int64_t index, int worker);
void LEVEL(ema_item_f64)(void *plan, int64_t index, int worker);
void LEVEL(ema_check_f32)(void *plan, int64_t index, int worker);
void LEVEL(ema_check_f64)(void *plan, int64_t index, int worker);

/* v = activation(v) for `rows` vectors that are `pitch` apart. */
void LEVEL(ema_activate_f32)(const activation_f32 *activation, float *v, int64_t rows,
                             int64_t pitch);
void LEVEL(ema_activate_f64)(const activation_f64 *activation, double *v, int64_t rows,
                             int64_t pitch);

void LEVEL(ema_kernel_row_cpu)(const ema_kernel_row *row);
int64_t LEVEL(ema_workspace_cpu)(const cumega_context *ctx, const ema_run *run);
cumega_status LEVEL(ema_forward_cpu)(cumega_context *ctx, const ema_run *run);

#endif
