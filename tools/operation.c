#include <stdio.h>
#include <string.h>
#include <time.h>
#include "case_ema.h"
#include "case_position_bias.h"
#include "case_residual.h"
#include "failure.h"
#include "operation.h"
#include "values.h"

static const operation operations[] = {
    {"ema_forward", "whole sequences through the multi-head damped EMA",
     " x mask sequence_lengths sequence_offsets state initial_slots final_slots ", "y, state",
     "state_dtype", 1, ema_forward_prepare, ema_forward_run, ema_release},
    {"ema_step", "single steps of the EMA, one after the other", " x mask state ", "y, state",
     "state_dtype", 0, ema_step_prepare, ema_step_run, ema_release},
    {"ema_kernel", "the EMA's convolution kernel and its coefficients", " ",
     "kernel, damping_factor, prev_timestep_weight", "state_dtype", 0, ema_kernel_prepare,
     ema_kernel_run, ema_release},
    {"relative_position_bias", "a relative position bias as an (L, L) matrix", " ", "bias", NULL, 0,
     relative_position_bias_prepare, position_bias_run_forward, position_bias_release},
    {"rotary_position_bias", "a rotary position bias as an (L, L) matrix", " ", "bias", NULL, 0,
     rotary_position_bias_prepare, position_bias_run_forward, position_bias_release},
    {"attention_softmax", "scale, position bias, masks and softmax of attention scores",
     " scores attention_mask key_padding_mask query_lengths key_lengths ", "weights, scores", NULL,
     0, attention_softmax_prepare, attention_softmax_run, position_bias_release},
    {"residual", "a residual connection, and the normalisation that follows", " x y ",
     "out, normalized", NULL, 0, residual_prepare, residual_run, residual_release},
    {"gated_residual", "x + sigmoid(gate) * (h - x), and the normalisation that follows",
     " x gate h ", "out, normalized", NULL, 0, gated_residual_prepare, gated_residual_run,
     residual_release},
};

const operation *operation_at(int i) {
  return i >= 0 && i < (int)(sizeof operations / sizeof *operations) ? &operations[i] : NULL;
}

const operation *operation_of(const case_file *file) {
  char known[256] = "";
  const operation *o;
  for (int i = 0; (o = operation_at(i)) != NULL; i++) {
    if (strcmp(o->name, file->operation) == 0) return o;
    size_t used = strlen(known);
    snprintf(known + used, sizeof known - used, "%s%s", i > 0 ? ", " : "", o->name);
  }
  fail(EXIT_INPUT, "%s: metadata 'cumega.op' is '%s', expected one of %s", file->path,
       file->operation, known);
  return NULL;
}

/* A misspelt input would otherwise be left out without a word. */
static int check_inputs(const operation *o, const case_file *file) {
  const char *group = "inputs.";
  for (int64_t i = 0; i < file->tensor_count; i++) {
    const char *name = file->tensors[i].name;
    char wanted[128];
    if (strncmp(name, group, strlen(group)) != 0) continue;
    int length = snprintf(wanted, sizeof wanted, " %s ", name + strlen(group));
    if (length < (int)sizeof wanted && strchr(name, ' ') == NULL && strstr(o->inputs, wanted))
      continue;
    return fail(EXIT_INPUT, "%s: tensor '%s' is not an input of %s; its inputs:%s", file->path,
                name, o->name, o->inputs[1] != '\0' ? o->inputs : " none");
  }
  return EXIT_OK;
}

int job_begin(job *j, cumega_context *ctx, DLDevice place, const case_file *file,
              cumega_ema_algorithm algorithm) {
  memset(j, 0, sizeof *j);
  j->ctx = ctx;
  j->place = place;
  j->file = file;
  j->algorithm = algorithm;
  const operation *o = operation_of(file);
  if (o == NULL) return EXIT_INPUT;
  int code = check_inputs(o, file);
  if (code != EXIT_OK) return code;
  if (algorithm != CUMEGA_EMA_RECURRENT && !o->has_algorithms)
    return fail(EXIT_INPUT, "%s: --algorithm is given, and %s has one algorithm only", file->path,
                o->name);
  j->operation = o;
  return o->prepare(j);
}

void job_end(job *j) {
  if (j->operation != NULL) j->operation->release(j);
  for (int i = 0; i < j->staged_count; i++)
    (void)!cumega_memory_release(j->ctx, j->staged[i].device.dl.data, j->staged[i].bytes);
  for (int i = 0; i < j->output_count; i++) values_release(&j->outputs[i].tensor);
  memset(j, 0, sizeof *j);
}

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int is_output(const job *j, const DLTensor *tensor) {
  for (int i = 0; i < j->output_count; i++)
    if (tensor == &j->outputs[i].tensor.dl) return 1;
  return 0;
}

/* Outputs as the device has them. */
static int fetch(job *j) {
  cumega_status status = CUMEGA_OK;
  for (int i = 0; i < j->staged_count && status == CUMEGA_OK; i++) {
    const staged_tensor *s = &j->staged[i];
    if (is_output(j, s->host))
      status = cumega_memory_read(j->ctx, s->host->data, s->device.dl.data, s->bytes);
  }
  return job_check(j, status);
}

int job_poison(job *j) {
  cumega_status status = CUMEGA_OK;
  for (int i = 0; i < j->output_count; i++) {
    const DLTensor *output = &j->outputs[i].tensor.dl;
    memset(output->data, 0xff, (size_t)values_bytes(output));
  }
  for (int i = 0; i < j->staged_count && status == CUMEGA_OK; i++) {
    const staged_tensor *s = &j->staged[i];
    if (is_output(j, s->host))
      status = cumega_memory_write(j->ctx, s->device.dl.data, s->host->data, s->bytes);
  }
  return job_check(j, status);
}

int job_run(job *j, double enough_seconds, double *seconds) {
  double first = now(), start = first;
  *seconds = -1;
  do {
    cumega_status status = j->operation->run(j);
    if (status == CUMEGA_OK) status = cumega_context_synchronize(j->ctx);
    if (status != CUMEGA_OK) return job_check(j, status);
    double end = now();
    if (*seconds < 0 || end - start < *seconds) *seconds = end - start;
    start = end;
  } while (start - first < enough_seconds);
  uint32_t report = 0;
  int code = fetch(j);
  if (code == EXIT_OK) code = job_check(j, cumega_context_report(j->ctx, &report));
  if (code == EXIT_OK && report != 0)
    code = fail(EXIT_INPUT, "%s: sequence lengths, offsets or slots lie outside their tensors",
                j->file->path);
  return code;
}

const DLTensor *job_find(const job *j, const char *name) {
  for (int i = 0; i < j->output_count; i++)
    if (strcmp(j->outputs[i].name + strlen("outputs."), name) == 0) return &j->outputs[i].tensor.dl;
  return NULL;
}

int job_add_output(job *j, const char *name, DLDataType dtype, int ndim, const int64_t *shape,
                   DLTensor **tensor) {
  case_tensor *output = &j->outputs[j->output_count];
  int code = values_allocate(&output->tensor, name, dtype, ndim, shape);
  if (code != EXIT_OK) return code;
  output->name = name;
  j->output_count++;
  *tensor = &output->tensor.dl;
  return EXIT_OK;
}

int job_stage(job *j, DLTensor **tensor) {
  if (*tensor == NULL || j->place.device_type == kDLCPU) return EXIT_OK;
  if (j->staged_count == JOB_STAGED)
    return fail(EXIT_DEVICE, "%s: more tensors than the program can stage", j->file->path);
  staged_tensor *s = &j->staged[j->staged_count];
  s->host = *tensor;
  s->bytes = values_bytes(s->host);
  void *memory = NULL;
  cumega_status status = cumega_memory_allocate(j->ctx, s->bytes, &memory);
  if (status != CUMEGA_OK) return job_check(j, status);
  if (cumega_tensor_init(&s->device, memory, j->place, s->host->dtype, s->host->ndim,
                         s->host->shape) == NULL) {
    (void)!cumega_memory_release(j->ctx, memory, s->bytes);
    return fail(EXIT_INPUT, "%s: a tensor has a shape that no tensor can have", j->file->path);
  }
  values_order_like(&s->device.dl, s->host);
  j->staged_count++;
  *tensor = &s->device.dl;
  return job_check(j, cumega_memory_write(j->ctx, memory, s->host->data, s->bytes));
}

int job_check(const job *j, cumega_status status) {
  if (status == CUMEGA_OK) return EXIT_OK;
  return fail(exit_code_of(status), "%s: %s", j->file->path, cumega_context_message(j->ctx));
}
