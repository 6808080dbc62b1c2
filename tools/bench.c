/* cumega bench: how fast an operation runs on this machine, beside a copy of the same bytes.
 *
 * Every row is verified before it is timed, and compared bit for bit once more behind the clock. */
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

static const benchmark *const benchmarks[] = {&bench_ema_forward,
                                              &bench_ema_step,
                                              &bench_ema_kernel,
                                              &bench_relative_position_bias,
                                              &bench_rotary_position_bias,
                                              &bench_attention_softmax,
                                              &bench_residual,
                                              &bench_gated_residual};

typedef struct bench {
  const options *given;
  DLDevice place;
  int64_t last_cache; /* of the device */
  table lines;
  json_t *results; /* NULL: none are wanted */
  int rows, planned;
  int code; /* the worst so far */
} bench;

const benchmark *benchmark_at(int i) {
  return i >= 0 && i < (int)(sizeof benchmarks / sizeof *benchmarks) ? benchmarks[i] : NULL;
}

static const benchmark *find(const char *name) {
  char known[256] = "";
  const benchmark *what;
  for (int i = 0; (what = benchmark_at(i)) != NULL; i++) {
    if (strcmp(what->operation, name) == 0) return what;
    size_t used = strlen(known);
    snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", what->operation);
  }
  fail(EXIT_INPUT, "'%s' is not an operation, expected one of %s", name, known);
  return NULL;
}

/* A wrong result is the worst, then a device that fails. */
static int worse(int a, int b) {
  const int order[] = {EXIT_WRONG, EXIT_DEVICE, EXIT_INPUT};
  for (size_t i = 0; i < sizeof order / sizeof *order; i++)
    if (a == order[i] || b == order[i]) return order[i];
  return EXIT_OK;
}

static void run_one(bench *all, const bench_settings *set) {
  char shape[64];
  bench_run run;
  all->rows++;
  progress_set("row %d of %d: %s %s", all->rows, all->planned, set->what->operation,
               bench_shape_text(set, shape, sizeof shape));
  int code = bench_run_row(all->given, set, all->last_cache, &run);
  if (code == EXIT_OK) code = bench_add_row(&all->lines, &run);
  if (code == EXIT_OK && all->results != NULL &&
      json_array_append_new(all->results, bench_json(&run)) != 0)
    code = fail(EXIT_DEVICE, "no memory for the results");
  bench_run_end(&run);
  all->code = worse(all->code, code);
}

/* Values of one option, as given: choices[k] of its `count`. */
typedef struct choices {
  const char *values[MOST_CHOICES];
  int count;
} choices;

/* The options by kind; 0 or EXIT_INPUT after a sentence: each value is read before anything runs. */
static int collect(const options *given, const benchmark *what, choices *of, int *rows) {
  bench_settings trial = bench_settings_of(what);
  *rows = 1;
  memset(of, 0, BENCH_OPTIONS * sizeof *of);
  for (int i = 0; i < given->choice_count; i++) {
    choices *c = &of[given->choices[i].option];
    int code = bench_settings_take(&trial, given->choices[i].option, given->choices[i].text);
    if (code != EXIT_OK) return code;
    c->values[c->count++] = given->choices[i].text;
  }
  for (int o = 0; o < BENCH_OPTIONS; o++)
    if (of[o].count > 0) *rows *= of[o].count;
  if (*rows <= MOST_ROWS) return EXIT_OK;
  return fail(EXIT_INPUT, "the options ask for %d rows, expected at most %d", *rows, MOST_ROWS);
}

/* Row `number` of all combinations; the option that is listed first changes slowest. */
static bench_settings combination(const benchmark *what, const choices *of, int number) {
  bench_settings set = bench_settings_of(what);
  for (int o = BENCH_OPTIONS - 1; o >= 0; o--) {
    if (of[o].count == 0) continue;
    (void)bench_settings_take(&set, o, of[o].values[number % of[o].count]);
    number /= of[o].count;
  }
  return set;
}

/* "heads=8 dtype=bfloat16" on top of what was given. The words are cut out of line. */
static int take_line(bench_settings *set, char *line) {
  char *rest = NULL;
  for (char *word = strtok_r(line, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
    char *value = strchr(word, '=');
    *value++ = '\0';
    int code = bench_settings_take(set, bench_option_find(word), value);
    if (code != EXIT_OK) return code;
  }
  return EXIT_OK;
}

/* Threads and levels are the CPU's; levels that this machine or this build lacks are left out. */
static int runs_here(const bench *all, const bench_settings *first, const bench_settings *set) {
  if (all->place.device_type != kDLCPU)
    return set->level == first->level && set->threads == first->threads;
  return set->level == NULL || session_has_level(set->level);
}

static void run_sweep(bench *all, const bench_settings *first) {
  const char *const *lines = first->what->sweep;
  for (int i = 0; lines[i] != NULL; i++) {
    bench_settings set = *first;
    char *line = strdup(lines[i]);
    int code = line != NULL ? take_line(&set, line) : fail(EXIT_DEVICE, "no memory for the sweep");
    if (code != EXIT_OK)
      all->code = worse(all->code, code);
    else if (runs_here(all, first, &set))
      run_one(all, &set);
    else
      all->planned--;
    free(line);
  }
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

/* The machine, and its GPU where that is measured. */
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

static int run_bench(const options *given, const benchmark *what) {
  choices of[BENCH_OPTIONS];
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
  if (given->sweep)
    for (int i = 0; what->sweep[i] != NULL; i++) all.planned++;
  bench_settings first = combination(what, of, 0);
  for (int i = 0; all.code == EXIT_OK && i < rows; i++) {
    bench_settings set = combination(what, of, i);
    run_one(&all, &set);
  }
  if (all.code == EXIT_OK && given->sweep) run_sweep(&all, &first);
  double passed = steady_seconds() - start;
  if (machine && passed > 1) { /* a shorter run says nothing: the system counts ticks of 10 ms */
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
  const benchmark *what = find(given.arguments[0]);
  if (what == NULL) return EXIT_INPUT;
  progress_begin();
  code = run_bench(&given, what);
  progress_end();
  return code;
}
