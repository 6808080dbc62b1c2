/* Slices of time give the bits of one chain, whether or not their warm-up was long enough. In
 * some of these runs the decays make it long enough. In others it cannot be: at 1 - q = 1e-4
 * nothing is forgotten within a few steps, so every slice begins wrong and has to be computed
 * again. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "ema_harness.h"
#include "runner.h"

enum { D = 3, B = 2, L = 1500 };

typedef enum input {
  NOISE,
  CONSTANT,
  ZEROS,
  NOISE_THEN_ZEROS,
  WITH_NAN,
  WITH_NANS, /* of both signs: the chain keeps the first, a slice's warm-up starts at another */
  WITH_INFINITY,
  INPUTS
} input;

static const double decays[] = {0.5, 0.25, 0.1, 1e-2, 1e-3, 1e-4};
#define DECAYS ((int)(sizeof decays / sizeof *decays))

static double value_of(input kind, int64_t t, uint64_t *seed) {
  const double noise = random_noise(seed);
  switch (kind) {
  case CONSTANT: return 0.75;
  case ZEROS: return 0;
  case NOISE_THEN_ZEROS: return t < L / 3 ? noise : 0;
  case WITH_NAN: return t == L / 3 ? NAN : noise;
  case WITH_NANS: return t == L / 8 ? NAN : t > L / 8 && t % 40 == 0 ? -(double)NAN : noise;
  case WITH_INFINITY: return t == L / 2 ? INFINITY : noise;
  default: return noise;
  }
}

/* Everything for one run of shape (L, B, D), with lengths and states. */
typedef struct fixture {
  cumega_context *ctx;
  cumega_ema *ema;
  int64_t heads;
  test_tensor *x, *y, *initial, *final, *lengths, *mask;
  cumega_ema_io io;
} fixture;

static void begin_of_heads(fixture *f, cumega_context *ctx, double slowest, input kind,
                           DLDataType state_dtype, int64_t N) {
  uint64_t seed = 5;
  test_parameters *parameters = parameters_new(D, N);
  parameters_fill(parameters, &seed, slowest);
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, D);
  config.num_heads = N;
  config.state_dtype = state_dtype;
  config.activation = CUMEGA_ACTIVATION_IDENTITY;
  f->ctx = ctx;
  f->heads = N;
  f->ema = ema_new(ctx, config, parameters, cumega_float32);
  parameters_free(parameters);
  f->x = tensor_new_3(cumega_float32, L, B, D);
  f->y = tensor_new_3(cumega_float32, L, B, D);
  f->initial = tensor_new_3(state_dtype, B, D, N);
  f->final = tensor_new_3(state_dtype, B, D, N);
  f->lengths = tensor_of_int64(B, (int64_t[]){L, L / 2 + 77});
  f->mask = tensor_new_2(cumega_uint8, B, L);
  for (int64_t i = 0; i < (int64_t)L * B * D; i++)
    tensor_set(f->x, i / (B * D), i / D % B, i % D, value_of(kind, i / (B * D), &seed));
  for (int64_t i = 0; i < B * D * N; i++)
    tensor_set(f->initial, i / (D * N), i / N % D, i % N, random_noise(&seed));
  for (int64_t i = 0; i < (int64_t)B * L; i++)
    tensor_set(f->mask, i / L, i % L, 0, random_below(&seed, 7) == 0);
  f->io = io_of(f->x, f->y);
  f->io.sequence_lengths = dl(f->lengths);
  f->io.initial_state = dl(f->initial);
  f->io.final_state = dl(f->final);
}

static void begin(fixture *f, cumega_context *ctx, double slowest, input kind,
                  DLDataType state_dtype) {
  begin_of_heads(f, ctx, slowest, kind, state_dtype, 4);
}

static void end(fixture *f) {
  test_tensor *all[] = {f->x, f->y, f->initial, f->final, f->lengths, f->mask};
  ck_assert(tensor_gaps_hold(f->y) && tensor_gaps_hold(f->final));
  for (int i = 0; i < 6; i++) tensor_free(all[i]);
  cumega_ema_destroy(f->ema);
}

/* The bits of y, then those of the final state. */
static uint64_t *bits_of(fixture *f, cumega_ema_algorithm algorithm) {
  const int64_t N = f->heads;
  uint64_t *bits = memory_new((L * B * D + B * D * N) * 8);
  int64_t count = 0;
  f->io.algorithm = algorithm;
  for (int64_t i = 0; i < (int64_t)L * B * D; i++)
    tensor_set(f->y, i / (B * D), i / D % B, i % D, 99);
  MUST(f->ctx, cumega_ema_forward(f->ctx, f->ema, &f->io));
  for (int64_t i = 0; i < (int64_t)L * B * D; i++)
    bits[count++] = tensor_bits(f->y, i / (B * D), i / D % B, i % D);
  for (int64_t i = 0; i < B * D * N; i++)
    bits[count++] = tensor_bits(f->final, i / (D * N), i / N % D, i % N);
  return bits;
}

static void compare(fixture *f, const char *what, double slowest, int kind) {
  uint64_t *chain = bits_of(f, CUMEGA_EMA_RECURRENT), *sliced = bits_of(f, CUMEGA_EMA_SLICED);
  for (int64_t i = 0; i < L * B * D + B * D * f->heads; i++)
    ck_assert_msg(chain[i] == sliced[i], "%s, 1 - q = %g, input %d: number %lld is %llx, not %llx",
                  what, slowest, kind, (long long)i, (unsigned long long)sliced[i],
                  (unsigned long long)chain[i]);
  free(chain);
  free(sliced);
}

static cumega_context *context_of_slices(void) {
  return device_is_cuda() ? context_new() : context_of_level(NULL, 3);
}

START_TEST(slices_have_the_bits_of_the_chain) {
  cumega_context *ctx = context_of_slices();
  for (int d = 0; d < DECAYS; d++) {
    for (int kind = 0; kind < INPUTS; kind++) {
      fixture f;
      begin(&f, ctx, decays[d], (input)kind, cumega_float32);
      compare(&f, "float32", decays[d], kind);
      end(&f);
    }
  }
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(slices_of_a_float64_chain_too) {
  cumega_context *ctx = context_of_slices();
  for (int d = 1; d < DECAYS; d += 2) {
    fixture f;
    for (int kind = NOISE; kind <= WITH_NANS; kind += WITH_NANS - NOISE) {
      begin(&f, ctx, decays[d], (input)kind, cumega_float64);
      compare(&f, "float64 state", decays[d], kind);
      end(&f);
    }
  }
  cumega_context_destroy(ctx);
}
END_TEST

/* Slices that began right, and, with slow decays, slices that did not. */
START_TEST(slices_of_every_number_of_heads_too) {
  static const int64_t heads[] = {1, 2, 3, 5, 9};
  cumega_context *ctx = context_of_slices();
  for (int i = 0; i < 20; i++) {
    const double slowest = i < 10 ? 0.25 : 1e-3;
    fixture f;
    begin_of_heads(&f, ctx, slowest, NOISE, i % 2 ? cumega_float64 : cumega_float32, heads[i % 5]);
    compare(&f, "heads", slowest, (int)heads[i % 5]);
    end(&f);
  }
  cumega_context_destroy(ctx);
}
END_TEST

/* The mask of a slice is that of its steps; states may be absent. */
START_TEST(slices_see_the_mask_and_begin_from_zeros) {
  cumega_context *ctx = context_of_slices();
  fixture f;
  begin(&f, ctx, 0.25, NOISE, cumega_float32);
  f.io.mask = dl(f.mask);
  compare(&f, "masked", 0.25, NOISE);
  f.io.initial_state = NULL;
  compare(&f, "masked from zeros", 0.25, NOISE);
  f.io.sequence_lengths = NULL;
  compare(&f, "masked whole", 0.25, NOISE);
  end(&f);
  cumega_context_destroy(ctx);
}
END_TEST

/* RECURRENT uses slices where they pay off: their states need scratch that the chain does not. */
START_TEST(recurrent_takes_slices_where_they_pay) {
  static const struct {
    int64_t length;
    double slowest;
    int in_place, is_double, sliced;
  } rows[] = {
      {8192, 0.25, 0, 0, 1},  {8192, 0.25, 0, 1, 1},  {8192, 0.25, 1, 0, 0},
      {8192, 1e-3, 0, 0, 0},  {8192, 1e-25, 0, 0, 0}, /* a warm-up of too many steps to count */
      {6144, 0.05, 0, 0, 1},  {6144, 0.05, 0, 1, 0},  /* a float64 state forgets half as fast */
      {6144, 0.024, 0, 0, 0},                         /* four warm-ups: only one slice */
      {64, 0.25, 0, 0, 0}};
  cumega_context *ctx = context_of_slices();
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    if (device_is_cuda() && rows[i].length == 6144) continue; /* a GPU has other limits */
    fixture f;
    int64_t recurrent = -1, chain = -1, automatic = -1;
    begin(&f, ctx, rows[i].slowest, NOISE, rows[i].is_double ? cumega_float64 : cumega_float32);
    test_tensor *x = tensor_new_3(cumega_float32, rows[i].length, B, D);
    test_tensor *y = tensor_new_3(cumega_float32, rows[i].length, B, D);
    test_tensor *z = tensor_new_3(cumega_float32, rows[i].length, B, D);
    for (int64_t j = 0; j < rows[i].length * B * D; j++)
      tensor_set(x, j / (B * D), j / D % B, j % D, 0.01 * (double)(j % 17) - 0.05);
    cumega_ema_io io = io_of(x, rows[i].in_place ? x : y);
    MUST(ctx, cumega_ema_workspace_size(ctx, f.ema, &io, &recurrent));
    io.algorithm = CUMEGA_EMA_RECURRENT;
    MUST(ctx, cumega_ema_workspace_size(ctx, f.ema, &io, &chain));
    ck_assert_msg((recurrent > chain) == rows[i].sliced, "row %d: %lld and %lld bytes", (int)i,
                  (long long)recurrent, (long long)chain);
    io.algorithm = CUMEGA_EMA_FASTEST;
    MUST(ctx, cumega_ema_workspace_size(ctx, f.ema, &io, &automatic));
    if (!device_is_cuda()) ck_assert_int_eq(automatic, recurrent);
    io.algorithm = CUMEGA_EMA_RECURRENT;
    io.y = dl(z);
    MUST(ctx, cumega_ema_forward(ctx, f.ema, &io));
    io.y = dl(rows[i].in_place ? x : y);
    io.algorithm = CUMEGA_EMA_DEFAULT;
    MUST(ctx, cumega_ema_forward(ctx, f.ema, &io));
    ck_assert_mem_eq(tensor_at(rows[i].in_place ? x : y, 0, 0, 0), tensor_at(z, 0, 0, 0),
                     (size_t)(rows[i].length * B * D) * sizeof(float));
    tensor_free(x);
    tensor_free(y);
    tensor_free(z);
    end(&f);
  }
  cumega_context_destroy(ctx);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ema_sliced");
  TCase *tests = add_case(suite, "sliced", 300);
  tcase_add_test(tests, slices_have_the_bits_of_the_chain);
  tcase_add_test(tests, slices_of_a_float64_chain_too);
  tcase_add_test(tests, slices_of_every_number_of_heads_too);
  tcase_add_test(tests, slices_see_the_mask_and_begin_from_zeros);
  tcase_add_test(tests, recurrent_takes_slices_where_they_pay);
  return run_suite(suite);
}
