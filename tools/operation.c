#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "failure.h"
#include "operation.h"
#include "values.h"

static const operation *const operations[] = {
    &op_ema_forward,          &op_ema_step,          &op_ema_kernel, &op_relative_position_bias,
    &op_rotary_position_bias, &op_attention_softmax, &op_residual,   &op_gated_residual,
};

const operation *operation_at(int i) {
  return i >= 0 && i < (int)(sizeof operations / sizeof *operations) ? operations[i] : NULL;
}

const operation *operation_of(const char *name, const char *who) {
  char known[256] = "";
  const operation *o;
  for (int i = 0; (o = operation_at(i)) != NULL; i++) {
    if (strcmp(o->name, name) == 0) return o;
    list_add(known, sizeof known, ", ", o->name);
  }
  fail(EXIT_INPUT, "%s '%s', expected one of %s", who, name, known);
  return NULL;
}

/* ---- making a job ---- */

/* Refuses unknown inputs: a misspelt one would otherwise be ignored. */
static int check_inputs(const operation *o, const case_file *file) {
  const char *group = "inputs.";
  for (int64_t i = 0; i < file->tensor_count; i++) {
    char known[256] = "";
    const char *name = file->tensors[i].name;
    const operation_input *in = o->inputs;
    if (strncmp(name, group, strlen(group)) != 0) continue;
    while (in != NULL && in->name != NULL && strcmp(in->name, name + strlen(group)) != 0)
      list_add(known, sizeof known, ", ", in++->name);
    if (in == NULL || in->name == NULL)
      return fail(EXIT_INPUT, "%s: tensor '%s' is not an input of %s; its inputs: %s", file->path,
                  name, o->name, known[0] != '\0' ? known : "none");
  }
  return EXIT_OK;
}

/* The member of the object for an input. */
static const DLTensor **slot_of(const job *j, const operation_input *in) {
  return (const DLTensor **)(uintptr_t)((char *)j->object + in->offset);
}

static int find_inputs(job *j) {
  for (const operation_input *in = j->operation->inputs; in != NULL && in->name != NULL; in++) {
    *slot_of(j, in) = case_find(j->file, "inputs", in->name);
    if (*slot_of(j, in) == NULL && in->needed)
      return fail(EXIT_INPUT, "%s: tensor 'inputs.%s' is missing", j->file->path, in->name);
  }
  return EXIT_OK;
}

/* *tensor becomes a copy in the memory of ctx's device. job_run copies outputs back, job_end
 * releases the copy. */
static int stage(job *j, const DLTensor **tensor) {
  if (*tensor == NULL) return EXIT_OK;
  if (j->staged_count == JOB_STAGED)
    return fail(EXIT_DEVICE, "%s: more tensors than the program can stage", j->file->path);
  staged_tensor *s = &j->staged[j->staged_count];
  s->host = (DLTensor *)(uintptr_t)*tensor;
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

static int stage_all(job *j) {
  int code = EXIT_OK;
  if (j->place.device_type == kDLCPU || j->operation->is_on_host) return EXIT_OK;
  for (const operation_input *in = j->operation->inputs;
       code == EXIT_OK && in != NULL && in->name != NULL; in++)
    code = stage(j, slot_of(j, in));
  for (int i = 0; code == EXIT_OK && i < j->output_count; i++)
    code = stage(j, (const DLTensor **)(uintptr_t)j->wanted[i]);
  return code;
}

int job_begin(job *j, cumega_context *ctx, DLDevice place, const case_file *file,
              cumega_ema_algorithm algorithm) {
  memset(j, 0, sizeof *j);
  j->ctx = ctx;
  j->place = place;
  j->file = file;
  j->algorithm = algorithm;
  char who[512];
  snprintf(who, sizeof who, "%s: metadata 'cumega.op' is", file->path);
  const operation *o = operation_of(file->operation, who);
  if (o == NULL) return EXIT_INPUT;
  int code = check_inputs(o, file);
  if (code != EXIT_OK) return code;
  if (algorithm != 0 && !o->has_algorithms)
    return fail(EXIT_INPUT, "%s: --algorithm is given, and %s has one algorithm only", file->path,
                o->name);
  j->object = calloc(1, o->object_bytes);
  if (j->object == NULL) return fail(EXIT_DEVICE, "%s: no memory", file->path);
  j->operation = o;
  if (o->set_defaults != NULL) o->set_defaults(j->object);
  code = settings_read(file, o->settings, j->object);
  if (code == EXIT_OK) code = find_inputs(j);
  if (code == EXIT_OK) code = o->prepare(j);
  return code == EXIT_OK ? stage_all(j) : code;
}

void job_end(job *j) {
  if (j->operation != NULL) j->operation->release(j->object);
  free(j->object);
  for (int i = 0; i < j->staged_count; i++)
    (void)!cumega_memory_release(j->ctx, j->staged[i].device.dl.data, j->staged[i].bytes);
  for (int i = 0; i < j->output_count; i++) values_release(&j->outputs[i].tensor);
  memset(j, 0, sizeof *j);
}

int job_add_output(job *j, const char *name, DLDataType dtype, int ndim, const int64_t *shape,
                   DLTensor **wanted) {
  case_tensor *output = &j->outputs[j->output_count];
  int code = values_allocate(&output->tensor, name, dtype, ndim, shape);
  if (code != EXIT_OK) return code;
  output->name = name;
  j->wanted[j->output_count++] = wanted;
  *wanted = &output->tensor.dl;
  return EXIT_OK;
}

void job_describe(job *j, const char *name, const DLTensor *tensor) {
  char shape[80];
  j->dtype = tensor->dtype;
  j->elements = values_count(tensor);
  snprintf(j->shape, sizeof j->shape, "%s%s", name,
           values_shape_text(tensor, shape, sizeof shape));
}

int job_check(const job *j, cumega_status status) {
  if (status == CUMEGA_OK) return EXIT_OK;
  return fail(exit_code_of(status), "%s: %s", j->file->path, cumega_context_message(j->ctx));
}

/* ---- running it ---- */

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

/* Copies outputs back from the device. */
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
    if (strcmp(j->outputs[i].name + strlen("outputs."), name) == 0)
      return &j->outputs[i].tensor.dl;
  return NULL;
}
