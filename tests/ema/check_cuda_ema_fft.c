/* FFT: its results against the chain in float64 on the CPU, for every kind of run that has no
 * state. On emulated CUDA the transforms are exact to float64, so the test covers everything
 * around them; on a GPU, cuFFT's roundings count too. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "ema_harness.h"
#include "runner.h"

#define UNIT 0x1p-24

/* A run and its exact counterpart. */
typedef struct fft_case {
  int64_t L, B, D, N, truncation;
  DLDataType dtype, state_dtype;
  int packed, masked, uneven, layout, in_place;
  cumega_activation activation;
} fft_case;

/* 0: (L, B, D) in order; 1: (B, D, L); 2: gaps and a shift. */
static test_tensor *sequences(const fft_case *c, DLDataType dtype, int which) {
  static const test_layout layouts[] = {
      {.ordered = 1, .order = {0, 1, 2}},
      {.ordered = 1, .order = {1, 2, 0}},
      {.ordered = 1, .order = {0, 1, 2}, .gap = {0, 3, 1}, .shift = 3}};
  if (c->packed) return tensor_new_2(dtype, c->L, c->D);
  return tensor_new(dtype, 3, (int64_t[]){c->L, c->B, c->D}, &layouts[which]);
}

/* y of `algorithm` on ctx; the same case always has the same x, mask, lengths and offsets. */
static test_tensor *run(cumega_context *ctx, const fft_case *c, cumega_ema_algorithm algorithm,
                        int exact, int layout) {
  uint64_t seed = 21;
  const int64_t cuts[] = {1, c->L / 3, c->L / 3, c->L};
  test_parameters *parameters = parameters_new(c->D, c->N);
  parameters_fill(parameters, &seed, 0.1);
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, c->D);
  config.num_heads = c->N;
  config.activation = c->activation;
  config.state_dtype = exact ? cumega_float64 : c->state_dtype;
  if (c->truncation > 0) config.truncation_length = c->truncation;
  cumega_ema *ema = ema_new(ctx, config, parameters, cumega_float64);
  test_tensor *x = sequences(c, exact ? cumega_float64 : c->dtype, layout), *y = x;
  if (exact || !c->in_place) y = sequences(c, exact ? cumega_float64 : c->dtype, layout);
  test_tensor *mask = tensor_new_2(cumega_uint8, c->B, c->L);
  test_tensor *lengths = NULL;
  const int64_t rows = c->packed ? c->L : c->L * c->B;
  for (int64_t i = 0; i < rows * c->D; i++) {
    const double value = number_round(c->dtype, random_noise(&seed));
    if (c->packed)
      tensor_set(x, i / c->D, i % c->D, 0, value);
    else
      tensor_set(x, i / (c->B * c->D), i / c->D % c->B, i % c->D, value);
  }
  for (int64_t i = 0; i < c->B * c->L; i++)
    tensor_set(mask, i / c->L, i % c->L, 0, random_below(&seed, 5) == 0);
  cumega_ema_io io = io_of(x, y);
  io.algorithm = algorithm;
  if (c->masked) io.mask = dl(mask);
  if (c->packed) {
    lengths = tensor_of_int64(4, cuts);
    io.sequence_offsets = dl(lengths);
    for (int64_t d = 0; d < c->D; d++) tensor_set(y, 0, d, 0, 7); /* before the first sequence */
  } else if (c->uneven) {
    lengths = tensor_new_1(cumega_int64, c->B);
    for (int64_t b = 0; b < c->B; b++) tensor_set(lengths, b, 0, 0, (double)(c->L - b * c->L / 2));
    io.sequence_lengths = dl(lengths);
  }
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  if (algorithm == CUMEGA_EMA_FFT)
    ck_assert_ptr_nonnull(strstr(cumega_context_kernels(ctx), "cufft"));
  ck_assert(tensor_gaps_hold(y));
  if (x != y) tensor_free(x);
  tensor_free(mask);
  tensor_free(lengths);
  parameters_free(parameters);
  cumega_ema_destroy(ema);
  return y;
}

/* Relative to the exact answer, in the Euclidean norm: half a unit for each doubling of 2 L,
 * which the transforms may lose (two transforms of log2(2 L) levels each, with random roundings),
 * and the rounding of y to its type. */
static void check(const fft_case *c, int number) {
  cumega_context *ctx = context_new(), *cpu = context_of_level(NULL, 1);
  test_tensor *found = run(ctx, c, CUMEGA_EMA_FFT, 0, c->layout);
  test_tensor *right = run(cpu, c, CUMEGA_EMA_DEFAULT, 1, 0);
  double error = 0, size = 0;
  const int64_t rows = c->packed ? c->L : c->L * c->B;
  for (int64_t i = 0; i < rows * c->D; i++) {
    const int64_t at[] = {c->packed ? i / c->D : i / (c->B * c->D),
                          c->packed ? i % c->D : i / c->D % c->B, c->packed ? 0 : i % c->D};
    const double e = tensor_get(right, at[0], at[1], at[2]);
    const double y = tensor_get(found, at[0], at[1], at[2]);
    if (e == 0 && c->uneven) ck_assert_msg(fabs(y) < 1e-5, "case %d: behind a length", number);
    error += (y - e) * (y - e);
    size += e * e;
  }
  const double unit = c->dtype.bits == 64 ? 0x1p-53 : UNIT;
  const double store = c->dtype.bits == 16 ? number_rounding(c->dtype, 1.0) : 0;
  const double bound = 0.5 * unit * log2(2.0 * (double)c->L) + store;
  ck_assert_msg(sqrt(error) <= bound * sqrt(size), "case %d: %g units, allowed are %g", number,
                sqrt(error / size) / unit, bound / unit);
  tensor_free(found);
  tensor_free(right);
  cumega_context_destroy(ctx);
  cumega_context_destroy(cpu);
}

START_TEST(it_gives_the_convolution) {
  static const DLDataType types[] = {
      {kDLFloat, 32, 1}, {kDLFloat, 16, 1}, {kDLBfloat, 16, 1}, {kDLFloat, 64, 1}};
  static const int64_t lengths[] = {31, 32, 33, 129, 700};
  uint64_t seed = 4;
  for (int i = 0; i < 60; i++) {
    fft_case c = {.L = lengths[i % 5],
                  .B = 1 + random_below(&seed, 3),
                  .D = 1 + random_below(&seed, 40),
                  .N = 1 + random_below(&seed, 20),
                  .dtype = types[random_below(&seed, 4)]};
    c.state_dtype = c.dtype.bits == 64 || i % 7 == 0 ? cumega_float64 : cumega_float32;
    c.packed = random_below(&seed, 4) == 0;
    if (c.packed) c.B = 3;
    c.masked = !c.packed && random_below(&seed, 2);
    c.uneven = !c.packed && random_below(&seed, 2);
    c.layout = c.packed ? 0 : (int)random_below(&seed, 3);
    c.in_place = (int)random_below(&seed, 2);
    c.activation = i % 2 ? CUMEGA_ACTIVATION_SWISH : CUMEGA_ACTIVATION_IDENTITY;
    if (random_below(&seed, 3) == 0) c.truncation = 1 + random_below(&seed, 60);
    check(&c, i);
  }
}
END_TEST

/* With a memory limit too small for the rows of all sequences together. */
START_TEST(memory_is_bounded_by_tiles_of_rows) {
  enum { L = 1000, B = 4, D = 20 };
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  cumega_context *small = NULL, *ample = context_new();
  cumega_statistics statistics = {.struct_size = sizeof statistics};
  options.device = device_of_tests();
  options.memory_limit = 2 << 20;
  ck_assert_int_eq(cumega_context_create(&options, &small), CUMEGA_OK);
  int64_t bytes[2];
  test_tensor *y[2];
  cumega_context *contexts[] = {small, ample};
  for (int i = 0; i < 2; i++) {
    uint64_t seed = 8;
    cumega_ema_config config;
    cumega_ema_config_init(&config, sizeof config, D);
    cumega_ema *ema = NULL;
    MUST(ample, cumega_ema_create(ample, &config, NULL, &ema)); /* counted on ample's account */
    test_tensor *x = tensor_new_3(cumega_float32, L, B, D);
    y[i] = tensor_new_3(cumega_float32, L, B, D);
    for (int64_t j = 0; j < L * B * D; j++)
      tensor_set(x, j / (B * D), j / D % B, j % D, random_noise(&seed));
    cumega_ema_io io = io_of(x, y[i]);
    io.algorithm = CUMEGA_EMA_FFT;
    MUST(contexts[i], cumega_ema_workspace_size(contexts[i], ema, &io, &bytes[i]));
    MUST(contexts[i], cumega_ema_forward(contexts[i], ema, &io));
    tensor_free(x);
    cumega_ema_destroy(ema);
  }
  ck_assert_int_gt(bytes[1], 2 * bytes[0]);
  MUST(small, cumega_context_statistics(small, &statistics));
  ck_assert_int_le(statistics.bytes_peak, 2 << 20);
  for (int64_t j = 0; j < L * B * D; j++)
    ck_assert(fabs(tensor_get(y[0], j / (B * D), j / D % B, j % D) -
                   tensor_get(y[1], j / (B * D), j / D % B, j % D)) < 1e-4);
  tensor_free(y[0]);
  tensor_free(y[1]);
  cumega_context_destroy(small);
  cumega_context_destroy(ample);
}
END_TEST

/* A spectrum belongs to the parameters it was made from, not to the object. */
START_TEST(new_parameters_are_seen) {
  enum { L = 50, D = 3 };
  cumega_context *ctx = context_new();
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, D);
  cumega_ema *ema = NULL;
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
  test_tensor *x = tensor_new_3(cumega_float32, L, 1, D),
              *y = tensor_new_3(cumega_float32, L, 1, D);
  test_tensor *chain = tensor_new_3(cumega_float32, L, 1, D);
  for (int i = 0; i < L * D; i++) tensor_set(x, i / D, 0, i % D, 0.1 * (i % 11));
  for (int round = 0; round < 3; round++) {
    MUST(ctx, cumega_ema_reset_parameters(ctx, ema, 0.1 * round, 0.2, 1, (uint64_t)round));
    cumega_ema_io io = io_of(x, y);
    io.algorithm = CUMEGA_EMA_FFT;
    MUST(ctx, cumega_ema_forward(ctx, ema, &io));
    io.algorithm = CUMEGA_EMA_DEFAULT;
    io.y = dl(chain);
    MUST(ctx, cumega_ema_forward(ctx, ema, &io));
    for (int i = 0; i < L * D; i++)
      ck_assert(fabs(tensor_get(y, i / D, 0, i % D) - tensor_get(chain, i / D, 0, i % D)) < 1e-4);
  }
  tensor_free(x);
  tensor_free(y);
  tensor_free(chain);
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
}
END_TEST

int main(void) {
  setenv("CUMEGA_TEST_DEVICE", "cuda", 1);
  Suite *suite = suite_create("cuda_ema_fft");
  TCase *tests = add_case(suite, "fft", 300);
  tcase_add_test(tests, it_gives_the_convolution);
  tcase_add_test(tests, memory_is_bounded_by_tiles_of_rows);
  tcase_add_test(tests, new_parameters_are_seen);
  return run_suite(suite);
}
