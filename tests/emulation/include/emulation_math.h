/* Device intrinsics with one right answer: bits of numbers, roundings to nearest, integer
 * functions, loads. The approximate ones (__expf, __fdividef, rsqrtf, ...) are left out, since a
 * CPU cannot give the hardware's bits. */
#ifndef EMULATION_MATH_H
#define EMULATION_MATH_H

#include <math.h>
#include <stdint.h>
#include <string.h>

#define EMULATION_BITS(name, to, from)                                                            \
  static inline to name(from value) {                                                             \
    to bits;                                                                                      \
    static_assert(sizeof bits == sizeof value, "the same bits");                                  \
    memcpy(&bits, &value, sizeof bits);                                                           \
    return bits;                                                                                  \
  }
EMULATION_BITS(__float_as_int, int, float)
EMULATION_BITS(__float_as_uint, unsigned int, float)
EMULATION_BITS(__int_as_float, float, int)
EMULATION_BITS(__uint_as_float, float, unsigned int)
EMULATION_BITS(__double_as_longlong, long long, double)
EMULATION_BITS(__longlong_as_double, double, long long)
#undef EMULATION_BITS

static inline float __fadd_rn(float a, float b) {
  return a + b;
}
static inline float __fsub_rn(float a, float b) {
  return a - b;
}
static inline float __fmul_rn(float a, float b) {
  return a * b;
}
static inline float __fdiv_rn(float a, float b) {
  return a / b;
}
static inline float __frcp_rn(float a) {
  return 1.0f / a;
}
static inline float __fsqrt_rn(float a) {
  return __builtin_sqrtf(a);
}
static inline float __fmaf_rn(float a, float b, float c) {
  return __builtin_fmaf(a, b, c);
}
static inline double __dadd_rn(double a, double b) {
  return a + b;
}
static inline double __dsub_rn(double a, double b) {
  return a - b;
}
static inline double __dmul_rn(double a, double b) {
  return a * b;
}
static inline double __ddiv_rn(double a, double b) {
  return a / b;
}
static inline double __dsqrt_rn(double a) {
  return __builtin_sqrt(a);
}
static inline double __fma_rn(double a, double b, double c) {
  return __builtin_fma(a, b, c);
}

static inline int __popc(unsigned int x) {
  return __builtin_popcount(x);
}
static inline int __popcll(unsigned long long x) {
  return __builtin_popcountll(x);
}
static inline int __ffs(int x) {
  return __builtin_ffs(x);
}
static inline int __clz(int x) {
  return x == 0 ? 32 : __builtin_clz((unsigned int)x);
}
static inline int __clzll(long long x) {
  return x == 0 ? 64 : __builtin_clzll((unsigned long long)x);
}
static inline unsigned int __umulhi(unsigned int a, unsigned int b) {
  return (unsigned int)((uint64_t)a * b >> 32);
}
static inline unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
  __extension__ typedef unsigned __int128 wide;
  return (unsigned long long)((wide)a * b >> 64);
}

/* min and max of two values of one type; for floating-point numbers, the one that is not NaN. */
#define EMULATION_MINMAX(type, smaller, larger)                                                   \
  static inline type min(type a, type b) {                                                        \
    return smaller;                                                                               \
  }                                                                                               \
  static inline type max(type a, type b) {                                                        \
    return larger;                                                                                \
  }
EMULATION_MINMAX(int, b < a ? b : a, a < b ? b : a)
EMULATION_MINMAX(unsigned int, b < a ? b : a, a < b ? b : a)
EMULATION_MINMAX(long, b < a ? b : a, a < b ? b : a)
EMULATION_MINMAX(unsigned long, b < a ? b : a, a < b ? b : a)
EMULATION_MINMAX(long long, b < a ? b : a, a < b ? b : a)
EMULATION_MINMAX(unsigned long long, b < a ? b : a, a < b ? b : a)
EMULATION_MINMAX(float, __builtin_fminf(a, b), __builtin_fmaxf(a, b))
EMULATION_MINMAX(double, __builtin_fmin(a, b), __builtin_fmax(a, b))
#undef EMULATION_MINMAX

/* Loads and stores with cache hints are loads and stores. */
template <typename T> static inline T __ldg(const T *at) {
  return *at;
}
template <typename T> static inline T __ldcg(const T *at) {
  return *at;
}
template <typename T> static inline T __ldcs(const T *at) {
  return *at;
}
template <typename T> static inline void __stcs(T *at, T value) {
  *at = value;
}
template <typename T> static inline void __stcg(T *at, T value) {
  *at = value;
}

#endif
