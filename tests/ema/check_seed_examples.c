/* The usage examples from ESPnet's documentation of MultiHeadDampedEMA and DecayResidual, with
 * its sizes, in C. Each test checks what the example promises, not only that it runs. */
#include <math.h>
#include <stdlib.h>
#include "ema_harness.h"
#include "runner.h"

static cumega_context *ctx;

static void setup(void) {
  ctx = context_new();
}

static void teardown(void) {
  cumega_context_destroy(ctx);
}

/* MultiHeadDampedEMA(size, num_heads) */
static cumega_ema *module(int64_t size, int64_t num_heads) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, size);
  config.num_heads = num_heads;
  cumega_ema *ema;
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
  return ema;
}

/* torch.randn(a, b, c) */
static test_tensor *randn(int64_t a, int64_t b, int64_t c) {
  static uint64_t seed = 1;
  test_tensor *tensor = tensor_new_3(cumega_float32, a, b, c);
  for (int64_t i = 0; i < a * b * c; i++)
    tensor_set(tensor, i / (b * c), i / c % b, i % c, random_noise(&seed));
  return tensor;
}

/* The EMA's parameters as the EMA itself returns them, for the reference. */
static test_parameters *read_parameters(const cumega_ema *ema, int64_t D, int64_t N) {
  test_parameters *p = parameters_new(D, N);
  double *const values[] = {p->damping, p->decay, p->expansion, p->projection, p->residual};
  test_tensor *t[5];
  for (int i = 0; i < 5; i++)
    t[i] = i == 4 ? tensor_new_1(cumega_float64, D) : tensor_new_2(cumega_float64, D, N);
  cumega_ema_parameters out = {sizeof out, dl(t[0]), dl(t[1]), dl(t[2]), dl(t[3]), dl(t[4])};
  MUST(ctx, cumega_ema_get_parameters(ctx, ema, &out));
  for (int i = 0; i < 5; i++) {
    for (int64_t j = 0; j < (i == 4 ? D : D * N); j++)
      values[i][j] = tensor_get(t[i], i == 4 ? j : j / N, i == 4 ? 0 : j % N, 0);
    tensor_free(t[i]);
  }
  return p;
}

/* y[:, b, :] = relu(EMA(x~) + w x) for every channel. At the default initialisation 1 - q is above
 * 0.05, so that (8 + 1 / (1 - q)) 2^-24 of the terms is the bound; ReLU adds nothing to it. */
static void must_be_the_ema_of(const cumega_ema *ema, const test_tensor *x, const test_tensor *y,
                               int64_t b, const unsigned char *mask) {
  enum { L = 10, D = 128, N = 4 };
  test_parameters *parameters = read_parameters(ema, D, N);
  for (int64_t d = 0; d < D; d++) {
    double in[L];
    real e[L], size[L], h[N] = {0}, h_sizes[N] = {0};
    reference_ema channel = parameters_channel(parameters, d), sizes = channel;
    sizes.absolute = 1;
    for (int64_t t = 0; t < L; t++) in[t] = tensor_get(x, t, b, d);
    reference_ema_recur(&channel, L, in, mask, h, e);
    reference_ema_recur(&sizes, L, in, mask, h_sizes, size);
    for (int64_t t = 0; t < L; t++) {
      real through = (real)parameters->residual[d] * in[t];
      double exact = fmax(0.0, (double)(e[t] + through));
      double bound = (8.0 + 1.0 / (double)reference_ema_least_decay(&channel)) * 0x1p-24 *
                     (double)(size[t] + fabsl(through));
      ck_assert_double_eq_tol(tensor_get(y, t, b, d), exact, bound);
    }
  }
  parameters_free(parameters);
}

/* >>> ema = MultiHeadDampedEMA(size=128, num_heads=4)
 * >>> input_tensor = torch.randn(10, 32, 128) # (L, B, D)
 * >>> output, new_state = ema(input_tensor)
 * >>> print(output.shape) # Output shape will be (B, L, D)
 * y's strides serve that reading of the shape, and ESPnet's own (L, B, D), with the same bits. */
START_TEST(a_batch_runs_and_its_output_may_lie_as_batch_first) {
  cumega_ema *ema = module(128, 4);
  test_tensor *x = randn(10, 32, 128), *y = tensor_new_3(cumega_float32, 10, 32, 128);
  test_tensor *batch_first = tensor_new_3(cumega_float32, 32, 10, 128);
  cumega_tensor view;
  cumega_ema_io io = io_of(x, y);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  io.y = cumega_tensor_permute(&view, dl(batch_first), (int[]){1, 0, 2});
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  for (int64_t b = 0; b < 32; b++) {
    must_be_the_ema_of(ema, x, y, b, NULL);
    for (int64_t j = 0; j < 10 * 128; j++)
      ck_assert_uint_eq(tensor_bits(batch_first, b, j / 128, j % 128),
                        tensor_bits(y, j / 128, b, j % 128));
  }
  ck_assert(tensor_gaps_hold(y) && tensor_gaps_hold(batch_first));
  tensor_free(x);
  tensor_free(y);
  tensor_free(batch_first);
  cumega_ema_destroy(ema);
}
END_TEST

/* "Raises: ValueError - If the input tensor does not have the expected shape." */
START_TEST(an_input_of_another_shape_is_an_error_that_names_it) {
  cumega_ema *ema = module(128, 4);
  test_tensor *x = randn(10, 32, 64), *y = tensor_new_3(cumega_float32, 10, 32, 64);
  cumega_ema_io io = io_of(x, y);
  ck_assert_int_eq(cumega_ema_forward(ctx, ema, &io), CUMEGA_ERROR_ARGUMENT);
  ck_assert(strstr(cumega_context_message(ctx), "x") != NULL);
  ck_assert(strstr(cumega_context_message(ctx), "64") != NULL);
  ck_assert(strstr(cumega_context_message(ctx), "128") != NULL);
  tensor_free(x);
  tensor_free(y);
  cumega_ema_destroy(ema);
}
END_TEST

/* damping, prev_weight = ema.compute_ema_coefficients() has shapes (size, num_heads, 1). */
static void check_coefficients(int64_t size) {
  cumega_ema *ema = module(size, 4);
  test_parameters *parameters = read_parameters(ema, size, 4);
  test_tensor *damping = tensor_new_3(cumega_float32, size, 4, 1);
  test_tensor *weight = tensor_new_3(cumega_float32, size, 4, 1);
  MUST(ctx, cumega_ema_compute_coefficients(ctx, ema, dl(damping), dl(weight)));
  for (int64_t i = 0; i < size * 4; i++) {
    reference_coefficients pair =
        reference_ema_coefficients(parameters->damping[i], parameters->decay[i]);
    double p = tensor_get(damping, i / 4, i % 4, 0), q = tensor_get(weight, i / 4, i % 4, 0);
    ck_assert_double_eq_tol(p, (double)pair.p, 4.0 * number_rounding(cumega_float32, p));
    ck_assert_double_eq_tol(q, (double)pair.q, 4.0 * number_rounding(cumega_float32, q));
    ck_assert(0.0 < p && p < 1.0 && 0.0 < q && q < 1.0);
  }
  tensor_free(damping);
  tensor_free(weight);
  parameters_free(parameters);
  cumega_ema_destroy(ema);
}

/* >>> ema = MultiHeadDampedEMA(size=10, num_heads=4)
 * >>> damping, prev_weight = ema.compute_ema_coefficients()  # torch.Size([10, 4, 1]) each */
START_TEST(coefficients_are_computed_for_ten_channels) {
  check_coefficients(10);
}
END_TEST

/* >>> ema_module = MultiHeadDampedEMA(size=128, num_heads=4)
 * >>> damping, prev_weight = ema_module.get_ema_coefficients()  # torch.Size([128, 4, 1]) each */
START_TEST(coefficients_are_read_for_128_channels) {
  check_coefficients(128);
}
END_TEST

/* >>> ema_module = MultiHeadDampedEMA(size=10, num_heads=4)
 * >>> kernel = ema_module.compute_ema_kernel(length=5)  # torch.Size([10, 5]) */
START_TEST(a_kernel_of_length_five_has_its_terms) {
  cumega_ema *ema = module(10, 4);
  test_parameters *parameters = read_parameters(ema, 10, 4);
  test_tensor *kernel = tensor_new_2(cumega_float32, 10, 5);
  MUST(ctx, cumega_ema_compute_kernel(ctx, ema, dl(kernel)));
  for (int64_t d = 0; d < 10; d++) {
    reference_ema channel = parameters_channel(parameters, d), sizes = channel;
    sizes.absolute = 1;
    for (int64_t l = 0; l < 5; l++) {
      real exact = reference_ema_kernel(&channel, l), size = reference_ema_kernel(&sizes, l);
      ck_assert_double_eq_tol(tensor_get(kernel, d, l, 0), (double)exact,
                              2.0 * 0x1p-24 * (double)size);
    }
  }
  ck_assert(tensor_gaps_hold(kernel));
  tensor_free(kernel);
  parameters_free(parameters);
  cumega_ema_destroy(ema);
}
END_TEST

/* >>> input_tensor = torch.rand(32, 128, 1) # Batch of 32 >>> initial_state = torch.zeros(32,
 * 128, 4) # Initial state >>> output, new_state = ema_module.ema_one_step(input_tensor,
 * initial_state) x (B, D, 1) is viewed as (1, B, D); a state of zeros is as good as none; e comes
 * raw, and the new state is p * expansion * x. */
START_TEST(one_step_from_zeros_gives_e_and_a_new_state) {
  cumega_ema *ema = module(128, 4);
  test_parameters *parameters = read_parameters(ema, 128, 4);
  test_tensor *x = randn(32, 128, 1), *y = tensor_new_2(cumega_float32, 32, 128);
  test_tensor *again = tensor_new_2(cumega_float32, 32, 128);
  test_tensor *zeros = tensor_new_3(cumega_float32, 32, 128, 4);
  test_tensor *state = tensor_new_3(cumega_float32, 32, 128, 4);
  memset(dl(zeros)->data, 0, 32 * 128 * 4 * 4);
  cumega_tensor view;
  cumega_ema_io io = io_of(x, y);
  io.x = cumega_tensor_permute(&view, dl(x), (int[]){2, 0, 1});
  io.raw = 1;
  io.initial_state = dl(zeros);
  io.final_state = dl(state);
  cumega_tensor y_view;
  io.y = cumega_tensor_init(&y_view, dl(y)->data, cumega_cpu, cumega_float32, 3,
                            (int64_t[]){1, 32, 128});
  MUST(ctx, cumega_ema_step(ctx, ema, &io));
  io.initial_state = NULL;
  io.y = cumega_tensor_init(&y_view, dl(again)->data, cumega_cpu, cumega_float32, 3,
                            (int64_t[]){1, 32, 128});
  MUST(ctx, cumega_ema_step(ctx, ema, &io));
  ck_assert_mem_eq(y->block, again->block, (size_t)y->block_bytes);
  for (int64_t i = 0; i < 32 * 128; i++) {
    double sum = 0.0, size = 0.0, in = tensor_get(x, i / 128, i % 128, 0);
    for (int64_t n = 0; n < 4; n++) {
      int64_t j = i % 128 * 4 + n;
      double p = (double)reference_ema_coefficients(parameters->damping[j], 0.0).p;
      double h = p * parameters->expansion[j] * in, c = 0.5 * parameters->projection[j];
      ck_assert_double_eq_tol(tensor_get(state, i / 128, i % 128, n), h, 2.1 * 0x1p-24 * fabs(h));
      sum += c * h;
      size += fabs(c * h);
    }
    ck_assert_double_eq_tol(tensor_get(y, i / 128, i % 128, 0), sum, 8.0 * 0x1p-24 * size);
  }
  test_tensor *all[] = {x, y, again, zeros, state};
  for (int i = 0; i < 5; i++) tensor_free(all[i]);
  parameters_free(parameters);
  cumega_ema_destroy(ema);
}
END_TEST

/* >>> mask_tensor = torch.zeros(32, 1, 10) # (B, 1, L)
 * >>> output, new_state = model(input_tensor, mask=mask_tensor)
 * ESPnet itself wants bool there; a float mask is refused. A mask of zeros changes nothing, and a
 * masked position is seen by the residual alone. */
START_TEST(a_mask_leaves_positions_out) {
  cumega_ema *ema = module(128, 4);
  test_tensor *x = randn(10, 32, 128), *y = tensor_new_3(cumega_float32, 10, 32, 128);
  test_tensor *plain = tensor_new_3(cumega_float32, 10, 32, 128);
  test_tensor *mask = tensor_new_3(cumega_bool, 32, 1, 10);
  test_tensor *float_mask = tensor_new_3(cumega_float32, 32, 1, 10);
  memset(dl(mask)->data, 0, 320);
  memset(dl(float_mask)->data, 0, 1280);
  cumega_ema_io io = io_of(x, plain);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  io = io_of(x, y);
  io.mask = dl(mask);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  ck_assert_mem_eq(plain->block, y->block, (size_t)y->block_bytes);
  unsigned char row[10] = {0, 1, 0, 0, 1, 1, 0, 0, 0, 1};
  for (int64_t t = 0; t < 10; t++) tensor_set(mask, 7, 0, t, row[t]);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  must_be_the_ema_of(ema, x, y, 7, row);
  must_be_the_ema_of(ema, x, y, 8, NULL);
  io.mask = dl(float_mask);
  ck_assert_int_eq(cumega_ema_forward(ctx, ema, &io), CUMEGA_ERROR_ARGUMENT);
  ck_assert(strstr(cumega_context_message(ctx), "mask") != NULL);
  test_tensor *all[] = {x, y, plain, mask, float_mask};
  for (int i = 0; i < 5; i++) tensor_free(all[i]);
  cumega_ema_destroy(ema);
}
END_TEST

/* >>> ema = MultiHeadDampedEMA(size=10, num_heads=4)
 * >>> ema.reset_parameters(val=0.1, std1=0.3, std2=0.5)
 * 40 numbers of mean val: five deviations of their mean. */
START_TEST(parameters_are_reset_to_the_given_normal_numbers) {
  cumega_ema *ema = module(10, 4);
  MUST(ctx, cumega_ema_reset_parameters(ctx, ema, 0.1, 0.3, 0.5, 2022));
  test_parameters *parameters = read_parameters(ema, 10, 4);
  double damping = 0.0, projection = 0.0;
  for (int64_t i = 0; i < 40; i++) {
    damping += parameters->damping[i] / 40.0;
    projection += parameters->projection[i] / 40.0;
    double alternating = i % 2 ? -1.0 : 1.0;
    ck_assert_double_le(fabs(parameters->expansion[i] - 0.1 - alternating), 0.02 * 6.0);
  }
  ck_assert_double_le(fabs(damping - 0.1), 5.0 * 0.3 / sqrt(40.0));
  ck_assert_double_le(fabs(projection - 0.1), 5.0 * 0.5 / sqrt(40.0));
  parameters_free(parameters);
  cumega_ema_destroy(ema);
}
END_TEST

/* DecayResidual(i_layer=2, d_input, d_model=d_input), forward(x, y, transposed=False) */
static void decay_of_two_layers(int64_t rows, int64_t size) {
  cumega_residual_config config;
  cumega_residual_config_init(&config, sizeof config, CUMEGA_RESIDUAL_DECAY, 2, size);
  cumega_residual *residual;
  MUST(ctx, cumega_residual_create(ctx, &config, NULL, &residual));
  test_tensor *x = randn(1, rows, size), *y = randn(1, rows, size);
  test_tensor *output = tensor_new_3(cumega_float32, 1, rows, size);
  cumega_residual_io io = {.struct_size = sizeof io, .x = dl(x), .y = dl(y)};
  const DLTensor *out = dl(output);
  staging s;
  const int staged = staging_begin(&s, ctx);
  if (staged) {
    staging_add(&s, &io.x);
    staging_add(&s, &io.y);
    staging_add(&s, &out);
    staging_there(&s);
  }
  io.out = (DLTensor *)(uintptr_t)out;
  MUST(ctx, cumega_residual_forward(ctx, residual, &io));
  if (staged) staging_back(&s);
  /* In layer 2 both multipliers are the root of one half; three roundings. */
  for (int64_t i = 0; i < rows * size; i++) {
    const double a = tensor_get(x, 0, i / size, i % size),
                 b = tensor_get(y, 0, i / size, i % size);
    const double right = (a + b) * sqrt(0.5);
    ck_assert_double_le(fabs(tensor_get(output, 0, i / size, i % size) - right),
                        0x1p-22 * (fabs(a) + fabs(b)));
  }
  test_tensor *all[] = {x, y, output};
  for (int i = 0; i < 3; i++) tensor_free(all[i]);
  cumega_residual_destroy(residual);
}

START_TEST(decay_residual_of_the_class) {
  decay_of_two_layers(1, 10);
}
END_TEST

START_TEST(decay_residual_of_forward) {
  decay_of_two_layers(5, 3);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("seed_examples");
  TCase *tests = add_case(suite, "MultiHeadDampedEMA", 30);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, a_batch_runs_and_its_output_may_lie_as_batch_first);
  tcase_add_test(tests, an_input_of_another_shape_is_an_error_that_names_it);
  tcase_add_test(tests, coefficients_are_computed_for_ten_channels);
  tcase_add_test(tests, coefficients_are_read_for_128_channels);
  tcase_add_test(tests, a_kernel_of_length_five_has_its_terms);
  tcase_add_test(tests, one_step_from_zeros_gives_e_and_a_new_state);
  tcase_add_test(tests, a_mask_leaves_positions_out);
  tcase_add_test(tests, parameters_are_reset_to_the_given_normal_numbers);
  tcase_add_test(tests, decay_residual_of_the_class);
  tcase_add_test(tests, decay_residual_of_forward);
  return run_suite(suite);
}
