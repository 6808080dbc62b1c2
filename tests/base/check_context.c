/* A context from a program's view: creation and refusals, memory, messages. */
#include <stdio.h>
#include <string.h>
#include "counting_allocator.h"
#include "runner.h"
#include "statuses.h"

static counting_allocator ledger;
static char *saved_level;

static void setup(void) {
  const char *level = getenv("CUMEGA_CPU");
  saved_level = level ? strdup(level) : NULL;
  memset(&ledger, 0, sizeof ledger);
}

static void teardown(void) {
  ck_assert_int_eq(ledger.blocks, 0);
  ck_assert_int_eq(ledger.bytes, 0);
  if (saved_level)
    setenv("CUMEGA_CPU", saved_level, 1);
  else
    unsetenv("CUMEGA_CPU");
  free(saved_level);
}

static cumega_context_options options_with_ledger(void) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  options.allocator = counting_allocator_of(&ledger);
  return options;
}

static cumega_context *new_context(const cumega_context_options *options) {
  cumega_context *ctx = NULL;
  cumega_status status = cumega_context_create(options, &ctx);
  ck_assert_msg(status == CUMEGA_OK, "%s", cumega_context_message(NULL));
  ck_assert_ptr_nonnull(ctx);
  return ctx;
}

static cumega_statistics statistics_of(cumega_context *ctx) {
  cumega_statistics statistics = {.struct_size = sizeof statistics};
  ck_assert_int_eq(cumega_context_statistics(ctx, &statistics), CUMEGA_OK);
  return statistics;
}

/* Creation must fail with this status and a message that contains these words. */
static void expect_refusal(const cumega_context_options *options, cumega_status status,
                           const char *words) {
  cumega_context *ctx = (cumega_context *)&ledger; /* anything but NULL */
  MUST_FAIL(NULL, cumega_context_create(options, &ctx), status, words);
  ck_assert_ptr_null(ctx);
}

START_TEST(the_default_is_a_cpu_context_with_one_thread) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  ck_assert_uint_eq(options.struct_size, sizeof options);
  ck_assert_int_eq(options.device.device_type, kDLCPU);
  ck_assert_int_eq(options.threads, 1);
  ck_assert_int_eq(options.memory_limit, 0);
  cumega_context *ctx = new_context(NULL);
  ck_assert_int_eq(strncmp(cumega_context_backend(ctx), "cpu", 3), 0);
  ck_assert_str_eq(cumega_context_message(ctx), "");
  ck_assert_int_eq(cumega_context_synchronize(ctx), CUMEGA_OK);
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(null_is_an_argument_error_or_nothing) {
  cumega_statistics statistics = {.struct_size = sizeof statistics};
  uint32_t bits;
  cumega_context_destroy(NULL);
  ck_assert_str_eq(cumega_context_backend(NULL), "");
  ck_assert_int_eq(cumega_context_create(NULL, NULL), CUMEGA_ERROR_ARGUMENT);
  ck_assert_str_eq(cumega_context_message(NULL), "ctx is NULL");
  ck_assert_int_eq(cumega_context_synchronize(NULL), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_context_reserve(NULL, 1), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_context_set_stream(NULL, NULL), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_context_report(NULL, &bits), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_context_statistics(NULL, &statistics), CUMEGA_ERROR_ARGUMENT);
  ck_assert_str_eq(cumega_context_message(NULL), "ctx is NULL");
  cumega_context *ctx = new_context(NULL);
  ck_assert_str_eq(cumega_context_message(NULL), "");
  ck_assert_int_eq(cumega_context_report(ctx, NULL), CUMEGA_ERROR_ARGUMENT);
  ck_assert_str_eq(cumega_context_message(ctx), "bits is NULL");
  ck_assert_int_eq(cumega_context_statistics(ctx, NULL), CUMEGA_ERROR_ARGUMENT);
  ck_assert_str_eq(cumega_context_message(ctx), "statistics is NULL");
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(devices_that_are_not_there_are_refused) {
  static const struct {
    int type, id;
    cumega_status status;
    const char *words;
  } cases[] = {
      {kDLCUDA, 9999, CUMEGA_ERROR_DEVICE, "device cuda:9999 was asked for, but "},
      {kDLCUDAManaged, 9999, CUMEGA_ERROR_DEVICE, "device cuda:9999 was asked for, but "},
      {kDLCUDA, -1, CUMEGA_ERROR_ARGUMENT, "cuda:-1, expected an id of at least 0"},
      {kDLCUDAManaged, -1, CUMEGA_ERROR_ARGUMENT, "cuda:-1, expected an id of at least 0"},
      {kDLCPU, 1, CUMEGA_ERROR_ARGUMENT, "options.device is cpu:1, expected cpu:0"},
      {kDLCPU, -1, CUMEGA_ERROR_ARGUMENT, "options.device is cpu:-1, expected cpu:0"},
      {kDLCUDAHost, 0, CUMEGA_ERROR_ARGUMENT, "{type 3, id 0}, expected cumega_cpu or"},
      {kDLROCM, 0, CUMEGA_ERROR_ARGUMENT, "{type 10, id 0}, expected cumega_cpu or"},
      {0, 0, CUMEGA_ERROR_ARGUMENT, "{type 0, id 0}, expected cumega_cpu or"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    cumega_context_options options = options_with_ledger();
    options.device.device_type = (DLDeviceType)cases[i].type;
    options.device.device_id = cases[i].id;
    int64_t calls = ledger.calls;
    expect_refusal(&options, cases[i].status, cases[i].words);
    if (cases[i].status == CUMEGA_ERROR_ARGUMENT) ck_assert_int_eq(ledger.calls, calls);
    ck_assert_int_eq(ledger.bytes, 0);
  }
}
END_TEST

START_TEST(options_out_of_range_are_refused_by_name) {
  cumega_context_options options = options_with_ledger();
  static const int32_t threads[] = {0, -1, 1025, INT32_MAX, INT32_MIN};
  for (size_t i = 0; i < sizeof threads / sizeof *threads; i++) {
    char words[80];
    options.threads = threads[i];
    snprintf(words, sizeof words, "options.threads is %d, expected 1 .. 1024", threads[i]);
    expect_refusal(&options, CUMEGA_ERROR_ARGUMENT, words);
  }
  options = options_with_ledger();
  options.memory_limit = -1;
  expect_refusal(&options, CUMEGA_ERROR_ARGUMENT, "options.memory_limit is -1");
  options = options_with_ledger();
  options.stream = &options;
  expect_refusal(&options, CUMEGA_ERROR_ARGUMENT, "options.stream is ");
  options = options_with_ledger();
  options.allocator.release = NULL;
  expect_refusal(&options, CUMEGA_ERROR_ARGUMENT, "options.allocator has only allocate");
  options = options_with_ledger();
  options.allocator.allocate = NULL;
  expect_refusal(&options, CUMEGA_ERROR_ARGUMENT, "options.allocator has only release");
  options.device.device_type = kDLCUDA; /* arguments are checked before devices */
  expect_refusal(&options, CUMEGA_ERROR_ARGUMENT, "options.allocator has only release");
  ck_assert_int_eq(ledger.calls, 0);
}
END_TEST

START_TEST(options_of_a_wrong_size_are_refused) {
  cumega_context_options options = options_with_ledger();
  char words[80];
  options.struct_size = 0;
  snprintf(words, sizeof words, "options.struct_size is 0, expected at least %zu", sizeof options);
  expect_refusal(&options, CUMEGA_ERROR_ARGUMENT, words);
  options.struct_size = sizeof options - 1;
  expect_refusal(&options, CUMEGA_ERROR_ARGUMENT, "options.struct_size is ");
  options.struct_size = SIZE_MAX;
  expect_refusal(&options, CUMEGA_ERROR_ARGUMENT, "options.struct_size is ");
}
END_TEST

START_TEST(options_from_the_future_are_accepted_while_their_tail_is_zero) {
  struct {
    cumega_context_options known;
    char tail[48];
  } future;
  memset(&future, 0, sizeof future);
  future.known = options_with_ledger();
  future.known.struct_size = sizeof future;
  cumega_context_destroy(new_context(&future.known));
  for (size_t i = 0; i < sizeof future.tail; i++) {
    future.tail[i] = 1;
    expect_refusal(&future.known, CUMEGA_ERROR_UNSUPPORTED, "built for a newer one");
    future.tail[i] = 0;
  }
}
END_TEST

START_TEST(statistics_of_other_headers_are_filled_as_far_as_they_reach) {
  cumega_context *ctx = new_context(NULL);
  struct {
    cumega_statistics known;
    char tail[16];
    char guard[16];
  } future;
  memset(&future, 0x5a, sizeof future);
  future.known.struct_size = sizeof future.known + sizeof future.tail;
  ck_assert_int_eq(cumega_context_statistics(ctx, &future.known), CUMEGA_OK);
  ck_assert_uint_eq(future.known.struct_size, sizeof future.known + sizeof future.tail);
  ck_assert_int_gt(future.known.bytes_held, 0);
  for (size_t i = 0; i < sizeof future.tail; i++) {
    ck_assert_int_eq(future.tail[i], 0);
    ck_assert_int_eq(future.guard[i], 0x5a);
  }
  cumega_statistics small = {.struct_size = sizeof small - 8, .bytes_held = 77};
  ck_assert_int_eq(cumega_context_statistics(ctx, &small), CUMEGA_ERROR_ARGUMENT);
  ck_assert_ptr_nonnull(strstr(cumega_context_message(ctx), "statistics.struct_size is "));
  ck_assert_int_eq(small.bytes_held, 77);
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(a_success_clears_the_sentence_and_a_failure_replaces_it) {
  cumega_context *ctx = new_context(NULL);
  ck_assert_int_eq(cumega_context_reserve(ctx, -5), CUMEGA_ERROR_ARGUMENT);
  ck_assert_str_eq(cumega_context_message(ctx), "bytes is -5, expected at least 0");
  ck_assert_int_eq(cumega_context_set_stream(ctx, ctx), CUMEGA_ERROR_UNSUPPORTED);
  ck_assert_ptr_nonnull(strstr(cumega_context_message(ctx), "a CPU context has no streams"));
  ck_assert_int_eq(cumega_context_set_stream(ctx, NULL), CUMEGA_OK);
  ck_assert_str_eq(cumega_context_message(ctx), "");
  ck_assert_str_eq(cumega_context_message(NULL), "");
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(a_cpu_reports_no_bits) {
  cumega_context *ctx = new_context(NULL);
  uint32_t bits = CUMEGA_REPORT_LENGTH;
  ck_assert_int_eq(cumega_context_report(ctx, &bits), CUMEGA_OK);
  ck_assert_uint_eq(bits, 0);
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(statistics_are_the_allocators_ledger) {
  cumega_context_options options = options_with_ledger();
  options.threads = 3;
  cumega_context *ctx = new_context(&options);
  cumega_statistics at_first = statistics_of(ctx);
  ck_assert_int_eq(at_first.bytes_held, ledger.bytes);
  ck_assert_int_eq(at_first.bytes_peak, ledger.bytes);
  ck_assert_int_eq(at_first.scratch_bytes, 0);
  ck_assert_int_eq(at_first.runs, 0);

  ck_assert_int_eq(cumega_context_reserve(ctx, 1000), CUMEGA_OK);
  cumega_statistics reserved = statistics_of(ctx);
  ck_assert_int_eq(reserved.bytes_held, at_first.bytes_held + 1000);
  ck_assert_int_eq(reserved.bytes_held, ledger.bytes);
  ck_assert_int_eq(reserved.bytes_peak, reserved.bytes_held);
  ck_assert_int_eq(reserved.scratch_bytes, 1000);

  int64_t calls = ledger.calls;
  ck_assert_int_eq(cumega_context_reserve(ctx, 0), CUMEGA_OK);
  ck_assert_int_eq(cumega_context_reserve(ctx, 999), CUMEGA_OK);
  ck_assert_int_eq(ledger.calls, calls);
  ck_assert_int_eq(statistics_of(ctx).scratch_bytes, 1000);

  ck_assert_int_eq(cumega_context_reserve(ctx, 3000), CUMEGA_OK);
  cumega_statistics grown = statistics_of(ctx);
  ck_assert_int_eq(grown.bytes_held, at_first.bytes_held + 3000);
  ck_assert_int_eq(grown.bytes_held, ledger.bytes);
  ck_assert_int_eq(grown.bytes_peak, at_first.bytes_held + 4000); /* old and new at once */
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(memory_of_a_context_is_written_and_read) {
  cumega_context *ctx = NULL;
  cumega_context_options options = options_with_ledger();
  cumega_statistics before = {.struct_size = sizeof before}, after = before;
  char to[8] = "";
  void *memory = NULL;
  ck_assert_int_eq(cumega_context_create(&options, &ctx), CUMEGA_OK);
  ck_assert_int_eq(cumega_context_statistics(ctx, &before), CUMEGA_OK);
  ck_assert_int_eq(cumega_memory_allocate(ctx, 8, &memory), CUMEGA_OK);
  ck_assert_int_eq(cumega_memory_write(ctx, memory, "7 bytes", 8), CUMEGA_OK);
  ck_assert_int_eq(cumega_memory_read(ctx, to, memory, 8), CUMEGA_OK);
  ck_assert_str_eq(to, "7 bytes");
  ck_assert_int_eq(cumega_memory_release(ctx, memory, 8), CUMEGA_OK);
  ck_assert_int_eq(cumega_context_statistics(ctx, &after), CUMEGA_OK);
  ck_assert_int_eq(after.bytes_held, before.bytes_held);
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(the_memory_limit_is_kept_and_named) {
  cumega_context_options options = options_with_ledger();
  cumega_context *ctx = new_context(&options);
  int64_t own = statistics_of(ctx).bytes_held;
  cumega_context_destroy(ctx);

  options.memory_limit = own + 100;
  ctx = new_context(&options);
  ck_assert_int_eq(cumega_context_reserve(ctx, 101), CUMEGA_ERROR_RESOURCE);
  char sentence[160];
  snprintf(sentence, sizeof sentence,
           "cannot allocate 101 bytes for scratch: memory_limit is %lld, of which %lld are held",
           (long long)own + 100, (long long)own);
  ck_assert_str_eq(cumega_context_message(ctx), sentence);
  ck_assert_int_eq(statistics_of(ctx).bytes_held, own);
  ck_assert_int_eq(statistics_of(ctx).bytes_peak, own);
  ck_assert_int_eq(cumega_context_reserve(ctx, 100), CUMEGA_OK);
  ck_assert_int_eq(cumega_context_reserve(ctx, 101), CUMEGA_ERROR_RESOURCE);
  ck_assert_int_eq(statistics_of(ctx).scratch_bytes, 100);
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(a_limit_below_the_context_itself_is_a_resource_error) {
  cumega_context_options options = options_with_ledger();
  options.threads = 2;
  cumega_context *ctx = new_context(&options);
  int64_t own = statistics_of(ctx).bytes_held;
  cumega_context_destroy(ctx);
  for (options.memory_limit = 1; options.memory_limit < own; options.memory_limit++) {
    ck_assert_int_eq(cumega_context_create(&options, &ctx), CUMEGA_ERROR_RESOURCE);
    ck_assert_ptr_null(ctx);
    ck_assert_ptr_nonnull(strstr(cumega_context_message(NULL), "memory_limit"));
    ck_assert_int_eq(ledger.blocks, 0);
  }
  cumega_context_destroy(new_context(&options));
}
END_TEST

START_TEST(sizes_that_no_machine_has_are_resource_errors) {
  cumega_context_options options = options_with_ledger();
  cumega_context *ctx = new_context(&options);
  ck_assert_int_eq(cumega_context_reserve(ctx, INT64_MAX), CUMEGA_ERROR_RESOURCE);
  ck_assert_int_eq(cumega_context_reserve(ctx, INT64_MAX - 64), CUMEGA_ERROR_RESOURCE);
  ck_assert_int_eq(cumega_context_reserve(ctx, 64), CUMEGA_OK);
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(an_allocator_that_fails_at_any_call_leaks_nothing) {
  cumega_context_options options = options_with_ledger();
  options.threads = 2;
  int64_t n = 0;
  for (cumega_status status = CUMEGA_ERROR_RESOURCE; status != CUMEGA_OK;) {
    cumega_context *ctx = (cumega_context *)&ledger;
    memset(&ledger, 0, sizeof ledger);
    ledger.failing_call = ++n;
    status = cumega_context_create(&options, &ctx);
    if (status == CUMEGA_OK) {
      ck_assert_int_lt(ledger.calls, n);
      cumega_context_destroy(ctx);
    } else {
      ck_assert_int_eq(status, CUMEGA_ERROR_RESOURCE);
      ck_assert_ptr_null(ctx);
      ck_assert_str_ne(cumega_context_message(NULL), "");
    }
    ck_assert_int_eq(ledger.blocks, 0);
    ck_assert_int_eq(ledger.bytes, 0);
  }
  ck_assert_int_ge(n, 4); /* the account, the context and its threads fail in turn */
}
END_TEST

START_TEST(an_allocator_that_ignores_alignment_is_refused) {
  cumega_context_options options = options_with_ledger();
  ledger.misaligned = 1;
  expect_refusal(&options, CUMEGA_ERROR_RESOURCE, "aligned to 64 bytes");
}
END_TEST

START_TEST(a_refused_reservation_can_be_tried_again) {
  cumega_context_options options = options_with_ledger();
  options.memory_limit = 1 << 20; /* far away, so not the reason */
  cumega_context *ctx = new_context(&options);
  ledger.failing_call = ledger.calls + 1;
  ck_assert_int_eq(cumega_context_reserve(ctx, 500), CUMEGA_ERROR_RESOURCE);
  ck_assert_ptr_nonnull(strstr(cumega_context_message(ctx),
                               "cannot allocate 500 bytes for scratch: the allocator gave no"));
  ck_assert_int_eq(statistics_of(ctx).scratch_bytes, 0);
  ck_assert_int_eq(cumega_context_reserve(ctx, 500), CUMEGA_OK);
  ck_assert_str_eq(cumega_context_message(ctx), "");
  cumega_context_destroy(ctx);
}
END_TEST

typedef struct logged {
  int lines;
  cumega_log_level level;
  char last[1024];
} logged;

static void keep_line(void *user, cumega_log_level level, const char *message) {
  logged *l = user;
  l->lines++;
  l->level = level;
  snprintf(l->last, sizeof l->last, "%s", message);
}

START_TEST(the_choice_of_level_and_growing_scratch_are_logged) {
  logged l = {.level = (cumega_log_level)99};
  cumega_context_options options = options_with_ledger();
  options.log_callback = keep_line;
  options.log_user = &l;
  unsetenv("CUMEGA_CPU");
  cumega_context *ctx = new_context(&options);
  ck_assert_int_eq(l.lines, 1);
  ck_assert_int_eq(l.level, CUMEGA_LOG_INFO);
  ck_assert_ptr_nonnull(strstr(l.last, cumega_context_backend(ctx)));
  ck_assert_ptr_nonnull(strstr(l.last, "the best that this machine and this build have"));
  ck_assert_int_eq(cumega_context_reserve(ctx, 10), CUMEGA_OK);
  ck_assert_str_eq(l.last, "scratch grew from 0 to 10 bytes");
  ck_assert_int_eq(cumega_context_reserve(ctx, 10), CUMEGA_OK);
  ck_assert_int_eq(l.lines, 2);
  cumega_context_destroy(ctx);
  setenv("CUMEGA_CPU", "plain", 1);
  ctx = new_context(&options);
  ck_assert_ptr_nonnull(strstr(l.last, "CPU level plain"));
  ck_assert_ptr_nonnull(strstr(l.last, "named by CUMEGA_CPU"));
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(cumega_cpu_names_the_level_or_is_refused) {
  cumega_context_options options = options_with_ledger();
  static const char *const bad[] = {"x", "V3", "v3 ", "plain,v3", "v5"};
  char words[120];
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    setenv("CUMEGA_CPU", bad[i], 1);
    snprintf(words, sizeof words, "CUMEGA_CPU is '%s', expected plain, v3 or v4", bad[i]);
    expect_refusal(&options, CUMEGA_ERROR_ARGUMENT, words);
  }
  static const char *const levels[] = {"plain", "v3", "v4"};
  for (int i = 0; i < 3; i++) {
    cumega_context *ctx = NULL;
    setenv("CUMEGA_CPU", levels[i], 1);
    cumega_status status = cumega_context_create(&options, &ctx);
    if (status == CUMEGA_OK) {
      printf("CUMEGA_CPU=%s: %s\n", levels[i], cumega_context_backend(ctx));
      if (i > 0) ck_assert_ptr_nonnull(strstr(cumega_context_backend(ctx), levels[i]));
      cumega_context_destroy(ctx);
      continue;
    }
    ck_assert_int_gt(i, 0);
    snprintf(words, sizeof words, "CUMEGA_CPU is '%s', but this ", levels[i]);
    expect_refusal(&options, CUMEGA_ERROR_UNSUPPORTED, words);
    printf("CUMEGA_CPU=%s: %s\n", levels[i], cumega_context_message(NULL));
  }
}
END_TEST

START_TEST(an_empty_cumega_cpu_counts_as_unset) {
  unsetenv("CUMEGA_CPU");
  cumega_context *unset = new_context(NULL);
  setenv("CUMEGA_CPU", "", 1);
  cumega_context *empty = new_context(NULL);
  ck_assert_str_eq(cumega_context_backend(unset), cumega_context_backend(empty));
  cumega_context_destroy(unset);
  cumega_context_destroy(empty);
}
END_TEST

static void add_creation(Suite *suite) {
  TCase *tests = add_case(suite, "creation", 30);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, the_default_is_a_cpu_context_with_one_thread);
  tcase_add_test(tests, null_is_an_argument_error_or_nothing);
  tcase_add_test(tests, devices_that_are_not_there_are_refused);
  tcase_add_test(tests, options_out_of_range_are_refused_by_name);
  tcase_add_test(tests, options_of_a_wrong_size_are_refused);
  tcase_add_test(tests, options_from_the_future_are_accepted_while_their_tail_is_zero);
  tcase_add_test(tests, the_choice_of_level_and_growing_scratch_are_logged);
  tcase_add_test(tests, cumega_cpu_names_the_level_or_is_refused);
  tcase_add_test(tests, an_empty_cumega_cpu_counts_as_unset);
}

static void add_use(Suite *suite) {
  TCase *tests = add_case(suite, "use", 30);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, statistics_of_other_headers_are_filled_as_far_as_they_reach);
  tcase_add_test(tests, a_success_clears_the_sentence_and_a_failure_replaces_it);
  tcase_add_test(tests, a_cpu_reports_no_bits);
  tcase_add_test(tests, statistics_are_the_allocators_ledger);
  tcase_add_test(tests, memory_of_a_context_is_written_and_read);
  tcase_add_test(tests, the_memory_limit_is_kept_and_named);
  tcase_add_test(tests, a_limit_below_the_context_itself_is_a_resource_error);
  tcase_add_test(tests, sizes_that_no_machine_has_are_resource_errors);
  tcase_add_test(tests, an_allocator_that_fails_at_any_call_leaks_nothing);
  tcase_add_test(tests, an_allocator_that_ignores_alignment_is_refused);
  tcase_add_test(tests, a_refused_reservation_can_be_tried_again);
}

int main(void) {
  Suite *suite = suite_create("context");
  add_creation(suite);
  add_use(suite);
  return run_suite(suite);
}
