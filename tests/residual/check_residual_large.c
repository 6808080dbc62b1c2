/* Residual connections with more elements than a CUDA grid has threads. */
#include <string.h>
#include "residual_runs.h"
#include "runner.h"

/* A grid has at most 2^21 threads. They take a second element each if nothing lies in 16-byte
 * pieces, else one piece. */
START_TEST(more_elements_than_a_grid_has_threads_have_the_same_bits) {
  static const cumega_residual_kind kinds[] = {CUMEGA_RESIDUAL_DECAY, CUMEGA_RESIDUAL_HIGHWAY};
  const test_layout layout = {
      .ordered = 1, .order = {0, 2, 1}, .shift = 1}; /* channels have the largest stride */
  placement apart = {.out_is = -1, .normalized_is = -1};
  cumega_context *ctx = context_new();
  for (int i = 0; i < INPUTS + 2; i++) apart.layouts[i] = layout;
  for (int i = 0; i < 2; i++) {
    problem p = {.norm = -1, .dtype = cumega_float32, .shape = {1, 700001, 3}, .seed = 31};
    cumega_residual_config_init(&p.config, sizeof p.config, kinds[i], 3, 3);
    result a = problem_run(ctx, &p, NULL), b = problem_run(ctx, &p, &apart);
    ck_assert(results_same(&a, &b));
    result_free(&a);
    result_free(&b);
  }
  cumega_context_destroy(ctx);
}
END_TEST

/* A grid also has at most 2^13 blocks, which take a second row each, or four more short ones. */
START_TEST(more_rows_than_a_grid_has_blocks_have_the_cpus_bits) {
  static const int64_t shapes[][3] = {{1, 8209, 601}, {1, 33000, 5}};
  cumega_context *ctx = context_new(), *host = context_of_level(NULL, 1);
  for (int i = 0; i < 2; i++) {
    problem p = {
        .norm = i == 0 ? CUMEGA_NORM_RMS : CUMEGA_NORM_LAYER, .dtype = cumega_float32, .seed = 32};
    memcpy(p.shape, shapes[i], sizeof p.shape);
    cumega_residual_config_init(&p.config, sizeof p.config, CUMEGA_RESIDUAL_DECAY, 3, p.shape[2]);
    result a = problem_run(ctx, &p, NULL), b = problem_run(host, &p, NULL);
    ck_assert(results_same(&a, &b));
    result_free(&a);
    result_free(&b);
  }
  cumega_context_destroy(host);
  cumega_context_destroy(ctx);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("residual_large");
  TCase *tests = add_case(suite, "large", 600);
  tcase_add_test(tests, more_elements_than_a_grid_has_threads_have_the_same_bits);
  tcase_add_test(tests, more_rows_than_a_grid_has_blocks_have_the_cpus_bits);
  return run_suite(suite);
}
