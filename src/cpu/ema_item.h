/* One item of a run: one sequence and a group of its channels, through all its steps. Written once;
 * included by ema_item_f32.c and ema_item_f64.c, which define
 *
 *   NAME(x)                    x with the type's suffix
 *   REAL, VEC, LANES           the number of the state and of the chain, a vector of it, and its
 * lanes LOAD, STORE, FMA           its vector operations ADVANCE(q, q_lo, gain, h, x)   one step of
 * one head LOAD_TILE, FINISH_TILE     a tile in from x, and out to y COEFFICIENTS, Q_LO what the
 * EMA's tables are called
 *
 * Time is taken in blocks of a few steps, and within a block channels LANES at a time: so rows of x
 * and y are touched from left to right while they are in the cache, and a tile's states and
 * coefficients are in registers for a block. (A tile carried through all time at once would touch
 * one cache line in every row, each of them a page away from the last: a third of the speed.) Per
 * tile:
 *
 *   load      x as it lies, where it is of our type with channels contiguous; else a copy, widened
 *   chain     h = fma(q_hi, h, fma(q_lo, h, gain * x~)) per head; e = tree of projection * h;
 *             v = fma(residual_weight, x, e)
 *   finish    y = activation(v), narrowed
 *
 * 4 N + 4 vector operations per LANES elements without the activation, N = 4: 20. */

/* The chain's coefficients at one tile, and where it reads and writes. */
typedef struct NAME(chain) {
  const REAL *q, *q_lo, *gain, *projection; /* (num_heads, pitch) */
  const REAL *residual;
  int64_t pitch, num_heads;
  int64_t steps;
  const REAL *x; /* (steps, LANES), x_pitch apart */
  int64_t x_pitch;
  const uint8_t *masked; /* (steps), or NULL */
  REAL *state;           /* (num_heads, LANES) */
  REAL *terms;           /* the same, scratch of the general chain */
  REAL *v;               /* (steps, LANES) */
  int raw;
} NAME(chain);

#define UNROLL    _Pragma("GCC unroll 16")
#define HEADS_MAX 16

/* N is a constant at every call, a power of two up to HEADS_MAX: the arrays become registers. */
static inline __attribute__((always_inline)) void NAME(chain_of)(const int N,
                                                                 const NAME(chain) * c) {
  VEC h[HEADS_MAX], q[HEADS_MAX], q_lo[HEADS_MAX], gain[HEADS_MAX], projection[HEADS_MAX];
  UNROLL for (int n = 0; n < N; n++) {
    h[n] = LOAD(c->state + n * LANES);
    q[n] = LOAD(c->q + n * c->pitch);
    q_lo[n] = LOAD(c->q_lo + n * c->pitch);
    gain[n] = LOAD(c->gain + n * c->pitch);
    projection[n] = LOAD(c->projection + n * c->pitch);
  }
  const VEC residual = LOAD(c->residual), zero = {0};
  for (int64_t t = 0; t < c->steps; t++) {
    const VEC x = LOAD(c->x + t * c->x_pitch);
    const VEC x_seen = c->masked && c->masked[t] ? zero : x;
    VEC term[HEADS_MAX];
    UNROLL for (int n = 0; n < N; n++) {
      h[n] = ADVANCE(q[n], q_lo[n], gain[n], h[n], x_seen);
      term[n] = projection[n] * h[n];
    }
    UNROLL for (int stride = N / 2; stride > 0; stride /= 2) UNROLL for (int n = 0; n < stride; n++)
        term[n] += term[n + stride];
    STORE(c->v + t * LANES, c->raw ? term[0] : FMA(residual, x, term[0]));
  }
  UNROLL for (int n = 0; n < N; n++) STORE(c->state + n * LANES, h[n]);
}

/* Any number of heads: states and terms stay in the first-level cache. */
static void NAME(chain_general)(const NAME(chain) * c) {
  const int64_t N = c->num_heads;
  const VEC residual = LOAD(c->residual), zero = {0};
  int64_t first_stride = 1;
  while (2 * first_stride < N) first_stride *= 2;
  for (int64_t t = 0; t < c->steps; t++) {
    const VEC x = LOAD(c->x + t * c->x_pitch);
    const VEC x_seen = c->masked && c->masked[t] ? zero : x;
    for (int64_t n = 0; n < N; n++) {
      const int64_t at = n * c->pitch;
      VEC h = LOAD(c->state + n * LANES);
      h = ADVANCE(LOAD(c->q + at), LOAD(c->q_lo + at), LOAD(c->gain + at), h, x_seen);
      STORE(c->state + n * LANES, h);
      STORE(c->terms + n * LANES, LOAD(c->projection + at) * h);
    }
    for (int64_t stride = first_stride; stride > 0; stride /= 2)
      for (int64_t n = 0; n < stride && n + stride < N; n++)
        STORE(c->terms + n * LANES,
              LOAD(c->terms + n * LANES) + LOAD(c->terms + (n + stride) * LANES));
    const VEC e = LOAD(c->terms);
    STORE(c->v + t * LANES, c->raw ? e : FMA(residual, x, e));
  }
}

static void NAME(chain_1)(const NAME(chain) * c) {
  NAME(chain_of)(1, c);
}
static void NAME(chain_2)(const NAME(chain) * c) {
  NAME(chain_of)(2, c);
}
static void NAME(chain_4)(const NAME(chain) * c) {
  NAME(chain_of)(4, c);
}
static void NAME(chain_8)(const NAME(chain) * c) {
  NAME(chain_of)(8, c);
}
static void NAME(chain_16)(const NAME(chain) * c) {
  NAME(chain_of)(16, c);
}

typedef void (*NAME(chain_function))(const NAME(chain) *);

static NAME(chain_function) NAME(choose_chain)(int64_t num_heads) {
  switch (num_heads) {
  case 1: return NAME(chain_1);
  case 2: return NAME(chain_2);
  case 4: return NAME(chain_4);
  case 8: return NAME(chain_8);
  case 16: return NAME(chain_16);
  default: return NAME(chain_general);
  }
}

/* What an item's tiles have in common. */
typedef struct NAME(work) {
  const cumega_ema *ema;
  const ema_run *run;
  const ema_item *item;
  NAME(chain_function) run_chain;
  NAME(chain) chain;
  ema_finish finish;
  int x_in_place; /* x can be read where it lies */
  REAL *states, *history;
} NAME(work);

/* Step t of the sequence, channels d .. d + LANES - 1 as far as the group reaches. */
static ema_place NAME(place)(const NAME(work) * w, const ema_sequences *tensor, int64_t t,
                             int64_t steps, int64_t d) {
  const ema_item *item = w->item;
  int64_t left = item->d1 - d;
  return (ema_place){tensor, w->run->type,
                     (item->first + t) * tensor->stride_t + item->b * tensor->stride_b +
                         d * tensor->stride_d,
                     steps, left < LANES ? left : LANES};
}

static const uint8_t *NAME(mask_of)(const NAME(work) * w, int64_t t, int64_t steps,
                                    uint8_t *masked) {
  const ema_run *run = w->run;
  if (run->mask == NULL) return NULL;
  const uint8_t *from = run->mask + w->item->b * run->mask_stride_b + t * run->mask_stride_t;
  for (int64_t i = 0; i < steps; i++) masked[i] = from[i * run->mask_stride_t];
  return masked;
}

/* The next LANES channels of a place. */
static void NAME(next_tile)(const NAME(work) * w, ema_place *place, int64_t d) {
  int64_t left = w->item->d1 - d - LANES;
  place->offset += LANES * place->tensor->stride_d;
  place->channels = left < LANES ? left : LANES;
}

/* The chain's coefficients and states at a group's first tile, and at the one after it. */
static NAME(chain) NAME(first_chain)(const NAME(work) * w) {
  NAME(chain) c = w->chain;
  int64_t d0 = w->item->d0;
  c.q += d0;
  c.q_lo += d0;
  c.gain += d0;
  c.projection += d0;
  c.residual += d0;
  c.state = w->states;
  return c;
}

static void NAME(next_chain)(NAME(chain) * c) {
  c->q += LANES;
  c->q_lo += LANES;
  c->gain += LANES;
  c->projection += LANES;
  c->residual += LANES;
  c->state += LANES * c->num_heads;
}

/* Steps t .. t + steps - 1 of every channel of the group, steps <= TILE_STEPS. */
static void NAME(chain_block)(const NAME(work) * w, int64_t t, int64_t steps) {
  REAL copy[TILE_STEPS * LANES] __attribute__((aligned(MEMORY_ALIGNMENT)));
  REAL v[TILE_STEPS * LANES] __attribute__((aligned(MEMORY_ALIGNMENT)));
  uint8_t masked[TILE_STEPS];
  ema_place x = NAME(place)(w, &w->run->x, t, steps, w->item->d0);
  ema_place y = NAME(place)(w, &w->run->y, t, steps, w->item->d0);
  NAME(chain) c = NAME(first_chain)(w);
  c.steps = steps;
  c.masked = NAME(mask_of)(w, t, steps, masked);
  c.v = v;
  for (int64_t d = w->item->d0; d < w->item->d1; d += LANES) {
    if (w->x_in_place && x.channels == LANES) {
      c.x = (const REAL *)x.tensor->data + x.offset;
      c.x_pitch = x.tensor->stride_t;
    } else {
      LOAD_TILE(&x, copy);
      c.x = copy;
      c.x_pitch = LANES;
    }
    w->run_chain(&c);
    FINISH_TILE(&w->finish, &y, v);
    NAME(next_tile)(w, &x, d);
    NAME(next_tile)(w, &y, d);
    NAME(next_chain)(&c);
  }
}

/* x~ of steps t .. t + steps - 1 to rows of the history; x itself to `tile` where it is wanted. */
static void NAME(load_seen)(const NAME(work) * w, int64_t t, int64_t steps, int64_t d, REAL *row,
                            REAL *tile) {
  uint8_t masked[TILE_STEPS];
  const ema_place place = NAME(place)(w, &w->run->x, t, steps, d);
  const uint8_t *mask = NAME(mask_of)(w, t, steps, masked);
  LOAD_TILE(&place, row);
  if (tile) memcpy(tile, row, (size_t)(steps * LANES) * sizeof *row);
  for (int64_t i = 0; mask && i < steps; i++)
    if (mask[i]) memset(row + i * LANES, 0, LANES * sizeof *row);
}

/* e of `count` steps at once, so that their chains overlap: the sum over j < K of kernel[j] * x~[t
 * - j], the oldest step first. `row` is x~ of the first of them. count is a constant at every call.
 */
static inline __attribute__((always_inline)) void NAME(direct_sums)(const int count,
                                                                    const REAL *kernel, int64_t K,
                                                                    int64_t padded, const REAL *row,
                                                                    VEC *e) {
  UNROLL for (int i = 0; i < count; i++) e[i] = (VEC){0};
  for (int64_t j = K - 1; j >= 0; j--) {
    const VEC k = LOAD(kernel + j * padded);
    UNROLL for (int i = 0; i < count; i++) e[i] = FMA(k, LOAD(row + (i - j) * LANES), e[i]);
  }
}

#define DIRECT_STEPS 4

/* A tile from step K on, the caller's x having been kept until here. */
static void NAME(direct_tile)(const NAME(work) * w, int64_t d, const REAL *kernel) {
  REAL x[TILE_STEPS * LANES] __attribute__((aligned(MEMORY_ALIGNMENT)));
  REAL v[TILE_STEPS * LANES] __attribute__((aligned(MEMORY_ALIGNMENT)));
  const int64_t K = w->ema->config.truncation_length, padded = w->ema->padded;
  const VEC residual = LOAD(w->chain.residual + d);
  REAL *history = w->history; /* K - 1 rows of x~ before the block, then the block's own */
  REAL *block = history + (K - 1) * LANES;
  for (int64_t r = 0; r < K - 1; r += TILE_STEPS) {
    int64_t left = K - 1 - r, steps = left < TILE_STEPS ? left : TILE_STEPS;
    NAME(load_seen)(w, 1 + r, steps, d, history + r * LANES, NULL);
  }
  for (int64_t t = K; t < w->item->length; t += TILE_STEPS) {
    int64_t left = w->item->length - t, steps = left < TILE_STEPS ? left : TILE_STEPS, i = 0;
    if (t > K)
      memmove(history, history + TILE_STEPS * LANES, (size_t)((K - 1) * LANES) * sizeof(REAL));
    NAME(load_seen)(w, t, steps, d, block, x);
    while (i < steps) {
      VEC e[DIRECT_STEPS];
      int64_t count = steps - i < DIRECT_STEPS ? 1 : DIRECT_STEPS;
      if (count == 1)
        NAME(direct_sums)(1, kernel + d, K, padded, block + i * LANES, e);
      else
        NAME(direct_sums)(DIRECT_STEPS, kernel + d, K, padded, block + i * LANES, e);
      for (int64_t m = 0; m < count; m++, i++)
        STORE(v + i * LANES, FMA(residual, LOAD(x + i * LANES), e[m]));
    }
    const ema_place y = NAME(place)(w, &w->run->y, t, steps, d);
    FINISH_TILE(&w->finish, &y, v);
  }
}

/* A tile's states (N, LANES) from or to a row of the caller's, channels (stride_d) and heads
 * (stride_n) apart. With N and both strides constant, as they are for a compact row, it becomes
 * shuffles. */
static inline __attribute__((always_inline)) void NAME(state_in)(const int64_t N, int64_t channels,
                                                                 const REAL *from, int64_t stride_d,
                                                                 int64_t stride_n, REAL *to) {
  for (int64_t n = 0; n < N; n++)
    for (int64_t c = 0; c < channels; c++) to[n * LANES + c] = from[c * stride_d + n * stride_n];
}

static inline __attribute__((always_inline)) void NAME(state_out)(const int64_t N, int64_t channels,
                                                                  const REAL *from, REAL *to,
                                                                  int64_t stride_d,
                                                                  int64_t stride_n) {
  for (int64_t c = 0; c < channels; c++)
    for (int64_t n = 0; n < N; n++) to[c * stride_d + n * stride_n] = from[n * LANES + c];
}

static void NAME(load_states)(const NAME(work) * w) {
  const ema_state *s = &w->run->initial;
  const int64_t N = w->chain.num_heads, d0 = w->item->d0, d1 = w->item->d1;
  const int64_t row = ema_state_row(s, &w->run->initial_slots, w->item->b);
  REAL *to = w->states;
  for (int64_t d = d0; d < d1; d += LANES, to += LANES * N) {
    const REAL *from = (const REAL *)s->data + row * s->stride_row + d * s->stride_d;
    if (row < 0 || d1 - d < LANES) memset(to, 0, (size_t)(LANES * N) * sizeof *to);
    if (row < 0) continue;
    if (d1 - d < LANES || s->stride_n != 1 || s->stride_d != 4 || N != 4)
      NAME(state_in)(N, d1 - d < LANES ? d1 - d : LANES, from, s->stride_d, s->stride_n, to);
    else
      NAME(state_in)(4, LANES, from, 4, 1, to);
  }
}

static void NAME(save_states)(const NAME(work) * w) {
  const ema_state *s = &w->run->final;
  const int64_t N = w->chain.num_heads, d0 = w->item->d0, d1 = w->item->d1;
  const int64_t row = ema_state_row(s, &w->run->final_slots, w->item->b);
  const REAL *from = w->states;
  for (int64_t d = d0; row >= 0 && d < d1; d += LANES, from += LANES * N) {
    REAL *to = (REAL *)s->data + row * s->stride_row + d * s->stride_d;
    if (d1 - d < LANES || s->stride_n != 1 || s->stride_d != 4 || N != 4)
      NAME(state_out)(N, d1 - d < LANES ? d1 - d : LANES, from, to, s->stride_d, s->stride_n);
    else
      NAME(state_out)(4, LANES, from, to, 4, 1);
  }
}

/* What lies behind a padded sequence's end. */
static void NAME(zero_rest)(const NAME(work) * w) {
  const ema_run *run = w->run;
  if (run->packed || w->item->length == run->L) return;
  ema_place place = NAME(place)(w, &run->y, w->item->length, run->L - w->item->length, w->item->d0);
  place.channels = w->item->d1 - w->item->d0;
  LEVEL(ema_zero)(&place);
}

void LEVEL(NAME(ema_item))(const cumega_ema *ema, const ema_run *run, const ema_item *item,
                           const ema_memory *parts) {
  const COEFFICIENTS *k = &ema->tables.TABLES;
  NAME(work) w = {.ema = ema, .run = run, .item = item};
  w.run_chain = NAME(choose_chain)(ema->config.num_heads);
  w.chain.q = k->q;
  w.chain.q_lo = Q_LO(k);
  w.chain.gain = k->gain;
  w.chain.projection = k->projection;
  w.chain.residual = k->residual;
  w.chain.pitch = ema->padded;
  w.chain.num_heads = ema->config.num_heads;
  w.chain.terms = parts->terms;
  w.chain.raw = run->raw;
  w.finish = LEVEL(ema_finish_of)(ema, run);
  w.x_in_place = run->type == REAL_TYPE && run->x.stride_d == 1;
  w.states = parts->state;
  w.history = parts->history;

  /* From step K of a truncated sequence on: first, while x is still the caller's where y is x. */
  int64_t chained = item->length;
  if (run->truncated && item->length > ema->config.truncation_length) {
    chained = ema->config.truncation_length;
    for (int64_t d = item->d0; d < item->d1; d += LANES) NAME(direct_tile)(&w, d, k->kernel);
  }
  NAME(load_states)(&w);
  int64_t block = w.x_in_place ? IN_PLACE_STEPS : TILE_STEPS;
  for (int64_t t = 0; t < chained; t += block)
    NAME(chain_block)(&w, t, chained - t < block ? chained - t : block);
  NAME(save_states)(&w);
  NAME(zero_rest)(&w);
}
