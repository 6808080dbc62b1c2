/* The types that a file computes with. Before it includes this header, it says whether they are
 * float or double:
 *
 *   #define REAL_BITS 32   `real` is float, `vec` is a vector of LANES floats
 *   #define REAL_BITS 64   `real` is double, `vec` is a vector of LANES doubles
 *
 * A template (ema_item.h, residual_item.h, attention_row.h) is included by one file for float and
 * by one for double. In it TYPED(name) is name_f32 or name_f64. Functions that are not static have
 * such names: LEVEL(TYPED(ema_item)) is ema_item_f32_v3 at level v3.
 *
 * vec is a vector type of GCC, which clang supports too: + - * / work lane by lane. The order of
 * no sum across lanes depends on LANES, so that all levels give the same bits. */
#ifndef CUMEGA_SRC_CPU_VECTOR_H
#define CUMEGA_SRC_CPU_VECTOR_H

#include "cpu.h"

#if REAL_BITS == 32
typedef float real;
#define REAL_TYPE   TYPE_FLOAT32
#define TYPED(name) name##_f32
#define TABLE       f32 /* the float member of real_vector and similar types */
#define real_fma    __builtin_fmaf
#elif REAL_BITS == 64
typedef double real;
#define REAL_TYPE   TYPE_FLOAT64
#define TYPED(name) name##_f64
#define TABLE       f64
#define real_fma    __builtin_fma
#else
#error "define REAL_BITS as 32 or 64"
#endif

#define LANES (VECTOR_BYTES * 8 / REAL_BITS)

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef real vec_unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(REAL_BITS / 8)));

#if defined(__AVX512F__) && REAL_BITS == 32
typedef __m512 simd;
#define SIMD_FMA    _mm512_fmadd_ps
#define SIMD_MAX    _mm512_max_ps
#define SIMD_STREAM _mm512_stream_ps
#elif defined(__AVX512F__)
typedef __m512d simd;
#define SIMD_FMA _mm512_fmadd_pd
#define SIMD_MAX _mm512_max_pd
#elif defined(__AVX2__) && defined(__FMA__) && REAL_BITS == 32
typedef __m256 simd;
#define SIMD_FMA    _mm256_fmadd_ps
#define SIMD_MAX    _mm256_max_ps
#define SIMD_STREAM _mm256_stream_ps
#elif defined(__AVX2__) && defined(__FMA__)
typedef __m256d simd;
#define SIMD_FMA _mm256_fmadd_pd
#define SIMD_MAX _mm256_max_pd
#elif defined(__SSE2__) && REAL_BITS == 32
typedef __m128 simd;
#define SIMD_STREAM _mm_stream_ps
#endif

static inline vec vec_load(const real *p) {
  return *(const vec_unaligned *)p;
}
static inline void vec_store(real *p, vec v) {
  *(vec_unaligned *)p = v;
}
static inline vec vec_splat(real v) {
  return v - (vec){0};
}

/* A non-temporal store; p is aligned to VECTOR_BYTES. Doubles are stored with ordinary stores. */
static inline void vec_stream(real *p, vec v) {
#if defined(SIMD_STREAM)
  SIMD_STREAM(p, (simd)v);
#else
  vec_store(p, v);
#endif
}

static inline vec vec_fma(vec a, vec b, vec c) {
#if defined(SIMD_FMA)
  return (vec)SIMD_FMA((simd)a, (simd)b, (simd)c);
#else
  vec r;
  /* cppcheck-suppress uninitvar ; the loop sets every lane */
  for (int i = 0; i < LANES; i++) r[i] = real_fma(a[i], b[i], c[i]);
  return r;
#endif
}

/* The larger of v and m; m if v is NaN (x86 returns the second operand of max). */
static inline vec vec_max(vec v, vec m) {
#if defined(SIMD_MAX)
  return (vec)SIMD_MAX((simd)v, (simd)m);
#else
  for (int i = 0; i < LANES; i++) v[i] = v[i] > m[i] ? v[i] : m[i];
  return v;
#endif
}

/* v < 0 ? 0 : v, which keeps NaN and -0. */
static inline vec vec_relu(vec v) {
  return vec_max((vec){0}, v);
}

#endif
