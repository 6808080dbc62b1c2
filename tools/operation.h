/* The operations that a case can hold, and a case made ready to be run. To add an operation: write
 * its prepare, run and release in a case_<noun>.c, and add its line to the table in operation.c. */
#ifndef CUMEGA_TOOLS_OPERATION_H
#define CUMEGA_TOOLS_OPERATION_H

#include <cumega/ema.h>
#include "case.h"

#define JOB_OUTPUTS 4
#define JOB_STAGED  12

typedef struct job job;

typedef struct operation {
  const char *name;
  const char *summary;        /* for the help */
  const char *inputs;         /* the names that it knows, each with a space in front and behind */
  const char *outputs;        /* for the help */
  const char *widest_setting; /* what case_widen sets to float64, or NULL */
  int has_algorithms;
  int (*prepare)(job *j);       /* checks, makes the object and the zeroed outputs: an exit code */
  cumega_status (*run)(job *j); /* may be called again, with the same result */
  void (*release)(job *j);      /* frees j->object; also after a prepare that failed */
} operation;

/* A tensor's twin in the device's memory. */
typedef struct staged_tensor {
  DLTensor *host;
  cumega_tensor device;
  int64_t bytes;
} staged_tensor;

/* Stays where job_begin found it: outputs and staged tensors point into themselves. */
struct job {
  const operation *operation;
  const case_file *file;
  cumega_context *ctx;
  DLDevice place;                 /* ctx's device */
  cumega_ema_algorithm algorithm; /* 0: the library's choice */
  void *object;                   /* the operation's own */
  case_tensor outputs[JOB_OUTPUTS];
  int output_count;
  const char *left_out; /* an output that the algorithm does not give, or NULL */
  staged_tensor staged[JOB_STAGED];
  int staged_count;
  /* What the table of results says. */
  char shape[96];
  DLDataType dtype; /* of the activations, or of the result where there are none */
  int64_t elements; /* that elements/s counts */
};

/* NULL behind the last one. */
const operation *operation_at(int i);

/* The operation of a case, or NULL after a sentence. */
const operation *operation_of(const case_file *file);

/* Makes a case ready: checks its inputs, calls prepare. place is ctx's device; ctx and file must
 * outlive the job. An algorithm other than 0 needs an operation that has several. Returns 0 or an exit code after a sentence; job_end is allowed after either, and
 * on a zeroed struct. */
int job_begin(job *j, cumega_context *ctx, DLDevice place, const case_file *file,
              cumega_ema_algorithm algorithm);
void job_end(job *j);

/* Runs it once, then again until enough_seconds have been spent; *seconds is the shortest run. */
int job_run(job *j, double enough_seconds, double *seconds);

/* Fills the outputs with bytes that are NaN in every floating type, so that what a run leaves out
 * shows. */
int job_poison(job *j);

/* The output of that name (without "outputs."), or NULL. */
const DLTensor *job_find(const job *j, const char *name);

/* For prepare: a zeroed output; name is the whole one, "outputs.y". */
int job_add_output(job *j, const char *name, DLDataType dtype, int ndim, const int64_t *shape,
                   DLTensor **tensor);

/* For prepare: *tensor, where it is not NULL, becomes what ctx's device can read and write: itself
 * on a CPU, else a copy in the device's memory. job_run brings outputs back, job_end releases. */
int job_stage(job *j, DLTensor **tensor);

/* For prepare: 0, or the exit code of a failed call of the library after its sentence. */
int job_check(const job *j, cumega_status status);

#endif
