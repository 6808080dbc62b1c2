/* `cumega bench`: its rows are those that were asked for, and they were verified. Speed is not
 * tested. */
#include <jansson.h>
#include "program.h"

static json_t *parse(const char *text) {
  json_error_t error;
  json_t *object = json_loads(text, JSON_REJECT_DUPLICATES, &error);
  ck_assert_msg(object != NULL, "%s in %.3000s", error.text, text);
  return object;
}

/* Runs bench with --json, and returns "results". */
#define RESULTS(...) results_of((const char *[]){"cumega", "bench", __VA_ARGS__, "--json", NULL})

static json_t *results_of(const char *const *arguments) {
  ck_assert_msg(run_into(NULL, arguments) == 0, "%s", err);
  json_t *object = parse(out), *results = json_incref(json_object_get(object, "results"));
  ck_assert(json_is_object(json_object_get(object, "machine")));
  json_decref(object);
  return results;
}

static const char *text_of(const json_t *row, const char *key) {
  const char *text = json_string_value(json_object_get(row, key));
  ck_assert_msg(text != NULL, "no '%s'", key);
  return text;
}

static double number_of(const json_t *row, const char *key) {
  const json_t *value = json_object_get(row, key);
  ck_assert_msg(json_is_number(value), "no '%s'", key);
  return json_number_value(value);
}

START_TEST(json_has_what_a_row_was_and_took) {
  json_t *results = RESULTS("ema_forward", "--shape", "33,2,70", "--set", "num_heads=4", "--set",
                            "activation=relu", "--dtype", "float32", "--threads", "1", "--device",
                            "cpu", "--repeats", "3");
  ck_assert_uint_eq(json_array_size(results), 1);
  const json_t *row = json_array_get(results, 0), *took = json_object_get(row, "seconds");
  const json_t *shape = json_object_get(row, "shape");
  ck_assert_str_eq(text_of(row, "op"), "ema_forward");
  ck_assert_str_eq(text_of(row, "dtype"), "float32");
  ck_assert_str_eq(text_of(row, "device"), "cpu");
  ck_assert_str_eq(text_of(row, "algorithm"), "default");
  ck_assert_uint_eq(json_array_size(shape), 3);
  ck_assert_int_eq(json_integer_value(json_array_get(shape, 2)), 70);
  double median = number_of(took, "median"), least = number_of(took, "min");
  ck_assert(least > 0 && least <= median);
  /* x and y, and the final states */
  double bytes = 4 * (2 * 33 * 2 * 70 + 2 * 70 * 4), rate = number_of(row, "gb_per_s");
  ck_assert_double_eq(number_of(row, "bytes"), bytes);
  ck_assert_double_eq_tol(rate, 1e-9 * bytes / median, 1e-6 * rate);
  ck_assert_double_eq_tol(number_of(row, "elements_per_s"), 33 * 2 * 70 / median, 1e-3 / median);
  double share = number_of(row, "copy_share");
  ck_assert(share > 0 && share < 1000);
  ck_assert_ptr_nonnull(strstr(text_of(row, "verified"), "reference/ema.c"));
  json_decref(results);
}
END_TEST

START_TEST(an_option_given_twice_makes_a_row_for_each_value) {
  json_t *results = RESULTS("ema_forward", "--shape", "5,1,3", "--shape", "7,2,3", "--dtype",
                            "bfloat16", "--dtype", "float64", "--dtype", "float16", "--set",
                            "num_heads=2", "--set", "num_heads=3", "--repeats", "1");
  ck_assert_uint_eq(json_array_size(results), 12);
  for (size_t i = 0; i < 12; i++)
    for (size_t j = 0; j < i; j++) {
      const json_t *a = json_array_get(results, i), *b = json_array_get(results, j);
      int same = 1;
      const char *keys[] = {"shape", "dtype", "num_heads"};
      for (int k = 0; k < 3; k++)
        same &= json_equal(json_object_get(a, keys[k]), json_object_get(b, keys[k]));
      ck_assert(!same);
    }
  json_decref(results);
}
END_TEST

START_TEST(every_layout_type_and_activation_passes_its_verification) {
  json_t *results =
      RESULTS("ema_forward", "--repeats", "1", "--shape", "33,2,70", "--shape", "1,1,1", "--shape",
              "129,3,64", "--set", "layout=LBD", "--set", "layout=BLD", "--set", "layout=BDL",
              "--set", "layout=packed", "--dtype", "float32", "--dtype", "float16", "--dtype",
              "bfloat16", "--dtype", "float64");
  ck_assert_uint_eq(json_array_size(results), 48);
  json_decref(results);
  results = RESULTS("ema_step", "--repeats", "1", "--shape", "1,2,70", "--shape", "5,1,3", "--set",
                    "activation=ftswish", "--set", "activation=mish", "--set",
                    "state_dtype=float64", "--set", "state_dtype=float32");
  ck_assert_uint_eq(json_array_size(results), 8);
  json_decref(results);
  results = RESULTS("ema_forward", "--repeats", "1", "--shape", "40,3,9", "--set",
                    "truncation_length=7", "--set", "truncation_length=50");
  ck_assert_uint_eq(json_array_size(results), 2);
  json_decref(results);
  results =
      RESULTS("ema_forward", "--repeats", "1", "--shape", "400,1,9", "--set", "algorithm=sliced",
              "--set", "algorithm=recurrent", "--threads", "3", "--device", "cpu");
  ck_assert_uint_eq(json_array_size(results), 2);
  ck_assert_str_eq(text_of(json_array_get(results, 0), "algorithm"), "sliced");
  ck_assert_str_eq(text_of(json_array_get(results, 1), "algorithm"), "recurrent");
  json_decref(results);
  results =
      RESULTS("residual", "--repeats", "1", "--shape", "5,3,9", "--set", "kind=R", "--set",
              "kind=Affine", "--set", "kind=Highway", "--set", "kind=D", "--set", "norm.type=none",
              "--set", "norm.type=layer_norm", "--set", "norm.type=rms_norm", "--set",
              "norm.type=scale_norm", "--set", "norm.type=basic_norm");
  ck_assert_uint_eq(json_array_size(results), 20);
  ck_assert_str_eq(text_of(json_array_get(results, 15), "kind"), "DecayResidual");
  ck_assert_str_eq(text_of(json_array_get(results, 15), "norm.type"), "none");
  ck_assert_str_eq(text_of(json_array_get(results, 16), "norm.type"), "layer_norm");
  json_decref(results);
  results = RESULTS("residual", "--repeats", "1", "--shape", "5,3,9", "--set", "D=4", "--set",
                    "alpha=0.5", "--set", "norm.type=rms_norm", "--set", "norm.eps=0.25");
  const json_t *row = json_array_get(results, 0);
  ck_assert_int_eq(json_integer_value(json_array_get(json_object_get(row, "shape"), 2)), 4);
  ck_assert_double_eq(number_of(row, "alpha"), 0.5);
  ck_assert_double_eq(number_of(row, "norm.eps"), 0.25);
  json_decref(results);
}
END_TEST

/* Every combination is compared with float64; the names match the row. */
START_TEST(scores_meet_every_bias_and_mask_and_give_either_result) {
  json_t *results = RESULTS("attention_softmax", "--repeats", "1", "--shape", "2,2,5,37", "--set",
                            "bias=relative", "--set", "bias=rotary", "--set", "bias=none", "--set",
                            "causal=false", "--set", "causal=true", "--set", "result=weights",
                            "--set", "result=scores");
  ck_assert_uint_eq(json_array_size(results), 12);
  for (size_t i = 0; i < 12; i++) {
    const char *biases[] = {"relative", "rotary", "none"};
    const json_t *row = json_array_get(results, i);
    ck_assert_str_eq(text_of(row, "bias"), biases[i / 4]);
    ck_assert_int_eq(json_is_true(json_object_get(row, "causal")), i / 2 % 2);
    ck_assert_str_eq(text_of(row, "result"), i % 2 ? "scores" : "weights");
    ck_assert_double_eq(number_of(row, "bytes"), 2 * 4 * 2 * 2 * 5 * 37);
  }
  json_decref(results);
}
END_TEST

START_TEST(a_rotary_table_is_kept_or_made_anew) {
  json_t *results = RESULTS("rotary_position_bias", "--repeats", "3", "--shape", "256,64",
                            "--device", "cpu", "--set", "table=kept", "--set", "table=anew");
  ck_assert_uint_eq(json_array_size(results), 2);
  const json_t *kept = json_array_get(results, 0), *anew = json_array_get(results, 1);
  ck_assert_str_eq(text_of(kept, "table"), "kept");
  ck_assert_str_eq(text_of(anew, "table"), "anew");
  json_decref(results);
}
END_TEST

START_TEST(every_operation_that_runs_can_be_measured) {
  char known[16][64];
  int count = 0;
  ck_assert_int_eq(RUN("run", "--help"), 0);
  char *at = strstr(out, "OP is the case's own operation:\n");
  ck_assert_ptr_nonnull(at);
  for (at = strchr(at, '\n') + 1; *at != '\n'; at = strchr(at, '\n') + 1) {
    ck_assert_int_lt(count, 16);
    ck_assert_int_eq(sscanf(at, "  %63s", known[count++]), 1);
  }
  ck_assert_int_ge(count, 3);
  for (int i = 0; i < count; i++) {
    char letters[64], shape[64] = "";
    ck_assert_int_eq(RUN("bench", "--help"), 0);
    char name[80] = "\n  ";
    strcat(strcat(name, known[i]), " ");
    at = strstr(out, name);
    ck_assert_msg(at != NULL, "bench has no %s", known[i]);
    ck_assert_int_eq(sscanf(at, "%*s %63s", letters), 1);
    for (const char *c = letters; *c != '\0'; c++) strcat(shape, *c == ',' ? "," : "6");
    json_t *results = RESULTS(known[i], "--shape", shape, "--repeats", "2");
    ck_assert_str_eq(text_of(json_array_get(results, 0), "op"), known[i]);
    ck_assert_int_gt(strlen(text_of(json_array_get(results, 0), "verified")), 0);
    json_decref(results);
  }
}
END_TEST

START_TEST(a_flushed_cache_is_declared) {
  json_t *results = RESULTS("ema_step", "--repeats", "2", "--cache", "flushed", "--cache", "warm");
  ck_assert_str_eq(text_of(json_array_get(results, 0), "cache"), "flushed");
  ck_assert_str_eq(text_of(json_array_get(results, 1), "cache"), "warm");
  const json_t *took = json_object_get(json_array_get(results, 0), "seconds");
  ck_assert_double_eq(number_of(took, "calls_per_sample"), 1);
  json_decref(results);
}
END_TEST

START_TEST(the_table_and_the_file_say_the_same) {
  const char *path = in_folder("bench.json");
  ck_assert_int_eq(RUN("bench", "ema_kernel", "--shape", "3,17", "--set", "num_heads=2",
                       "--repeats", "2", "-o", path, "--commit", "abc"),
                   0);
  ck_assert_ptr_nonnull(strstr(out, "ema_kernel  3,17"));
  ck_assert_ptr_nonnull(strstr(out, "(abc)"));
  json_t *object = json_load_file(path, 0, NULL);
  ck_assert_ptr_nonnull(object);
  ck_assert_str_eq(text_of(json_object_get(object, "machine"), "commit"), "abc");
  ck_assert_uint_eq(json_array_size(json_object_get(object, "results")), 1);
  json_decref(object);
  ASSERT_SAYS(2, "cannot be written", "bench", "ema_step", "--repeats", "1", "-o",
              in_folder("no/such/folder"));
}
END_TEST

START_TEST(what_cannot_be_measured_is_refused_before_anything_runs) {
  ASSERT_SAYS(2, "OP is 'ema', expected one of ema_forward", "bench", "ema");
  ASSERT_SAYS(2, "--shape is '2,3', expected L,B,D", "bench", "ema_forward", "--shape", "2,3");
  ASSERT_SAYS(2, "--shape is '2,3,4,5'", "bench", "ema_forward", "--shape", "2,3,4,5");
  ASSERT_SAYS(2, "--shape is '2,0,4'", "bench", "ema_forward", "--shape", "2,0,4");
  ASSERT_SAYS(2, "--shape is '2,,4'", "bench", "ema_forward", "--shape", "2,,4");
  ASSERT_SAYS(2, "--shape is '9999999,9999999,9'", "bench", "ema_forward", "--shape",
              "9999999,9999999,9");
  ASSERT_SAYS(2, "--dtype int8: expected one of float32, float16", "bench", "ema_forward",
              "--dtype", "int8");
  ASSERT_SAYS(2, "--set state_dtype=float16: expected float32 or float64, or none", "bench",
              "ema_step", "--set", "state_dtype=float16");
  ASSERT_SAYS(2, "--set num_heads=0: expected an integer from 1 on", "bench", "ema_step", "--set",
              "num_heads=2", "--set", "num_heads=0");
  ASSERT_SAYS(2, "--set num_heads=none: expected an integer", "bench", "ema_step", "--set",
              "num_heads=none");
  ASSERT_SAYS(2, "--set activation=sine: expected one of identity, relu, swish", "bench",
              "ema_step", "--set", "activation=sine");
  ASSERT_SAYS(2, "--set layout=LDB: expected one of LBD, BLD, BDL, packed", "bench", "ema_forward",
              "--set", "layout=LDB");
  ASSERT_SAYS(2, "'layout' is not a key of ema_step, expected one of T, B, D, num_heads", "bench",
              "ema_step", "--set", "layout=LBD");
  ASSERT_SAYS(2, "'size' is not a key of ema_step", "bench", "ema_step", "--set", "size=5");
  ASSERT_SAYS(2, "--set is 'L', expected KEY=VALUE", "bench", "ema_forward", "--set", "L");
  ASSERT_SAYS(2, "--set L=0: expected a size from 1", "bench", "ema_forward", "--set", "L=0");
  ASSERT_SAYS(2, "--set bias=sine: expected one of relative, rotary, none", "bench",
              "attention_softmax", "--set", "bias=sine");
  ASSERT_SAYS(2, "--set causal=half: expected true or false", "bench", "attention_softmax",
              "--set", "causal=half");
  ASSERT_SAYS(2, "--set scale=1e: expected a number", "bench", "attention_softmax", "--set",
              "scale=1e");
  ASSERT_SAYS(2, "--set result=y: expected", "bench", "attention_softmax", "--set", "result=y");
  ASSERT_SAYS(2, "--set table=new: expected", "bench", "rotary_position_bias", "--set",
              "table=new");
  ASSERT_SAYS(2, "--cache cold: expected one of warm, flushed", "bench", "ema_step", "--cache",
              "cold");
  ASSERT_SAYS(2, "--repeats is '0'", "bench", "ema_step", "--repeats", "0");
  ASSERT_SAYS(2, "--threads 0: expected an integer from 1 on", "bench", "ema_step", "--threads",
              "0");
  ASSERT_SAYS(2, "--launch graph is for a GPU", "bench", "ema_step", "--device", "cpu", "--launch",
              "graph");
  ASSERT_SAYS(4, "cuda:9999", "bench", "ema_step", "--device", "cuda:9999");
  ASSERT_SAYS(2, "float32", "bench", "ema_step", "--dtype", "float64", "--set",
              "state_dtype=float32");
  ck_assert_str_eq(out, "");
}
END_TEST

int main(void) {
  Suite *suite = suite_create("program: bench");
  TCase *rows = add_case(suite, "rows", 120);
  tcase_add_test(rows, json_has_what_a_row_was_and_took);
  tcase_add_test(rows, an_option_given_twice_makes_a_row_for_each_value);
  tcase_add_test(rows, every_layout_type_and_activation_passes_its_verification);
  tcase_add_test(rows, scores_meet_every_bias_and_mask_and_give_either_result);
  tcase_add_test(rows, a_rotary_table_is_kept_or_made_anew);
  tcase_add_test(rows, every_operation_that_runs_can_be_measured);
  tcase_add_test(rows, a_flushed_cache_is_declared);
  tcase_add_test(rows, the_table_and_the_file_say_the_same);
  tcase_add_test(rows, what_cannot_be_measured_is_refused_before_anything_runs);
  return run_program_suite(suite);
}
