/* Problems of residual connections for the suites, and their runs in odd places. */
#ifndef CUMEGA_TESTS_RESIDUAL_RUNS_H
#define CUMEGA_TESTS_RESIDUAL_RUNS_H

#include "harness.h"
#include "residual_oracle.h"

enum { IN_X, IN_Y, IN_GATE, INPUTS };

/* A connection, or the gated residual, and the norm after it. */
typedef struct problem {
  int gated;
  cumega_residual_config config;
  int norm; /* cumega_norm_type; negative: none */
  DLDataType dtype;
  int64_t shape[3]; /* (A, B, D), transposed (A, D, B) */
  int transposed;
  uint64_t seed; /* of parameters and inputs */
} problem;

/* Where the tensors lie, and which input an output overwrites. */
typedef struct placement {
  test_layout layouts[INPUTS + 2]; /* x, y, gate, out, normalized */
  int out_is, normalized_is;       /* an input's number, or negative: separate memory */
  int without_out;                 /* out is NULL */
} placement;

/* The given parameters, and the inputs and results by logical index. */
typedef struct parameters {
  double *affine, *Wx_weight, *Wx_bias, *Wy_weight, *Wy_bias, *Wy; /* or NULL */
  double *weight, *bias, scalar;
} parameters;

typedef struct result {
  int64_t count;
  double *inputs[INPUTS];   /* as the type stores them */
  double *out, *normalized; /* NULL if there is none */
  uint64_t *out_bits, *normalized_bits;
} result;

int64_t problem_size(const problem *p);               /* D */
int64_t problem_channel(const problem *p, int64_t i); /* of the i-th element */
int problem_is_highway(const problem *p);
int problem_reads_x(const problem *p);

parameters parameters_new(const problem *p);
void parameters_free(parameters *values);

/* Runs it and checks the guards. */
result problem_run(cumega_context *ctx, const problem *p, const placement *at);
void result_free(result *r);

/* Only the objects, with the dtype that fits the tensors. *residual is NULL for a gated problem,
 * *norm is NULL if there is no norm, and both are NULL if making them failed. */
cumega_status problem_create(cumega_context *ctx, const problem *p, cumega_residual **residual,
                             cumega_norm **norm);
void problem_make(cumega_context *ctx, const problem *p, cumega_residual **residual,
                  cumega_norm **norm);

/* Compares the bits of the outputs that both have. */
int results_same(const result *a, const result *b);

/* The worst error of out and normalized relative to what is allowed; up to 1 is right. */
double problem_error(const problem *p, const result *r);

void problem_print(const problem *p);

#endif
