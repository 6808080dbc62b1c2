/* Position biases as matrices, and attention scores with a position bias. */
#include <cumega/attention.h>
#include <string.h>
#include "bench.h"
#include "failure.h"
#include "reference/position_bias.h"
#include "values.h"

typedef struct bias_call {
  cumega_position_bias *bias; /* NULL: none */
  int64_t max_positions, size, length;
  int kind;                      /* one of those of word_of_bias */
  cumega_attention_scores_io io; /* for softmax and apply, without output */
  DLTensor *matrix;              /* forward's output */
  DLTensor *weights, *scores;
} bias_call;

#define AT(member) .offset = offsetof(bias_call, member)
#define IO(member) offsetof(bias_call, io.member)
#define LENGTH                                                                                    \
  {                                                                                               \
    "length", SETTING_INTEGER, AT(length), .flags = SETTING_NEEDED | SETTING_FROM_ZERO,           \
                                           .bench = "=L"                                          \
  }

static const setting relative_settings[] = {
    {"max_positions", SETTING_INTEGER, AT(max_positions), .flags = SETTING_NEEDED, .bench = "=L"},
    LENGTH,
    {.name = NULL}};
static const setting rotary_settings[] = {
    {"size", SETTING_INTEGER, AT(size), .flags = SETTING_NEEDED, .bench = "="},
    {"max_positions", SETTING_INTEGER, AT(max_positions)},
    LENGTH,
    {.name = NULL}};
static const setting softmax_settings[] = {
    {"bias", SETTING_WORD, AT(kind), .flags = SETTING_NEEDED, .word = word_of_bias,
     .bench = "relative"},
    {"max_positions", SETTING_INTEGER, AT(max_positions), .bench = "=K"},
    {"size", SETTING_INTEGER, AT(size), .bench = "128"},
    {"scale", SETTING_NUMBER, AT(io.scale)},
    {"causal", SETTING_BOOLEAN, AT(io.causal), .bench = "false"},
    {.name = NULL}};

static const operation_input softmax_inputs[] = {{"scores", IO(scores), 1},
                                                 {"attention_mask", IO(attention_mask), 0},
                                                 {"key_padding_mask", IO(key_padding_mask), 0},
                                                 {"query_lengths", IO(query_lengths), 0},
                                                 {"key_lengths", IO(key_lengths), 0},
                                                 {.name = NULL}};

/* ---- running a case ---- */

static void set_defaults(void *object) {
  bias_call *call = object;
  cumega_attention_scores_io_init(&call->io, sizeof call->io);
  call->max_positions = 2048; /* ESPnet's, for a rotary bias */
}

static void set_rotary_defaults(void *object) {
  set_defaults(object);
  ((bias_call *)object)->kind = CUMEGA_POSITION_BIAS_ROTARY;
}

/* Makes the bias with the type for the scores, or without scores, with the type of the
 * parameters. */
static int make_bias(job *j) {
  bias_call *call = j->object;
  cumega_position_bias_parameters p = {.struct_size = sizeof p};
  cumega_position_bias_config config;
  int code = EXIT_OK;
  cumega_position_bias_config_init(&config, sizeof config, call->max_positions);
  switch (call->kind) {
  case CUMEGA_POSITION_BIAS_RELATIVE:
    code = case_need(j->file, "parameters", "relative_position_bias", &p.relative_position_bias);
    break;
  case CUMEGA_POSITION_BIAS_ROTARY:
    code = case_need(j->file, "parameters", "alpha", &p.alpha);
    if (code == EXIT_OK) code = case_need(j->file, "parameters", "beta", &p.beta);
    break;
  case BIAS_NONE: return EXIT_OK;
  default: return fail(EXIT_INPUT, "%s: there is no such bias", j->file->path);
  }
  if (code != EXIT_OK) return code;
  config.kind = (cumega_position_bias_kind)call->kind;
  config.size = call->size;
  j->dtype = (p.alpha != NULL ? p.alpha : p.relative_position_bias)->dtype;
  config.dtype = values_real_dtype(call->io.scores != NULL ? call->io.scores->dtype : j->dtype);
  return job_check(j, cumega_position_bias_create(j->ctx, &config, &p, &call->bias));
}

/* The bias as a matrix (length, length), in the type of its parameters. */
static int prepare_matrix(job *j) {
  bias_call *call = j->object;
  const int64_t shape[] = {call->length, call->length};
  int code = make_bias(j);
  if (code == EXIT_OK) code = job_add_output(j, "outputs.bias", j->dtype, 2, shape, &call->matrix);
  if (code == EXIT_OK) job_describe(j, "bias", call->matrix);
  return code;
}

static cumega_status run_forward(job *j) {
  bias_call *call = j->object;
  return cumega_position_bias_forward(j->ctx, call->bias, call->matrix);
}

static int prepare_softmax(job *j) {
  const case_dimension expected[] = {{-1, "B"}, {-1, "H"}, {-1, "Lq"}, {-1, "Lk"}};
  bias_call *call = j->object;
  const DLTensor *scores = call->io.scores;
  int code = make_bias(j);
  call->io.bias = call->bias;
  if (code == EXIT_OK) code = case_expect_shape(j->file, "inputs.scores", scores, 4, expected);
  if (code != EXIT_OK) return code;
  job_describe(j, "scores", scores);
  code = job_add_output(j, "outputs.weights", j->dtype, 4, scores->shape, &call->weights);
  if (code != EXIT_OK) return code;
  return job_add_output(j, "outputs.scores", j->dtype, 4, scores->shape, &call->scores);
}

static cumega_status run_scores(job *j) {
  bias_call *call = j->object;
  cumega_attention_scores_io io = call->io;
  io.output = call->scores;
  return cumega_attention_scores(j->ctx, &io);
}

static cumega_status run_weights(job *j) {
  bias_call *call = j->object;
  cumega_attention_scores_io io = call->io;
  io.output = call->weights;
  return cumega_attention_softmax(j->ctx, &io);
}

static cumega_status run_softmax(job *j) {
  cumega_status status = run_scores(j);
  return status == CUMEGA_OK ? run_weights(j) : status;
}

static void release(void *object) {
  cumega_position_bias_destroy(((bias_call *)object)->bias);
}

/* ---- measuring one ---- */

/* Whether a rotary bias's table is made before the timing, or anew in every call. */
static const setting rotary_ways[] = {
    {"table", SETTING_WORD, .flags = SETTING_ON_CPU, WORDS("kept", "anew"), .bench = "kept"},
    {.name = NULL}};
static const setting softmax_ways[] = {
    {"result", SETTING_WORD, WORDS("weights", "scores"), .bench = "weights"}, {.name = NULL}};

/* Relative: (2 K - 1) weights for K positions. */
static int add_weights(int64_t positions, DLDataType dtype, case_file *file) {
  const int64_t shape[] = {2 * positions - 1};
  DLTensor *weights;
  int code =
      bench_case_add(file, "parameters", "relative_position_bias", dtype, 1, shape, &weights);
  if (code == EXIT_OK) bench_fill(weights, 1);
  return code;
}

static int add_vectors(int64_t size, DLDataType dtype, case_file *file) {
  const int64_t shape[] = {1, size};
  DLTensor *alpha, *beta;
  int code = bench_case_add(file, "parameters", "alpha", dtype, 2, shape, &alpha);
  if (code == EXIT_OK) code = bench_case_add(file, "parameters", "beta", dtype, 2, shape, &beta);
  if (code != EXIT_OK) return code;
  bench_fill(alpha, 1);
  bench_fill(beta, 2);
  for (int64_t i = 0; i < size; i++) { /* small, since exp multiplies the bias's error */
    values_put(alpha, i, values_at(alpha, i) / 16);
    values_put(beta, i, values_at(beta, i) / 16);
  }
  return EXIT_OK;
}

static int bench_relative(const bench_row *row, cumega_context *host, case_file *file) {
  (void)host;
  return add_weights(row->shape[0], row->dtype, file);
}

static int bench_rotary(const bench_row *row, cumega_context *host, case_file *file) {
  const int64_t size = 2 * row->shape[1];
  (void)host;
  int code = bench_case_put(file, "size", json_integer(size));
  return code == EXIT_OK ? add_vectors(size, row->dtype, file) : code;
}

static cumega_status time_rotary(const bench_row *row, job *j) {
  if (strcmp(bench_value(row, "table"), "kept") == 0) return run_forward(j);
  cumega_context_options wanted;
  cumega_context *kept = j->ctx, *fresh = NULL;
  cumega_context_options_init(&wanted, sizeof wanted);
  wanted.threads = row->threads;
  cumega_status status = session_create_context(row->values[BENCH_LEVEL], &wanted, &fresh);
  if (status == CUMEGA_OK) {
    j->ctx = fresh;
    status = run_forward(j);
    j->ctx = kept;
  }
  cumega_context_destroy(fresh);
  return status;
}

static int bench_softmax(const bench_row *row, cumega_context *host, case_file *file) {
  const char *bias = bench_value(row, "bias");
  DLTensor *scores;
  int code = EXIT_OK;
  (void)host;
  if (strcmp(bias, word_of_bias(CUMEGA_POSITION_BIAS_ROTARY)) == 0)
    code =
        add_vectors(json_integer_value(setting_find(file->config, "size")), cumega_float32, file);
  else
    json_object_del(file->config, "size");
  if (strcmp(bias, word_of_bias(CUMEGA_POSITION_BIAS_RELATIVE)) == 0)
    code = add_weights(row->shape[3], cumega_float32, file);
  if (code == EXIT_OK)
    code = bench_case_add(file, "inputs", "scores", row->dtype, 4, row->shape, &scores);
  if (code == EXIT_OK) bench_fill(scores, 2);
  return code;
}

static int wants_scores(const bench_row *row) {
  return strcmp(bench_value(row, "result"), "scores") == 0;
}

static cumega_status time_softmax(const bench_row *row, job *j) {
  return wants_scores(row) ? run_scores(j) : run_weights(j);
}

static const char *left_out_of_softmax(const bench_row *row) {
  return wants_scores(row) ? "outputs.weights" : "outputs.scores";
}

/* ---- the check of its results ---- */

static const char *const parameters[] = {"relative_position_bias", "alpha", "beta", NULL};

static real bias_at(const bias_call *call, double *const *p, int64_t m, int64_t n) {
  if (p[0] != NULL) return reference_relative_bias(p[0], call->max_positions, m, n);
  return p[1] != NULL ? reference_rotary_bias(p[1], p[2], call->size, m, n) : 0;
}

static int exact_matrix(const job *j, double *const *p, int64_t m, real *const *exact) {
  const bias_call *call = j->object;
  for (int64_t n = 0; n < call->length; n++) exact[0][n] = bias_at(call, p, m, n);
  return EXIT_OK;
}

/* Row r of all (B, H, Q): the weights, and the s that they come from. */
static int exact_softmax(const job *j, double *const *p, int64_t r, real *const *exact) {
  const bias_call *call = j->object;
  const DLTensor *scores = case_find(j->file, "inputs", "scores");
  const int64_t Q = scores->shape[2], K = scores->shape[3], m = r % Q + K - Q;
  for (int64_t n = 0; n < K; n++) {
    const int hidden = call->io.causal && n > m;
    const real score = call->io.scale * (real)values_at(scores, r * K + n);
    exact[1][n] = hidden ? -(real)INFINITY : score + bias_at(call, p, m, n);
  }
  reference_softmax(K, exact[1], exact[0]);
  return EXIT_OK;
}

/* A rotary bias is a sum of 2 * size products. An error of u |s| in s is a relative error of u |s|
 * in a weight, and |s| is a few times the scale. */
static double roundings(const job *j) {
  const bias_call *call = j->object;
  return 8 * (2 + fabs(call->io.scale)) + 2 * (double)call->size;
}

#define BIAS                                                                                      \
  .object_bytes = sizeof(bias_call), .release = release, .bench.parameters = parameters,          \
  .bench.roundings = roundings, .bench.reference = "reference/position_bias.c"
#define MATRIX                                                                                    \
  BIAS, .outputs = "bias", .prepare = prepare_matrix, .run = run_forward, .bench.row_dims = 1,    \
        .bench.exact = exact_matrix

const operation op_relative_position_bias = {
    MATRIX,
    .name = "relative_position_bias",
    .set_defaults = set_defaults,
    .summary = "a relative position bias as an (L, L) matrix",
    .settings = relative_settings,
    .bench.dims = "L",
    .bench.shape = {2048},
    .bench.make = bench_relative,
    .bench.sweep = "shape=128; shape=512; shape=4096; dtype=bfloat16; threads=2"};

const operation op_rotary_position_bias = {
    MATRIX,
    .name = "rotary_position_bias",
    .summary = "a rotary position bias as an (L, L) matrix",
    .settings = rotary_settings,
    .set_defaults = set_rotary_defaults,
    .bench.dims = "L,P", /* P pairs: size / 2 */
    .bench.shape = {2048, 64},
    .bench.ways = rotary_ways,
    .bench.make = bench_rotary,
    .bench.run = time_rotary,
    .bench.sweep = "shape=128,64; shape=512,64; shape=2048,256; dtype=bfloat16; threads=2; "
                   "table=anew"};

const operation op_attention_softmax = {
    BIAS,
    .name = "attention_softmax",
    .set_defaults = set_defaults,
    .summary = "scale, position bias, masks and softmax of attention scores",
    .outputs = "weights, scores",
    .settings = softmax_settings,
    .inputs = softmax_inputs,
    .prepare = prepare_softmax,
    .run = run_softmax,
    .bench.dims = "B,H,Q,K",
    .bench.shape = {8, 4, 512, 512},
    .bench.ways = softmax_ways,
    .bench.make = bench_softmax,
    .bench.row_dims = 3,
    .bench.exact = exact_softmax,
    .bench.run = time_softmax,
    .bench.left_out = left_out_of_softmax,
    .bench.sweep =
        "shape=8,4,1,2048; shape=8,4,128,128; shape=1,4,2048,2048; shape=1,1,256,16384; "
        "shape=1,1,64,131072; dtype=bfloat16; dtype=float16; dtype=float64; bias=none; "
        "bias=rotary; causal=true; bias=none causal=true; result=scores; cache=flushed; "
        "threads=2"};
