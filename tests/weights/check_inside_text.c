/* Text in weight files: what is UTF-8, and how messages quote it. */
#include <stdint.h>
#include <string.h>
#include "call.h"
#include "runner.h"
#include "weights_file.h"

START_TEST(only_well_formed_characters_are_utf8) {
  static const char *const good[] = {"",
                                     "a",
                                     "\x7F",
                                     "\xC2\x80",
                                     "\xDF\xBF",
                                     "\xE0\xA0\x80",
                                     "\xED\x9F\xBF",
                                     "\xEE\x80\x80",
                                     "\xEF\xBF\xBF",
                                     "\xF0\x90\x80\x80",
                                     "\xF4\x8F\xBF\xBF",
                                     "x\xC3\xA9y"};
  static const char *const bad[] = {"\x80",     /* a continuation byte first */
                                    "\xC0\x80", /* overlong */
                                    "\xC1\xBF",
                                    "\xE0\x9F\xBF",
                                    "\xF0\x8F\xBF\xBF",
                                    "\xED\xA0\x80", /* surrogates */
                                    "\xED\xBF\xBF",
                                    "\xF4\x90\x80\x80", /* above U+10FFFF */
                                    "\xF5\x80\x80\x80", /* never the first byte of a character */
                                    "\xF8\x90\x80\x80",
                                    "\xFF",
                                    "\xC3(", /* no continuation byte, at each place */
                                    "\xC3",
                                    "\xE2(\x82",
                                    "\xE2\x82(",
                                    "\xF0\x9F\x98(",
                                    "\xF0\x9F",
                                    "\xE2\x82\xC2",
                                    "ok \xC3("};
  for (size_t i = 0; i < sizeof good / sizeof *good; i++)
    ck_assert_msg(weights_is_utf8(good[i]), "good[%zu]", i);
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
    ck_assert_msg(!weights_is_utf8(bad[i]), "bad[%zu]", i);
}
END_TEST

/* Control characters, line separators and marks of direction, at both ends of their ranges. */
START_TEST(what_could_forge_a_line_is_escaped) {
  static const char *const escaped[] = {
      "\x01",         "\x1F",         "\x7F",         "\xC2\x80",     "\xC2\x9F",
      "\xE2\x80\x8B", "\xE2\x80\x8F", "\xE2\x80\xA8", "\xE2\x80\xAE", "\xE2\x81\xA0",
      "\xE2\x81\xAF", "\xEF\xBB\xBF", "\xD8\x9C",     "\xC3",         "\xFF"};
  static const char *const plain[] = {" ",
                                      "~",
                                      "\xC2\xA0",
                                      "\xE2\x80\x8A",
                                      "\xE2\x80\x90",
                                      "\xE2\x80\xA7",
                                      "\xE2\x80\xAF",
                                      "\xE2\x81\x9F",
                                      "\xE2\x81\xB0",
                                      "\xD8\x9B"};
  char quoted[WEIGHTS_QUOTE];
  for (size_t i = 0; i < sizeof escaped / sizeof *escaped; i++) {
    ck_assert_msg(strncmp(weights_quote(quoted, escaped[i]), "\\x", 2) == 0, "escaped[%zu]", i);
    ck_assert_uint_eq(strlen(quoted), 4 * strlen(escaped[i]));
  }
  for (size_t i = 0; i < sizeof plain / sizeof *plain; i++)
    ck_assert_str_eq(weights_quote(quoted, plain[i]), plain[i]);
}
END_TEST

START_TEST(a_long_path_keeps_its_end_and_whole_characters) {
  char path[200], quoted[WEIGHTS_QUOTE];
  memset(path, 'p', sizeof path);
  path[80] = '\0';
  ck_assert_str_eq(weights_quote_path(quoted, "short"), "short");
  ck_assert_str_eq(weights_quote_path(quoted, path), path);
  path[80] = 'p';
  path[81] = '\0';
  ck_assert_uint_eq(strlen(weights_quote_path(quoted, path)), 3 + 80);
  ck_assert_int_eq(strncmp(quoted, "...p", 4), 0);
  memcpy(path, "a\xE2\x82\xAC", 4); /* the cut, 80 bytes before the end, splits this character */
  path[82] = '\0';
  path[81] = 'p';
  ck_assert_uint_eq(strlen(weights_quote_path(quoted, path)), 3 + 78);
  ck_assert_int_eq(strncmp(quoted, "...p", 4), 0);
}
END_TEST

START_TEST(a_long_shape_ends_in_dots) {
  int64_t shape[30];
  char quoted[WEIGHTS_QUOTE];
  for (int i = 0; i < 30; i++) shape[i] = INT64_MAX;
  ck_assert_str_eq(weights_quote_shape(quoted, 0, shape), "()");
  ck_assert_str_eq(weights_quote_shape(quoted, 1, shape), "(9223372036854775807)");
  shape[1] = 3;
  ck_assert_str_eq(weights_quote_shape(quoted, 2, shape), "(9223372036854775807, 3)");
  const char *text = weights_quote_shape(quoted, 30, shape);
  ck_assert_uint_lt(strlen(text), WEIGHTS_QUOTE);
  ck_assert_str_eq(text + strlen(text) - 6, ", ...)");
}
END_TEST

int main(void) {
  Suite *suite = suite_create("inside: text");
  TCase *tests = add_case(suite, "text", 30);
  tcase_add_test(tests, only_well_formed_characters_are_utf8);
  tcase_add_test(tests, what_could_forge_a_line_is_escaped);
  tcase_add_test(tests, a_long_path_keeps_its_end_and_whole_characters);
  tcase_add_test(tests, a_long_shape_ends_in_dots);
  return run_suite(suite);
}
