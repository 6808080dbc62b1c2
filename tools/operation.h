/* The operations of the program, and jobs: cases that are ready to run. An operation is a
 * description, which is all that `cumega run`, `verify` and `bench` know of it. To add an
 * operation, write its description in an op_<noun>.c and add it to the table in operation.c. */
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

/* An input, and the offset in the operation's object of its const DLTensor *. */
typedef struct operation_input {
  const char *name; /* NULL ends a table */
  size_t offset;
  int needed;
} operation_input;

/* How the operation is measured. */
typedef struct benchmark {
  const char *dims; /* the letters of its shape, "L,B,D"; each is a key of --set */
  int64_t shape[MOST_DIMS];
  /* Options besides its settings, such as the order of the input in memory. Their offsets have no
   * meaning. The one with the name "algorithm" is that of cumega_ema_forward. NULL for none. */
  const setting *ways;
  /* Adds parameters and inputs, always the same ones, to a case that has its configuration. host
   * is a CPU context. */
  int (*make)(const bench_row *row, cumega_context *host, case_file *file);
  /* How a sample of rows of the outputs is compared with a file of reference/. The first
   * `row_dims` dimensions of the shape number the rows. exact computes one row of each output from
   * the parameters as numbers (NULL if the case has none of that name). An error is max |output -
   * exact| / max |exact|, and the number of allowed roundings is `roundings`. */
  const char *reference;
  int row_dims;
  const char *const *parameters; /* names, at most MOST_PARAMETERS; ends with NULL */
  int (*exact)(const job *j, double *const *parameters, int64_t row, real *const *exact);
  double (*roundings)(const job *j);
  /* If not NULL, replaces all that. *worst becomes the largest ratio of an error to the allowed
   * error. */
  int (*check)(const bench_row *row, const job *j, double *worst);
  int (*has_own_bits)(const bench_row *row); /* bits on a GPU differ from the CPU's; NULL: never */
  cumega_status (*run)(const bench_row *row, job *j); /* to be timed; NULL: the operation's run */
  const char *(*left_out)(const bench_row *row);      /* an output that run does not write */
  const char *sweep; /* the rows of --sweep: "num_heads=8; num_heads=8 dtype=bfloat16" */
} benchmark;

typedef struct operation {
  const char *name;
  const char *summary, *outputs; /* for help texts */
  size_t object_bytes; /* of the object with settings, inputs and outputs, first zeroed */
  const setting *settings;
  const operation_input *inputs; /* NULL: none */
  int is_on_host;                /* its tensors are on the host, whatever the context's device */
  int has_algorithms;            /* like cumega_ema_forward */
  void (*set_defaults)(void *object); /* before the settings are read; NULL: zeros */
  int (*prepare)(job *j);             /* checks, makes objects and outputs: an exit code */
  cumega_status (*run)(job *j);       /* may be called again, with the same result */
  void (*release)(void *object);      /* frees what prepare made, even if it failed */
  benchmark bench;
} operation;

extern const operation op_ema_forward, op_ema_step, op_ema_kernel;
extern const operation op_relative_position_bias, op_rotary_position_bias, op_attention_softmax;
extern const operation op_residual, op_gated_residual;

/* A tensor's copy in the device's memory. */
typedef struct staged_tensor {
  DLTensor *host;
  cumega_tensor device;
  int64_t bytes;
} staged_tensor;

/* A job must not be moved after job_begin: outputs and staged tensors contain pointers to
 * themselves. */
struct job {
  const operation *operation;
  const case_file *file;
  cumega_context *ctx;
  DLDevice place;                 /* ctx's device */
  cumega_ema_algorithm algorithm; /* 0 for the library's choice */
  void *object;                   /* of the operation */
  case_tensor outputs[JOB_OUTPUTS];
  DLTensor **wanted[JOB_OUTPUTS]; /* the object's pointer to each output */
  int output_count;
  const char *left_out; /* an output that the algorithm does not compute, or NULL */
  staged_tensor staged[JOB_STAGED];
  int staged_count;
  /* For the table of results. */
  char shape[96];
  DLDataType dtype; /* of the activations, or if there are none, of the result */
  int64_t elements; /* counted by elements/s */
};

/* NULL after the last one. */
const operation *operation_at(int i);

/* The operation of that name, or NULL after a message that begins with `who`. */
const operation *operation_of(const char *name, const char *who);

/* Makes a case ready to run. place is ctx's device. ctx and file must outlive the job. An
 * algorithm other than 0 needs an operation with algorithms. Returns 0, or an exit code after a
 * message. job_end is allowed after either, and on a zeroed struct. */
int job_begin(job *j, cumega_context *ctx, DLDevice place, const case_file *file,
              cumega_ema_algorithm algorithm);
void job_end(job *j);

/* Runs the job once, then again until enough_seconds have passed. *seconds becomes the time of the
 * fastest run. */
int job_run(job *j, double enough_seconds, double *seconds);

/* Fills the outputs with bytes that are NaN in every floating type, which shows what a run does
 * not write. */
int job_poison(job *j);

/* The output of that name (without "outputs."), or NULL. */
const DLTensor *job_find(const job *j, const char *name);

/* For prepare: adds a zeroed output. name is its full name, "outputs.y". *wanted is the host's
 * tensor until prepare has returned, and then the one that ctx's device writes. */
int job_add_output(job *j, const char *name, DLDataType dtype, int ndim, const int64_t *shape,
                   DLTensor **wanted);

/* For prepare: the table of results describes this tensor. */
void job_describe(job *j, const char *name, const DLTensor *tensor);

/* For prepare: returns 0, or after a failed call of the library, an exit code after its
 * message. */
int job_check(const job *j, cumega_status status);

#endif
