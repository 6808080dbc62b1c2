/* Random numbers, 16-bit numbers and the order of sums. */
#include "math/float16.h"
#include "math/philox.h"
#include "math/tree.h"
#include "math_measure.h"
#include "runner.h"
#include <stdio.h>
#include <string.h>

LOOP(widen_float16, uint16_t, float, float16_to_float(x))
LOOP(widen_bfloat16, uint16_t, float, bfloat16_to_float(x))
LOOP(narrow_float_to_float16, float, uint16_t, float_to_float16(x))
LOOP(narrow_float_to_bfloat16, float, uint16_t, float_to_bfloat16(x))
LOOP(narrow_double_to_float16, double, uint16_t, double_to_float16(x))
LOOP(narrow_double_to_bfloat16, double, uint16_t, double_to_bfloat16(x))

enum { ALL_HALVES = 65536 };

/* The published known answers (Random123, tests/kat_vectors, "philox4x32 10"). */
START_TEST(philox_gives_the_published_answers) {
  static const struct {
    uint32_t counter[4], key[2], out[4];
  } vectors[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (int i = 0; i < 3; ++i) {
    uint32_t out[4];
    philox4x32(vectors[i].counter, vectors[i].key, out);
    ck_assert_mem_eq(out, vectors[i].out, sizeof out);
  }
}
END_TEST

START_TEST(uniforms_lie_above_zero_and_reach_one) {
  ck_assert(math_uniform(0, 0) == 0x1p-53);
  ck_assert(math_uniform(0, 0x7ff) == 0x1p-53);
  ck_assert(math_uniform(0, 0x800) == 0x1p-52);
  ck_assert(math_uniform(0x80000000u, 0) == 0.5 + 0x1p-53);
  ck_assert(math_uniform(0xffffffffu, 0xffffffffu) == 1.0);
}
END_TEST

/* Box-Muller by its definition in long double: the radius and the sine or cosine err by less than
 * 2 units of 2^-52 each, the rounded angle (up to 2 pi) by one absolute unit of 2^-50. */
START_TEST(normals_are_those_of_box_and_muller) {
  const long double two_pi = 6.28318530717958647692L;
  for (uint64_t i = 0; i < 20000; ++i) {
    uint64_t first = random_bits(3, 2 * i), second = random_bits(3, 2 * i + 1);
    uint32_t bits[4] = {(uint32_t)(first >> 32), (uint32_t)first, (uint32_t)(second >> 32),
                        (uint32_t)second};
    double out[2];
    normal_pair(bits, out);
    long double radius = sqrtl(-2.0L * logl((long double)math_uniform(bits[0], bits[1])));
    long double angle = two_pi * (long double)math_uniform(bits[2], bits[3]);
    ck_assert(fabsl(out[0] - radius * cosl(angle)) <= radius * 0x1p-49L);
    ck_assert(fabsl(out[1] - radius * sinl(angle)) <= radius * 0x1p-49L);
  }
}
END_TEST

/* For 2^18 normals: the mean is within 5 / sqrt(n) of 0, the variance within 5 sqrt(2 / n) of 1,
 * the share beyond 2 within 5 sqrt(p / n) of p = 0.0455, and the correlation of neighbours within
 * 5 / sqrt(n) of 0. */
START_TEST(normals_have_the_moments_of_the_normal_distribution) {
  const int n = 1 << 18;
  double sum = 0.0, squares = 0.0, products = 0.0, last = 0.0;
  int beyond = 0;
  for (int i = 0; i < n; ++i) {
    double z = normal_at(2024, 3, (uint64_t)i);
    sum += z;
    squares += z * z;
    products += z * last;
    beyond += fabs(z) > 2.0;
    last = z;
  }
  ck_assert(fabs(sum / n) < 5.0 / sqrt(n));
  ck_assert(fabs(squares / n - 1.0) < 5.0 * sqrt(2.0 / n));
  ck_assert(fabs(products / n) < 5.0 / sqrt(n));
  ck_assert(fabs((double)beyond / n - 0.0455) < 5.0 * sqrt(0.0455 / n));
}
END_TEST

/* Seed, stream and index each change the number, in their high words too. */
START_TEST(every_part_of_a_normals_place_counts) {
  const uint64_t high = (uint64_t)1 << 32;
  double z[] = {normal_at(1, 2, 6), normal_at(2, 2, 6),        normal_at(1 + high, 2, 6),
                normal_at(1, 3, 6), normal_at(1, 2 + high, 6), normal_at(1, 2, 7),
                normal_at(1, 2, 8), normal_at(1, 2, 6 + high), normal_at(1, 2, 6 + 2 * high)};
  const int n = sizeof z / sizeof z[0];
  for (int i = 0; i < n; ++i) {
    for (int j = 0; j < i; ++j) ck_assert_msg(z[i] != z[j], "places %d and %d", j, i);
  }
}
END_TEST

START_TEST(normals_have_the_committed_bits) {
  uint64_t hash = HASH_START;
  for (uint64_t i = 0; i < 10000; ++i) hash = hash_f64(hash, normal_at(i / 100, i % 7, i));
  ck_assert_msg(hash == 0xe7bc8469ecebe578u, "0x%016llx", (unsigned long long)hash);
}
END_TEST

/* A 16-bit number by its definition. */
static double widened(uint16_t bits, int digits, int bias) {
  int exponent = (bits & 0x7fff) >> digits, fraction = bits & ((1 << digits) - 1);
  double magnitude;
  if (exponent == 2 * bias + 1) {
    magnitude = fraction != 0 ? NAN : INFINITY;
  } else if (exponent == 0) {
    magnitude = ldexp(fraction, 1 - bias - digits);
  } else {
    magnitude = ldexp((1 << digits) + fraction, exponent - bias - digits);
  }
  return (bits & 0x8000) != 0 ? -magnitude : magnitude;
}

START_TEST(every_16_bit_number_widens_exactly) {
  static uint16_t in[ALL_HALVES];
  static float half[ALL_HALVES], brain[ALL_HALVES];
  for (int i = 0; i < ALL_HALVES; ++i) in[i] = (uint16_t)i;
  for (int level = 0; level < LEVELS; ++level) {
    if (!level_runs(level)) continue;
    widen_float16[level](in, half, ALL_HALVES);
    widen_bfloat16[level](in, brain, ALL_HALVES);
    int different = 0;
    for (int i = 0; i < ALL_HALVES; ++i) {
      double h = widened(in[i], 10, 15), b = widened(in[i], 7, 127);
      different += isnan(h) ? !isnan(half[i]) : math_bits_f32((float)h) != math_bits_f32(half[i]);
      different +=
          isnan(b) ? !isnan(brain[i]) : math_bits_f32((float)b) != math_bits_f32(brain[i]);
    }
    ck_assert_msg(different == 0, "%d at level %s", different, level_names[level]);
  }
}
END_TEST

/* The nearest of the 2^15 magnitudes, ties to the even one, by comparing with the middle between
 * each number and the next: twice below and above each middle, and on it. The number after the
 * largest one counts as the next power of two, and stands for infinity. */
static void check_narrowing_around(double middle, uint16_t below, uint16_t even, int digits) {
  uint16_t above = (uint16_t)(below + 1);
  double in[3] = {nextafter(middle, 0.0), middle, nextafter(middle, INFINITY)};
  uint16_t expected[3] = {below, even, above}, out[3];
  for (int level = 0; level < LEVELS; ++level) {
    if (!level_runs(level)) continue;
    (digits == 10 ? narrow_double_to_float16 : narrow_double_to_bfloat16)[level](in, out, 3);
    if (memcmp(out, expected, sizeof out) != 0) ck_abort_msg("around %a from double", middle);
    float in32[3] = {nextafterf((float)middle, 0.0f), (float)middle,
                     nextafterf((float)middle, INFINITY)};
    if ((double)in32[1] != middle) continue; /* below the subnormals of float */
    (digits == 10 ? narrow_float_to_float16 : narrow_float_to_bfloat16)[level](in32, out, 3);
    if (memcmp(out, expected, sizeof out) != 0) ck_abort_msg("around %a from float", middle);
  }
}

START_TEST(narrowing_gives_the_nearest_number_and_the_even_one_of_two) {
  const int digits = _i == 0 ? 10 : 7, bias = _i == 0 ? 15 : 127;
  const int infinity = (2 * bias + 1) << digits;
  for (int i = 0; i < infinity; ++i) {
    double value = widened((uint16_t)i, digits, bias);
    double next = i + 1 < infinity ? widened((uint16_t)(i + 1), digits, bias) : ldexp(1, bias + 1);
    check_narrowing_around(0.5 * (value + next), (uint16_t)i, (uint16_t)(i + (i & 1)), digits);
  }
}
END_TEST

START_TEST(narrowing_a_widened_number_gives_it_back) {
  for (int i = 0; i < ALL_HALVES; ++i) {
    uint16_t bits = (uint16_t)i;
    float half = float16_to_float(bits), brain = bfloat16_to_float(bits);
    uint16_t quiet_half = (bits & 0x8000u) | 0x7e00u, quiet_brain = (bits & 0x8000u) | 0x7fc0u;
    uint16_t half_expected = half != half ? quiet_half : bits;
    uint16_t brain_expected = brain != brain ? quiet_brain : bits;
    int right = float_to_float16(half) == half_expected &&
                float_to_bfloat16(brain) == brain_expected &&
                double_to_float16(isnan(half) ? copysign(NAN, (bits & 0x8000) ? -1.0 : 1.0)
                                              : (double)half) == half_expected &&
                double_to_bfloat16(isnan(brain) ? copysign(NAN, (bits & 0x8000) ? -1.0 : 1.0)
                                                : (double)brain) == brain_expected;
    if (!right) ck_abort_msg("0x%04x", (unsigned)bits);
  }
}
END_TEST

START_TEST(what_is_too_large_becomes_infinity) {
  static const double large[] = {65520.0, 1e5, 0x1p127, 0x1.ffp127, 1e300, INFINITY};
  for (int i = 0; i < 6; ++i) {
    ck_assert_uint_eq(double_to_float16(large[i]), 0x7c00);
    ck_assert_uint_eq(double_to_float16(-large[i]), 0xfc00);
    ck_assert_uint_eq(float_to_float16((float)large[i]), 0x7c00);
    if (i < 3) continue;
    ck_assert_uint_eq(double_to_bfloat16(large[i]), 0x7f80);
    ck_assert_uint_eq(double_to_bfloat16(-large[i]), 0xff80);
  }
  ck_assert_uint_eq(double_to_float16(0x1p-1074), 0);
  ck_assert_uint_eq(double_to_bfloat16(-0x1p-1074), 0x8000);
}
END_TEST

/* Through float the first would become a tie, and then round to the even number below. */
START_TEST(a_double_is_rounded_once) {
  ck_assert_uint_eq(double_to_float16(1.0 + 0x1p-11 + 0x1p-40), 0x3c01);
  ck_assert_uint_eq(double_to_bfloat16(1.0 + 0x1p-8 + 0x1p-40), 0x3f81);
}
END_TEST

/* The halving tree by its definition, over padded groups of 4,096. */
static double padded_tree_f64(const double *terms, int64_t count) {
  static double group[TREE_GROUP];
  double sum = 0.0;
  for (int64_t start = 0; start < count; start += TREE_GROUP) {
    for (int j = 0; j < TREE_GROUP; ++j) group[j] = start + j < count ? terms[start + j] : -0.0;
    for (int stride = 2048; stride >= 1; stride /= 2) {
      for (int j = 0; j < stride; ++j) group[j] += group[j + stride];
    }
    sum = start == 0 ? group[0] : sum + group[0];
  }
  return sum;
}

static float padded_tree_f32(const float *terms, int64_t count) {
  static float group[TREE_GROUP];
  float sum = 0.0f;
  for (int64_t start = 0; start < count; start += TREE_GROUP) {
    for (int j = 0; j < TREE_GROUP; ++j) group[j] = start + j < count ? terms[start + j] : -0.0f;
    for (int stride = 2048; stride >= 1; stride /= 2) {
      for (int j = 0; j < stride; ++j) group[j] += group[j + stride];
    }
    sum = start == 0 ? group[0] : sum + group[0];
  }
  return sum;
}

START_TEST(sums_follow_the_halving_tree) {
  enum { MOST = 20000 };
  static double terms[MOST];
  static float terms32[MOST];
  for (int i = 0; i < MOST; ++i) {
    terms[i] = ldexp((double)(int64_t)random_bits(5, (uint64_t)i), -63 + i % 11);
    terms32[i] = (float)terms[i];
  }
  static const int counts[] = {4095, 4096, 4097, 8191, 8192, 8193, 12288, 12289, MOST};
  for (int i = 0; i < 700 + 9; ++i) {
    int count = i < 700 ? i : counts[i - 700];
    ck_assert(math_bits_f64(tree_sum_f64(terms, count)) ==
              math_bits_f64(padded_tree_f64(terms, count)));
    ck_assert(math_bits_f32(tree_sum_f32(terms32, count)) ==
              math_bits_f32(padded_tree_f32(terms32, count)));
  }
}
END_TEST

START_TEST(a_sum_of_nothing_is_zero_and_of_minus_zeros_minus_zero) {
  static float zeros32[5000];
  static double zeros[5000];
  ck_assert(math_bits_f32(tree_sum_f32(NULL, 0)) == 0);
  ck_assert(math_bits_f64(tree_sum_f64(NULL, 0)) == 0);
  for (int i = 0; i < 5000; ++i) zeros[i] = zeros32[i] = -0.0f;
  for (int count = 1; count <= 5000; count += 833) {
    ck_assert(signbit(tree_sum_f32(zeros32, count)));
    ck_assert(signbit(tree_sum_f64(zeros, count)));
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("inside_math_numbers");
  TCase *random = add_case(suite, "random numbers", 60);
  tcase_add_test(random, philox_gives_the_published_answers);
  tcase_add_test(random, uniforms_lie_above_zero_and_reach_one);
  tcase_add_test(random, normals_are_those_of_box_and_muller);
  tcase_add_test(random, normals_have_the_moments_of_the_normal_distribution);
  tcase_add_test(random, every_part_of_a_normals_place_counts);
  tcase_add_test(random, normals_have_the_committed_bits);
  TCase *narrow = add_case(suite, "16 bits", 60);
  tcase_add_test(narrow, every_16_bit_number_widens_exactly);
  tcase_add_loop_test(narrow, narrowing_gives_the_nearest_number_and_the_even_one_of_two, 0, 2);
  tcase_add_test(narrow, narrowing_a_widened_number_gives_it_back);
  tcase_add_test(narrow, what_is_too_large_becomes_infinity);
  tcase_add_test(narrow, a_double_is_rounded_once);
  TCase *sums = add_case(suite, "sums", 60);
  tcase_add_test(sums, sums_follow_the_halving_tree);
  tcase_add_test(sums, a_sum_of_nothing_is_zero_and_of_minus_zeros_minus_zero);
  return run_suite(suite);
}
