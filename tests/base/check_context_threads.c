/* Contexts with threads and processes: fork, two threads at once, threads that cannot be
 * started. */
#include <fenv.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cumega/cumega.h>
#include "child.h"
#include "counting_allocator.h"
#include "runner.h"
#include "settled_threads.h"

static counting_allocator ledger;

static void setup(void) {
  memset(&ledger, 0, sizeof ledger);
}

static void teardown(void) {
  ck_assert_int_eq(ledger.blocks, 0);
  ck_assert_int_eq(ledger.bytes, 0);
}

static cumega_context_options options_with_ledger(void) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  options.allocator = counting_allocator_of(&ledger);
  return options;
}

/* What a forked child finds: the number of the false claim, or 0. */
static int claims_of_a_child(cumega_context *ctx) {
  cumega_statistics statistics = {.struct_size = sizeof statistics};
  uint32_t bits = 77;
  int64_t blocks = ledger.blocks;
  if (cumega_context_synchronize(ctx) != CUMEGA_ERROR_STATE) return 1;
  if (!strstr(cumega_context_message(ctx), "make a context here")) return 2;
  if (cumega_context_reserve(ctx, 10) != CUMEGA_ERROR_STATE) return 3;
  if (cumega_context_set_stream(ctx, NULL) != CUMEGA_ERROR_STATE) return 4;
  if (cumega_context_report(ctx, &bits) != CUMEGA_ERROR_STATE || bits != 77) return 5;
  if (cumega_context_statistics(ctx, &statistics) != CUMEGA_ERROR_STATE) return 6;
  if (cumega_context_backend(ctx)[0] == '\0') return 7;
  cumega_context_destroy(ctx);
  if (ledger.blocks != blocks) return 8;
  cumega_context_options options = options_with_ledger();
#ifndef THREAD_SANITIZED /* it allows no threads after a fork if the program had some */
  options.threads = 2;
#endif
  cumega_context *own;
  if (cumega_context_create(&options, &own) != CUMEGA_OK) return 9;
  if (cumega_context_reserve(own, 10) != CUMEGA_OK) return 10;
  cumega_context_destroy(own);
  return ledger.blocks == blocks ? 0 : 11;
}

START_TEST(a_forked_child_cannot_use_the_context_and_the_parent_goes_on) {
  for (int32_t threads = 1; threads <= 3; threads += 2) {
    cumega_context_options options = options_with_ledger();
    options.threads = threads;
    cumega_context *ctx = NULL;
    ck_assert_int_eq(cumega_context_create(&options, &ctx), CUMEGA_OK);
    fflush(NULL);
    wait_for_settled_threads();
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) end_child(claims_of_a_child(ctx));
    int status = -1;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(status == 0, "the child's status: %#x", (unsigned)status);
    ck_assert_int_eq(cumega_context_reserve(ctx, 100), CUMEGA_OK);
    cumega_context_destroy(ctx);
  }
}
END_TEST

/* Fails again and again on its own context, and counts the messages that belong to another. */
static void *fail_in_a_thread(void *argument) {
  int64_t number = *(int64_t *)argument, wrong = 0;
  char on_context[80], on_thread[80];
  cumega_context *ctx = NULL;
  snprintf(on_context, sizeof on_context, "bytes is -%lld, expected at least 0",
           (long long)number);
  snprintf(on_thread, sizeof on_thread, "options.threads is -%lld, ", (long long)number);
  cumega_context_options bad;
  cumega_context_options_init(&bad, sizeof bad);
  bad.threads = (int32_t)-number;
  if (cumega_context_create(NULL, &ctx) != CUMEGA_OK) return argument;
  for (int i = 0; i < 2000; i++) {
    cumega_context *none;
    if (cumega_context_reserve(ctx, -number) != CUMEGA_ERROR_ARGUMENT) wrong++;
    if (cumega_context_create(&bad, &none) != CUMEGA_ERROR_ARGUMENT) wrong++;
    if (strcmp(cumega_context_message(ctx), on_context) != 0) wrong++;
    if (!strstr(cumega_context_message(NULL), on_thread)) wrong++;
  }
  cumega_context_destroy(ctx);
  return wrong ? argument : NULL;
}

START_TEST(contexts_and_sentences_of_two_threads_are_their_own) {
  pthread_t threads[2];
  int64_t numbers[2] = {1, 2};
  ck_assert_int_eq(cumega_context_synchronize(NULL), CUMEGA_ERROR_ARGUMENT);
  for (int i = 0; i < 2; i++)
    ck_assert_int_eq(pthread_create(&threads[i], NULL, fail_in_a_thread, &numbers[i]), 0);
  for (int i = 0; i < 2; i++) {
    void *wrong;
    pthread_join(threads[i], &wrong);
    ck_assert_ptr_null(wrong);
  }
  ck_assert_str_eq(cumega_context_message(NULL), "ctx is NULL");
}
END_TEST

START_TEST(the_most_threads_are_accepted_as_far_as_the_system_has_them) {
  cumega_context_options options = options_with_ledger();
  cumega_context *ctx = NULL;
  options.threads = 1024;
  cumega_status status = cumega_context_create(&options, &ctx);
  ck_assert_int_eq(ctx != NULL, status == CUMEGA_OK);
  if (status != CUMEGA_OK) {
    ck_assert_int_eq(status, CUMEGA_ERROR_RESOURCE);
    printf("1024 threads: %s\n", cumega_context_message(NULL));
  }
  cumega_context_destroy(ctx);
}
END_TEST

#ifndef SANITIZED /* its own memory would exceed the limit first */
/* In a child whose address space has room for a few stacks, but not for 1023. */
START_TEST(threads_that_the_system_refuses_are_a_resource_error) {
  fflush(NULL);
  pid_t child = fork();
  ck_assert_int_ge(child, 0);
  if (child == 0) {
    cumega_context_options options = options_with_ledger();
    cumega_context *ctx = (cumega_context *)&ledger;
    struct rlimit limit = {100 << 20, 100 << 20};
    options.threads = 1024;
    if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(1);
    if (cumega_context_create(&options, &ctx) != CUMEGA_ERROR_RESOURCE) _exit(2);
    if (ctx != NULL || ledger.blocks != 0) _exit(3);
    if (strcmp(cumega_context_message(NULL),
               "cannot make options.threads = 1024 threads: the system refused a thread") != 0)
      _exit(4);
    options.threads = 2;
    if (cumega_context_create(&options, &ctx) != CUMEGA_OK) _exit(5);
    cumega_context_destroy(ctx);
    _exit(0);
  }
  int status = -1;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_msg(status == 0, "the child's status: %#x", (unsigned)status);
}
END_TEST
#endif

START_TEST(creating_and_destroying_keep_the_floating_point_environment) {
  cumega_context_options options = options_with_ledger();
  options.threads = 2;
  fenv_t original;
  fegetenv(&original);
  fesetround(FE_UPWARD);
  cumega_context *ctx = NULL;
  cumega_status status = cumega_context_create(&options, &ctx);
  cumega_context_destroy(ctx);
  int rounding = fegetround();
  fesetenv(&original);
  ck_assert_int_eq(status, CUMEGA_OK);
  ck_assert_int_eq(rounding, FE_UPWARD);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("context threads");
  TCase *tests = add_case(suite, "threads and processes", 60);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, a_forked_child_cannot_use_the_context_and_the_parent_goes_on);
  tcase_add_test(tests, contexts_and_sentences_of_two_threads_are_their_own);
  tcase_add_test(tests, the_most_threads_are_accepted_as_far_as_the_system_has_them);
#ifndef SANITIZED
  tcase_add_test(tests, threads_that_the_system_refuses_are_a_resource_error);
#else
  printf("skipped under a sanitizer: threads_that_the_system_refuses_are_a_resource_error\n");
#endif
  tcase_add_test(tests, creating_and_destroying_keep_the_floating_point_environment);
  return run_suite(suite);
}
