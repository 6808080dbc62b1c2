/* The account: what it holds, its limit, and what keeps it alive. */
#include <pthread.h>
#include <string.h>
#include "memory.h"
#include "counting_allocator.h"
#include "runner.h"

static counting_allocator ledger;

static memory *new_memory(int64_t limit) {
  cumega_allocator allocator = counting_allocator_of(&ledger);
  return memory_create(&allocator, limit);
}

static void fresh_ledger(void) {
  memset(&ledger, 0, sizeof ledger);
}

static void expect_no_leak(void) {
  ck_assert_int_eq(ledger.blocks, 0);
  ck_assert_int_eq(ledger.bytes, 0);
}

START_TEST(the_account_equals_the_allocators_ledger) {
  memory *m = new_memory(0);
  int64_t own = memory_held(m);
  ck_assert_int_eq(own, ledger.bytes);
  ck_assert_int_eq(memory_peak(m), own);
  void *a = memory_allocate(m, 1000), *b = memory_allocate(m, 1);
  ck_assert_int_eq(memory_held(m), own + 1001);
  ck_assert_int_eq(memory_held(m), ledger.bytes);
  memory_free(m, a, 1000);
  ck_assert_int_eq(memory_held(m), own + 1);
  ck_assert_int_eq(memory_peak(m), own + 1001);
  memory_free(m, b, 1);
  ck_assert_int_eq(memory_held(m), own);
  memory_release(m);
  expect_no_leak();
}
END_TEST

START_TEST(the_peak_is_the_most_that_was_ever_held) {
  memory *m = new_memory(0);
  const int64_t own = memory_held(m);
  void *a = memory_allocate(m, 1000);
  memory_free(m, a, 1000);
  void *b = memory_allocate(m, 10);
  ck_assert_int_eq(memory_peak(m), own + 1000);
  memory_free(m, b, 10);
  memory_release(m);
  expect_no_leak();
}
END_TEST

/* A device's memory, from another allocator. */
START_TEST(what_is_charged_counts_like_what_is_allocated) {
  memory *m = new_memory(5000);
  const int64_t own = memory_held(m), room = 5000 - own;
  ck_assert_int_eq(memory_charge(m, -1), 0);
  ck_assert_int_eq(memory_charge(m, room + 1), 0);
  ck_assert_int_eq(memory_held(m), own);
  ck_assert_int_eq(memory_peak(m), own);
  ck_assert_int_eq(memory_charge(m, room), 1);
  ck_assert_int_eq(memory_held(m), 5000);
  ck_assert_int_eq(memory_peak(m), 5000);
  ck_assert_int_eq(memory_charge(m, 0), 1);
  ck_assert_int_eq(memory_charge(m, 1), 0);
  ck_assert_ptr_null(memory_allocate(m, 1));
  memory_discharge(m, room);
  ck_assert_int_eq(memory_held(m), own);
  memory_release(m);
  expect_no_leak();
}
END_TEST

START_TEST(memory_is_aligned_and_writable_to_its_last_byte) {
  cumega_allocator library = {0};
  memory *m = memory_create(&library, 0);
  for (int64_t bytes = 1; bytes < 300; bytes++) {
    unsigned char *p = memory_allocate(m, bytes);
    ck_assert_ptr_nonnull(p);
    ck_assert_uint_eq((uintptr_t)p % MEMORY_ALIGNMENT, 0);
    memset(p, 0xab, (size_t)bytes);
    memory_free(m, p, bytes);
  }
  memory_release(m);
}
END_TEST

START_TEST(no_bytes_give_a_pointer_that_can_be_freed) {
  memory *m = new_memory(0);
  int64_t own = memory_held(m);
  void *a = memory_allocate(m, 0), *b = memory_allocate(m, 0);
  ck_assert_ptr_nonnull(a);
  ck_assert_ptr_nonnull(b);
  ck_assert_ptr_ne(a, b);
  memory_free(m, a, 0);
  memory_free(m, b, 0);
  memory_free(m, NULL, 100);
  ck_assert_int_eq(memory_held(m), own);
  memory_release(m);
  expect_no_leak();
}
END_TEST

START_TEST(the_limit_is_met_exactly_and_never_passed) {
  memory *unlimited = new_memory(0);
  int64_t own = memory_held(unlimited);
  ck_assert_int_eq(memory_limit(unlimited), 0);
  memory_release(unlimited);

  memory *m = new_memory(own + 100);
  ck_assert_int_eq(memory_limit(m), own + 100);
  ck_assert_ptr_null(memory_allocate(m, 101));
  void *p = memory_allocate(m, 100);
  ck_assert_ptr_nonnull(p);
  ck_assert_ptr_null(memory_allocate(m, 1));
  ck_assert_ptr_null(memory_allocate(m, 0));
  memory_free(m, p, 100);
  ck_assert_int_eq(memory_held(m), own);
  ck_assert_int_eq(memory_peak(m), own + 100);
  memory_release(m);

  m = new_memory(own);
  ck_assert_ptr_nonnull(m);
  memory_release(m);
  ck_assert_ptr_null(new_memory(own - 1));
  expect_no_leak();
}
END_TEST

START_TEST(sizes_that_cannot_be_are_refused_without_asking) {
  memory *m = new_memory(0);
  void *p = memory_allocate(m, 1);
  int64_t calls = ledger.calls, held = memory_held(m);
  int64_t sizes[] = {-1, INT64_MIN, INT64_MAX, INT64_MAX - MEMORY_ALIGNMENT, INT64_MAX - held};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
    ck_assert_ptr_null(memory_allocate(m, sizes[i]));
  ck_assert_int_eq(ledger.calls, calls);
  ck_assert_int_eq(memory_held(m), held);
  memory_free(m, p, 1);
  memory_release(m);
  m = new_memory(INT64_MAX);
  ck_assert_int_eq(memory_limit(m), INT64_MAX);
  ck_assert_ptr_null(memory_allocate(m, INT64_MAX));
  memory_release(m);
  expect_no_leak();
}
END_TEST

START_TEST(a_refusal_of_the_allocator_leaves_the_account_as_it_was) {
  ledger.failing_call = 1;
  ck_assert_ptr_null(new_memory(0));
  ledger.failing_call = 3;
  memory *m = new_memory(0);
  int64_t own = memory_held(m);
  ck_assert_ptr_null(memory_allocate(m, 1000));
  ck_assert_int_eq(memory_held(m), own);
  ck_assert_int_eq(memory_peak(m), own);
  void *p = memory_allocate(m, 1000);
  ck_assert_ptr_nonnull(p);
  memory_free(m, p, 1000);
  memory_release(m);
  expect_no_leak();
}
END_TEST

START_TEST(misaligned_memory_is_given_back_and_refused) {
  ledger.misaligned = 1;
  ck_assert_ptr_null(new_memory(0));
  ck_assert_int_eq(ledger.calls, 1);
  expect_no_leak();
}
END_TEST

START_TEST(an_account_lives_until_its_last_holder_is_gone) {
  memory *m = new_memory(0);
  ck_assert_ptr_eq(memory_retain(m), m);
  ck_assert_ptr_eq(memory_retain(m), m);
  memory_release(m);
  memory_release(m);
  void *p = memory_allocate(m, 10);
  ck_assert_ptr_nonnull(p);
  memory_free(m, p, 10);
  ck_assert_int_eq(ledger.blocks, 1);
  memory_release(m);
  expect_no_leak();
}
END_TEST

enum { THREADS = 4, ROUNDS = 5000, SLOTS = 3, BLOCK = 64 };

/* Holds up to three blocks at a time and frees all of them. */
static void *allocate_in_turns(void *argument) {
  memory *m = argument;
  void *held[SLOTS] = {NULL};
  for (int i = 0; i < ROUNDS; i++) {
    void **slot = &held[i % SLOTS];
    memory_free(m, *slot, BLOCK);
    *slot = memory_allocate(m, BLOCK);
    if (*slot) memset(*slot, i & 0xff, BLOCK);
  }
  for (int i = 0; i < SLOTS; i++) memory_free(m, held[i], BLOCK);
  memory_release(m);
  return NULL;
}

/* Four threads want up to twelve blocks, and the limit allows five. */
START_TEST(threads_together_never_pass_the_limit) {
  memory *unlimited = new_memory(0);
  int64_t own = memory_held(unlimited), limit = own + 5 * BLOCK;
  memory_release(unlimited);
  memory *m = new_memory(limit);
  pthread_t threads[THREADS];
  for (int i = 0; i < THREADS; i++)
    ck_assert_int_eq(pthread_create(&threads[i], NULL, allocate_in_turns, memory_retain(m)), 0);
  for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
  ck_assert_int_eq(memory_held(m), own);
  ck_assert_int_le(memory_peak(m), limit);
  ck_assert_int_ge(memory_peak(m), own + SLOTS * BLOCK);
  memory_release(m);
  expect_no_leak();
}
END_TEST

int main(void) {
  Suite *suite = suite_create("inside memory");
  TCase *tests = add_case(suite, "memory", 30);
  tcase_add_checked_fixture(tests, fresh_ledger, NULL);
  tcase_add_test(tests, the_account_equals_the_allocators_ledger);
  tcase_add_test(tests, the_peak_is_the_most_that_was_ever_held);
  tcase_add_test(tests, what_is_charged_counts_like_what_is_allocated);
  tcase_add_test(tests, memory_is_aligned_and_writable_to_its_last_byte);
  tcase_add_test(tests, no_bytes_give_a_pointer_that_can_be_freed);
  tcase_add_test(tests, the_limit_is_met_exactly_and_never_passed);
  tcase_add_test(tests, sizes_that_cannot_be_are_refused_without_asking);
  tcase_add_test(tests, a_refusal_of_the_allocator_leaves_the_account_as_it_was);
  tcase_add_test(tests, misaligned_memory_is_given_back_and_refused);
  tcase_add_test(tests, an_account_lives_until_its_last_holder_is_gone);
  tcase_add_test(tests, threads_together_never_pass_the_limit);
  return run_suite(suite);
}
