/* The check that verifies a benchmark's rows can fail: it finds a single wrong value. */
#include <string.h>
#include "bench.h"
#include "compare.h"
#include "failure.h"
#include "runner.h"
#include "values.h"

typedef struct made {
  cumega_context *ctx;
  bench_row row;
  case_file file;
  job j;
} made;

static void make_with(made *m, const operation *what, const char *shape, const char *dtype,
                      const char *key, const char *value) {
  double seconds;
  memset(m, 0, sizeof *m);
  ck_assert_int_eq(cumega_context_create(NULL, &m->ctx), CUMEGA_OK);
  m->row = bench_row_of(what);
  ck_assert_int_eq(bench_row_take(&m->row, BENCH_SHAPE, shape), 0);
  ck_assert_int_eq(bench_row_take(&m->row, BENCH_KEY + BENCH_DTYPE, dtype), 0);
  if (key != NULL)
    ck_assert_int_eq(bench_row_take(&m->row, bench_option_find(what, key), value), 0);
  ck_assert_int_eq(bench_case_make(&m->row, m->ctx, &m->file), 0);
  ck_assert_int_eq(job_begin(&m->j, m->ctx, cumega_cpu, &m->file, CUMEGA_EMA_DEFAULT), 0);
  ck_assert_int_eq(job_run(&m->j, 0, &seconds), 0);
}

static void make(made *m, const operation *what, const char *shape, const char *dtype) {
  make_with(m, what, shape, dtype, NULL, NULL);
}

static void drop(made *m) {
  job_end(&m->j);
  case_close(&m->file);
  cumega_context_destroy(m->ctx);
}

/* 7 of 7 channels are checked. */
START_TEST(the_reference_finds_one_wrong_value_of_y) {
  const char *types[] = {"float32", "float16", "bfloat16", "float64"};
  for (int i = 0; i < 4; i++) {
    made m;
    double worst;
    make(&m, &op_ema_forward, "40,3,7", types[i]);
    ck_assert_int_eq(bench_check(&m.row, &m.j, &worst), 0);
    ck_assert_msg(worst > 0 && worst <= 1, "%s: %g", types[i], worst);
    DLTensor *y = (DLTensor *)(uintptr_t)job_find(&m.j, "y");
    int64_t at = values_count(y) - 1;
    values_put(y, at, values_at(y, at) > 1 ? 0.5 : 2);
    ck_assert_int_eq(bench_check(&m.row, &m.j, &worst), 0);
    ck_assert_msg(worst > 1, "%s: %g", types[i], worst);
    drop(&m);
  }
}
END_TEST

START_TEST(the_reference_finds_a_value_that_is_off_by_a_thousand_roundings) {
  made m;
  double worst;
  make(&m, &op_ema_forward, "40,3,7", "float32");
  DLTensor *y = (DLTensor *)(uintptr_t)job_find(&m.j, "y");
  float *values = y->data;
  int64_t at = 0;
  for (int64_t i = 0; i < values_count(y); i++)
    if (values[i] > values[at]) at = i;
  values[at] *= 1 + 0x1p-14f;
  ck_assert_int_eq(bench_check(&m.row, &m.j, &worst), 0);
  ck_assert_double_gt(worst, 1);
  drop(&m);
}
END_TEST

START_TEST(the_reference_finds_a_wrong_or_missing_state) {
  made m;
  double worst;
  make(&m, &op_ema_step, "1,3,7", "float32");
  ck_assert_int_eq(bench_check(&m.row, &m.j, &worst), 0);
  ck_assert(worst >= 0 && worst <= 1);
  ((float *)job_find(&m.j, "state")->data)[5] *= 1.001f;
  ck_assert_int_eq(bench_check(&m.row, &m.j, &worst), 0);
  ck_assert_double_gt(worst, 1);
  ck_assert_int_eq(job_poison(&m.j), 0);
  ck_assert_int_eq(bench_check(&m.row, &m.j, &worst), 0);
  ck_assert(!(worst <= 1));
  drop(&m);
}
END_TEST

/* The first value of each output belongs to a row that is checked. */
START_TEST(the_reference_of_every_operation_finds_one_wrong_value) {
  const struct {
    const char *name, *shape, *key, *value;
  } all[] = {{"ema_forward", "9,2,5", "activation", "mish"},
             {"ema_forward", "9,2,5", "truncation_length", "3"},
             {"ema_step", "3,2,5", "num_heads", "2"},
             {"ema_kernel", "5,9", "num_heads", "3"},
             {"relative_position_bias", "9", NULL, NULL},
             {"rotary_position_bias", "9,4", NULL, NULL},
             {"attention_softmax", "2,2,5,9", "bias", "rotary"},
             {"attention_softmax", "2,2,5,9", "causal", "true"},
             {"residual", "3,2,9", "kind", "Highway"},
             {"residual", "3,2,9", "norm.type", "basic_norm"},
             {"gated_residual", "3,2,9", "norm.type", "layer_norm"}};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
    const operation *what = operation_of(all[i].name, "operation");
    made m;
    double worst;
    make_with(&m, what, all[i].shape, "float32", all[i].key, all[i].value);
    ck_assert_int_eq(bench_check(&m.row, &m.j, &worst), 0);
    ck_assert_msg(worst >= 0 && worst <= 1, "%s: %g", what->name, worst);
    for (int o = 0; o < m.j.output_count; o++) {
      float *first = m.j.outputs[o].tensor.dl.data, kept = *first;
      *first = kept + 0.0625f;
      ck_assert_int_eq(bench_check(&m.row, &m.j, &worst), 0);
      ck_assert_msg(worst > 1, "%s, %s: %g", what->name, m.j.outputs[o].name, worst);
      *first = NAN;
      ck_assert_int_eq(bench_check(&m.row, &m.j, &worst), 0);
      ck_assert_msg(!(worst <= 1), "%s, %s: NaN", what->name, m.j.outputs[o].name);
      *first = kept;
    }
    drop(&m);
  }
}
END_TEST

START_TEST(a_comparison_with_float64_finds_a_wrong_value) {
  made m;
  verdict v = {0};
  make(&m, &op_ema_kernel, "7,40", "float32");
  ck_assert_int_eq(compare_with_float64(&m.j, &v), EXIT_OK);
  ck_assert_int_eq(v.compared, 7 * 40 + 2 * 7 * 4);
  ((float *)job_find(&m.j, "kernel")->data)[0] += 1e-3f;
  memset(&v, 0, sizeof v);
  ck_assert_int_eq(compare_with_float64(&m.j, &v), EXIT_WRONG);
  drop(&m);
}
END_TEST

START_TEST(layouts_are_orders_in_memory_of_the_same_values) {
  const char *layouts[] = {"BLD", "BDL"};
  for (int i = 0; i < 2; i++) {
    made m;
    memset(&m, 0, sizeof m);
    ck_assert_int_eq(cumega_context_create(NULL, &m.ctx), CUMEGA_OK);
    m.row = bench_row_of(&op_ema_forward);
    ck_assert_int_eq(bench_row_take(&m.row, BENCH_SHAPE, "5,3,2"), 0);
    ck_assert_int_eq(
        bench_row_take(&m.row, bench_option_find(&op_ema_forward, "layout"), layouts[i]), 0);
    ck_assert_int_eq(bench_case_make(&m.row, m.ctx, &m.file), 0);
    ck_assert_int_eq(job_begin(&m.j, m.ctx, cumega_cpu, &m.file, CUMEGA_EMA_DEFAULT), 0);
    const int64_t expected[2][3] = {{2, 10, 1}, {1, 10, 5}};
    ck_assert_mem_eq(job_find(&m.j, "y")->strides, expected[i], sizeof expected[i]);
    ck_assert_mem_eq(case_find(&m.file, "inputs", "x")->strides, expected[i], sizeof expected[i]);
    drop(&m);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("tools: bench");
  TCase *verification = add_case(suite, "verification", 60);
  tcase_add_test(verification, the_reference_finds_one_wrong_value_of_y);
  tcase_add_test(verification, the_reference_finds_a_value_that_is_off_by_a_thousand_roundings);
  tcase_add_test(verification, the_reference_finds_a_wrong_or_missing_state);
  tcase_add_test(verification, the_reference_of_every_operation_finds_one_wrong_value);
  tcase_add_test(verification, a_comparison_with_float64_finds_a_wrong_value);
  tcase_add_test(verification, layouts_are_orders_in_memory_of_the_same_values);
  return run_suite(suite);
}
