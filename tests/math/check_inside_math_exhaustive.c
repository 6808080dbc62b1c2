/* All 2^32 floats through the float functions and the narrowing conversions. Two threads share
 * the work; it takes minutes, the other suites take seconds. */
#include "math/elementary_f32.h"
#include "math/float16.h"
#include "math_measure.h"
#include "runner.h"
#include <pthread.h>
#include <stdio.h>

enum { BLOCK = 4096, THREADS = 2 };
#define ALL_FLOATS ((uint64_t)1 << 32)

LOOP(loop_expf, float, float, math_expf(x))
LOOP(loop_expm1f, float, float, math_expm1f(x))
LOOP(loop_tanhf, float, float, math_tanhf(x))
LOOP(loop_log1pf, float, float, math_log1pf(x))
LOOP(loop_one_plus_expf, float, float, math_one_plus_expf(x))
LOOP(loop_float16, float, uint16_t, float_to_float16(x))
LOOP(loop_bfloat16, float, uint16_t, float_to_bfloat16(x))

/* A thread's half of the floats, and what it found there. */
typedef struct part {
  pthread_t thread;
  uint64_t first, last;
  int index; /* for the function */
  double worst;
  float worst_at;
  int64_t different;
} part;

/* Runs task over all floats and adds up in *total what the parts found. */
static void run_over_all_floats(void *(*task)(void *), int index, part *total) {
  part parts[THREADS];
  for (int i = 0; i < THREADS; ++i) {
    parts[i] = (part){.first = ALL_FLOATS / THREADS * (uint64_t)i,
                      .last = ALL_FLOATS / THREADS * (uint64_t)(i + 1),
                      .index = index};
    ck_assert_int_eq(pthread_create(&parts[i].thread, NULL, task, &parts[i]), 0);
  }
  *total = (part){.index = index};
  for (int i = 0; i < THREADS; ++i) {
    ck_assert_int_eq(pthread_join(parts[i].thread, NULL), 0);
    total->different += parts[i].different;
    if (parts[i].worst < total->worst) continue;
    total->worst = parts[i].worst;
    total->worst_at = parts[i].worst_at;
  }
}

static void fill(uint64_t first, float *in) {
  for (int i = 0; i < BLOCK; ++i) in[i] = math_f32_of((uint32_t)(first + (uint64_t)i));
}

/* The largest errors in units in the last place, rounded up in the last digit. The references are
 * the C library's double functions, which err by less than 2^-28 of a float's unit. */
static const struct function {
  const char *name;
  void (*const *loop)(const float *, float *, int);
  double (*reference)(double);
  double bound;
} functions[] = {
    {"expf", loop_expf, exp, 0.90},
    {"expm1f", loop_expm1f, expm1, 1.24},
    {"tanhf", loop_tanhf, tanh, 1.38},
    {"log1pf", loop_log1pf, log1p, 1.28},
};
enum { FUNCTIONS = sizeof functions / sizeof functions[0] };

static void *measure(void *argument) {
  part *p = argument;
  const struct function *f = &functions[p->index];
  float in[BLOCK], out[BLOCK];
  for (uint64_t first = p->first; first < p->last; first += BLOCK) {
    fill(first, in);
    f->loop[best_level()](in, out, BLOCK);
    for (int i = 0; i < BLOCK; ++i) {
      double reference = f->reference((double)in[i]);
      double error = ulps_f32(reference, out[i]);
      if (error > p->worst) p->worst = error, p->worst_at = in[i];
      p->different += reference == 0.0 && !signbit(reference) != !signbit(out[i]);
    }
  }
  return NULL;
}

START_TEST(a_float_function_keeps_its_bound_everywhere) {
  part total;
  run_over_all_floats(measure, _i, &total);
  printf("%s: at most %.4f ulp, at %a\n", functions[_i].name, total.worst, (double)total.worst_at);
  ck_assert_msg(total.worst <= functions[_i].bound, "%s: %g ulp", functions[_i].name, total.worst);
  ck_assert_int_eq(total.different, 0); /* zeros have the right sign */
}
END_TEST

static void *compare_one_plus_exp(void *argument) {
  part *p = argument;
  float in[BLOCK], exps[BLOCK], sums[BLOCK];
  for (uint64_t first = p->first; first < p->last; first += BLOCK) {
    fill(first, in);
    loop_expf[best_level()](in, exps, BLOCK);
    loop_one_plus_expf[best_level()](in, sums, BLOCK);
    for (int i = 0; i < BLOCK; ++i) p->different += in[i] == in[i] && sums[i] != 1.0f + exps[i];
  }
  return NULL;
}

START_TEST(one_plus_exp_is_the_sum_of_one_and_exp_everywhere) {
  part total;
  run_over_all_floats(compare_one_plus_exp, 0, &total);
  ck_assert_int_eq(total.different, 0);
}
END_TEST

/* Narrowing by the definition: the magnitude as a whole number of the target's spacings, and the
 * remainder. digits are the target's without the hidden one, bias is its exponent's. */
static uint16_t narrow_by_definition(float x, int digits, int bias) {
  uint32_t bits = math_bits_f32(x), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  uint32_t infinity = (uint32_t)(2 * bias + 1) << digits;
  if (magnitude > 0x7f800000u) return (uint16_t)(sign | infinity | 1u << (digits - 1));
  int exponent = (int)(magnitude >> 23), order = (exponent > 0 ? exponent : 1) - 127;
  uint64_t significand = (magnitude & 0x7fffffu) | (exponent > 0 ? 0x800000u : 0u);
  int target_order = order > 1 - bias ? order : 1 - bias; /* of the spacing 2^(order - digits) */
  int shift = (23 - digits) + (target_order - order);
  if (shift > 40) return (uint16_t)sign;
  uint64_t whole = significand >> shift, left = significand - (whole << shift);
  uint64_t tie = (uint64_t)1 << (shift - 1);
  if (left > tie || (left == tie && whole % 2 == 1)) ++whole;
  uint64_t narrowed = ((uint64_t)(target_order + bias - 1) << digits) + whole;
  return (uint16_t)(sign | (narrowed < infinity ? narrowed : infinity));
}

static void *compare_float16(void *argument) {
  part *p = argument;
  float in[BLOCK];
  uint16_t out[BLOCK];
  for (uint64_t first = p->first; first < p->last; first += BLOCK) {
    fill(first, in);
    loop_float16[best_level()](in, out, BLOCK);
    for (int i = 0; i < BLOCK; ++i) p->different += out[i] != narrow_by_definition(in[i], 10, 15);
  }
  return NULL;
}

static void *compare_bfloat16(void *argument) {
  part *p = argument;
  float in[BLOCK];
  uint16_t out[BLOCK];
  for (uint64_t first = p->first; first < p->last; first += BLOCK) {
    fill(first, in);
    loop_bfloat16[best_level()](in, out, BLOCK);
    for (int i = 0; i < BLOCK; ++i) p->different += out[i] != narrow_by_definition(in[i], 7, 127);
  }
  return NULL;
}

START_TEST(every_float_narrows_to_the_nearest_float16) {
  part total;
  run_over_all_floats(compare_float16, 0, &total);
  ck_assert_int_eq(total.different, 0);
}
END_TEST

START_TEST(every_float_narrows_to_the_nearest_bfloat16) {
  part total;
  run_over_all_floats(compare_bfloat16, 0, &total);
  ck_assert_int_eq(total.different, 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("inside_math_exhaustive");
  TCase *errors = add_case(suite, "errors", 900);
  tcase_add_loop_test(errors, a_float_function_keeps_its_bound_everywhere, 0, FUNCTIONS);
  TCase *bits = add_case(suite, "bits", 900);
  tcase_add_test(bits, one_plus_exp_is_the_sum_of_one_and_exp_everywhere);
  tcase_add_test(bits, every_float_narrows_to_the_nearest_float16);
  tcase_add_test(bits, every_float_narrows_to_the_nearest_bfloat16);
  return run_suite(suite);
}
