#include <math.h>
#include <string.h>
#include "compare.h"
#include "failure.h"
#include "session.h"
#include "values.h"

#define UNIT 0x1p-24

/* 8 roundings of the type, like the tolerances of the files. For float64 it is 8 roundings of
 * float32, because ESPnet's convolutions, which made the float64 answers, compute in float32. */
static double eight_roundings(DLDataType dtype) {
  if (values_dtype_equal(dtype, cumega_bfloat16)) return 0x1p-8;
  if (values_dtype_equal(dtype, cumega_float16)) return 0x1p-11;
  if (values_dtype_equal(dtype, cumega_float64)) return 0x1p-24;
  return 8 * UNIT;
}

static int same_shape(const DLTensor *a, const DLTensor *b) {
  return a->ndim == b->ndim &&
         (a->ndim == 0 || memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape) == 0);
}

/* Whether an answer of the file can be compared with cumega's output. */
static int check_answer(const case_file *file, const char *group, const char *name,
                        const DLTensor *answer, const DLTensor *out) {
  char has[256], wanted[256];
  if (!values_is_floating(answer->dtype))
    return fail(EXIT_INPUT, "%s: tensor '%s.%s' has type %s, expected a floating type", file->path,
                group, name, values_dtype_name(answer->dtype));
  if (same_shape(answer, out)) return EXIT_OK;
  return fail(EXIT_INPUT, "%s: tensor '%s.%s' has shape %s, expected %s", file->path, group, name,
              values_shape_text(answer, has, sizeof has),
              values_shape_text(out, wanted, sizeof wanted));
}

/* The file's tolerance for an output, or else the larger of ESPnet's error and 8 roundings. */
static int find_tolerance(const job *j, int from_float64, comparison *c) {
  const json_t *given = from_float64 ? NULL : json_object_get(j->file->tolerance, c->name);
  c->tolerance = eight_roundings(j->dtype);
  if (isfinite(c->espnet) && c->espnet > c->tolerance) c->tolerance = c->espnet;
  if (given == NULL) return EXIT_OK;
  c->tolerance = json_number_value(given);
  if (json_is_number(given) && c->tolerance >= 0) return EXIT_OK;
  return fail(EXIT_INPUT, "%s: metadata 'cumega.tolerance': '%s' is not a number >= 0",
              j->file->path, c->name);
}

static int compare_output(const job *j, const case_tensor *output, const DLTensor *exact,
                          verdict *v) {
  const DLTensor *out = &output->tensor.dl;
  comparison *c = &v->outputs[v->count];
  c->name = strchr(output->name, '.') + 1;
  int code = check_answer(j->file, "exact", c->name, exact, out);
  if (code != EXIT_OK) return code;
  const DLTensor *espnet = case_find(j->file, "outputs", c->name);
  if (espnet != NULL) code = check_answer(j->file, "outputs", c->name, espnet, out);
  if (code != EXIT_OK) return code;
  c->ours = values_error(out, exact);
  c->espnet = espnet != NULL ? values_error(espnet, exact) : -1;
  code = find_tolerance(j, v->from_float64, c);
  if (code != EXIT_OK) return code;
  v->count++;
  v->compared += values_count(exact);
  return c->ours <= c->tolerance ? EXIT_OK : EXIT_WRONG;
}

/* An exact answer without an output of the run is an error, unless the algorithm does not give
 * it. */
static int check_missing(const job *j, int *answers) {
  int code = EXIT_OK;
  for (int64_t i = 0; i < j->file->tensor_count; i++) {
    const char *name = j->file->tensors[i].name, *group = "exact.";
    if (strncmp(name, group, strlen(group)) != 0) continue;
    ++*answers;
    if (j->left_out != NULL && strcmp(name + strlen(group), j->left_out) == 0) continue;
    if (job_find(j, name + strlen(group)) == NULL)
      code = fail(EXIT_WRONG, "%s: the file has '%s', and the run gives no such output",
                  j->file->path, name);
  }
  return code;
}

/* exact is the widened job, or NULL if the file has exact answers. */
static int compare_outputs(const job *j, const job *exact, verdict *v) {
  int result = EXIT_OK;
  for (int i = 0; i < j->output_count; i++) {
    const char *name = strchr(j->outputs[i].name, '.') + 1;
    const DLTensor *answer =
        exact != NULL ? job_find(exact, name) : case_find(j->file, "exact", name);
    if (answer == NULL) continue;
    int code = compare_output(j, &j->outputs[i], answer, v);
    if (code == EXIT_INPUT) return code;
    if (code != EXIT_OK) result = code;
  }
  return result;
}

int compare_with_float64(const job *j, verdict *v) {
  cumega_context *plain = NULL;
  case_file wide = {0};
  job exact = {0};
  double seconds;
  v->from_float64 = 1;
  int code = session_open_plain(&plain);
  const setting *state = settings_state(j->operation->settings);
  if (code == EXIT_OK) code = case_widen(j->file, state != NULL ? state->name : NULL, &wide);
  if (code == EXIT_OK) code = job_begin(&exact, plain, cumega_cpu, &wide, CUMEGA_EMA_DEFAULT);
  if (code == EXIT_OK) code = job_run(&exact, 0, &seconds);
  if (code == EXIT_OK) code = compare_outputs(j, &exact, v);
  job_end(&exact);
  case_close(&wide);
  cumega_context_destroy(plain);
  return code;
}

int compare_with_answers(const job *j, verdict *v) {
  int answers = 0, missing = check_missing(j, &answers);
  int code = answers > 0 ? compare_outputs(j, NULL, v) : compare_with_float64(j, v);
  return code == EXIT_OK ? missing : code;
}
