/* bench_position_bias: how fast scores, bias, masks and softmax run on this machine, beside memcpy of
 * the same bytes; and what a rotary table and an (L, L) matrix cost.
 *
 * Every row is verified before it is timed: weights and scores of some rows against plain loops in
 * double precision with libm, a rotary bias as ESPnet computes it, by two rotated vectors. Caches are
 * warm. */
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cumega/position_bias.h>
#include "copy.h"
#include "machine.h"
#include "measure.h"
#include "numbers.h"

#define SIZE     128 /* of rotary biases */
#define ROWS     16  /* of scores that are verified */
#define MISTAKES 1e-5

typedef struct settings {
  const char *op;   /* softmax, apply, forward or table */
  const char *bias; /* none, relative or rotary */
  int64_t shape[4]; /* B, H, Lq, Lk; L is Lk for forward and table */
  DLDataType dtype;
  int causal, threads, repeats;
} settings;

typedef struct bench {
  settings set;
  cumega_context *ctx;
  cumega_position_bias *bias;
  double *parameters[2]; /* relative; or alpha and beta */
  cumega_tensor scores, output;
  int64_t count, bytes;
} bench;

static int failed(const bench *b, cumega_status status) {
  if (status == CUMEGA_OK) return 0;
  fprintf(stderr, "bench_position_bias: %s\n", cumega_context_message(b->ctx));
  return 1;
}

static int is_scores(const settings *set) {
  return strcmp(set->op, "softmax") == 0 || strcmp(set->op, "apply") == 0;
}

/* Eight significant bits, between -4 and 4. */
static double score(int64_t i) {
  return (double)((i * 37 + i / 11 * 5) % 256 - 128) / 32;
}

static int make_bias(bench *b) {
  const int rotary = strcmp(b->set.bias, "rotary") == 0;
  const int64_t L = b->set.shape[3], count = rotary ? SIZE : 2 * L - 1;
  cumega_tensor t[2];
  if (strcmp(b->set.bias, "none") == 0) return 1;
  for (int i = 0; i <= rotary; i++) {
    b->parameters[i] = malloc((size_t)count * sizeof(double));
    if (b->parameters[i] == NULL) return 0;
    for (int64_t k = 0; k < count; k++) b->parameters[i][k] = score(k + 50 * i) / 16;
    cumega_tensor_init(&t[i], b->parameters[i], cumega_cpu, cumega_float64, 1, &count);
  }
  if (rotary)
    return !failed(
        b, cumega_position_bias_create_rotary(b->ctx, SIZE, 2048, &t[0].dl, &t[1].dl, &b->bias));
  return !failed(b, cumega_position_bias_create_relative(b->ctx, L, &t[0].dl, &b->bias));
}

static int make(const settings *set, bench *b) {
  cumega_context_options options = cumega_context_options_default();
  memset(b, 0, sizeof *b);
  b->set = *set;
  options.threads = set->threads;
  if (failed(b, cumega_context_create(&options, &b->ctx)) || !make_bias(b)) return 0;
  const int64_t L = set->shape[3], square[] = {L, L};
  b->count = is_scores(set) ? set->shape[0] * set->shape[1] * set->shape[2] * L : L * L;
  b->bytes = b->count * (set->dtype.bits / 8);
  void *from = malloc((size_t)b->bytes), *to = malloc((size_t)b->bytes);
  const int ndim = is_scores(set) ? 4 : 2;
  const int64_t *shape = is_scores(set) ? set->shape : square;
  cumega_tensor_init(&b->scores, from, cumega_cpu, set->dtype, ndim, shape);
  cumega_tensor_init(&b->output, to, cumega_cpu, set->dtype, ndim, shape);
  if (from == NULL || to == NULL) return 0;
  for (int64_t i = 0; i < b->count; i++) value_write(set->dtype, from, i, score(i));
  memset(to, 0xff, (size_t)b->bytes);
  return 1;
}

static void unmake(bench *b) {
  free(b->scores.dl.data);
  free(b->output.dl.data);
  free(b->parameters[0]);
  free(b->parameters[1]);
  cumega_position_bias_destroy(b->bias);
  cumega_context_destroy(b->ctx);
}

/* -- the calls ------------------------------------------------------------------------------ */

static cumega_status call_scores(const bench *b) {
  cumega_position_bias_io io = cumega_position_bias_io_default();
  io.scores = &b->scores.dl;
  io.output = (DLTensor *)(uintptr_t)&b->output.dl;
  io.scale = 0.125;
  io.causal = b->set.causal;
  return strcmp(b->set.op, "apply") == 0 ? cumega_position_bias_apply(b->ctx, b->bias, &io)
                                         : cumega_position_bias_softmax(b->ctx, b->bias, &io);
}

/* A context of its own has no table yet. */
static cumega_status call_table(const bench *b) {
  cumega_context *fresh = NULL;
  cumega_status status = cumega_context_create(NULL, &fresh);
  if (status == CUMEGA_OK) status = cumega_position_bias_prepare(fresh, b->bias, b->set.shape[3]);
  cumega_context_destroy(fresh);
  return status;
}

static int call(void *argument) {
  bench *b = argument;
  cumega_status status;
  if (is_scores(&b->set))
    status = call_scores(b);
  else if (strcmp(b->set.op, "table") == 0)
    status = call_table(b);
  else
    status = cumega_position_bias_forward(b->ctx, b->bias, &b->output.dl);
  if (failed(b, status)) exit(EXIT_FAILURE);
  return 1;
}

/* -- the check ------------------------------------------------------------------------------ */

/* One half of a rotated vector's pair. */
static double rotated(const double *v, int64_t k, int64_t m, int second) {
  const double theta = exp(-(double)k * log(10000.0) / (SIZE / 2));
  const double c = cos((double)m * theta), s = sin((double)m * theta);
  return second ? v[k + SIZE / 2] * c + v[k] * s : v[k] * c - v[k + SIZE / 2] * s;
}

static double bias_of(const bench *b, int64_t m, int64_t n) {
  double sum = 0;
  if (b->parameters[0] == NULL) return 0;
  if (b->parameters[1] == NULL) return b->parameters[0][b->set.shape[3] - 1 + n - m];
  for (int64_t k = 0; k < SIZE; k++)
    sum += rotated(b->parameters[0], k % (SIZE / 2), m, k >= SIZE / 2) *
           rotated(b->parameters[1], k % (SIZE / 2), n, k >= SIZE / 2);
  return sum;
}

static int is_close(const bench *b, int64_t at, double right, double scale) {
  const double ours = value_read(b->set.dtype, b->output.dl.data, at);
  if (ours == right) return 1;
  if (fabs(ours - right) <= scale * (MISTAKES + 2 * value_roundoff(b->set.dtype))) return 1;
  fprintf(stderr, "bench_position_bias: [%lld] is %.9g, expected %.9g\n", (long long)at, ours,
          right);
  return 0;
}

/* s of a row into `terms`, then what the operation makes of it. */
static int check_row(const bench *b, int64_t row, double *terms) {
  const int64_t Lq = b->set.shape[2], Lk = b->set.shape[3], own = row % Lq + Lk - Lq;
  const int softmax = strcmp(b->set.op, "softmax") == 0;
  double most = -INFINITY, sum = 0, largest = 1;
  for (int64_t j = 0; j < Lk; j++) {
    const double x = value_read(b->set.dtype, b->scores.dl.data, row * Lk + j);
    terms[j] = b->set.causal && j > own ? -INFINITY : 0.125 * x + bias_of(b, own, j);
    if (terms[j] > most) most = terms[j];
    if (isfinite(terms[j])) largest = fmax(largest, fabs(terms[j]));
  }
  for (int64_t j = 0; j < Lk; j++) sum += exp(terms[j] - most);
  for (int64_t j = 0; j < Lk; j++) {
    const double weight = exp(terms[j] - most) / sum;
    if (!is_close(b, row * Lk + j, softmax ? weight : terms[j],
                  softmax ? largest * weight : largest))
      return 0;
  }
  return 1;
}

static int check(const bench *b) {
  const int64_t L = b->set.shape[3], rows = b->count / L;
  double *terms = malloc((size_t)L * sizeof *terms);
  int right = terms != NULL;
  if (strcmp(b->set.op, "table") == 0 &&
      failed(b,
             cumega_position_bias_forward(b->ctx, b->bias, (DLTensor *)(uintptr_t)&b->output.dl)))
    right = 0;
  for (int64_t i = 0; right && i < ROWS && i < rows; i++) {
    const int64_t row = i * (rows / (rows < ROWS ? rows : ROWS));
    if (is_scores(&b->set))
      right = check_row(b, row, terms);
    else
      for (int64_t j = 0; right && j < L; j++)
        right = is_close(b, row * L + j, bias_of(b, row, j), 4);
  }
  free(terms);
  return right;
}

/* -- a row of results ----------------------------------------------------------------------- */

static int run(const settings *set, FILE *out, json_t *results) {
  bench b;
  measurement m;
  copier *copies = NULL;
  int done = make(set, &b);
  if (done) call(&b);
  done = done && check(&b);
  if (done) {
    copies = copier_create(set->threads, (size_t)b.bytes);
    const stopwatch watch = stopwatch_steady();
    const measured ours = {call, &b}, copy = {copier_run, copies};
    done = copies != NULL && measure_beside_copy(&watch, &ours, &copy, set->repeats, &m);
  }
  if (done) {
    const int64_t *s = set->shape;
    if (out)
      fprintf(out,
              "%-8s %-9s %lld,%lld,%lld,%lld%s %-8s %d thread%s: %10.2f us, %5.0f%% of memcpy\n",
              set->op, set->bias, (long long)s[0], (long long)s[1], (long long)s[2],
              (long long)s[3], set->causal ? " causal" : "", value_type_name(set->dtype),
              set->threads, set->threads > 1 ? "s" : "", 1e6 * m.ours.median, 100 * m.copy_share);
    json_array_append_new(
        results, json_pack("{s:s, s:s, s:[I,I,I,I], s:b, s:s, s:i, s:s, s:f, s:f, s:f, s:f}", "op",
                           set->op, "bias", set->bias, "shape", (json_int_t)s[0], (json_int_t)s[1],
                           (json_int_t)s[2], (json_int_t)s[3], "causal", set->causal, "dtype",
                           value_type_name(set->dtype), "threads", set->threads, "backend",
                           cumega_context_backend(b.ctx), "seconds", m.ours.median, "seconds_min",
                           m.ours.min, "copy_seconds", m.copy.median, "copy_share", m.copy_share));
  }
  copier_destroy(copies);
  unmake(&b);
  return done;
}

static int sweep(settings set, FILE *out, json_t *results) {
  static const int64_t shapes[][4] = {{8, 4, 256, 256},
                                      {4, 1, 1024, 1024},
                                      {1, 1, 2048, 2048},
                                      {64, 1, 1, 4096},
                                      {4, 1, 4, 131072}};
  int right = 1;
  set.op = "softmax";
  for (size_t i = 0; i < 4 * sizeof shapes / sizeof *shapes; i++) {
    memcpy(set.shape, shapes[i / 4], sizeof set.shape);
    set.causal = i % 2;
    set.bias = i % 4 < 2 ? "relative" : "none";
    right &= run(&set, out, results);
  }
  memcpy(set.shape, shapes[1], sizeof set.shape);
  for (int type = 0; type < 2; type++) {
    set.dtype = type ? cumega_float16 : cumega_bfloat16;
    right &= run(&set, out, results);
  }
  set.dtype = cumega_float32;
  set.bias = "rotary";
  set.shape[3] = 2048;
  set.op = "forward";
  right &= run(&set, out, results);
  set.op = "table";
  return right & run(&set, out, results);
}

/* -- options -------------------------------------------------------------------------------- */

static const char usage[] =
    "usage: bench_position_bias [options]\n"
    "  --op OP          softmax, apply, forward (the (L, L) matrix) or table (a rotary one)\n"
    "  --bias KIND      relative, rotary or none\n"
    "  --shape B,H,Q,K  4,1,1024,1024; forward and table take K positions\n"
    "  --dtype TYPE     float32, float16, bfloat16 or float64\n"
    "  --causal --threads N --repeats N\n"
    "  --sweep          the rows that matter\n"
    "  --json FILE\n"
    "Exit status: 0; 1 a wrong result or a failed call; 2 usage.\n";

enum { OP = 1, BIAS, SHAPE, DTYPE, CAUSAL, THREADS, REPEATS, SWEEP, JSON };

static const struct option long_options[] = {
    {"op", required_argument, NULL, OP},           {"bias", required_argument, NULL, BIAS},
    {"shape", required_argument, NULL, SHAPE},     {"dtype", required_argument, NULL, DTYPE},
    {"causal", no_argument, NULL, CAUSAL},         {"threads", required_argument, NULL, THREADS},
    {"repeats", required_argument, NULL, REPEATS}, {"sweep", no_argument, NULL, SWEEP},
    {"json", required_argument, NULL, JSON},       {NULL, 0, NULL, 0}};

static int one_of(const char *text, const char *names) {
  char padded[40];
  snprintf(padded, sizeof padded, " %.30s ", text);
  return strstr(names, padded) != NULL;
}

static int read_shape(const char *text, int64_t *shape) {
  long long s[4];
  char rest;
  if (sscanf(text, "%lld,%lld,%lld,%lld%c", &s[0], &s[1], &s[2], &s[3], &rest) != 4) return 0;
  for (int i = 0; i < 4; i++) {
    if (s[i] < 1 || s[i] > 1 << 24) return 0;
    shape[i] = s[i];
  }
  return s[2] <= s[3];
}

static int read_option(int name, const char *value, settings *set) {
  switch (name) {
  case OP: set->op = value; return one_of(value, " softmax apply forward table ");
  case BIAS: set->bias = value; return one_of(value, " none relative rotary ");
  case SHAPE: return read_shape(value, set->shape);
  case DTYPE: return value_type_from_name(value, &set->dtype);
  case CAUSAL: return set->causal = 1;
  case THREADS: return (set->threads = atoi(value)) > 0;
  case REPEATS: return (set->repeats = atoi(value)) > 0;
  default: return 0;
  }
}

int main(int argc, char **argv) {
  settings set = {"softmax", "relative", {4, 1, 1024, 1024}, {kDLFloat, 32, 1}, 0, 1, 20};
  const char *json = NULL;
  int name, swept = 0, right;
  while ((name = getopt_long(argc, argv, "", long_options, NULL)) != -1) {
    if (name == SWEEP)
      swept = 1;
    else if (name == JSON)
      json = optarg;
    else if (!read_option(name, optarg, &set))
      return fputs(usage, stderr), 2;
  }
  if (optind < argc || (!is_scores(&set) && strcmp(set.bias, "none") == 0))
    return fputs(usage, stderr), 2;
  json_t *machine = machine_describe(NULL), *results = json_array();
  if (machine == NULL || results == NULL) return EXIT_FAILURE;
  machine_print(stdout, machine);
  right = swept ? sweep(set, stdout, results) : run(&set, stdout, results);
  json_t *all = json_pack("{s:o, s:o}", "machine", machine, "results", results);
  if (right && json && json_dump_file(all, json, JSON_INDENT(1)) != 0) right = 0;
  json_decref(all);
  return right ? EXIT_SUCCESS : EXIT_FAILURE;
}
