/* Every value of forward, scores and softmax against the definitions in 113 bits, with a bound
 * for each element.
 *
 * u is half a unit in the last place of 1 in the arithmetic's type: 2^-24, or 2^-53 for float64.
 *
 * Table: a float64 value sums 4 fma per pair (each with an error of u64 times the sum so far).
 * Its factors have one rounding each, its sines and cosines one unit each. The bound is (4 pairs
 * + 8) * u64 * sum of the products' magnitudes. A float32 value is that, rounded. Scores: scale,
 * the bias and the fma are rounded:
 *   d = u * (|scale * x| + |bias| + |s|), plus the table's own error.
 * Weights: w = exp(s - m) / S. A change of d in s changes w by d relatively, and through S by the
 * mean of d over the weights. The difference s - m has an error of u |s - m|, exp of 4 u, the
 * tree over 4,096 of 12 u, each further group of 4 u, the reciprocal and the product of u each.
 * Then the store rounds once. Weights below the smallest normal number are off by its unit. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "defaults.h"
#include "position_problem.h"
#include "runner.h"

static const DLDataType types[] = {
    {kDLFloat, 32, 1}, {kDLFloat, 16, 1}, {kDLBfloat, 16, 1}, {kDLFloat, 64, 1}};

#define PAIRS 8 /* for the problems' rotary biases */

static double magnitude(oracle_wide x) {
  return (double)(x < 0 ? -x : x);
}

typedef struct measured {
  double worst; /* error over bound */
} measured;

static void compare(measured *m, double ours, oracle_wide right, double bound, const char *what) {
  if (isnan(ours) || isinf(ours) || isinf((double)right)) {
    ck_assert_msg((double)right == ours, "%s: %g, expected %g", what, ours, (double)right);
    return;
  }
  const double off = magnitude((oracle_wide)ours - right);
  ck_assert_msg(off <= bound, "%s: %.17g, expected %.17g: off by %g, allowed %g", what, ours,
                (double)right, off, bound);
  if (off > 0) m->worst = fmax(m->worst, off / bound);
}

/* One row of a problem: the bits of scores and of softmax, from its first key on. */
static void check_row(measured *m, const position_problem *p, int64_t b, int64_t h, int64_t i,
                      const uint64_t *scores, const uint64_t *weights) {
  const DLDataType type = p->r.dtype;
  const double u = type.bits == 64 ? 0x1p-53 : 0x1p-24;
  oracle_wide *s = memory_new(2 * p->r.Lk * (int64_t)sizeof *s), *w = s + p->r.Lk,
              most = -INFINITY;
  double *bias = memory_new(8 * p->r.Lk), *d = memory_new(8 * p->r.Lk), mean = 0;
  const int64_t keys = position_oracle_row(p, b, h, i, s, bias);
  for (int64_t j = 0; j < keys; j++) {
    most = s[j] > most ? s[j] : most;
    const double x = fabs(p->r.scale * p->scores[position_index(p, b, h, i, j)]);
    d[j] = u * (x + bias[j] + magnitude(s[j])) + (4 * PAIRS + 8) * 0x1p-53 * bias[j];
    if (isinf((double)s[j])) continue;
    compare(m, position_value(type, scores[j]), s[j], d[j] + number_rounding(type, (double)s[j]),
            "score");
  }
  if (keys > 0) oracle_softmax(keys, s, w);
  for (int64_t j = 0; j < keys; j++)
    if (!isinf((double)s[j])) mean += (double)w[j] * (d[j] + u * magnitude(s[j] - most));
  const double groups = (double)((keys + 4095) / 4096);
  for (int64_t j = 0; j < p->r.Lk; j++) {
    if (j >= keys || w[j] == 0) {
      ck_assert_msg(weights[j] == 0, "a masked key has a weight");
      continue;
    }
    const double relative =
        d[j] + u * magnitude(s[j] - most) + mean + (4 + 4 + 12 + 4 * groups + 2) * u;
    const double least = type.bits == 64 ? 0x1p-1074 : 0x1p-149;
    compare(m, position_value(type, weights[j]), w[j],
            1.01 * relative * (double)w[j] + number_rounding(type, (double)w[j]) + least,
            "weight");
  }
  free(s);
  free(bias);
  free(d);
}

static void check_problem(measured *m, cumega_context *ctx, const position_recipe *r) {
  const position_way plain = {0};
  position_problem *p = position_problem_new(r);
  uint64_t *scores = memory_new(8 * position_count(p)),
           *weights = memory_new(8 * position_count(p));
  ck_assert_str_eq(position_problem_run(p, &plain, ctx, 0, scores), "");
  ck_assert_str_eq(position_problem_run(p, &plain, ctx, 1, weights), "");
  for (int64_t b = 0; b < r->B; b++)
    for (int64_t h = 0; h < r->H; h++)
      for (int64_t i = 0; i < r->Lq; i++) {
        const int64_t at = position_index(p, b, h, i, 0);
        check_row(m, p, b, h, i, scores + at, weights + at);
      }
  free(scores);
  free(weights);
  position_problem_free(p);
}

START_TEST(weights_and_scores_keep_their_bounds) {
  cumega_context *ctx = context_new();
  for (int type = 0; type < 4; type++) {
    measured m = {0};
    for (int bias = NO_BIAS; bias <= ROTARY; bias++)
      for (int mask = 0; mask < 4; mask++) {
        position_recipe r = {
            .dtype = types[type], .B = 3, .H = 2, .Lq = 9, .Lk = 14, .bias = bias};
        r.causal = mask % 2;
        r.attention = mask == 2 ? 2 : 0;
        r.padding = mask;
        r.lengths = mask == 3;
        r.scale = mask == 1 ? 0.37 : 1;
        r.seed = (uint64_t)(100 * type + 10 * bias + mask);
        check_problem(&m, ctx, &r);
      }
    printf("%s: %.2f of the bound\n", number_name(types[type]), m.worst);
  }
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(long_rows_keep_their_bounds) {
  static const int64_t lengths[] = {1000, 4097, 9001, 20000};
  cumega_context *ctx = context_new();
  for (size_t n = 0; n < sizeof lengths / sizeof *lengths; n++)
    for (int type = 0; type < 4; type += 3) {
      measured m = {0};
      position_recipe r = {.dtype = types[type], .B = 1, .H = 1, .Lq = 1, .Lk = lengths[n]};
      r.bias = RELATIVE;
      r.scale = 1;
      check_problem(&m, ctx, &r);
    }
  cumega_context_destroy(ctx);
}
END_TEST

static cumega_position_bias *rotary_of(cumega_context *ctx, DLDataType dtype, double *alpha,
                                       double *beta, int64_t size) {
  cumega_position_bias *bias = NULL;
  cumega_tensor a, b;
  cumega_tensor_init(&a, alpha, cumega_cpu, cumega_float64, 1, &size);
  cumega_tensor_init(&b, beta, cumega_cpu, cumega_float64, 1, &size);
  MUST(ctx, bias_rotary_as(dtype, ctx, size, 2048, &a.dl, &b.dl, &bias));
  return bias;
}

/* Computed as ESPnet does, by two rotated (L, size) matrices and one product, but in 113 bits.
 * This tests the identity, and lengths beyond max_positions with it. */
START_TEST(the_rotary_bias_is_the_product_of_rotated_matrices) {
  enum { SIZE = 6, L = 40 };
  uint64_t seed = 3;
  double alpha[SIZE], beta[SIZE];
  for (int i = 0; i < SIZE; i++) {
    alpha[i] = random_noise(&seed);
    beta[i] = random_noise(&seed);
  }
  cumega_context *ctx = context_new();
  for (int type = 0; type < 4; type++) {
    const DLDataType dtype = real_dtype_of(types[type]);
    cumega_position_bias *bias = rotary_of(ctx, dtype, alpha, beta, SIZE);
    measured m = {0};
    test_tensor *out = tensor_new_2(types[type], L, L);
    MUST(ctx, cumega_position_bias_forward(ctx, bias, dl(out)));
    ck_assert(tensor_gaps_hold(out));
    for (int64_t i = 0; i < L; i++)
      for (int64_t j = 0; j < L; j++) {
        const double products = oracle_rotary_magnitude(alpha, beta, SIZE);
        const oracle_wide right = oracle_rotary_bias(alpha, beta, SIZE, i, j);
        double bound = (4 * (SIZE / 2) + 8) * 0x1p-53 * products;
        bound += number_rounding(types[type], (double)right);
        if (types[type].bits == 16) bound += number_rounding(cumega_float32, (double)right);
        compare(&m, tensor_get(out, i, j, 0), right, bound, "bias");
      }
    tensor_free(out);
    cumega_position_bias_destroy(bias);
  }
  cumega_context_destroy(ctx);
}
END_TEST

/* A single query against 2^20 keys reads the whole table: without scores, s is the bias. */
START_TEST(a_rotary_table_of_a_million_positions_is_exact) {
  enum { SIZE = 16 };
  const int64_t L = INT64_C(1) << 20;
  uint64_t seed = 4;
  double alpha[SIZE], beta[SIZE];
  measured m = {0};
  for (int i = 0; i < SIZE; i++) {
    alpha[i] = random_noise(&seed);
    beta[i] = random_noise(&seed);
  }
  cumega_context *ctx = context_of_level(NULL, 1);
  cumega_position_bias *bias = rotary_of(ctx, cumega_float64, alpha, beta, SIZE);
  test_tensor *scores = tensor_new(cumega_float64, 4, (int64_t[]){1, 1, 1, L}, NULL);
  memset(tensor_at(scores, 0, 0, 0), 0, (size_t)(8 * L));
  cumega_attention_scores_io io;
  cumega_attention_scores_io_init(&io, sizeof io);
  io.scores = io.output = dl(scores);
  MUST(ctx, scores_with(ctx, bias, &io));
  const double products = oracle_rotary_magnitude(alpha, beta, SIZE);
  for (int64_t n = 0; n < L; n += n < 1000 ? 1 : 997) {
    const oracle_wide right = oracle_rotary_bias(alpha, beta, SIZE, L - 1, n);
    compare(&m, tensor_get_4(scores, 0, 0, 0, n), right, (4 * (SIZE / 2) + 8) * 0x1p-53 * products,
            "bias");
  }
  printf("2^20 positions: %.2f of the bound\n", m.worst);
  tensor_free(scores);
  cumega_position_bias_destroy(bias);
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(a_relative_bias_is_its_parameter_along_diagonals) {
  enum { MOST = 9, L = 7 };
  cumega_context *ctx = context_new();
  uint64_t seed = 6;
  for (int type = 0; type < 4; type++) {
    test_tensor *w = tensor_new_1(types[type], 2 * MOST - 1);
    for (int64_t i = 0; i < 2 * MOST - 1; i++) tensor_set(w, i, 0, 0, random_noise(&seed));
    for (int out_type = 0; out_type < 4; out_type++) {
      const DLDataType dtype = real_dtype_of(types[out_type]);
      cumega_position_bias *bias = NULL;
      MUST(ctx, bias_relative_as(dtype, ctx, MOST, dl(w), &bias));
      test_tensor *out = tensor_new_2(types[out_type], L, L);
      MUST(ctx, cumega_position_bias_forward(ctx, bias, dl(out)));
      for (int64_t i = 0; i < L; i++)
        for (int64_t j = 0; j < L; j++) {
          double right = tensor_get(w, MOST - 1 + j - i, 0, 0);
          if (out_type != 3) right = number_round(cumega_float32, right);
          ck_assert(tensor_get(out, i, j, 0) == number_round(types[out_type], right));
        }
      tensor_free(out);
      cumega_position_bias_destroy(bias);
    }
    tensor_free(w);
  }
  cumega_context_destroy(ctx);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("position_accuracy");
  TCase *tests = add_case(suite, "accuracy", 600);
  tcase_add_test(tests, weights_and_scores_keep_their_bounds);
  tcase_add_test(tests, long_rows_keep_their_bounds);
  tcase_add_test(tests, the_rotary_bias_is_the_product_of_rotated_matrices);
  tcase_add_test(tests, a_rotary_table_of_a_million_positions_is_exact);
  tcase_add_test(tests, a_relative_bias_is_its_parameter_along_diagonals);
  return run_suite(suite);
}
