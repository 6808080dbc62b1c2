/* Cases made in memory. */
#include <stdlib.h>
#include <string.h>
#include "bench.h"
#include "failure.h"
#include "values.h"

#define TENSORS 16

int bench_no_memory(const case_file *file) {
  return fail(EXIT_DEVICE, "%s: no memory", file->path);
}

int bench_case_begin(const benchmark *what, json_t *config, case_file *file) {
  memset(file, 0, sizeof *file);
  file->path = "cumega bench";
  file->operation = what->operation;
  file->name = strdup(what->operation);
  file->config = config;
  file->tolerance = json_object();
  file->tensors = calloc(TENSORS, sizeof *file->tensors);
  if (file->name == NULL || config == NULL || file->tolerance == NULL || file->tensors == NULL)
    return bench_no_memory(file);
  return EXIT_OK;
}

int bench_case_add(case_file *file, const char *name, DLDataType dtype, int ndim,
                   const int64_t *shape, DLTensor **tensor) {
  if (file->tensor_count == TENSORS)
    return fail(EXIT_DEVICE, "%s: more tensors than a case has room for", file->path);
  case_tensor *added = &file->tensors[file->tensor_count];
  int code = values_allocate(&added->tensor, name, dtype, ndim, shape);
  if (code != EXIT_OK) return code;
  added->name = name;
  file->tensor_count++;
  *tensor = &added->tensor.dl;
  return EXIT_OK;
}

/* From a linear congruential generator. None is zero, so that no chain dies out into subnormal
 * numbers. */
void bench_fill(DLTensor *tensor, uint64_t seed) {
  uint64_t state = seed;
  int64_t count = values_count(tensor);
  for (int64_t i = 0; i < count; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    int magnitude = 1 + (int)(state >> 33) % 127;
    values_put(tensor, i, (state >> 63 ? -magnitude : magnitude) / 64.0);
  }
}
