/* One row: made, verified, timed, and looked at once more behind the clock. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bench.h"
#include "compare.h"
#include "copy.h"
#include "device.h"
#include "failure.h"
#include "values.h"

#define MOST_WORK   (1 << 23) /* multiplications in float64 at the plain level, about */
#define FLUSH_TIMES 4         /* what is written to flush a cache, in its sizes */

static int64_t output_bytes(const job *j) {
  int64_t bytes = 0;
  for (int i = 0; i < j->output_count; i++) bytes += values_bytes(&j->outputs[i].tensor.dl);
  return bytes;
}

static int64_t output_values(const job *j) {
  int64_t count = 0;
  for (int i = 0; i < j->output_count; i++) count += values_count(&j->outputs[i].tensor.dl);
  return count;
}

/* Inputs are read and outputs written once; parameters are not counted. */
static double bytes_moved(const bench_settings *set, const job *j) {
  int64_t bytes = 0;
  const char *left_out = set->what->left_out != NULL ? set->what->left_out(set) : NULL;
  for (int i = 0; i < j->output_count; i++)
    if (left_out == NULL || strcmp(left_out, j->outputs[i].name) != 0)
      bytes += values_bytes(&j->outputs[i].tensor.dl);
  for (int64_t i = 0; i < j->file->tensor_count; i++)
    if (strncmp(j->file->tensors[i].name, "inputs.", strlen("inputs.")) == 0)
      bytes += values_bytes(&j->file->tensors[i].tensor.dl);
  return (double)bytes;
}

/* The outputs' bytes, one output behind the other, into `bytes`, or compared with them. */
static int outputs_equal(const job *j, char *bytes, int keep) {
  int same = 1;
  for (int i = 0; i < j->output_count; i++) {
    const DLTensor *output = &j->outputs[i].tensor.dl;
    size_t size = (size_t)values_bytes(output);
    if (keep)
      memcpy(bytes, output->data, size);
    else
      same &= memcmp(bytes, output->data, size) == 0;
    bytes += size;
  }
  return same;
}

/* Runs it over poisoned outputs. */
static int run_afresh(job *j) {
  double seconds;
  int code = job_poison(j);
  return code == EXIT_OK ? job_run(j, 0, &seconds) : code;
}

/* Whether all outputs can be computed in float64 at the plain level, in some seconds. */
static int is_small(const bench_settings *set, const job *j) {
  double work = set->what->work != NULL ? set->what->work(set) : 1;
  return work * (double)output_values(j) <= MOST_WORK;
}

static int compare_job(const bench_settings *set, const job *j, char *how, size_t size) {
  verdict v = {0};
  char shape[64];
  int code = compare_with_float64(j, &v);
  snprintf(how, size, "shape %s against float64 on the CPU at the plain level",
           bench_shape_text(set, shape, sizeof shape));
  if (code != EXIT_WRONG) return code;
  for (int i = 0; i < v.count; i++)
    if (!(v.outputs[i].ours <= v.outputs[i].tolerance))
      return fail(code, "wrong result: %s's error is %.3g, allowed %.3g", v.outputs[i].name,
                  v.outputs[i].ours, v.outputs[i].tolerance);
  return code;
}

/* Where the outputs are too many to be computed in float64 by plain code, the same operation in a
 * smaller shape is compared. */
static int compare_smaller(bench_run *run) {
  bench_settings set = *run->set;
  int code = EXIT_OK, fits = 0;
  while (code == EXIT_OK && !fits) {
    case_file file = {0};
    job j = {0};
    int largest = 0;
    for (int i = 1; i < bench_dims(set.what); i++)
      if (set.shape[i] > set.shape[largest]) largest = i;
    set.shape[largest] = (set.shape[largest] + 1) / 2;
    code = set.what->make(&set, run->on.host, &file);
    if (code == EXIT_OK) code = job_begin(&j, run->on.ctx, run->on.place, &file, set.algorithm);
    fits = code == EXIT_OK && is_small(&set, &j);
    if (fits) code = run_afresh(&j);
    if (fits && code == EXIT_OK) code = compare_job(&set, &j, run->verified, sizeof run->verified);
    job_end(&j);
    case_close(&file);
  }
  return code;
}

static int check_values(bench_run *run) {
  const bench_settings *set = run->set;
  double worst = 0;
  /* A convolution spreads roundings over time, which the bounds per element leave out. */
  if (set->what->check == NULL || set->algorithm == CUMEGA_EMA_FFT)
    return is_small(set, &run->j) ? compare_job(set, &run->j, run->verified, sizeof run->verified)
                                  : compare_smaller(run);
  int code = set->what->check(set, &run->j, &worst);
  if (code != EXIT_OK) return code;
  snprintf(run->verified, sizeof run->verified, "%s", set->what->checked);
  if (worst <= 1) return EXIT_OK;
  return fail(EXIT_WRONG, "wrong result: an error is %g times what is allowed", worst);
}

/* What has bits of its own on a GPU: the products of a Highway, and what is parallel in time. */
static int has_bits_of_the_cpu(const bench_settings *set) {
  return strcmp(set->kind, "Highway") != 0 && set->algorithm != CUMEGA_EMA_CHUNKED &&
         set->algorithm != CUMEGA_EMA_FFT && set->algorithm != CUMEGA_EMA_AUTO;
}

/* The same case by the CPU: the device's outputs, which `first` holds, must have its bits. */
static int compare_with_cpu(bench_run *run, char *first) {
  job j = {0};
  int code = job_begin(&j, run->on.host, cumega_cpu, &run->file, run->set->algorithm);
  if (code == EXIT_OK) code = run_afresh(&j);
  if (code == EXIT_OK && !outputs_equal(&j, first, 0))
    code = fail(EXIT_WRONG, "%s has not the CPU's bits", run->on.device);
  job_end(&j);
  if (code == EXIT_OK)
    strncat(run->verified, "; the CPU's bits", sizeof run->verified - strlen(run->verified) - 1);
  return code;
}

/* Two runs, the same bits, and the right ones. */
static int verify(bench_run *run, char *first) {
  int code = run_afresh(&run->j);
  if (code != EXIT_OK) return code;
  (void)outputs_equal(&run->j, first, 1);
  code = run_afresh(&run->j);
  if (code != EXIT_OK) return code;
  if (!outputs_equal(&run->j, first, 0)) return fail(EXIT_WRONG, "two runs gave different bits");
  code = check_values(run);
  int compared = run->on.place.device_type != kDLCPU && has_bits_of_the_cpu(run->set);
  return code == EXIT_OK && compared ? compare_with_cpu(run, first) : code;
}

static int call_job(void *argument) {
  bench_run *run = argument;
  const benchmark *what = run->set->what;
  cumega_status status =
      what->run != NULL ? what->run(run->set, &run->j) : run->j.operation->run(&run->j);
  return status == CUMEGA_OK;
}

static int time_on_cpu(bench_run *run, int repeats) {
  const measured ours = {call_job, run};
  stopwatch watch = stopwatch_steady();
  copier *memcpys = copier_create(run->set->threads, (size_t)(run->bytes / 2));
  int code = EXIT_OK;
  if (strcmp(run->set->cache, "flushed") == 0 &&
      !stopwatch_flushing(FLUSH_TIMES * run->last_cache, &watch))
    code = fail(EXIT_DEVICE, "no memory to flush the caches with");
  if (code == EXIT_OK && memcpys == NULL)
    code = fail(EXIT_DEVICE, "no memory or threads for the copy");
  const measured copy = {copier_run, memcpys};
  if (code == EXIT_OK && !measure_beside_copy(&watch, &ours, &copy, repeats, &run->m))
    code = fail(EXIT_DEVICE, "a call failed while the clock ran: %s",
                cumega_context_message(run->on.ctx));
  copier_destroy(memcpys);
  stopwatch_free(&watch);
  return code;
}

/* On a stream of our own, which the context then runs on. */
static int time_on_gpu(bench_run *run, int repeats) {
  const device_options wanted = {run->on.place.device_id, (int64_t)(run->bytes / 2),
                                 strcmp(run->set->cache, "flushed") == 0,
                                 strcmp(run->set->launch, "graph") == 0};
  const measured ours = {call_job, run};
  char why[256];
  device *d = device_open(&wanted, why, sizeof why);
  if (d == NULL) return fail(EXIT_DEVICE, "%s: %s", run->on.device, why);
  int code = job_check(&run->j, cumega_context_set_stream(run->on.ctx, device_stream(d)));
  if (code == EXIT_OK) {
    const stopwatch watch = device_stopwatch(d);
    const measured copy = device_copy(d);
    if (!measure_beside_copy(&watch, &ours, &copy, repeats, &run->m))
      code = fail(EXIT_DEVICE, "a call failed while the clock ran: %s%s",
                  cumega_context_message(run->on.ctx), device_message(d));
    cumega_status status = cumega_context_synchronize(run->on.ctx);
    if (status == CUMEGA_OK) status = cumega_context_set_stream(run->on.ctx, NULL);
    if (code == EXIT_OK) code = job_check(&run->j, status);
  }
  device_close(d);
  return code;
}

/* What is computed on the host whatever the device, as the EMA's kernel, has no tensor there. */
static int time_row(bench_run *run, int repeats) {
  int on_gpu = run->on.place.device_type != kDLCPU && run->j.staged_count > 0;
  return on_gpu ? time_on_gpu(run, repeats) : time_on_cpu(run, repeats);
}

static int open_session(const options *given, bench_run *run) {
  options wanted = *given;
  wanted.threads = run->set->threads;
  wanted.level = run->set->level;
  return session_open(&wanted, &run->on);
}

/* A setting that the device does not have would be a row that says what it did not measure. */
static int check_device(const bench_settings *set, DLDevice place) {
  if (place.device_type == kDLCPU)
    return strcmp(set->launch, "stream") == 0
               ? EXIT_OK
               : fail(EXIT_INPUT, "--launch %s is for a GPU, and this is the CPU", set->launch);
  if (set->threads > 1 || set->level != NULL)
    return fail(EXIT_INPUT, "--%s is for the CPU, and this is a GPU",
                set->level != NULL ? "level" : "threads");
  if (strcmp(set->table, "anew") == 0)
    return fail(EXIT_INPUT, "--table anew needs a context for every call: it is for --device cpu");
  return EXIT_OK;
}

int bench_run_row(const options *given, const bench_settings *set, int64_t last_cache,
                  bench_run *run) {
  const int repeats = given->repeats;
  memset(run, 0, sizeof *run);
  run->set = set;
  run->last_cache = last_cache;
  char *first = NULL;
  int code = open_session(given, run);
  if (code == EXIT_OK) code = check_device(set, run->on.place);
  if (code == EXIT_OK) code = set->what->make(set, run->on.host, &run->file);
  if (code == EXIT_OK)
    code = job_begin(&run->j, run->on.ctx, run->on.place, &run->file, set->algorithm);
  if (code != EXIT_OK) return code;
  run->bytes = bytes_moved(set, &run->j);
  first = malloc((size_t)output_bytes(&run->j) + 1);
  if (first == NULL) return fail(EXIT_DEVICE, "no memory for the outputs of a first run");
  code = verify(run, first);
  if (code == EXIT_OK) code = time_row(run, repeats);
  if (code == EXIT_OK) code = run_afresh(&run->j);
  if (code == EXIT_OK && !outputs_equal(&run->j, first, 0))
    code = fail(EXIT_WRONG, "the bits changed while the clock ran");
  free(first);
  return code;
}

void bench_run_end(bench_run *run) {
  job_end(&run->j);
  case_close(&run->file);
  session_close(&run->on);
}
