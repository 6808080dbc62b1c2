/* One row of `cumega bench`: its settings, the case that is made from them, and the
 * measurement. */
#ifndef CUMEGA_TOOLS_BENCH_H
#define CUMEGA_TOOLS_BENCH_H

#include "measure.h"
#include "operation.h"
#include "options.h"
#include "session.h"
#include "table.h"

#define MOST_KEYS    32
#define SAMPLED_ROWS 7 /* of an output, checked against reference/ */

/* The keys that every operation has. The operation's settings follow, then its ways. */
enum bench_key {
  BENCH_DTYPE,
  BENCH_THREADS,
  BENCH_LEVEL,
  BENCH_CACHE,
  BENCH_LAUNCH,
  BENCH_OWN /* the operation's first key */
};

/* The options of a row, by number. Each may be given several times. There is a row for every
 * combination. */
enum bench_option {
  BENCH_SHAPE,
  BENCH_DIM,                         /* the first of MOST_DIMS */
  BENCH_KEY = BENCH_DIM + MOST_DIMS, /* the first of MOST_KEYS */
  MOST_OPTIONS = BENCH_KEY + MOST_KEYS
};

/* What one row measures. */
struct bench_row {
  const operation *what;
  int64_t shape[MOST_DIMS];
  const char *values[MOST_KEYS]; /* of its keys; NULL for the library's default */
  DLDataType dtype;              /* this and threads: two of the values, parsed */
  int32_t threads;
};

/* A row with all defaults. */
bench_row bench_row_of(const operation *what);

/* Key i, or NULL after the last one. */
const setting *bench_key(const operation *what, int i);

/* The text of a key, or "" if it has none. */
const char *bench_value(const bench_row *row, const char *name);

/* Whether --set can set the key. */
int bench_key_is_free(const setting *key);

/* "--cache warm", or "--set activation=relu", into text; returns text. */
char *bench_key_text(const bench_row *row, int i, char *text, size_t size);

/* The algorithm of cumega_ema_forward that the row asks for, or 0 if it has no such key. */
cumega_ema_algorithm bench_algorithm(const bench_row *row);

/* The option of that name: "shape", a dimension or a key; -1 if the operation has none. */
int bench_option_find(const operation *what, const char *name);

/* Gives an option its value. Returns 0, or EXIT_INPUT after a message. */
int bench_row_take(bench_row *row, int option, const char *text);

/* Splits the "key=value" of --set into option and value. Returns 0, or EXIT_INPUT after a
 * message. */
int bench_split(const operation *what, const char *given, int *option, const char **value);

int bench_dims(const operation *what);

/* "2048,8,512" into text; returns text. */
char *bench_shape_text(const bench_row *row, char *text, size_t size);

/* Makes the case of a row: its configuration, and what the operation's make adds. Returns 0, or an
 * exit code after a message. case_close is allowed after either. */
int bench_case_make(const bench_row *row, cumega_context *host, case_file *file);

/* For make: adds a zeroed tensor, at most 16 of them. */
int bench_case_add(case_file *file, const char *group, const char *name, DLDataType dtype,
                   int ndim, const int64_t *shape, DLTensor **tensor);

/* For make: adds a setting to the configuration. */
int bench_case_put(case_file *file, const char *name, json_t *value);

/* Fills a tensor with numbers in -127/64 .. 127/64, which are exact in every type, never 0, and
 * the same for the same seed. */
void bench_fill(DLTensor *tensor, uint64_t seed);

/* Compares the outputs with reference/, as the operation's benchmark says. Returns an exit
 * code. */
int bench_check(const bench_row *row, const job *j, double *worst);

/* For check: parameters of the case as doubles, which the caller frees; NULL if the case has none
 * of that name. names ends with NULL. Returns 0, or an exit code after a message. */
int bench_numbers(const case_file *file, const char *const *names, double **numbers);

/* For check: the i-th of `some` indices that are spread over 0 .. all - 1, including both ends. */
int64_t bench_spread(int64_t i, int64_t some, int64_t all);

/* For check: the largest error so far, and its share of the allowed error. Allowed are one
 * rounding of the type and a number of earlier roundings of float32 (of float64 if that is the
 * type). */
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
  double bytes;       /* read and written by a run */
  int64_t last_cache; /* of the device */
  measurement m;
  char verified[200];
} bench_run;

/* Makes, verifies and times a row. Returns an exit code. bench_run_end is allowed after any. */
int bench_run_row(const options *given, const bench_row *row, int64_t last_cache, bench_run *run);
void bench_run_end(bench_run *run);

/* A row as a line of a table, and as JSON. */
int bench_add_heading(table *t);
int bench_add_row(table *t, const bench_run *run);
json_t *bench_json(const bench_run *run);

#endif
