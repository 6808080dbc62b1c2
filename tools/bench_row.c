/* Makes, verifies and times one row, and compares its outputs once more after the timing. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bench.h"
#include "copy.h"
#include "device.h"
#include "failure.h"
#include "values.h"

#define FLUSH_TIMES 4 /* flushing a cache writes its size this many times */

static int64_t output_bytes(const job *j) {
  int64_t bytes = 0;
  for (int i = 0; i < j->output_count; i++) bytes += values_bytes(&j->outputs[i].tensor.dl);
  return bytes;
}

/* Inputs are read and outputs written once; parameters are not counted. */
static double bytes_moved(const bench_row *row, const job *j) {
  int64_t bytes = 0;
  const char *left_out = row->what->bench.left_out != NULL ? row->what->bench.left_out(row) : NULL;
  for (int i = 0; i < j->output_count; i++)
    if (left_out == NULL || strcmp(left_out, j->outputs[i].name) != 0)
      bytes += values_bytes(&j->outputs[i].tensor.dl);
  for (int64_t i = 0; i < j->file->tensor_count; i++)
    if (strncmp(j->file->tensors[i].name, "inputs.", strlen("inputs.")) == 0)
      bytes += values_bytes(&j->file->tensors[i].tensor.dl);
  return (double)bytes;
}

/* Copies the outputs, one after the other, into `bytes`, or compares them with `bytes`. */
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

/* Runs the job after filling its outputs with NaN. */
static int run_afresh(job *j) {
  double seconds;
  int code = job_poison(j);
  return code == EXIT_OK ? job_run(j, 0, &seconds) : code;
}

static int check_values(bench_run *run) {
  const benchmark *bench = &run->row->what->bench;
  double worst = 0;
  int code = bench_check(run->row, &run->j, &worst);
  if (code != EXIT_OK) return code;
  snprintf(run->verified, sizeof run->verified, "against %s", bench->reference);
  if (worst <= 1) return EXIT_OK;
  return fail(EXIT_WRONG, "wrong result: an error is %g times what is allowed", worst);
}

/* Runs the same case on the CPU. The device's outputs, which `first` holds, must have the same
 * bits. */
static int compare_with_cpu(bench_run *run, char *first) {
  job j = {0};
  int code = job_begin(&j, run->on.host, cumega_cpu, &run->file, bench_algorithm(run->row));
  if (code == EXIT_OK) code = run_afresh(&j);
  if (code == EXIT_OK && !outputs_equal(&j, first, 0))
    code = fail(EXIT_WRONG, "%s has not the CPU's bits", run->on.device);
  job_end(&j);
  if (code == EXIT_OK)
    strncat(run->verified, "; the CPU's bits", sizeof run->verified - strlen(run->verified) - 1);
  return code;
}

/* Two runs must give the same bits, and these must be right. */
static int verify(bench_run *run, char *first) {
  int code = run_afresh(&run->j);
  if (code != EXIT_OK) return code;
  (void)outputs_equal(&run->j, first, 1);
  code = run_afresh(&run->j);
  if (code != EXIT_OK) return code;
  if (!outputs_equal(&run->j, first, 0)) return fail(EXIT_WRONG, "two runs gave different bits");
  code = check_values(run);
  const benchmark *bench = &run->row->what->bench;
  int own_bits = bench->has_own_bits != NULL && bench->has_own_bits(run->row);
  int compared = run->on.place.device_type != kDLCPU && !own_bits;
  return code == EXIT_OK && compared ? compare_with_cpu(run, first) : code;
}

static int call_job(void *argument) {
  bench_run *run = argument;
  const operation *what = run->row->what;
  cumega_status status =
      what->bench.run != NULL ? what->bench.run(run->row, &run->j) : what->run(&run->j);
  return status == CUMEGA_OK;
}

static int time_on_cpu(bench_run *run, int repeats) {
  const measured ours = {call_job, run};
  stopwatch watch = stopwatch_steady();
  copier *memcpys = copier_create(run->row->threads, (size_t)(run->bytes / 2));
  int code = EXIT_OK;
  if (strcmp(run->row->values[BENCH_CACHE], "flushed") == 0 &&
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

/* Uses a stream of the measurement, on which the context runs meanwhile. */
static int time_on_gpu(bench_run *run, int repeats) {
  const device_options wanted = {run->on.place.device_id, (int64_t)(run->bytes / 2),
                                 strcmp(run->row->values[BENCH_CACHE], "flushed") == 0,
                                 strcmp(run->row->values[BENCH_LAUNCH], "graph") == 0};
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

/* What is always computed on the host, such as the EMA's convolution kernel, has no tensors on the
 * device. */
static int time_row(bench_run *run, int repeats) {
  int on_gpu = run->on.place.device_type != kDLCPU && run->j.staged_count > 0;
  return on_gpu ? time_on_gpu(run, repeats) : time_on_cpu(run, repeats);
}

static int open_session(const options *given, bench_run *run) {
  options wanted = *given;
  wanted.threads = run->row->threads;
  wanted.level = run->row->values[BENCH_LEVEL];
  return session_open(&wanted, &run->on);
}

/* A key that the device does not support would make a row that claims what was not measured. */
static int check_device(const bench_row *row, DLDevice place) {
  const int on_cpu = place.device_type == kDLCPU;
  const setting *key;
  char given[160];
  for (int i = 0; (key = bench_key(row->what, i)) != NULL; i++) {
    const int needs_cpu = (key->flags & SETTING_ON_CPU) != 0, needs_gpu = i == BENCH_LAUNCH;
    if (!(on_cpu ? needs_gpu : needs_cpu) || row->values[i] == NULL) continue;
    if (key->bench == NULL || strcmp(row->values[i], key->bench) != 0)
      return fail(EXIT_INPUT, "%s is for %s, and this is %s",
                  bench_key_text(row, i, given, sizeof given), on_cpu ? "a GPU" : "the CPU",
                  on_cpu ? "the CPU" : "a GPU");
  }
  return EXIT_OK;
}

int bench_run_row(const options *given, const bench_row *row, int64_t last_cache, bench_run *run) {
  const int repeats = given->repeats;
  memset(run, 0, sizeof *run);
  run->row = row;
  run->last_cache = last_cache;
  char *first = NULL;
  int code = open_session(given, run);
  if (code == EXIT_OK) code = check_device(row, run->on.place);
  if (code == EXIT_OK) code = bench_case_make(row, run->on.host, &run->file);
  if (code == EXIT_OK)
    code = job_begin(&run->j, run->on.ctx, run->on.place, &run->file, bench_algorithm(row));
  if (code != EXIT_OK) return code;
  run->bytes = bytes_moved(row, &run->j);
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
