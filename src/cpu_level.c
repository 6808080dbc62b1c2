/* Which of the CPU backend's tables runs here. The levels are those of the x86-64 psABI. A
 * machine has a level if the processor has every instruction set of it (and of those below, since
 * the compiler uses them all) and the system saves the registers. CPUID is read here and not
 * through the compiler's builtins, since gcc 11 does not know every name. */
#include "cpu_level.h"
#include <stdlib.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

#if CPU_HAS_V3
#define TABLE_V3 &backend_cpu_v3
#else
#define TABLE_V3 NULL
#endif
#if CPU_HAS_V4
#define TABLE_V4 &backend_cpu_v4
#else
#define TABLE_V4 NULL
#endif

typedef struct cpu_level {
  const char *word; /* in CUMEGA_CPU */
  const backend *table;
} cpu_level;

/* From plain to best; every machine runs the first, and every build has it. */
static const cpu_level levels[CPU_LEVELS] = {
    {"plain", &backend_cpu_plain}, {"v3", TABLE_V3}, {"v4", TABLE_V4}};

#define OSXSAVE (1u << 27) /* the system uses XSAVE, and XGETBV exists */

/* What each level needs beyond the one below it. v3 names the sets of v2 too. */
static const cpu_features needs[CPU_LEVELS] = {
    [CPU_V3] =
        {
            /* SSE3, SSSE3, FMA, CMPXCHG16B, SSE4.1, SSE4.2, MOVBE, POPCNT, AVX, F16C */
            .leaf1_ecx = 1u << 0 | 1u << 9 | 1u << 12 | 1u << 13 | 1u << 19 | 1u << 20 | 1u << 22 |
                         1u << 23 | OSXSAVE | 1u << 28 | 1u << 29,
            .leaf7_ebx = 1u << 3 | 1u << 5 | 1u << 8, /* BMI1, AVX2, BMI2 */
            .extended_ecx = 1u << 0 | 1u << 5,        /* LAHF, LZCNT */
            .xcr0 = 1u << 1 | 1u << 2,                /* xmm, ymm */
        },
    [CPU_V4] =
        {
            /* AVX-512 F, DQ, CD, BW, VL */
            .leaf7_ebx = 1u << 16 | 1u << 17 | 1u << 28 | 1u << 30 | 1u << 31,
            .xcr0 = 1u << 5 | 1u << 6 | 1u << 7, /* masks, upper halves of zmm, zmm16-31 */
        },
};

static int has_all(uint32_t has, uint32_t needed) {
  return (has & needed) == needed;
}

int cpu_level_of(const cpu_features *has) {
  int level = CPU_PLAIN;
  for (int next = CPU_PLAIN + 1; next < CPU_LEVELS; next++) {
    const cpu_features *need = &needs[next];
    if (!has_all(has->leaf1_ecx, need->leaf1_ecx) || !has_all(has->leaf7_ebx, need->leaf7_ebx) ||
        !has_all(has->extended_ecx, need->extended_ecx) || !has_all(has->xcr0, need->xcr0))
      break;
    level = next;
  }
  return level;
}

static cpu_features read_features(void) {
  cpu_features features = {0};
#if defined(__x86_64__)
  unsigned a, b, c, d;
  if (__get_cpuid(1, &a, &b, &c, &d)) features.leaf1_ecx = c;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) features.leaf7_ebx = b;
  if (__get_cpuid(0x80000001u, &a, &b, &c, &d)) features.extended_ecx = c;
  if (features.leaf1_ecx & OSXSAVE) {
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    features.xcr0 = a;
  }
#endif
  return features;
}

static int machine_level(void) {
  cpu_features features = read_features();
  return cpu_level_of(&features);
}

static int level_of_word(const char *word) {
  for (int i = 0; i < CPU_LEVELS; i++)
    if (strcmp(word, levels[i].word) == 0) return i;
  return -1;
}

static int best_level(int machine) {
  int level = machine;
  while (!levels[level].table) level--;
  return level;
}

cumega_status cpu_level_choose_on(cumega_context *ctx, int machine, const char *word,
                                  const backend **chosen) {
  int named = word && *word;
  int level = named ? level_of_word(word) : best_level(machine);
  if (level < 0)
    return call_fail_argument(ctx, "CUMEGA_CPU is '%.40s', expected plain, v3 or v4", word);
  if (!levels[level].table)
    return call_fail(ctx, CUMEGA_ERROR_UNSUPPORTED,
                     "CUMEGA_CPU is '%s', but this build of cumega has no such level", word);
  if (level > machine)
    return call_fail(ctx, CUMEGA_ERROR_UNSUPPORTED,
                     "CUMEGA_CPU is '%s', but this machine has no level above %s", word,
                     levels[machine].word);
  *chosen = levels[level].table;
  call_log(ctx, CUMEGA_LOG_INFO, "CPU level %s (%s): %s", levels[level].word, (*chosen)->name,
           named ? "named by CUMEGA_CPU" : "the best that this machine and this build have");
  return CUMEGA_OK;
}

cumega_status cpu_level_choose(cumega_context *ctx, const backend **chosen) {
  return cpu_level_choose_on(ctx, machine_level(), getenv("CUMEGA_CPU"), chosen);
}

const backend *backend_cpu_choose(cumega_context *ctx) {
  const backend *chosen;
  return cpu_level_choose(ctx, &chosen) == CUMEGA_OK ? chosen : NULL;
}

const char *backend_cpu_level(int i, int *runs_here) {
  int machine = machine_level();
  for (int level = 0; i >= 0 && level < CPU_LEVELS; level++) {
    if (!levels[level].table || i-- > 0) continue;
    *runs_here = level <= machine;
    return levels[level].word;
  }
  return NULL;
}
