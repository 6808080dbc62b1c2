/* Position biases and the attention scores that meet them, made to be measured. */
#include <string.h>
#include "bench.h"
#include "case_position_bias.h"
#include "failure.h"
#include "values.h"

#define ROTARY_SIZE 128 /* of the bias that scores meet */

/* Relative: (2 K - 1) weights for K positions. */
static int add_weights(int64_t positions, DLDataType dtype, case_file *file) {
  const int64_t shape[] = {2 * positions - 1};
  DLTensor *weights;
  int code = bench_case_add(file, "parameters.relative_position_bias", dtype, 1, shape, &weights);
  if (code == EXIT_OK) bench_fill(weights, 1);
  return code;
}

static int add_vectors(int64_t size, DLDataType dtype, case_file *file) {
  const int64_t shape[] = {1, size};
  DLTensor *alpha, *beta;
  int code = bench_case_add(file, "parameters.alpha", dtype, 2, shape, &alpha);
  if (code == EXIT_OK) code = bench_case_add(file, "parameters.beta", dtype, 2, shape, &beta);
  if (code != EXIT_OK) return code;
  bench_fill(alpha, 1);
  bench_fill(beta, 2);
  for (int64_t i = 0; i < size;
       i++) { /* a bias of some units: an exponential multiplies its error */
    values_put(alpha, i, values_at(alpha, i) / 16);
    values_put(beta, i, values_at(beta, i) / 16);
  }
  return EXIT_OK;
}

static int make_relative(const bench_settings *set, cumega_context *host, case_file *file) {
  const int64_t L = set->shape[0];
  (void)host;
  int code = bench_case_begin(
      set->what, json_pack("{s:I, s:I}", "max_positions", (json_int_t)L, "length", (json_int_t)L),
      file);
  return code == EXIT_OK ? add_weights(L, set->dtype, file) : code;
}

static int make_rotary(const bench_settings *set, cumega_context *host, case_file *file) {
  const int64_t L = set->shape[0], size = set->shape[1] * 2;
  (void)host;
  int code = bench_case_begin(
      set->what, json_pack("{s:I, s:I}", "size", (json_int_t)size, "length", (json_int_t)L), file);
  return code == EXIT_OK ? add_vectors(size, set->dtype, file) : code;
}

/* With a table that is kept it is made before the clock runs. */
static cumega_status run_rotary(const bench_settings *set, job *j) {
  if (strcmp(set->table, "kept") == 0) return position_bias_run_forward(j);
  cumega_context_options wanted = cumega_context_options_default();
  cumega_context *kept = j->ctx, *fresh = NULL;
  wanted.threads = set->threads;
  cumega_status status = session_create_context(set->level, &wanted, &fresh);
  if (status == CUMEGA_OK) {
    j->ctx = fresh;
    status = position_bias_run_forward(j);
    j->ctx = kept;
  }
  cumega_context_destroy(fresh);
  return status;
}

/* Every query sees every key, or those that are not behind it. */
static int make_softmax(const bench_settings *set, cumega_context *host, case_file *file) {
  const int64_t keys = set->shape[3];
  DLTensor *scores;
  (void)host;
  json_t *config =
      json_pack("{s:s, s:b}", "bias", set->bias, "causal", strcmp(set->mask, "causal") == 0);
  int code = bench_case_begin(set->what, config, file);
  int rotary = strcmp(set->bias, "rotary") == 0, none = strcmp(set->bias, "none") == 0;
  if (code == EXIT_OK && !none)
    json_object_set_new(config, "max_positions", json_integer((json_int_t)keys));
  if (code == EXIT_OK && rotary) json_object_set_new(config, "size", json_integer(ROTARY_SIZE));
  if (code == EXIT_OK && rotary) code = add_vectors(ROTARY_SIZE, cumega_float32, file);
  if (code == EXIT_OK && !rotary && !none) code = add_weights(keys, cumega_float32, file);
  if (code == EXIT_OK)
    code = bench_case_add(file, "inputs.scores", set->dtype, 4, set->shape, &scores);
  if (code == EXIT_OK) bench_fill(scores, 2);
  return code;
}

static cumega_status run_softmax(const bench_settings *set, job *j) {
  return strcmp(set->result, "scores") == 0 ? attention_softmax_run_scores(j)
                                            : attention_softmax_run_weights(j);
}

static const char *left_out_of_softmax(const bench_settings *set) {
  return strcmp(set->result, "scores") == 0 ? "outputs.weights" : "outputs.scores";
}

static const char *const relative_sweep[] = {"shape=128",      "shape=512", "shape=4096",
                                             "dtype=bfloat16", "threads=2", NULL};
static const char *const rotary_sweep[] = {"shape=128,64",
                                           "shape=512,64",
                                           "shape=2048,256",
                                           "dtype=bfloat16",
                                           "threads=2",
                                           "table=anew",
                                           NULL};
static const char *const softmax_sweep[] = {
    "shape=8,4,1,2048",    "shape=8,4,128,128", "shape=1,4,2048,2048", "shape=1,1,256,16384",
    "shape=1,1,64,131072", "dtype=bfloat16",    "dtype=float16",       "dtype=float64",
    "bias=none",           "bias=rotary",       "mask=causal",         "bias=none mask=causal",
    "result=scores",       "cache=flushed",     "threads=2",           NULL};

const benchmark bench_relative_position_bias = {.operation = "relative_position_bias",
                                                .letters = "L",
                                                .shape = {2048},
                                                .make = make_relative,
                                                .sweep = relative_sweep};

const benchmark bench_rotary_position_bias = {.operation = "rotary_position_bias",
                                              .letters = "L,S/2",
                                              .shape = {2048, 64},
                                              .takes = BENCH_TAKES(BENCH_TABLE),
                                              .make = make_rotary,
                                              .run = run_rotary,
                                              .sweep = rotary_sweep};

const benchmark bench_attention_softmax = {
    .operation = "attention_softmax",
    .letters = "B,H,Q,K",
    .shape = {8, 4, 512, 512},
    .make = make_softmax,
    .takes = BENCH_TAKES(BENCH_BIAS) | BENCH_TAKES(BENCH_MASK) | BENCH_TAKES(BENCH_RESULT),
    .run = run_softmax,
    .left_out = left_out_of_softmax,
    .sweep = softmax_sweep};
