/* Every status that the headers of position biases and attention document, with its message.
 * Outputs are not changed. */
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>
#include "defaults.h"
#include "harness.h"
#include "position_device.h"
#include "runner.h"

#define REFUSED(status, text, call) MUST_FAIL(ctx, call, status, text)
#define ARGUMENT                    CUMEGA_ERROR_ARGUMENT

static cumega_context *ctx;
static cumega_position_bias *relative, *rotary; /* max_positions 8; size 4 */

static void begin(void) {
  ctx = context_new();
  MUST(ctx, bias_relative(ctx, 8, NULL, &relative));
  MUST(ctx, bias_rotary(ctx, 4, 8, NULL, NULL, &rotary));
}

static void end(void) {
  cumega_position_bias_destroy(relative);
  cumega_position_bias_destroy(rotary);
  cumega_position_bias_destroy(NULL);
  cumega_context_destroy(ctx);
}

START_TEST(settings_are_refused_by_name) {
  cumega_position_bias *bias = relative;
  REFUSED(ARGUMENT, "max_positions is 0, expected at least 1", bias_relative(ctx, 0, NULL, &bias));
  ck_assert_ptr_null(bias);
  REFUSED(ARGUMENT, "size is 3, expected an even number >= 2",
          bias_rotary(ctx, 3, 8, NULL, NULL, &bias));
  REFUSED(ARGUMENT, "size is 0", bias_rotary(ctx, 0, 8, NULL, NULL, &bias));
  REFUSED(ARGUMENT, "max_positions is -1", bias_rotary(ctx, 4, -1, NULL, NULL, &bias));
  REFUSED(ARGUMENT, "bias is NULL", bias_relative(ctx, 8, NULL, NULL));
  REFUSED(CUMEGA_ERROR_RESOURCE, "max_positions is 9223372036854775807: too large for memory",
          bias_relative(ctx, INT64_MAX, NULL, &bias));
  REFUSED(CUMEGA_ERROR_RESOURCE, "size is 9223372036854775806: too large for memory",
          bias_rotary(ctx, INT64_MAX - 1, 8, NULL, NULL, &bias));
  MUST(ctx, bias_rotary(ctx, 4, INT64_MAX, NULL, NULL, &bias));
  cumega_position_bias_destroy(bias); /* a rotary bias's max_positions takes no memory */
  ck_assert_int_eq(bias_relative(NULL, 8, NULL, &bias), ARGUMENT);
  ck_assert_str_eq(cumega_context_message(NULL), "ctx is NULL");
}
END_TEST

START_TEST(kinds_and_types_that_do_not_exist_are_refused) {
  cumega_position_bias *bias = relative;
  cumega_position_bias_config config = relative_config_of(8);
  config.kind = (cumega_position_bias_kind)2;
  REFUSED(ARGUMENT, "config.kind is 2, expected 0 or 1",
          cumega_position_bias_create(ctx, &config, NULL, &bias));
  ck_assert_ptr_null(bias);
  REFUSED(ARGUMENT, "dtype is float16", bias_relative_as(cumega_float16, ctx, 8, NULL, &bias));
  REFUSED(ARGUMENT, "dtype is int32", bias_rotary_as(cumega_int32, ctx, 4, 8, NULL, NULL, &bias));
}
END_TEST

/* A value too large for float32 is valid for a bias of dtype float64. */
START_TEST(a_bias_serves_the_tensors_of_its_dtype) {
  cumega_position_bias *wide[2] = {NULL, NULL}, *const narrow[2] = {relative, rotary};
  test_tensor *w = tensor_new_1(cumega_float64, 15), *back = tensor_new_1(cumega_float64, 15);
  for (int i = 0; i < 15; i++) tensor_set(w, i, 0, 0, 1e39);
  MUST(ctx, bias_relative_as(cumega_float64, ctx, 8, dl(w), &wide[0]));
  MUST(ctx, bias_rotary_as(cumega_float64, ctx, 4, 8, NULL, NULL, &wide[1]));
  cumega_position_bias_parameters p = {.struct_size = sizeof p};
  p.relative_position_bias = dl(back);
  MUST(ctx, cumega_position_bias_get_parameters(ctx, wide[0], &p));
  ck_assert(tensor_get(back, 14, 0, 0) == 1e39);
  for (int kind = 0; kind < 2; kind++)
    for (int is_wide = 0; is_wide < 2; is_wide++) {
      const DLDataType type = is_wide ? cumega_float64 : cumega_bfloat16;
      test_tensor *scores = tensor_new(type, 4, (int64_t[]){1, 1, 2, 3}, NULL);
      test_tensor *matrix = tensor_new_2(type, 3, 3);
      for (int i = 0; i < 6; i++) tensor_set_4(scores, 0, 0, i / 3, i % 3, 1);
      cumega_position_bias *right = is_wide ? wide[kind] : narrow[kind];
      cumega_position_bias *wrong = is_wide ? narrow[kind] : wide[kind];
      const char *says =
          is_wide ? "bias has dtype float32, expected float64, since scores is float64"
                  : "bias has dtype float64, expected float32, since scores is bfloat16";
      cumega_attention_scores_io io;
      cumega_attention_scores_io_init(&io, sizeof io);
      io.scores = io.output = dl(scores);
      tensor_remember(scores);
      tensor_remember(matrix);
      REFUSED(ARGUMENT, says, scores_with(ctx, wrong, &io));
      REFUSED(ARGUMENT, says, softmax_with(ctx, wrong, &io));
      REFUSED(ARGUMENT, "since output is", cumega_position_bias_forward(ctx, wrong, dl(matrix)));
      ck_assert(tensor_unchanged(scores) && tensor_unchanged(matrix));
      MUST(ctx, scores_with(ctx, right, &io));
      MUST(ctx, cumega_position_bias_forward(ctx, right, dl(matrix)));
      tensor_free(scores);
      tensor_free(matrix);
    }
  cumega_position_bias_destroy(wide[0]);
  cumega_position_bias_destroy(wide[1]);
  tensor_free(w);
  tensor_free(back);
}
END_TEST

START_TEST(parameters_are_refused_by_name) {
  cumega_position_bias *bias = NULL;
  test_tensor *w = tensor_new_1(cumega_float64, 15), *alpha = tensor_new_2(cumega_float32, 1, 4);
  REFUSED(ARGUMENT, "nan at [0], expected finite values", bias_relative(ctx, 8, dl(w), &bias));
  for (int i = 0; i < 15; i++) tensor_set(w, i, 0, 0, i >= 7 ? 1e39 : 0);
  REFUSED(ARGUMENT, "relative_position_bias is 1e+39 at [7], expected values within the range",
          bias_relative(ctx, 8, dl(w), &bias));
  REFUSED(ARGUMENT,
          "relative_position_bias has shape (15), expected (2 * max_positions - 1) = (17)",
          bias_relative(ctx, 9, dl(w), &bias));
  for (int i = 0; i < 4; i++) tensor_set(alpha, 0, i, 0, 1e38);
  REFUSED(ARGUMENT, "beta is NULL", bias_rotary(ctx, 4, 8, dl(alpha), NULL, &bias));
  REFUSED(ARGUMENT, "alpha is NULL", bias_rotary(ctx, 4, 8, NULL, dl(alpha), &bias));
  REFUSED(ARGUMENT, "alpha has shape (1, 4), expected (1, size) = (1, 6)",
          bias_rotary(ctx, 6, 8, dl(alpha), dl(alpha), &bias));
  REFUSED(ARGUMENT, "alpha and beta have products that add up to",
          bias_rotary(ctx, 4, 8, dl(alpha), dl(alpha), &bias));
  ck_assert_ptr_null(bias);
  cumega_position_bias_parameters p = {.struct_size = sizeof p, .alpha = dl(alpha)};
  REFUSED(ARGUMENT, "parameters.alpha is given, expected NULL: this bias has none",
          cumega_position_bias_set_parameters(ctx, relative, &p));
  p = (cumega_position_bias_parameters){.struct_size = sizeof p, .relative_position_bias = dl(w)};
  REFUSED(ARGUMENT,
          "parameters.relative_position_bias is given, expected NULL: this bias has none",
          cumega_position_bias_get_parameters(ctx, rotary, &p));
  REFUSED(ARGUMENT, "parameters is NULL", cumega_position_bias_set_parameters(ctx, rotary, NULL));
  p = (cumega_position_bias_parameters){.struct_size = sizeof p, .alpha = dl(alpha)};
  p.beta = dl(alpha);
  REFUSED(ARGUMENT, "beta", cumega_position_bias_get_parameters(ctx, rotary, &p));
  p.struct_size = 8;
  REFUSED(ARGUMENT, "parameters.struct_size is 8",
          cumega_position_bias_get_parameters(ctx, rotary, &p));
  REFUSED(ARGUMENT, "val is inf",
          cumega_position_bias_reset_parameters(ctx, relative, INFINITY, 1, 0));
  REFUSED(ARGUMENT, "std is -1", cumega_position_bias_reset_parameters(ctx, relative, 0, -1, 0));
  REFUSED(ARGUMENT, "goes beyond float32 in alpha",
          cumega_position_bias_reset_parameters(ctx, rotary, 1e39, 0, 0));
  REFUSED(ARGUMENT, "bias is NULL", cumega_position_bias_reset_parameters(ctx, NULL, 0, 1, 0));
  tensor_free(w);
  tensor_free(alpha);
}
END_TEST

/* A valid call, for the tests to break. */
typedef struct call {
  test_tensor *scores, *output, *attention, *padding, *queries, *keys;
  cumega_attention_scores_io io;
} call;

static call good_call(void) {
  call c = {.scores = tensor_new(cumega_float32, 4, (int64_t[]){2, 1, 3, 5}, NULL),
            .output = tensor_new(cumega_float32, 4, (int64_t[]){2, 1, 3, 5}, NULL),
            .attention = tensor_new_2(cumega_bool, 3, 5),
            .padding = tensor_new_2(cumega_bool, 2, 5),
            .queries = tensor_of_int64(2, (int64_t[]){3, 2}),
            .keys = tensor_of_int64(2, (int64_t[]){5, 4})};
  memset(tensor_at(c.scores, 0, 0, 0), 0, 4 * 30);
  memset(tensor_at(c.attention, 0, 0, 0), 0, 15);
  memset(tensor_at(c.padding, 0, 0, 0), 0, 10);
  cumega_attention_scores_io_init(&c.io, sizeof c.io);
  c.io.scores = dl(c.scores);
  c.io.output = dl(c.output);
  c.io.attention_mask = dl(c.attention);
  c.io.key_padding_mask = dl(c.padding);
  c.io.query_lengths = dl(c.queries);
  c.io.key_lengths = dl(c.keys);
  tensor_remember(c.output);
  return c;
}

/* The output has not changed. */
static void end_call(call *c) {
  ck_assert(tensor_unchanged(c->output));
  tensor_free(c->scores);
  tensor_free(c->output);
  tensor_free(c->attention);
  tensor_free(c->padding);
  tensor_free(c->queries);
  tensor_free(c->keys);
}

#define SPOILED(text, change)                                                                     \
  do {                                                                                            \
    call c = good_call();                                                                         \
    change;                                                                                       \
    REFUSED(ARGUMENT, text, softmax_with(ctx, relative, &c.io));                                  \
    REFUSED(ARGUMENT, text, scores_with(ctx, relative, &c.io));                                   \
    end_call(&c);                                                                                 \
  } while (0)

START_TEST(the_call_that_is_spoiled_below_is_good) {
  call c = good_call();
  MUST(ctx, softmax_with(ctx, relative, &c.io));
  MUST(ctx, scores_with(ctx, NULL, &c.io));
  tensor_remember(c.output);
  end_call(&c);
}
END_TEST

START_TEST(wrong_tensors_are_refused_by_name) {
  SPOILED("io.struct_size is 3", c.io.struct_size = 3);
  SPOILED("scores is NULL", c.io.scores = NULL);
  SPOILED("output is NULL", c.io.output = NULL);
  SPOILED("scores is int32", c.scores->view.dl.dtype = cumega_int32);
  SPOILED("output is float16, expected the scores' type, float32",
          c.output->view.dl.dtype = cumega_float16);
  SPOILED("scores has shape (2, 1, 3), expected 4 dimensions", c.scores->view.dl.ndim = 3);
  SPOILED("output has shape (1, 1, 3, 5), expected (B, H, Lq, Lk) = (2, 1, 3, 5)",
          c.output->view.shape[0] = 1);
  SPOILED("scores have 3 queries for 2 keys",
          c.scores->view.shape[3] = c.output->view.shape[3] = 2);
  SPOILED("attention_mask is int64", c.io.attention_mask = dl(c.queries));
  SPOILED("attention_mask has shape (2, 5), expected (Lq, Lk) = (3, 5)",
          c.io.attention_mask = dl(c.padding));
  SPOILED("key_padding_mask is int64", c.io.key_padding_mask = dl(c.queries));
  SPOILED("key_padding_mask has shape (3, 5), expected (B, Lk) = (2, 5)",
          c.io.key_padding_mask = dl(c.attention));
  SPOILED("query_lengths is bool", c.io.query_lengths = dl(c.padding));
  SPOILED("key_lengths has shape (1), expected (B) = (2)", c.keys->view.shape[0] = 1);
  SPOILED("io.scale is nan", c.io.scale = NAN);
  SPOILED("io.scale is 1e+300, expected a finite number in the range of float32",
          c.io.scale = 1e300);
  SPOILED("io.scale is inf, expected a finite number in the range of float64",
          (c.scores->view.dl.dtype = c.output->view.dl.dtype = cumega_float64,
           c.scores->view.shape[0] = c.output->view.shape[0] = 1, c.io.query_lengths = NULL,
           c.io.key_lengths = NULL, c.io.key_padding_mask = NULL, c.io.scale = INFINITY));
  SPOILED("output", c.output->view.strides[3] = 0);
  SPOILED("output", c.output->view.dl.data = (char *)c.scores->view.dl.data + 4);
  SPOILED("output overlaps attention_mask", c.attention->view.dl.data = c.output->view.dl.data);
  SPOILED("output overlaps key_padding_mask", c.padding->view.dl.data = c.output->view.dl.data);
  SPOILED("output overlaps query_lengths", c.queries->view.dl.data = c.output->view.dl.data);
  SPOILED("output overlaps key_lengths", c.keys->view.dl.data = c.output->view.dl.data);
  REFUSED(ARGUMENT, "io is NULL", scores_with(ctx, relative, NULL));
}
END_TEST

START_TEST(a_scale_beyond_float32_is_one_for_float64) {
  test_tensor *one = tensor_new(cumega_float64, 4, (int64_t[]){1, 1, 1, 1}, NULL);
  cumega_attention_scores_io io;
  cumega_attention_scores_io_init(&io, sizeof io);
  io.scores = io.output = dl(one);
  io.scale = 1e300;
  tensor_set_4(one, 0, 0, 0, 0, 2);
  MUST(ctx, scores_with(ctx, NULL, &io));
  ck_assert(tensor_get_4(one, 0, 0, 0, 0) == 2e300);
  tensor_free(one);
}
END_TEST

START_TEST(a_mask_of_four_dimensions_is_checked) {
  call c = good_call();
  test_tensor *mask = tensor_new(cumega_uint8, 4, (int64_t[]){2, 2, 3, 5}, NULL);
  c.io.attention_mask = dl(mask);
  REFUSED(ARGUMENT,
          "attention_mask has shape (2, 2, 3, 5), expected (B, 1, Lq, Lk) = (2, 1, 3, 5)",
          softmax_with(ctx, relative, &c.io));
  tensor_free(mask);
  end_call(&c);
}
END_TEST

/* On a GPU the kernel meets the values: the error is reported, and what is read is clamped. */
START_TEST(lengths_outside_their_tensors_are_refused) {
  const struct {
    int64_t queries, keys;
    const char *text;
  } wrong[] = {{4, 5, "query_lengths[1] is 4, expected 0 to Lq = 3"},
               {-1, 5, "query_lengths[1] is -1"},
               {2, 6, "key_lengths[1] is 6, expected 2, the sequence's queries, to Lk = 5"},
               {2, 1, "key_lengths[1] is 1, expected 2"}};
  for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
    call c = good_call();
    tensor_set(c.queries, 1, 0, 0, (double)wrong[i].queries);
    tensor_set(c.keys, 1, 0, 0, (double)wrong[i].keys);
    const cumega_status status = softmax_with(ctx, relative, &c.io);
    ck_assert_int_eq(status, ARGUMENT);
    if (device_is_cuda())
      tensor_remember(c.output);
    else
      ck_assert_ptr_nonnull(strstr(cumega_context_message(ctx), wrong[i].text));
    end_call(&c);
  }
}
END_TEST

START_TEST(lengths_beyond_max_positions_are_refused_by_the_relative_kind_only) {
  test_tensor *scores = tensor_new(cumega_float32, 4, (int64_t[]){1, 1, 1, 9}, NULL);
  test_tensor *matrix = tensor_new_2(cumega_float32, 9, 9);
  memset(tensor_at(scores, 0, 0, 0), 0, 36);
  cumega_attention_scores_io io;
  cumega_attention_scores_io_init(&io, sizeof io);
  io.scores = io.output = dl(scores);
  REFUSED(ARGUMENT, "the scores' Lk is 9, expected at most the relative bias's max_positions, 8",
          softmax_with(ctx, relative, &io));
  REFUSED(ARGUMENT, "the output's L is 9",
          cumega_position_bias_forward(ctx, relative, dl(matrix)));
  REFUSED(ARGUMENT, "length is 9", cumega_position_bias_prepare(ctx, relative, 9));
  REFUSED(ARGUMENT, "length is -1", cumega_position_bias_prepare(ctx, rotary, -1));
  MUST(ctx, cumega_position_bias_prepare(ctx, relative, 8));
  MUST(ctx, softmax_with(ctx, rotary, &io));
  MUST(ctx, cumega_position_bias_forward(ctx, rotary, dl(matrix)));
  MUST(ctx, cumega_position_bias_prepare(ctx, rotary, 100));
  REFUSED(CUMEGA_ERROR_RESOURCE, "too large for memory",
          cumega_position_bias_prepare(ctx, rotary, INT64_MAX));
  cumega_position_bias_config config = {.struct_size = sizeof config};
  MUST(ctx, cumega_position_bias_get_config(ctx, rotary, &config));
  ck_assert(config.kind == CUMEGA_POSITION_BIAS_ROTARY && config.max_positions == 8 &&
            config.size == 4);
  tensor_free(scores);
  tensor_free(matrix);
}
END_TEST

START_TEST(forward_refuses_what_is_no_square) {
  test_tensor *matrix = tensor_new_2(cumega_float32, 4, 5),
              *line = tensor_new_1(cumega_float32, 4);
  tensor_remember(matrix);
  REFUSED(ARGUMENT, "output is NULL", cumega_position_bias_forward(ctx, relative, NULL));
  REFUSED(ARGUMENT, "output has shape (4, 5), expected (L, L) = (4, 4)",
          cumega_position_bias_forward(ctx, relative, dl(matrix)));
  REFUSED(ARGUMENT, "output has shape (4), expected 2 dimensions",
          cumega_position_bias_forward(ctx, relative, dl(line)));
  REFUSED(ARGUMENT, "bias is NULL", cumega_position_bias_forward(ctx, NULL, dl(matrix)));
  matrix->view.shape[1] = 4;
  matrix->view.strides[1] = 0;
  REFUSED(ARGUMENT, "output", cumega_position_bias_forward(ctx, relative, dl(matrix)));
  ck_assert(tensor_unchanged(matrix));
  tensor_free(matrix);
  tensor_free(line);
}
END_TEST

START_TEST(settings_of_a_newer_header_are_unsupported) {
  call c = good_call();
  struct {
    cumega_attention_scores_io io;
    int64_t newer;
  } grown = {.io = c.io, .newer = 1};
  grown.io.struct_size = sizeof grown;
  grown.io.bias = relative;
  REFUSED(CUMEGA_ERROR_UNSUPPORTED, "built for a newer one",
          softmax_with(ctx, relative, &grown.io));
  end_call(&c);
}
END_TEST

START_TEST(weight_files_are_read_and_their_lacks_named) {
  cumega_context *host = context_of_level(NULL, 1);
  cumega_weights *file = NULL;
  cumega_position_bias *bias = relative;
  MUST(host, cumega_weights_open(
                 host, SOURCE_DIR "/tests/golden/rotary_position_bias-size8-length33.safetensors",
                 &file));
  MUST(ctx, bias_rotary_from_weights(ctx, file, "parameters", 8, 8, &bias));
  cumega_position_bias_destroy(bias);
  REFUSED(CUMEGA_ERROR_FORMAT, "no tensor 'elsewhere.alpha'",
          bias_rotary_from_weights(ctx, file, "elsewhere", 8, 8, &bias));
  ck_assert_ptr_null(bias);
  REFUSED(CUMEGA_ERROR_FORMAT, "parameters.alpha has shape (1, 8), expected (1, size) = (1, 6)",
          bias_rotary_from_weights(ctx, file, "parameters.", 6, 8, &bias));
  REFUSED(CUMEGA_ERROR_FORMAT, "no tensor 'relative_position_bias'",
          bias_relative_from_weights(ctx, file, NULL, 8, &bias));
  REFUSED(ARGUMENT, "weights is NULL", bias_relative_from_weights(ctx, NULL, NULL, 8, &bias));
  cumega_weights_close(file);
  cumega_context_destroy(host);
}
END_TEST

START_TEST(places_for_parameters_that_are_wrong_are_refused_and_may_be_left_out) {
  test_tensor *alpha = tensor_new_2(cumega_float32, 1, 4),
              *wrong = tensor_new_2(cumega_float32, 1, 5);
  test_tensor *w = tensor_new_1(cumega_float64, 15);
  cumega_position_bias_parameters p = {.struct_size = sizeof p, .alpha = dl(alpha)};
  MUST(ctx, cumega_position_bias_get_parameters(ctx, rotary, &p));
  p.beta = dl(wrong);
  REFUSED(ARGUMENT, "beta has shape (1, 5)", cumega_position_bias_get_parameters(ctx, rotary, &p));
  p.beta = NULL;
  REFUSED(ARGUMENT, "beta is NULL", cumega_position_bias_set_parameters(ctx, rotary, &p));
  p = (cumega_position_bias_parameters){.struct_size = sizeof p, .beta = dl(alpha)};
  MUST(ctx, cumega_position_bias_get_parameters(ctx, rotary, &p));
  REFUSED(ARGUMENT, "parameters.beta is given, expected NULL: this bias has none",
          cumega_position_bias_get_parameters(ctx, relative, &p));
  p = (cumega_position_bias_parameters){.struct_size = sizeof p};
  MUST(ctx, cumega_position_bias_get_parameters(ctx, relative, &p));
  p.relative_position_bias = dl(w);
  MUST(ctx, cumega_position_bias_get_parameters(ctx, relative, &p));
  tensor_free(alpha);
  tensor_free(wrong);
  tensor_free(w);
}
END_TEST

START_TEST(a_bias_of_another_device_is_refused) {
  if (!device_is_cuda()) return; /* there is only one CPU */
  cumega_context *host = context_of_level(NULL, 1);
  cumega_position_bias_config config = {.struct_size = sizeof config};
  ck_assert_int_eq(cumega_position_bias_get_config(host, relative, &config), ARGUMENT);
  ck_assert_ptr_nonnull(strstr(cumega_context_message(host), "bias was made for device"));
  call c = good_call();
  ck_assert_int_eq(softmax_with(host, relative, &c.io), ARGUMENT);
  ck_assert_ptr_nonnull(strstr(cumega_context_message(host), "bias was made for device"));
  end_call(&c);
  cumega_context_destroy(host);
}
END_TEST

START_TEST(a_forked_child_gets_a_status) {
  if (device_is_cuda()) return;
  pid_t child = fork();
  if (child == 0)
    _exit(cumega_position_bias_prepare(ctx, rotary, 5) == CUMEGA_ERROR_STATE ? 0 : 1);
  int status;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("position_statuses");
  TCase *tests = add_case(suite, "statuses", 120);
  tcase_add_checked_fixture(tests, begin, end);
  tcase_add_test(tests, settings_are_refused_by_name);
  tcase_add_test(tests, kinds_and_types_that_do_not_exist_are_refused);
  tcase_add_test(tests, a_bias_serves_the_tensors_of_its_dtype);
  tcase_add_test(tests, parameters_are_refused_by_name);
  tcase_add_test(tests, the_call_that_is_spoiled_below_is_good);
  tcase_add_test(tests, wrong_tensors_are_refused_by_name);
  tcase_add_test(tests, a_scale_beyond_float32_is_one_for_float64);
  tcase_add_test(tests, a_mask_of_four_dimensions_is_checked);
  tcase_add_test(tests, lengths_outside_their_tensors_are_refused);
  tcase_add_test(tests, lengths_beyond_max_positions_are_refused_by_the_relative_kind_only);
  tcase_add_test(tests, forward_refuses_what_is_no_square);
  tcase_add_test(tests, settings_of_a_newer_header_are_unsupported);
  tcase_add_test(tests, weight_files_are_read_and_their_lacks_named);
  tcase_add_test(tests, places_for_parameters_that_are_wrong_are_refused_and_may_be_left_out);
  tcase_add_test(tests, a_bias_of_another_device_is_refused);
  tcase_add_test(tests, a_forked_child_gets_a_status);
  return run_suite(suite);
}
