/* Missing arguments. Without a context, every function reports it in the thread's message;
 * without its object, its io or a place for the answer, in the context's message. An object that
 * the call should make is NULL. The lists are sorted by object; a new function needs a line in
 * each of the three. If a profiler is attached (tests/nvtx/recorder.c), each of these calls is
 * one range with the function's name, and no range if CUMEGA_NVTX is 0. */
#include <stdio.h>
#include <string.h>
#include "defaults.h"
#include "harness.h"
#include "runner.h"

#define ARGUMENT CUMEGA_ERROR_ARGUMENT

static cumega_context *ctx;
static cumega_ema *ema;
static cumega_norm *norm;
static cumega_position_bias *bias;
static cumega_residual *residual;
static cumega_weights *weights;
static DLTensor *tensor; /* (3) */
static test_tensor *three;

static FILE *ranges; /* what the profiler wrote up to the last call; NULL: no profiler */
static int has_ranges;

static void begin(void) {
  cumega_ema_config e;
  cumega_ema_config_init(&e, sizeof e, 3);
  cumega_norm_config n;
  cumega_norm_config_init(&n, sizeof n, CUMEGA_NORM_LAYER, 3);
  cumega_residual_config r;
  cumega_residual_config_init(&r, sizeof r, CUMEGA_RESIDUAL_RESIDUAL, 1, 3);
  ctx = context_new();
  MUST(ctx, cumega_ema_create(ctx, &e, NULL, &ema));
  MUST(ctx, cumega_norm_create(ctx, &n, NULL, &norm));
  MUST(ctx, cumega_residual_create(ctx, &r, NULL, &residual));
  MUST(ctx, bias_relative(ctx, 4, NULL, &bias));
  MUST(ctx, cumega_weights_open(
                ctx, SOURCE_DIR "/tests/golden/rotary_position_bias-size8-length33.safetensors",
                &weights));
  three = tensor_new_1(cumega_float32, 3);
  tensor = dl(three);
  has_ranges = getenv("RECORDER_LOG") != NULL && getenv("CUMEGA_NVTX") == NULL;
  if (getenv("RECORDER_LOG") != NULL) ranges = fopen(getenv("RECORDER_LOG"), "r");
  if (ranges != NULL) fseek(ranges, 0, SEEK_END);
}

static void begin_without_ranges(void) {
  setenv("CUMEGA_NVTX", "0", 1);
  begin();
}

static void end(void) {
  unsetenv("CUMEGA_NVTX");
  if (ranges != NULL) fclose(ranges);
  ranges = NULL;
  tensor_free(three);
  cumega_weights_close(weights);
  cumega_position_bias_destroy(bias);
  cumega_residual_destroy(residual);
  cumega_norm_destroy(norm);
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
}

/* The call was the only range since the last one, and has ended; or there was no range. */
static void check_range(const char *call, int is_one) {
  char line[200], expected[200];
  if (ranges == NULL) return;
  clearerr(ranges);
  if (is_one) {
    snprintf(expected, sizeof expected, "push 1 %.*s ", (int)strcspn(call, "("), call);
    ck_assert_msg(fgets(line, sizeof line, ranges) != NULL, "no range of %s", call);
    ck_assert_msg(strncmp(line, expected, strlen(expected)) == 0, "%s: %s", call, line);
    ck_assert_msg(fgets(line, sizeof line, ranges) != NULL, "%s does not end", call);
    ck_assert_str_eq(line, "pop 1\n");
  }
  ck_assert_msg(fgets(line, sizeof line, ranges) == NULL, "%s: %s", call, line);
}

#define NO_CONTEXT(call)                                                                          \
  do {                                                                                            \
    (void)!cumega_context_create(NULL, NULL); /* another message of this thread */                \
    ck_assert_msg((call) == ARGUMENT, "%s", #call);                                               \
    ck_assert_str_eq(cumega_context_message(NULL), "ctx is NULL");                                \
    check_range(#call, 0);                                                                        \
  } while (0)

START_TEST(a_call_without_a_context_says_so) {
  cumega_ema_config ec;
  cumega_ema_config_init(&ec, sizeof ec, 3);
  cumega_norm_config nc;
  cumega_norm_config_init(&nc, sizeof nc, CUMEGA_NORM_LAYER, 3);
  cumega_residual_config rc;
  cumega_residual_config_init(&rc, sizeof rc, CUMEGA_RESIDUAL_RESIDUAL, 1, 3);
  cumega_position_bias_config pc = relative_config_of(4);
  cumega_ema_parameters ep = {.struct_size = sizeof ep};
  cumega_norm_parameters np = {.struct_size = sizeof np};
  cumega_residual_parameters rp = {.struct_size = sizeof rp};
  cumega_position_bias_parameters pp = {.struct_size = sizeof pp};
  cumega_ema_io ei = {.struct_size = sizeof ei};
  cumega_residual_io ri = {.struct_size = sizeof ri};
  cumega_residual_gated_io gi = {.struct_size = sizeof gi};
  cumega_attention_scores_io pi;
  cumega_attention_scores_io_init(&pi, sizeof pi);
  cumega_statistics statistics = {.struct_size = sizeof statistics};
  cumega_ema *e = ema;
  cumega_norm *n = norm;
  cumega_residual *r = residual;
  cumega_position_bias *p = bias;
  cumega_weights *w = weights;
  void *memory = three;
  uint32_t bits;
  int64_t bytes;
  double number;
  char to[4];
  NO_CONTEXT(cumega_attention_scores(NULL, &pi));
  NO_CONTEXT(cumega_attention_scores_workspace_size(NULL, &pi, &bytes));
  NO_CONTEXT(cumega_attention_softmax(NULL, &pi));
  NO_CONTEXT(cumega_context_report(NULL, &bits));
  NO_CONTEXT(cumega_context_reserve(NULL, 1));
  NO_CONTEXT(cumega_context_set_stream(NULL, NULL));
  NO_CONTEXT(cumega_context_statistics(NULL, &statistics));
  NO_CONTEXT(cumega_context_synchronize(NULL));
  NO_CONTEXT(cumega_ema_compute_coefficients(NULL, ema, tensor, tensor));
  NO_CONTEXT(cumega_ema_compute_kernel(NULL, ema, tensor));
  NO_CONTEXT(cumega_ema_create(NULL, &ec, NULL, &e));
  ck_assert_ptr_null(e);
  e = ema;
  NO_CONTEXT(cumega_ema_create_from_weights(NULL, weights, NULL, &ec, &e));
  ck_assert_ptr_null(e);
  NO_CONTEXT(cumega_ema_create_from_weights(NULL, weights, NULL, &ec, NULL));
  NO_CONTEXT(cumega_ema_forward(NULL, ema, &ei));
  NO_CONTEXT(cumega_ema_get_config(NULL, ema, &ec));
  NO_CONTEXT(cumega_ema_get_parameters(NULL, ema, &ep));
  NO_CONTEXT(cumega_ema_prepare(NULL, ema, &ei));
  NO_CONTEXT(cumega_ema_reset_parameters(NULL, ema, 0, 1, 1, 0));
  NO_CONTEXT(cumega_ema_set_parameters(NULL, ema, &ep));
  NO_CONTEXT(cumega_ema_step(NULL, ema, &ei));
  NO_CONTEXT(cumega_ema_workspace_size(NULL, ema, &ei, &bytes));
  NO_CONTEXT(cumega_memory_allocate(NULL, 4, &memory));
  ck_assert_ptr_null(memory);
  NO_CONTEXT(cumega_memory_read(NULL, to, to, 4));
  NO_CONTEXT(cumega_memory_release(NULL, to, 4));
  NO_CONTEXT(cumega_memory_write(NULL, to, to, 4));
  NO_CONTEXT(cumega_norm_create(NULL, &nc, NULL, &n));
  ck_assert_ptr_null(n);
  n = norm;
  NO_CONTEXT(cumega_norm_create_from_weights(NULL, weights, NULL, &nc, &n));
  ck_assert_ptr_null(n);
  NO_CONTEXT(cumega_norm_create_from_weights(NULL, weights, NULL, &nc, NULL));
  NO_CONTEXT(cumega_norm_get_config(NULL, norm, &nc));
  NO_CONTEXT(cumega_norm_get_parameters(NULL, norm, &np));
  NO_CONTEXT(cumega_norm_set_parameters(NULL, norm, &np));
  NO_CONTEXT(cumega_position_bias_create(NULL, &pc, NULL, &p));
  ck_assert_ptr_null(p);
  p = bias;
  NO_CONTEXT(cumega_position_bias_create_from_weights(NULL, weights, NULL, &pc, &p));
  ck_assert_ptr_null(p);
  NO_CONTEXT(cumega_position_bias_create_from_weights(NULL, weights, NULL, &pc, NULL));
  NO_CONTEXT(cumega_position_bias_create_from_weights(NULL, NULL, NULL, &pc, &p));
  NO_CONTEXT(cumega_position_bias_forward(NULL, bias, tensor));
  NO_CONTEXT(cumega_position_bias_get_config(NULL, bias, &pc));
  NO_CONTEXT(cumega_position_bias_get_parameters(NULL, bias, &pp));
  NO_CONTEXT(cumega_position_bias_prepare(NULL, bias, 4));
  NO_CONTEXT(cumega_position_bias_reset_parameters(NULL, bias, 0, 1, 0));
  NO_CONTEXT(cumega_position_bias_set_parameters(NULL, bias, &pp));
  NO_CONTEXT(cumega_residual_create(NULL, &rc, NULL, &r));
  ck_assert_ptr_null(r);
  r = residual;
  NO_CONTEXT(cumega_residual_create_from_weights(NULL, weights, NULL, &rc, &r));
  ck_assert_ptr_null(r);
  NO_CONTEXT(cumega_residual_create_from_weights(NULL, weights, NULL, &rc, NULL));
  NO_CONTEXT(cumega_residual_forward(NULL, residual, &ri));
  NO_CONTEXT(cumega_residual_gated_forward(NULL, &gi));
  NO_CONTEXT(cumega_residual_gated_workspace_size(NULL, &gi, &bytes));
  NO_CONTEXT(cumega_residual_get_config(NULL, residual, &rc));
  NO_CONTEXT(cumega_residual_get_multipliers(NULL, residual, &number, NULL));
  NO_CONTEXT(cumega_residual_get_parameters(NULL, residual, &rp));
  NO_CONTEXT(cumega_residual_prepare(NULL, residual));
  NO_CONTEXT(cumega_residual_set_parameters(NULL, residual, &rp));
  NO_CONTEXT(cumega_residual_workspace_size(NULL, residual, &ri, &bytes));
  NO_CONTEXT(cumega_weights_open(NULL, "x", &w));
  ck_assert_ptr_null(w);
  NO_CONTEXT(cumega_weights_read(NULL, weights, cumega_weights_at(weights, 0), to, 4));
  NO_CONTEXT(cumega_weights_save(NULL, "x", NULL, 0, NULL, 0));
  ck_assert_str_eq(cumega_context_backend(NULL), "");
  ck_assert_str_eq(cumega_context_kernels(NULL), "");
}
END_TEST

#define MISSING(name, call)                                                                       \
  do {                                                                                            \
    ck_assert_msg((call) == ARGUMENT, "%s", #call);                                               \
    const char *sentence = cumega_context_message(ctx);                                           \
    ck_assert_msg(strstr(sentence, name " is NULL") != NULL, "%s: '%s'", #call, sentence);        \
    check_range(#call, has_ranges);                                                               \
  } while (0)

#define FINE(call)                                                                                \
  do {                                                                                            \
    MUST(ctx, call);                                                                              \
    check_range(#call, has_ranges);                                                               \
  } while (0)

START_TEST(a_call_without_its_object_names_it) {
  cumega_ema_parameters ep = {.struct_size = sizeof ep};
  cumega_norm_parameters np = {.struct_size = sizeof np};
  cumega_residual_parameters rp = {.struct_size = sizeof rp};
  cumega_position_bias_parameters pp = {.struct_size = sizeof pp};
  cumega_ema_config ec;
  cumega_ema_config_init(&ec, sizeof ec, 3);
  cumega_norm_config nc;
  cumega_norm_config_init(&nc, sizeof nc, CUMEGA_NORM_LAYER, 3);
  cumega_residual_config rc;
  cumega_residual_config_init(&rc, sizeof rc, CUMEGA_RESIDUAL_RESIDUAL, 1, 3);
  cumega_position_bias_config pc = relative_config_of(4);
  cumega_ema_io ei = {.struct_size = sizeof ei};
  cumega_residual_io ri = {.struct_size = sizeof ri};
  int64_t bytes;
  double number;
  MISSING("ema", cumega_ema_compute_coefficients(ctx, NULL, tensor, tensor));
  MISSING("ema", cumega_ema_compute_kernel(ctx, NULL, tensor));
  MISSING("ema", cumega_ema_forward(ctx, NULL, &ei));
  MISSING("ema", cumega_ema_get_config(ctx, NULL, &ec));
  MISSING("ema", cumega_ema_get_parameters(ctx, NULL, &ep));
  MISSING("ema", cumega_ema_prepare(ctx, NULL, &ei));
  MISSING("ema", cumega_ema_reset_parameters(ctx, NULL, 0, 1, 1, 0));
  MISSING("ema", cumega_ema_set_parameters(ctx, NULL, &ep));
  MISSING("ema", cumega_ema_step(ctx, NULL, &ei));
  MISSING("ema", cumega_ema_workspace_size(ctx, NULL, &ei, &bytes));
  MISSING("norm", cumega_norm_get_config(ctx, NULL, &nc));
  MISSING("norm", cumega_norm_get_parameters(ctx, NULL, &np));
  MISSING("norm", cumega_norm_set_parameters(ctx, NULL, &np));
  MISSING("bias", cumega_position_bias_forward(ctx, NULL, tensor));
  MISSING("bias", cumega_position_bias_get_config(ctx, NULL, &pc));
  MISSING("bias", cumega_position_bias_get_parameters(ctx, NULL, &pp));
  MISSING("bias", cumega_position_bias_prepare(ctx, NULL, 4));
  MISSING("bias", cumega_position_bias_reset_parameters(ctx, NULL, 0, 1, 0));
  MISSING("bias", cumega_position_bias_set_parameters(ctx, NULL, &pp));
  MISSING("residual", cumega_residual_forward(ctx, NULL, &ri));
  MISSING("residual", cumega_residual_get_config(ctx, NULL, &rc));
  MISSING("residual", cumega_residual_get_multipliers(ctx, NULL, &number, NULL));
  MISSING("residual", cumega_residual_get_parameters(ctx, NULL, &rp));
  MISSING("residual", cumega_residual_prepare(ctx, NULL));
  MISSING("residual", cumega_residual_set_parameters(ctx, NULL, &rp));
  MISSING("residual", cumega_residual_workspace_size(ctx, NULL, &ri, &bytes));
  MISSING("weights", cumega_ema_create_from_weights(ctx, NULL, NULL, &ec, &(cumega_ema *){NULL}));
  MISSING("weights",
          cumega_norm_create_from_weights(ctx, NULL, NULL, &nc, &(cumega_norm *){NULL}));
  MISSING("weights",
          cumega_residual_create_from_weights(ctx, NULL, NULL, &rc, &(cumega_residual *){NULL}));
  MISSING("weights", cumega_position_bias_create_from_weights(ctx, NULL, NULL, &pc,
                                                              &(cumega_position_bias *){NULL}));
  MISSING("weights", cumega_weights_read(ctx, NULL, NULL, NULL, 0));
  MISSING("entry", cumega_weights_read(ctx, weights, NULL, NULL, 0));
}
END_TEST

START_TEST(a_call_without_io_or_a_place_for_its_answer_names_it) {
  cumega_ema_config ec;
  cumega_ema_config_init(&ec, sizeof ec, 3);
  cumega_norm_config nc;
  cumega_norm_config_init(&nc, sizeof nc, CUMEGA_NORM_LAYER, 3);
  cumega_residual_config rc;
  cumega_residual_config_init(&rc, sizeof rc, CUMEGA_RESIDUAL_RESIDUAL, 1, 3);
  cumega_ema_io ei = {.struct_size = sizeof ei};
  cumega_residual_io ri = {.struct_size = sizeof ri, .x = tensor, .y = tensor, .out = tensor};
  cumega_residual_gated_io gi = {sizeof gi, tensor, tensor, tensor, tensor, NULL, NULL};
  cumega_position_bias_config pc = relative_config_of(4);
  cumega_attention_scores_io pi;
  cumega_attention_scores_io_init(&pi, sizeof pi);
  int64_t bytes;
  char from[4];
  MISSING("io", cumega_attention_scores(ctx, NULL));
  MISSING("scores", cumega_attention_scores(ctx, &pi));
  MISSING("bytes", cumega_attention_scores_workspace_size(ctx, &pi, NULL));
  MISSING("io", cumega_attention_scores_workspace_size(ctx, NULL, &bytes));
  MISSING("io", cumega_attention_softmax(ctx, NULL));
  MISSING("bits", cumega_context_report(ctx, NULL));
  MISSING("statistics", cumega_context_statistics(ctx, NULL));
  MISSING("kernel", cumega_ema_compute_kernel(ctx, ema, NULL));
  MISSING("config", cumega_ema_create(ctx, NULL, NULL, &(cumega_ema *){NULL}));
  MISSING("ema", cumega_ema_create(ctx, &ec, NULL, NULL));
  MISSING("ema", cumega_ema_create_from_weights(ctx, weights, NULL, &ec, NULL));
  MISSING("config",
          cumega_ema_create_from_weights(ctx, weights, NULL, NULL, &(cumega_ema *){NULL}));
  MISSING("io", cumega_ema_forward(ctx, ema, NULL));
  MISSING("config", cumega_ema_get_config(ctx, ema, NULL));
  MISSING("parameters", cumega_ema_get_parameters(ctx, ema, NULL));
  MISSING("io", cumega_ema_prepare(ctx, ema, NULL));
  MISSING("parameters", cumega_ema_set_parameters(ctx, ema, NULL));
  MISSING("io", cumega_ema_step(ctx, ema, NULL));
  MISSING("io", cumega_ema_workspace_size(ctx, ema, NULL, &bytes));
  MISSING("bytes", cumega_ema_workspace_size(ctx, ema, &ei, NULL));
  MISSING("pointer", cumega_memory_allocate(ctx, 4, NULL));
  MISSING("pointer", cumega_memory_allocate(ctx, 0, NULL));
  MISSING("to", cumega_memory_read(ctx, NULL, from, 4));
  MISSING("from", cumega_memory_read(ctx, from, NULL, 4));
  MISSING("to", cumega_memory_write(ctx, NULL, from, 4));
  MISSING("from", cumega_memory_write(ctx, from, NULL, 4));
  MISSING("config", cumega_norm_create(ctx, NULL, NULL, &(cumega_norm *){NULL}));
  MISSING("norm", cumega_norm_create(ctx, &nc, NULL, NULL));
  MISSING("norm", cumega_norm_create_from_weights(ctx, weights, NULL, &nc, NULL));
  MISSING("config", cumega_norm_get_config(ctx, norm, NULL));
  MISSING("parameters", cumega_norm_get_parameters(ctx, norm, NULL));
  MISSING("parameters", cumega_norm_set_parameters(ctx, norm, NULL));
  MISSING("config",
          cumega_norm_create_from_weights(ctx, weights, NULL, NULL, &(cumega_norm *){NULL}));
  MISSING("config", cumega_position_bias_create(ctx, NULL, NULL, &(cumega_position_bias *){NULL}));
  MISSING("bias", cumega_position_bias_create(ctx, &pc, NULL, NULL));
  MISSING("bias", cumega_position_bias_create_from_weights(ctx, weights, NULL, &pc, NULL));
  MISSING("config", cumega_position_bias_create_from_weights(ctx, weights, NULL, NULL,
                                                             &(cumega_position_bias *){NULL}));
  MISSING("output", cumega_position_bias_forward(ctx, bias, NULL));
  MISSING("config", cumega_position_bias_get_config(ctx, bias, NULL));
  MISSING("parameters", cumega_position_bias_get_parameters(ctx, bias, NULL));
  MISSING("parameters", cumega_position_bias_set_parameters(ctx, bias, NULL));
  MISSING("config", cumega_residual_create(ctx, NULL, NULL, &(cumega_residual *){NULL}));
  MISSING("residual", cumega_residual_create(ctx, &rc, NULL, NULL));
  MISSING("residual", cumega_residual_create_from_weights(ctx, weights, NULL, &rc, NULL));
  MISSING("config", cumega_residual_create_from_weights(ctx, weights, NULL, NULL,
                                                        &(cumega_residual *){NULL}));
  MISSING("io", cumega_residual_forward(ctx, residual, NULL));
  MISSING("io", cumega_residual_gated_forward(ctx, NULL));
  MISSING("io", cumega_residual_gated_workspace_size(ctx, NULL, &bytes));
  MISSING("config", cumega_residual_get_config(ctx, residual, NULL));
  MISSING("parameters", cumega_residual_get_parameters(ctx, residual, NULL));
  MISSING("io", cumega_residual_workspace_size(ctx, residual, NULL, &bytes));
  if (!device_is_cuda()) { /* on that device io's tensors would have to be on the device */
    MISSING("bytes", cumega_residual_gated_workspace_size(ctx, &gi, NULL));
    MISSING("bytes", cumega_residual_workspace_size(ctx, residual, &ri, NULL));
  }
  MISSING("path", cumega_weights_open(ctx, NULL, &(cumega_weights *){NULL}));
  MISSING("weights", cumega_weights_open(ctx, "x", NULL));
  MISSING("path", cumega_weights_save(ctx, NULL, NULL, 0, NULL, 0));
  MISSING("parameters", cumega_residual_set_parameters(ctx, residual, NULL));
}
END_TEST

START_TEST(what_may_be_missing) {
  char from[4];
  FINE(cumega_context_reserve(ctx, 0));
  FINE(cumega_context_set_stream(ctx, NULL));
  FINE(cumega_context_synchronize(ctx));
  FINE(cumega_memory_read(ctx, NULL, NULL, 0));
  FINE(cumega_memory_write(ctx, NULL, NULL, 0));
  FINE(cumega_memory_release(ctx, NULL, 4));
  ck_assert_int_eq(cumega_memory_release(ctx, from, -1), ARGUMENT);
  check_range("cumega_memory_release(", has_ranges);
}
END_TEST

/* Calls that return no status. */
START_TEST(functions_without_a_status_do_nothing_for_null) {
  const int order[] = {0};
  cumega_tensor view;
  cumega_context_destroy(NULL);
  cumega_ema_destroy(NULL);
  cumega_norm_destroy(NULL);
  cumega_position_bias_destroy(NULL);
  cumega_residual_destroy(NULL);
  cumega_weights_close(NULL);
  ck_assert_ptr_null(cumega_tensor_init(NULL, three, cumega_cpu, cumega_float32, 0, NULL));
  ck_assert_ptr_null(cumega_tensor_init(&view, three, cumega_cpu, cumega_float32, 1, NULL));
  ck_assert_ptr_null(cumega_tensor_permute(NULL, tensor, order));
  ck_assert_ptr_null(cumega_tensor_permute(&view, NULL, order));
  ck_assert_ptr_null(cumega_tensor_permute(&view, tensor, NULL));
  ck_assert_int_eq(cumega_weights_count(NULL), 0);
  ck_assert_ptr_null(cumega_weights_at(NULL, 0));
  ck_assert_ptr_null(cumega_weights_find(NULL, "x"));
  ck_assert_ptr_null(cumega_weights_find(weights, NULL));
  ck_assert_ptr_null(cumega_weights_metadata(NULL, "x"));
  ck_assert_ptr_null(cumega_weights_metadata(weights, NULL));
  ck_assert_ptr_null(cumega_weights_metadata_at(NULL, 0).key);
  ck_assert_ptr_nonnull(cumega_context_message(NULL));
}
END_TEST

int main(void) {
  Suite *suite = suite_create("missing");
  TCase *tests = add_case(suite, "missing", 60);
  tcase_add_checked_fixture(tests, begin, end);
  tcase_add_test(tests, a_call_without_a_context_says_so);
  tcase_add_test(tests, a_call_without_its_object_names_it);
  tcase_add_test(tests, a_call_without_io_or_a_place_for_its_answer_names_it);
  tcase_add_test(tests, what_may_be_missing);
  tcase_add_test(tests, functions_without_a_status_do_nothing_for_null);
  TCase *without = add_case(suite, "without ranges", 60);
  tcase_add_checked_fixture(without, begin_without_ranges, end);
  tcase_add_test(without, a_call_without_its_object_names_it);
  tcase_add_test(without, a_call_without_io_or_a_place_for_its_answer_names_it);
  tcase_add_test(without, what_may_be_missing);
  return run_suite(suite);
}
