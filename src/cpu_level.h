/* The choice of a CPU level, in pieces that a test can call for any machine. */
#ifndef CUMEGA_SRC_CPU_LEVEL_H
#define CUMEGA_SRC_CPU_LEVEL_H

#include <stdint.h>
#include "backend.h"

enum { CPU_PLAIN, CPU_V3, CPU_V4, CPU_LEVELS };

/* The bits that CPUID and XGETBV report; all zero on other processors than x86-64. */
typedef struct cpu_features {
  uint32_t leaf1_ecx, leaf7_ebx, extended_ecx, xcr0;
} cpu_features;

/* The highest level that such a machine runs. */
int cpu_level_of(const cpu_features *features);

/* backend_cpu_choose with the kind of failure: CUMEGA_ERROR_ARGUMENT (CUMEGA_CPU does not name a
 * level) or CUMEGA_ERROR_UNSUPPORTED (this build or machine lacks the level). The sentence is in
 * ctx's message, or the thread's for NULL. */
cumega_status cpu_level_choose(cumega_context *ctx, const backend **chosen);

/* The same for a machine that runs levels up to `machine`; word is what CUMEGA_CPU has, or
 * NULL. */
cumega_status cpu_level_choose_on(cumega_context *ctx, int machine, const char *word,
                                  const backend **chosen);

#endif
