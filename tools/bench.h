/* What can be measured: for each operation a default shape and how to make a case of it in memory.
 * To add one: write its make in a bench_<noun>.c, and add its line to the table in bench.c. */
#ifndef CUMEGA_TOOLS_BENCH_H
#define CUMEGA_TOOLS_BENCH_H

#include <cumega/ema.h>
#include "operation.h"
#include "options.h"
#include "session.h"
#include "table.h"
#include "measure.h"

#define BENCH_DIMS 4

/* Options that have a value for each row. Each may be given several times: a row for every
 * combination. The names are in bench_settings.c. */
typedef enum bench_option {
  BENCH_SHAPE,
  BENCH_DTYPE,
  BENCH_THREADS,
  BENCH_LEVEL,
  BENCH_CACHE,
  BENCH_LAUNCH,
  BENCH_HEADS, /* from here on, those that not every operation takes */
  BENCH_ACTIVATION,
  BENCH_STATE_DTYPE,
  BENCH_LAYOUT,
  BENCH_ALGORITHM,
  BENCH_TRUNCATION,
  BENCH_KIND,
  BENCH_NORM,
  BENCH_BIAS,
  BENCH_MASK,
  BENCH_RESULT,
  BENCH_TABLE,
} bench_option;

#define BENCH_OPTIONS       (BENCH_TABLE + 1)
#define BENCH_TAKES(option) (1u << (option))

typedef struct benchmark benchmark;

/* What one row measures. */
typedef struct bench_settings {
  const benchmark *what;
  int64_t shape[BENCH_DIMS];
  DLDataType dtype, state_dtype; /* state_dtype.bits 0: as dtype asks for */
  int32_t threads;
  const char *level;  /* of the CPU; NULL: as the environment has it */
  const char *cache;  /* "warm", "flushed" */
  const char *launch; /* on a GPU: "stream", "graph" */
  const char *layout; /* "LBD", "BLD", "BDL": the order in memory; "packed": (L * B, D) */
  int64_t heads;
  const char *activation;
  cumega_ema_algorithm algorithm; /* 0: the library's choice */
  const char *algorithm_name;     /* for the results; the default is recurrent's bits */
  int algorithm_forced;           /* it was asked for by name */
  int64_t truncation;             /* 0: none */
  const char *kind, *norm;        /* of a residual connection, of what follows it or "none" */
  const char *bias, *mask;        /* of scores: "relative", "rotary", "none"; "none", "causal" */
  const char *result;             /* of scores: "weights", "scores" */
  const char *table;              /* of a rotary bias: "kept", "anew" with every call */
} bench_settings;

struct benchmark {
  const char *operation; /* as operation.h names it */
  const char *letters;   /* of the shape, "L,B,D" */
  int64_t shape[BENCH_DIMS];
  unsigned takes; /* BENCH_TAKES of the options from BENCH_HEADS on */
  /* Parameters, inputs and configuration, always the same ones; host is a CPU context. */
  int (*make)(const bench_settings *set, cumega_context *host, case_file *file);
  /* *worst becomes the largest error of the outputs, divided by what is allowed there. NULL: they
   * are compared with the same case in float64, run by this library on the CPU at the plain level.
   */
  int (*check)(const bench_settings *set, const job *j, double *worst);
  const char *checked; /* how, for the results */
  double (*work)(
      const bench_settings *set); /* multiplications for one value of the output; NULL: few */
  /* What is timed; NULL: the operation's run. */
  cumega_status (*run)(const bench_settings *set, job *j);
  const char *(*left_out)(const bench_settings *set); /* the output that run does not write; NULL */
  const char *const *sweep; /* the rows that matter beside the given one, as "heads=8
                               dtype=bfloat16"; ends with NULL */
};

extern const benchmark bench_ema_forward, bench_ema_step, bench_ema_kernel;
extern const benchmark bench_relative_position_bias, bench_rotary_position_bias,
    bench_attention_softmax;
extern const benchmark bench_residual, bench_gated_residual;

/* NULL behind the last one. */
const benchmark *benchmark_at(int i);

/* The settings of a row that nothing is said about. */
bench_settings bench_settings_of(const benchmark *what);

/* The option of that name (without dashes), or -1. */
int bench_option_find(const char *name);
const char *bench_option_name(int option);

/* Gives an option its value: 0, or EXIT_INPUT after a sentence. */
int bench_settings_take(bench_settings *set, int option, const char *text);

int bench_dims(const benchmark *what);

/* "2048,8,512" into text; returns text. */
char *bench_shape_text(const bench_settings *set, char *text, size_t size);

/* For make: the case without tensors, and its tensors one by one, zeroed, at most 16. config becomes
 * the case's; NULL is memory that ran out. */
int bench_case_begin(const benchmark *what, json_t *config, case_file *file);
int bench_case_add(case_file *file, const char *name, DLDataType dtype, int ndim,
                   const int64_t *shape, DLTensor **tensor);

int bench_no_memory(const case_file *file);

/* Numbers in -127/64 .. 127/64, never 0, the same for the same seed: exact in every type. */
void bench_fill(DLTensor *tensor, uint64_t seed);

/* A row: everything that was made for it, and what was measured. */
typedef struct bench_run {
  const bench_settings *set;
  session on;
  case_file file;
  job j;
  double bytes;       /* that a run reads and writes */
  int64_t last_cache; /* of the device */
  measurement m;
  char verified[200];
} bench_run;

/* Makes, verifies and times a row: an exit code. bench_run_end is allowed after any. */
int bench_run_row(const options *given, const bench_settings *set, int64_t last_cache,
                  bench_run *run);
void bench_run_end(bench_run *run);

/* The row as people and as programs read it. */
int bench_add_heading(table *t);
int bench_add_row(table *t, const bench_run *run);
json_t *bench_json(const bench_run *run);

#endif
