/* What all files of the CPU backend share.
 *
 * CMake compiles each file once per CPU level, with CPU_LEVEL = plain, v3 or v4. The names of
 * functions that are called from another file end with the level: LEVEL(ema_forward_cpu) is
 * ema_forward_cpu_v3 at level v3. Everything else is static and has a plain name. */
#ifndef CUMEGA_SRC_CPU_CPU_H
#define CUMEGA_SRC_CPU_CPU_H

#include "../backend.h"
#include "../fp_environment.h"
#include "tuning.h"
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

/* stream_fence must follow non-temporal stores before another thread may read what they wrote. */
#if defined(__SSE2__)
#define CAN_STREAM 1
static inline void stream_fence(void) {
  _mm_sfence();
}
#else
#define CAN_STREAM 0
static inline void stream_fence(void) {}
#endif

/* For functions that are called with constants for some of their arguments. */
#define ALWAYS_INLINE static inline __attribute__((always_inline))

static inline int64_t smaller(int64_t a, int64_t b) {
  return a < b ? a : b;
}
static inline int64_t divide_up(int64_t n, int64_t by) {
  return (n + by - 1) / by;
}
static inline int64_t round_up(int64_t n, int64_t multiple) {
  return divide_up(n, multiple) * multiple;
}

/* The size of the numbers that a run computes with: double for float64, float for all other
 * types. */
static inline int64_t real_bytes(int is_double) {
  return is_double ? (int64_t)sizeof(double) : (int64_t)sizeof(float);
}

/* Runs all items on the context's threads, or if there are few, on the caller's thread alone. */
static inline void run_items(const cumega_context *ctx, pool_task task, void *job, int64_t items) {
  fp_environment environment;
  fp_begin(&environment);
  pool_run(items >= POOL_ITEMS ? ctx->pool : NULL, task, job, items);
  fp_end(&environment);
}

#endif
