#include "defaults.h"
#include "position_problem.h"
#include <math.h>
#include <stdlib.h>

#define SIZE 16

static double special_score(uint64_t *seed, double usual) {
  switch (random_below(seed, 40)) {
  case 0: return NAN;
  case 1: return INFINITY;
  case 2: return -INFINITY;
  case 3: return -0.0;
  case 4: return 60000.0;
  case 5: return -60000.0;
  default: return usual;
  }
}

static void fill_masks(position_problem *p, uint64_t *seed) {
  const position_recipe *r = &p->r;
  if (r->attention) {
    p->attention = memory_new(r->B * r->Lq * r->Lk);
    for (int64_t i = 0; i < r->B * r->Lq * r->Lk; i++)
      p->attention[i] = r->attention == 1 && i >= r->Lq * r->Lk ? p->attention[i - r->Lq * r->Lk]
                                                                : random_below(seed, 4) == 0;
  }
  if (!r->padding) return;
  p->padding = memory_new(r->B * r->Lk);
  for (int64_t b = 0; b < r->B; b++) {
    const int64_t cut = random_below(seed, r->Lk + 1);
    for (int64_t j = 0; j < r->Lk; j++)
      p->padding[b * r->Lk + j] = r->padding == 1   ? j >= cut
                                  : r->padding == 2 ? random_below(seed, 3) == 0
                                                    : b == 1 || j < cut;
  }
}

static void fill_lengths(position_problem *p, uint64_t *seed) {
  const position_recipe *r = &p->r;
  if (!r->lengths) return;
  p->queries = memory_new(r->B * (int64_t)sizeof *p->queries);
  p->keys = memory_new(r->B * (int64_t)sizeof *p->keys);
  for (int64_t b = 0; b < r->B; b++) {
    p->keys[b] = random_below(seed, r->Lk + 1);
    p->queries[b] = random_below(seed, (p->keys[b] < r->Lq ? p->keys[b] : r->Lq) + 1);
  }
}

position_problem *position_problem_new(const position_recipe *r) {
  position_problem *p = memory_new(sizeof *p);
  uint64_t seed = r->seed;
  p->r = *r;
  p->size = SIZE;
  p->max_positions = r->Lk + random_below(&seed, 5) + 1;
  const int64_t values = r->bias == ROTARY ? SIZE : 2 * p->max_positions - 1;
  for (int which = 0; which < r->bias; which++) {
    p->parameters[which] = memory_new(values * (int64_t)sizeof(double));
    for (int64_t i = 0; i < values; i++)
      p->parameters[which][i] = number_round(cumega_float32, random_noise(&seed));
  }
  p->scores = memory_new((position_count(p) + 1) * (int64_t)sizeof(double));
  for (int64_t i = 0; i < position_count(p); i++) {
    double score = 3.0 * random_noise(&seed);
    if (r->special) score = special_score(&seed, score);
    p->scores[i] = number_round(r->dtype, score);
  }
  fill_masks(p, &seed);
  fill_lengths(p, &seed);
  return p;
}

void position_problem_free(position_problem *p) {
  free(p->parameters[0]);
  free(p->parameters[1]);
  free(p->scores);
  free(p->attention);
  free(p->padding);
  free(p->queries);
  free(p->keys);
  free(p);
}

cumega_position_bias *position_problem_bias(const position_problem *p, cumega_context *ctx) {
  cumega_position_bias *bias = NULL;
  cumega_tensor t[2];
  const DLDataType dtype = real_dtype_of(p->r.dtype);
  const int rotary = p->r.bias == ROTARY;
  if (p->r.bias == NO_BIAS) return NULL;
  for (int i = 0; i <= rotary; i++) {
    const int64_t count = rotary ? p->size : 2 * p->max_positions - 1;
    cumega_tensor_init(&t[i], p->parameters[i], cumega_cpu, cumega_float64, 1, &count);
  }
  if (rotary)
    MUST(ctx, bias_rotary_as(dtype, ctx, p->size, 4, &t[0].dl, &t[1].dl, &bias));
  else
    MUST(ctx, bias_relative_as(dtype, ctx, p->max_positions, &t[0].dl, &bias));
  return bias;
}

/* ---- ways ---- */

static const int orders[POSITION_LAYOUTS][4] = {
    {0, 1, 2, 3}, {0, 1, 2, 3}, {0, 1, 3, 2}, {2, 0, 1, 3}, {3, 1, 0, 2}};

static test_layout layout_of(int which, int misaligned, uint64_t *seed) {
  test_layout layout = {.ordered = 1, .shift = misaligned ? 1 + random_below(seed, 3) : 0};
  memcpy(layout.order, orders[which], sizeof orders[which]);
  if (which == 0) return layout;
  for (int i = 0; i < 4; i++) layout.gap[i] = random_below(seed, 3) * (i > 0 || which != 3);
  if (which == 4) layout.reversed = (unsigned)random_below(seed, 16);
  layout.by_offset = (int)random_below(seed, 2);
  return layout;
}

/* The tensors of a way of running: those of the problem, perhaps with unrelated values around
 * them. */
typedef struct placed {
  int64_t batch, first; /* of the tensors; the problem's sequences are first .. first + B - 1 */
  test_tensor *scores, *output, *attention, *padding, *queries, *keys;
} placed;

static void place_scores(const position_problem *p, placed *t) {
  const position_recipe *r = &p->r;
  for (int64_t b = 0; b < t->batch; b++)
    for (int64_t h = 0; h < r->H; h++)
      for (int64_t i = 0; i < r->Lq; i++)
        for (int64_t j = 0; j < r->Lk; j++) {
          const int64_t own = b - t->first;
          const int stranger = own < 0 || own >= r->B;
          tensor_set_4(t->scores, b, h, i, j,
                       stranger ? (j % 2 ? NAN : INFINITY)
                                : p->scores[position_index(p, own, h, i, j)]);
        }
}

static void place_masks(const position_problem *p, const position_way *w, placed *t) {
  const position_recipe *r = &p->r;
  const DLDataType type = w->bytes_as_masks ? cumega_uint8 : cumega_bool;
  const double yes = w->bytes_as_masks ? 7 : 1;
  if (r->attention == 1) {
    t->attention = tensor_new_2(type, r->Lq, r->Lk);
    for (int64_t i = 0; i < r->Lq; i++)
      for (int64_t j = 0; j < r->Lk; j++)
        tensor_set(t->attention, i, j, 0, p->attention[i * r->Lk + j] ? yes : 0);
  } else if (r->attention == 2) {
    uint64_t seed = w->seed;
    const test_layout layout = layout_of(w->layout, w->misaligned, &seed);
    t->attention =
        tensor_new(type, 4, (int64_t[]){t->batch, 1, r->Lq, r->Lk}, w->layout ? &layout : NULL);
    for (int64_t b = 0; b < t->batch; b++)
      for (int64_t i = 0; i < r->Lq; i++)
        for (int64_t j = 0; j < r->Lk; j++) {
          const int64_t own = b - t->first;
          const int hidden = own >= 0 && own < r->B && p->attention[(own * r->Lq + i) * r->Lk + j];
          tensor_set_4(t->attention, b, 0, i, j, hidden ? yes : 0);
        }
  }
  if (!r->padding) return;
  t->padding = tensor_new_2(type, t->batch, r->Lk);
  for (int64_t b = 0; b < t->batch; b++)
    for (int64_t j = 0; j < r->Lk; j++) {
      const int64_t own = b - t->first;
      const int hidden = own >= 0 && own < r->B && p->padding[own * r->Lk + j];
      tensor_set(t->padding, b, j, 0, hidden ? yes : 0);
    }
}

static test_tensor *place_lengths(const position_problem *p, const position_way *w,
                                  const placed *t, const int64_t *lengths, int64_t of_strangers) {
  if (lengths == NULL) return NULL;
  test_tensor *tensor = tensor_new_1(w->narrow_indices ? cumega_int32 : cumega_int64, t->batch);
  for (int64_t b = 0; b < t->batch; b++) {
    const int64_t own = b - t->first;
    tensor_set(tensor, b, 0, 0, (double)(own >= 0 && own < p->r.B ? lengths[own] : of_strangers));
  }
  return tensor;
}

static void place(const position_problem *p, const position_way *w, placed *t) {
  const position_recipe *r = &p->r;
  uint64_t seed = w->seed;
  memset(t, 0, sizeof *t);
  t->first = w->strangers;
  t->batch = r->B + 2 * w->strangers;
  const int64_t shape[] = {t->batch, r->H, r->Lq, r->Lk};
  const test_layout in = layout_of(w->layout, w->misaligned, &seed);
  const test_layout out = layout_of(w->output_layout, w->misaligned, &seed);
  t->scores = tensor_new(r->dtype, 4, shape, &in);
  t->output = w->in_place ? t->scores : tensor_new(r->dtype, 4, shape, &out);
  place_scores(p, t);
  place_masks(p, w, t);
  t->queries = place_lengths(p, w, t, p->queries, r->Lq);
  t->keys = place_lengths(p, w, t, p->keys, r->Lk);
}

static void displace(const position_way *w, placed *t) {
  tensor_free(t->scores);
  if (!w->in_place) tensor_free(t->output);
  tensor_free(t->attention);
  tensor_free(t->padding);
  tensor_free(t->queries);
  tensor_free(t->keys);
}

const char *position_problem_run(const position_problem *p, const position_way *w,
                                 cumega_context *ctx, int softmax, uint64_t *bits) {
  const position_recipe *r = &p->r;
  const char *fault = "";
  placed t;
  place(p, w, &t);
  cumega_position_bias *bias = position_problem_bias(p, ctx);
  cumega_attention_scores_io io;
  cumega_attention_scores_io_init(&io, sizeof io);
  io.scores = dl(t.scores);
  io.output = dl(t.output);
  io.scale = r->scale;
  io.causal = r->causal;
  io.nan_rows = r->nan_rows;
  io.attention_mask = dl(t.attention);
  io.key_padding_mask = dl(t.padding);
  io.query_lengths = dl(t.queries);
  io.key_lengths = dl(t.keys);
  if (!w->in_place) tensor_remember(t.scores);
  if (softmax)
    MUST(ctx, softmax_with(ctx, bias, &io));
  else
    MUST(ctx, scores_with(ctx, bias, &io));
  if (!w->in_place && !tensor_unchanged(t.scores)) fault = "the scores were written";
  if (!tensor_gaps_hold(t.output)) fault = "something was written beside the output";
  for (int64_t b = 0; b < r->B; b++)
    for (int64_t h = 0; h < r->H; h++)
      for (int64_t i = 0; i < r->Lq; i++)
        for (int64_t j = 0; j < r->Lk; j++)
          bits[position_index(p, b, h, i, j)] = tensor_bits_4(t.output, t.first + b, h, i, j);
  cumega_position_bias_destroy(bias);
  displace(w, &t);
  return fault;
}

double position_value(DLDataType dtype, uint64_t bits) {
  test_tensor *one = tensor_new(dtype, 0, NULL, NULL);
  memcpy(tensor_at(one, 0, 0, 0), &bits, dtype.bits / 8);
  const double value = tensor_get(one, 0, 0, 0);
  tensor_free(one);
  return value;
}

/* ---- the oracle ---- */

static oracle_wide bias_at(const position_problem *p, int64_t m, int64_t n, double *magnitude) {
  *magnitude = 0;
  if (p->r.bias == NO_BIAS) return 0;
  if (p->r.bias == ROTARY) {
    *magnitude = oracle_rotary_magnitude(p->parameters[0], p->parameters[1], p->size);
    return oracle_rotary_bias(p->parameters[0], p->parameters[1], p->size, m, n);
  }
  const oracle_wide bias = oracle_relative_bias(p->parameters[0], p->max_positions, m, n);
  *magnitude = fabs((double)bias);
  return bias;
}

static int padded(const position_problem *p, int64_t b, int64_t keys, int64_t j) {
  int any = 0;
  if (p->padding == NULL) return 0;
  for (int64_t k = 0; k < keys; k++) any |= !p->padding[b * p->r.Lk + k];
  return any && p->padding[b * p->r.Lk + j];
}

int64_t position_oracle_row(const position_problem *p, int64_t b, int64_t h, int64_t i,
                            oracle_wide *s, double *bias_magnitude) {
  const position_recipe *r = &p->r;
  const int64_t keys = p->keys ? p->keys[b] : r->Lk, queries = p->queries ? p->queries[b] : r->Lq;
  if (i >= queries) return 0;
  const int64_t own = i + keys - queries;
  for (int64_t j = 0; j < keys; j++) {
    const int hidden = (r->causal && j > own) || padded(p, b, keys, j) ||
                       (p->attention && p->attention[(b * r->Lq + i) * r->Lk + j]);
    const oracle_wide bias = bias_at(p, own, j, &bias_magnitude[j]);
    s[j] = hidden ? -(oracle_wide)INFINITY
                  : (oracle_wide)r->scale * p->scores[position_index(p, b, h, i, j)] + bias;
  }
  return keys;
}
