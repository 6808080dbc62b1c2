/* The caller's floating-point environment: it changes no result, and the caller's code never runs
 * in the library's environment. Also results at the edge of a state's range. */
#include <fenv.h>
#include <float.h>
#include "defaults.h"
#include "ema_harness.h"
#include "runner.h"

#if defined(__x86_64__)
#include <xmmintrin.h>
#define SUBNORMALS_AS_ZERO 0x8040u /* flush-to-zero and denormals-are-zero */
#endif

static cumega_context *ctx;

static void setup(void) {
  ctx = context_new();
}

static void teardown(void) {
  cumega_context_destroy(ctx);
}

/* Whether this code itself currently rounds to nearest. */
static int rounds_to_nearest(void) {
  volatile float one = 1.0f, little = 0x1p-30f, above = one + little;
  return above == 1.0f;
}

#if defined(__x86_64__)
START_TEST(a_subnormal_setting_is_a_number_where_the_caller_flushes_them) {
  cumega_ema_config config = ema_config_of(2), back = {.struct_size = sizeof back};
  config.activation = CUMEGA_ACTIVATION_SMISH;
  config.activation_arguments.smish_alpha = 1e-310;
  cumega_ema *ema = NULL;
  unsigned int caller = _mm_getcsr();
  _mm_setcsr(caller | SUBNORMALS_AS_ZERO);
  cumega_status made = cumega_ema_create(ctx, &config, NULL, &ema);
  cumega_status reset = cumega_ema_reset_parameters(ctx, ema, 0, -1e-310, 1, 0);
  unsigned int after = _mm_getcsr();
  _mm_setcsr(caller);
  ck_assert_int_eq(made, CUMEGA_OK);
  ck_assert_int_eq(reset, CUMEGA_ERROR_ARGUMENT);
  ck_assert_uint_eq(after & SUBNORMALS_AS_ZERO, SUBNORMALS_AS_ZERO);
  MUST(ctx, cumega_ema_get_config(ctx, ema, &back));
  ck_assert_double_eq(back.activation_arguments.smish_alpha, 1e-310);
  cumega_ema_destroy(ema);
}
END_TEST
#endif

/* Counts how often the caller's callbacks ran, and how often they did so in an environment other
 * than the caller's. */
static int calls, strange_calls;

static void note_environment(void) {
  calls++;
  strange_calls += rounds_to_nearest();
}

static void *allocate(void *user, size_t bytes, size_t alignment) {
  (void)user;
  note_environment();
  return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void release(void *user, void *memory, size_t bytes) {
  (void)user;
  (void)bytes;
  note_environment();
  free(memory);
}

static void hear(void *user, cumega_log_level level, const char *message) {
  (void)user;
  (void)level;
  (void)message;
  note_environment();
}

START_TEST(callbacks_run_in_the_callers_environment) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  options.allocator = (cumega_allocator){allocate, release, NULL};
  options.log_callback = hear;
  cumega_context *own = NULL;
  cumega_ema *ema = NULL;
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 5);
  config.truncation_length = 3;
  test_tensor *x = tensor_new_3(cumega_float32, 8, 2, 5),
              *y = tensor_new_3(cumega_float32, 8, 2, 5);
  cumega_ema_io io = io_of(x, y);
  calls = strange_calls = 0;
  fesetround(FE_UPWARD);
  cumega_status made = cumega_context_create(&options, &own);
  if (made == CUMEGA_OK) made = cumega_ema_create(own, &config, NULL, &ema);
  if (made == CUMEGA_OK) made = cumega_ema_forward(own, ema, &io);
  cumega_ema_destroy(ema);
  cumega_context_destroy(own);
  int rounding = fegetround();
  fesetround(FE_TONEAREST);
  ck_assert_int_eq(made, CUMEGA_OK);
  ck_assert_int_eq(rounding, FE_UPWARD);
  ck_assert_int_ge(calls, 8);
  ck_assert_int_eq(strange_calls, 0);
  tensor_free(x);
  tensor_free(y);
}
END_TEST

/* A float64 parameter may be finite while its float32 table is not: 0 times infinity would be NaN
 * wherever x is 0. */
START_TEST(a_parameter_beyond_the_states_range_is_refused_by_name) {
  static const char *const names[] = {"ema_expansion_matrix", "kernel_projection_matrix",
                                      "residual_weight"};
  for (int i = 0; i < 3; i++) {
    uint64_t seed = 3;
    cumega_ema_config config;
    cumega_ema_config_init(&config, sizeof config, 3);
    config.num_heads = 2;
    test_tensor *t[5];
    cumega_ema_parameters io = {.struct_size = sizeof io};
    for (int k = 0; k < 5; k++) {
      t[k] = k == 4 ? tensor_new_1(cumega_float64, 3) : tensor_new_2(cumega_float64, 3, 2);
      for (int64_t d = 0; d < 3; d++)
        for (int64_t n = 0; n < (k == 4 ? 1 : 2); n++)
          tensor_set(t[k], d, n, 0, k == i + 2 && d == 1 ? 1e300 : random_noise(&seed));
    }
    io.damping_factor = dl(t[0]), io.decay_factor = dl(t[1]), io.ema_expansion_matrix = dl(t[2]);
    io.kernel_projection_matrix = dl(t[3]), io.residual_weight = dl(t[4]);
    cumega_ema *ema = NULL;
    ck_assert_int_eq(cumega_ema_create(ctx, &config, &io, &ema), CUMEGA_ERROR_ARGUMENT);
    ck_assert_ptr_null(ema);
    ck_assert_ptr_nonnull(strstr(cumega_context_message(ctx), names[i]));
    ck_assert_ptr_nonnull(strstr(cumega_context_message(ctx), "channel 1"));
    config.state_dtype = cumega_float64;
    MUST(ctx, cumega_ema_create(ctx, &config, &io, &ema));
    cumega_ema_destroy(ema);
    for (int k = 0; k < 5; k++) tensor_free(t[k]);
  }
}
END_TEST

START_TEST(workspace_is_told_of_every_form_of_a_step) {
  cumega_ema *ema = NULL;
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 8);
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
  test_tensor *x = tensor_new_3(cumega_float32, 1, 2, 8),
              *y = tensor_new_3(cumega_float32, 1, 2, 8);
  test_tensor *mask = tensor_new_1(cumega_bool, 2);
  for (int64_t b = 0; b < 2; b++) tensor_set(mask, b, 0, 0, 0);
  cumega_ema_io io = io_of(x, y);
  int64_t bytes = -1;
  io.mask = dl(mask);
  MUST(ctx, cumega_ema_workspace_size(ctx, ema, &io, &bytes));
  ck_assert_int_ge(bytes, 0); /* 0 if a device's registers are enough */
  MUST(ctx, cumega_ema_step(ctx, ema, &io));
  tensor_free(x);
  tensor_free(y);
  tensor_free(mask);
  cumega_ema_destroy(ema);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ema_environment");
  TCase *tests = add_case(suite, "environment", 30);
  tcase_add_checked_fixture(tests, setup, teardown);
#if defined(__x86_64__)
  tcase_add_test(tests, a_subnormal_setting_is_a_number_where_the_caller_flushes_them);
#endif
  tcase_add_test(tests, callbacks_run_in_the_callers_environment);
  tcase_add_test(tests, a_parameter_beyond_the_states_range_is_refused_by_name);
  tcase_add_test(tests, workspace_is_told_of_every_form_of_a_step);
  return run_suite(suite);
}
