/* Cases that are made in memory. */
#include <stdlib.h>
#include <string.h>
#include "bench.h"
#include "failure.h"
#include "values.h"

#define TENSORS 16

static int no_memory(const case_file *file) {
  return fail(EXIT_DEVICE, "%s: no memory", file->path);
}

int bench_case_put(case_file *file, const char *name, json_t *value) {
  return setting_put(file->config, name, value) ? EXIT_OK : no_memory(file);
}

/* The row's value for a setting, or NULL if there is none. States are float64 if the activations
 * are. */
static json_t *value_of(const bench_row *row, const setting *key, const char *text) {
  const char *dims = row->what->bench.dims;
  if (key->type == SETTING_STATE && text == NULL)
    return json_string(row->dtype.bits == 64 ? "float64" : "float32");
  if (bench_key_is_free(key)) return text != NULL ? setting_json(key, text) : NULL;
  if (key->bench[1] == '\0') return NULL;
  return json_integer(row->shape[(strchr(dims, key->bench[1]) - dims) / 2]);
}

int bench_case_make(const bench_row *row, cumega_context *host, case_file *file) {
  const operation *what = row->what;
  memset(file, 0, sizeof *file);
  file->path = "cumega bench";
  file->operation = what->name;
  file->name = strdup(what->name);
  file->config = json_object();
  file->tolerance = json_object();
  file->tensors = calloc(TENSORS, sizeof *file->tensors);
  if (file->name == NULL || file->config == NULL || file->tolerance == NULL ||
      file->tensors == NULL)
    return no_memory(file);
  int code = EXIT_OK;
  for (int i = 0; code == EXIT_OK && what->settings[i].name != NULL; i++) {
    json_t *value = value_of(row, &what->settings[i], row->values[BENCH_OWN + i]);
    if (value != NULL) code = bench_case_put(file, what->settings[i].name, value);
  }
  return code == EXIT_OK ? what->bench.make(row, host, file) : code;
}

int bench_case_add(case_file *file, const char *group, const char *name, DLDataType dtype,
                   int ndim, const int64_t *shape, DLTensor **tensor) {
  if (file->tensor_count == TENSORS)
    return fail(EXIT_DEVICE, "%s: more tensors than a case has room for", file->path);
  case_tensor *added = &file->tensors[file->tensor_count];
  int code = values_allocate(&added->tensor, name, dtype, ndim, shape);
  if (code != EXIT_OK) return code;
  snprintf(added->made, sizeof added->made, "%s.%s", group, name);
  added->name = added->made;
  file->tensor_count++;
  *tensor = &added->tensor.dl;
  return EXIT_OK;
}

/* The numbers come from a linear congruential generator. None is zero, so that no state decays to
 * subnormal numbers. */
void bench_fill(DLTensor *tensor, uint64_t seed) {
  uint64_t state = seed;
  int64_t count = values_count(tensor);
  for (int64_t i = 0; i < count; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    int magnitude = 1 + (int)(state >> 33) % 127;
    values_put(tensor, i, (state >> 63 ? -magnitude : magnitude) / 64.0);
  }
}
