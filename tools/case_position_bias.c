#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <cumega/position_bias.h>
#include "case_position_bias.h"
#include "failure.h"
#include "setting.h"
#include "values.h"

#define DEFAULT_MAX_POSITIONS 2048 /* ESPnet's */
#define KINDS                 "\"relative\", \"rotary\" or \"none\""

typedef struct bias_call {
  cumega_position_bias *bias; /* NULL: none */
  DLTensor *matrix;           /* forward's output */
  cumega_position_bias_io io; /* of softmax and apply, without output */
  DLTensor *weights, *scores;
} bias_call;

static int new_call(job *j, bias_call **made) {
  *made = j->object = calloc(1, sizeof **made);
  return *made != NULL ? EXIT_OK : fail(EXIT_DEVICE, "%s: no memory", j->file->path);
}

static int make_relative(job *j, const settings *from, bias_call *call) {
  int64_t max_positions = 0;
  DLTensor *weight;
  int code = settings_need(from, "max_positions", "an integer");
  if (code == EXIT_OK) code = settings_integer(from, "max_positions", &max_positions);
  if (code == EXIT_OK) code = case_need(j->file, "parameters", "relative_position_bias", &weight);
  if (code != EXIT_OK) return code;
  j->dtype = weight->dtype;
  return job_check(
      j, cumega_position_bias_create_relative(j->ctx, max_positions, weight, &call->bias));
}

static int make_rotary(job *j, const settings *from, bias_call *call) {
  int64_t size = 0, max_positions = DEFAULT_MAX_POSITIONS;
  DLTensor *alpha, *beta;
  int code = settings_need(from, "size", "an even integer");
  if (code == EXIT_OK) code = settings_integer(from, "size", &size);
  if (code == EXIT_OK) code = settings_integer(from, "max_positions", &max_positions);
  if (code == EXIT_OK) code = case_need(j->file, "parameters", "alpha", &alpha);
  if (code == EXIT_OK) code = case_need(j->file, "parameters", "beta", &beta);
  if (code != EXIT_OK) return code;
  j->dtype = alpha->dtype;
  return job_check(
      j, cumega_position_bias_create_rotary(j->ctx, size, max_positions, alpha, beta, &call->bias));
}

/* The bias of j->dtype, (length, length). */
static int make_matrix(job *j, const settings *from, bias_call *call) {
  int64_t length = -1;
  int code = settings_need(from, "length", "an integer >= 0");
  if (code == EXIT_OK) code = settings_integer(from, "length", &length);
  if (code == EXIT_OK && length < 0) code = settings_refuse(from, "length", "an integer >= 0");
  const int64_t shape[] = {length, length};
  if (code == EXIT_OK) code = job_add_output(j, "outputs.bias", j->dtype, 2, shape, &call->matrix);
  if (code != EXIT_OK) return code;
  j->elements = values_count(call->matrix);
  snprintf(j->shape, sizeof j->shape, "bias(%" PRId64 ", %" PRId64 ")", length, length);
  return job_stage(j, &call->matrix);
}

int relative_position_bias_prepare(job *j) {
  static const char *const known[] = {"max_positions", "length", NULL};
  const settings from = {j->file, j->file->config, ""};
  bias_call *call;
  int code = new_call(j, &call);
  if (code == EXIT_OK) code = settings_known(&from, known);
  if (code == EXIT_OK) code = make_relative(j, &from, call);
  return code == EXIT_OK ? make_matrix(j, &from, call) : code;
}

int rotary_position_bias_prepare(job *j) {
  static const char *const known[] = {"size", "max_positions", "length", NULL};
  const settings from = {j->file, j->file->config, ""};
  bias_call *call;
  int code = new_call(j, &call);
  if (code == EXIT_OK) code = settings_known(&from, known);
  if (code == EXIT_OK) code = make_rotary(j, &from, call);
  return code == EXIT_OK ? make_matrix(j, &from, call) : code;
}

cumega_status position_bias_run_forward(job *j) {
  bias_call *call = j->object;
  return cumega_position_bias_forward(j->ctx, call->bias, call->matrix);
}

/* The bias that the settings name, and what else they say. */
static int read_attention(job *j, bias_call *call) {
  static const char *const known[] = {"bias", "max_positions", "size", "scale", "causal", NULL};
  const settings from = {j->file, j->file->config, ""};
  const char *kind = "";
  int code = settings_known(&from, known);
  call->io = cumega_position_bias_io_default();
  if (code == EXIT_OK) code = settings_need(&from, "bias", KINDS);
  if (code == EXIT_OK) code = settings_string(&from, "bias", &kind);
  if (code == EXIT_OK) code = settings_number(&from, "scale", &call->io.scale);
  if (code == EXIT_OK) code = settings_boolean(&from, "causal", &call->io.causal);
  if (code != EXIT_OK) return code;
  if (strcmp(kind, "relative") == 0) return make_relative(j, &from, call);
  if (strcmp(kind, "rotary") == 0) return make_rotary(j, &from, call);
  if (strcmp(kind, "none") == 0) return EXIT_OK;
  return settings_refuse(&from, "bias", KINDS);
}

static int stage_attention(job *j, bias_call *call) {
  cumega_position_bias_io *io = &call->io;
  const DLTensor **inputs[] = {&io->scores, &io->attention_mask, &io->key_padding_mask,
                               &io->query_lengths, &io->key_lengths};
  int code = EXIT_OK;
  for (size_t i = 0; code == EXIT_OK && i < sizeof inputs / sizeof *inputs; i++) {
    DLTensor *tensor = (DLTensor *)(uintptr_t)*inputs[i];
    code = job_stage(j, &tensor);
    *inputs[i] = tensor;
  }
  if (code == EXIT_OK) code = job_stage(j, &call->weights);
  if (code == EXIT_OK) code = job_stage(j, &call->scores);
  return code;
}

int attention_softmax_prepare(job *j) {
  const case_dimension expected[] = {{-1, "B"}, {-1, "H"}, {-1, "Lq"}, {-1, "Lk"}};
  bias_call *call;
  DLTensor *scores;
  char shape[64];
  int code = new_call(j, &call);
  if (code == EXIT_OK) code = read_attention(j, call);
  if (code == EXIT_OK) code = case_need(j->file, "inputs", "scores", &scores);
  if (code == EXIT_OK) code = case_expect_shape(j->file, "inputs.scores", scores, 4, expected);
  if (code != EXIT_OK) return code;
  call->io.scores = scores;
  call->io.attention_mask = case_find(j->file, "inputs", "attention_mask");
  call->io.key_padding_mask = case_find(j->file, "inputs", "key_padding_mask");
  call->io.query_lengths = case_find(j->file, "inputs", "query_lengths");
  call->io.key_lengths = case_find(j->file, "inputs", "key_lengths");
  j->dtype = scores->dtype;
  j->elements = values_count(scores);
  snprintf(j->shape, sizeof j->shape, "scores%s", values_shape_text(scores, shape, sizeof shape));
  code = job_add_output(j, "outputs.weights", j->dtype, 4, scores->shape, &call->weights);
  if (code == EXIT_OK)
    code = job_add_output(j, "outputs.scores", j->dtype, 4, scores->shape, &call->scores);
  return code == EXIT_OK ? stage_attention(j, call) : code;
}

cumega_status attention_softmax_run_scores(job *j) {
  bias_call *call = j->object;
  cumega_position_bias_io io = call->io;
  io.output = call->scores;
  return cumega_position_bias_apply(j->ctx, call->bias, &io);
}

cumega_status attention_softmax_run(job *j) {
  cumega_status status = attention_softmax_run_scores(j);
  return status == CUMEGA_OK ? attention_softmax_run_weights(j) : status;
}

cumega_status attention_softmax_run_weights(job *j) {
  bias_call *call = j->object;
  cumega_position_bias_io io = call->io;
  io.output = call->weights;
  return cumega_position_bias_softmax(j->ctx, call->bias, &io);
}

void position_bias_release(job *j) {
  bias_call *call = j->object;
  if (call != NULL) cumega_position_bias_destroy(call->bias);
  free(call);
}
