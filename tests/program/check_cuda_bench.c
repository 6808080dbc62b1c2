/* `cumega bench` on a GPU or on emulated CUDA: its rows are verified against the same reference
 * as on a CPU, and timed by events, call by call and through a graph. */
#include <jansson.h>
#include "program.h"

static int missing(void) {
  cumega_context_options wanted;
  cumega_context_options_init(&wanted, sizeof wanted);
  cumega_context *ctx;
  wanted.device.device_type = kDLCUDA;
  int fails = cumega_context_create(&wanted, &ctx) != CUMEGA_OK;
  if (fails) printf("a GPU was asked for, but: %s\n", cumega_context_message(NULL));
  cumega_context_destroy(ctx);
  return fails;
}

static const char *text_of(const json_t *row, const char *key) {
  const char *text = json_string_value(json_object_get(row, key));
  ck_assert_msg(text != NULL, "no '%s'", key);
  return text;
}

static void check_rows(const char *const *arguments, size_t rows) {
  ck_assert_msg(run_into(NULL, arguments) == 0, "%s", err);
  json_t *object = json_loads(out, 0, NULL), *results = json_object_get(object, "results");
  ck_assert(json_is_string(json_object_get(json_object_get(object, "machine"), "gpu")));
  ck_assert_uint_eq(json_array_size(results), rows);
  for (size_t i = 0; i < rows; i++) {
    const json_t *row = json_array_get(results, i), *took = json_object_get(row, "seconds");
    ck_assert_str_eq(text_of(row, "device"), "cuda:0");
    ck_assert_str_eq(text_of(row, "launch"), i % 2 ? "graph" : "stream");
    ck_assert_int_gt(strlen(text_of(row, "kernels")), 0);
    ck_assert_ptr_nonnull(strstr(text_of(row, "verified"), "the CPU's bits"));
    ck_assert_double_gt(json_number_value(json_object_get(took, "median")), 0);
    ck_assert_double_gt(json_number_value(json_object_get(row, "copy_share")), 0);
  }
  json_decref(object);
}

START_TEST(rows_are_verified_and_timed_by_events_and_through_graphs) {
  const char *forward[] = {"cumega",   "bench",   "ema_forward", "--device", "cuda",
                           "--shape",  "33,2,36", "--repeats",   "2",        "--cache",
                           "warm",     "--cache", "flushed",     "--launch", "stream",
                           "--launch", "graph",   "--json",      NULL};
  const char *step[] = {"cumega",   "bench",   "ema_step",  "--device", "cuda",
                        "--shape",  "1,2,20",  "--repeats", "2",        "--dtype",
                        "float32",  "--dtype", "bfloat16",  "--launch", "stream",
                        "--launch", "graph",   "--json",    NULL};
  check_rows(forward, 4);
  check_rows(step, 4);
}
END_TEST

/* The eighth row, the EMA's kernel, is computed on the host on every device. */
START_TEST(every_operation_is_verified_and_timed) {
  const char *all[][2] = {{"ema_forward", "9,2,5"},         {"ema_step", "2,2,5"},
                          {"relative_position_bias", "9"},  {"rotary_position_bias", "9,4"},
                          {"attention_softmax", "1,2,3,9"}, {"residual", "3,2,9"},
                          {"gated_residual", "3,2,9"}};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    const char *arguments[] = {"cumega",  "bench",    all[i][0],   "--device", "cuda",
                               "--shape", all[i][1],  "--repeats", "2",        "--launch",
                               "stream",  "--launch", "graph",     "--json",   NULL};
    check_rows(arguments, 2);
  }
  ck_assert_int_eq(RUN("bench", "ema_kernel", "--device", "cuda", "--shape", "3,9"), 0);
  ck_assert_ptr_nonnull(strstr(out, "cuda:0, host"));
}
END_TEST

START_TEST(what_has_bits_of_its_own_is_not_held_against_the_cpu) {
  const char *chunked[] = {"cumega",
                           "bench",
                           "ema_forward",
                           "--device",
                           "cuda",
                           "--shape",
                           "300,1,4",
                           "--repeats",
                           "1",
                           "--set",
                           "algorithm=chunked",
                           "--set",
                           "algorithm=fft",
                           "--json",
                           NULL};
  ck_assert_msg(run_into(NULL, chunked) == 0, "%s", err);
  ck_assert_ptr_null(strstr(out, "the CPU's bits"));
}
END_TEST

START_TEST(what_only_a_cpu_has_is_refused) {
  ASSERT_SAYS(2, "--threads 2 is for the CPU", "bench", "ema_step", "--device", "cuda",
              "--threads", "2");
  ASSERT_SAYS(2, "--level plain is for the CPU", "bench", "ema_step", "--device", "cuda",
              "--level", "plain");
  ASSERT_SAYS(2, "--set table=anew is for the CPU", "bench", "rotary_position_bias", "--device",
              "cuda", "--set", "table=anew");
}
END_TEST

START_TEST(a_sweep_leaves_out_what_only_a_cpu_has) {
  ck_assert_msg(RUN("bench", "ema_step", "--device", "cuda", "--shape", "1,1,4", "--repeats", "1",
                    "--sweep") == 0,
                "%s", err);
  ck_assert_ptr_null(strstr(out, "cpu v"));
}
END_TEST

int main(void) {
  Suite *suite = suite_create("cuda: bench");
  if (missing()) return 0;
  TCase *rows = add_case(suite, "rows", 120);
  tcase_add_test(rows, rows_are_verified_and_timed_by_events_and_through_graphs);
  tcase_add_test(rows, every_operation_is_verified_and_timed);
  tcase_add_test(rows, what_has_bits_of_its_own_is_not_held_against_the_cpu);
  tcase_add_test(rows, what_only_a_cpu_has_is_refused);
  tcase_add_test(rows, a_sweep_leaves_out_what_only_a_cpu_has);
  return run_program_suite(suite);
}
