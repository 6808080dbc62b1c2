/* What the EMA's operations share with the check of their results. */
#ifndef CUMEGA_TOOLS_OP_EMA_H
#define CUMEGA_TOOLS_OP_EMA_H

#include "operation.h"

/* ema and config are for all three operations. io is for forward and step; for step it has x, mask
 * and states of all steps. length and the tensors are for kernel. */
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

/* The benchmark.check of forward and step. It compares y and the states within bounds that
 * op_ema_check.c derives, for 7 channels, and for as many sequences as a few million steps
 * allow. */
int ema_check(const bench_row *row, const job *j, double *worst);

/* The benchmark.exact and .roundings of ema_kernel. */
int ema_exact_kernel(const job *j, double *const *parameters, int64_t d, real *const *exact);
double ema_roundings_of_kernel(const job *j);

#endif
