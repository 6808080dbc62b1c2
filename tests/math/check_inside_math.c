/* The elementary functions: their errors, their values at the edges, and their bits. Every float
 * is tried in check_inside_math_exhaustive.c. */
#include "math/elementary_f32.h"
#include "math/elementary_f64.h"
#include "math_measure.h"
#include "runner.h"
#include <stdio.h>

enum { BLOCK = 4096 };

LOOP(loop_expf, float, float, math_expf(x))
LOOP(loop_expm1f, float, float, math_expm1f(x))
LOOP(loop_tanhf, float, float, math_tanhf(x))
LOOP(loop_log1pf, float, float, math_log1pf(x))
LOOP(loop_one_plus_expf, float, float, math_one_plus_expf(x))
LOOP(loop_exp, double, double, math_exp(x))
LOOP(loop_expm1, double, double, math_expm1(x))
LOOP(loop_log, double, double, math_log(x))
LOOP(loop_log1p, double, double, math_log1p(x))
LOOP(loop_tanh, double, double, math_tanh(x))
LOOP(loop_sin, double, double, math_sin(x))
LOOP(loop_cos, double, double, math_cos(x))

/* The largest errors in units in the last place. Those of the float functions were measured over
 * all 2^32 inputs and rounded up; since the bits are the same everywhere, they hold everywhere.
 * The hash is that of the results for hash_sample_f32. */
static const struct function_f32 {
  const char *name;
  void (*const *loop)(const float *, float *, int);
  double (*reference)(double);
  double bound;
  uint64_t hash;
} functions_f32[] = {
    {"expf", loop_expf, exp, 0.90, 0x9b79ad1f5f90e104u},
    {"expm1f", loop_expm1f, expm1, 1.24, 0xa84cf05b7c78f508u},
    {"tanhf", loop_tanhf, tanh, 1.38, 0x122d353280f4f2c1u},
    {"log1pf", loop_log1pf, log1p, 1.28, 0x1c0954f52c1580fau},
};

/* Ranges are sampled evenly, and so are all doubles by their bits. The bounds of the double
 * functions add up their roundings at the worst place; in parentheses is the largest error seen
 * in four million points near it:
 *
 *   exp       last fma 0.5; the one before it and r's own, 0.25 and 0.2 (0.88)
 *   log       last sum 0.5; the sum before it 0.25 .. 0.5, which f - f^2/2 seldom fills (0.93)
 *   log1p     the same (0.92)
 *   sin, cos  last sum 0.5; its smaller term is below 1/4 of it, with two roundings (0.78)
 *   expm1     two sums of 0.5; r's own 0.25 and the rest 0.2 (1.39)
 *   tanh      at 0.55, 1 - 2 / (E + 1): E and the sum 0.6, quotient 0.5, difference 0.5 (1.61) */
static const struct function_f64 {
  const char *name;
  void (*const *loop)(const double *, double *, int);
  long double (*reference)(long double);
  double bound;
  double ranges[3][2]; /* the middle of a range and half its width */
  uint64_t hash;
} functions_f64[] = {
    {"exp", loop_exp, expl, 0.95, {{0, 1}, {0, 750}, {-727, 19}}, 0x401d1dd4ac4cbd4eu},
    {"expm1", loop_expm1, expm1l, 1.45, {{0, 1}, {330, 390}, {0, 2.5}}, 0x9f53b7aab2ac1f17u},
    {"log", loop_log, logl, 1.0, {{1, 1}, {1, 1e-4}, {500, 500}}, 0xbae808f18a6c5fccu},
    {"log1p", loop_log1p, log1pl, 1.0, {{0, 1}, {0, 1e-4}, {500, 500}}, 0x0877e3074e708517u},
    {"tanh", loop_tanh, tanhl, 1.75, {{0, 1}, {0, 22}, {0.6, 0.1}}, 0x2585b3025a124ad5u},
    {"sin", loop_sin, sinl, 0.95, {{0, 4}, {0, 0x1p21}, {0, 0x1p30}}, 0x78d7c88526020ee5u},
    {"cos", loop_cos, cosl, 0.95, {{0, 4}, {0, 0x1p21}, {0, 0x1p30}}, 0xaaaa11c2a436399au},
};

enum {
  COUNT_F32 = sizeof functions_f32 / sizeof functions_f32[0],
  COUNT_F64 = sizeof functions_f64 / sizeof functions_f64[0]
};

/* Every 97th float. glibc's double functions err by less than 2^-29 of a float's ulp. */
START_TEST(float_functions_keep_their_bounds) {
  const struct function_f32 *f = &functions_f32[_i];
  float in[BLOCK], out[BLOCK];
  double worst = 0.0;
  float worst_at = 0.0f;
  for (uint64_t bits = 0; bits < (uint64_t)1 << 32;) {
    for (int i = 0; i < BLOCK; ++i, bits += 97) in[i] = math_f32_of((uint32_t)bits);
    f->loop[best_level()](in, out, BLOCK);
    for (int i = 0; i < BLOCK; ++i) {
      double error = ulps_f32(f->reference((double)in[i]), out[i]);
      if (error > worst) worst = error, worst_at = in[i];
    }
  }
  ck_assert_msg(worst <= f->bound, "%s errs by %g ulp at %a", f->name, worst, (double)worst_at);
}
END_TEST

/* The largest error over BLOCK * blocks values: those of the range, or of all doubles if it is
 * NULL. Long doubles have 11 more bits on x86 (60 as quads), so that they add 0.002 ulp. */
static double worst_f64(const struct function_f64 *f, const double *range, int blocks,
                        uint64_t seed, double *at) {
  double in[BLOCK], out[BLOCK], worst = 0.0;
  for (int block = 0; block < blocks; ++block) {
    for (int i = 0; i < BLOCK; ++i) {
      uint64_t bits = random_bits(seed, (uint64_t)block * BLOCK + (uint64_t)i);
      double unit = (double)(int64_t)bits * 0x1p-63;
      in[i] = range ? range[0] + range[1] * unit : math_f64_of(bits);
    }
    f->loop[best_level()](in, out, BLOCK);
    for (int i = 0; i < BLOCK; ++i) {
      int outside = f->loop == loop_sin || f->loop == loop_cos ? fabs(in[i]) > 0x1p30 : 0;
      double error = ulps_f64(outside ? NAN : f->reference((long double)in[i]), out[i]);
      if (error > worst) worst = error, *at = in[i];
    }
  }
  return worst;
}

START_TEST(double_functions_keep_their_bounds) {
  const struct function_f64 *f = &functions_f64[_i];
  for (int range = 0; range < 4; ++range) {
    double at = 0.0;
    uint64_t seed = 1000u + (uint64_t)(10 * _i + range);
    double worst = worst_f64(f, range < 3 ? f->ranges[range] : NULL, 61, seed, &at);
    ck_assert_msg(worst <= f->bound + 0.002, "%s errs by %g ulp at %a (seed %d)", f->name, worst,
                  at, (int)seed);
  }
}
END_TEST

/* Next to n * pi/2 the reduction cancels all bits that one or two doubles of pi have. */
START_TEST(sine_and_cosine_are_exact_next_to_their_zeros) {
  const double pi_2 = 0x1.921fb54442d18p0;
  double worst = 0.0;
  for (uint64_t i = 0; i < 100000; ++i) {
    double n = (double)(random_bits(7, i) >> (35 + i % 29));
    for (int ulp = -1; ulp <= 1; ++ulp) {
      double x = math_f64_of(math_bits_f64(n * pi_2) + (uint64_t)(int64_t)(n > 0.0 ? ulp : 0));
      if (x > 0x1p30) continue;
      worst = fmax(worst, ulps_f64(sinl((long double)x), math_sin(x)));
      worst = fmax(worst, ulps_f64(cosl((long double)x), math_cos(x)));
    }
  }
  ck_assert_msg(worst <= 0.95, "%g ulp (seed 7)", worst);
}
END_TEST

static int same_f32(float a, float b) {
  return (isnan(a) && isnan(b)) || math_bits_f32(a) == math_bits_f32(b);
}

static int same_f64(double a, double b) {
  return (isnan(a) && isnan(b)) || math_bits_f64(a) == math_bits_f64(b);
}

/* Arguments whose results are exact, or not numbers, by definition. The C library has the values
 * of Annex F, signs of zeros included. */
START_TEST(edges_have_the_values_of_annex_f) {
  static const double edges[] = {0.0, -0.0, INFINITY, -INFINITY, NAN, -1.0, -2.0};
  for (int i = 0; i < 7; ++i) {
    int inexact_except_logs = i >= 5;
    for (int k = 0; k < COUNT_F32; ++k) {
      const struct function_f32 *f = &functions_f32[k];
      if (inexact_except_logs && f->loop != loop_log1pf) continue;
      float in = (float)edges[i], out;
      f->loop[LEVEL_PLAIN](&in, &out, 1);
      ck_assert_msg(same_f32(out, (float)f->reference(edges[i])), "%s(%g) is %g", f->name,
                    edges[i], (double)out);
    }
    for (int k = 0; k < COUNT_F64; ++k) {
      const struct function_f64 *f = &functions_f64[k];
      if (inexact_except_logs && f->loop != loop_log1p && f->loop != loop_log) continue;
      double out;
      f->loop[LEVEL_PLAIN](&edges[i], &out, 1);
      ck_assert_msg(same_f64(out, (double)f->reference((long double)edges[i])), "%s(%g) is %g",
                    f->name, edges[i], out);
    }
  }
}
END_TEST

START_TEST(overflow_and_underflow_come_at_the_last_number) {
  ck_assert(math_expf(0x1.62e42ep6f) < INFINITY);
  ck_assert(math_expf(0x1.62e43p6f) == INFINITY);
  ck_assert(math_expf(-0x1.9fe368p6f) == 0x1p-149f);
  ck_assert(math_expf(-0x1.9fe36ap6f) == 0.0f);
  ck_assert(math_expm1f(0x1.62e42ep6f) < INFINITY);
  ck_assert(math_expm1f(0x1.62e43p6f) == INFINITY);
  ck_assert(math_expm1f(-20.0f) == -1.0f);
  ck_assert(math_expm1f(0x1p-149f) == 0x1p-149f);
  ck_assert(math_tanhf(9.1f) == 1.0f);
  ck_assert(math_tanhf(-0x1p-149f) == -0x1p-149f);
  ck_assert(math_log1pf(0x1.fffffep127f) == 0x1.62e43p6f);
  ck_assert(math_exp(0x1.62e42fefa39efp9) < INFINITY);
  ck_assert(math_exp(0x1.62e42fefa39fp9) == INFINITY);
  ck_assert(math_exp(-0x1.74910d52d3051p9) == 0x1p-1074);
  ck_assert(math_exp(-0x1.74910d52d3052p9) == 0.0);
  ck_assert(math_log(0x1p-1074) == -0x1.74385446d71c3p9);
  ck_assert(isnan(math_sin(0x1.0000000000001p30)) && isnan(math_cos(-0x1.0000000000001p30)));
}
END_TEST

/* The sigmoid's short form has the bits of the long one, for every 97th float that is a number. */
START_TEST(one_plus_exp_is_the_sum_of_one_and_exp) {
  float in[BLOCK], exps[BLOCK], sums[BLOCK];
  int64_t different = 0;
  for (uint64_t bits = 0; bits < (uint64_t)1 << 32;) {
    for (int i = 0; i < BLOCK; ++i, bits += 97) in[i] = math_f32_of((uint32_t)bits);
    loop_expf[best_level()](in, exps, BLOCK);
    loop_one_plus_expf[best_level()](in, sums, BLOCK);
    for (int i = 0; i < BLOCK; ++i) {
      different += !isnan(in[i]) && sums[i] != 1.0f + exps[i];
    }
  }
  ck_assert_int_eq(different, 0);
}
END_TEST

/* The samples for the hashes: floats evenly by their bits; doubles alternately by their bits and
 * over -64 .. 64. */
enum { HASH_BLOCKS = 64 };

static void hash_sample_f32(int block, float *in) {
  for (int i = 0; i < BLOCK; ++i) in[i] = math_f32_of((uint32_t)(block * BLOCK + i) * 16381u);
}

static void hash_sample_f64(int block, double *in) {
  for (int i = 0; i < BLOCK; ++i) {
    uint64_t bits = random_bits(42, (uint64_t)block * BLOCK + (uint64_t)i);
    in[i] = i % 2 == 0 ? math_f64_of(bits) : (double)(int64_t)bits * 0x1p-57;
  }
}

START_TEST(float_functions_have_the_committed_bits_at_every_level) {
  const struct function_f32 *f = &functions_f32[_i];
  for (int level = 0; level < LEVELS; ++level) {
    if (!level_runs(level)) continue;
    uint64_t hash = HASH_START;
    for (int block = 0; block < HASH_BLOCKS; ++block) {
      float in[BLOCK], out[BLOCK];
      hash_sample_f32(block, in);
      f->loop[level](in, out, BLOCK);
      for (int i = 0; i < BLOCK; ++i) hash = hash_f32(hash, out[i]);
    }
    ck_assert_msg(hash == f->hash, "%s at level %s has 0x%016llx", f->name, level_names[level],
                  (unsigned long long)hash);
  }
}
END_TEST

START_TEST(double_functions_have_the_committed_bits_at_every_level) {
  const struct function_f64 *f = &functions_f64[_i];
  for (int level = 0; level < LEVELS; ++level) {
    if (!level_runs(level)) continue;
    uint64_t hash = HASH_START;
    for (int block = 0; block < HASH_BLOCKS; ++block) {
      double in[BLOCK], out[BLOCK];
      hash_sample_f64(block, in);
      f->loop[level](in, out, BLOCK);
      for (int i = 0; i < BLOCK; ++i) hash = hash_f64(hash, out[i]);
    }
    ck_assert_msg(hash == f->hash, "%s at level %s has 0x%016llx", f->name, level_names[level],
                  (unsigned long long)hash);
  }
}
END_TEST

int main(void) {
  for (int level = 0; level < LEVELS; ++level) {
    if (!level_runs(level)) printf("this machine lacks level %s\n", level_names[level]);
  }
  Suite *suite = suite_create("inside_math");
  TCase *errors = add_case(suite, "errors", 60);
  tcase_add_loop_test(errors, float_functions_keep_their_bounds, 0, COUNT_F32);
  tcase_add_loop_test(errors, double_functions_keep_their_bounds, 0, COUNT_F64);
  tcase_add_test(errors, sine_and_cosine_are_exact_next_to_their_zeros);
  TCase *bits = add_case(suite, "bits", 60);
  tcase_add_test(bits, edges_have_the_values_of_annex_f);
  tcase_add_test(bits, overflow_and_underflow_come_at_the_last_number);
  tcase_add_test(bits, one_plus_exp_is_the_sum_of_one_and_exp);
  tcase_add_loop_test(bits, float_functions_have_the_committed_bits_at_every_level, 0, COUNT_F32);
  tcase_add_loop_test(bits, double_functions_have_the_committed_bits_at_every_level, 0, COUNT_F64);
  return run_suite(suite);
}
