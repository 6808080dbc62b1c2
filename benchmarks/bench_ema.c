/* bench_ema: how fast the EMA runs on this machine, beside memcpy of the same bytes.
 *
 * Every row is verified before it is timed (benchmarks/ema_reference.c, and bit for bit against a
 * second run) and compared bit for bit once more behind the clock. Caches are warm: nothing is
 * flushed between calls, so a row whose working set fits the last cache measures the caches, and is
 * marked so. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <jansson.h>
#include "ema_reference.h"
#include "ema_run.h"
#include "machine.h"
#include "measure.h"
#include "values.h"

#define REPEATS 30

typedef struct options {
  ema_settings set;
  int repeats, sweep;
  const char *json, *commit;
} options;

static const char usage[] =
    "usage: bench_ema [options]\n"
    "  --shape L,B,D        2048,8,512\n"
    "  --heads N            4\n"
    "  --activation NAME    relu (ESPnet's names)\n"
    "  --dtype TYPE         float32, float16, bfloat16 or float64\n"
    "  --state-dtype TYPE   float32 or float64 (the default where --dtype is float64)\n"
    "  --layout ORDER       LBD, BLD or BDL, the order in memory\n"
    "  --packed             one (L * B, D) tensor of sequences of uneven lengths\n"
    "  --step               one step of B sequences with their states, rather than L of them\n"
    "  --threads N          1\n"
    "  --algorithm NAME     default (the library's choice), recurrent or sliced\n"
    "  --level LEVEL        plain, v3 or v4; default: the best, or what CUMEGA_CPU says\n"
    "  --sweep              the rows that matter, around the given shape\n"
    "  --repeats N          30\n"
    "  --json FILE          the results; - is standard output, where the table is then left out\n"
    "  --commit TEXT        the state of the sources, for the JSON\n"
    "Exit status: 0; 1 a wrong result or a failed call; 2 usage.\n";

/* -- measuring one row ---------------------------------------------------------------------- */

/* Poison, a run, the check, poison, a second run: the same bits. */
static int verify(ema_run *run, void *first) {
  double worst;
  for (int pass = 0; pass < 2; pass++) {
    memset(run->y, 0xff, (size_t)run->bytes);
    memset(run->final, 0xff, (size_t)run->state_bytes);
    ema_run_call(run);
    if (pass == 0) memcpy(first, run->y, (size_t)run->bytes);
  }
  if (memcmp(first, run->y, (size_t)run->bytes)) {
    fprintf(stderr, "bench_ema: two runs gave different bits\n");
    return 0;
  }
  if (!ema_reference_compare(run, &worst)) {
    fprintf(stderr, "bench_ema: no memory for the reference\n");
    return 0;
  }
  if (worst <= 1) return 1;
  fprintf(stderr, "bench_ema: wrong result: an error is %g times what is allowed\n", worst);
  return 0;
}

static int time_run(ema_run *run, int repeats, measurement *m) {
  void *first = malloc((size_t)run->bytes + 1);
  copier *memcpys = copier_create(run->set.threads, run->parts, run->parts_count);
  int done = first && memcpys && verify(run, first);
  if (done) {
    const measured ours = {ema_run_call, run}, copy = {copier_run, memcpys};
    done = measure_beside_copy(&ours, &copy, repeats, m);
    ema_run_call(run);
    if (done && memcmp(first, run->y, (size_t)run->bytes)) {
      fprintf(stderr, "bench_ema: the bits changed while the clock ran\n");
      done = 0;
    }
  }
  copier_destroy(memcpys);
  free(first);
  return done;
}

static json_t *json_of_seconds(const seconds *s) {
  return json_pack("{s:f, s:f, s:f, s:I}", "median", s->median, "min", s->min, "spread", s->spread,
                   "calls_per_sample", (json_int_t)s->calls);
}

/* Bytes read and written: x, y, and a step's states twice. */
static double bytes_moved(const ema_run *run) {
  return 2.0 * (double)(run->bytes + run->state_bytes);
}

static double elements(const ema_run *run) {
  return (double)run->bytes * 8 / run->set.dtype.bits;
}

static json_t *json_of_row(const ema_run *run, const measurement *m) {
  const ema_settings *set = &run->set;
  json_t *row = json_pack(
      "{s:s, s:[I,I,I], s:I, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:s}", "op",
      set->step ? "ema_step" : "ema_forward", "shape", (json_int_t)(set->step ? 1 : set->length),
      (json_int_t)set->batch, (json_int_t)set->channels, "heads", (json_int_t)set->heads,
      "activation", cumega_activation_name(set->activation), "dtype", value_type_name(set->dtype),
      "state_dtype", value_type_name(set->state_dtype), "layout", set->step ? "BD" : set->layout,
      "device", "cpu", "backend", cumega_context_backend(run->ctx), "threads", set->threads,
      "algorithm", ema_algorithm_name(set->algorithm));
  json_object_set_new(row, "repeats", json_integer(m->repeats));
  json_object_set_new(row, "seconds", json_of_seconds(&m->ours));
  json_object_set_new(row, "copy_seconds", json_of_seconds(&m->copy));
  json_object_set_new(row, "working_set_bytes", json_integer((json_int_t)bytes_moved(run)));
  json_object_set_new(row, "gb_per_s", json_real(1e-9 * bytes_moved(run) / m->ours.median));
  json_object_set_new(row, "elements_per_s", json_real(elements(run) / m->ours.median));
  json_object_set_new(row, "copy_share", json_real(m->copy_share));
  return row;
}

static void print_heading(FILE *out) {
  fprintf(out, "%-8s %-14s %3s %-10s %-8s %-7s %-6s %-5s %2s %10s %10s %6s %7s %7s %6s\n", "op",
          "L,B,D", "N", "activation", "dtype", "state", "layout", "level", "th", "median us",
          "min us", "spread", "GB/s", "Gelem/s", "share");
}

static void print_row(FILE *out, const ema_run *run, const measurement *m) {
  const ema_settings *set = &run->set;
  char shape[64];
  const char *backend = cumega_context_backend(run->ctx), *level = strrchr(backend, '-');
  snprintf(shape, sizeof shape, "%lld,%lld,%lld", (long long)(set->step ? 1 : set->length),
           (long long)set->batch, (long long)set->channels);
  fprintf(out,
          "%-8s %-14s %3lld %-10s %-8s %-7s %-6s %-5s %2d %10.2f %10.2f %5.0f%% %7.2f %7.3f "
          "%5.1f%%%s\n",
          set->step        ? "step"
          : set->algorithm ? ema_algorithm_name(set->algorithm)
                           : "forward",
          shape, (long long)set->heads, cumega_activation_name(set->activation),
          value_type_name(set->dtype), value_type_name(set->state_dtype),
          set->step ? "BD" : set->layout, level ? level + 1 : backend, set->threads,
          1e6 * m->ours.median, 1e6 * m->ours.min, 100 * m->ours.spread,
          1e-9 * bytes_moved(run) / m->ours.median, 1e-9 * elements(run) / m->ours.median,
          100 * m->copy_share, bytes_moved(run) < (double)machine_last_cache() ? " *" : "");
  fflush(out);
}

/* Measures a row, prints it and appends it to results; 0 where it is wrong or cannot be made. */
static int run_row(const ema_settings *set, int repeats, FILE *out, json_t *results) {
  ema_run run;
  measurement m;
  int done = ema_run_make(set, &run) && time_run(&run, repeats, &m);
  if (done) {
    if (out) print_row(out, &run, &m);
    json_array_append_new(results, json_of_row(&run, &m));
  }
  ema_run_free(&run);
  return done;
}

/* -- the sweep ------------------------------------------------------------------------------ */

typedef struct sweep {
  const options *given;
  FILE *out;
  json_t *results;
  int right; /* no row failed so far */
} sweep;

static void add(sweep *s, const ema_settings *set) {
  if (!run_row(set, s->given->repeats, s->out, s->results)) s->right = 0;
}

static void sweep_activations(sweep *s) {
  static const cumega_activation others[] = {
#define OTHER(name, value, text) name,
      CUMEGA_ACTIVATION_LIST(OTHER)
#undef OTHER
  };
  ema_settings set = s->given->set;
  for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
    set.activation = others[i];
    add(s, &set);
  }
}

static void sweep_types(sweep *s) {
  static const DLDataType types[][2] = {
      {{kDLBfloat, 16, 1}, {kDLFloat, 32, 1}},
      {{kDLFloat, 16, 1}, {kDLFloat, 32, 1}},
      {{kDLFloat, 32, 1}, {kDLFloat, 64, 1}},
      {{kDLFloat, 64, 1}, {kDLFloat, 64, 1}},
  };
  ema_settings set = s->given->set;
  for (size_t i = 0; i < 2 * sizeof types / sizeof *types; i++) {
    set.activation = i % 2 ? CUMEGA_ACTIVATION_SWISH : CUMEGA_ACTIVATION_RELU;
    set.dtype = types[i / 2][0];
    set.state_dtype = types[i / 2][1];
    add(s, &set);
  }
}

static void sweep_layouts(sweep *s) {
  static const char *const layouts[] = {"BLD", "BDL", "packed"};
  static const DLDataType types[] = {{kDLFloat, 32, 1}, {kDLBfloat, 16, 1}};
  ema_settings set = s->given->set;
  for (size_t i = 0; i < 6; i++) {
    set.layout = layouts[i / 2];
    set.dtype = types[i % 2];
    add(s, &set);
  }
}

static void sweep_heads(sweep *s) {
  static const int heads[] = {1, 2, 8, 16, 32};
  ema_settings set = s->given->set;
  for (size_t i = 0; i < sizeof heads / sizeof *heads; i++) {
    set.heads = heads[i];
    add(s, &set);
  }
}

/* Short enough for the caches, one long sequence, and many sequences. */
static void sweep_shapes(sweep *s) {
  static const int shapes[][2] = {{64, 8}, {16384, 1}, {256, 64}};
  ema_settings set = s->given->set;
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    set.length = shapes[i][0];
    set.batch = shapes[i][1];
    add(s, &set);
  }
}

static void sweep_steps(sweep *s) {
  static const int batches[] = {1, 8, 64, 512, 4096};
  ema_settings set = s->given->set;
  set.step = 1;
  for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
    set.batch = batches[i];
    add(s, &set);
  }
  set.batch = 8;
  set.activation = CUMEGA_ACTIVATION_SWISH;
  add(s, &set);
  set.dtype = cumega_bfloat16;
  add(s, &set);
}

static void sweep_threads(sweep *s) {
  ema_settings set = s->given->set;
  set.threads = 2;
  add(s, &set);
  set.activation = CUMEGA_ACTIVATION_SWISH;
  add(s, &set);
  set.layout = "packed";
  add(s, &set);
  set.layout = "LBD";
  set.step = 1;
  set.batch = 512;
  add(s, &set);
}

/* One long sequence of few channels: the chain on one thread, whatever their number, and slices. */
static void sweep_algorithms(sweep *s) {
  static const cumega_ema_algorithm rows[] = {CUMEGA_EMA_CHAIN, CUMEGA_EMA_SLICED};
  ema_settings set = s->given->set;
  set.length = 65536;
  set.batch = 1;
  set.channels = 64;
  set.threads = 2;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    set.algorithm = rows[i];
    add(s, &set);
  }
}

/* Lower CPU levels, as far as this machine and this build have them. */
static void sweep_levels(sweep *s) {
  static const char *const levels[] = {"v3", "plain"};
  cumega_context *ctx = NULL;
  ema_settings set = s->given->set;
  for (size_t i = 0; i < 4; i++) {
    set.level = levels[i / 2];
    set.activation = i % 2 ? CUMEGA_ACTIVATION_SWISH : CUMEGA_ACTIVATION_RELU;
    setenv("CUMEGA_CPU", set.level, 1);
    int runs_here = cumega_context_create(NULL, &ctx) == CUMEGA_OK;
    unsetenv("CUMEGA_CPU");
    cumega_context_destroy(ctx);
    if (runs_here) add(s, &set);
  }
}

static int run_sweep(const options *given, FILE *out, json_t *results) {
  sweep s = {given, out, results, 1};
  sweep_activations(&s);
  sweep_types(&s);
  sweep_layouts(&s);
  sweep_heads(&s);
  sweep_shapes(&s);
  sweep_steps(&s);
  sweep_threads(&s);
  sweep_algorithms(&s);
  sweep_levels(&s);
  return s.right;
}

/* -- options -------------------------------------------------------------------------------- */

enum {
  SHAPE = 1,
  HEADS,
  ACTIVATION,
  DTYPE,
  STATE_DTYPE,
  LAYOUT,
  PACKED,
  STEP,
  THREADS,
  ALGORITHM,
  LEVEL,
  SWEEP,
  REPEAT,
  JSON,
  COMMIT,
  HELP
};

static const struct option long_options[] = {
    {"shape", required_argument, NULL, SHAPE},
    {"heads", required_argument, NULL, HEADS},
    {"activation", required_argument, NULL, ACTIVATION},
    {"dtype", required_argument, NULL, DTYPE},
    {"state-dtype", required_argument, NULL, STATE_DTYPE},
    {"layout", required_argument, NULL, LAYOUT},
    {"packed", no_argument, NULL, PACKED},
    {"step", no_argument, NULL, STEP},
    {"threads", required_argument, NULL, THREADS},
    {"algorithm", required_argument, NULL, ALGORITHM},
    {"level", required_argument, NULL, LEVEL},
    {"sweep", no_argument, NULL, SWEEP},
    {"repeats", required_argument, NULL, REPEAT},
    {"json", required_argument, NULL, JSON},
    {"commit", required_argument, NULL, COMMIT},
    {"help", no_argument, NULL, HELP},
    {NULL, 0, NULL, 0},
};

/* A whole number from 1 to `most`; 0 where text is none. */
static int64_t count_of(const char *text, int64_t most) {
  char *end;
  long long value = strtoll(text, &end, 10);
  return *end == 0 && end != text && value >= 1 && value <= most ? value : 0;
}

static int read_shape(const char *text, ema_settings *set) {
  long long L, B, D;
  char rest;
  if (sscanf(text, "%lld,%lld,%lld%c", &L, &B, &D, &rest) != 3) return 0;
  const int64_t most = (int64_t)1 << 31;
  if (L < 1 || B < 1 || D < 1 || L > most || B > most || D > most) return 0;
  set->length = L;
  set->batch = B;
  set->channels = D;
  return (double)L * (double)B * (double)D < 0x1p40;
}

static int read_option(int name, const char *value, options *o) {
  ema_settings *set = &o->set;
  switch (name) {
  case SHAPE: return read_shape(value, set);
  case HEADS: return (set->heads = count_of(value, CUMEGA_EMA_MAX_HEADS)) > 0;
  case ACTIVATION: return cumega_activation_from_name(value, &set->activation);
  case DTYPE: return value_type_from_name(value, &set->dtype);
  case STATE_DTYPE: return value_type_from_name(value, &set->state_dtype);
  case LAYOUT:
    set->layout = value;
    return strcmp(value, "LBD") == 0 || strcmp(value, "BLD") == 0 || strcmp(value, "BDL") == 0;
  case PACKED: set->layout = "packed"; return 1;
  case STEP: return set->step = 1;
  case THREADS: return (set->threads = (int)count_of(value, 1024)) > 0;
  case ALGORITHM: {
    const int algorithm = ema_algorithm_from_name(value);
    set->algorithm = (cumega_ema_algorithm)algorithm;
    return algorithm >= 0;
  }
  case LEVEL: set->level = value; return 1;
  case SWEEP: return o->sweep = 1;
  case REPEAT: return (o->repeats = (int)count_of(value, 1000000)) > 0;
  case JSON: o->json = value; return 1;
  case COMMIT: o->commit = value; return 1;
  default: return 0;
  }
}

static options default_options(void) {
  options o;
  memset(&o, 0, sizeof o);
  o.repeats = REPEATS;
  o.set.length = 2048;
  o.set.batch = 8;
  o.set.channels = 512;
  o.set.heads = 4;
  o.set.activation = CUMEGA_ACTIVATION_RELU;
  o.set.dtype = cumega_float32;
  o.set.layout = "LBD";
  o.set.threads = 1;
  return o;
}

/* 1, or 0 for help, or -1 where something is wrong and has been said. */
static int read_options(int argc, char **argv, options *o) {
  int name;
  *o = default_options();
  while ((name = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
    if (name == HELP) return 0;
    if (name == '?') return -1;
    if (read_option(name, optarg, o)) continue;
    fprintf(stderr, "bench_ema: --%s cannot be '%s'\n", long_options[name - 1].name, optarg);
    return -1;
  }
  if (optind < argc) {
    fprintf(stderr, "bench_ema: what is '%s'?\n", argv[optind]);
    return -1;
  }
  if (o->set.state_dtype.bits == 0)
    o->set.state_dtype = o->set.dtype.bits == 64 ? cumega_float64 : cumega_float32;
  return 1;
}

/* -- all of it ------------------------------------------------------------------------------ */

static int write_json(const char *path, json_t *machine, json_t *results) {
  json_t *all = json_pack("{s:O, s:O}", "machine", machine, "results", results);
  const size_t flags = JSON_INDENT(1) | JSON_REAL_PRECISION(6);
  int failed =
      strcmp(path, "-") == 0 ? json_dumpf(all, stdout, flags) : json_dump_file(all, path, flags);
  json_decref(all);
  if (failed) fprintf(stderr, "bench_ema: cannot write %s\n", path);
  return !failed;
}

int main(int argc, char **argv) {
  options o;
  int read = read_options(argc, argv, &o);
  if (read <= 0) {
    fputs(usage, read == 0 ? stdout : stderr);
    return read == 0 ? EXIT_SUCCESS : 2;
  }
  FILE *out = o.json && strcmp(o.json, "-") == 0 ? NULL : stdout;
  json_t *machine = machine_describe(o.commit), *results = json_array();
  if (machine == NULL || results == NULL) return EXIT_FAILURE;
  if (out) {
    machine_print(out, machine);
    fprintf(out, "share: of memcpy of the same bytes by as many threads; caches warm;\n"
                 "*: x, y and states fit the last cache\n");
    print_heading(out);
  }
  double start = steady_seconds(), before = machine_seconds_elsewhere();
  int right = o.sweep ? run_sweep(&o, out, results) : run_row(&o.set, o.repeats, out, results);
  double passed = steady_seconds() - start;
  if (passed > 1) { /* a shorter run says nothing: the system counts in ticks of 10 ms */
    double busy = (machine_seconds_elsewhere() - before) / passed;
    json_object_set_new(machine, "cpus_busy_elsewhere", json_real(busy < 0 ? 0 : busy));
    if (out) fprintf(out, "%.2f CPUs were busy elsewhere meanwhile\n", busy < 0 ? 0 : busy);
  }
  if (right && o.json) right = write_json(o.json, machine, results);
  json_decref(results);
  json_decref(machine);
  return right ? EXIT_SUCCESS : EXIT_FAILURE;
}
