/* cos and sin of m * theta_k against 113 bits: the error is that of a small angle at every length
 * up to 2^20 and beyond, where a product rounded to double would have lost 20 bits of the
 * angle. */
#include "math/rotation.h"
#include <math.h>
#include <stdio.h>
#include "harness.h"
#include "position_oracle.h"
#include "runner.h"

/* In units of 2^-53, which is half a unit in the last place of 1. */
static double error_of(double ours, oracle_wide right) {
  const oracle_wide difference = (oracle_wide)ours - right;
  return (double)(difference < 0 ? -difference : difference) * 0x1p53;
}

/* The bound: half a unit for the polynomial's result, and as much for the rounded angle and its
 * tail. */
static void check(int64_t m, int64_t k, int64_t pairs, double *worst) {
  const math_two quarters = math_rotary_quarters(k, pairs);
  const math_rotation found = math_rotate((double)m, quarters.hi, quarters.lo);
  oracle_wide cosine, sine;
  oracle_rotation(m, k, pairs, &cosine, &sine);
  const double off = fmax(error_of(found.cosine, cosine), error_of(found.sine, sine));
  *worst = fmax(*worst, off);
  ck_assert_msg(off <= 1.0, "m %lld, pair %lld of %lld: %g units of 2^-53", (long long)m,
                (long long)k, (long long)pairs, off);
}

START_TEST(every_short_distance_is_within_a_unit) {
  double worst = 0;
  for (int64_t m = 0; m < 300; m++)
    for (int64_t k = 0; k < 64; k++) check(m, k, 64, &worst);
  printf("short distances: %.3f units of 2^-53\n", worst);
}
END_TEST

START_TEST(long_distances_are_as_exact) {
  uint64_t seed = 5;
  double worst = 0;
  for (int i = 0; i < 20000; i++) {
    const int64_t pairs = 1 + random_below(&seed, 512);
    check(random_below(&seed, INT64_C(1) << (10 + i % 31)), random_below(&seed, pairs), pairs,
          &worst);
  }
  printf("distances up to 2^40: %.3f units of 2^-53\n", worst);
}
END_TEST

START_TEST(no_rotation_is_exact) {
  const math_two quarters = math_rotary_quarters(3, 8);
  const math_rotation none = math_rotate(0, quarters.hi, quarters.lo);
  ck_assert(none.cosine == 1 && none.sine == 0);
}
END_TEST

/* The high part is the rounded value, and both together have 100 bits. */
START_TEST(quarters_have_two_doubles_precision) {
  const oracle_wide half_pi =
      (oracle_wide)0x1.921fb54442d18p+0 + 0x1.1a62633145c07p-54 - 0x1.f1976b7ed8fbcp-110;
  for (int64_t k = 0; k < 64; k++) {
    const math_two quarters = math_rotary_quarters(k, 64);
    const oracle_wide theta = oracle_exp(
        -(oracle_wide)k *
        ((oracle_wide)0x1.26bb1bbb55516p+3 - 0x1.f48ad494ea3e9p-51 - 0x1.9ebae3ae0260cp-105) / 64);
    const oracle_wide off = (((oracle_wide)quarters.hi + quarters.lo) * half_pi - theta) / theta;
    ck_assert_double_le((double)(off < 0 ? -off : off), 0x1p-90);
    ck_assert(quarters.hi == (double)(theta / half_pi));
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("inside_math_rotation");
  TCase *tests = add_case(suite, "rotation", 60);
  tcase_add_test(tests, every_short_distance_is_within_a_unit);
  tcase_add_test(tests, long_distances_are_as_exact);
  tcase_add_test(tests, no_rotation_is_exact);
  tcase_add_test(tests, quarters_have_two_doubles_precision);
  return run_suite(suite);
}
