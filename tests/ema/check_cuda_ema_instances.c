/* The kernels of the EMA are compiled for certain numbers of heads, types and activations. Each
 * of these instances, in runs that use every part of it, gives the same bits as the CPU. */
#include <stdio.h>
#include <stdlib.h>
#include "ema_runs.h"
#include "runner.h"

static const DLDataType types[] = {{kDLFloat, 32, 1}, {kDLFloat, 16, 1}, {kDLBfloat, 16, 1}};

static void must_agree(const recipe *r, way w, const char *kernel) {
  char reason[400];
  problem *p = problem_new(r);
  const int differs = way_differs(p, &w, reason, sizeof reason);
  const char *ran = cumega_context_kernels(runs_device());
  ck_assert_msg(!differs, "%s, D %lld N %lld B %lld L %lld: %s", number_name(r->dtype),
                (long long)r->D, (long long)r->N, (long long)r->B, (long long)r->L, reason);
  ck_assert_msg(strstr(ran, kernel) != NULL, "%s ran, not %s", ran, kernel);
  problem_free(p);
}

/* The number of channels, over all sequences, from which each gets a thread
 * (src/cuda/tuning.h). */
static int64_t many_channels(void) {
  const int is_emulated = strcmp(cumega_context_backend(runs_device()), "cuda-emulation") == 0;
  return is_emulated ? 1024 : 16384;
}

/* A sequence's channels fill one warp and a part of another; lengths fill several stages and a
 * part. */
START_TEST(many_channels_of_every_kind_have_the_cpus_bits) {
  static const int64_t heads[] = {1, 2, 4, 8};
  static const cumega_activation kinds[] = {CUMEGA_ACTIVATION_IDENTITY, CUMEGA_ACTIVATION_RELU,
                                            CUMEGA_ACTIVATION_SWISH, CUMEGA_ACTIVATION_TANH};
  for (int i = 0; i < 48; i++) {
    recipe r = {.D = 40,
                .N = heads[i % 4],
                .B = many_channels() / 40 + 1,
                .L = 35 + i % 3,
                .dtype = types[i / 4 % 3],
                .state_dtype = cumega_float32,
                .activation = kinds[i / 12],
                .masked = i % 2,
                .stateful = i % 3 == 0,
                .seed = (uint64_t)i};
    const way w = {.form = i % 2 ? PADDED : PACKED};
    if (w.form == PACKED) r.masked = 0;
    must_agree(&r, w, "ema_channels_kernel");
  }
}
END_TEST

/* Their rows are not a whole number of 16-byte pieces. */
START_TEST(one_channel_more_goes_by_tiles) {
  recipe r = {.D = many_channels() + 1, .N = 4, .B = 1, .L = 20, .dtype = types[0]};
  r.state_dtype = cumega_float32;
  must_agree(&r, (way){.form = PADDED}, "ema_tiles_kernel");
}
END_TEST

/* The states before the slices are computed without y. */
START_TEST(slices_of_many_channels_have_the_cpus_bits) {
  for (int i = 0; i < 3; i++) {
    recipe r = {.D = many_channels() / 2,
                .N = 2,
                .B = 1,
                .L = 40,
                .dtype = types[i],
                .state_dtype = cumega_float32,
                .seed = (uint64_t)i};
    must_agree(&r, (way){.form = PADDED, .algorithm = CUMEGA_EMA_SLICED},
               "ema_channels_kernel<2,TYPE_");
  }
}
END_TEST

START_TEST(truncated_runs_of_every_number_of_heads_have_the_cpus_bits) {
  static const int64_t heads[] = {1, 2, 3, 5, 9, 17};
  for (int i = 0; i < 12; i++) {
    recipe r = {.D = 3,
                .N = heads[i % 6],
                .B = 10,
                .L = 9,
                .truncation = 3,
                .dtype = types[i % 3],
                .state_dtype = i < 6 ? cumega_float32 : cumega_float64,
                .activation = CUMEGA_ACTIVATION_SWISH,
                .masked = i % 2,
                .seed = (uint64_t)i};
    must_agree(&r, (way){.form = PADDED},
               r.N > 16 ? "ema_many_heads_kernel" : "ema_recurrent_kernel");
  }
}
END_TEST

/* More sequences than an emulated grid has blocks. */
START_TEST(slices_of_many_sequences_have_the_cpus_bits) {
  recipe r = {.D = 3, .N = 4, .B = 20, .L = 30, .dtype = types[0], .state_dtype = types[0]};
  must_agree(&r, (way){.form = PACKED, .algorithm = CUMEGA_EMA_SLICED}, "ema_sliced_check_kernel");
}
END_TEST

/* A raw step: its y is the sum of its heads alone. */
START_TEST(raw_steps_of_every_type_have_the_cpus_bits) {
  static const DLDataType all[] = {
      {kDLFloat, 32, 1}, {kDLFloat, 16, 1}, {kDLBfloat, 16, 1}, {kDLFloat, 64, 1}};
  enum { D = 5, B = 2, N = 3 };
  for (int i = 0; i < 8; i++) {
    const DLDataType dtype = all[i % 4];
    cumega_context *contexts[] = {context_new(), context_of_level(NULL, 1)};
    test_tensor *y[2];
    for (int k = 0; k < 2; k++) {
      uint64_t seed = 4;
      cumega_ema_config config;
      cumega_ema_config_init(&config, sizeof config, D);
      cumega_ema *ema = NULL;
      config.num_heads = N;
      config.state_dtype = i >= 4 || dtype.bits == 64 ? cumega_float64 : cumega_float32;
      MUST(contexts[k], cumega_ema_create(contexts[k], &config, NULL, &ema));
      test_tensor *x = tensor_new_2(dtype, B, D);
      test_tensor *state = tensor_new_3(config.state_dtype, B, D, N);
      y[k] = tensor_new_2(dtype, B, D);
      for (int j = 0; j < B * D; j++) tensor_set(x, j / D, j % D, 0, random_noise(&seed));
      for (int j = 0; j < B * D * N; j++)
        tensor_set(state, j / (D * N), j / N % D, j % N, random_noise(&seed));
      cumega_ema_io io = io_of(x, y[k]);
      io.raw = 1;
      io.initial_state = io.final_state = dl(state);
      MUST(contexts[k], cumega_ema_step(contexts[k], ema, &io));
      tensor_free(x);
      tensor_free(state);
      cumega_ema_destroy(ema);
    }
    for (int j = 0; j < B * D; j++)
      ck_assert_uint_eq(tensor_bits(y[0], j / D, j % D, 0), tensor_bits(y[1], j / D, j % D, 0));
    for (int k = 0; k < 2; k++) {
      tensor_free(y[k]);
      cumega_context_destroy(contexts[k]);
    }
  }
}
END_TEST

/* ---- sequences that kernels refuse, and rows that end within a piece ---- */

typedef struct odd_run {
  int64_t D, N;
  test_layout layout;
  cumega_ema_algorithm algorithm;
  const char *kernel;
} odd_run;

enum { STEPS = 60, FIRST = 25 };

/* y (STEPS, D) of sequences with these offsets, packed; y starts as 7. */
static test_tensor *packed_run(cumega_context *ctx, const odd_run *o, const int64_t *offsets,
                               cumega_status expected) {
  uint64_t seed = 6;
  const int64_t shape[] = {STEPS, o->D};
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, o->D);
  cumega_ema *ema = NULL;
  config.num_heads = o->N;
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
  test_tensor *x = tensor_new(cumega_float32, 2, shape, &o->layout);
  test_tensor *y = tensor_new_2(cumega_float32, STEPS, o->D), *where = tensor_of_int64(4, offsets);
  for (int64_t i = 0; i < STEPS * o->D; i++) {
    tensor_set(x, i / o->D, i % o->D, 0, random_noise(&seed));
    tensor_set(y, i / o->D, i % o->D, 0, 7);
  }
  cumega_ema_io io = io_of(x, y);
  io.sequence_offsets = dl(where);
  io.algorithm = o->algorithm;
  const cumega_status status = cumega_ema_forward(ctx, ema, &io);
  ck_assert_msg(status == expected, "%s: %s", o->kernel, cumega_context_message(ctx));
  ck_assert_msg(strstr(cumega_context_kernels(ctx), o->kernel) != NULL, "%s ran, not %s",
                cumega_context_kernels(ctx), o->kernel);
  tensor_free(x);
  tensor_free(where);
  cumega_ema_destroy(ema);
  return y;
}

#define BY_CHANNELS                                                                               \
  {                                                                                               \
    .ordered = 1, .order = { 1, 0 }                                                               \
  }

START_TEST(every_kernel_skips_a_sequence_with_bad_offsets_and_no_other) {
  const odd_run runs[] = {
      {5, 3, {0}, CUMEGA_EMA_DEFAULT, "ema_recurrent_kernel"},
      {5, 17, {0}, CUMEGA_EMA_DEFAULT, "ema_many_heads_kernel"},
      {16, 4, {0}, CUMEGA_EMA_DEFAULT, "ema_lanes_kernel"},
      {9, 4, BY_CHANNELS, CUMEGA_EMA_DEFAULT, "ema_tiles_kernel"},
      {many_channels(), 2, {0}, CUMEGA_EMA_DEFAULT, "ema_channels_kernel"},
      {5, 2, {0}, CUMEGA_EMA_SLICED, "ema_sliced_check_kernel"},
      {5, 2, {0}, CUMEGA_EMA_CHUNKED, "ema_chunked_kernel"},
      {5, 2, {0}, CUMEGA_EMA_FFT, "ema_fft_gather_kernel"},
  };
  cumega_context *ctx = context_new();
  for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
    const odd_run *o = &runs[i];
    const int64_t bad[] = {0, FIRST, STEPS + 1, FIRST}, good[] = {0, FIRST, FIRST, FIRST};
    test_tensor *a = packed_run(ctx, o, bad, CUMEGA_ERROR_ARGUMENT);
    test_tensor *b = packed_run(ctx, o, good, CUMEGA_OK);
    for (int64_t j = 0; j < STEPS * o->D; j++)
      ck_assert_msg(tensor_bits(a, j / o->D, j % o->D, 0) == tensor_bits(b, j / o->D, j % o->D, 0),
                    "%s: step %lld", o->kernel, (long long)(j / o->D));
    ck_assert(tensor_get(a, FIRST - 1, 0, 0) != 7 && tensor_get(a, FIRST, 0, 0) == 7);
    tensor_free(a);
    tensor_free(b);
  }
  cumega_context_destroy(ctx);
}
END_TEST

/* Each row begins at a 16-byte piece and ends within one. */
START_TEST(rows_that_are_no_whole_pieces_have_the_same_bits) {
  const odd_run apart = {6,
                         4,
                         {.ordered = 1, .order = {0, 1}, .gap = {0, 2}},
                         CUMEGA_EMA_DEFAULT,
                         "ema_tiles_kernel"};
  odd_run compact = apart;
  compact.layout = (test_layout){0};
  cumega_context *ctx = context_new();
  const int64_t offsets[] = {0, FIRST, FIRST + 3, STEPS};
  test_tensor *a = packed_run(ctx, &apart, offsets, CUMEGA_OK);
  test_tensor *b = packed_run(ctx, &compact, offsets, CUMEGA_OK);
  ck_assert_mem_eq(tensor_at(a, 0, 0, 0), tensor_at(b, 0, 0, 0), STEPS * 6 * sizeof(float));
  tensor_free(a);
  tensor_free(b);
  cumega_context_destroy(ctx);
}
END_TEST

int main(void) {
  setenv("CUMEGA_TEST_DEVICE", "cuda", 1);
  Suite *suite = suite_create("cuda_ema_instances");
  TCase *tests = add_case(suite, "instances", 120);
  tcase_add_checked_fixture(tests, NULL, runs_end);
  tcase_add_test(tests, many_channels_of_every_kind_have_the_cpus_bits);
  tcase_add_test(tests, one_channel_more_goes_by_tiles);
  tcase_add_test(tests, slices_of_many_channels_have_the_cpus_bits);
  tcase_add_test(tests, truncated_runs_of_every_number_of_heads_have_the_cpus_bits);
  tcase_add_test(tests, slices_of_many_sequences_have_the_cpus_bits);
  tcase_add_test(tests, raw_steps_of_every_type_have_the_cpus_bits);
  tcase_add_test(tests, every_kernel_skips_a_sequence_with_bad_offsets_and_no_other);
  tcase_add_test(tests, rows_that_are_no_whole_pieces_have_the_same_bits);
  return run_suite(suite);
}
