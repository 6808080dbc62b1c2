/* Where position biases differ on a GPU: kernels meet the values of lengths, the kernel depends
 * on a row's length, and long rows need scratch. What CPU and GPU do alike is in the
 * check_attention suites, which run here with CUMEGA_TEST_DEVICE=cuda. */
#define CUMEGA_TESTS_POSITION_DEVICE_INSIDE /* the calls themselves */
#include "defaults.h"
#include "harness.h"
#include "position_device.h"
#include "runner.h"

enum { B = 4, LQ = 3, LK = 5 };

static cumega_context *ctx, *host;

static void begin(void) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  options.device = (DLDevice){kDLCUDA, 0};
  ck_assert_msg(cumega_context_create(&options, &ctx) == CUMEGA_OK, "%s",
                cumega_context_message(NULL));
  host = context_of_level(NULL, 1);
}

static void end(void) {
  cumega_context_destroy(ctx);
  cumega_context_destroy(host);
}

/* Softmax in place of a number of scores, with lengths (B) or without; returns what was
 * reported. */
static uint32_t softmax_on(cumega_context *on, float *scores, const int64_t *shape,
                           int32_t *queries, int32_t *keys) {
  cumega_attention_scores_io io;
  cumega_attention_scores_io_init(&io, sizeof io);
  cumega_tensor t, q, k;
  uint32_t met = 0;
  staging s;
  DLTensor *output = cumega_tensor_init(&t, scores, cumega_cpu, cumega_float32, 4, shape);
  io.scores = output;
  if (queries)
    io.query_lengths = cumega_tensor_init(&q, queries, cumega_cpu, cumega_int32, 1, shape);
  if (keys) io.key_lengths = cumega_tensor_init(&k, keys, cumega_cpu, cumega_int32, 1, shape);
  const int staged = staging_begin(&s, on);
  if (staged) {
    staging_add(&s, &io.scores);
    staging_add(&s, &io.query_lengths);
    staging_add(&s, &io.key_lengths);
    staging_there(&s);
  }
  io.output = (DLTensor *)(uintptr_t)io.scores;
  MUST(on, softmax_with(on, NULL, &io));
  MUST(on, cumega_context_report(on, &met));
  if (staged) staging_back(&s);
  return met;
}

START_TEST(lengths_outside_the_tensor_are_clamped_and_reported) {
  const int64_t shape[] = {B, 1, LQ, LK};
  /* Each wrong number on its own: one too large, and one below zero. */
  struct {
    int32_t queries[B], keys[B], right_queries[B], right_keys[B];
  } runs[] = {
      {{LQ + 1, 0, 2, 3}, {5, 4, 2, 5}, {LQ, 0, 2, 3}, {5, 4, 2, 5}},
      {{3, -2, 2, 3}, {5, 4, 2, 5}, {3, 0, 2, 3}, {5, 4, 2, 5}},
      {{3, 0, 3, 3}, {5, 4, 2, 5}, {3, 0, 2, 3}, {5, 4, 2, 5}}, /* more queries than keys */
      {{3, 0, 2, 3}, {5, 4, 2, LK + 1}, {3, 0, 2, 3}, {5, 4, 2, LK}},
      {{3, 0, 0, 3}, {5, 4, -1, 5}, {3, 0, 0, 3}, {5, 4, 0, 5}},
  };
  float found[B * LQ * LK], right[B * LQ * LK];
  for (size_t n = 0; n < sizeof runs / sizeof *runs; n++) {
    for (int i = 0; i < B * LQ * LK; i++) found[i] = right[i] = (float)(i % 7);
    const uint32_t met = softmax_on(ctx, found, shape, runs[n].queries, runs[n].keys);
    ck_assert_uint_eq(met, CUMEGA_REPORT_LENGTH);
    softmax_on(host, right, shape, runs[n].right_queries, runs[n].right_keys);
    ck_assert_mem_eq(found, right, sizeof right);
    ck_assert_uint_eq(softmax_on(ctx, found, shape, runs[n].right_queries, runs[n].right_keys), 0);
  }
}
END_TEST

START_TEST(the_length_of_a_row_chooses_the_kernel) {
  static const struct {
    int64_t length;
    const char *kernel;
  } rows[] = {{1, "attention_softmax_kernel<32,2>"},     {256, "attention_softmax_kernel<32,2>"},
              {257, "attention_softmax_kernel<32,8>"},   {1025, "attention_softmax_kernel<128,8>"},
              {4097, "attention_softmax_kernel<512,8>"}, {16385, "attention_long_kernel"}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const int64_t shape[] = {1, 1, 1, rows[i].length};
    float *scores = memory_new(4 * rows[i].length);
    softmax_on(ctx, scores, shape, NULL, NULL);
    ck_assert_str_eq(cumega_context_kernels(ctx), rows[i].kernel);
    free(scores);
  }
}
END_TEST

/* More rows than emulated grids have blocks. Each row is one group of keys longer than a block
 * holds. In every type. */
START_TEST(long_rows_of_every_type_have_the_cpus_bits) {
  static const struct {
    DLDataType dtype;
    int64_t length;
  } types[] = {{{kDLFloat, 32, 1}, 16390},
               {{kDLFloat, 16, 1}, 16390},
               {{kDLBfloat, 16, 1}, 16390},
               {{kDLFloat, 64, 1}, 8200}};
  for (int i = 0; i < 4; i++) {
    const int64_t shape[] = {3, 2, 2, types[i].length}, lengths[] = {types[i].length, 4096, 5};
    cumega_context *both[] = {ctx, host};
    test_tensor *output[2];
    for (int k = 0; k < 2; k++) {
      uint64_t seed = 12;
      test_tensor *scores = tensor_new(types[i].dtype, 4, shape, NULL);
      test_tensor *keys = tensor_of_int64(3, lengths);
      output[k] = tensor_new(types[i].dtype, 4, shape, NULL);
      for (int64_t j = 0; j < 12 * types[i].length; j++)
        tensor_set_4(scores, j / (4 * types[i].length), j / (2 * types[i].length) % 2,
                     j / types[i].length % 2, j % types[i].length, random_noise(&seed));
      cumega_attention_scores_io io;
      cumega_attention_scores_io_init(&io, sizeof io);
      io.scores = dl(scores);
      io.output = dl(output[k]);
      io.key_lengths = dl(keys);
      MUST(both[k], device_softmax_with(both[k], NULL, &io));
      if (k == 0) ck_assert_str_eq(cumega_context_kernels(ctx), "attention_long_kernel");
      tensor_free(scores);
      tensor_free(keys);
    }
    ck_assert_mem_eq(tensor_at_4(output[0], 0, 0, 0, 0), tensor_at_4(output[1], 0, 0, 0, 0),
                     (size_t)(12 * types[i].length * (types[i].dtype.bits / 8)));
    tensor_free(output[0]);
    tensor_free(output[1]);
  }
}
END_TEST

START_TEST(no_rows_need_no_scratch) {
  const int64_t shape[] = {0, 2, 3, 20000};
  cumega_attention_scores_io io;
  cumega_attention_scores_io_init(&io, sizeof io);
  cumega_tensor t;
  int64_t bytes = -1;
  io.output = cumega_tensor_init(&t, &t, (DLDevice){kDLCUDA, 0}, cumega_float32, 4, shape);
  io.scores = io.output;
  MUST(ctx, scores_size_with(ctx, NULL, &io, &bytes));
  ck_assert_int_eq(bytes, 0);
  MUST(ctx, softmax_with(ctx, NULL, &io));
}
END_TEST

START_TEST(long_rows_need_the_scratch_that_workspace_size_tells) {
  const int64_t shape[] = {1, 2, 3, 20000};
  cumega_attention_scores_io io;
  cumega_attention_scores_io_init(&io, sizeof io);
  cumega_tensor t;
  cumega_statistics before = {.struct_size = sizeof before}, after = before;
  void *memory = NULL;
  int64_t bytes = 0;
  MUST(ctx, cumega_memory_allocate(ctx, 4 * 120000, &memory));
  io.output = cumega_tensor_init(&t, memory, (DLDevice){kDLCUDA, 0}, cumega_float32, 4, shape);
  io.scores = io.output;
  MUST(ctx, scores_size_with(ctx, NULL, &io, &bytes));
  ck_assert_int_eq(bytes, 6 * 5 * 2 * 4); /* rows, groups, a pair of floats */
  MUST(ctx, cumega_context_reserve(ctx, bytes));
  MUST(ctx, cumega_context_statistics(ctx, &before));
  MUST(ctx, softmax_with(ctx, NULL, &io));
  MUST(ctx, scores_with(ctx, NULL, &io));
  MUST(ctx, cumega_context_statistics(ctx, &after));
  ck_assert_int_eq(after.bytes_peak, before.bytes_peak);
  MUST(ctx, cumega_memory_release(ctx, memory, 4 * 120000));
}
END_TEST

int main(void) {
  Suite *suite = suite_create("cuda_attention");
  TCase *tests = add_case(suite, "position", 120);
  tcase_add_checked_fixture(tests, begin, end);
  tcase_add_test(tests, lengths_outside_the_tensor_are_clamped_and_reported);
  tcase_add_test(tests, the_length_of_a_row_chooses_the_kernel);
  tcase_add_test(tests, long_rows_of_every_type_have_the_cpus_bits);
  tcase_add_test(tests, no_rows_need_no_scratch);
  tcase_add_test(tests, long_rows_need_the_scratch_that_workspace_size_tells);
  return run_suite(suite);
}
