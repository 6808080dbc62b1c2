/* cumega verify: runs cases and compares the outputs with their exact answers.
 *
 * An error is max |out - exact| / max |exact|. If a file has no exact.* at all, the exact answers
 * come from the same case in float64, run on the CPU at the plain level. */
#include <stdio.h>
#include <string.h>
#include "commands.h"
#include "compare.h"
#include "failure.h"
#include "progress.h"
#include "session.h"
#include "table.h"
#include "values.h"

#define UNIT           0x1p-24
#define TIMING_SECONDS 0.05

static int verify_job(job *j, verdict *v) {
  int code = job_run(j, TIMING_SECONDS, &v->seconds);
  if (code == EXIT_OK) code = compare_with_answers(j, v);
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
  for (int c = 0; c <= RESULT; c++)
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

/* Verifies a case, adds its line to the table or the array, and returns its exit code. */
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

static int report(table *t, json_t *array, const int *counts) {
  int code = EXIT_OK, refused = counts[EXIT_INPUT] + counts[EXIT_DEVICE];
  for (int c = 0; c <= EXIT_DEVICE; c++)
    if (counts[c] > 0) code = worse_code(code, c);
  const char *result = code == EXIT_OK ? "PASS" : "FAIL";
  if (array != NULL) {
    int printed = print_json(json_pack("{s:O, s:i, s:i, s:i, s:i, s:s}", "cases", array, "ok",
                                       counts[EXIT_OK], "too_large", counts[EXIT_WRONG],
                                       "nothing_to_compare", counts[EXIT_NOTHING], "not_verified",
                                       refused, "result", result));
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
