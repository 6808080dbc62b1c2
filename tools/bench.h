/* One row of `cumega bench`: its settings, the case that is made of them, and what was
 * measured. */
#ifndef CUMEGA_TOOLS_BENCH_H
#define CUMEGA_TOOLS_BENCH_H

#include "measure.h"
#include "operation.h"
#include "options.h"
#include "session.h"
#include "table.h"

#define MOST_KEYS    32
#define SAMPLED_ROWS 7 /* of an output, that check looks at */

/* The keys that every operation has; its settings follow, then its ways. */
enum bench_key {
  BENCH_DTYPE,
  BENCH_THREADS,
  BENCH_LEVEL,
  BENCH_CACHE,
  BENCH_LAUNCH,
  BENCH_OWN /* the first of the operation's own */
};

/* What a row can be told, by number. Each may be given several times: a row for every
 * combination. */
enum bench_option {
  BENCH_SHAPE,
  BENCH_DIM,                         /* MOST_DIMS of them */
  BENCH_KEY = BENCH_DIM + MOST_DIMS, /* MOST_KEYS */
  MOST_OPTIONS = BENCH_KEY + MOST_KEYS
};

/* What one row measures. */
struct bench_row {
  const operation *what;
  int64_t shape[MOST_DIMS];
  const char *values[MOST_KEYS]; /* of its keys; NULL: the library's default */
  DLDataType dtype;              /* what values say of two of them */
  int32_t threads;
};

/* The row that nothing is said about. */
bench_row bench_row_of(const operation *what);

/* Key i; NULL past the last one. */
const setting *bench_key(const operation *what, int i);

/* The text of a key, "" where it has none. */
const char *bench_value(const bench_row *row, const char *name);

/* Whether --set knows it. */
int bench_key_is_free(const setting *key);

/* "--cache warm", or "--set activation=relu", into text; returns text. */
char *bench_key_text(const bench_row *row, int i, char *text, size_t size);

/* The algorithm of cumega_ema_forward that the row asks for; 0 where it has no such key. */
cumega_ema_algorithm bench_algorithm(const bench_row *row);

/* The option of that name: "shape", a dimension or a key; -1 where the operation has none. */
int bench_option_find(const operation *what, const char *name);

/* Gives an option its value: 0, or EXIT_INPUT after a sentence. */
int bench_row_take(bench_row *row, int option, const char *text);

/* "key=value" of --set apart: the option and the value. 0, or EXIT_INPUT after a sentence. */
int bench_split(const operation *what, const char *given, int *option, const char **value);

int bench_dims(const operation *what);

/* "2048,8,512" into text; returns text. */
char *bench_shape_text(const bench_row *row, char *text, size_t size);

/* The case of a row: its configuration, and what make adds. 0 or an exit code after a sentence;
 * case_close is allowed after either. */
int bench_case_make(const bench_row *row, cumega_context *host, case_file *file);

/* For make: a tensor, zeroed, at most 16 of them. */
int bench_case_add(case_file *file, const char *group, const char *name, DLDataType dtype, int ndim,
                   const int64_t *shape, DLTensor **tensor);

/* For make: a setting of the configuration. */
int bench_case_put(case_file *file, const char *name, json_t *value);

/* Numbers in -127/64 .. 127/64, never 0, the same for the same seed: exact in every type. */
void bench_fill(DLTensor *tensor, uint64_t seed);

/* Compares the outputs with reference/, as the operation's benchmark says: an exit code. */
int bench_check(const bench_row *row, const job *j, double *worst);

/* For check: parameters of the case as doubles, which the caller frees; NULL where the case has
 * none of that name. names end with NULL. 0, or an exit code after a sentence. */
int bench_numbers(const case_file *file, const char *const *names, double **numbers);

/* For check: element i of `some` that are spread over 0 .. all - 1, both ends included. */
int64_t bench_spread(int64_t i, int64_t some, int64_t all);

/* For check: an error so far, and as a share of what is allowed: a rounding of the type, and so
 * many of float32 (float64 where that is the type) before. */
typedef struct bench_error {
  double difference, largest;
} bench_error;

void bench_note(bench_error *error, double value, double exact);
double bench_share(const bench_error *error, DLDataType dtype, double roundings);
double bench_worse(double a, double b); /* the larger, or NaN */

/* Everything that was made for a row, and what was measured. */
typedef struct bench_run {
  const bench_row *row;
  session on;
  case_file file;
  job j;
  double bytes;       /* that a run reads and writes */
  int64_t last_cache; /* of the device */
  measurement m;
  char verified[200];
} bench_run;

/* Makes, verifies and times a row: an exit code. bench_run_end is allowed after any. */
int bench_run_row(const options *given, const bench_row *row, int64_t last_cache, bench_run *run);
void bench_run_end(bench_run *run);

/* The row as people and as programs read it. */
int bench_add_heading(table *t);
int bench_add_row(table *t, const bench_run *run);
json_t *bench_json(const bench_run *run);

#endif
