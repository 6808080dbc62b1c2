/* The operations of the program, and a case of one of them made ready to be run. An operation is
 * one description; `cumega run`, `verify` and `bench` know it by that alone. To add one, write its
 * description in an op_<noun>.c and put it into the table in operation.c. */
#ifndef CUMEGA_TOOLS_OPERATION_H
#define CUMEGA_TOOLS_OPERATION_H

#include <cumega/ema.h>
#include "reference/real.h"
#include "setting.h"

#define JOB_OUTPUTS     4
#define JOB_STAGED      12
#define MOST_DIMS       4
#define MOST_PARAMETERS 10

typedef struct job job;
typedef struct bench_row bench_row;

/* An input, and where its tensor goes in the operation's object: a const DLTensor *. */
typedef struct operation_input {
  const char *name; /* NULL ends a table */
  size_t offset;
  int needed;
} operation_input;

/* How the operation is measured. */
typedef struct benchmark {
  const char *dims; /* the letters of its shape, "L,B,D"; each is a key of --set */
  int64_t shape[MOST_DIMS];
  /* What it can be told beside its settings, as the order of the input in memory; offsets do not
   * count. The one that is called "algorithm" is that of cumega_ema_forward. NULL: nothing. */
  const setting *ways;
  /* Adds parameters and inputs, always the same ones, to a case whose configuration is there; host
   * is a CPU context. */
  int (*make)(const bench_row *row, cumega_context *host, case_file *file);
  /* The file of reference/ that outputs are compared with, in a sample of rows, and how: the first
   * `row_dims` dimensions of the shape number the rows, and exact gives one of each output, from
   * the parameters as numbers (NULL where the case has none of that name). An error is max |output
   * - exact| / max |exact|, and as many roundings are allowed. */
  const char *reference;
  int row_dims;
  const char *const *parameters; /* their names, MOST_PARAMETERS at most; ends with NULL */
  int (*exact)(const job *j, double *const *parameters, int64_t row, real *const *exact);
  double (*roundings)(const job *j);
  /* In place of all that, where it is not NULL: *worst becomes the largest error divided by what
   * is allowed there. */
  int (*check)(const bench_row *row, const job *j, double *worst);
  int (*has_own_bits)(const bench_row *row); /* on a GPU: not the CPU's; NULL: it has not */
  cumega_status (*run)(const bench_row *row, job *j); /* what is timed; NULL: the operation's run */
  const char *(*left_out)(const bench_row *row);      /* the output that run does not write; NULL */
  const char *sweep; /* the rows of --sweep: "num_heads=8; num_heads=8 dtype=bfloat16" */
} benchmark;

typedef struct operation {
  const char *name;
  const char *summary, *outputs; /* for the help */
  size_t object_bytes;           /* of what settings, inputs and outputs go into, zeroed at first */
  const setting *settings;
  const operation_input *inputs; /* NULL: none */
  int is_on_host;                /* whatever the context's device, its tensors are the host's */
  int has_algorithms;            /* those of cumega_ema_forward */
  void (*set_defaults)(void *object); /* before the settings are read; NULL: zeros */
  int (*prepare)(job *j);             /* checks, makes objects and outputs: an exit code */
  cumega_status (*run)(job *j);       /* may be called again, with the same result */
  void (*release)(void *object);      /* what prepare made; also after a prepare that failed */
  benchmark bench;
} operation;

extern const operation op_ema_forward, op_ema_step, op_ema_kernel;
extern const operation op_relative_position_bias, op_rotary_position_bias, op_attention_softmax;
extern const operation op_residual, op_gated_residual;

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
  DLTensor **wanted[JOB_OUTPUTS]; /* where the object has each output */
  int output_count;
  const char *left_out; /* an output that the algorithm does not give, or NULL */
  staged_tensor staged[JOB_STAGED];
  int staged_count;
  /* What the table of results says. */
  char shape[96];
  DLDataType dtype; /* of the activations, or of the result where there are none */
  int64_t elements; /* that elements/s counts */
};

/* NULL past the last one. */
const operation *operation_at(int i);

/* The operation of that name, or NULL after a sentence that begins with `who`. */
const operation *operation_of(const char *name, const char *who);

/* Makes a case ready. place is ctx's device; ctx and file must outlive the job. An algorithm other
 * than 0 needs an operation that has several. Returns 0 or an exit code after a sentence; job_end
 * is allowed after either, and on a zeroed struct. */
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

/* For prepare: a zeroed output; name is the whole one, "outputs.y". *wanted becomes what ctx's
 * device writes, once prepare has returned; until then it is the host's. */
int job_add_output(job *j, const char *name, DLDataType dtype, int ndim, const int64_t *shape,
                   DLTensor **wanted);

/* For prepare: the table of results speaks of this tensor. */
void job_describe(job *j, const char *name, const DLTensor *tensor);

/* For prepare: 0, or the exit code of a failed call of the library after its sentence. */
int job_check(const job *j, cumega_status status);

#endif
