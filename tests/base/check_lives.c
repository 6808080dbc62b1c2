/* The caller's allocator fails at every call of a life in turn: the status is RESOURCE with a
 * message, and nothing leaks. Every life makes all kinds of objects and runs of one operation, on
 * the suite's device, with one thread and with three. */
#include <stdio.h>
#include "counting_allocator.h"
#include "harness.h"
#include "lives.h"
#include "runner.h"

static void check_life(const life *l, int threads, int for_ever) {
  counting_allocator ledger = {0};
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  options.device = device_of_tests();
  options.threads = threads;
  options.allocator = counting_allocator_of(&ledger);
  life_end whole = l->live(&options);
  ck_assert_msg(whole.status == CUMEGA_OK, "%s: %s", l->name, whole.sentence);
  const int64_t calls = ledger.calls;
  ck_assert_int_ge(calls, 4);
  for (int64_t n = 1; n <= calls; n++) {
    ledger.failing_call = ledger.calls + n;
    ledger.for_ever = for_ever;
    const life_end e = l->live(&options);
    ck_assert_msg(e.status == CUMEGA_ERROR_RESOURCE, "%s, allocation %lld: %s: %s", l->name,
                  (long long)n, cumega_status_string(e.status), e.sentence);
    ck_assert_msg(e.sentence[0] != '\0', "%s, allocation %lld: no sentence", l->name,
                  (long long)n);
    ck_assert_int_eq(ledger.blocks, 0);
    ck_assert_int_eq(ledger.bytes, 0);
  }
}

START_TEST(an_allocator_that_fails_at_any_call_is_a_resource_error_and_leaks_nothing) {
  for (int for_ever = 0; for_ever < 2; for_ever++) {
    check_life(&lives[_i], 1, for_ever);
    if (!device_is_cuda()) check_life(&lives[_i], 3, for_ever);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("lives");
  TCase *tests = add_case(suite, "allocations", 300);
  tcase_add_loop_test(tests,
                      an_allocator_that_fails_at_any_call_is_a_resource_error_and_leaks_nothing, 0,
                      life_count);
  return run_suite(suite);
}
