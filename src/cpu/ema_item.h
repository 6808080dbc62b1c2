/* One item of a run: a sequence or a slice of it, and a group of its channels, through all its steps. Written once;
 * included by ema_item_f32.c and ema_item_f64.c, which define
 *
 *   NAME(x)                           x with the type's suffix
 *   REAL, VEC, LANES                  the chain's number, a vector of it, and its lanes
 *   LOAD, STORE, FMA                  its vector operations
 *   ADVANCE(q, q_lo, gain, h, x)      one step of one head
 *   RELU, STREAM                      of a vector; and a store past the caches, where
 *   STREAMS(finish)                   says so
 *   LOAD_TILE, ACTIVATE, FINISH_TILE  a tile in from x, through the activation, and out to y
 *   COEFFICIENTS, TABLES, Q_LO        what the EMA's tables are called
 *
 * Time is taken in blocks of a few steps, and within a block channels in tiles: so rows of x and y
 * are touched from left to right while they are in the cache. (Channels carried through all time at
 * once would touch one cache line in every row, each of them a page away from the last: a third of
 * the speed.) Per tile:
 *
 *   load      x as it lies, where it is of our type with channels contiguous; else a copy, widened
 *   chain     ema_chain.h, LANES channels at a time
 *   finish    y = activation(v), narrowed */

#include "ema_chain.h"

/* What an item's tiles have in common. */
typedef struct NAME(work) {
  const cumega_ema *ema;
  const ema_run *run;
  const ema_item *item;
  NAME(chain_function) tile_chain;   /* to v */
  NAME(chain_function) vector_chain; /* to y, with its activation, where fused; else to v */
  NAME(chain) chain;
  ema_finish finish;
  int64_t tile_channels, tile_steps;
  int fused, relu;
  int x_in_place; /* x can be read where it lies */
  int y_in_place; /* and y written */
  REAL *states, *history;
} NAME(work);

/* ReLU, or nothing, can be part of the chain where y is written in place: straight from its registers, but not past the
 * caches, which is faster a vector's block at a time. */
static void NAME(choose_chains)(NAME(work) * w) {
  const cumega_ema_config *config = &w->ema->config;
  const int none = w->run->raw || config->activation == CUMEGA_ACTIVATION_IDENTITY;
  w->relu = !w->run->raw && config->activation == CUMEGA_ACTIVATION_RELU;
  w->tile_chain = w->vector_chain = NAME(choose_chain)(config->num_heads, 0);
  w->fused = 0;
  if (!w->y_in_place || STREAMS(w->finish) || !(w->relu || none)) return;
  NAME(chain_function) fused = NAME(choose_chain)(config->num_heads, w->relu);
  w->fused = fused != NULL;
  if (fused) w->vector_chain = fused;
}

/* Steps from t on of the sequence, and the tile of channels that begins at d. */
static ema_place NAME(place)(const NAME(work) * w, const ema_sequences *tensor, int64_t t,
                             int64_t steps, int64_t d) {
  const ema_item *item = w->item;
  int64_t left = item->d1 - d;
  return (ema_place){tensor, w->run->type,
                     (item->first + t) * tensor->stride_t + item->b * tensor->stride_b +
                         d * tensor->stride_d,
                     steps, left < w->tile_channels ? left : w->tile_channels};
}

static const uint8_t *NAME(mask_of)(const NAME(work) * w, int64_t t, int64_t steps,
                                    uint8_t *masked) {
  const ema_run *run = w->run;
  if (run->mask == NULL) return NULL;
  const uint8_t *from =
      run->mask + w->item->b * run->mask_stride_b + (w->item->first + t) * run->mask_stride_t;
  for (int64_t i = 0; i < steps; i++) masked[i] = from[i * run->mask_stride_t];
  return masked;
}

/* Where a channel of the group has its states: (group / TILE_CHANNELS, N, TILE_CHANNELS). */
static int64_t NAME(state_offset)(int64_t channel, int64_t num_heads) {
  return channel / TILE_CHANNELS * TILE_CHANNELS * num_heads + channel % TILE_CHANNELS;
}

/* The tile's channels in whole vectors. */
static int64_t NAME(width)(const ema_place *place) {
  return (place->channels + LANES - 1) / LANES * LANES;
}

/* Steps t .. t + steps - 1 of the tile of channels that begins at d; steps <= tile_steps. */
static void NAME(chain_tile)(const NAME(work) * w, int64_t t, int64_t steps, int64_t d,
                             const uint8_t *masked) {
  REAL copy[TILE_ELEMENTS] __attribute__((aligned(MEMORY_ALIGNMENT)));
  REAL v[TILE_ELEMENTS] __attribute__((aligned(MEMORY_ALIGNMENT)));
  const ema_place x = NAME(place)(w, &w->run->x, t, steps, d);
  const ema_place y = NAME(place)(w, &w->run->y, t, steps, d);
  const int64_t width = NAME(width)(&x);
  NAME(chain) c = w->chain;
  c.steps = steps;
  c.masked = masked;
  c.x = (const REAL *)x.tensor->data + x.offset;
  c.x_pitch = x.tensor->stride_t;
  c.v_pitch = width;
  if (!w->x_in_place || x.channels < width) {
    LOAD_TILE(&x, copy, width);
    c.x = copy;
    c.x_pitch = width;
  }
  for (int64_t i = 0; i < width; i += LANES) {
    const int64_t at = d + i;
    c.q = w->chain.q + at;
    c.q_lo = w->chain.q_lo + at;
    c.gain = w->chain.gain + at;
    c.projection = w->chain.projection + at;
    c.residual = w->chain.residual + at;
    c.state = w->states + NAME(state_offset)(at - w->item->d0, c.num_heads);
    c.v = v + i;
    w->tile_chain(&c);
    if (!w->item->silent) ACTIVATE(&w->finish, c.v, steps, width);
    c.x += LANES;
  }
  if (w->item->silent) return;
  FINISH_TILE(&w->finish, &y, v, width);
}

/* y = activation(v) of one vector of channels. */
static void NAME(finish_vector)(const NAME(work) * w, int64_t steps, REAL *v, REAL *y) {
  const int64_t pitch = w->run->y.stride_t;
  if (!w->relu) ACTIVATE(&w->finish, v, steps, LANES);
  if (STREAMS(w->finish) && w->relu)
    for (int64_t t = 0; t < steps; t++) STREAM(y + t * pitch, RELU(LOAD(v + t * LANES)));
  else if (STREAMS(w->finish))
    for (int64_t t = 0; t < steps; t++) STREAM(y + t * pitch, LOAD(v + t * LANES));
  else if (w->relu)
    for (int64_t t = 0; t < steps; t++) STORE(y + t * pitch, RELU(LOAD(v + t * LANES)));
  else
    for (int64_t t = 0; t < steps; t++) STORE(y + t * pitch, LOAD(v + t * LANES));
}

/* The same where x and y are numbers of ours with channels contiguous: the group's whole vectors, with nothing
 * between the chain and y but the activation. Returns the channel behind the last of them. */
static int64_t NAME(chain_vectors)(const NAME(work) * w, int64_t t, int64_t steps,
                                   const uint8_t *masked) {
  REAL v[IN_PLACE_STEPS * LANES] __attribute__((aligned(MEMORY_ALIGNMENT)));
  const int64_t d0 = w->item->d0, whole = (w->item->d1 - d0) / LANES * LANES;
  const ema_place x = NAME(place)(w, &w->run->x, t, steps, d0);
  REAL *y = (REAL *)w->run->y.data + NAME(place)(w, &w->run->y, t, steps, d0).offset;
  NAME(chain) c = w->chain;
  c.steps = steps;
  c.masked = masked;
  c.x = (const REAL *)x.tensor->data + x.offset;
  c.x_pitch = x.tensor->stride_t;
  c.v_pitch = w->fused ? w->run->y.stride_t : LANES;
  for (int64_t i = 0; i < whole; i += LANES, c.x += LANES, y += LANES) {
    c.q = w->chain.q + d0 + i;
    c.q_lo = w->chain.q_lo + d0 + i;
    c.gain = w->chain.gain + d0 + i;
    c.projection = w->chain.projection + d0 + i;
    c.residual = w->chain.residual + d0 + i;
    c.state = w->states + NAME(state_offset)(i, c.num_heads);
    c.v = w->fused ? y : v;
    w->vector_chain(&c);
    if (!w->fused) NAME(finish_vector)(w, steps, v, y);
  }
  return d0 + whole;
}

/* The same for every channel of the group. */
static void NAME(chain_block)(const NAME(work) * w, int64_t t, int64_t steps) {
  uint8_t masked[NARROW_TILE_STEPS];
  const uint8_t *mask = NAME(mask_of)(w, t, steps, masked);
  int64_t d = w->item->d0;
  if (w->y_in_place && !w->item->silent) d = NAME(chain_vectors)(w, t, steps, mask);
  for (; d < w->item->d1; d += w->tile_channels) NAME(chain_tile)(w, t, steps, d, mask);
}

/* x~ of a tile's steps t .. t + steps - 1 to rows of the history; x itself to `tile` where it is
 * wanted. */
static void NAME(load_seen)(const NAME(work) * w, int64_t t, int64_t steps, int64_t d, REAL *row,
                            REAL *tile) {
  uint8_t masked[NARROW_TILE_STEPS];
  const ema_place place = NAME(place)(w, &w->run->x, t, steps, d);
  const uint8_t *mask = NAME(mask_of)(w, t, steps, masked);
  const int64_t width = NAME(width)(&place);
  LOAD_TILE(&place, row, width);
  if (tile) memcpy(tile, row, (size_t)(steps * width) * sizeof *row);
  for (int64_t i = 0; mask && i < steps; i++)
    if (mask[i]) memset(row + i * width, 0, (size_t)width * sizeof *row);
}

/* e of `count` steps at once, so that their chains overlap: the sum over j < K of kernel[j] * x~[t
 * - j], the oldest step first. `row` is x~ of the first of them, rows `width` apart. count is a
 * constant at every call. */
static inline __attribute__((always_inline)) void NAME(direct_sums)(const int count,
                                                                    const REAL *kernel, int64_t K,
                                                                    int64_t padded, const REAL *row,
                                                                    int64_t width, VEC *e) {
  UNROLL for (int i = 0; i < count; i++) e[i] = (VEC){0};
  for (int64_t j = K - 1; j >= 0; j--) {
    const VEC k = LOAD(kernel + j * padded);
    UNROLL for (int i = 0; i < count; i++) e[i] = FMA(k, LOAD(row + (i - j) * width), e[i]);
  }
}

#define DIRECT_STEPS 4

/* v of a block of steps, one vector of channels: kernel and residual are at its channel, row, x and
 * v at its lanes. */
static void NAME(direct_block)(const NAME(work) * w, int64_t steps, int64_t width,
                               const REAL *kernel, const REAL *residual, const REAL *row,
                               const REAL *x, REAL *v) {
  const int64_t K = w->ema->config.truncation_length, padded = w->ema->padded;
  VEC e[DIRECT_STEPS];
  for (int64_t i = 0; i < steps;) {
    int64_t count = steps - i < DIRECT_STEPS ? 1 : DIRECT_STEPS;
    if (count == 1)
      NAME(direct_sums)(1, kernel, K, padded, row + i * width, width, e);
    else
      NAME(direct_sums)(DIRECT_STEPS, kernel, K, padded, row + i * width, width, e);
    for (int64_t m = 0; m < count; m++, i++)
      STORE(v + i * width, FMA(LOAD(residual), LOAD(x + i * width), e[m]));
  }
}

/* A tile of channels from step K on. The history holds x~: K - 1 rows before the block, then the
 * block's own, so that y may be x. */
static void NAME(direct_tile)(const NAME(work) * w, int64_t d, const REAL *kernel) {
  REAL x[TILE_ELEMENTS] __attribute__((aligned(MEMORY_ALIGNMENT)));
  REAL v[TILE_ELEMENTS] __attribute__((aligned(MEMORY_ALIGNMENT)));
  const ema_place whole = NAME(place)(w, &w->run->x, 0, 0, d);
  const int64_t before = w->ema->config.truncation_length - 1, width = NAME(width)(&whole);
  REAL *history = w->history, *block = history + before * width;
  for (int64_t r = 0; r < before; r += TILE_STEPS) {
    int64_t left = before - r, steps = left < TILE_STEPS ? left : TILE_STEPS;
    NAME(load_seen)(w, 1 + r, steps, d, history + r * width, NULL);
  }
  for (int64_t t = before + 1; t < w->item->length; t += TILE_STEPS) {
    int64_t left = w->item->length - t, steps = left < TILE_STEPS ? left : TILE_STEPS;
    if (t > before + 1)
      memmove(history, history + TILE_STEPS * width, (size_t)(before * width) * sizeof(REAL));
    NAME(load_seen)(w, t, steps, d, block, x);
    for (int64_t i = 0; i < width; i += LANES) {
      const int64_t at = d + i;
      NAME(direct_block)
      (w, steps, width, kernel + at, w->chain.residual + at, block + i, x + i, v + i);
      ACTIVATE(&w->finish, v + i, steps, width);
    }
    const ema_place y = NAME(place)(w, &w->run->y, t, steps, d);
    FINISH_TILE(&w->finish, &y, v, width);
  }
}

/* A tile's states (N, TILE_CHANNELS) from or to a row of the caller's, channels (stride_d) and
 * heads (stride_n) apart. With N and the strides constant, as they are for a compact row, this
 * becomes shuffles. */
static inline __attribute__((always_inline)) void NAME(state_in)(const int64_t N, int64_t channels,
                                                                 const REAL *from, int64_t stride_d,
                                                                 int64_t stride_n,
                                                                 REAL *restrict to) {
  for (int64_t n = 0; n < N; n++)
    for (int64_t c = 0; c < channels; c++)
      to[n * TILE_CHANNELS + c] = from[c * stride_d + n * stride_n];
}

static inline __attribute__((always_inline)) void
NAME(state_out)(const int64_t N, int64_t channels, const REAL *from, REAL *restrict to,
                int64_t stride_d, int64_t stride_n) {
  for (int64_t c = 0; c < channels; c++)
    for (int64_t n = 0; n < N; n++) to[c * stride_d + n * stride_n] = from[n * TILE_CHANNELS + c];
}

static int NAME(is_compact_of_4)(const ema_state *s, int64_t N, int64_t channels) {
  return N == 4 && s->stride_d == 4 && s->stride_n == 1 && channels == TILE_CHANNELS;
}

static void NAME(load_states)(const NAME(work) * w) {
  const ema_state *s = w->item->initial;
  const int64_t N = w->chain.num_heads, d0 = w->item->d0, d1 = w->item->d1;
  const int64_t row = w->item->initial_row;
  REAL *to = w->states;
  for (int64_t d = d0; d < d1; d += TILE_CHANNELS, to += TILE_CHANNELS * N) {
    const int64_t channels = d1 - d < TILE_CHANNELS ? d1 - d : TILE_CHANNELS;
    if (row < 0 || channels < TILE_CHANNELS)
      memset(to, 0, (size_t)(TILE_CHANNELS * N) * sizeof *to);
    if (row < 0) continue; /* no pointer is made from a row that is not there */
    const REAL *from = (const REAL *)s->data + row * s->stride_row + d * s->stride_d;
    if (NAME(is_compact_of_4)(s, N, channels))
      NAME(state_in)(4, TILE_CHANNELS, from, 4, 1, to);
    else
      NAME(state_in)(N, channels, from, s->stride_d, s->stride_n, to);
  }
}

static void NAME(save_states)(const NAME(work) * w) {
  const ema_state *s = w->item->final;
  const int64_t N = w->chain.num_heads, d0 = w->item->d0, d1 = w->item->d1;
  const int64_t row = w->item->final_row;
  const REAL *from = w->states;
  for (int64_t d = d0; row >= 0 && d < d1; d += TILE_CHANNELS, from += TILE_CHANNELS * N) {
    const int64_t channels = d1 - d < TILE_CHANNELS ? d1 - d : TILE_CHANNELS;
    REAL *to = (REAL *)s->data + row * s->stride_row + d * s->stride_d;
    if (NAME(is_compact_of_4)(s, N, channels))
      NAME(state_out)(4, TILE_CHANNELS, from, to, 4, 1);
    else
      NAME(state_out)(N, channels, from, to, s->stride_d, s->stride_n);
  }
}

/* What lies behind a padded sequence's end. */
static void NAME(zero_rest)(const NAME(work) * w) {
  const ema_item *item = w->item;
  if (item->length >= item->rows) return;
  ema_place place = NAME(place)(w, &w->run->y, item->length, item->rows - item->length, item->d0);
  place.channels = w->item->d1 - w->item->d0;
  LEVEL(ema_zero)(&place);
}

void LEVEL(NAME(ema_item))(const cumega_ema *ema, const ema_run *run, const ema_item *item,
                           const ema_memory *parts) {
  const COEFFICIENTS *k = &ema->tables.TABLES;
  NAME(work) w = {.ema = ema, .run = run, .item = item};
  w.finish = LEVEL(ema_finish_of)(ema, run);
  w.chain.q = k->q;
  w.chain.q_lo = Q_LO(k);
  w.chain.gain = k->gain;
  w.chain.projection = k->projection;
  w.chain.residual = k->residual;
  w.chain.pitch = ema->padded;
  w.chain.num_heads = ema->config.num_heads;
  w.chain.terms = parts->terms;
  w.chain.raw = run->raw;
  w.x_in_place = run->type == REAL_TYPE && run->x.stride_d == 1;
  w.y_in_place = w.x_in_place && run->y.stride_d == 1;
  NAME(choose_chains)(&w);
  int time_contiguous = run->x.stride_t == 1 && run->x.stride_d != 1;
  w.tile_channels = time_contiguous ? NARROW_TILE_CHANNELS : TILE_CHANNELS;
  w.tile_steps = w.x_in_place ? IN_PLACE_STEPS : TILE_ELEMENTS / w.tile_channels;
  w.states = parts->state;
  w.history = parts->history;

  /* From step K of a truncated sequence on: first, while x is still the caller's where y is x. */
  int64_t chained = item->length;
  if (run->truncated && item->length > ema->config.truncation_length) {
    chained = ema->config.truncation_length;
    for (int64_t d = item->d0; d < item->d1; d += w.tile_channels)
      NAME(direct_tile)(&w, d, k->kernel);
  }
  NAME(load_states)(&w);
  int64_t block = w.tile_steps;
  for (int64_t t = 0; t < chained; t += block)
    NAME(chain_block)(&w, t, chained - t < block ? chained - t : block);
  NAME(save_states)(&w);
  NAME(zero_rest)(&w);
}
