#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include "case.h"
#include "failure.h"
#include "values.h"

#define CASE_VERSION "1"

static int begins_with(const char *text, const char *start) {
  return strncmp(text, start, strlen(start)) == 0;
}

static char *name_of_path(const char *path) {
  const char *slash = strrchr(path, '/'), *suffix = ".safetensors";
  char *name = strdup(slash != NULL ? slash + 1 : path);
  if (name == NULL) return NULL;
  size_t length = strlen(name), end = strlen(suffix);
  if (length > end && strcmp(name + length - end, suffix) == 0) name[length - end] = '\0';
  return name;
}

static int read_object(const case_file *file, const char *key, const char *text, json_t **object) {
  json_error_t error;
  *object = json_loads(text, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
  if (*object == NULL)
    return fail(EXIT_INPUT, "%s: metadata '%s' is not JSON: %s", file->path, key, error.text);
  if (!json_is_object(*object))
    return fail(EXIT_INPUT, "%s: metadata '%s' is %s, expected a JSON object", file->path, key,
                text);
  return EXIT_OK;
}

static int read_metadata(case_file *file) {
  const char *version = cumega_weights_metadata(file->weights, "cumega.case");
  const char *config = cumega_weights_metadata(file->weights, "cumega.config");
  const char *tolerance = cumega_weights_metadata(file->weights, "cumega.tolerance");
  file->operation = cumega_weights_metadata(file->weights, "cumega.op");
  if (version == NULL)
    return fail(EXIT_INPUT, "%s: metadata 'cumega.case' is missing: this is not a case file",
                file->path);
  if (strcmp(version, CASE_VERSION) != 0)
    return fail(EXIT_INPUT, "%s: metadata 'cumega.case' is '%s', expected '" CASE_VERSION "'",
                file->path, version);
  if (file->operation == NULL)
    return fail(EXIT_INPUT, "%s: metadata 'cumega.op' is missing", file->path);
  if (config == NULL)
    return fail(EXIT_INPUT, "%s: metadata 'cumega.config' is missing", file->path);
  int code = read_object(file, "cumega.config", config, &file->config);
  if (code != EXIT_OK) return code;
  return read_object(file, "cumega.tolerance", tolerance != NULL ? tolerance : "{}",
                     &file->tolerance);
}

static int read_tensor(cumega_context *host, case_file *file, const cumega_weights_entry *entry) {
  case_tensor *tensor = &file->tensors[file->tensor_count];
  if (entry->dtype.bits == 0)
    return fail(EXIT_INPUT, "%s: tensor '%s' has type %s, which no operation takes", file->path,
                entry->name, entry->dtype_name);
  int code =
      values_allocate(&tensor->tensor, entry->name, entry->dtype, entry->ndim, entry->shape);
  if (code != EXIT_OK) return code;
  tensor->name = entry->name;
  file->tensor_count++;
  cumega_status status =
      cumega_weights_read(host, file->weights, entry, tensor->tensor.dl.data, entry->bytes);
  if (status == CUMEGA_OK) return EXIT_OK;
  return fail(exit_code_of(status), "%s", cumega_context_message(host));
}

static int read_tensors(cumega_context *host, case_file *file, int with_answers) {
  int64_t count = cumega_weights_count(file->weights);
  file->tensors = calloc((size_t)count + 1, sizeof *file->tensors);
  if (file->tensors == NULL) return fail(EXIT_DEVICE, "%s: no memory", file->path);
  for (int64_t i = 0; i < count; i++) {
    const cumega_weights_entry *entry = cumega_weights_at(file->weights, i);
    int question = begins_with(entry->name, "parameters.") || begins_with(entry->name, "inputs.");
    int answer = begins_with(entry->name, "outputs.") || begins_with(entry->name, "exact.");
    if (!question && !(answer && with_answers)) continue;
    int code = read_tensor(host, file, entry);
    if (code != EXIT_OK) return code;
  }
  return EXIT_OK;
}

int case_open(cumega_context *host, const char *path, int with_answers, case_file *file) {
  memset(file, 0, sizeof *file);
  file->path = path;
  file->name = name_of_path(path);
  if (file->name == NULL) return fail(EXIT_DEVICE, "%s: no memory", path);
  cumega_status status = cumega_weights_open(host, path, &file->weights);
  if (status != CUMEGA_OK) return fail(exit_code_of(status), "%s", cumega_context_message(host));
  int code = read_metadata(file);
  return code != EXIT_OK ? code : read_tensors(host, file, with_answers);
}

void case_close(case_file *file) {
  for (int64_t i = 0; i < file->tensor_count; i++) values_release(&file->tensors[i].tensor);
  free(file->tensors);
  free(file->name);
  json_decref(file->config);
  json_decref(file->tolerance);
  cumega_weights_close(file->weights);
  memset(file, 0, sizeof *file);
}

static int widen_tensor(const case_tensor *source, case_tensor *wide) {
  const DLTensor *from = &source->tensor.dl;
  int floating = values_is_floating(from->dtype);
  int code = values_allocate(&wide->tensor, source->name, floating ? cumega_float64 : from->dtype,
                             from->ndim, from->shape);
  if (code != EXIT_OK) return code;
  wide->name = source->name;
  values_order_like(&wide->tensor.dl, from);
  if (!floating) {
    memcpy(wide->tensor.dl.data, from->data, (size_t)values_bytes(from));
    return EXIT_OK;
  }
  double *to = wide->tensor.dl.data;
  int64_t count = values_count(from);
  for (int64_t i = 0; i < count; i++) to[i] = values_at(from, i);
  return EXIT_OK;
}

int case_widen(const case_file *source, const char *setting, case_file *wide) {
  memset(wide, 0, sizeof *wide);
  wide->path = source->path;
  wide->operation = source->operation;
  wide->name = strdup(source->name);
  wide->config = json_deep_copy(source->config);
  wide->tolerance = json_incref(source->tolerance);
  wide->tensors = calloc((size_t)source->tensor_count + 1, sizeof *wide->tensors);
  if (wide->name == NULL || wide->config == NULL || wide->tensors == NULL ||
      (setting != NULL && json_object_set_new(wide->config, setting, json_string("float64")) != 0))
    return fail(EXIT_DEVICE, "%s: no memory", source->path);
  for (int64_t i = 0; i < source->tensor_count; i++) {
    const case_tensor *from = &source->tensors[i];
    if (!begins_with(from->name, "parameters.") && !begins_with(from->name, "inputs.")) continue;
    int code = widen_tensor(from, &wide->tensors[wide->tensor_count]);
    if (code != EXIT_OK) return code;
    wide->tensor_count++;
  }
  return EXIT_OK;
}

DLTensor *case_find(const case_file *file, const char *group, const char *name) {
  size_t length = strlen(group);
  for (int64_t i = 0; i < file->tensor_count; i++) {
    const char *full = file->tensors[i].name;
    if (strncmp(full, group, length) == 0 && full[length] == '.' &&
        strcmp(full + length + 1, name) == 0)
      return &file->tensors[i].tensor.dl;
  }
  return NULL;
}

int case_need(const case_file *file, const char *group, const char *name, DLTensor **tensor) {
  *tensor = case_find(file, group, name);
  if (*tensor != NULL) return EXIT_OK;
  return fail(EXIT_INPUT, "%s: tensor '%s.%s' is missing", file->path, group, name);
}

static void expected_text(int ndim, const case_dimension *expected, char *text, size_t size) {
  size_t used = (size_t)snprintf(text, size, "(");
  for (int i = 0; i < ndim && used < size; i++) {
    const char *comma = i > 0 ? ", " : "";
    used +=
        (size_t)(expected[i].size < 0
                     ? snprintf(text + used, size - used, "%s%s", comma, expected[i].letter)
                     : snprintf(text + used, size - used, "%s%" PRId64, comma, expected[i].size));
  }
  if (used < size) snprintf(text + used, size - used, ")");
}

int case_expect_shape(const case_file *file, const char *name, const DLTensor *tensor, int ndim,
                      const case_dimension *expected) {
  int same = tensor->ndim == ndim;
  for (int i = 0; same && i < ndim; i++)
    same = expected[i].size < 0 || tensor->shape[i] == expected[i].size;
  if (same) return EXIT_OK;
  char has[256], wanted[256];
  expected_text(ndim, expected, wanted, sizeof wanted);
  return fail(EXIT_INPUT, "%s: tensor '%s' has shape %s, expected %s", file->path, name,
              values_shape_text(tensor, has, sizeof has), wanted);
}
