/* One long sequence on several threads: its slices of time are items (src/ema_slices.h says why that
 * keeps the bits). Two rounds of the pool:
 *
 *   pass 1, for each slice: the warm-up, then the slice; the states with which it began and ended
 *   pass 2, for each sequence and group of channels: in order of time, slices that began with
 *           another state than the one before ended with are computed again; the final state */
#include "ema_cpu.h"

typedef struct sliced {
  const cumega_ema *ema;
  const ema_run *run;
  const ema_plan *plan;
  char *scratch;
  ema_state begin, end; /* (B * slices, D, N): of each slice */
} sliced;

static int64_t rows_of(const ema_run *run, const ema_plan *p) {
  return run->B * p->slices.count;
}

int64_t LEVEL(ema_sliced_bytes)(const cumega_ema *ema, const ema_run *run, const ema_plan *p) {
  const int64_t real = ema->tables.f64.q != NULL ? (int64_t)sizeof(double) : (int64_t)sizeof(float);
  if (p->slices.count < 2) return 0;
  return 2 * rows_of(run, p) * ema->config.size * ema->config.num_heads * real;
}

static int64_t clamp(int64_t n, int64_t most) {
  return n < 0 ? 0 : n > most ? most : n;
}

/* Slice `slice` of a sequence's group of channels, from and to its rows of begin and end. */
static ema_item slice_of(const sliced *s, const ema_item *whole, int64_t slice) {
  const int64_t steps = s->plan->slices.steps, t = slice * steps;
  ema_item item = *whole;
  item.first = whole->first + t;
  item.length = clamp(whole->length - t, steps);
  item.rows = clamp(whole->rows - t, steps);
  item.initial = &s->begin;
  item.final = &s->end;
  item.initial_row = item.final_row = whole->b * s->plan->slices.count + slice;
  return item;
}

static void run_slice(void *argument, int64_t index, int worker) {
  const sliced *s = argument;
  const ema_plan *p = s->plan;
  const ema_memory parts = ema_memory_of(p, s->scratch, worker);
  const int64_t slice = index / p->groups % p->slices.count;
  const ema_item whole = LEVEL(ema_item_of)(s->ema, s->run, index / p->groups / p->slices.count,
                                            index % p->groups * p->group, p->group);
  ema_item item = slice_of(s, &whole, slice);
  if (slice == 0) {
    item.initial = whole.initial;
    item.initial_row = whole.initial_row;
  } else if (item.length == 0) {
    item.initial_row = item.final_row = -1; /* only zeros behind the sequence's end */
  } else {
    ema_item before = item;
    before.first -= p->slices.warmup;
    before.length = before.rows = p->slices.warmup;
    before.silent = 1;
    before.initial_row = -1;
    before.final = &s->begin;
    LEVEL(ema_item_run)(s->ema, s->run, &before, &parts);
  }
  LEVEL(ema_item_run)(s->ema, s->run, &item, &parts);
  stream_fence();
}

/* Whether the slice began as the one before it ended; ~0, a NaN, stands for every NaN. */
#define DEFINE_BEGAN_RIGHT(name, real, bits)                                                       \
  static int name(const ema_state *begin, const ema_state *end, int64_t row, int64_t d0,           \
                  int64_t d1) {                                                                    \
    const int64_t N = begin->stride_d, count = (d1 - d0) * N;                                      \
    const real *a = (const real *)begin->data + row * begin->stride_row + d0 * N;                  \
    const real *b = (const real *)end->data + (row - 1) * end->stride_row + d0 * N;                \
    for (int64_t i = 0; i < count; i++) {                                                          \
      bits of_a, of_b;                                                                             \
      memcpy(&of_a, a + i, sizeof of_a);                                                           \
      memcpy(&of_b, b + i, sizeof of_b);                                                           \
      if (a[i] != a[i]) of_a = (bits)~0;                                                           \
      if (b[i] != b[i]) of_b = (bits)~0;                                                           \
      if (of_a != of_b) return 0;                                                                  \
    }                                                                                              \
    return 1;                                                                                      \
  }

DEFINE_BEGAN_RIGHT(began_right_f32, float, uint32_t)
DEFINE_BEGAN_RIGHT(began_right_f64, double, uint64_t)

static void check_group(void *argument, int64_t index, int worker) {
  const sliced *s = argument;
  const ema_plan *p = s->plan;
  const ema_memory parts = ema_memory_of(p, s->scratch, worker);
  const ema_item whole =
      LEVEL(ema_item_of)(s->ema, s->run, index / p->groups, index % p->groups * p->group, p->group);
  const int64_t first = whole.b * p->slices.count;
  int64_t slice = 1;
  for (; slice < p->slices.count && slice * p->slices.steps < whole.length; slice++) {
    const int64_t row = first + slice;
    const int right = s->ema->tables.f64.q != NULL
                          ? began_right_f64(&s->begin, &s->end, row, whole.d0, whole.d1)
                          : began_right_f32(&s->begin, &s->end, row, whole.d0, whole.d1);
    if (right) continue;
    ema_item again = slice_of(s, &whole, slice);
    again.initial = &s->end;
    again.initial_row = row - 1;
    LEVEL(ema_item_run)(s->ema, s->run, &again, &parts);
  }
  ema_item last = whole; /* no step: a copy of the state */
  last.length = last.rows = 0;
  last.initial = &s->end;
  last.initial_row = first + slice - 1;
  if (last.final_row >= 0) LEVEL(ema_item_run)(s->ema, s->run, &last, &parts);
  stream_fence();
}

void LEVEL(ema_sliced_cpu)(const cumega_ema *ema, const ema_run *run, const ema_plan *p,
                           char *scratch, char *states) {
  const int64_t D = ema->config.size, N = ema->config.num_heads, rows = rows_of(run, p);
  char *second = states + LEVEL(ema_sliced_bytes)(ema, run, p) / 2;
  sliced s = {.ema = ema,
              .run = run,
              .plan = p,
              .scratch = scratch,
              .begin = {states, rows, D * N, N, 1},
              .end = {second, rows, D * N, N, 1}};
  pool_run(p->pool, run_slice, &s, rows * p->groups);
  pool_run(p->pool, check_group, &s, run->B * p->groups);
}
