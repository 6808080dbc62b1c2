/* The caller's rounding mode, flush-to-zero and exception flags are saved while the library
 * computes, and restored afterwards. On x86-64 one register has everything that affects float and
 * double arithmetic; fesetenv would load the x87's as well, an eighth of a small step's time. */
#ifndef CUMEGA_SRC_FP_ENVIRONMENT_H
#define CUMEGA_SRC_FP_ENVIRONMENT_H

#if defined(__x86_64__)
#include <xmmintrin.h>

typedef unsigned int fp_environment;

#define FP_DEFAULT 0x1f80u /* to nearest, subnormals kept, no exception traps */

static inline void fp_begin(fp_environment *saved) {
  *saved = _mm_getcsr();
  _mm_setcsr(FP_DEFAULT);
}
static inline void fp_end(const fp_environment *saved) {
  _mm_setcsr(*saved);
}
#else
#include <fenv.h>

typedef fenv_t fp_environment;

static inline void fp_begin(fp_environment *saved) {
  fegetenv(saved);
  fesetenv(FE_DFL_ENV);
}
static inline void fp_end(const fp_environment *saved) {
  fesetenv(saved);
}
#endif

#endif
