/* Fault injection: a scenario is one call of a public function; every CUDA call, every allocation of the
 * context's account and every allocation of jansson that it makes fails in turn, once and for ever, with
 * errors that pass and with a lost device. After each the world has to be whole:
 *
 *   no leak on the host or the device, no fault of a kernel, and the caller's current CUDA context and
 *   pending error as they were; the call fails, unless all that failed was a release, and has a sentence; what the
 *   scenario says of its outputs holds;
 *   after an error that passes, a run on the same context has the right bits; after a lost device the
 *   context answers FATAL, and can be destroyed. */
#ifndef CUMEGA_TESTS_EMULATED_FAULTS_H
#define CUMEGA_TESTS_EMULATED_FAULTS_H

#include "emulated_run.h"

/* What there is when the call is made, and what it may leave here: all of it is released afterwards. */
typedef struct world {
  counting_allocator ledger;
  cudaStream_t stream; /* the program's */
  emulated_run *run;
  cumega_context *ctx;
  run_objects objects;
  cumega_weights *weights;
  void *memory; /* of cumega_memory_allocate, MEMORY_BYTES */
  uint32_t bits;
  float value;
} world;

#define MEMORY_BYTES 64

/* What a scenario needs. */
enum {
  NEEDS_CONTEXT = 1,
  NEEDS_OBJECTS = 2,
  IS_PREPARED = 4, /* for the run */
  NEEDS_MEMORY = 8,
  NEEDS_WEIGHTS = 16,
  NEEDS_QUEUED_RUN = 32,
  NEEDS_GRAPH = 64, /* a graph has seen what the run uses */
  CALLS_CUDA = 128  /* by itself too, so the primary context is current all the time */
};

typedef struct scenario {
  const char *name;  /* the function, and with what */
  const char *shape; /* of run_shapes */
  unsigned needs;
  cumega_status (*call)(world *w);
  /* Whether outputs are as the header says for this status; NULL: there are none beside the world's
   * objects, which are NULL or whole. */
  int (*holds)(world *w, cumega_status status);
  /* Brings the world back to where a run has the run's own answer; may be NULL. Called after a
   * success, and after a failure that came later than a copy to the device. */
  cumega_status (*undo)(world *w);
} scenario;

#define CONTEXT NEEDS_CONTEXT
#define OBJECTS (NEEDS_CONTEXT | NEEDS_OBJECTS)

/* emulated_faults_<noun>.c */
extern const scenario context_scenarios[], ema_scenarios[], position_scenarios[],
    residual_scenarios[];
extern const int context_scenario_count, ema_scenario_count, position_scenario_count,
    residual_scenario_count;

/* Calls that many of them make. */
cumega_status faults_destroy_objects(world *w);
cumega_status faults_workspace_size(world *w);
cumega_status faults_prepare(world *w);

/* Runs all of them, or those that have the text of CUMEGA_TEST_SCENARIO in their names; returns the number
 * of injections, and adds to *failed_calls those that made the call fail. Ends the running test at the
 * first that does not hold. */
int64_t faults_inject(const scenario *scenarios, int count, int64_t *failed_calls);

/* The shape of run_shapes with that name. */
const run_shape *faults_shape(const char *name);

/* ---- emulated_faults_weights.c ---- */

/* A file with the parameters of the EMA of the shape "plain" under e, of the biases of "softmax, relative"
 * and "softmax, rotary" under b and r, and of the connection and the norm of "rows" under a and n: made
 * once, removed by faults_end. */
const char *faults_weights_path(void);
#define FAULTS_WEIGHTS_COUNT 11
void faults_end(void);

#endif
