/* How the check_inside_math suites measure: errors in units in the last place, hashes of bits, and
 * one function compiled at every x86 level, so that scalar and vector code meet in one program. */
#ifndef CUMEGA_TESTS_MATH_MEASURE_H
#define CUMEGA_TESTS_MATH_MEASURE_H

#include <math.h>
#include <stdint.h>
#include "math/math_attributes.h"

/* |got - reference| in units in the last place of the reference (at least the subnormals'
 * spacing). Infinities and values beyond the range count as the power of two after the largest
 * number. If only one of the two is a NaN, the error is infinite. */
static inline double ulps_f32(double reference, float got) {
  if (isnan(reference) || isnan(got)) return isnan(reference) && isnan(got) ? 0.0 : INFINITY;
  double exact = fabs(reference) < 0x1p128 ? reference : copysign(0x1p128, reference);
  double value = isinf(got) ? copysign(0x1p128, got) : (double)got;
  double size = fabs(exact) < 0x1p-126 ? 0x1p-126 : fabs(exact);
  uint64_t order = math_bits_f64(size) & 0x7ff0000000000000u;
  return fabs(value - exact) * math_f64_of(((uint64_t)(2 * 1023 + 23) << 52) - order);
}

static inline double ulps_f64(long double reference, double got) {
  if (isnan(reference) || isnan(got)) return isnan(reference) && isnan(got) ? 0.0 : INFINITY;
  long double limit = ldexpl(1.0L, 1024);
  long double exact = fabsl(reference) < limit ? reference : copysignl(limit, reference);
  long double value = isinf(got) ? copysignl(limit, got) : (long double)got;
  int exponent;
  frexpl(fabsl(exact) < 0x1p-1022L ? 0x1p-1022L : exact, &exponent);
  return (double)ldexpl(fabsl(value - exact), 53 - exponent);
}

/* FNV-1a over the bytes of the bits, low byte first; all NaNs are hashed as one. */
#define HASH_START 0xcbf29ce484222325u

static inline uint64_t hash_bits(uint64_t hash, uint64_t bits, int bytes) {
  for (int i = 0; i < bytes; ++i) hash = (hash ^ (bits >> (8 * i) & 0xffu)) * 0x100000001b3u;
  return hash;
}

static inline uint64_t hash_f32(uint64_t hash, float x) {
  return hash_bits(hash, isnan(x) ? 0x7fc00000u : math_bits_f32(x), 4);
}

static inline uint64_t hash_f64(uint64_t hash, double x) {
  return hash_bits(hash, isnan(x) ? 0x7ff8000000000000u : math_bits_f64(x), 8);
}

/* 64 random bits for every i (SplitMix64's mixing). */
static inline uint64_t random_bits(uint64_t seed, uint64_t i) {
  uint64_t z = seed + (i + 1) * 0x9e3779b97f4a7c15u;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* The levels that this program was compiled for and this machine runs: plain is what the
 * compiler's options say; v3 and v4 are those of x86-64, and the compiler vectorises for them. */
enum { LEVEL_PLAIN, LEVEL_V3, LEVEL_V4, LEVELS };
static const char *const level_names[LEVELS] = {"plain", "v3", "v4"};

#if defined(__x86_64__)
#define AT_V3 __attribute__((target("avx2,fma")))
#define AT_V4 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512cd,avx512dq,avx512vl")))
static inline int level_runs(int level) {
  return level == LEVEL_PLAIN ||
         (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
          (level == LEVEL_V3 ||
           (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))));
}
#else
#define AT_V3
#define AT_V4
static inline int level_runs(int level) {
  return level == LEVEL_PLAIN;
}
#endif

static inline int best_level(void) {
  int level = LEVELS - 1;
  while (!level_runs(level)) --level;
  return level;
}

/* Defines the functions name_plain, name_v3, name_v4: out[i] = expression of x, for n values; and
 * the table `name` of the three. */
#define LOOP(name, in_type, out_type, expression)                                                 \
  LOOP_AT(name##_plain, in_type, out_type, expression, )                                          \
  LOOP_AT(name##_v3, in_type, out_type, expression, AT_V3)                                        \
  LOOP_AT(name##_v4, in_type, out_type, expression, AT_V4)                                        \
  static void (*const name[LEVELS])(const in_type *, out_type *, int) = {name##_plain, name##_v3, \
                                                                         name##_v4};
#define LOOP_AT(name, in_type, out_type, expression, attribute)                                   \
  attribute static void name(const in_type *restrict in, out_type *restrict out, int n) {         \
    for (int i = 0; i < n; ++i) {                                                                 \
      const in_type x = in[i];                                                                    \
      out[i] = expression;                                                                        \
    }                                                                                             \
  }

#endif
