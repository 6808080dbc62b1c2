/* cumega verify: run cases and compare with their exact answers.
 *
 * An error is max |out - exact| / max |exact|. Where a file has no exact.* at all, the exact answer
 * is the same case in float64, run on the CPU at the plain level. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "commands.h"
#include "failure.h"
#include "operation.h"
#include "progress.h"
#include "session.h"
#include "table.h"
#include "values.h"

#define UNIT           0x1p-24
#define TIMING_SECONDS 0.05

typedef struct comparison {
  const char *name;
  double espnet, ours, tolerance; /* espnet negative where the file has no output of ESPnet's */
} comparison;

typedef struct verdict {
  int code;
  int from_float64; /* the exact answer is not the file's */
  int count;
  comparison outputs[JOB_OUTPUTS];
  int64_t compared; /* values */
  double seconds;
} verdict;

/* 8 roundings of the type, as the tolerances of the files have it; float64's is that of the float32
 * convolutions which float64 answers are compared with. */
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

/* Whether an answer of the file can be compared with our output. */
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

/* The file's tolerance for an output, else the larger of ESPnet's error and 8 roundings. */
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

/* An exact answer to an output that we do not have is an error of ours. */
static int check_missing(const job *j, int *answers) {
  int code = EXIT_OK;
  for (int64_t i = 0; i < j->file->tensor_count; i++) {
    const char *name = j->file->tensors[i].name, *group = "exact.";
    if (strncmp(name, group, strlen(group)) != 0) continue;
    ++*answers;
    if (job_find(j, name + strlen(group)) == NULL)
      code = fail(EXIT_WRONG, "%s: the file has '%s', and the run gives no such output",
                  j->file->path, name);
  }
  return code;
}

/* exact is the widened job, or NULL where the file has exact answers. */
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

static int compare_with_float64(const job *j, verdict *v) {
  cumega_context *plain = NULL;
  case_file wide = {0};
  job exact = {0};
  double seconds;
  v->from_float64 = 1;
  int code = session_open_plain(&plain);
  if (code == EXIT_OK) code = case_widen(j->file, j->operation->widest_setting, &wide);
  if (code == EXIT_OK) code = job_begin(&exact, plain, cumega_cpu, &wide, CUMEGA_EMA_RECURRENT);
  if (code == EXIT_OK) code = job_run(&exact, 0, &seconds);
  if (code == EXIT_OK) code = compare_outputs(j, &exact, v);
  job_end(&exact);
  case_close(&wide);
  cumega_context_destroy(plain);
  return code;
}

static int verify_job(job *j, verdict *v) {
  int answers = 0;
  int code = job_run(j, TIMING_SECONDS, &v->seconds);
  if (code != EXIT_OK) return code;
  int missing = check_missing(j, &answers);
  code = answers > 0 ? compare_outputs(j, NULL, v) : compare_with_float64(j, v);
  if (code == EXIT_OK) code = missing;
  if (code != EXIT_OK || v->compared > 0) return code;
  return fail(EXIT_NOTHING, "%s: its outputs have no values to compare", j->file->path);
}

enum column { NAME, OPERATION, SHAPE, DEVICE, DTYPE, ESPNET, OURS, TOLERANCE, TIME, RATE, RESULT };

static const char *result_text(int code) {
  switch (code) {
  case EXIT_OK: return "ok";
  case EXIT_WRONG: return "FAIL";
  case EXIT_NOTHING: return "nothing to compare";
  default: return "not verified";
  }
}

/* "y 1.33, state 0.5" */
static void add_error(char *cell, const char *name, double error) {
  size_t used = strlen(cell);
  const char *comma = used > 0 ? ", " : "";
  if (error < 0)
    snprintf(cell + used, TABLE_CELL - used, "%s%s -", comma, name);
  else
    snprintf(cell + used, TABLE_CELL - used, "%s%s %.3g", comma, name, error / UNIT);
}

static int add_row(table *t, const session *on, const char *name, const job *j, const verdict *v) {
  table_row *added = table_add(t);
  if (added == NULL) return fail(EXIT_DEVICE, "no memory for the table");
  table_row row = {{0}};
  snprintf(row[NAME], TABLE_CELL, "%s", name);
  snprintf(row[DEVICE], TABLE_CELL, "%s (%s)", on->device, cumega_context_backend(on->ctx));
  snprintf(row[RESULT], TABLE_CELL, "%s%s", result_text(v->code),
           v->from_float64 ? " (float64 CPU)" : "");
  if (j->operation != NULL) snprintf(row[OPERATION], TABLE_CELL, "%s", j->operation->name);
  snprintf(row[SHAPE], TABLE_CELL, "%s", j->shape);
  if (v->seconds > 0) {
    snprintf(row[DTYPE], TABLE_CELL, "%s", values_dtype_name(j->dtype));
    print_seconds(v->seconds, row[TIME], TABLE_CELL);
    snprintf(row[RATE], TABLE_CELL, "%.3g", (double)j->elements / v->seconds);
  }
  for (int i = 0; i < v->count; i++) {
    add_error(row[ESPNET], v->outputs[i].name, v->outputs[i].espnet);
    add_error(row[OURS], v->outputs[i].name, v->outputs[i].ours);
    add_error(row[TOLERANCE], v->outputs[i].name, v->outputs[i].tolerance);
  }
  for (int c = 0; c < TABLE_COLUMNS; c++)
    if (row[c][0] == '\0') strcpy(row[c], "-");
  memcpy(added, row, sizeof row);
  return EXIT_OK;
}

static json_t *case_json(const session *on, const char *path, const char *name, const job *j,
                         const verdict *v) {
  json_t *outputs = json_object();
  for (int i = 0; i < v->count; i++) {
    const comparison *c = &v->outputs[i];
    json_object_set_new(outputs, c->name,
                        json_pack("{s:o, s:o, s:o}", "espnet_error",
                                  c->espnet < 0 ? json_null() : json_of_double(c->espnet), "error",
                                  json_of_double(c->ours), "tolerance",
                                  json_of_double(c->tolerance)));
  }
  int ran = v->seconds > 0;
  const char *exact = v->count == 0 ? NULL : v->from_float64 ? "float64 CPU" : "file";
  return json_pack("{s:s, s:s, s:s?, s:s, s:s, s:s, s:s?, s:s?, s:o, s:o, s:o, s:s}", "case", name,
                   "path", path, "op", j->operation != NULL ? j->operation->name : NULL, "shape",
                   j->shape, "device", on->device, "backend", cumega_context_backend(on->ctx),
                   "dtype", ran ? values_dtype_name(j->dtype) : NULL, "exact", exact, "outputs",
                   outputs, "seconds", ran ? json_real(v->seconds) : json_null(),
                   "elements_per_second",
                   ran ? json_of_double((double)j->elements / v->seconds) : json_null(), "result",
                   result_text(v->code));
}

/* Adds its line to the table or the array, and returns its exit code. */
static int verify_case(const session *on, const char *path, cumega_ema_algorithm algorithm,
                       table *t, json_t *array) {
  case_file file;
  job j = {0};
  verdict v = {0};
  v.code = case_open(on->host, path, 1, &file);
  if (v.code == EXIT_OK) v.code = job_begin(&j, on->ctx, on->place, &file, algorithm);
  if (v.code == EXIT_OK) v.code = verify_job(&j, &v);
  const char *name = file.name != NULL ? file.name : path;
  int code = EXIT_OK;
  if (array == NULL)
    code = add_row(t, on, name, &j, &v);
  else if (json_array_append_new(array, case_json(on, path, name, &j, &v)) != 0)
    code = fail(EXIT_INPUT, "%s: no JSON text: memory is short or the name is not UTF-8", path);
  job_end(&j);
  case_close(&file);
  return code != EXIT_OK ? code : v.code;
}

/* A wrong answer is the worst that can be found out, and nothing else may hide it. */
static int worst_of(const int *counts) {
  const int order[] = {EXIT_WRONG, EXIT_DEVICE, EXIT_INPUT, EXIT_NOTHING};
  for (size_t i = 0; i < sizeof order / sizeof *order; i++)
    if (counts[order[i]] > 0) return order[i];
  return EXIT_OK;
}

static int report(table *t, json_t *array, const int *counts) {
  int code = worst_of(counts), refused = counts[EXIT_INPUT] + counts[EXIT_DEVICE];
  const char *result = code == EXIT_OK ? "PASS" : "FAIL";
  if (array != NULL) {
    int printed =
        print_json(json_pack("{s:O, s:i, s:i, s:i, s:i, s:s}", "cases", array, "ok",
                             counts[EXIT_OK], "too_large", counts[EXIT_WRONG], "nothing_to_compare",
                             counts[EXIT_NOTHING], "not_verified", refused, "result", result));
    return code != EXIT_OK ? code : printed;
  }
  puts("errors: max |out - exact| / max |exact|, in units of 2^-24");
  table_print(t);
  printf("%s: %d ok", result, counts[EXIT_OK]);
  if (counts[EXIT_WRONG] > 0) printf(", %d with an error too large", counts[EXIT_WRONG]);
  if (counts[EXIT_NOTHING] > 0) printf(", %d with nothing to compare", counts[EXIT_NOTHING]);
  if (refused > 0) printf(", %d not verified", refused);
  putchar('\n');
  return code;
}

static int verify_cases(const options *given) {
  const table_row heading = {"case", "operation", "shape", "device",     "dtype", "ESPnet",
                             "ours", "tolerance", "time",  "elements/s", "result"};
  int counts[EXIT_DEVICE + 1] = {0};
  session on;
  table t = {0};
  json_t *array = given->json ? json_array() : NULL;
  int code = session_open(given, &on);
  table_row *first = code == EXIT_OK ? table_add(&t) : NULL;
  if (code == EXIT_OK && (first == NULL || (given->json && array == NULL)))
    code = fail(EXIT_DEVICE, "no memory for the table");
  if (code != EXIT_OK) goto done;
  memcpy(first, heading, sizeof heading);
  for (int i = 0; i < given->argument_count; i++) {
    progress_set("case %d of %d: %s", i + 1, given->argument_count, given->arguments[i]);
    counts[verify_case(&on, given->arguments[i], given->algorithm, &t, array)]++;
  }
  progress_end();
  code = report(&t, array, counts);
done:
  json_decref(array);
  table_free(&t);
  session_close(&on);
  return code;
}

int command_verify(int argc, char **argv) {
  options given;
  int code = options_parse(argc, argv, OPTIONS_DEVICE | OPTIONS_ALGORITHM, &given);
  if (code != EXIT_OK) return code;
  if (given.argument_count == 0)
    return fail(EXIT_INPUT, "verify needs a case to verify (cumega verify --help)");
  progress_begin();
  code = verify_cases(&given);
  progress_end();
  return code;
}
