/* Position biases and the attention scores that meet them, made to be measured. */
#include <string.h>
#include "bench.h"
#include "case_position_bias.h"
#include "failure.h"

/* Relative: (2 K - 1) weights for K positions. */
static int add_weights(const bench_settings *set, int64_t positions, DLDataType dtype,
                       case_file *file) {
  const int64_t shape[] = {2 * positions - 1};
  DLTensor *weights;
  (void)set;
  int code = bench_case_add(file, "parameters.relative_position_bias", dtype, 1, shape, &weights);
  if (code == EXIT_OK) bench_fill(weights, 1);
  return code;
}

static int make_relative(const bench_settings *set, cumega_context *host, case_file *file) {
  const int64_t L = set->shape[0];
  (void)host;
  int code = bench_case_begin(
      set->what, json_pack("{s:I, s:I}", "max_positions", (json_int_t)L, "length", (json_int_t)L),
      file);
  return code == EXIT_OK ? add_weights(set, L, set->dtype, file) : code;
}

static int make_rotary(const bench_settings *set, cumega_context *host, case_file *file) {
  const int64_t L = set->shape[0], size = set->shape[1] * 2, shape[] = {1, size};
  DLTensor *alpha, *beta;
  (void)host;
  int code = bench_case_begin(
      set->what, json_pack("{s:I, s:I}", "size", (json_int_t)size, "length", (json_int_t)L), file);
  if (code == EXIT_OK)
    code = bench_case_add(file, "parameters.alpha", set->dtype, 2, shape, &alpha);
  if (code == EXIT_OK) code = bench_case_add(file, "parameters.beta", set->dtype, 2, shape, &beta);
  if (code != EXIT_OK) return code;
  bench_fill(alpha, 1);
  bench_fill(beta, 2);
  return EXIT_OK;
}

/* Every query sees every key. */
static int make_softmax(const bench_settings *set, cumega_context *host, case_file *file) {
  const int64_t keys = set->shape[3];
  DLTensor *scores;
  (void)host;
  int code = bench_case_begin(set->what,
                              json_pack("{s:s, s:I, s:b}", "bias", "relative", "max_positions",
                                        (json_int_t)keys, "causal", 0),
                              file);
  if (code == EXIT_OK) code = add_weights(set, keys, cumega_float32, file);
  if (code == EXIT_OK)
    code = bench_case_add(file, "inputs.scores", set->dtype, 4, set->shape, &scores);
  if (code == EXIT_OK) bench_fill(scores, 2);
  return code;
}

static const char *const relative_sweep[] = {"shape=128",      "shape=512", "shape=4096",
                                             "dtype=bfloat16", "threads=2", NULL};
static const char *const rotary_sweep[] = {"shape=128,64",   "shape=512,64", "shape=2048,256",
                                           "dtype=bfloat16", "threads=2",    NULL};
static const char *const softmax_sweep[] = {"shape=8,4,1,2048",
                                            "shape=8,4,128,128",
                                            "shape=1,4,2048,2048",
                                            "shape=1,1,256,16384",
                                            "shape=1,1,64,131072",
                                            "dtype=bfloat16",
                                            "dtype=float16",
                                            "dtype=float64",
                                            "cache=flushed",
                                            "threads=2",
                                            NULL};

const benchmark bench_relative_position_bias = {.operation = "relative_position_bias",
                                                .letters = "L",
                                                .shape = {2048},
                                                .make = make_relative,
                                                .sweep = relative_sweep};

const benchmark bench_rotary_position_bias = {.operation = "rotary_position_bias",
                                              .letters = "L,S/2",
                                              .shape = {2048, 64},
                                              .make = make_rotary,
                                              .sweep = rotary_sweep};

const benchmark bench_attention_softmax = {.operation = "attention_softmax",
                                           .letters = "B,H,Q,K",
                                           .shape = {8, 4, 512, 512},
                                           .make = make_softmax,
                                           .run = attention_softmax_run_weights,
                                           .left_out = "outputs.scores",
                                           .sweep = softmax_sweep};
