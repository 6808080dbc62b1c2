/* The EMA on a CPU: what its files share.
 *
 *   ema_forward_cpu.c  a run cut into items (one sequence, a group of channels); the threads' memory
 *   ema_sliced_cpu.c   a sequence's slices of time side by side, for more threads than sequences
 *   ema_item.h         an item through all its steps: written once, compiled for float and double
 *   ema_chain.h        the recurrence of one vector of channels, in registers
 *   ema_tile_cpu.c     tiles between the caller's types and layouts and our own
 *   ema_finish_cpu.c   activations, and y
 *   ema_kernel_cpu.c   the convolution kernel's values
 *
 * A tile is a few steps of some channels, floats or doubles in the first-level cache: (steps, width),
 * where width is the number of channels in whole vectors. Two of doubles take 16 KiB of stack. */
#ifndef CUMEGA_SRC_CPU_EMA_CPU_H
#define CUMEGA_SRC_CPU_EMA_CPU_H

#include "../backend.h"
#include "../ema_slices.h"
#include "../math/activation.h"
#include "vector.h"

#define TILE_ELEMENTS 1024
#define TILE_CHANNELS EMA_CHANNEL_PADDING /* where channels are contiguous, or nothing is */
#define TILE_STEPS    (TILE_ELEMENTS / TILE_CHANNELS) /* 16 */

/* Where time is contiguous: a few cache lines of each channel at a time. */
#define NARROW_TILE_CHANNELS 16
#define NARROW_TILE_STEPS    (TILE_ELEMENTS / NARROW_TILE_CHANNELS) /* 64 */

/* Where x is read as it lies: its rows are often a power of two apart, and more of them would fight
 * for one cache set. */
#define IN_PLACE_STEPS 8

/* An output of at least so many bytes is written past the caches: by the time someone reads it, it
 * would be out of them anyway, and a plain store first reads the line that it overwrites. */
#ifndef EMA_STREAM_BYTES /* builds that look for mistakes set a small one */
#define EMA_STREAM_BYTES (16 << 20)
#endif

/* A sequence, or a slice of its time, and a group of its channels. */
typedef struct ema_item {
  int64_t b;             /* which sequence */
  int64_t first, length; /* its rows of x and y; where padded, first is a step too */
  int64_t rows;          /* of y: those behind length become 0 */
  int64_t d0, d1;        /* channels d0 .. d1 - 1; d0 is a multiple of EMA_CHANNEL_PADDING */
  int silent;            /* only the state is wanted: y is left alone */
  const ema_state *initial, *final;
  int64_t initial_row, final_row; /* of these; negative: zeros, not kept */
} ema_item;

/* What one thread needs for an item, all within the context's scratch. */
typedef struct ema_memory {
  void *state;   /* (tiles of a group, N, TILE_CHANNELS) */
  void *terms;   /* (N, LANES), where N has no chain of its own */
  void *history; /* (K - 1 + TILE_STEPS, TILE_CHANNELS), where truncated */
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
  int64_t steps, channels;
} ema_place;

/* tile (steps, width) = x, widened; lanes behind `channels` become 0. */
void LEVEL(ema_load_f32)(const ema_place *place, float *tile, int64_t width);
void LEVEL(ema_load_f64)(const ema_place *place, double *tile, int64_t width);

/* y = tile (steps, width), rounded once. */
void LEVEL(ema_store_f32)(const ema_place *place, const float *tile, int64_t width);
void LEVEL(ema_store_f64)(const ema_place *place, const double *tile, int64_t width);

/* y = 0 from a step on: what lies behind a sequence's length. */
void LEVEL(ema_zero)(const ema_place *place);

/* How a run's tiles become y. */
typedef struct ema_finish {
  int raw;
  int stream;  /* whole tiles are written past the caches */
  int narrows; /* a float64 chain of a narrower x: v is rounded to float before its activation */
  activation_f32 activation_f32;
  activation_f64 activation_f64; /* where x is float64 */
} ema_finish;
ema_finish LEVEL(ema_finish_of)(const cumega_ema *ema, const ema_run *run);

/* v = activation(v) for `rows` vectors that lie `pitch` apart; nothing where raw, or where rounding
 * comes first. Right after each vector's chain, whose latency it fills. */
void LEVEL(ema_activate_f32)(const ema_finish *finish, float *v, int64_t rows, int64_t pitch);
void LEVEL(ema_activate_f64)(const ema_finish *finish, double *v, int64_t rows, int64_t pitch);

/* y = v, rounded once. */
void LEVEL(ema_finish_f32)(const ema_finish *finish, const ema_place *place, float *v,
                           int64_t width);
void LEVEL(ema_finish_f64)(const ema_finish *finish, const ema_place *place, double *v,
                           int64_t width);

/* The whole sequence b, and groups' channels d0 on. */
ema_item LEVEL(ema_item_of)(const cumega_ema *ema, const ema_run *run, int64_t b, int64_t d0,
                            int64_t channels);
/* An item by the right type. */
void LEVEL(ema_item_run)(const cumega_ema *ema, const ema_run *run, const ema_item *item,
                         const ema_memory *parts);

/* How a run is cut into items, and what a thread needs for one. */
typedef struct ema_plan {
  int64_t group;  /* channels of an item */
  int64_t groups; /* items of a sequence, or of a slice of it */
  int64_t state_bytes, terms_bytes, history_bytes;
  pool *pool; /* NULL: the run is not worth other threads */
  ema_slices slices;
} ema_plan;

static inline int64_t ema_bytes_per_thread(const ema_plan *p) {
  return p->state_bytes + p->terms_bytes + p->history_bytes;
}
static inline ema_memory ema_memory_of(const ema_plan *p, char *scratch, int worker) {
  char *own = scratch + worker * ema_bytes_per_thread(p);
  return (ema_memory){own, own + p->state_bytes, own + p->state_bytes + p->terms_bytes};
}

/* src/cpu/ema_sliced_cpu.c: slices' states behind the threads' memory, and the run. */
int64_t LEVEL(ema_sliced_bytes)(const cumega_ema *ema, const ema_run *run, const ema_plan *p);
void LEVEL(ema_sliced_cpu)(const cumega_ema *ema, const ema_run *run, const ema_plan *p,
                           char *scratch, char *states);

void LEVEL(ema_kernel_row_cpu)(const ema_kernel_row *row);
int64_t LEVEL(ema_workspace_cpu)(const cumega_context *ctx, const cumega_ema *ema,
                                 const ema_run *run);
cumega_status LEVEL(ema_forward_cpu)(cumega_context *ctx, const cumega_ema *ema,
                                     const ema_run *run);

#endif
