/* One run to measure: its settings, and what they become, an EMA with its tensors. */
#ifndef CUMEGA_BENCHMARKS_EMA_RUN_H
#define CUMEGA_BENCHMARKS_EMA_RUN_H

#include <cumega/cumega.h>
#include "copy.h"

typedef struct ema_settings {
  int step; /* cumega_ema_step on (B, D), rather than cumega_ema_forward on (L, B, D) */
  int64_t length, batch, channels, heads;
  cumega_activation activation;
  DLDataType dtype, state_dtype;
  const char *layout; /* "LBD", "BLD", "BDL": the order in memory; "packed": (L * B, D) */
  const char *level;  /* CUMEGA_CPU; NULL: as the environment has it */
  int threads;
  cumega_ema_algorithm algorithm; /* of forward */
} ema_settings;

typedef struct ema_run {
  ema_settings set;
  cumega_context *ctx;
  cumega_ema *ema;
  void *x, *y, *initial, *final; /* states for a step only */
  int64_t *offsets;              /* (B + 1), packed only */
  int64_t bytes, state_bytes;    /* of x, of initial */
  cumega_tensor memory_x, memory_y, view_x, view_y, tensor_initial, tensor_final, tensor_offsets;
  cumega_ema_io io;
  copy_part parts[COPY_MAX_PARTS]; /* the same bytes, as a copy */
  int parts_count;
} ema_run;

/* Parameters are those of seed 0; x and the state are numbers that every type holds exactly. 0
 * where it cannot be made: the reason has been printed. Call ema_run_free in any case. */
int ema_run_make(const ema_settings *set, ema_run *run);
void ema_run_free(ema_run *run);

/* The call that is measured; argument is the run. Ends the program where the call fails. */
void ema_run_call(void *argument);

/* Where x and y of step t, sequence b and channel d are, in elements. */
int64_t ema_run_at(const ema_run *run, int64_t t, int64_t b, int64_t d);
/* "default" (the library's choice), "recurrent" (one chain), "sliced"; -1 where there is none. */
const char *ema_algorithm_name(cumega_ema_algorithm algorithm);
int ema_algorithm_from_name(const char *name);

int64_t ema_run_length(const ema_run *run, int64_t b);

#endif
