/* The choice of a CPU level, in pieces that a test can ask about any machine. */
#ifndef CUMEGA_SRC_CPU_LEVEL_H
#define CUMEGA_SRC_CPU_LEVEL_H

#include <stdint.h>
#include "backend.h"

enum { CPU_PLAIN, CPU_V3, CPU_V4, CPU_LEVELS };

/* What CPUID and XGETBV say of a processor and its system; all zero elsewhere than on x86-64. */
typedef struct cpu_features {
  uint32_t leaf1_ecx, leaf7_ebx, extended_ecx, xcr0;
} cpu_features;

/* The highest level that such a machine runs. */
int cpu_level_of(const cpu_features *features);

/* backend_cpu_choose, saying what kind of failure it was: CUMEGA_ERROR_ARGUMENT (CUMEGA_CPU is no
 * level's name) or _UNSUPPORTED (this build or this machine has not that level). The sentence is in
 * ctx's message, or the thread's where ctx is NULL. */
cumega_status cpu_level_choose(cumega_context *ctx, const backend **chosen);

/* The same for a machine that runs levels up to `machine`; word is what CUMEGA_CPU has, or NULL. */
cumega_status cpu_level_choose_on(cumega_context *ctx, int machine, const char *word,
                                  const backend **chosen);

#endif
