/* The EMA on a CPU: what its files share.
 *
 *   ema_forward_cpu.c   a run cut into items (one sequence, a group of channels), and the threads'
 * memory ema_item.h          an item through all its steps: written once, compiled for float and
 * for double states ema_tile_cpu.c      tiles between the caller's types and layouts and our own
 *   ema_finish_cpu.c    activations, and y
 *   ema_kernel_cpu.c    the convolution kernel's values
 *
 * A tile is a few time steps of LANES channels, (steps, LANES) floats or doubles in the first-level
 * cache. */
#ifndef CUMEGA_SRC_CPU_EMA_CPU_H
#define CUMEGA_SRC_CPU_EMA_CPU_H

#include "../backend.h"
#include "../math/activation.h"
#include "vector.h"

#define TILE_STEPS 32
#define IN_PLACE_STEPS                                                                             \
  8 /* rows of x are often a power of two apart: more of them would fight for one cache set */

/* An output of at least so many bytes is written past the caches: by the time someone reads it, it
 * would be out of them anyway, and a plain store first reads the line that it overwrites. */
#define STREAM_BYTES (16 << 20)

/* One sequence and a group of its channels. */
typedef struct ema_item {
  int64_t b;             /* which sequence */
  int64_t first, length; /* its rows of x and y */
  int64_t d0, d1;        /* channels d0 .. d1 - 1; d0 is a multiple of EMA_CHANNEL_PADDING */
} ema_item;

/* What one thread needs for an item, all within the context's scratch. */
typedef struct ema_memory {
  void *state;   /* (channels of a group / LANES, N, LANES) */
  void *terms;   /* (N, LANES), where N has no chain of its own */
  void *history; /* (K - 1 + TILE_STEPS, LANES), where truncated */
} ema_memory;

void LEVEL(ema_item_f32)(const cumega_ema *ema, const ema_run *run, const ema_item *item,
                         const ema_memory *parts);
void LEVEL(ema_item_f64)(const cumega_ema *ema, const ema_run *run, const ema_item *item,
                         const ema_memory *parts);

/* A tile's place in a sequence tensor: the element of its first step and channel. */
typedef struct ema_place {
  const ema_sequences *tensor;
  tensor_type type;
  int64_t offset;
  int64_t steps, channels; /* channels <= LANES */
} ema_place;

/* tile (steps, LANES) = x, widened; lanes behind `channels` become 0. */
void LEVEL(ema_load_f32)(const ema_place *place, float *tile);
void LEVEL(ema_load_f64)(const ema_place *place, double *tile);

/* y = tile, rounded once. A float tile has LANES_F32 or, where it was rounded from a double one,
 * LANES_F64 lanes. */
void LEVEL(ema_store_f32)(const ema_place *place, const float *tile, int lanes);
void LEVEL(ema_store_f64)(const ema_place *place, const double *tile);

/* y = 0 from a step on: what lies behind a sequence's length. */
void LEVEL(ema_zero)(const ema_place *place);

/* How a run's tiles become y. */
typedef struct ema_finish {
  int raw;
  int stream; /* whole tiles are written past the caches */
  activation_f32 f32;
  activation_f64 f64; /* where x is float64 */
} ema_finish;
ema_finish LEVEL(ema_finish_of)(const cumega_ema *ema, const ema_run *run);

/* y = activation(v), rounded once; v is used up. A float64 v of a narrower x is rounded to float
 * first. */
void LEVEL(ema_finish_f32)(const ema_finish *finish, const ema_place *place, float *v);
void LEVEL(ema_finish_f64)(const ema_finish *finish, const ema_place *place, double *v);

void LEVEL(ema_kernel_row_cpu)(const ema_kernel_row *row);
int64_t LEVEL(ema_workspace_cpu)(const cumega_context *ctx, const cumega_ema *ema,
                                 const ema_run *run);
cumega_status LEVEL(ema_forward_cpu)(cumega_context *ctx, const cumega_ema *ema,
                                     const ema_run *run);

#endif
