/* Position biases with more rows than a CUDA grid has workers, so that each worker takes several.
 * The bits are those of the CPU. */
#include <stdlib.h>
#include <string.h>
#include "defaults.h"
#include "position_problem.h"
#include "runner.h"

/* 2^14 teams take the rows of a softmax; 2^16 warps take pieces of rows. */
START_TEST(more_rows_than_workers_have_the_cpus_bits) {
  const position_recipe r = {.dtype = {kDLFloat, 32, 1},
                             .B = 5600,
                             .H = 4,
                             .Lq = 3,
                             .Lk = 6,
                             .bias = RELATIVE,
                             .causal = 1,
                             .padding = 2,
                             .lengths = 1,
                             .scale = 0.5,
                             .seed = 21};
  const position_way plain = {0};
  cumega_context *ctx = context_new(), *host = context_of_level(NULL, 1);
  position_problem *p = position_problem_new(&r);
  const int64_t count = position_count(p);
  uint64_t *found = memory_new(8 * count), *right = memory_new(8 * count);
  for (int softmax = 0; softmax < 2; softmax++) {
    ck_assert_str_eq(position_problem_run(p, &plain, host, softmax, right), "");
    ck_assert_str_eq(position_problem_run(p, &plain, ctx, softmax, found), "");
    ck_assert_mem_eq(found, right, (size_t)(8 * count));
  }
  free(found);
  free(right);
  position_problem_free(p);
  cumega_context_destroy(ctx);
  cumega_context_destroy(host);
}
END_TEST

/* One value on each diagonal. */
START_TEST(a_matrix_of_more_pieces_than_workers_has_its_diagonals) {
  enum { L = 6200 }; /* 13 pieces a row, so that the two pieces of a worker may be in two rows */
  cumega_context *ctx = context_new();
  cumega_position_bias *bias = NULL;
  MUST(ctx, bias_relative(ctx, L, NULL, &bias));
  MUST(ctx, cumega_position_bias_reset_parameters(ctx, bias, 0, 1, 5));
  test_tensor *matrix = tensor_new_2(cumega_bfloat16, L, L);
  MUST(ctx, cumega_position_bias_forward(ctx, bias, dl(matrix)));
  const uint16_t *m = tensor_at(matrix, 0, 0, 0);
  for (int64_t i = 1; i < L; i++)
    ck_assert_mem_eq(m + i * L + 1, m + (i - 1) * L, (L - 1) * sizeof *m);
  ck_assert(memcmp(m, m + 1, (L - 1) * sizeof *m) != 0);
  tensor_free(matrix);
  cumega_position_bias_destroy(bias);
  cumega_context_destroy(ctx);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("position_large");
  TCase *tests = add_case(suite, "large", 600);
  tcase_add_test(tests, more_rows_than_workers_have_the_cpus_bits);
  tcase_add_test(tests, a_matrix_of_more_pieces_than_workers_has_its_diagonals);
  return run_suite(suite);
}
