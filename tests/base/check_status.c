/* Statuses and versions: the values and texts that programs and documents depend on. */
#include <stdio.h>
#include <string.h>
#include <cumega/cumega.h>
#include "runner.h"

typedef struct entry {
  const char *name;
  cumega_status status;
  int value;
} entry;

static const entry entries[] = {
#define STATUS_ENTRY(name, value, text) {#name, name, value},
    CUMEGA_STATUS_LIST(STATUS_ENTRY)
#undef STATUS_ENTRY
};
enum { ENTRIES = sizeof entries / sizeof *entries };

/* A whole file of the source tree; the caller frees it. */
static char *read_source(const char *path) {
  FILE *file = fopen(path, "rb");
  ck_assert_msg(file != NULL, "cannot open %s", path);
  ck_assert_int_eq(fseek(file, 0, SEEK_END), 0);
  long bytes = ftell(file);
  ck_assert_int_gt(bytes, 0);
  rewind(file);
  char *text = malloc((size_t)bytes + 1);
  ck_assert_ptr_nonnull(text);
  ck_assert_uint_eq(fread(text, 1, (size_t)bytes, file), (size_t)bytes);
  text[bytes] = '\0';
  fclose(file);
  return text;
}

START_TEST(published_values_never_change) {
  static const struct {
    cumega_status status;
    int value;
  } published[] = {
      {CUMEGA_OK, 0},
      {CUMEGA_ERROR_ARGUMENT, 1},
      {CUMEGA_ERROR_UNSUPPORTED, 2},
      {CUMEGA_ERROR_RESOURCE, 3},
      {CUMEGA_ERROR_FILE, 4},
      {CUMEGA_ERROR_FORMAT, 5},
      {CUMEGA_ERROR_STATE, 6},
      {CUMEGA_ERROR_DEVICE, 7},
      {CUMEGA_ERROR_FATAL, 8},
  };
  for (size_t i = 0; i < sizeof published / sizeof *published; i++)
    ck_assert_int_eq(published[i].status, published[i].value);
}
END_TEST

START_TEST(values_count_up_from_zero_without_holes) {
  for (int i = 0; i < ENTRIES; i++) {
    ck_assert_int_eq(entries[i].value, i);
    ck_assert_int_eq((int)entries[i].status, i);
  }
}
END_TEST

START_TEST(every_status_has_a_text_of_its_own) {
#define EXPECT_TEXT(name, value, text) ck_assert_str_eq(cumega_status_string(name), text);
  CUMEGA_STATUS_LIST(EXPECT_TEXT)
#undef EXPECT_TEXT
  for (int i = 0; i < ENTRIES; i++)
    for (int j = 0; j < i; j++)
      ck_assert_str_ne(cumega_status_string(entries[i].status),
                       cumega_status_string(entries[j].status));
}
END_TEST

START_TEST(any_other_value_is_an_unknown_status) {
  int others[] = {-1, ENTRIES, 1000};
  for (size_t i = 0; i < sizeof others / sizeof *others; i++)
    ck_assert_str_eq(cumega_status_string((cumega_status)others[i]), "unknown status");
}
END_TEST

/* A row is "| `CUMEGA_ERROR_FILE` | 4 | when | what to do |". */
START_TEST(the_error_table_has_a_row_for_every_status_with_its_value) {
  char *text = read_source(SOURCE_DIR "/docs/errors.md");
  for (int i = 0; i < ENTRIES; i++) {
    char row[80];
    snprintf(row, sizeof row, "\n| `%s` | %d | ", entries[i].name, entries[i].value);
    ck_assert_msg(strstr(text, row) != NULL, "docs/errors.md lacks the row%s...", row);
  }
  free(text);
}
END_TEST

START_TEST(the_error_table_names_no_status_that_does_not_exist) {
  char *text = read_source(SOURCE_DIR "/docs/errors.md");
  int rows = 0;
  for (const char *row = text; (row = strstr(row, "\n| `CUMEGA_")) != NULL; row++) rows++;
  ck_assert_int_eq(rows, ENTRIES);
  free(text);
}
END_TEST

START_TEST(the_library_has_the_version_of_its_headers) {
  char text[40];
  snprintf(text, sizeof text, "%d.%d.%d", CUMEGA_VERSION_MAJOR, CUMEGA_VERSION_MINOR,
           CUMEGA_VERSION_PATCH);
  ck_assert_str_eq(cumega_version_string(), text);
  ck_assert_int_eq(cumega_version_number(), CUMEGA_VERSION_NUMBER);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("status");
  TCase *tests = add_case(suite, "status", 10);
  tcase_add_test(tests, published_values_never_change);
  tcase_add_test(tests, values_count_up_from_zero_without_holes);
  tcase_add_test(tests, every_status_has_a_text_of_its_own);
  tcase_add_test(tests, any_other_value_is_an_unknown_status);
  tcase_add_test(tests, the_error_table_has_a_row_for_every_status_with_its_value);
  tcase_add_test(tests, the_error_table_names_no_status_that_does_not_exist);
  tcase_add_test(tests, the_library_has_the_version_of_its_headers);
  return run_suite(suite);
}
