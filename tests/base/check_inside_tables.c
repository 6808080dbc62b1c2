/* The tables of every backend and level are complete: a run would call a NULL entry. */
#include <string.h>
#include "backend.h"
#include "build_id.h"
#include "cpu_level.h"
#include "runner.h"

/* Tables hold only pointers. */
#define WORDS(type) (sizeof(type) / sizeof(void *))

/* An entry that may be empty because there is nothing to do. */
#define HOLE(type, member) (offsetof(type, member) / sizeof(void *))

static void must_be_whole(const char *name, const void *table, size_t words, const size_t *holes,
                          size_t count) {
  for (size_t i = 0; i < words; i++) {
    void *entry;
    int is_allowed = 0;
    memcpy(&entry, (const char *)table + i * sizeof entry, sizeof entry);
    for (size_t k = 0; k < count; k++) is_allowed |= holes[k] == i;
    ck_assert_msg(is_allowed ? entry == NULL : entry != NULL, "%s: entry %zu is %s", name, i,
                  entry ? "set, and listed as a hole" : "missing");
  }
}

START_TEST(the_tables_of_all_cpu_levels_are_whole) {
  static const size_t holes[] = {HOLE(backend, ema.prepare), HOLE(backend, residual.prepare),
                                 HOLE(backend, device)};
  static const char *const words[CPU_LEVELS] = {"plain", "v3", "v4"};
  int seen = 0;
  for (int i = 0; i < CPU_LEVELS; i++) {
    const backend *table;
    const cumega_status status = cpu_level_choose_on(NULL, CPU_LEVELS - 1, words[i], &table);
    if (status == CUMEGA_ERROR_UNSUPPORTED) continue; /* not in this build */
    ck_assert_int_eq(status, CUMEGA_OK);
    must_be_whole(words[i], table, WORDS(backend), holes, sizeof holes / sizeof *holes);
    seen++;
  }
  ck_assert_int_gt(seen, 0);
}
END_TEST

#if defined(CUMEGA_EMULATION)

const backend *cumega_backend_cuda(const backend_front *front);

START_TEST(the_table_of_cuda_is_whole) {
  static const size_t holes[] = {HOLE(backend, ema.kernel_row),
                                 HOLE(backend, position_bias.rotary_table)};
  const backend_front front = {.build_id = BUILD_ID};
  const backend *table = cumega_backend_cuda(&front);
  ck_assert_ptr_nonnull(table);
  must_be_whole("cuda", table, WORDS(backend), holes, sizeof holes / sizeof *holes);
  must_be_whole("cuda's device", table->device, WORDS(backend_device), NULL, 0);
}
END_TEST

START_TEST(a_front_of_another_build_is_refused) {
  const backend_front front = {.build_id = "0123456789abcdef0123456789abcdef"};
  ck_assert_ptr_null(cumega_backend_cuda(&front));
}
END_TEST

#endif

int main(void) {
  Suite *suite = suite_create("inside_tables");
  TCase *tests = add_case(suite, "tables", 60);
  tcase_add_test(tests, the_tables_of_all_cpu_levels_are_whole);
#if defined(CUMEGA_EMULATION)
  tcase_add_test(tests, the_table_of_cuda_is_whole);
  tcase_add_test(tests, a_front_of_another_build_is_refused);
#endif
  return run_suite(suite);
}
