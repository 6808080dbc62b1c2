/* The command line of the program `cumega`, and its reaction to bad files: help, exit codes,
 * messages, JSON, progress. */
#include <jansson.h>
#include "program.h"

/* A valid value for the option; NULL if it takes none. */
static const char *value_of(const char *option) {
  static const char *const values[][2] = {
      {"--device", "cpu"},     {"--threads", "2"},       {"--shape", "3,2,1"},
      {"--dtype", "bfloat16"}, {"--set", "num_heads=2"}, {"--algorithm", "sliced"},
      {"--cache", "warm"},     {"--level", "plain"},     {"--repeats", "1"},
      {"--commit", "abc"},     {"--launch", "graph"}};
  for (size_t i = 0; i < sizeof values / sizeof *values; i++)
    if (strcmp(values[i][0], option) == 0) return values[i][1];
  return NULL;
}

START_TEST(every_option_that_a_help_names_is_accepted) {
  const char *commands[] = {"info", "run", "verify", "bench"};
  for (int c = 0; c < 4; c++) {
    char text[sizeof out], option[32];
    ck_assert_int_eq(RUN(commands[c], "--help"), 0);
    strcpy(text, out);
    int found = 0;
    for (char *at = strstr(text, "  --"); at != NULL; at = strstr(at + 4, "  --")) {
      ck_assert_int_eq(sscanf(at, " %31[a-z-]", option), 1);
      const char *value = value_of(option);
      RUN(commands[c], option, value);
      ck_assert_msg(strstr(err, "option '") == NULL, "%s", err);
      found++;
    }
    ck_assert_int_ge(found, 2);
  }
  ck_assert_int_eq(RUN("run", "ema_forward", FORWARD, "--output", in_folder("o")), 0);
  ASSERT_SAYS(2, "option '--output' is not one of 'cumega verify'", "verify", "--output", "x");
  ASSERT_SAYS(2, "option '-x' is not one of 'cumega info'", "info", "-x");
  ASSERT_SAYS(2, "option '--device' needs a value", "verify", "--device");
}
END_TEST

START_TEST(help_and_version_say_what_there_is) {
  ck_assert_int_eq(RUN("--help"), 0);
  ck_assert_ptr_nonnull(strstr(out, "cumega run OP CASE.safetensors -o OUT.safetensors"));
  ck_assert_int_eq(RUN("run", "--help"), 0);
  ck_assert_ptr_nonnull(strstr(out, "ema_forward"));
  ck_assert_ptr_nonnull(strstr(out, "ema_step"));
  ck_assert_ptr_nonnull(strstr(out, "ema_kernel"));
  ck_assert_int_eq(RUN("--version"), 0);
  ck_assert_str_eq(out + strlen("cumega "), "0.1.0\n");
  ck_assert_str_eq(err, "");
  ck_assert_int_eq(RUN("info"), 0);
  ck_assert_ptr_nonnull(strstr(out, "cpu"));
  ck_assert_ptr_nonnull(strstr(out, "cuda:0"));
}
END_TEST

START_TEST(a_wrong_command_line_is_refused_with_2) {
  const char *o = in_folder("never.safetensors");
  ASSERT_SAYS(2, "cumega run OP", NULL);
  ASSERT_SAYS(2, "'frob' is not a command", "frob");
  ASSERT_SAYS(2, "verify needs a case", "verify");
  ASSERT_SAYS(2, "run needs -o", "run", "ema_forward", FORWARD);
  ASSERT_SAYS(2, "run takes OP and CASE", "run", FORWARD, "-o", o);
  ASSERT_SAYS(2, "not of ema_step", "run", "ema_step", FORWARD, "-o", o);
  ASSERT_SAYS(2, "--device is 'gpu'", "verify", "--device", "gpu", FORWARD);
  ASSERT_SAYS(2, "--device is 'cuda:'", "verify", "--device", "cuda:", FORWARD);
  ASSERT_SAYS(2, "--threads is '0'", "verify", "--threads", "0", FORWARD);
  ASSERT_SAYS(2,
              "--algorithm is 'quick', expected one of default, recurrent, sliced, chunked, fft, "
              "fastest",
              "verify", "--algorithm", "quick", FORWARD);
  ASSERT_SAYS(2, "--threads is '2x'", "verify", "--threads", "2x", FORWARD);
  ASSERT_SAYS(2, "info takes no argument", "info", "x");
  ASSERT_SAYS(2, "bench takes OP", "bench");
  ck_assert_int_ne(access(o, F_OK), 0);
}
END_TEST

START_TEST(a_missing_device_is_4) {
  ASSERT_SAYS(4, "cuda:9999", "verify", "--device", "cuda:9999", FORWARD);
  ASSERT_SAYS(4, "cuda:9999", "run", "ema_forward", FORWARD, "-o", in_folder("o"), "--device",
              "cuda:9999");
}
END_TEST

START_TEST(a_standard_output_that_takes_nothing_is_2) {
  const char *o = in_folder("o.safetensors");
  const char *places[] = {"/dev/full", ""};
  for (int i = 0; i < 2; i++) {
    ck_assert_int_eq(RUN_INTO(places[i], "info"), 2);
    ck_assert_ptr_nonnull(strstr(err, "cannot write to standard output"));
    ck_assert_int_eq(RUN_INTO(places[i], "--help"), 2);
    ck_assert_int_eq(RUN_INTO(places[i], "verify", FORWARD), 2);
    ck_assert_int_eq(RUN_INTO(places[i], "verify", "--json", FORWARD), 2);
    ck_assert_int_eq(RUN_INTO(places[i], "run", "ema_forward", FORWARD, "-o", o), 2);
  }
  editable e; /* a closed standard output has not sent its text to the file */
  open_case(&e, o);
  ck_assert_ptr_nonnull(tensor_of(&e, "outputs.y"));
  close_case(&e);
}
END_TEST

START_TEST(json_is_one_object_with_what_the_text_says) {
  json_error_t error;
  ck_assert_int_eq(RUN("verify", "--json", FORWARD, perturbed_case("exact.y", 0, 1e3)), 1);
  json_t *object = json_loads(out, JSON_REJECT_DUPLICATES, &error);
  ck_assert_msg(object != NULL, "%s in %.3000s", error.text, out);
  ck_assert_str_eq(json_string_value(json_object_get(object, "result")), "FAIL");
  json_t *cases = json_object_get(object, "cases"), *first = json_array_get(cases, 0);
  ck_assert_uint_eq(json_array_size(cases), 2);
  ck_assert_str_eq(json_string_value(json_object_get(first, "case")), "ema_forward-mask-lengths");
  ck_assert_str_eq(json_string_value(json_object_get(first, "result")), "ok");
  const json_t *y = json_object_get(json_object_get(first, "outputs"), "y");
  double ours = json_real_value(json_object_get(y, "error"));
  ck_assert(ours >= 0 && ours <= json_real_value(json_object_get(y, "tolerance")));
  ck_assert(json_real_value(json_object_get(first, "elements_per_second")) > 0);
  json_decref(object);
  ck_assert_int_eq(RUN("run", "ema_forward", FORWARD, "-o", in_folder("o"), "--json"), 0);
  object = json_loads(out, JSON_REJECT_DUPLICATES, &error);
  ck_assert_msg(object != NULL, "%s in %.3000s", error.text, out);
  ck_assert_uint_eq(json_object_size(json_object_get(object, "outputs")), 2);
  ck_assert(json_is_array(json_object_get(object, "kernels")));
  json_decref(object);
  ck_assert_int_eq(RUN("info", "--json"), 0);
  object = json_loads(out, JSON_REJECT_DUPLICATES, &error);
  ck_assert_msg(object != NULL, "%s in %.3000s", error.text, out);
  ck_assert_uint_eq(json_array_size(json_object_get(object, "devices")), 2);
  json_decref(object);
}
END_TEST

/* 40 cases are timed for 50 ms each: 2 seconds, and the progress line shows from the first case
 * on. */
#define LONG_WORK 40

START_TEST(progress_shows_on_a_terminal_only_and_is_erased) {
  const char *arguments[LONG_WORK + 3] = {"cumega", "verify"};
  for (int i = 0; i < LONG_WORK; i++) arguments[2 + i] = FORWARD;
  ck_assert_int_eq(run_into(NULL, arguments), 0);
  ck_assert_str_eq(err, "");
  int terminal = posix_openpt(O_RDWR | O_NOCTTY), status;
  ck_assert(terminal >= 0 && grantpt(terminal) == 0 && unlockpt(terminal) == 0);
  int other = open(ptsname(terminal), O_RDWR | O_NOCTTY); /* keeps the written text readable */
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, other, 2);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  pid_t child;
  ck_assert_int_eq(posix_spawn(&child, PROGRAM, &actions, NULL, (char *const *)arguments, environ),
                   0);
  posix_spawn_file_actions_destroy(&actions);
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  ssize_t length = read(terminal, err, sizeof err - 1);
  ck_assert_int_gt(length, 0);
  err[length] = '\0';
  ck_assert_ptr_nonnull(strstr(err, " of 40: "));
  ck_assert_str_eq(err + length - strlen("\r\033[K"), "\r\033[K");
  close(other);
  close(terminal);
}
END_TEST

START_TEST(a_file_that_is_no_case_is_refused_with_2) {
  editable e;
  ASSERT_SAYS(2, "absent.safetensors", "verify", in_folder("absent.safetensors"));
  ck_assert_ptr_nonnull(strstr(last_line(), "FAIL"));
  ASSERT_SAYS(2, "check_program.c", "verify", SOURCE_DIR "/tests/program/check_program.c");
  open_case(&e, FORWARD);
  e.pairs = 0;
  ASSERT_SAYS(2, "'cumega.case' is missing", "verify", save_case(&e));
  open_case(&e, FORWARD);
  set_metadata(&e, "cumega.op", "ema_backward");
  ASSERT_SAYS(2, "'ema_backward', expected one of ema_forward, ema_step", "verify", save_case(&e));
  open_case(&e, FORWARD);
  drop_group(&e, "inputs.x");
  ASSERT_SAYS(2, "tensor 'inputs.x' is missing", "verify", save_case(&e));
  open_case(&e, FORWARD);
  drop_group(&e, "parameters.decay_factor");
  ASSERT_SAYS(2, "tensor 'parameters.decay_factor' is missing", "verify", save_case(&e));
  open_case(&e, FORWARD);
  rename_tensor(&e, "inputs.mask", "inputs.masks");
  ASSERT_SAYS(2, "'inputs.masks' is not an input of ema_forward", "verify", save_case(&e));
  open_case(&e, FORWARD);
  tensor_of(&e, "inputs.x")->ndim = 2;
  ASSERT_SAYS(2, "'inputs.x' has shape (50, 4), expected (L, B, 8)", "verify", save_case(&e));
  open_case(&e, FORWARD);
  tensor_of(&e, "exact.y")->ndim = 2;
  ASSERT_SAYS(2, "'exact.y' has shape (50, 4), expected (50, 4, 8)", "verify", save_case(&e));
}
END_TEST

START_TEST(an_odd_configuration_is_refused_with_a_sentence_that_names_the_setting) {
  const struct {
    const char *config, *sentence;
  } odd[] = {
      {"8", "expected a JSON object"},
      {"{\"size\": 8", "is not JSON"},
      {"{\"size\": 8, \"size\": 8, \"num_heads\": 4}", "is not JSON"},
      {"{\"num_heads\": 4}", "setting 'size' is missing"},
      {"{\"size\": 8}", "setting 'num_heads' is missing"},
      {"{\"size\": \"8\", \"num_heads\": 4}", "setting 'size' is \"8\", expected an integer"},
      {"{\"size\": 8.0, \"num_heads\": 4}", "setting 'size' is 8.0, expected an integer"},
      {"{\"size\": 8, \"num_heads\": 4, \"heads\": 1}", "setting 'heads' is not known"},
      {"{\"size\": 8, \"num_heads\": 4, \"length\": 1}", "setting 'length' is not known"},
      {"{\"size\": 8, \"num_heads\": 4, \"activation\": \"sine\"}",
       "setting 'activation' is \"sine\""},
      {"{\"size\": 8, \"num_heads\": 4, \"activation_args\": {\"beta\": 1}}",
       "setting 'activation_args.beta' is not known"},
      {"{\"size\": 8, \"num_heads\": 4, \"activation_args\": {\"swish_beta\": null}}",
       "setting 'activation_args.swish_beta' is null, expected a number"},
      {"{\"size\": 8, \"num_heads\": 4, \"state_dtype\": \"float16\"}",
       "setting 'state_dtype' is \"float16\""},
      {"{\"size\": 8, \"num_heads\": 4, \"truncation_length\": \"1\"}",
       "setting 'truncation_length' is \"1\", expected an integer or null"},
      {"{\"size\": 8, \"num_heads\": 4, \"truncation_length\": 0}", "truncation_length"},
      {"{\"size\": 9, \"num_heads\": 4}", "damping_factor"},
  };
  for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
    editable e;
    open_case(&e, FORWARD);
    set_metadata(&e, "cumega.config", odd[i].config);
    ASSERT_SAYS(2, odd[i].sentence, "verify", save_case(&e));
  }
}
END_TEST

START_TEST(softplus_arguments_have_no_effect_and_are_accepted) {
  editable e;
  open_case(&e, FORWARD);
  set_metadata(&e, "cumega.config",
               "{\"size\": 8, \"num_heads\": 4, \"activation\": \"relu\","
               " \"activation_args\": {\"softplus_beta\": 2, \"softplus_threshold\": 5}}");
  ck_assert_int_eq(RUN("verify", save_case(&e)), 0);
}
END_TEST

START_TEST(a_state_beside_a_truncation_is_the_librarys_argument_error) {
  editable e;
  open_case(&e, GOLDEN("ema_forward-lengths-state"));
  set_metadata(&e, "cumega.config",
               "{\"size\": 8, \"num_heads\": 4, \"activation\": \"swish\","
               " \"truncation_length\": 3}");
  ASSERT_SAYS(2, "truncation_length", "verify", save_case(&e));
}
END_TEST

int main(void) {
  Suite *suite = suite_create("program");
  TCase *command = add_case(suite, "command line", 60);
  tcase_add_test(command, every_option_that_a_help_names_is_accepted);
  tcase_add_test(command, help_and_version_say_what_there_is);
  tcase_add_test(command, a_wrong_command_line_is_refused_with_2);
  tcase_add_test(command, a_missing_device_is_4);
  tcase_add_test(command, a_standard_output_that_takes_nothing_is_2);
  tcase_add_test(command, json_is_one_object_with_what_the_text_says);
  tcase_add_test(command, progress_shows_on_a_terminal_only_and_is_erased);
  TCase *files = add_case(suite, "files", 60);
  tcase_add_test(files, a_file_that_is_no_case_is_refused_with_2);
  tcase_add_test(files, an_odd_configuration_is_refused_with_a_sentence_that_names_the_setting);
  tcase_add_test(files, softplus_arguments_have_no_effect_and_are_accepted);
  tcase_add_test(files, a_state_beside_a_truncation_is_the_librarys_argument_error);
  return run_program_suite(suite);
}
