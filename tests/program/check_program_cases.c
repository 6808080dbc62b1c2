/* What `cumega run` writes, and what `cumega verify` says about right, wrong and missing
 * answers. */
#include <math.h>
#include "program.h"

/* Compares the run's file with the case: all inputs are there bit for bit, and besides them only
 * the outputs that `outputs` names with their types, as in "y:float32". */
static void check_run(const char *operation, const char *path, const char *outputs) {
  const char *written = in_folder("written.safetensors");
  editable given, made;
  int code = RUN("run", operation, path, "-o", written, "--device", "cpu");
  ck_assert_msg(code == 0, "%s", err);
  open_case(&given, path);
  open_case(&made, written);
  ck_assert_int_eq(made.pairs, given.pairs);
  for (int64_t i = 0; i < given.pairs; i++)
    ck_assert_str_eq(cumega_weights_metadata(made.weights, given.metadata[i].key),
                     given.metadata[i].value);
  int64_t kept = 0, expected = 0;
  for (int64_t i = 0; i < given.count; i++) {
    const char *name = given.named[i].name;
    if (strncmp(name, "parameters.", 11) != 0 && strncmp(name, "inputs.", 7) != 0) continue;
    DLTensor *copy = tensor_of(&made, name);
    ck_assert_msg(copy != NULL && same_tensor(copy, given.named[i].tensor), "%s: %s", path, name);
    kept++;
  }
  char list[160], *rest = list;
  snprintf(list, sizeof list, "%s", outputs);
  for (char *word; (word = strsep(&rest, " ")) != NULL; expected++) {
    char name[64];
    char *dtype = strchr(word, ':');
    snprintf(name, sizeof name, "outputs.%.*s", (int)(dtype - word), word);
    const cumega_weights_entry *entry = cumega_weights_find(made.weights, name);
    ck_assert_msg(entry != NULL, "%s: no %s", path, name);
    ck_assert_str_eq(entry->dtype_name, dtype + 1);
  }
  ck_assert_int_eq(made.count, kept + expected);
  close_case(&given);
  close_case(&made);
}

START_TEST(run_writes_the_case_with_its_own_outputs_and_nothing_else) {
  check_run("ema_forward", FORWARD, "y:F32 state:F32");
  check_run("ema_forward", GOLDEN("ema_forward-bfloat16"), "y:BF16 state:F32");
  check_run("ema_forward", GOLDEN("ema_forward-float16"), "y:F16 state:F32");
  check_run("ema_forward", GOLDEN("ema_forward-float64"), "y:F64 state:F64");
  check_run("ema_forward", GOLDEN("ema_forward-state-float64"), "y:F32 state:F64");
  check_run("ema_forward", GOLDEN("ema_forward-truncation5"), "y:F32");
  check_run("ema_forward", GOLDEN("ema_forward-truncation100"), "y:F32 state:F32");
  check_run("ema_forward", GOLDEN("ema_forward-packed-empty"), "y:F32 state:F32");
  check_run("ema_step", GOLDEN("ema_step-mask"), "y:F32 state:F32");
  check_run("ema_kernel", GOLDEN("ema_kernel-heads3"),
            "kernel:F32 damping_factor:F32 prev_timestep_weight:F32");
}
END_TEST

START_TEST(what_a_run_does_not_write_is_zero_and_pool_rows_stay) {
  editable e;
  check_run("ema_forward", GOLDEN("ema_forward-lengths"), "y:F32 state:F32");
  open_case(&e, in_folder("written.safetensors"));
  const DLTensor *y = tensor_of(&e, "outputs.y");
  const int32_t *lengths = tensor_of(&e, "inputs.sequence_lengths")->data;
  int64_t B = y->shape[1], D = y->shape[2], behind = 0;
  for (int64_t i = 0; i < y->shape[0] * B * D; i++) {
    if (i / (B * D) < lengths[i / D % B]) continue;
    uint32_t bits;
    memcpy(&bits, (const float *)y->data + i, sizeof bits);
    ck_assert_uint_eq(bits, 0);
    behind++;
  }
  ck_assert_int_gt(behind, 0);
  close_case(&e);
  check_run("ema_forward", GOLDEN("ema_forward-slots"), "y:F32 state:F32");
  open_case(&e, in_folder("written.safetensors"));
  const DLTensor *before = tensor_of(&e, "inputs.state"), *after = tensor_of(&e, "outputs.state");
  const DLTensor *slots = tensor_of(&e, "inputs.final_slots");
  int64_t row = bytes_of(before) / before->shape[0];
  for (int64_t r = 0; r < before->shape[0]; r++) {
    int written = 0;
    for (int64_t b = 0; b < slots->shape[0]; b++) written |= ((int32_t *)slots->data)[b] == r;
    int same =
        memcmp((char *)before->data + r * row, (char *)after->data + r * row, (size_t)row) == 0;
    ck_assert_int_eq(same, !written);
  }
  close_case(&e);
}
END_TEST

START_TEST(a_run_has_the_bits_of_the_library) {
  editable e;
  check_run("ema_forward", FORWARD, "y:F32 state:F32");
  open_case(&e, in_folder("written.safetensors"));
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 8);
  cumega_ema *ema;
  ck_assert_int_eq(cumega_ema_create_from_weights(e.ctx, e.weights, "parameters", &config, &ema),
                   CUMEGA_OK);
  DLTensor *written = tensor_of(&e, "outputs.y");
  DLTensor y = *written;
  y.data = malloc((size_t)bytes_of(&y));
  cumega_ema_io io = {.struct_size = sizeof io,
                      .x = tensor_of(&e, "inputs.x"),
                      .y = &y,
                      .mask = tensor_of(&e, "inputs.mask")};
  ck_assert_int_eq(cumega_ema_forward(e.ctx, ema, &io), CUMEGA_OK);
  ck_assert(same_tensor(&y, written));
  free(y.data);
  cumega_ema_destroy(ema);
  close_case(&e);
}
END_TEST

START_TEST(a_run_never_overwrites_its_case_and_leaves_nothing_after_a_failure) {
  editable e;
  open_case(&e, FORWARD);
  const char *path = save_case(&e);
  ASSERT_SAYS(2, "OUT is CASE itself", "run", "ema_forward", path, "-o", path);
  ck_assert_int_eq(RUN("verify", path), 0);
  ASSERT_SAYS(2, "/no/such/folder", "run", "ema_forward", FORWARD, "-o", "/no/such/folder/o");
}
END_TEST

START_TEST(every_case_of_espnet_passes) {
  glob_t found;
  ck_assert_int_eq(glob(SOURCE_DIR "/tests/golden/ema_*.safetensors", 0, NULL, &found), 0);
  const char *others[] = {"relative_position_bias", "rotary_position_bias", "attention_softmax"};
  for (int i = 0; i < 3; i++) {
    char pattern[300];
    snprintf(pattern, sizeof pattern, SOURCE_DIR "/tests/golden/%s-*.safetensors", others[i]);
    ck_assert_int_eq(glob(pattern, GLOB_APPEND, NULL, &found), 0);
  }
  const char **arguments = calloc(found.gl_pathc + 3, sizeof *arguments);
  arguments[0] = "cumega";
  arguments[1] = "verify";
  memcpy(arguments + 2, found.gl_pathv, found.gl_pathc * sizeof *arguments);
  int code = run_into(NULL, arguments);
  ck_assert_msg(code == 0, "%.3000s%.500s", out, err);
  char expected[32];
  snprintf(expected, sizeof expected, "PASS: %zu ok\n", found.gl_pathc);
  ck_assert_str_eq(last_line(), expected);
  ck_assert_str_eq(err, "");
  free(arguments);
  globfree(&found);
}
END_TEST

START_TEST(a_wrong_answer_fails_with_1) {
  editable e;
  open_case(&e, FORWARD);
  double right = ((double *)tensor_of(&e, "exact.y")->data)[123];
  close_case(&e);
  ck_assert_int_eq(RUN("verify", perturbed_case("exact.y", 123, right + 1e-2)), 1);
  ck_assert_str_eq(last_line(), "FAIL: 0 ok, 1 with an error too large\n");
  ck_assert_int_eq(RUN("verify", perturbed_case("exact.y", 123, NAN)), 1);
  ck_assert_int_eq(RUN("verify", perturbed_case("exact.y", 123, INFINITY)), 1);
  ck_assert_int_eq(RUN("verify", perturbed_case("exact.state", 0, 1e3)), 1);
  ck_assert_int_eq(RUN("verify", perturbed_case("exact.y", 123, right)), 0);
  open_case(&e, GOLDEN("ema_forward-truncation5"));
  rename_tensor(&e, "outputs.y", "exact.state");
  ASSERT_SAYS(1, "'exact.state', and the run gives no such output", "verify", save_case(&e));
}
END_TEST

START_TEST(of_several_cases_the_worst_counts_and_a_wrong_answer_is_the_worst) {
  editable e;
  const char *absent = in_folder("absent.safetensors");
  const char *wrong = perturbed_case("exact.y", 0, 1e3);
  open_case(&e, GOLDEN("ema_kernel-short"));
  drop_group(&e, "exact.");
  drop_group(&e, "outputs.");
  for (int64_t i = 0; i < e.count; i++) ck_assert_int_gt(bytes_of(e.named[i].tensor), 0);
  const char *unanswered = save_case(&e);
  ck_assert_int_eq(RUN("verify", FORWARD, wrong, absent), 1);
  ck_assert_int_eq(RUN("verify", FORWARD, absent), 2);
  ck_assert_str_eq(last_line(), "FAIL: 1 ok, 1 not verified\n");
  ck_assert_int_eq(RUN("verify", unanswered), 0);
  ck_assert_ptr_nonnull(strstr(out, "ok (float64 CPU)"));
}
END_TEST

START_TEST(outputs_without_a_value_are_3_and_never_a_pass) {
  editable e;
  open_case(&e, GOLDEN("ema_step-one"));
  drop_group(&e, "exact.");
  drop_group(&e, "outputs.");
  tensor_of(&e, "inputs.x")->shape[1] = 0;
  tensor_of(&e, "inputs.state")->shape[0] = 0;
  const char *empty = save_case(&e);
  ASSERT_SAYS(3, "no values to compare", "verify", empty);
  ck_assert_str_eq(last_line(), "FAIL: 0 ok, 1 with nothing to compare\n");
  ASSERT_SAYS(3, "no values to compare", "verify", FORWARD, empty);
  ck_assert_int_eq(RUN("verify", empty, in_folder("absent.safetensors")), 2);
}
END_TEST

START_TEST(a_case_without_exact_answers_is_compared_in_float64_and_says_so) {
  const char *names[] = {GOLDEN("ema_forward-bfloat16"), GOLDEN("ema_forward-slots"),
                         GOLDEN("ema_forward-float64"), GOLDEN("ema_step-mask"),
                         GOLDEN("ema_kernel-medium")};
  for (int i = 0; i < 5; i++) {
    editable e;
    open_case(&e, names[i]);
    drop_group(&e, "exact.");
    ck_assert_msg(RUN("verify", save_case(&e)) == 0, "%.3000s%.500s", out, err);
    ck_assert_ptr_nonnull(strstr(out, "ok (float64 CPU)"));
  }
  ck_assert_int_eq(RUN("verify", FORWARD), 0);
  ck_assert_ptr_null(strstr(out, "float64"));
}
END_TEST

int main(void) {
  Suite *suite = suite_create("program_cases");
  TCase *runs = add_case(suite, "run", 60);
  tcase_add_test(runs, run_writes_the_case_with_its_own_outputs_and_nothing_else);
  tcase_add_test(runs, what_a_run_does_not_write_is_zero_and_pool_rows_stay);
  tcase_add_test(runs, a_run_has_the_bits_of_the_library);
  tcase_add_test(runs, a_run_never_overwrites_its_case_and_leaves_nothing_after_a_failure);
  TCase *verifies = add_case(suite, "verify", 120);
  tcase_add_test(verifies, every_case_of_espnet_passes);
  tcase_add_test(verifies, a_wrong_answer_fails_with_1);
  tcase_add_test(verifies, of_several_cases_the_worst_counts_and_a_wrong_answer_is_the_worst);
  tcase_add_test(verifies, outputs_without_a_value_are_3_and_never_a_pass);
  tcase_add_test(verifies, a_case_without_exact_answers_is_compared_in_float64_and_says_so);
  return run_program_suite(suite);
}
