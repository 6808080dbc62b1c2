#include "ema_runs.h"
#include <float.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define MOST_THREADS 3
static cumega_context *contexts[CPU_LEVELS][MOST_THREADS + 1];
static cumega_context *device_context;

cumega_context *runs_context(int level, int threads) {
  static int lacking[CPU_LEVELS];
  if (threads < 1) threads = 1;
  cumega_context **ctx = &contexts[level][threads];
  for (int below = level; *ctx == NULL && below >= 0; below--) {
    if (!lacking[below]) *ctx = context_of_level(cpu_levels[below], threads);
    lacking[below] = *ctx == NULL;
  }
  return *ctx;
}

cumega_context *runs_device(void) {
  if (device_context == NULL) device_context = context_new();
  return device_context;
}

void runs_end(void) {
  cumega_context_destroy(device_context);
  device_context = NULL;
  for (int level = 0; level < CPU_LEVELS; level++)
    for (int threads = 0; threads <= MOST_THREADS; threads++) {
      cumega_context_destroy(contexts[level][threads]);
      contexts[level][threads] = NULL;
    }
}

/* ---- problems ---- */

static double special_value(uint64_t *seed) {
  static const double values[] = {NAN,    INFINITY, -INFINITY, 3e38,   -1e38, 1e-40,
                                  -1e-45, -0.0,     0.0,       1e-320, 6e4,   0x1p-24};
  return values[random_below(seed, sizeof values / sizeof values[0])];
}

static void fill_parameters(test_parameters *parameters, uint64_t *seed) {
  int64_t count = parameters->channels * parameters->heads;
  for (int64_t i = 0; i < count; i++) {
    parameters->damping[i] = (float)(2.0 * random_noise(seed));
    parameters->decay[i] = (float)(2.0 * random_noise(seed));
    parameters->expansion[i] = (float)random_noise(seed);
    parameters->projection[i] = (float)random_noise(seed);
  }
  for (int64_t d = 0; d < parameters->channels; d++)
    parameters->residual[d] = (float)random_noise(seed);
}

static cumega_ema_config config_of(const recipe *r) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, r->D);
  config.num_heads = r->N;
  config.state_dtype = r->state_dtype;
  config.activation = r->activation;
  if (r->truncation > 0) config.truncation_length = r->truncation;
  if (!r->odd_arguments) return config;
  config.activation_arguments.swish_beta = 1.75;
  config.activation_arguments.leakyrelu_neg_slope = -0.3;
  config.activation_arguments.hardtanh_max_val = 0.4;
  config.activation_arguments.smish_alpha = 2.1;
  config.activation_arguments.smish_beta = 0.45;
  config.activation_arguments.ftswish_threshold = -0.35;
  config.activation_arguments.ftswish_mean_shift = 0.1;
  return config;
}

problem *problem_new(const recipe *r) {
  problem *p = memory_new(sizeof *p);
  uint64_t seed = r->seed;
  p->made_from = *r;
  p->parameters = parameters_new(r->D, r->N);
  fill_parameters(p->parameters, &seed);
  p->lengths = memory_new(r->B * 8);
  p->starts = memory_new(r->B * 8);
  for (int64_t b = 0; b < r->B; b++) {
    p->lengths[b] = b == 0 ? r->L : random_below(&seed, r->L + 1);
    p->starts[b] = p->steps;
    p->steps += p->lengths[b];
  }
  p->x = memory_new(p->steps * r->D * 8);
  for (int64_t i = 0; i < p->steps * r->D; i++) {
    double value = random_noise(&seed);
    if (r->special && random_below(&seed, 50) == 0) value = special_value(&seed);
    p->x[i] = number_round(r->dtype, value);
  }
  if (r->masked) p->mask = memory_new(p->steps);
  for (int64_t t = 0; t < p->steps && r->masked; t++) p->mask[t] = random_below(&seed, 3) == 0;
  if (r->stateful) p->state = memory_new(r->B * r->D * r->N * 8);
  for (int64_t i = 0; i < r->B * r->D * r->N && r->stateful; i++)
    p->state[i] = number_round(r->state_dtype, random_noise(&seed));
  p->ema = ema_new(runs_context(0, 1), config_of(r), p->parameters, cumega_float64);
  if (device_is_cuda())
    p->ema_of_device = ema_new(runs_device(), config_of(r), p->parameters, cumega_float64);
  return p;
}

void problem_free(problem *p) {
  cumega_ema_destroy(p->ema);
  cumega_ema_destroy(p->ema_of_device);
  parameters_free(p->parameters);
  free(p->lengths);
  free(p->starts);
  free(p->x);
  free(p->mask);
  free(p->state);
  free(p);
}

/* ---- one call ---- */

/* A run of steps of one sequence; sequence < 0: one that is not part of the problem. */
typedef struct piece {
  int64_t sequence, first, count;
} piece;

typedef struct call {
  const problem *p;
  const way *w;
  const piece *pieces;
  int64_t count; /* of pieces */
  double *state; /* (B, D, N), one state per sequence; NULL: no state is read or kept */
  outcome *out;
  uint64_t seed;
  int on_cpu; /* wherever the suites run */
  int packed, step;
  int64_t rows; /* time steps of x, or packed rows */
  int64_t lead; /* packed rows before the first sequence */
  test_tensor *x, *y, *mask, *lengths, *offsets, *initial, *final, *initial_slots, *final_slots;
} call;

static void fault(outcome *out, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void fault(outcome *out, const char *format, ...) {
  if (out->fault[0] != '\0') return;
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(out->fault, sizeof out->fault, format, arguments);
  va_end(arguments);
}

/* The layout of an x or y; dims is 3 for (L, B, D), 2 for (rows, D). */
static test_layout layout_of(const way *w, int which, int dims, uint64_t *seed) {
  static const int orders[LAYOUTS][3] = {{0, 1, 2}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}};
  test_layout layout = {0};
  layout.ordered = 1;
  for (int i = 0; i < dims; i++) layout.order[i] = dims == 3 ? orders[which][i] : i;
  if (dims == 2 && which >= CHANNELS_FIRST) layout.order[0] = 1, layout.order[1] = 0;
  if (which == STRIDED) {
    for (int i = 0; i < dims; i++) layout.gap[i] = random_below(seed, 4);
    layout.reversed = (unsigned)random_below(seed, 8);
  }
  if (w->misaligned) layout.shift = 1 + random_below(seed, 7);
  layout.by_offset = w->misaligned && random_below(seed, 2);
  return layout;
}

static test_tensor *index_tensor(call *c, int64_t count, const int64_t *values) {
  test_layout layout = {0};
  if (c->w->misaligned) {
    layout.shift = 1;
    layout.gap[0] = 1;
    layout.reversed = (unsigned)random_below(&c->seed, 2);
  }
  DLDataType type = c->w->narrow_indices ? cumega_int32 : cumega_int64;
  test_tensor *tensor = tensor_new(type, 1, &count, &layout);
  for (int64_t i = 0; i < count; i++) tensor_set(tensor, i, 0, 0, (double)values[i]);
  return tensor;
}

/* The indices of step t of piece i in x and y. */
static void place(const call *c, int64_t i, int64_t t, int64_t *index) {
  int64_t before = c->lead;
  for (int64_t j = 0; j < i && c->packed; j++) before += c->pieces[j].count;
  index[0] = c->packed ? before + t : t;
  index[1] = c->packed ? 0 : i;
  if (c->step) index[0] = i;
}

/* x, y and mask. Rows that belong to no sequence hold poison, which must never be read. */
static void make_inputs(call *c) {
  const recipe *r = &c->p->made_from;
  int flat = c->packed || c->step;
  int64_t shape[3] = {c->rows, flat ? r->D : c->count, r->D};
  if (c->step) shape[0] = c->count;
  test_layout x_layout = layout_of(c->w, c->w->x_layout, flat ? 2 : 3, &c->seed);
  test_layout y_layout = layout_of(c->w, c->w->y_layout, flat ? 2 : 3, &c->seed);
  c->x = tensor_new(r->dtype, flat ? 2 : 3, shape, &x_layout);
  c->y = c->w->in_place ? c->x : tensor_new(r->dtype, flat ? 2 : 3, shape, &y_layout);
  if (c->p->mask != NULL) {
    test_layout layout = layout_of(c->w, c->w->x_layout == STRIDED ? STRIDED : 0, 2, &c->seed);
    DLDataType type = random_below(&c->seed, 2) ? cumega_bool : cumega_uint8;
    c->mask = tensor_new(type, 2, (int64_t[]){c->count, c->rows}, &layout);
  }
  for (int64_t i = 0; i < c->count; i++) {
    const piece *each = &c->pieces[i];
    for (int64_t t = 0; t < each->count; t++) {
      int64_t at[2],
          step = each->sequence < 0 ? 0 : c->p->starts[each->sequence] + each->first + t;
      place(c, i, t, at);
      if (c->mask != NULL) tensor_set(c->mask, i, t, 0, each->sequence >= 0 && c->p->mask[step]);
      for (int64_t d = 0; d < r->D; d++) {
        double value =
            each->sequence < 0 ? ((t + d) % 2 ? NAN : INFINITY) : c->p->x[step * r->D + d];
        tensor_set(c->x, at[0], flat ? d : at[1], flat ? 0 : d, value);
      }
    }
  }
}

static void make_lengths(call *c) {
  int64_t *values = memory_new((c->count + 1) * 8), uneven = c->w->padding > 0 || c->count == 0;
  values[0] = c->lead;
  for (int64_t i = 0; i < c->count && c->packed; i++)
    values[i + 1] = values[i] + c->pieces[i].count;
  for (int64_t i = 0; i < c->count && !c->packed; i++) {
    values[i] = c->pieces[i].count;
    uneven |= values[i] != c->rows;
  }
  if (c->packed) c->offsets = index_tensor(c, c->count + 1, values);
  if (!c->packed && !c->step && uneven) c->lengths = index_tensor(c, c->count, values);
  free(values);
}

/* States by row or in pools. A pool has rows that no slot names. If one pool is read and written,
 * a sequence writes to the row it reads or to one that no sequence reads. */
static void make_states(call *c) {
  const recipe *r = &c->p->made_from;
  if (c->state == NULL) return;
  int64_t rows = c->w->pool ? 2 * c->count + 3 : c->count;
  test_layout layout = layout_of(c->w, c->w->x_layout == STRIDED ? STRIDED : 0, 3, &c->seed);
  c->initial = tensor_new(r->state_dtype, 3, (int64_t[]){rows, r->D, r->N}, &layout);
  c->final = c->initial;
  if (!c->w->state_in_place) c->final = tensor_new_3(r->state_dtype, rows, r->D, r->N);
  int64_t *from = memory_new((2 * c->count + 1) * 8), *to = from + c->count;
  int64_t turn = random_below(&c->seed, rows > 0 ? rows : 1);
  for (int64_t i = 0; i < c->count; i++) {
    from[i] = c->w->pool ? (turn + 2 * i) % (2 * c->count + 2) : i;
    to[i] = c->w->pool ? from[i] ^ (c->w->state_in_place ? random_below(&c->seed, 2) : 1) : i;
    const piece *each = &c->pieces[i];
    int is_new = each->sequence >= 0 && each->first == 0 && c->p->state == NULL;
    for (int64_t s = 0; s < r->D * r->N; s++)
      tensor_set(c->initial, from[i], s / r->N, s % r->N,
                 each->sequence < 0 || (c->w->pool && is_new)
                     ? NAN
                     : c->state[each->sequence * r->D * r->N + s]);
    if (c->w->pool && is_new) from[i] = -1 - random_below(&c->seed, 5);
    if (c->w->pool && each->sequence < 0 && random_below(&c->seed, 2)) to[i] = -1;
  }
  if (c->w->pool) {
    c->initial_slots = index_tensor(c, c->count, from);
    c->final_slots = index_tensor(c, c->count, to);
  }
  free(from);
}

static int64_t final_row(const call *c, int64_t i) {
  return c->final_slots != NULL ? (int64_t)tensor_get(c->final_slots, i, 0, 0) : i;
}

/* Copies y and states to the outcome; rows past a length must be zero, rows outside must be
 * unchanged. */
static void take_results(call *c) {
  const recipe *r = &c->p->made_from;
  int flat = c->packed || c->step;
  for (int64_t i = 0; i < c->count; i++) {
    const piece *each = &c->pieces[i];
    int64_t rows = flat ? each->count : c->rows;
    for (int64_t t = 0; t < rows; t++)
      for (int64_t d = 0; d < r->D; d++) {
        int64_t at[2];
        place(c, i, t, at);
        uint64_t bits = tensor_bits(c->y, at[0], flat ? d : at[1], flat ? 0 : d);
        if (t >= each->count && bits != 0)
          fault(c->out, "y[%lld, %lld, %lld] behind the length is not 0", (long long)t,
                (long long)i, (long long)d);
        if (t < each->count && each->sequence >= 0)
          c->out->y[(c->p->starts[each->sequence] + each->first + t) * r->D + d] = bits;
      }
    if (c->state == NULL || each->sequence < 0) continue;
    for (int64_t s = 0; s < r->D * r->N; s++) {
      int64_t where = each->sequence * r->D * r->N + s, row = final_row(c, i);
      c->state[where] = tensor_get(c->final, row, s / r->N, s % r->N);
      c->out->state[where] = tensor_bits(c->final, row, s / r->N, s % r->N);
    }
  }
}

/* Rows of the pool that no final slot names have not changed. */
static void check_pool(call *c) {
  if (c->final_slots == NULL) return;
  const recipe *r = &c->p->made_from;
  size_t bytes = r->state_dtype.bits / 8;
  for (int64_t row = 0; row < 2 * c->count + 3; row++) {
    int kept = 0;
    for (int64_t i = 0; i < c->count; i++) kept |= final_row(c, i) == row;
    for (int64_t s = 0; s < r->D * r->N && !kept; s++) {
      unsigned char *now = tensor_at(c->final, row, s / r->N, s % r->N);
      if (memcmp(now, c->final->copy + (now - c->final->block), bytes) != 0)
        fault(c->out, "row %lld of the pool was written, and no slot names it", (long long)row);
    }
  }
}

static void check_surroundings(call *c, test_tensor *const *read, int count) {
  for (int i = 0; i < count; i++)
    if (read[i] != NULL && read[i] != c->y && read[i] != c->final && !tensor_unchanged(read[i]))
      fault(c->out, "input tensor %d was written", i);
  if (!tensor_gaps_hold(c->y)) fault(c->out, "written around y");
  if (c->final != NULL && !tensor_gaps_hold(c->final)) fault(c->out, "written around final_state");
  for (int64_t t = 0; t < c->rows && c->packed; t++) {
    int64_t used = c->lead, inside;
    for (int64_t i = 0; i < c->count; i++) used += c->pieces[i].count;
    inside = t >= c->lead && t < used;
    for (int64_t d = 0; d < c->p->made_from.D && !inside; d++) {
      unsigned char *now = tensor_at(c->y, t, d, 0);
      if (memcmp(now, c->y->copy + (now - c->y->block), c->p->made_from.dtype.bits / 8) != 0)
        fault(c->out, "packed row %lld belongs to no sequence and was written", (long long)t);
    }
  }
}

static void free_call(call *c) {
  if (c->y != c->x) tensor_free(c->y);
  if (c->final != c->initial) tensor_free(c->final);
  test_tensor *rest[] = {c->x,       c->mask,          c->lengths,    c->offsets,
                         c->initial, c->initial_slots, c->final_slots};
  for (int i = 0; i < 7; i++) tensor_free(rest[i]);
}

static void run_call(call *c) {
  int elsewhere = c->p->ema_of_device != NULL && !c->on_cpu;
  cumega_context *ctx = elsewhere ? runs_device() : runs_context(c->w->level, c->w->threads);
  cumega_ema *ema = elsewhere ? c->p->ema_of_device : c->p->ema;
  for (int64_t i = 0; i < c->count; i++) {
    int64_t rows = c->pieces[i].count;
    c->rows = c->packed ? c->rows + rows : rows > c->rows ? rows : c->rows;
  }
  c->step = c->w->cut == 1 && !c->packed && c->rows == 1;
  for (int64_t i = 0; i < c->count; i++) c->step &= c->pieces[i].count == 1;
  if (!c->step) c->rows += c->w->padding;
  if (c->packed) c->lead = random_below(&c->seed, c->w->padding + 1);
  make_inputs(c);
  make_lengths(c);
  make_states(c);
  test_tensor *all[] = {c->x, c->mask,  c->lengths,       c->offsets,    c->initial,
                        c->y, c->final, c->initial_slots, c->final_slots};
  for (int i = 0; i < 9; i++)
    if (all[i] != NULL) tensor_remember(all[i]);
  cumega_ema_io io = io_of(c->x, c->y);
  io.mask = dl(c->mask);
  io.sequence_lengths = dl(c->lengths);
  io.sequence_offsets = dl(c->offsets);
  io.initial_state = dl(c->initial);
  io.final_state = dl(c->final);
  io.initial_slots = dl(c->initial_slots);
  io.final_slots = dl(c->final_slots);
  const int one_chain =
      c->p->made_from.truncation > 0 || c->w->in_place || (elsewhere && c->p->made_from.N > 16);
  const int is_chunked = c->w->algorithm == CUMEGA_EMA_CHUNKED;
  if (!c->step && (is_chunked || !(c->w->algorithm == CUMEGA_EMA_SLICED && one_chain)))
    io.algorithm = (cumega_ema_algorithm)c->w->algorithm;
  cumega_status status =
      c->step ? cumega_ema_step(ctx, ema, &io) : cumega_ema_forward(ctx, ema, &io);
  if (status != CUMEGA_OK) fault(c->out, "refused: %s", cumega_context_message(ctx));
  check_surroundings(c, all, 5);
  take_results(c);
  check_pool(c);
  free_call(c);
}

/* ---- from a problem to calls ---- */

static void run_pieces(const problem *p, const way *w, const piece *pieces, int64_t count,
                       double *state, outcome *out, int on_cpu, uint64_t *seed) {
  call c = {.p = p, .w = w, .pieces = pieces, .count = count, .state = state, .out = out};
  c.on_cpu = on_cpu;
  c.seed = random_bits(seed);
  c.packed = w->form == PACKED && p->mask == NULL;
  if (w->form != ALONE) {
    run_call(&c);
    return;
  }
  for (int64_t i = 0; i < count; i++) {
    call one = c;
    one.pieces = pieces + i;
    one.count = 1;
    run_call(&one);
  }
}

/* The next chunk of every sequence that has steps left; some wait a round. */
static int64_t next_pieces(const problem *p, const way *w, int64_t *done, int round, piece *pieces,
                           uint64_t *seed) {
  int64_t count = 0;
  for (int64_t b = 0; b < p->made_from.B; b++) {
    int64_t left = p->lengths[b] - done[b], take = left;
    if (round > 0 && (left == 0 || random_below(seed, 4) == 0)) continue;
    if (w->cut == 1) take = left > 0;
    if (w->cut > 1) take = random_below(seed, w->cut + 1);
    if (take > left) take = left;
    pieces[count++] = (piece){b, done[b], take};
    done[b] += take;
  }
  for (int64_t i = 0; i < w->strangers; i++)
    pieces[count++] = (piece){-1, 0, w->cut == 1 ? 1 : random_below(seed, 2 * p->made_from.L + 2)};
  for (int64_t i = count - 1; i > 0 && (w->shuffled || w->strangers); i--) {
    int64_t j = random_below(seed, i + 1);
    piece other = pieces[i];
    pieces[i] = pieces[j];
    pieces[j] = other;
  }
  return count;
}

static outcome *outcome_on(const problem *p, const way *w, int on_cpu) {
  const recipe *r = &p->made_from;
  int64_t states = r->B * r->D * r->N;
  outcome *out = memory_new(sizeof *out);
  out->y = memory_new(p->steps * r->D * 8);
  double *state = NULL;
  if (r->truncation == 0) { /* a state is always kept, starting from zeros if none is given */
    out->state = memory_new(states * 8);
    state = memory_new(states * 8);
    if (p->state != NULL) memcpy(state, p->state, (size_t)states * 8);
  }
  int64_t *done = memory_new(r->B * 8), left;
  piece *pieces = memory_new((r->B + w->strangers) * (int64_t)sizeof *pieces);
  uint64_t seed = w->seed;
  int round = 0;
  do {
    int64_t count = next_pieces(p, w, done, round++, pieces, &seed);
    run_pieces(p, w, pieces, count, state, out, on_cpu, &seed);
    left = 0;
    for (int64_t b = 0; b < r->B; b++) left += p->lengths[b] - done[b];
  } while (left > 0);
  free(done);
  free(pieces);
  free(state);
  return out;
}

outcome *outcome_of(const problem *p, const way *w) {
  return outcome_on(p, w, 0);
}

void outcome_free(outcome *o) {
  free(o->y);
  free(o->state);
  free(o);
}

static int64_t first_difference(const uint64_t *a, const uint64_t *b, int64_t count) {
  for (int64_t i = 0; i < count; i++)
    if (a[i] != b[i]) return i;
  return -1;
}

int way_differs(const problem *p, const way *w, char *reason, size_t size) {
  const recipe *r = &p->made_from;
  const way plain = {0};
  outcome *expected = outcome_on(p, &plain, 1), *found = outcome_of(p, w);
  int64_t y = first_difference(expected->y, found->y, p->steps * r->D), state = -1;
  if (expected->state != NULL)
    state = first_difference(expected->state, found->state, r->B * r->D * r->N);
  reason[0] = '\0';
  if (expected->fault[0] != '\0')
    snprintf(reason, size, "the plain way: %s", expected->fault);
  else if (found->fault[0] != '\0')
    snprintf(reason, size, "%s", found->fault);
  else if (y >= 0)
    snprintf(reason, size, "y of step %lld, channel %lld is %llx, not %llx", (long long)(y / r->D),
             (long long)(y % r->D), (unsigned long long)found->y[y],
             (unsigned long long)expected->y[y]);
  else if (state >= 0)
    snprintf(reason, size, "state of row %lld, channel %lld, head %lld is %llx, not %llx",
             (long long)(state / (r->D * r->N)), (long long)(state / r->N % r->D),
             (long long)(state % r->N), (unsigned long long)found->state[state],
             (unsigned long long)expected->state[state]);
  outcome_free(expected);
  outcome_free(found);
  return reason[0] != '\0';
}

uint64_t hash_bits(const uint64_t *values, int64_t count, int bytes) {
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  for (int64_t i = 0; i < count; i++)
    for (int b = 0; b < bytes; b++) {
      hash ^= values[i] >> (8 * b) & 0xFF;
      hash *= UINT64_C(0x100000001b3);
    }
  return hash;
}
