/* bench_residual: how fast residual connections run on this machine, beside memcpy of the same
 * bytes.
 *
 * Every row is verified against plain loops in double precision before it is timed, and bit for bit
 * against a second run. Memory: x, y (gate) are read, out (normalized) written, so the copy moves
 * half of their bytes from one place to another. Caches are warm: nothing is flushed between calls.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cumega/cumega.h>
#include "copy.h"
#include "machine.h"
#include "measure.h"
#include "numbers.h"

enum { X, Y, GATE, OUT, NORMALIZED, TENSORS };

typedef struct row {
  const char *name; /* of a kind; "gated" */
  int norm;         /* cumega_norm_type; negative: none */
  DLDataType dtype;
  int64_t rows, channels;
  int threads;
} row;

typedef struct run {
  row set;
  cumega_context *ctx;
  cumega_residual *residual;
  cumega_norm *norm;
  void *memory[TENSORS];
  cumega_tensor tensors[TENSORS];
  int64_t bytes;
} run;

static int is_gated(const row *set) {
  return strcmp(set->name, "gated") == 0;
}

static int call(void *argument) {
  run *r = argument;
  DLTensor *t[TENSORS];
  cumega_status status;
  for (int i = 0; i < TENSORS; i++) t[i] = r->memory[i] ? &r->tensors[i].dl : NULL;
  if (r->residual == NULL) {
    const cumega_residual_gated_io io = {sizeof io, t[X],    t[GATE],      t[Y],
                                         t[OUT],    r->norm, t[NORMALIZED]};
    status = cumega_residual_gated_forward(r->ctx, &io);
  } else {
    const cumega_residual_io io = {sizeof io, t[X], t[Y], t[OUT], 0, r->norm, t[NORMALIZED]};
    status = cumega_residual_forward(r->ctx, r->residual, &io);
  }
  if (status == CUMEGA_OK) return 1;
  fprintf(stderr, "bench_residual: %s\n", cumega_context_message(r->ctx));
  exit(EXIT_FAILURE);
}

static int make_objects(run *r) {
  const row *set = &r->set;
  cumega_context_options options = cumega_context_options_default();
  cumega_residual_kind kind;
  options.threads = set->threads;
  if (cumega_context_create(&options, &r->ctx) != CUMEGA_OK) return 0;
  if (!is_gated(set)) {
    if (!cumega_residual_kind_from_name(set->name, &kind)) return 0;
    cumega_residual_config config = cumega_residual_config_default(kind, 3, set->channels);
    if (cumega_residual_create(r->ctx, &config, NULL, &r->residual) != CUMEGA_OK) return 0;
  }
  if (set->norm < 0) return 1;
  cumega_norm_config config =
      cumega_norm_config_default((cumega_norm_type)set->norm, set->channels);
  return cumega_norm_create(r->ctx, &config, NULL, &r->norm) == CUMEGA_OK;
}

static int make(const row *set, run *r) {
  const int64_t shape[] = {set->rows, set->channels}, count = set->rows * set->channels;
  uint32_t state = 1;
  memset(r, 0, sizeof *r);
  r->set = *set;
  r->bytes = count * set->dtype.bits / 8;
  if (!make_objects(r)) return 0;
  for (int i = 0; i < TENSORS; i++) {
    if ((i == GATE && !is_gated(set)) || (i == NORMALIZED && set->norm < 0)) continue;
    r->memory[i] = aligned_alloc(64, ((size_t)r->bytes + 63) / 64 * 64);
    if (r->memory[i] == NULL) return 0;
    cumega_tensor_init(&r->tensors[i], r->memory[i], cumega_cpu, set->dtype, 2, shape);
    for (int64_t k = 0; k < count; k++) {
      state = state * 1664525u + 1013904223u;
      value_write(set->dtype, r->memory[i], k, ((double)(state >> 25) - 63.5) / 32);
    }
  }
  return 1;
}

static void release(run *r) {
  for (int i = 0; i < TENSORS; i++) free(r->memory[i]);
  cumega_residual_destroy(r->residual);
  cumega_norm_destroy(r->norm);
  cumega_context_destroy(r->ctx);
}

/* The sum at element i, in double. */
static double reference(const run *r, int64_t i) {
  const double x = value_read(r->set.dtype, r->memory[X], i);
  const double y = value_read(r->set.dtype, r->memory[Y], i);
  double alpha = 1, beta = 1;
  if (r->residual == NULL)
    return x + (y - x) / (1 + exp(-value_read(r->set.dtype, r->memory[GATE], i)));
  if (strcmp(r->set.name, "D") == 0) beta = pow(3, -0.5), alpha = sqrt(1 - beta * beta);
  return alpha * x + beta * y;
}

/* Sixteen rows: each sum within eight roundings of what it is made of, at most 4 + 4; each
 * normalised value of a layer norm, of size sqrt(D) at most, within 32 of that. */
static int verify(const run *r) {
  const int64_t D = r->set.channels, step = r->set.rows / 16 + 1;
  const double u = value_roundoff(r->set.dtype);
  for (int64_t at = 0; at < r->set.rows; at += step) {
    double mean = 0, squares = 0;
    for (int64_t i = at * D; i < (at + 1) * D; i++) {
      const double out = value_read(r->set.dtype, r->memory[OUT], i);
      if (!(fabs(out - reference(r, i)) <= 8 * u * 8)) return 0;
      mean += out / (double)D;
    }
    if (r->set.norm != CUMEGA_NORM_LAYER) continue;
    for (int64_t i = at * D; i < (at + 1) * D; i++)
      squares += pow(value_read(r->set.dtype, r->memory[OUT], i) - mean, 2);
    for (int64_t i = at * D; i < (at + 1) * D; i++) {
      const double away = value_read(r->set.dtype, r->memory[OUT], i) - mean;
      const double right = away / sqrt(squares / (double)D + 1e-12);
      const double found = value_read(r->set.dtype, r->memory[NORMALIZED], i);
      if (!(fabs(found - right) <= 32 * u * (1 + fabs(right)))) return 0;
    }
  }
  return 1;
}

/* Half of the bytes that the run moves, from one place to another. */
static int make_copy(const run *r, void **from, void **to, copier **made, int64_t *bytes) {
  const int tensors = 3 + is_gated(&r->set) + (r->set.norm >= 0);
  *bytes = tensors * r->bytes;
  *from = calloc(1, (size_t)*bytes / 2 + 1);
  *to = calloc(1, (size_t)*bytes / 2 + 1);
  if (*from == NULL || *to == NULL) return 0;
  memset(*from, 1, (size_t)*bytes / 2);
  memset(*to, 1, (size_t)*bytes / 2);
  *made = copier_create(r->set.threads, (size_t)*bytes / 2);
  return *made != NULL;
}

static int measure(run *r, int repeats, json_t *results) {
  void *first = malloc((size_t)r->bytes + 1), *from = NULL, *to = NULL;
  copier *copies = NULL;
  int64_t bytes;
  measurement m;
  call(r);
  int done = first && verify(r) && make_copy(r, &from, &to, &copies, &bytes);
  if (done) {
    memcpy(first, r->memory[OUT], (size_t)r->bytes);
    const stopwatch watch = stopwatch_steady();
    const measured ours = {call, r}, copy = {copier_run, copies};
    done = measure_beside_copy(&watch, &ours, &copy, repeats, &m) &&
           memcmp(first, r->memory[OUT], (size_t)r->bytes) == 0;
  }
  if (done) {
    const char *norm = r->set.norm < 0 ? "-" : cumega_norm_type_name((cumega_norm_type)r->set.norm);
    printf("%-10s %-10s %-8s %7lld,%-5lld %2d %10.2f %10.2f %7.2f %6.1f%%\n", r->set.name, norm,
           value_type_name(r->set.dtype), (long long)r->set.rows, (long long)r->set.channels,
           r->set.threads, 1e6 * m.ours.median, 1e6 * m.ours.min,
           1e-9 * (double)bytes / m.ours.median, 100 * m.copy_share);
    json_array_append_new(
        results, json_pack("{s:s, s:s, s:s, s:[I,I], s:i, s:f, s:f, s:f, s:f, s:s}", "kind",
                           r->set.name, "norm", norm, "dtype", value_type_name(r->set.dtype),
                           "shape", (json_int_t)r->set.rows, (json_int_t)r->set.channels, "threads",
                           r->set.threads, "median", m.ours.median, "min", m.ours.min, "gb_per_s",
                           1e-9 * (double)bytes / m.ours.median, "copy_share", m.copy_share,
                           "backend", cumega_context_backend(r->ctx)));
  } else {
    fprintf(stderr, "bench_residual: wrong result of %s\n", r->set.name);
  }
  copier_destroy(copies);
  free(first);
  free(from);
  free(to);
  return done;
}

int main(int argc, char **argv) {
  long long rows = argc > 1 ? atoll(argv[1]) : 16384, channels = argc > 2 ? atoll(argv[2]) : 512;
  const int repeats = argc > 3 ? atoi(argv[3]) : 30;
  const row all[] = {{"R", -1, cumega_float32, rows, channels, 1},
                     {"D", -1, cumega_float32, rows, channels, 1},
                     {"D", -1, cumega_bfloat16, rows, channels, 1},
                     {"D", -1, cumega_float64, rows, channels, 1},
                     {"gated", -1, cumega_float32, rows, channels, 1},
                     {"D", CUMEGA_NORM_LAYER, cumega_float32, rows, channels, 1},
                     {"D", CUMEGA_NORM_RMS, cumega_float32, rows, channels, 1},
                     {"D", CUMEGA_NORM_LAYER, cumega_bfloat16, rows, channels, 1},
                     {"gated", CUMEGA_NORM_LAYER, cumega_float32, rows, channels, 1},
                     {"D", -1, cumega_float32, rows, channels, 2},
                     {"D", CUMEGA_NORM_LAYER, cumega_float32, rows, channels, 2}};
  json_t *machine = machine_describe(NULL), *results = json_array();
  int right = argc <= 5 && rows > 0 && channels > 0 && repeats > 0;
  if (!right) {
    fputs("usage: bench_residual [ROWS [CHANNELS [REPEATS [JSON]]]]\n", stderr);
    return 2;
  }
  machine_print(stdout, machine);
  printf("share: of memcpy of the same bytes by as many threads; caches warm\n%-10s %-10s %-8s "
         "%13s %2s "
         "%10s %10s %7s %7s\n",
         "kind", "norm", "dtype", "rows,channels", "th", "median us", "min us", "GB/s", "share");
  for (size_t i = 0; right && i < sizeof all / sizeof *all; i++) {
    run r;
    right = make(&all[i], &r) && measure(&r, repeats, results);
    release(&r);
  }
  json_t *whole = json_pack("{s:o, s:o}", "machine", machine, "results", results);
  if (right && argc > 4) right = json_dump_file(whole, argv[4], JSON_INDENT(1)) == 0;
  json_decref(whole);
  return right ? EXIT_SUCCESS : EXIT_FAILURE;
}
