/* load: uses the library as a server does, for a time or a number of calls, and reports whether
 * memory grows.
 *
 * Threads, each with its own context (and, on a GPU, its own stream), share weights and take
 * random requests: uneven batches, prefills mixed with steps, states in a pool. Contexts and
 * weights are sometimes made again. One request is always the same and must have the same bits
 * each time.
 *
 * Two figures are watched: the process's resident set, and the bytes that the library holds,
 * through an allocator that counts. A straight line is fitted to the resident set over the last
 * three quarters of the run. Growth along it of more than a mebibyte is a leak, and so is any
 * byte that the library has not freed at the end. */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <jansson.h>
#include "load_worker.h"
#include "machine.h"
#include "measure.h"

#define SAMPLES        400 /* of memory; when they are full, the interval doubles */
#define ALLOWED_GROWTH (1 << 20)

typedef struct options {
  load_plan plan;
  int threads, json;
  double seconds;
  int64_t calls;
  const char *commit;
} options;

static const char usage[] =
    "usage: load [options]\n"
    "  --seconds S     10\n"
    "  --calls N       so many calls rather than a time\n"
    "  --threads N     4 threads of the server\n"
    "  --contexts N    2 contexts of each thread\n"
    "  --channels D    64\n"
    "  --heads N       4\n"
    "  --max-length L  64 steps of a prefill, at most\n"
    "  --max-batch B   8 sequences of a request, at most (32)\n"
    "  --seed N        1\n"
    "  --device D      cpu or cuda\n"
    "  --leak          lose 512 bytes with every call, which must be found\n"
    "  --json          one JSON object instead of text\n"
    "  --commit TEXT   the state of the sources, for the result\n"
    "Exit status: 0; 1 a failed call, other bits, or memory that grew; 2 usage.\n";

/* ---- memory ---- */

static atomic_llong bytes_held;

static void *count_allocate(void *user, size_t bytes, size_t alignment) {
  void *memory = NULL;
  (void)user;
  if (posix_memalign(&memory, alignment, bytes)) return NULL;
  bytes_held += (long long)bytes;
  return memory;
}

static void count_release(void *user, void *memory, size_t bytes) {
  (void)user;
  bytes_held -= (long long)bytes;
  free(memory);
}

static double resident_bytes(void) {
  long long size, resident = 0;
  FILE *file = fopen("/proc/self/statm", "r");
  if (file == NULL || fscanf(file, "%lld %lld", &size, &resident) != 2) resident = 0;
  if (file) fclose(file);
  return (double)resident * (double)sysconf(_SC_PAGESIZE);
}

typedef struct memory_log {
  int count;
  double at[SAMPLES], resident[SAMPLES], held_most; /* at: calls so far */
} memory_log;

/* When it is full, every other sample is dropped. */
static void add_sample(memory_log *log, double calls, double *interval) {
  if (log->count == SAMPLES) {
    for (int i = 0; i < SAMPLES / 2; i++) {
      log->at[i] = log->at[2 * i];
      log->resident[i] = log->resident[2 * i];
    }
    log->count = SAMPLES / 2;
    *interval *= 2;
  }
  log->at[log->count] = calls;
  log->resident[log->count++] = resident_bytes();
  if ((double)bytes_held > log->held_most) log->held_most = (double)bytes_held;
}

/* Bytes per call: the slope of the line through the last three quarters. */
static double slope_of(const memory_log *log) {
  double n = 0, x = 0, y = 0, xx = 0, xy = 0;
  for (int i = log->count / 4; i < log->count; i++) {
    n++;
    x += log->at[i];
    y += log->resident[i];
  }
  for (int i = log->count / 4; i < log->count; i++) {
    xx += (log->at[i] - x / n) * (log->at[i] - x / n);
    xy += (log->at[i] - x / n) * (log->resident[i] - y / n);
  }
  return xx > 0 ? xy / xx : 0;
}

/* ---- running ---- */

typedef struct outcome {
  double seconds, slope, growth;
  int64_t calls, tokens, checked, held_at_end;
  load_histogram latencies[LOAD_KINDS];
  memory_log log;
  const char *failure; /* NULL: none */
} outcome;

static long long calls_so_far(load_worker *workers, int threads) {
  long long calls = 0;
  for (int i = 0; i < threads; i++) calls += workers[i].calls;
  return calls;
}

/* Samples memory until the time is up or all calls have been made. */
static void watch(const options *o, load_plan *plan, load_worker *workers, outcome *all) {
  double start = steady_seconds(), interval = 0.01;
  int failed = 0;
  for (;;) {
    struct timespec pause = {0, (long)(1e9 * (interval < 0.9 ? interval : 0.9))};
    nanosleep(&pause, NULL);
    long long calls = calls_so_far(workers, o->threads);
    add_sample(&all->log, (double)calls, &interval);
    for (int i = 0; i < o->threads; i++) failed |= workers[i].failure[0] != '\0';
    if (failed || (o->calls == 0 && steady_seconds() - start >= o->seconds)) break;
    if (o->calls > 0 && calls >= plan->calls * o->threads) break;
  }
  plan->stop = 1;
  all->seconds = steady_seconds() - start;
}

static int run_threads(const options *o, load_plan *plan, load_worker *workers, outcome *all) {
  int made = 0;
  for (; made < o->threads; made++) {
    workers[made].plan = plan;
    workers[made].index = made;
    if (pthread_create(&workers[made].thread, NULL, load_work, &workers[made])) break;
  }
  if (made == o->threads)
    watch(o, plan, workers, all);
  else
    all->failure = "a thread could not be made";
  plan->stop = 1;
  for (int i = 0; i < made; i++) {
    load_worker *w = &workers[i];
    pthread_join(w->thread, NULL);
    all->calls += w->calls;
    all->tokens += w->tokens;
    all->checked += w->checked;
    for (int k = 0; k < LOAD_KINDS; k++) load_histogram_add(&all->latencies[k], &w->latencies[k]);
    if (w->failure[0] != '\0' && all->failure == NULL) all->failure = w->failure;
  }
  return all->failure == NULL;
}

static int prepare(load_plan *plan, cumega_context **ctx, cumega_ema **ema, float *expected) {
  cumega_context_options wanted;
  cumega_context_options_init(&wanted, sizeof wanted);
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, plan->channels);
  config.num_heads = plan->heads;
  wanted.device = plan->device;
  wanted.allocator = plan->allocator;
  if (cumega_context_create(&wanted, ctx) != CUMEGA_OK) return 0;
  if (cumega_ema_create(*ctx, &config, NULL, ema) != CUMEGA_OK) return 0;
  plan->ema = *ema;
  plan->expected = expected;
  return load_fixed_request(plan, *ctx, *ema, expected) == CUMEGA_OK;
}

static int run_load(const options *o, load_plan *plan, outcome *all) {
  static char sentence[400];
  cumega_context *ctx = NULL;
  cumega_ema *ema = NULL;
  load_worker *workers = calloc((size_t)o->threads, sizeof *workers);
  float *expected = malloc((size_t)(LOAD_FIXED_LENGTH * plan->channels) * sizeof *expected);
  int fine = workers && expected;
  if (fine && !prepare(plan, &ctx, &ema, expected)) {
    snprintf(sentence, sizeof sentence, "%s", cumega_context_message(ctx));
    all->failure = sentence;
    fine = 0;
  }
  if (fine) fine = run_threads(o, plan, workers, all);
  if (!fine && all->failure == NULL) all->failure = "no memory";
  if (all->failure && all->failure != sentence) {
    snprintf(sentence, sizeof sentence, "%s", all->failure);
    all->failure = sentence;
  }
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
  free(workers);
  free(expected);
  all->held_at_end = bytes_held;
  all->slope = slope_of(&all->log);
  int from = all->log.count / 4, last = all->log.count - 1;
  if (last > from) all->growth = all->slope * (all->log.at[last] - all->log.at[from]);
  return fine;
}

/* ---- reporting ---- */

static const char *const kinds[LOAD_KINDS] = {"prefill", "step"};
static const double shares[] = {0.5, 0.9, 0.99, 0.999, 1};
static const char *const share_names[] = {"p50", "p90", "p99", "p999", "max"};
#define SHARES 5

static const char *verdict(const outcome *all) {
  if (all->failure) return "failed";
  if (all->growth > ALLOWED_GROWTH) return "memory grew";
  return all->held_at_end != 0 ? "the library holds memory at the end" : "ok";
}

static void print_outcome(const options *o, const outcome *all, const json_t *machine) {
  machine_print(stdout, machine);
  printf("%d threads, %d contexts each, %lld channels, prefills of up to %lld sequences of up to "
         "%lld steps, seed %llu, %s\n",
         o->threads, o->plan.contexts, (long long)o->plan.channels, (long long)o->plan.most_batch,
         (long long)o->plan.most_length, (unsigned long long)o->plan.seed,
         o->plan.device.device_type == kDLCPU ? "cpu" : "cuda");
  printf("%lld calls in %.2f s: %.0f calls/s, %.3g tokens/s; "
         "%lld times the same request, the same "
         "bits\n",
         (long long)all->calls, all->seconds, (double)all->calls / all->seconds,
         (double)all->tokens / all->seconds, (long long)all->checked);
  for (int k = 0; k < LOAD_KINDS; k++) {
    printf("%-8s %10lld calls, us:", kinds[k], (long long)all->latencies[k].count);
    for (int s = 0; s < SHARES; s++)
      printf("  %s %.1f", share_names[s], 1e6 * load_percentile(&all->latencies[k], shares[s]));
    putchar('\n');
  }
  printf("memory: resident %.1f MB, slope %.4f bytes/call (%.0f KB over the last three quarters); "
         "the library held up to %.2f MB, and %lld bytes at the end\n",
         1e-6 * (all->log.count ? all->log.resident[all->log.count - 1] : 0), all->slope,
         1e-3 * all->growth, 1e-6 * all->log.held_most, (long long)all->held_at_end);
  printf("%s%s%s\n", verdict(all), all->failure ? ": " : "", all->failure ? all->failure : "");
}

static json_t *json_of_latencies(const load_histogram *h) {
  json_t *object = json_pack("{s:I}", "calls", (json_int_t)h->count);
  for (int s = 0; s < SHARES; s++)
    json_object_set_new(object, share_names[s], json_real(load_percentile(h, shares[s])));
  return object;
}

static int print_json(const options *o, const outcome *all, json_t *machine) {
  json_t *latency = json_object(), *memory = json_array();
  for (int k = 0; k < LOAD_KINDS; k++)
    json_object_set_new(latency, kinds[k], json_of_latencies(&all->latencies[k]));
  for (int i = 0; i < all->log.count; i++)
    json_array_append_new(memory, json_pack("[f, f]", all->log.at[i], all->log.resident[i]));
  json_t *object = json_pack(
      "{s:O, s:s, s:i, s:i, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:o, s:f, s:f, s:f, s:I, "
      "s:o, "
      "s:s, s:s?}",
      "machine", machine, "device", o->plan.device.device_type == kDLCPU ? "cpu" : "cuda:0",
      "threads", o->threads, "contexts_per_thread", o->plan.contexts, "channels",
      (json_int_t)o->plan.channels, "heads", (json_int_t)o->plan.heads, "max_length",
      (json_int_t)o->plan.most_length, "max_batch", (json_int_t)o->plan.most_batch, "seed",
      (json_int_t)o->plan.seed, "seconds", all->seconds, "calls", (json_int_t)all->calls, "tokens",
      (json_int_t)all->tokens, "same_request_same_bits", (json_int_t)all->checked,
      "latency_seconds", latency, "memory_slope_bytes_per_call", all->slope, "memory_growth_bytes",
      all->growth, "library_bytes_peak", all->log.held_most, "library_bytes_at_end",
      (json_int_t)all->held_at_end, "resident_bytes_by_calls", memory, "result", verdict(all),
      "failure", all->failure);
  int failed =
      object == NULL || json_dumpf(object, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
  putchar('\n');
  json_decref(object);
  return !failed;
}

/* ---- options ---- */

enum {
  SECONDS = 1,
  CALLS,
  THREADS,
  CONTEXTS,
  CHANNELS,
  HEADS,
  LENGTH,
  BATCH,
  SEED,
  DEVICE,
  LEAK,
  JSON,
  COMMIT,
  HELP
};

static const struct option long_options[] = {{"seconds", required_argument, NULL, SECONDS},
                                             {"calls", required_argument, NULL, CALLS},
                                             {"threads", required_argument, NULL, THREADS},
                                             {"contexts", required_argument, NULL, CONTEXTS},
                                             {"channels", required_argument, NULL, CHANNELS},
                                             {"heads", required_argument, NULL, HEADS},
                                             {"max-length", required_argument, NULL, LENGTH},
                                             {"max-batch", required_argument, NULL, BATCH},
                                             {"seed", required_argument, NULL, SEED},
                                             {"device", required_argument, NULL, DEVICE},
                                             {"leak", no_argument, NULL, LEAK},
                                             {"json", no_argument, NULL, JSON},
                                             {"commit", required_argument, NULL, COMMIT},
                                             {"help", no_argument, NULL, HELP},
                                             {NULL, 0, NULL, 0}};

static int64_t count_of(const char *text, int64_t most) {
  char *end;
  long long value = strtoll(text, &end, 10);
  return *end == '\0' && end != text && value >= 1 && value <= most ? value : 0;
}

static int read_option(int name, const char *value, options *o) {
  load_plan *p = &o->plan;
  switch (name) {
  case SECONDS: return (o->seconds = strtod(value, NULL)) > 0;
  case CALLS: return (o->calls = count_of(value, INT64_MAX / 2)) > 0;
  case THREADS: return (o->threads = (int)count_of(value, 1024)) > 0;
  case CONTEXTS: return (p->contexts = (int)count_of(value, 64)) > 0;
  case CHANNELS: return (p->channels = count_of(value, 1 << 20)) > 0;
  case HEADS: return (p->heads = count_of(value, 64)) > 0;
  case LENGTH: return (p->most_length = count_of(value, 1 << 16)) > 0;
  case BATCH: return (p->most_batch = count_of(value, LOAD_MOST_BATCH)) > 0;
  case SEED: return (p->seed = (uint64_t)count_of(value, INT64_MAX)) > 0;
  case DEVICE:
    p->device = strcmp(value, "cuda") == 0 ? (DLDevice){kDLCUDA, 0} : cumega_cpu;
    return strcmp(value, "cuda") == 0 || strcmp(value, "cpu") == 0;
  case LEAK: return p->leaks = 1;
  case JSON: return o->json = 1;
  default: o->commit = value; return 1;
  }
}

static int read_options(int argc, char **argv, options *o) {
  int name;
  *o = (options){.threads = 4, .seconds = 10};
  o->plan.device = cumega_cpu;
  o->plan.allocator = (cumega_allocator){count_allocate, count_release, NULL};
  o->plan.contexts = 2;
  o->plan.channels = 64;
  o->plan.heads = 4;
  o->plan.most_length = 64;
  o->plan.most_batch = 8;
  o->plan.seed = 1;
  o->plan.renewal = 10000;
  while ((name = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
    if (name == HELP) return 0;
    if (name == '?') return -1;
    if (read_option(name, optarg, o)) continue;
    fprintf(stderr, "load: --%s cannot be '%s'\n", long_options[name - 1].name, optarg);
    return -1;
  }
  if (optind == argc) return 1;
  fprintf(stderr, "load: what is '%s'?\n", argv[optind]);
  return -1;
}

int main(int argc, char **argv) {
  static outcome all;
  options o;
  int read = read_options(argc, argv, &o);
  if (read <= 0) {
    fputs(usage, read == 0 ? stdout : stderr);
    return read == 0 ? EXIT_SUCCESS : 2;
  }
  o.plan.calls = (o.calls + o.threads - 1) / o.threads;
  json_t *machine = machine_describe(o.commit);
  double before = machine_seconds_elsewhere();
  int fine = machine && run_load(&o, &o.plan, &all);
  if (machine == NULL) return EXIT_FAILURE;
  double busy = all.seconds > 0 ? (machine_seconds_elsewhere() - before) / all.seconds : 0;
  json_object_set_new(machine, "cpus_busy_elsewhere", json_real(busy < 0 ? 0 : busy));
  if (!o.json)
    print_outcome(&o, &all, machine);
  else if (!print_json(&o, &all, machine))
    fine = 0;
  json_decref(machine);
  return fine && strcmp(verdict(&all), "ok") == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
