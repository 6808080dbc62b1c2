/* Fault injection. A scenario is one call of a public function. Every CUDA call, every allocation
 * from the context's account and every allocation by jansson in it fails in turn: once and
 * forever, with errors that pass and with a lost device. After each failure the following must
 * hold:
 *
 *   There is no leak on the host or the device and no kernel fault, and the caller's current
 *   CUDA context and pending error are unchanged. The call fails with a message, unless only a
 *   release failed. What the scenario says about its outputs holds.
 *   After an error that passes, a run on the same context has the right bits. After a lost
 *   device the context answers FATAL and can be destroyed. */
#ifndef CUMEGA_TESTS_EMULATED_FAULTS_H
#define CUMEGA_TESTS_EMULATED_FAULTS_H

#include "emulated_run.h"

/* What exists when the call is made, and what the call may leave here; all of it is released
 * afterwards. */
typedef struct world {
  counting_allocator ledger;
  cudaStream_t stream; /* the program's stream */
  emulated_run *run;
  cumega_context *ctx;
  run_objects objects;
  cumega_weights *weights;
  void *memory; /* from cumega_memory_allocate, MEMORY_BYTES */
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
  NEEDS_GRAPH = 64, /* a graph has captured what the run uses */
  CALLS_CUDA = 128  /* uses CUDA itself too, so the primary context is current all the time */
};

typedef struct scenario {
  const char *name;  /* the function, and its arguments in words */
  const char *shape; /* of run_shapes */
  unsigned needs;
  cumega_status (*call)(world *w);
  /* Whether outputs are as the header says for this status. NULL: there are no outputs besides
   * the world's objects, which are NULL or complete. */
  int (*holds)(world *w, cumega_status status);
  /* Restores the state in which a run gives the expected results; may be NULL. Called after a
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

/* Calls that many scenarios make. */
cumega_status faults_destroy_objects(world *w);
cumega_status faults_workspace_size(world *w);
cumega_status faults_prepare(world *w);

/* Runs all scenarios, or those whose names contain the text of CUMEGA_TEST_SCENARIO. Returns the
 * number of injections, and adds to *failed_calls those that made the call fail. Ends the running
 * test at the first failed check. */
int64_t faults_inject(const scenario *scenarios, int count, int64_t *failed_calls);

/* The shape of run_shapes with that name. */
const run_shape *faults_shape(const char *name);

/* ---- emulated_faults_weights.c ---- */

/* A file with the parameters of the EMA of the shape "plain" under e, of the biases of "softmax,
 * relative" and "softmax, rotary" under b and r, and of the connection and the norm of "rows"
 * under a and n. Made once, removed by faults_end. */
const char *faults_weights_path(void);
#define FAULTS_WEIGHTS_COUNT 11
void faults_end(void);

#endif
