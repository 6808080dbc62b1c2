/* One computation, run in many ways that must all give the same bits.
 *
 * A problem is a set of sequences with their own lengths, through one EMA, with values by logical
 * index. A way of running says how it is given to the library: alone or in a batch, padded or
 * packed, in which layout, cut into which chunks, on which CPU level. The outcome is bits by
 * logical index again. */
#ifndef CUMEGA_TESTS_EMA_RUNS_H
#define CUMEGA_TESTS_EMA_RUNS_H

#include "ema_harness.h"

/* Everything that a problem is made from; the same recipe gives the same problem. */
typedef struct recipe {
  int64_t D, N, B, L; /* L: the longest sequence; the others are of random length up to it */
  DLDataType dtype, state_dtype;
  cumega_activation activation;
  int odd_arguments;             /* arguments of the activation other than the defaults */
  int masked, stateful, special; /* special: some x are NaN, infinite, huge, subnormal, -0 */
  int64_t truncation;            /* 0: none */
  uint64_t seed;
} recipe;

typedef struct problem {
  recipe made_from;
  test_parameters *parameters;
  int64_t *lengths, *starts; /* (B); the index of each sequence's first step among all steps */
  int64_t steps;
  double *x;           /* (steps, D) */
  unsigned char *mask; /* (steps) or NULL */
  double *state;       /* (B, D, N) or NULL: from zeros, and none is kept unless runs are cut */
  cumega_ema *ema;
  cumega_ema *ema_of_device; /* the same if the suites run on another device, else NULL */
} problem;

problem *problem_new(const recipe *r);
void problem_free(problem *p);

typedef enum way_form { ALONE, PADDED, PACKED } way_form;
typedef enum way_layout { TIME_BATCH, BATCH_TIME, CHANNELS_FIRST, STRIDED, LAYOUTS } way_layout;

/* All zero: each sequence in its own call, compact, whole, on the plain CPU level with one
 * thread. */
typedef struct way {
  int form;           /* way_form */
  int level, threads; /* index into cpu_levels; 0 threads means 1 */
  int x_layout, y_layout;
  int misaligned;     /* tensors start off a 16-byte boundary */
  int shuffled;       /* the batch in another order */
  int strangers;      /* sequences of NaN and infinity in the batch */
  int padding;        /* rows past the longest sequence */
  int cut;            /* the longest chunk; 0: whole sequences; 1: cumega_ema_step if padded */
  int in_place;       /* y is x */
  int state_in_place; /* final_state is initial_state */
  int pool;           /* states are in a pool, by slots */
  int narrow_indices; /* int32 instead of int64 */
  int algorithm;      /* cumega_ema_algorithm, for the calls that it can compute */
  uint64_t seed;      /* for cuts, order, gaps and slots */
} way;

typedef struct outcome {
  uint64_t *y, *state; /* (steps, D), (B, D, N): bits, one value for all NaNs; state may be NULL */
  char fault[400];     /* what else went wrong, or "" */
} outcome;

/* On the suites' device; unless that is a CPU, level and threads are ignored. */
outcome *outcome_of(const problem *p, const way *w);
void outcome_free(outcome *o);

/* Whether w gives other bits than the plain way on the CPU; says where, or what else went
 * wrong. */
int way_differs(const problem *p, const way *w, char *reason, size_t size);

/* The context for a level and thread count, kept until runs_end. Level 0 .. 2; if the machine
 * lacks the level, the best one below it. */
cumega_context *runs_context(int level, int threads);
/* The context of the suites' device, unless that is a CPU. */
cumega_context *runs_device(void);
void runs_end(void);

/* FNV-1a, 64 bits, over values of `bytes` bytes each. */
uint64_t hash_bits(const uint64_t *values, int64_t count, int bytes);

#endif
