/* Truncated sums, from step K = truncation_length on; part of ema_item.h.
 *
 *   e[t] = sum over j < K of kernel[j] * x[t - j], the oldest step first; x is 0 where masked
 *   v[t] = fma(residual_weight, x[t], e[t]) */

/* Computes `count` steps at once, so that their latencies overlap. count is a constant in every
 * call. kernel is (K, padded). row is x of the first step; rows are `width` apart. */
ALWAYS_INLINE void direct_sums(const int count, const work *w, const real *kernel, const real *row,
                               int64_t width, vec *e) {
  UNROLL for (int i = 0; i < count; i++) e[i] = (vec){0};
  for (int64_t j = w->run->truncation - 1; j >= 0; j--) {
    const vec k = vec_load(kernel + j * w->run->padded);
    UNROLL for (int i = 0; i < count; i++) e[i] =
        vec_fma(k, vec_load(row + (i - j) * width), e[i]);
  }
}

/* One vector of channels, from d on. row is x with masked steps set to 0, x the input as it was
 * given. Steps of row, x and v are `width` apart. */
static void direct_block(const work *w, int64_t steps, int64_t width, int64_t d, const real *row,
                         const real *x, real *v) {
  const vec residual = vec_load(w->k->residual + d);
  vec e[DIRECT_STEPS];
  for (int64_t i = 0; i < steps;) {
    const int64_t count = steps - i < DIRECT_STEPS ? 1 : DIRECT_STEPS;
    if (count == 1)
      direct_sums(1, w, w->k->kernel + d, row + i * width, width, e);
    else
      direct_sums(DIRECT_STEPS, w, w->k->kernel + d, row + i * width, width, e);
    for (int64_t m = 0; m < count; m++, i++)
      vec_store(v + i * width, vec_fma(residual, vec_load(x + i * width), e[m]));
  }
}

/* Loads a tile of x into rows of the history, with masked steps set to 0, and into x unless that
 * is NULL. */
static void load_history(const work *w, int64_t t, int64_t steps, int64_t d, int64_t width,
                         real *rows, real *x) {
  uint8_t masked[TILE_STEPS_MAX];
  const uint8_t *mask = mask_of(w, t, steps, masked);
  const int64_t channels = smaller(w->item->d1 - d, w->tile_channels);
  load_tile(w, t, steps, d, channels, rows, width);
  if (x) memcpy(x, rows, (size_t)(steps * width) * sizeof *rows);
  for (int64_t i = 0; mask && i < steps; i++)
    if (mask[i]) memset(rows + i * width, 0, (size_t)width * sizeof *rows);
}

/* One tile of channels, from step K on. The history holds the K - 1 rows before a block and the
 * rows of the block, so that y may overwrite x. */
static void direct_tile(const work *w, int64_t d) {
  real x[TILE_ELEMENTS] __attribute__((aligned(MEMORY_ALIGNMENT)));
  real v[TILE_ELEMENTS] __attribute__((aligned(MEMORY_ALIGNMENT)));
  const int64_t before = w->run->truncation - 1,
                channels = smaller(w->item->d1 - d, w->tile_channels);
  const int64_t width = round_up(channels, LANES);
  real *history = w->history, *rows = history + before * width;
  for (int64_t r = 0; r < before; r += TILE_STEPS)
    load_history(w, 1 + r, smaller(before - r, TILE_STEPS), d, width, history + r * width, NULL);
  for (int64_t t = w->run->truncation; t < w->item->length; t += TILE_STEPS) {
    const int64_t steps = smaller(w->item->length - t, TILE_STEPS);
    if (t > w->run->truncation)
      memmove(history, history + TILE_STEPS * width, (size_t)(before * width) * sizeof *history);
    load_history(w, t, steps, d, width, rows, x);
    for (int64_t i = 0; i < width; i += LANES) {
      direct_block(w, steps, width, d + i, rows + i, x + i, v + i);
      activate(w, v + i, steps, width);
    }
    store_tile(w, t, steps, d, channels, v, width);
  }
}
