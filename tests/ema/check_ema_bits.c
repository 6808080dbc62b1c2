/* The promise of bits, tested at random. A recipe makes a problem and a way of running it that
 * must give the same bits as the plain way. CUMEGA_TEST_PAIRS sets how many pairs are tried,
 * CUMEGA_TEST_SEED where they start; both are printed. A pair that fails is made smaller while it
 * still fails, then printed.
 *
 * Hashes of a few fixed results are committed below: every compiler, CPU level and machine must
 * give them. Their inputs are made without the C library's mathematics. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "ema_runs.h"
#include "runner.h"

static const DLDataType types[] = {
    {kDLFloat, 32, 1}, {kDLFloat, 16, 1}, {kDLBfloat, 16, 1}, {kDLFloat, 64, 1}};

/* Mostly small, sometimes across the sizes at which loops change. */
static int64_t random_size(uint64_t *seed, int64_t usual, const int64_t *odd, int64_t count) {
  if (random_below(seed, 3) > 0) return 1 + random_below(seed, usual);
  return odd[random_below(seed, count)];
}

static recipe random_recipe(uint64_t *seed) {
  static const int64_t channels[] = {16, 17, 31, 32, 33, 64, 65, 100, 129};
  static const int64_t heads[] = {3, 5, 8, 16, 17, 33};
  static const int64_t lengths[] = {0, 31, 32, 33, 64, 65, 129};
  recipe r = {0};
  r.D = random_size(seed, 12, channels, 9);
  r.N = random_size(seed, 5, heads, 6);
  r.B = 1 + random_below(seed, 6);
  r.L = random_size(seed, 24, lengths, 7);
  if (r.D * r.N * r.L * r.B > 40000) r.B = 1;
  if (r.D * r.N * r.L > 40000) r.L = 20;
  r.dtype = types[random_below(seed, 4)];
  r.state_dtype =
      r.dtype.bits == 64 || random_below(seed, 4) == 0 ? cumega_float64 : cumega_float32;
  r.activation = (cumega_activation)random_below(seed, 10);
  r.odd_arguments = (int)random_below(seed, 2);
  r.masked = random_below(seed, 4) == 0;
  r.special = random_below(seed, 4) == 0;
  if (random_below(seed, 6) == 0)
    r.truncation = 1 + random_below(seed, 20);
  else
    r.stateful = (int)random_below(seed, 2);
  r.seed = random_bits(seed);
  return r;
}

static way random_way(const recipe *r, uint64_t *seed) {
  way w = {0};
  w.form = (int)random_below(seed, 3);
  w.level = (int)random_below(seed, CPU_LEVELS);
  w.threads = 1 + (int)random_below(seed, 3);
  w.x_layout = (int)random_below(seed, LAYOUTS);
  w.y_layout = (int)random_below(seed, LAYOUTS);
  w.misaligned = (int)random_below(seed, 2);
  w.shuffled = (int)random_below(seed, 2);
  w.strangers = random_below(seed, 3) == 0 ? 1 + (int)random_below(seed, 3) : 0;
  w.padding = random_below(seed, 3) == 0 ? 1 + (int)random_below(seed, 9) : 0;
  if (r->truncation == 0 && random_below(seed, 2)) w.cut = 1 + (int)random_below(seed, r->L + 1);
  if (r->truncation == 0 && random_below(seed, 8) == 0) w.cut = 1;
  w.in_place = random_below(seed, 4) == 0;
  w.state_in_place = (int)random_below(seed, 2);
  w.pool = (int)random_below(seed, 2);
  w.narrow_indices = (int)random_below(seed, 2);
  w.seed = random_bits(seed);
  w.algorithm = (int)random_below(seed, CUMEGA_EMA_SLICED + 1);
  return w;
}

static int pair_fails(const recipe *r, const way *w, char *reason, size_t size) {
  problem *p = problem_new(r);
  int fails = way_differs(p, w, reason, size);
  problem_free(p);
  return fails;
}

/* What can be made smaller, by number: sizes, kinds of data, choices of how to run. */
static int64_t *size_at(recipe *r, int i) {
  int64_t *all[] = {&r->L, &r->B, &r->D, &r->N};
  return i < 4 ? all[i] : NULL;
}

static int *choice_at(recipe *r, way *w, int i) {
  int *all[] = {&r->masked,   &r->special,       &r->stateful, &r->odd_arguments,
                &w->form,     &w->level,         &w->threads,  &w->x_layout,
                &w->y_layout, &w->misaligned,    &w->shuffled, &w->strangers,
                &w->padding,  &w->cut,           &w->in_place, &w->state_in_place,
                &w->pool,     &w->narrow_indices};
  return i < 18 ? all[i] : NULL;
}

/* The smallest value of one size with which the pair still fails: tries 1, 2, 4, ..., then one
 * less. */
static int shrink_size(recipe *r, const way *w, int i, char *reason, size_t size) {
  int64_t now = *size_at(r, i);
  for (int64_t to = 1; to < now; to = 2 * to < now || to == now - 1 ? 2 * to : now - 1) {
    recipe next = *r;
    *size_at(&next, i) = to;
    if (!pair_fails(&next, w, reason, size)) continue;
    *r = next;
    return 1;
  }
  return 0;
}

static int shrink_choice(recipe *r, way *w, int i, char *reason, size_t size) {
  recipe next = *r;
  way next_way = *w;
  if (*choice_at(r, w, i) == 0) return 0;
  *choice_at(&next, &next_way, i) = 0;
  if (!pair_fails(&next, &next_way, reason, size)) return 0;
  *r = next;
  *w = next_way;
  return 1;
}

static void shrink(recipe *r, way *w, char *reason, size_t size) {
  for (int changed = 1; changed;) {
    changed = 0;
    for (int i = 0; size_at(r, i) != NULL; i++) changed |= shrink_size(r, w, i, reason, size);
    for (int i = 0; choice_at(r, w, i) != NULL; i++)
      changed |= shrink_choice(r, w, i, reason, size);
  }
  pair_fails(r, w, reason, size); /* the message of the smallest pair */
}

static void report(const recipe *r, const way *w, const char *reason) {
  ck_abort_msg(
      "%s\n  D %" PRId64 " N %" PRId64 " B %" PRId64 " L %" PRId64 " %s, state %s, activation %s "
      "(odd %d), masked %d, stateful %d, special %d, truncation %" PRId64 ", seed %" PRIu64 "\n"
      "  form %d level %s threads %d layouts %d %d misaligned %d shuffled %d strangers %d padding "
      "%d cut %d in place %d, state %d, pool %d, int32 %d, seed %" PRIu64,
      reason, r->D, r->N, r->B, r->L, number_name(r->dtype), number_name(r->state_dtype),
      cumega_activation_name(r->activation), r->odd_arguments, r->masked, r->stateful, r->special,
      r->truncation, r->seed, w->form, cpu_levels[w->level], w->threads, w->x_layout, w->y_layout,
      w->misaligned, w->shuffled, w->strangers, w->padding, w->cut, w->in_place, w->state_in_place,
      w->pool, w->narrow_indices, w->seed);
}

START_TEST(random_pairs_have_the_same_bits) {
  uint64_t pairs = number_from("CUMEGA_TEST_PAIRS", 3000);
  uint64_t seed = number_from("CUMEGA_TEST_SEED", 20220921);
  printf("CUMEGA_TEST_PAIRS=%" PRIu64 " CUMEGA_TEST_SEED=%" PRIu64 "\n", pairs, seed);
  for (uint64_t i = 0; i < pairs; i++) {
    uint64_t own = seed + i; /* so that its own seed gives the pair again */
    recipe r = random_recipe(&own);
    way w = random_way(&r, &own);
    char reason[400];
    if (!pair_fails(&r, &w, reason, sizeof reason)) continue;
    shrink(&r, &w, reason, sizeof reason);
    printf("CUMEGA_TEST_PAIRS=1 CUMEGA_TEST_SEED=%" PRIu64 " repeats it:\n", seed + i);
    report(&r, &w, reason);
  }
}
END_TEST

/* A harness that cannot see a difference proves nothing: another seed must give other bits. */
START_TEST(the_comparison_sees_a_difference) {
  recipe r = {.D = 3, .N = 2, .B = 2, .L = 5, .dtype = cumega_float32};
  r.state_dtype = cumega_float32;
  problem *p = problem_new(&r);
  const way plain = {0};
  outcome *a = outcome_of(p, &plain);
  ck_assert_str_eq(a->fault, "");
  uint64_t before = hash_bits(a->y, p->steps * 3, 4);
  outcome_free(a);
  p->x[3] = number_round(cumega_float32, p->x[3] * (1.0 + 0x1p-20));
  a = outcome_of(p, &plain);
  ck_assert_uint_ne(before, hash_bits(a->y, p->steps * 3, 4));
  outcome_free(a);
  problem_free(p);
}
END_TEST

typedef struct committed {
  int type, state64;
  int activation;
  int64_t truncation;
  uint64_t y, state;
} committed;

static const committed results[] = {
#include "ema_hashes.h"
};

static uint64_t hash_of(const committed *c, int level, uint64_t *state) {
  recipe r = {.D = 37, .N = 1 + c->activation, .B = 3, .L = 70, .dtype = types[c->type]};
  r.state_dtype = c->state64 ? cumega_float64 : cumega_float32;
  r.activation = (cumega_activation)c->activation;
  r.odd_arguments = c->activation % 2;
  r.truncation = c->truncation;
  r.stateful = c->truncation == 0;
  r.special = c->activation % 3 == 0;
  r.masked = c->activation % 4 == 3;
  r.seed = 1234;
  problem *p = problem_new(&r);
  way w = {.form = PADDED, .level = level};
  outcome *o = outcome_of(p, &w);
  ck_assert_str_eq(o->fault, "");
  uint64_t y = hash_bits(o->y, p->steps * r.D, r.dtype.bits / 8);
  *state = 0;
  if (o->state != NULL) *state = hash_bits(o->state, r.B * r.D * r.N, r.state_dtype.bits / 8);
  outcome_free(o);
  problem_free(p);
  return y;
}

/* With CUMEGA_PRINT_HASHES set, prints the table instead, for a deliberate change of
 * arithmetic. */
START_TEST(fixed_results_have_their_committed_hashes) {
  int count = (int)(sizeof results / sizeof results[0]), wrong = 0;
  for (int i = 0; i < count; i++)
    for (int level = 0; level < CPU_LEVELS; level++) {
      uint64_t state, y = hash_of(&results[i], level, &state);
      if (getenv("CUMEGA_PRINT_HASHES") != NULL && level == 0)
        printf("{%d, %d, %d, %" PRId64 ", UINT64_C(0x%016" PRIx64 "), UINT64_C(0x%016" PRIx64
               ")},\n",
               results[i].type, results[i].state64, results[i].activation, results[i].truncation,
               y, state);
      if (y == results[i].y && state == results[i].state) continue;
      wrong++;
      printf("result %d on level %s: y %016" PRIx64 ", state %016" PRIx64 "\n", i,
             cpu_levels[level], y, state);
    }
  ck_assert_int_eq(wrong, 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ema_bits");
  TCase *tests = add_case(suite, "bits", 3600);
  tcase_add_unchecked_fixture(tests, NULL, runs_end);
  tcase_add_test(tests, the_comparison_sees_a_difference);
  tcase_add_test(tests, random_pairs_have_the_same_bits);
  tcase_add_test(tests, fixed_results_have_their_committed_hashes);
  return run_suite(suite);
}
