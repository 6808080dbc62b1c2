/* Every case of position biases and attention scores in tests/golden through the API, within the
 * tolerance that the file states; on another device, with the bits of the CPU. CUMEGA_TEST_GOLDEN
 * names another folder of cases. */
#include <glob.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "defaults.h"
#include "harness.h"
#include "position_device.h"
#include "runner.h"

typedef struct golden {
  cumega_context *ctx;
  cumega_weights *file;
  json_t *config, *tolerance;
  cumega_position_bias *bias;
} golden;

static test_tensor *load(const golden *g, const char *name) {
  const cumega_weights_entry *entry = cumega_weights_find(g->file, name);
  if (entry == NULL) return NULL;
  test_tensor *tensor = tensor_new(entry->dtype, entry->ndim, entry->shape, NULL);
  MUST(g->ctx, cumega_weights_read(g->ctx, g->file, entry, dl(tensor)->data, entry->bytes));
  return tensor;
}

static int64_t integer(const golden *g, const char *name) {
  return json_integer_value(json_object_get(g->config, name));
}

/* The type of the case's outputs: that of its scores, or of its parameters if it has no scores. */
static DLDataType result_dtype(const golden *g) {
  static const char *const names[] = {"inputs.scores", "parameters.relative_position_bias",
                                      "parameters.alpha"};
  const cumega_weights_entry *entry = NULL;
  for (int i = 0; i < 3 && entry == NULL; i++) entry = cumega_weights_find(g->file, names[i]);
  ck_assert_ptr_nonnull(entry);
  return entry->dtype;
}

static void open_case(golden *g, const char *path, cumega_context *ctx) {
  memset(g, 0, sizeof *g);
  g->ctx = ctx;
  MUST(ctx, cumega_weights_open(ctx, path, &g->file));
  g->config = json_loads(cumega_weights_metadata(g->file, "cumega.config"), 0, NULL);
  g->tolerance = json_loads(cumega_weights_metadata(g->file, "cumega.tolerance"), 0, NULL);
  ck_assert(json_is_object(g->config) && json_is_object(g->tolerance));
  const int rotary = cumega_weights_find(g->file, "parameters.alpha") != NULL;
  cumega_position_bias_config config = rotary ? rotary_config_of(integer(g, "size"), 2048)
                                              : relative_config_of(integer(g, "max_positions"));
  config.dtype = real_dtype_of(result_dtype(g));
  MUST(ctx, cumega_position_bias_create_from_weights(
                ctx, g->file, rotary ? "parameters" : "parameters.", &config, &g->bias));
}

static void close_case(golden *g) {
  cumega_position_bias_destroy(g->bias);
  cumega_weights_close(g->file);
  json_decref(g->config);
  json_decref(g->tolerance);
  cumega_context_destroy(g->ctx);
}

/* The case's outputs: bias, or weights and scores. */
static void run_case(const golden *g, test_tensor **outputs) {
  outputs[1] = NULL;
  test_tensor *scores = load(g, "inputs.scores");
  if (scores == NULL) {
    const int64_t length = integer(g, "length");
    outputs[0] = tensor_new_2(result_dtype(g), length, length);
    MUST(g->ctx, cumega_position_bias_forward(g->ctx, g->bias, dl(outputs[0])));
    return;
  }
  test_tensor *attention = load(g, "inputs.attention_mask");
  test_tensor *padding = load(g, "inputs.key_padding_mask");
  cumega_attention_scores_io io;
  cumega_attention_scores_io_init(&io, sizeof io);
  io.scores = dl(scores);
  io.attention_mask = dl(attention);
  io.key_padding_mask = dl(padding);
  io.scale = json_number_value(json_object_get(g->config, "scale"));
  io.causal = json_is_true(json_object_get(g->config, "causal"));
  for (int i = 0; i < 2; i++)
    outputs[i] = tensor_new(scores->view.dl.dtype, 4, scores->view.shape, NULL);
  io.output = dl(outputs[0]);
  MUST(g->ctx, softmax_with(g->ctx, g->bias, &io));
  io.output = dl(outputs[1]);
  MUST(g->ctx, scores_with(g->ctx, g->bias, &io));
  tensor_free(scores);
  tensor_free(attention);
  tensor_free(padding);
}

static int64_t count_of(const test_tensor *t) {
  int64_t count = 1;
  for (int i = 0; i < t->view.dl.ndim; i++) count *= t->view.shape[i];
  return count;
}

/* The i-th value of a compact tensor. */
static double value_at(const test_tensor *t, int64_t i) {
  test_tensor flat = *t;
  flat.view.dl.ndim = 1;
  flat.view.strides[0] = 1;
  return tensor_get(&flat, i, 0, 0);
}

static void compare(const golden *g, const char *name, const test_tensor *found,
                    const char *path) {
  char full[80];
  snprintf(full, sizeof full, "exact.%s", name);
  test_tensor *exact = load(g, full);
  double largest = 0, off = 0;
  ck_assert_msg(exact != NULL && count_of(exact) == count_of(found), "%s: %s", path, full);
  for (int64_t i = 0; i < count_of(exact); i++) {
    const double right = value_at(exact, i), ours = value_at(found, i);
    if (!isfinite(right)) {
      ck_assert_msg(isnan(right) ? isnan(ours) : right == ours, "%s: %s[%lld] is %g, expected %g",
                    path, name, (long long)i, ours, right);
      continue;
    }
    ck_assert_msg(isfinite(ours), "%s: %s[%lld] is %g", path, name, (long long)i, ours);
    largest = fmax(largest, fabs(right));
    off = fmax(off, fabs(right - ours));
  }
  const double bound = json_number_value(json_object_get(g->tolerance, name)) * largest;
  ck_assert_msg(off <= bound, "%s: %s is off by %g, allowed %g", path, name, off, bound);
  tensor_free(exact);
}

static void check_case(const char *path) {
  golden g, host;
  test_tensor *found[2], *right[2];
  open_case(&g, path, context_new());
  open_case(&host, path, context_of_level("plain", 1));
  run_case(&g, found);
  run_case(&host, right);
  compare(&g, found[1] ? "weights" : "bias", found[0], path);
  if (found[1]) compare(&g, "scores", found[1], path);
  for (int i = 0; i < 2 && found[i]; i++) {
    const size_t bytes = (size_t)(count_of(found[i]) * found[i]->view.dl.dtype.bits / 8);
    ck_assert_msg(memcmp(tensor_at(found[i], 0, 0, 0), tensor_at(right[i], 0, 0, 0), bytes) == 0,
                  "%s: other bits than the plain CPU's", path);
    tensor_free(found[i]);
    tensor_free(right[i]);
  }
  close_case(&g);
  close_case(&host);
}

static void check_all(const char *pattern, size_t at_least) {
  char path[600];
  glob_t cases;
  const char *folder = getenv("CUMEGA_TEST_GOLDEN");
  snprintf(path, sizeof path, "%s/%s.safetensors",
           folder != NULL ? folder : SOURCE_DIR "/tests/golden", pattern);
  ck_assert_int_eq(glob(path, 0, NULL, &cases), 0);
  ck_assert_uint_ge(cases.gl_pathc, folder != NULL ? 1 : at_least);
  for (size_t i = 0; i < cases.gl_pathc; i++) check_case(cases.gl_pathv[i]);
  globfree(&cases);
}

START_TEST(relative_biases_are_espnets) {
  check_all("relative_position_bias-*", 5);
}
END_TEST

START_TEST(rotary_biases_are_as_exact_as_espnets) {
  check_all("rotary_position_bias-*", 5);
}
END_TEST

START_TEST(weights_and_scores_are_as_exact_as_espnets) {
  check_all("attention_softmax-*", 14);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("position_golden");
  TCase *tests = add_case(suite, "golden", 600);
  tcase_add_test(tests, relative_biases_are_espnets);
  tcase_add_test(tests, rotary_biases_are_as_exact_as_espnets);
  tcase_add_test(tests, weights_and_scores_are_as_exact_as_espnets);
  return run_suite(suite);
}
