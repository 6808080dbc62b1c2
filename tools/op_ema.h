/* What the EMA's operations share with the check of their results. */
#ifndef CUMEGA_TOOLS_OP_EMA_H
#define CUMEGA_TOOLS_OP_EMA_H

#include "operation.h"

/* ema and config for all three; io for forward and step, where x, mask and the states of step are
 * those of all steps; length and the tensors for kernel. */
typedef struct ema_call {
  cumega_ema *ema;
  cumega_ema_config config;
  cumega_ema_io io;
  double without_effect; /* ESPnet's softplus arguments (docs/case-files.md) */
  int64_t length;
  DLTensor *kernel, *damping_factor, *prev_timestep_weight;
} ema_call;

#define EMA_PARAMETERS 5
extern const char *const ema_parameter_names[EMA_PARAMETERS + 1];

/* As benchmark.check. Of a forward or step y and the states are compared, within bounds that are
 * derived in op_ema_check.c: 7 channels, and of many sequences as many as some million steps
 * allow. */
int ema_check(const bench_row *row, const job *j, double *worst);

/* The same as benchmark.exact and .roundings, of ema_kernel. */
int ema_exact_kernel(const job *j, double *const *parameters, int64_t d, real *const *exact);
double ema_roundings_of_kernel(const job *j);

#endif
