/* One item of the EMA, through all its steps: a template (vector.h) for the type of the state.
 *
 * Steps are processed in blocks of a few, and each block in tiles of channels. So the rows of x
 * and y are read and written from left to right while they are in the cache. (To go through all
 * steps of a few channels at once would touch one cache line of every row, each on its own page.
 * That has a third of the speed.) For each tile:
 *
 *   load      x in place if it has the state's type and contiguous channels, else a copy
 *   chain     the recurrence (ema_chain.h), one vector of channels at a time
 *   epilogue  y = activation(v), rounded once */

#include "ema_cpu.h"
#include "vector.h"
#include "element.h"

#define HEADS_MAX 16 /* for which chain_heads keeps the states in registers */

/* What all tiles of an item share. */
typedef struct work {
  const ema_plan *plan;
  const ema_run *run;
  const ema_item *item;
  const TYPED(ema_coefficients) * k;
  int64_t tile_channels, tile_steps;
  int x_in_place, y_in_place; /* the tensor has the state's type and contiguous channels */
  int is_relu;
  int fused; /* the recurrence writes activation(v) to y in place */
  real *states, *terms, *history;
} work;

/* A tile of x or y. */
static element_block tile_at(const work *w, const ema_sequences *s, int64_t t, int64_t steps,
                             int64_t d, int64_t channels) {
  const int64_t row = (w->item->first + t) * s->stride_t + w->item->b * s->stride_b;
  return (element_block){s->data,     w->run->type, row + d * s->stride_d, steps, channels,
                         s->stride_t, s->stride_d};
}

/* Copies a tile of x to rows that are `pitch` apart and consist of whole vectors. Lanes without a
 * channel become 0. */
static void load_tile(const work *w, int64_t t, int64_t steps, int64_t d, int64_t channels,
                      real *tile, int64_t pitch) {
  const element_block x = tile_at(w, &w->run->x, t, steps, d, channels);
  if (channels < pitch) memset(tile, 0, (size_t)(steps * pitch) * sizeof *tile);
  LEVEL(TYPED(element_load))(&x, tile, pitch);
}

/* Whether v is double but y has a narrower type. Then store_tile rounds v to float before the
 * activation. */
static int is_narrowed(const work *w) {
  return REAL_BITS == 64 && w->run->type != TYPE_FLOAT64;
}

static void activate(const work *w, real *v, int64_t rows, int64_t pitch) {
  if (!w->run->raw && !is_narrowed(w))
    LEVEL(TYPED(ema_activate))(&w->run->TYPED(finish), v, rows, pitch);
}

/* y = activation(v) for a tile, rounded once. */
static void store_tile(const work *w, int64_t t, int64_t steps, int64_t d, int64_t channels,
                       const real *v, int64_t pitch) {
  const element_block y = tile_at(w, &w->run->y, t, steps, d, channels);
#if REAL_BITS == 32
  if (!w->plan->stream || channels < pitch) {
    LEVEL(TYPED(element_store))(&y, v, pitch);
    return;
  }
  for (int64_t r = 0; r < steps; r++)
    for (int64_t c = 0; c < channels; c += LANES)
      vec_stream((real *)y.data + y.offset + r * y.row_stride + c, vec_load(v + r * pitch + c));
#else
  if (!is_narrowed(w)) {
    LEVEL(TYPED(element_store))(&y, v, pitch);
    return;
  }
  float narrow[TILE_ELEMENTS];
  const int64_t lanes = VECTOR_BYTES / (int64_t)sizeof *narrow, count = steps * pitch;
  const int64_t rows = divide_up(count, lanes);
  memset(narrow + (rows - 1) * lanes, 0, (size_t)lanes * sizeof *narrow);
  for (int64_t i = 0; i < count; i++) narrow[i] = (float)v[i];
  if (!w->run->raw) LEVEL(ema_activate_f32)(&w->run->finish_f32, narrow, rows, lanes);
  LEVEL(element_store_f32)(&y, narrow, pitch);
#endif
}

/* The mask from step t on; NULL if there is none. */
static const uint8_t *mask_of(const work *w, int64_t t, int64_t steps, uint8_t *masked) {
  const ema_run *run = w->run;
  if (run->mask == NULL) return NULL;
  const uint8_t *from =
      run->mask + w->item->b * run->mask_stride_b + (w->item->first + t) * run->mask_stride_t;
  for (int64_t i = 0; i < steps; i++) masked[i] = from[i * run->mask_stride_t];
  return masked;
}

#include "ema_chain.h"
#include "ema_direct.h"

/* One vector of channels of y, written in place: y = activation(v), with v LANES apart. */
static void store_vector(const work *w, int64_t steps, real *v, real *y) {
  const int64_t pitch = w->run->y.stride_t;
  const int is_relu = w->is_relu, stream = w->plan->stream;
  if (!is_relu) activate(w, v, steps, LANES);
  for (int64_t t = 0; t < steps; t++) {
    const vec e = vec_load(v + t * LANES), activated = is_relu ? vec_relu(e) : e;
    if (stream)
      vec_stream(y + t * pitch, activated);
    else
      vec_store(y + t * pitch, activated);
  }
}

/* Steps t .. t + steps - 1 of all channels. With `silent`, y is not written. Whole vectors of
 * channels before x_end are read in place, and those before y_end are written in place. The other
 * channels go through tiles, whose first column is x_end or y_end. */
static void chain_block(const work *w, int64_t t, int64_t steps, int silent) {
  real x_tile[TILE_ELEMENTS] __attribute__((aligned(MEMORY_ALIGNMENT)));
  real v_tile[TILE_ELEMENTS] __attribute__((aligned(MEMORY_ALIGNMENT)));
  uint8_t masked[TILE_STEPS_MAX];
  block b = {.steps = steps, .masked = mask_of(w, t, steps, masked)};
  for (int64_t d = w->item->d0; d < w->item->d1; d += w->tile_channels) {
    const int64_t channels = smaller(w->item->d1 - d, w->tile_channels);
    const int64_t width = round_up(channels, LANES), whole = channels / LANES * LANES;
    const int64_t x_end = w->x_in_place ? whole : 0, y_end = w->y_in_place && !silent ? whole : 0;
    const int64_t x_offset = tile_at(w, &w->run->x, t, 0, d, 0).offset;
    const int64_t y_offset = tile_at(w, &w->run->y, t, 0, d, 0).offset;
    if (x_end < channels)
      load_tile(w, t, steps, d + x_end, channels - x_end, x_tile, width - x_end);
    for (int64_t i = 0; i < width; i += LANES) {
      const int in_place = i < y_end;
      real *y = in_place ? (real *)w->run->y.data + y_offset + i : NULL;
      b.channel = d + i;
      b.x = i < x_end ? (const real *)w->run->x.data + x_offset + i : x_tile + i - x_end;
      b.x_pitch = i < x_end ? w->run->x.stride_t : width - x_end;
      b.v = !in_place ? v_tile + i - y_end : w->fused ? y : v_tile;
      b.v_pitch = !in_place ? width - y_end : w->fused ? w->run->y.stride_t : LANES;
      b.relu = in_place && w->fused && w->is_relu;
      chain(w, &b);
      if (in_place && !w->fused)
        store_vector(w, steps, v_tile, y);
      else if (!in_place && !silent)
        activate(w, b.v, steps, b.v_pitch);
    }
    if (y_end < channels && !silent)
      store_tile(w, t, steps, d + y_end, channels - y_end, v_tile, width - y_end);
  }
}

/* Copies a tile's states (N, TILE_CHANNELS) from or to a row of the caller's states, in which
 * channels are stride_d and heads are stride_n apart. For a compact row N and the strides are
 * constants, and the compiler makes shuffles of this. */
ALWAYS_INLINE void state_in(const int64_t N, int64_t channels, const real *from, int64_t stride_d,
                            int64_t stride_n, real *restrict to) {
  for (int64_t n = 0; n < N; n++)
    for (int64_t c = 0; c < channels; c++)
      to[n * TILE_CHANNELS + c] = from[c * stride_d + n * stride_n];
}

ALWAYS_INLINE void state_out(const int64_t N, int64_t channels, const real *from,
                             real *restrict to, int64_t stride_d, int64_t stride_n) {
  for (int64_t c = 0; c < channels; c++)
    for (int64_t n = 0; n < N; n++) to[c * stride_d + n * stride_n] = from[n * TILE_CHANNELS + c];
}

static int is_compact_of_4(const ema_state *s, int64_t N, int64_t channels) {
  return N == 4 && s->stride_d == 4 && s->stride_n == 1 && channels == TILE_CHANNELS;
}

/* Loads the item's states from a row of s, or zeros if row is negative. */
static void load_states(const work *w, const ema_state *s, int64_t row) {
  for (int64_t d = w->item->d0; d < w->item->d1; d += TILE_CHANNELS) {
    const int64_t N = w->run->heads, channels = smaller(w->item->d1 - d, TILE_CHANNELS);
    real *to = states_of(w, d);
    if (row < 0 || channels < TILE_CHANNELS)
      memset(to, 0, (size_t)(TILE_CHANNELS * N) * sizeof *to);
    if (row < 0) continue;
    const real *from = (const real *)s->data + row * s->stride_row + d * s->stride_d;
    if (is_compact_of_4(s, N, channels))
      state_in(4, TILE_CHANNELS, from, 4, 1, to);
    else
      state_in(N, channels, from, s->stride_d, s->stride_n, to);
  }
}

/* Saves the item's states to a row of s, unless row is negative. */
static void save_states(const work *w, const ema_state *s, int64_t row) {
  for (int64_t d = w->item->d0; row >= 0 && d < w->item->d1; d += TILE_CHANNELS) {
    const int64_t N = w->run->heads, channels = smaller(w->item->d1 - d, TILE_CHANNELS);
    const real *from = states_of(w, d);
    real *to = (real *)s->data + row * s->stride_row + d * s->stride_d;
    if (is_compact_of_4(s, N, channels))
      state_out(4, TILE_CHANNELS, from, to, 4, 1);
    else
      state_out(N, channels, from, to, s->stride_d, s->stride_n);
  }
}

static work make_work(const ema_plan *plan, const ema_item *item, int worker) {
  const ema_run *run = plan->run;
  work w = {.plan = plan, .run = run, .item = item, .k = &run->TABLE};
  w.x_in_place = run->type == REAL_TYPE && run->x.stride_d == 1;
  w.y_in_place = w.x_in_place && run->y.stride_d == 1;
  const int time_contiguous = run->x.stride_t == 1 && run->x.stride_d != 1;
  w.tile_channels = time_contiguous ? TILE_NARROW_CHANNELS : TILE_CHANNELS;
  w.tile_steps = w.x_in_place ? TILE_IN_PLACE_STEPS : TILE_ELEMENTS / w.tile_channels;

  /* Non-temporal stores are faster from a finished block of one vector than from the
   * recurrence. */
  const cumega_activation activation = (cumega_activation)run->finish_f32.kind;
  w.is_relu = !run->raw && activation == CUMEGA_ACTIVATION_RELU;
  const int is_identity = run->raw || activation == CUMEGA_ACTIVATION_IDENTITY;
  w.fused = w.y_in_place && !plan->stream && (w.is_relu || is_identity);

  char *own = plan->scratch + worker * ema_thread_bytes(plan);
  w.states = (real *)own;
  w.terms = (real *)(own + plan->state_bytes);
  w.history = (real *)(own + plan->state_bytes + plan->terms_bytes);
  return w;
}

void LEVEL(TYPED(ema_item))(void *argument, int64_t index, int worker) {
  const ema_plan *plan = argument;
  const ema_item item = LEVEL(ema_item_of)(plan, index);
  const work w = make_work(plan, &item, worker);
  const int64_t most = w.tile_steps;

  /* In a truncated sequence the steps from K on come first, before y overwrites the x that they
   * read. */
  int64_t chained = item.length;
  if (w.run->truncated && item.length > w.run->truncation) {
    chained = w.run->truncation;
    for (int64_t d = item.d0; d < item.d1; d += w.tile_channels) direct_tile(&w, d);
  }
  load_states(&w, item.initial, item.initial_row);
  for (int64_t t = -item.warmup; t < 0; t += most) chain_block(&w, t, smaller(-t, most), 1);
  if (item.warmup) save_states(&w, &plan->begin, item.final_row);
  for (int64_t t = 0; t < chained; t += most) chain_block(&w, t, smaller(chained - t, most), 0);
  save_states(&w, item.final, item.final_row);

  const element_block rest =
      tile_at(&w, &w.run->y, item.length, item.rows - item.length, item.d0, item.d1 - item.d0);
  if (rest.rows > 0) LEVEL(element_fill)(&rest, 0);
  stream_fence();
}

#include "ema_slices.h"
