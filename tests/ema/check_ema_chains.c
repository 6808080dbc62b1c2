/* Each chain of src/cpu/ema_chain.h and of the kernels: by the state's type and the number of
 * heads, with and without ReLU, with and without a mask. The bits are those of the plain way on
 * the CPU. When a chain leaves out the residual, the activation or truncation, it leaves out
 * exactly that. */
#include <string.h>
#include "ema_runs.h"
#include "runner.h"

static const int64_t heads[] = {1, 2, 3, 4, 8, 11, 16, 20};
#define HEADS ((int)(sizeof heads / sizeof *heads))

static const struct {
  DLDataType x, state;
} types[] = {{{kDLFloat, 32, 1}, {kDLFloat, 32, 1}},
             {{kDLFloat, 64, 1}, {kDLFloat, 64, 1}},
             {{kDLBfloat, 16, 1}, {kDLFloat, 64, 1}}};
#define TYPES 3

START_TEST(masks_and_activations_change_no_bit) {
  static const cumega_activation kinds[] = {CUMEGA_ACTIVATION_RELU, CUMEGA_ACTIVATION_IDENTITY,
                                            CUMEGA_ACTIVATION_SWISH};
  char reason[400];
  for (int i = 0; i < TYPES * HEADS * 3; i++) {
    const recipe r = {.D = 40,
                      .N = heads[i % HEADS],
                      .B = 2,
                      .L = 37,
                      .dtype = types[i / HEADS % TYPES].x,
                      .state_dtype = types[i / HEADS % TYPES].state,
                      .activation = kinds[i / HEADS / TYPES],
                      .seed = (uint64_t)i};
    for (int masked = 0; masked < 2; masked++)
      for (int layout = TIME_BATCH; layout <= CHANNELS_FIRST; layout++) {
        recipe each = r;
        each.masked = masked;
        problem *p = problem_new(&each);
        const way w = {
            .form = PADDED, .level = CPU_LEVELS - 1, .x_layout = layout, .y_layout = layout};
        ck_assert_msg(!way_differs(p, &w, reason, sizeof reason),
                      "%s, %lld heads, activation %d, %s", number_name(r.dtype), (long long)r.N,
                      (int)r.activation, reason);
        problem_free(p);
      }
  }
}
END_TEST

enum { B = 3, L = 9, D = 40 };

/* An EMA with these parameters. */
static cumega_ema *ema_of(cumega_context *ctx, const test_parameters *parameters, DLDataType state,
                          cumega_activation activation, int64_t truncation) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, D);
  config.num_heads = parameters->heads;
  config.state_dtype = state;
  config.activation = activation;
  if (truncation) config.truncation_length = truncation;
  return ema_new(ctx, config, parameters, cumega_float64);
}

static void fill(test_tensor *t, int64_t steps, uint64_t *seed) {
  for (int64_t i = 0; i < steps * B * D; i++)
    tensor_set(t, i / (B * D), i / D % B, i % D, random_noise(seed));
}

static void must_be_same(const test_tensor *a, const test_tensor *b, int64_t steps) {
  for (int64_t i = 0; i < steps * B * D; i++)
    ck_assert_uint_eq(tensor_bits(a, i / (B * D), i / D % B, i % D),
                      tensor_bits(b, i / (B * D), i / D % B, i % D));
}

/* e = fma(0, x, e). */
START_TEST(a_raw_step_is_one_without_residual_and_activation) {
  cumega_context *ctx = context_new();
  for (int i = 0; i < TYPES * HEADS * 2; i++) {
    const DLDataType dtype = types[i / HEADS % TYPES].x, state = types[i / HEADS % TYPES].state;
    uint64_t seed = (uint64_t)i;
    test_parameters *parameters = parameters_new(D, heads[i % HEADS]);
    parameters_fill(parameters, &seed, 0.1);
    const cumega_activation kind = i / HEADS % 2 ? CUMEGA_ACTIVATION_RELU : CUMEGA_ACTIVATION_TANH;
    cumega_ema *whole = ema_of(ctx, parameters, state, kind, 0);
    memset(parameters->residual, 0, D * sizeof *parameters->residual);
    cumega_ema *bare = ema_of(ctx, parameters, state, CUMEGA_ACTIVATION_IDENTITY, 0);
    test_tensor *x = tensor_new_3(dtype, 1, B, D), *mask = tensor_new_1(cumega_bool, B);
    test_tensor *y = tensor_new_3(dtype, 1, B, D), *e = tensor_new_3(dtype, 1, B, D);
    test_tensor *from = tensor_new_3(state, B, D, heads[i % HEADS]);
    fill(x, 1, &seed);
    for (int64_t j = 0; j < B * D * heads[i % HEADS]; j++)
      tensor_set(from, j / (D * heads[i % HEADS]), j / heads[i % HEADS] % D, j % heads[i % HEADS],
                 random_noise(&seed));
    for (int b = 0; b < B; b++) tensor_set(mask, b, 0, 0, b == 1);
    cumega_ema_io io = io_of(x, y);
    io.initial_state = dl(from);
    if (i / HEADS / TYPES) io.mask = dl(mask);
    MUST(ctx, cumega_ema_step(ctx, bare, &io));
    io.y = dl(e);
    io.raw = 1;
    MUST(ctx, cumega_ema_step(ctx, whole, &io));
    must_be_same(y, e, 1);
    test_tensor *all[] = {x, y, e, mask, from};
    for (int k = 0; k < 5; k++) tensor_free(all[k]);
    cumega_ema_destroy(whole);
    cumega_ema_destroy(bare);
    parameters_free(parameters);
  }
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(an_ignored_truncation_is_none) {
  cumega_context *ctx = context_new();
  for (int type = 0; type < TYPES; type++) {
    uint64_t seed = 8;
    test_parameters *parameters = parameters_new(D, 4);
    parameters_fill(parameters, &seed, 0.1);
    cumega_ema *cut = ema_of(ctx, parameters, types[type].state, CUMEGA_ACTIVATION_RELU, 3);
    cumega_ema *whole = ema_of(ctx, parameters, types[type].state, CUMEGA_ACTIVATION_RELU, 0);
    test_tensor *x = tensor_new_3(types[type].x, L, B, D);
    test_tensor *y = tensor_new_3(types[type].x, L, B, D),
                *z = tensor_new_3(types[type].x, L, B, D);
    fill(x, L, &seed);
    cumega_ema_io io = io_of(x, y), ignoring = io_of(x, z);
    ignoring.ignore_truncation = 1;
    MUST(ctx, cumega_ema_forward(ctx, whole, &io));
    MUST(ctx, cumega_ema_forward(ctx, cut, &ignoring));
    must_be_same(y, z, L);
    tensor_free(x);
    tensor_free(y);
    tensor_free(z);
    cumega_ema_destroy(cut);
    cumega_ema_destroy(whole);
    parameters_free(parameters);
  }
  cumega_context_destroy(ctx);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ema_chains");
  TCase *tests = add_case(suite, "chains", 300);
  tcase_add_unchecked_fixture(tests, NULL, runs_end);
  tcase_add_test(tests, masks_and_activations_change_no_bit);
  tcase_add_test(tests, a_raw_step_is_one_without_residual_and_activation);
  tcase_add_test(tests, an_ignored_truncation_is_none);
  return run_suite(suite);
}
