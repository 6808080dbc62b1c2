/* How calls begin, fail and get memory; structs from older and newer headers; CPU levels. */
#include <stdio.h>
#include <string.h>
#include "backend.h"
#include "call.h"
#include "cpu_level.h"
#include "counting_allocator.h"
#include <fenv.h>
#include "fp_environment.h"
#include "runner.h"

static counting_allocator ledger;
static cumega_context *ctx;
static char *saved_level;

static void setup(void) {
  const char *level = getenv("CUMEGA_CPU");
  saved_level = level ? strdup(level) : NULL;
  unsetenv("CUMEGA_CPU");
  memset(&ledger, 0, sizeof ledger);
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  options.allocator = counting_allocator_of(&ledger);
  ck_assert_int_eq(cumega_context_create(&options, &ctx), CUMEGA_OK);
}

static void teardown(void) {
  cumega_context_destroy(ctx);
  ck_assert_int_eq(ledger.blocks, 0);
  ck_assert_int_eq(ledger.bytes, 0);
  if (saved_level) setenv("CUMEGA_CPU", saved_level, 1);
  free(saved_level);
}

START_TEST(a_failure_is_a_status_and_a_sentence) {
  ck_assert_int_eq(call_fail(ctx, CUMEGA_ERROR_FILE, "%s has %d", "x", 7), CUMEGA_ERROR_FILE);
  ck_assert_str_eq(cumega_context_message(ctx), "x has 7");
  ck_assert_int_eq(call_fail(NULL, CUMEGA_ERROR_FORMAT, "thread %d", 8), CUMEGA_ERROR_FORMAT);
  ck_assert_str_eq(cumega_context_message(NULL), "thread 8");
  ck_assert_str_eq(cumega_context_message(ctx), "x has 7");
}
END_TEST

START_TEST(a_long_sentence_is_cut_and_ends) {
  char name[2000];
  memset(name, 'a', sizeof name);
  name[sizeof name - 1] = '\0';
  cumega_context *const both[] = {ctx, NULL};
  for (int i = 0; i < 2; i++) {
    ck_assert_int_eq(call_fail(both[i], CUMEGA_ERROR_FILE, "%s", name), CUMEGA_ERROR_FILE);
    ck_assert_uint_eq(strlen(cumega_context_message(both[i])), sizeof ctx->message - 1);
  }
}
END_TEST

START_TEST(one_thread_needs_no_pool) {
  ck_assert_ptr_null(ctx->pool);
}
END_TEST

START_TEST(a_call_that_begins_clears_the_sentence) {
  call_fail(ctx, CUMEGA_ERROR_FILE, "old");
  ck_assert_int_eq(call_enter(ctx), CUMEGA_OK);
  ck_assert_str_eq(cumega_context_message(ctx), "");
}
END_TEST

START_TEST(a_poisoned_context_returns_fatal_with_the_first_sentence) {
  cumega_statistics statistics = {.struct_size = sizeof statistics};
  uint32_t bits = 77;
  ctx->poisoned = call_fail(ctx, CUMEGA_ERROR_FATAL, "the device fell off the bus");
  ck_assert_int_eq(cumega_context_synchronize(ctx), CUMEGA_ERROR_FATAL);
  ck_assert_int_eq(cumega_context_reserve(ctx, -1), CUMEGA_ERROR_FATAL);
  ck_assert_int_eq(cumega_context_set_stream(ctx, NULL), CUMEGA_ERROR_FATAL);
  ck_assert_int_eq(cumega_context_report(ctx, &bits), CUMEGA_ERROR_FATAL);
  ck_assert_int_eq(cumega_context_statistics(ctx, &statistics), CUMEGA_ERROR_FATAL);
  ck_assert_uint_eq(bits, 77);
  ck_assert_int_eq(statistics.bytes_held, 0);
  ck_assert_str_eq(cumega_context_message(ctx), "the device fell off the bus");
}
END_TEST

START_TEST(an_allocation_that_fails_says_for_what_and_why) {
  void *pointer = &ledger;
  ledger.failing_call = ledger.calls + 1;
  ck_assert_int_eq(call_allocate(ctx, 4096, "the kernel table", &pointer), CUMEGA_ERROR_RESOURCE);
  ck_assert_ptr_null(pointer);
  ck_assert_str_eq(cumega_context_message(ctx),
                   "cannot allocate 4096 bytes for the kernel table: the allocator gave no memory "
                   "aligned to 64 bytes");
  ck_assert_int_eq(call_allocate(ctx, 4096, "the kernel table", &pointer), CUMEGA_OK);
  ck_assert_ptr_nonnull(pointer);
  memory_free(ctx->memory, pointer, 4096);
}
END_TEST

START_TEST(an_empty_allocation_succeeds) {
  void *pointer = NULL;
  ck_assert_int_eq(call_allocate(ctx, 0, "nothing", &pointer), CUMEGA_OK);
  ck_assert_ptr_nonnull(pointer);
  memory_free(ctx->memory, pointer, 0);
}
END_TEST

START_TEST(scratch_is_kept_while_it_is_large_enough) {
  void *first, *second;
  ck_assert_int_eq(call_scratch(ctx, 1000, &first), CUMEGA_OK);
  memset(first, 1, 1000);
  int64_t calls = ledger.calls;
  ck_assert_int_eq(call_scratch(ctx, 1000, &second), CUMEGA_OK);
  ck_assert_ptr_eq(first, second);
  ck_assert_int_eq(call_scratch(ctx, 0, &second), CUMEGA_OK);
  ck_assert_ptr_eq(first, second);
  ck_assert_int_eq(ledger.calls, calls);
  ck_assert_int_eq(call_scratch(ctx, 1001, &second), CUMEGA_OK);
  ck_assert_int_eq(ctx->scratch_bytes, 1001);
  memset(second, 2, 1001);
}
END_TEST

START_TEST(scratch_that_cannot_grow_stays) {
  void *first, *second = NULL;
  ck_assert_int_eq(call_scratch(ctx, 1000, &first), CUMEGA_OK);
  ledger.failing_call = ledger.calls + 1;
  ck_assert_int_eq(call_scratch(ctx, 2000, &second), CUMEGA_ERROR_RESOURCE);
  ck_assert_int_eq(call_scratch(ctx, 1000, &second), CUMEGA_OK);
  ck_assert_ptr_eq(first, second);
}
END_TEST

/* A struct as in an older, this and a newer version of a header. */
typedef struct published_once {
  size_t struct_size;
  int64_t a;
} published_once;
typedef struct known_here {
  size_t struct_size;
  int64_t a, b;
} known_here;
typedef struct from_the_future {
  size_t struct_size;
  int64_t a, b, c;
} from_the_future;

static cumega_status read_into(known_here *known, const void *given) {
  return call_read_struct(ctx, "io", given, sizeof(published_once), known, sizeof *known);
}

START_TEST(an_older_struct_leaves_the_defaults_of_what_it_lacks) {
  known_here known = {sizeof known, 1, 2};
  published_once older = {sizeof older, 11};
  ck_assert_int_eq(read_into(&known, &older), CUMEGA_OK);
  ck_assert_uint_eq(known.struct_size, sizeof known);
  ck_assert_int_eq(known.a, 11);
  ck_assert_int_eq(known.b, 2);
}
END_TEST

START_TEST(a_newer_struct_is_accepted_while_its_tail_is_zero) {
  known_here known = {sizeof known, 1, 2};
  from_the_future newer = {sizeof newer, 11, 12, 0};
  ck_assert_int_eq(read_into(&known, &newer), CUMEGA_OK);
  ck_assert_uint_eq(known.struct_size, sizeof known);
  ck_assert_int_eq(known.a, 11);
  ck_assert_int_eq(known.b, 12);
  known_here untouched = {sizeof untouched, 1, 2};
  newer.c = INT64_MIN;
  ck_assert_int_eq(read_into(&untouched, &newer), CUMEGA_ERROR_UNSUPPORTED);
  ck_assert_int_eq(untouched.a, 1);
  ck_assert_ptr_nonnull(strstr(cumega_context_message(ctx), "io.struct_size is 32"));
}
END_TEST

START_TEST(a_struct_size_that_cannot_be_is_refused) {
  known_here known = {sizeof known, 1, 2}, given = {0, 11, 12};
  size_t sizes[] = {0, sizeof(published_once) - 1, sizeof known + 4097, SIZE_MAX};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    given.struct_size = sizes[i];
    ck_assert_int_eq(read_into(&known, &given), CUMEGA_ERROR_ARGUMENT);
    ck_assert_ptr_nonnull(strstr(cumega_context_message(ctx), "io.struct_size is "));
    ck_assert_int_eq(
        call_write_struct(ctx, "io", &given, sizeof(published_once), &known, sizeof known),
        CUMEGA_ERROR_ARGUMENT);
    ck_assert_int_eq(given.a, 11);
  }
  ck_assert_int_eq(read_into(&known, NULL), CUMEGA_ERROR_ARGUMENT);
  ck_assert_str_eq(cumega_context_message(ctx), "io is NULL");
  ck_assert_int_eq(known.a, 1);
}
END_TEST

START_TEST(a_struct_is_filled_as_far_as_both_reach) {
  known_here known = {sizeof known, 1, 2}, same = {sizeof same, 7, 7};
  published_once older[2] = {{sizeof *older, 7}, {7, 7}};
  from_the_future newer = {sizeof newer, 7, 7, 7};
  void *given[] = {older, &same, &newer};
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(call_write_struct(ctx, "io", given[i], sizeof *older, &known, sizeof known),
                     CUMEGA_OK);
  ck_assert_uint_eq(older[0].struct_size, sizeof *older);
  ck_assert_int_eq(older[0].a, 1);
  ck_assert_uint_eq(older[1].struct_size, 7);
  ck_assert_int_eq(same.b, 2);
  ck_assert_uint_eq(newer.struct_size, sizeof newer);
  ck_assert_int_eq(newer.b, 2);
  ck_assert_int_eq(newer.c, 0);
}
END_TEST

/* Looks at arithmetic instead of fegetround, which may answer for another unit than the one that
 * computes. */
static int rounds_to_nearest(void) {
  volatile float one = 1.0f, little = 0x1p-30f, below = one - little;
  return below == 1.0f;
}

START_TEST(the_floating_point_environment_comes_back_as_it_was) {
  fenv_t original;
  fp_environment inside;
  fegetenv(&original);
  fesetround(FE_DOWNWARD);
  int before = rounds_to_nearest();
  fp_begin(&inside);
  int within = rounds_to_nearest();
  feraiseexcept(FE_DIVBYZERO);
  fp_end(&inside);
  int after = rounds_to_nearest(), flags = fetestexcept(FE_DIVBYZERO);
  fesetenv(&original);
  ck_assert_int_eq(before, 0);
  ck_assert_int_eq(within, 1);
  ck_assert_int_eq(after, 0);
  ck_assert_int_eq(flags, 0);
}
END_TEST

START_TEST(levels_are_listed_from_plain_up_and_plain_runs_everywhere) {
  static const char *const words[] = {"plain", "v3", "v4"};
  int runs_here, ran_before = 1, i = 0, at = 0;
  for (const char *word; (word = backend_cpu_level(i, &runs_here)) != NULL; i++) {
    if (i == 0) ck_assert(strcmp(word, "plain") == 0 && runs_here == 1);
    ck_assert(runs_here == 0 || (runs_here == 1 && ran_before));
    ran_before = runs_here;
    while (at < 3 && strcmp(word, words[at]) != 0) at++;
    ck_assert_int_lt(at++, 3);
    printf("level %s: %s\n", word, runs_here ? "runs here" : "not on this machine");
  }
  ck_assert_int_ge(i, 1);
  ck_assert_ptr_null(backend_cpu_level(-1, &runs_here));
  ck_assert_ptr_null(backend_cpu_level(i + 1, &runs_here));
}
END_TEST

#if defined(__x86_64__)
/* Checks the CPU's features against the compiler's own detection, for the sets that it can
 * name. */
START_TEST(the_machines_levels_agree_with_the_compilers_detection) {
  int runs_here;
  __builtin_cpu_init();
  for (int i = 0;; i++) {
    const char *word = backend_cpu_level(i, &runs_here);
    if (!word) break;
    int v3 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
             __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    int v4 = v3 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vl");
    if (strcmp(word, "v3") == 0) ck_assert_int_eq(runs_here, v3);
    if (strcmp(word, "v4") == 0) ck_assert_int_eq(runs_here, v4);
  }
}
END_TEST
#endif

START_TEST(every_listed_level_is_chosen_by_name_or_refused_with_a_sentence) {
  int runs_here;
  const char *word;
  for (int i = 0; (word = backend_cpu_level(i, &runs_here)) != NULL; i++) {
    const backend *chosen = NULL;
    setenv("CUMEGA_CPU", word, 1);
    cumega_status status = cpu_level_choose(ctx, &chosen);
    ck_assert_int_eq(status, runs_here ? CUMEGA_OK : CUMEGA_ERROR_UNSUPPORTED);
    ck_assert_ptr_eq(backend_cpu_choose(ctx), chosen);
    if (runs_here)
      ck_assert_ptr_nonnull(chosen);
    else
      ck_assert_ptr_nonnull(strstr(ctx->message, "but this machine has no level above "));
  }
  unsetenv("CUMEGA_CPU");
}
END_TEST

START_TEST(without_a_name_the_best_level_of_the_machine_is_chosen) {
  int runs_here;
  const char *word, *best = NULL;
  for (int i = 0; (word = backend_cpu_level(i, &runs_here)) != NULL; i++)
    if (runs_here) best = word;
  const backend *unnamed = backend_cpu_choose(NULL);
  ck_assert_ptr_nonnull(unnamed);
  setenv("CUMEGA_CPU", "", 1);
  ck_assert_ptr_eq(backend_cpu_choose(NULL), unnamed);
  setenv("CUMEGA_CPU", best, 1);
  ck_assert_ptr_eq(backend_cpu_choose(NULL), unnamed);
  unsetenv("CUMEGA_CPU");
}
END_TEST

/* What an x86-64-v4 machine reports, then the same with each bit missing in turn. v3 needs the
 * bits of v2 and v3 in the psABI, v4 also those of AVX-512. Both need the system to save their
 * registers. */
START_TEST(a_level_needs_every_bit_of_it) {
  static const int v3[4][12] = {
      {0, 9, 12, 13, 19, 20, 22, 23, 27, 28, 29, -1}, {3, 5, 8, -1}, {0, 5, -1}, {1, 2, -1}};
  static const int v4[4][12] = {{-1}, {16, 17, 28, 30, 31, -1}, {-1}, {5, 6, 7, -1}};
  for (int word = 0; word < 4; word++)
    for (int bit = 0; bit < 32; bit++) {
      uint32_t words[4] = {~0u, ~0u, ~0u, ~0u};
      words[word] &= ~(1u << bit);
      cpu_features features = {words[0], words[1], words[2], words[3]};
      int expected = CPU_V4;
      for (int i = 0; v4[word][i] >= 0; i++)
        if (v4[word][i] == bit) expected = CPU_V3;
      for (int i = 0; v3[word][i] >= 0; i++)
        if (v3[word][i] == bit) expected = CPU_PLAIN;
      ck_assert_msg(cpu_level_of(&features) == expected, "word %d, bit %d", word, bit);
    }
  cpu_features nothing = {0};
  ck_assert_int_eq(cpu_level_of(&nothing), CPU_PLAIN);
}
END_TEST

START_TEST(a_level_above_the_machines_is_never_chosen) {
  static const char *const words[] = {"plain", "v3", "v4"};
  for (int machine = CPU_PLAIN; machine < CPU_LEVELS; machine++) {
    const backend *unnamed = NULL, *last = NULL;
    ck_assert_int_eq(cpu_level_choose_on(ctx, machine, NULL, &unnamed), CUMEGA_OK);
    for (int level = CPU_PLAIN; level < CPU_LEVELS; level++) {
      const backend *chosen = NULL;
      cumega_status status = cpu_level_choose_on(ctx, machine, words[level], &chosen);
      if (level > machine) {
        ck_assert_int_eq(status, CUMEGA_ERROR_UNSUPPORTED);
        ck_assert_ptr_null(chosen);
      } else if (status == CUMEGA_OK) /* otherwise this build lacks it */
        last = chosen;
    }
    ck_assert_ptr_nonnull(last);
    ck_assert_ptr_eq(unnamed, last);
  }
}
END_TEST

START_TEST(a_word_that_is_no_level_is_refused_to_the_thread_too) {
  setenv("CUMEGA_CPU", "v5", 1);
  ck_assert_ptr_null(backend_cpu_choose(NULL));
  ck_assert_str_eq(cumega_context_message(NULL), "CUMEGA_CPU is 'v5', expected plain, v3 or v4");
  ck_assert_ptr_null(backend_cpu_choose(ctx));
  ck_assert_str_eq(cumega_context_message(ctx), "CUMEGA_CPU is 'v5', expected plain, v3 or v4");
  unsetenv("CUMEGA_CPU");
}
END_TEST

int main(void) {
  Suite *suite = suite_create("inside context");
  TCase *tests = add_case(suite, "context", 10);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, one_thread_needs_no_pool);
  tcase_add_test(tests, a_failure_is_a_status_and_a_sentence);
  tcase_add_test(tests, a_long_sentence_is_cut_and_ends);
  tcase_add_test(tests, a_call_that_begins_clears_the_sentence);
  tcase_add_test(tests, a_poisoned_context_returns_fatal_with_the_first_sentence);
  tcase_add_test(tests, an_allocation_that_fails_says_for_what_and_why);
  tcase_add_test(tests, an_empty_allocation_succeeds);
  tcase_add_test(tests, scratch_is_kept_while_it_is_large_enough);
  tcase_add_test(tests, scratch_that_cannot_grow_stays);
  tcase_add_test(tests, an_older_struct_leaves_the_defaults_of_what_it_lacks);
  tcase_add_test(tests, a_newer_struct_is_accepted_while_its_tail_is_zero);
  tcase_add_test(tests, a_struct_size_that_cannot_be_is_refused);
  tcase_add_test(tests, a_struct_is_filled_as_far_as_both_reach);
  tcase_add_test(tests, the_floating_point_environment_comes_back_as_it_was);
  TCase *levels = add_case(suite, "levels", 10);
  tcase_add_checked_fixture(levels, setup, teardown);
  tcase_add_test(levels, levels_are_listed_from_plain_up_and_plain_runs_everywhere);
#if defined(__x86_64__)
  tcase_add_test(levels, the_machines_levels_agree_with_the_compilers_detection);
#endif
  tcase_add_test(levels, a_level_needs_every_bit_of_it);
  tcase_add_test(levels, a_level_above_the_machines_is_never_chosen);
  tcase_add_test(levels, every_listed_level_is_chosen_by_name_or_refused_with_a_sentence);
  tcase_add_test(levels, without_a_name_the_best_level_of_the_machine_is_chosen);
  tcase_add_test(levels, a_word_that_is_no_level_is_refused_to_the_thread_too);
  return run_suite(suite);
}
