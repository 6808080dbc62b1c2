/* cumega bench: how fast an operation runs on this machine, compared with a copy of as many bytes.
 *
 * Every row is verified before it is timed, and its bits are compared once more afterwards. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bench.h"
#include "commands.h"
#include "device.h"
#include "failure.h"
#include "machine.h"
#include "progress.h"

#define MOST_ROWS 4096

typedef struct bench {
  const options *given;
  DLDevice place;
  int64_t last_cache; /* of the device */
  table lines;
  json_t *results; /* NULL if not wanted */
  int rows, planned;
  int code; /* the worst exit code so far */
} bench;

static void run_one(bench *all, const bench_row *row) {
  char shape[64];
  bench_run run;
  all->rows++;
  progress_set("row %d of %d: %s %s", all->rows, all->planned, row->what->name,
               bench_shape_text(row, shape, sizeof shape));
  int code = bench_run_row(all->given, row, all->last_cache, &run);
  if (code == EXIT_OK) code = bench_add_row(&all->lines, &run);
  if (code == EXIT_OK && all->results != NULL &&
      json_array_append_new(all->results, bench_json(&run)) != 0)
    code = fail(EXIT_DEVICE, "no memory for the results");
  bench_run_end(&run);
  all->code = worse_code(all->code, code);
}

/* The values that were given for one option. */
typedef struct choices {
  const char *values[MOST_CHOICES];
  int count;
} choices;

/* Sorts the choices by option. Each value is read before anything runs. Returns 0, or EXIT_INPUT
 * after a message. */
static int collect(const options *given, const operation *what, choices *of, int *rows) {
  bench_row trial = bench_row_of(what);
  *rows = 1;
  memset(of, 0, MOST_OPTIONS * sizeof *of);
  for (int i = 0; i < given->choice_count; i++) {
    int option = given->choices[i].option, code = EXIT_OK;
    const char *text = given->choices[i].text;
    if (option < 0) code = bench_split(what, text, &option, &text);
    if (code == EXIT_OK) code = bench_row_take(&trial, option, text);
    if (code != EXIT_OK) return code;
    of[option].values[of[option].count++] = text;
  }
  for (int o = 0; o < MOST_OPTIONS; o++)
    if (of[o].count > 0) *rows *= of[o].count;
  if (*rows <= MOST_ROWS) return EXIT_OK;
  return fail(EXIT_INPUT, "the options ask for %d rows, expected at most %d", *rows, MOST_ROWS);
}

/* Row `number` of all combinations. The option that is listed first changes slowest. */
static bench_row combination(const operation *what, const choices *of, int number) {
  bench_row row = bench_row_of(what);
  int chosen[MOST_OPTIONS] = {0};
  for (int o = MOST_OPTIONS - 1; o >= 0; o--) {
    if (of[o].count == 0) continue;
    chosen[o] = number % of[o].count;
    number /= of[o].count;
  }
  for (int o = 0; o < MOST_OPTIONS; o++)
    if (of[o].count > 0) (void)bench_row_take(&row, o, of[o].values[chosen[o]]);
  return row;
}

/* Adds settings such as "num_heads=8 dtype=bfloat16" to those that were given. The row points into
 * line. */
static int take_line(bench_row *row, char *line) {
  char *rest = NULL;
  for (char *word = strtok_r(line, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
    char *value = strchr(word, '=');
    *value++ = '\0';
    int code = bench_row_take(row, bench_option_find(row->what, word), value);
    if (code != EXIT_OK) return code;
  }
  return EXIT_OK;
}

/* Threads and levels are only for a CPU. Levels that this machine or this build lacks are left
 * out. */
static int runs_here(const bench *all, const bench_row *first, const bench_row *row) {
  if (all->place.device_type != kDLCPU)
    return row->values[BENCH_LEVEL] == first->values[BENCH_LEVEL] &&
           row->threads == first->threads;
  return row->values[BENCH_LEVEL] == NULL || session_has_level(row->values[BENCH_LEVEL]);
}

static void run_sweep(bench *all, const bench_row *first) {
  char *rows = strdup(first->what->bench.sweep), *rest = NULL;
  if (rows == NULL) all->code = fail(EXIT_DEVICE, "no memory for the sweep");
  for (char *line = rows ? strtok_r(rows, ";", &rest) : NULL; line;
       line = strtok_r(NULL, ";", &rest)) {
    bench_row row = *first;
    int code = take_line(&row, line);
    if (code != EXIT_OK)
      all->code = worse_code(all->code, code);
    else if (runs_here(all, first, &row))
      run_one(all, &row);
    else
      all->planned--;
  }
  free(rows);
}

static int report(bench *all, json_t *machine) {
  const options *given = all->given;
  if (all->code != EXIT_OK && all->lines.count < 2) return all->code;
  if (!given->json) {
    machine_print(stdout, machine);
    puts("of a copy: the time of a copy of the same bytes, by as many threads, over the "
         "operation's\n"
         "*: what a run reads and writes fits the last cache");
    table_print(&all->lines);
  }
  if (all->results == NULL) return all->code;
  json_t *object = json_pack("{s:O, s:O}", "machine", machine, "results", all->results);
  if (given->output != NULL) {
    int failed = object == NULL || json_dump_file(object, given->output,
                                                  JSON_INDENT(1) | JSON_REAL_PRECISION(6)) != 0;
    if (failed)
      all->code = fail(EXIT_INPUT, "%s: cannot be written: %s", given->output, strerror(errno));
  }
  if (!given->json) {
    json_decref(object);
    return all->code;
  }
  int printed = print_json(object);
  return all->code != EXIT_OK ? all->code : printed;
}

/* Describes the machine, and its GPU if that is measured. */
static json_t *describe(bench *all) {
  json_t *machine = machine_describe(all->given->commit), *gpu = NULL;
  all->last_cache = machine_last_cache();
  if (machine == NULL || all->place.device_type == kDLCPU) return machine;
  gpu = device_describe(all->place.device_id);
  all->last_cache = json_integer_value(json_object_get(gpu, "l2_bytes"));
  (void)json_object_update(machine, gpu);
  json_decref(gpu);
  return machine;
}

static int run_bench(const options *given, const operation *what) {
  choices of[MOST_OPTIONS];
  bench all = {.given = given};
  session on;
  int code = collect(given, what, of, &all.planned);
  if (code != EXIT_OK) return code;
  code = session_open(given, &on);
  all.place = on.place;
  session_close(&on);
  if (code != EXIT_OK) return code;
  json_t *machine = describe(&all);
  if (given->json || given->output != NULL) all.results = json_array();
  if (machine == NULL || bench_add_heading(&all.lines) != EXIT_OK)
    all.code = fail(EXIT_DEVICE, "no memory for the results");
  double start = steady_seconds(), before = machine_seconds_elsewhere();
  int rows = all.planned;
  for (const char *at = what->bench.sweep; given->sweep && at != NULL; all.planned++)
    if ((at = strchr(at, ';')) != NULL) at++;
  bench_row first = combination(what, of, 0);
  for (int i = 0; all.code == EXIT_OK && i < rows; i++) {
    bench_row row = combination(what, of, i);
    run_one(&all, &row);
  }
  if (all.code == EXIT_OK && given->sweep) run_sweep(&all, &first);
  double passed = steady_seconds() - start;
  if (machine && passed > 1) { /* the system counts ticks of 10 ms, too few in a shorter run */
    double busy = (machine_seconds_elsewhere() - before) / passed;
    json_object_set_new(machine, "cpus_busy_elsewhere", json_real(busy < 0 ? 0 : busy));
  }
  progress_end();
  code = report(&all, machine);
  json_decref(all.results);
  json_decref(machine);
  table_free(&all.lines);
  return code;
}

int command_bench(int argc, char **argv) {
  options given;
  int code = options_parse(argc, argv, OPTIONS_DEVICE | OPTIONS_OUTPUT | OPTIONS_BENCH, &given);
  if (code != EXIT_OK) return code;
  if (given.argument_count != 1)
    return fail(EXIT_INPUT, "bench takes OP, and was given %d arguments (cumega bench --help)",
                given.argument_count);
  const operation *what = operation_of(given.arguments[0], "OP is");
  if (what == NULL) return EXIT_INPUT;
  progress_begin();
  code = run_bench(&given, what);
  progress_end();
  return code;
}
