/* The vector of a CPU level, and names that carry the level. Every file of src/cpu/ is compiled
 * once per level, with CPU_LEVEL = plain, v3 or v4: LEVEL(ema_forward_cpu) is ema_forward_cpu_v3 in
 * the second.
 *
 * GCC's vector types (clang has them too) add and multiply by operators; only fma needs its
 * instruction named. The width changes nothing in the bits: every lane is one channel with its own
 * chain. */
#ifndef CUMEGA_SRC_CPU_VECTOR_H
#define CUMEGA_SRC_CPU_VECTOR_H

#include <stdint.h>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#define LEVEL_JOIN_EXPANDED(name, level) name##_##level
#define LEVEL_JOIN(name, level)          LEVEL_JOIN_EXPANDED(name, level)
#define LEVEL(name)                      LEVEL_JOIN(name, CPU_LEVEL)

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX2__) && defined(__FMA__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

#define LANES_F32 (VECTOR_BYTES / 4)
#define LANES_F64 (VECTOR_BYTES / 8)

typedef float vector_f32 __attribute__((vector_size(VECTOR_BYTES)));
typedef double vector_f64 __attribute__((vector_size(VECTOR_BYTES)));

/* The same where memory is aligned to its element only. */
typedef float vector_f32_unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(4)));
typedef double vector_f64_unaligned __attribute__((vector_size(VECTOR_BYTES), aligned(8)));

static inline vector_f32 load_f32(const float *p) {
  return *(const vector_f32_unaligned *)p;
}
static inline vector_f64 load_f64(const double *p) {
  return *(const vector_f64_unaligned *)p;
}
static inline void store_f32(float *p, vector_f32 v) {
  *(vector_f32_unaligned *)p = v;
}
static inline void store_f64(double *p, vector_f64 v) {
  *(vector_f64_unaligned *)p = v;
}

static inline vector_f32 fma_f32(vector_f32 a, vector_f32 b, vector_f32 c) {
#if defined(__AVX512F__)
  return (vector_f32)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__AVX2__) && defined(__FMA__)
  return (vector_f32)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#else
  vector_f32 r;
  /* cppcheck-suppress uninitvar ; every lane is set */
  for (int i = 0; i < LANES_F32; i++) r[i] = __builtin_fmaf(a[i], b[i], c[i]);
  return r;
#endif
}

static inline vector_f64 fma_f64(vector_f64 a, vector_f64 b, vector_f64 c) {
#if defined(__AVX512F__)
  return (vector_f64)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
#elif defined(__AVX2__) && defined(__FMA__)
  return (vector_f64)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
#else
  vector_f64 r;
  /* cppcheck-suppress uninitvar ; every lane is set */
  for (int i = 0; i < LANES_F64; i++) r[i] = __builtin_fma(a[i], b[i], c[i]);
  return r;
#endif
}

/* v < 0 ? 0 : v, lane by lane: x86's max gives its second operand where one is NaN or both are zero. */
static inline vector_f32 relu_f32(vector_f32 v) {
#if defined(__AVX512F__)
  return (vector_f32)_mm512_max_ps(_mm512_setzero_ps(), (__m512)v);
#elif defined(__AVX2__) && defined(__FMA__)
  return (vector_f32)_mm256_max_ps(_mm256_setzero_ps(), (__m256)v);
#else
  for (int i = 0; i < LANES_F32; i++) v[i] = v[i] < 0 ? 0 : v[i];
  return v;
#endif
}

static inline vector_f64 relu_f64(vector_f64 v) {
#if defined(__AVX512F__)
  return (vector_f64)_mm512_max_pd(_mm512_setzero_pd(), (__m512d)v);
#elif defined(__AVX2__) && defined(__FMA__)
  return (vector_f64)_mm256_max_pd(_mm256_setzero_pd(), (__m256d)v);
#else
  for (int i = 0; i < LANES_F64; i++) v[i] = v[i] < 0 ? 0 : v[i];
  return v;
#endif
}

/* The larger of v and m, lane by lane; m where v is NaN. */
static inline vector_f32 max_f32(vector_f32 v, vector_f32 m) {
#if defined(__AVX512F__)
  return (vector_f32)_mm512_max_ps((__m512)v, (__m512)m);
#elif defined(__AVX2__) && defined(__FMA__)
  return (vector_f32)_mm256_max_ps((__m256)v, (__m256)m);
#else
  for (int i = 0; i < LANES_F32; i++) v[i] = v[i] > m[i] ? v[i] : m[i];
  return v;
#endif
}

static inline vector_f64 max_f64(vector_f64 v, vector_f64 m) {
#if defined(__AVX512F__)
  return (vector_f64)_mm512_max_pd((__m512d)v, (__m512d)m);
#elif defined(__AVX2__) && defined(__FMA__)
  return (vector_f64)_mm256_max_pd((__m256d)v, (__m256d)m);
#else
  for (int i = 0; i < LANES_F64; i++) v[i] = v[i] > m[i] ? v[i] : m[i];
  return v;
#endif
}

/* Whole vectors past the caches, for outputs that are much larger than they are. p is aligned to
 * VECTOR_BYTES; stream_fence before another thread may read. */
#if defined(__SSE2__)
#define CAN_STREAM 1
static inline void stream_f32(float *p, vector_f32 v) {
#if defined(__AVX512F__)
  _mm512_stream_ps(p, (__m512)v);
#elif defined(__AVX2__) && defined(__FMA__)
  _mm256_stream_ps(p, (__m256)v);
#else
  _mm_stream_ps(p, (__m128)v);
#endif
}
static inline void stream_fence(void) {
  _mm_sfence();
}
#else
#define CAN_STREAM 0
static inline void stream_f32(float *p, vector_f32 v) {
  store_f32(p, v);
}
static inline void stream_fence(void) {}
#endif

/* float64 outputs are never streamed. */
static inline void stream_f64(double *p, vector_f64 v) {
  store_f64(p, v);
}

#endif
