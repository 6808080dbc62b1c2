/* Every fallible call in every public function fails in turn (emulated_faults.h says how, and
 * what must hold afterwards). A new operation adds its calls to an emulated_faults_<noun>.c, and
 * its runs to the shapes of emulated_run.c. */
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include "emulated_faults.h"
#include "runner.h"

/* ---- the runs of all shapes ---- */

static cumega_status run(world *w) {
  return emulated_run_start(w->ctx, &w->objects, w->run);
}

/* After a failure the output is written completely or not at all. */
static int written_or_not(world *w, cumega_status status) {
  if (cudaDeviceSynchronize() != cudaSuccess) return 0;
  if (status == CUMEGA_OK) return emulated_run_is_right(w->run);
  return w->run->shape->steps_show || emulated_run_is_right(w->run) ||
         emulated_run_is_clear(w->run);
}

/* Captures the run; ends the capture whatever happened, and replays it if it is complete. */
static cumega_status run_in_capture(world *w) {
  cudaGraph_t graph = NULL;
  cudaGraphExec_t ready = NULL;
  cumega_status status = cumega_context_set_stream(w->ctx, w->stream);
  if (status != CUMEGA_OK) return status;
  if (cudaStreamBeginCapture(w->stream, cudaStreamCaptureModeThreadLocal) == cudaSuccess)
    status = run(w);
  const cudaError_t ended = cudaStreamEndCapture(w->stream, &graph);
  if (ended == cudaSuccess && status == CUMEGA_OK &&
      cudaGraphInstantiate(&ready, graph, 0) == cudaSuccess)
    (void)cudaGraphLaunch(ready, w->stream);
  (void)cudaStreamSynchronize(w->stream);
  if (ready != NULL) (void)cudaGraphExecDestroy(ready);
  if (graph != NULL) (void)cudaGraphDestroy(graph);
  return status;
}

static int64_t inject_runs(int64_t *failures) {
  int64_t injections = 0;
  for (int i = 0; i < run_shape_count; i++) {
    const run_shape *shape = &run_shapes[i];
    char prepared[80], captured[80];
    const char *name = shape->operation->function(shape);
    snprintf(prepared, sizeof prepared, "%s, prepared", name);
    snprintf(captured, sizeof captured, "%s, captured", name);
    const scenario runs[] = {
        {name, shape->name, OBJECTS, run, written_or_not, NULL},
        {prepared, shape->name, OBJECTS | IS_PREPARED, run, written_or_not, NULL},
        {captured, shape->name, OBJECTS | IS_PREPARED | CALLS_CUDA, run_in_capture, NULL, NULL}};
    injections += faults_inject(runs, 3, failures);
  }
  return injections;
}

static const struct {
  const scenario *scenarios;
  const int *count;
} tables[] = {{context_scenarios, &context_scenario_count},
              {ema_scenarios, &ema_scenario_count},
              {position_scenarios, &position_scenario_count},
              {residual_scenarios, &residual_scenario_count}};
#define TABLES (int)(sizeof tables / sizeof tables[0])

/* Once with work that runs only when the host waits for it, once with work that runs at any
 * moment. */
START_TEST(every_call_of_every_function_may_fail) {
  int64_t failures = 0, injections = 0;
  for (int seed = 0; seed < 2; seed++) {
    emulation_set_schedule(seed == 0 ? EMULATION_FIXED : EMULATION_RANDOM, (uint64_t)seed);
    for (int i = 0; i < TABLES; i++)
      injections += faults_inject(tables[i].scenarios, *tables[i].count, &failures);
    injections += inject_runs(&failures);
  }
  printf("%" PRId64 " injections, of which %" PRId64 " made the call fail\n", injections,
         failures);
  if (getenv("CUMEGA_TEST_SCENARIO") != NULL) return;
  ck_assert_int_ge(injections, 10000);
  ck_assert_int_ge(failures, 5000);
}
END_TEST

/* ---- whether a function is missing ---- */

/* Functions that make no calls that could fail; "*" stands for the beginning of any name. */
static const char *const infallible[] = {
    "*_name", /* the text of a table's value, or the value with that text */
    "*_init", /* fills a struct of the caller's */
    "cumega_status_string",
    "cumega_version_number",
    "cumega_version_string",
    "cumega_context_backend", /* returns a member of its argument */
    "cumega_context_kernels",
    "cumega_context_message",
    "cumega_weights_at",
    "cumega_weights_count",
    "cumega_weights_find",
    "cumega_weights_metadata",
    "cumega_weights_metadata_at",
    "cumega_weights_close", /* frees on the host; called after every scenario that opens a file */
    "cumega_tensor_permute",
};
#define INFALLIBLE (int)(sizeof infallible / sizeof infallible[0])

static int is_named(const char *function, const char *name) {
  const size_t length = strlen(function), ending = strlen(name + 1);
  if (name[0] != '*') return strcmp(function, name) == 0;
  return length > ending && strcmp(function + length - ending, name + 1) == 0;
}

/* The scenario's name is the function's, or begins with it and a comma. */
static int has_scenario(const char *function) {
  const size_t length = strlen(function);
  for (int i = 0; i < TABLES; i++)
    for (int j = 0; j < *tables[i].count; j++) {
      const char *name = tables[i].scenarios[j].name;
      if (strncmp(name, function, length) == 0 && (name[length] == '\0' || name[length] == ','))
        return 1;
    }
  for (int i = 0; i < run_shape_count; i++)
    if (strcmp(run_shapes[i].operation->function(&run_shapes[i]), function) == 0) return 1;
  return 0;
}

/* The functions that a header declares: the name before the first parenthesis after CUMEGA_API.
 * Returns their number. */
static int check_header(const char *path, int *seen) {
  char *text = memory_new(100000);
  FILE *file = fopen(path, "r");
  int count = 0;
  ck_assert_msg(file != NULL && fread(text, 1, 99999, file) > 0, "%s", path);
  fclose(file);
  for (char *at = strstr(text, "CUMEGA_API"); at != NULL; at = strstr(at, "CUMEGA_API")) {
    char *end = strchr(at, '('), *begin = end;
    at++;
    if (end == NULL) break;
    while (begin[-1] == '_' || (begin[-1] >= 'a' && begin[-1] <= 'z')) begin--;
    if (strncmp(begin, "cumega_", 7) != 0 || strchr(at, ';') < end) continue;
    *end = '\0';
    int i = 0;
    while (i < INFALLIBLE && !is_named(begin, infallible[i])) i++;
    if (i < INFALLIBLE) seen[i] = 1;
    ck_assert_msg(i < INFALLIBLE || has_scenario(begin), "%s: no scenario makes %s fail", path,
                  begin);
    at = end + 1;
    count++;
  }
  free(text);
  return count;
}

START_TEST(every_function_has_a_scenario_or_cannot_fail) {
  glob_t headers;
  int count = 0, seen[INFALLIBLE] = {0};
  ck_assert_int_eq(glob(SOURCE_DIR "/include/cumega/*.h", 0, NULL, &headers), 0);
  for (size_t i = 0; i < headers.gl_pathc; i++) count += check_header(headers.gl_pathv[i], seen);
  globfree(&headers);
  ck_assert_int_ge(count, 100);
  for (int i = 0; i < INFALLIBLE; i++)
    ck_assert_msg(seen[i], "no header declares %s", infallible[i]);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("emulated_faults");
  TCase *tests = add_case(suite, "faults", 600);
  tcase_add_unchecked_fixture(tests, emulation_reset, faults_end);
  tcase_add_test(tests, every_function_has_a_scenario_or_cannot_fail);
  tcase_add_test(tests, every_call_of_every_function_may_fail);
  int code = run_suite(suite);
  emulation_reset();
  return code;
}
