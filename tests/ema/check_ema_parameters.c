/* Parameters and settings of an existing EMA: read, set, reset, shared. */
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include "defaults.h"
#include "ema_harness.h"
#include "runner.h"

static cumega_context *ctx;

static void setup(void) {
  ctx = context_new();
}

static void teardown(void) {
  cumega_context_destroy(ctx);
}

/* Room for five parameters of one type and layout, (D, N, 1), (D, N) and (D). */
typedef struct five {
  int64_t D, N;
  test_tensor *t[5];
  cumega_ema_parameters io;
} five;

static five *five_new(DLDataType dtype, int64_t D, int64_t N, int odd) {
  five *f = memory_new(sizeof *f);
  const test_layout layout = {odd, {1, 0, 2}, {1, 2, 3}, odd ? 3 : 0, 0, odd, odd};
  const test_layout line = {0, {0}, {0}, odd ? 1 : 0, 0, odd, 0};
  f->D = D, f->N = N;
  for (int i = 0; i < 4; i++)
    f->t[i] = tensor_new(dtype, odd || i == 3 ? 2 : 3, (int64_t[]){D, N, 1}, &layout);
  f->t[4] = tensor_new(dtype, 1, &D, &line);
  f->io = (cumega_ema_parameters){sizeof f->io, dl(f->t[0]), dl(f->t[1]),
                                  dl(f->t[2]),  dl(f->t[3]), dl(f->t[4])};
  return f;
}

static void five_free(five *f) {
  for (int i = 0; i < 5; i++) tensor_free(f->t[i]);
  free(f);
}

static double five_get(const five *f, int i, int64_t d, int64_t n) {
  return tensor_get(f->t[i], d, i == 4 ? 0 : n, 0);
}

static void five_fill(five *f, uint64_t seed) {
  for (int i = 0; i < 5; i++)
    for (int64_t d = 0; d < f->D; d++)
      for (int64_t n = 0; n < (i == 4 ? 1 : f->N); n++)
        tensor_set(f->t[i], d, n, 0, random_noise(&seed));
}

/* b holds a's values rounded to b's type. */
static void must_hold_the_same(const five *a, const five *b) {
  for (int i = 0; i < 5; i++)
    for (int64_t d = 0; d < a->D; d++)
      for (int64_t n = 0; n < (i == 4 ? 1 : a->N); n++)
        ck_assert_double_eq(number_round(b->t[i]->view.dl.dtype, five_get(a, i, d, n)),
                            five_get(b, i, d, n));
  for (int i = 0; i < 5; i++) ck_assert(tensor_gaps_hold(b->t[i]));
}

static cumega_ema *reset_ema(int64_t D, int64_t N) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, D);
  config.num_heads = N;
  cumega_ema *ema;
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
  return ema;
}

static five *read_all(cumega_ema *ema, DLDataType dtype, int64_t D, int64_t N) {
  five *f = five_new(dtype, D, N, 0);
  MUST(ctx, cumega_ema_get_parameters(ctx, ema, &f->io));
  return f;
}

START_TEST(created_from_nothing_is_reset_with_the_defaults) {
  cumega_ema *a = reset_ema(20, 5), *b = reset_ema(20, 5);
  MUST(ctx, cumega_ema_reset_parameters(ctx, b, 3.0, 1.0, 2.0, 99));
  MUST(ctx, cumega_ema_reset_parameters(ctx, b, 0.0, 0.2, 1.0, 0));
  five *first = read_all(a, cumega_float64, 20, 5), *second = read_all(b, cumega_float64, 20, 5);
  must_hold_the_same(first, second);
  five *narrow = read_all(a, cumega_float32, 20, 5); /* the numbers are float32 values */
  must_hold_the_same(narrow, first);
  five_free(narrow);
  five_free(first);
  five_free(second);
  cumega_ema_destroy(a);
  cumega_ema_destroy(b);
}
END_TEST

static const DLDataType types[] = {
    {kDLFloat, 32, 1}, {kDLFloat, 64, 1}, {kDLFloat, 16, 1}, {kDLBfloat, 16, 1}};

START_TEST(parameters_of_every_type_and_stride_come_back) {
  for (int given = 0; given < 4; given++)
    for (int taken = 0; taken < 4; taken++)
      for (int odd = 0; odd < 4; odd++) {
        cumega_ema *ema = reset_ema(7, 3);
        five *in = five_new(types[given], 7, 3, odd & 1);
        five *out = five_new(types[taken], 7, 3, odd >> 1);
        five_fill(in, (uint64_t)given);
        MUST(ctx, cumega_ema_set_parameters(ctx, ema, &in->io));
        MUST(ctx, cumega_ema_get_parameters(ctx, ema, &out->io));
        must_hold_the_same(in, out);
        five_free(in);
        five_free(out);
        cumega_ema_destroy(ema);
      }
}
END_TEST

START_TEST(members_left_out_are_not_read_back) {
  cumega_ema *ema = reset_ema(7, 3);
  five *all = read_all(ema, cumega_float32, 7, 3), *one = five_new(cumega_float32, 7, 3, 0);
  cumega_ema_parameters only = {.struct_size = sizeof only};
  MUST(ctx, cumega_ema_get_parameters(ctx, ema, &only));
  only.residual_weight = one->io.residual_weight;
  MUST(ctx, cumega_ema_get_parameters(ctx, ema, &only));
  ck_assert_double_eq(five_get(one, 4, 6, 0), five_get(all, 4, 6, 0));
  ck_assert_double_nan(five_get(one, 0, 0, 0)); /* as it was filled */
  five_free(all);
  five_free(one);
  cumega_ema_destroy(ema);
}
END_TEST

/* p of channel 0, head 0, in float64. */
static double first_p(cumega_ema *ema, int64_t D, int64_t N) {
  test_tensor *p = tensor_new_2(cumega_float64, D, N);
  MUST(ctx, cumega_ema_compute_coefficients(ctx, ema, dl(p), NULL));
  double result = tensor_get(p, 0, 0, 0);
  tensor_free(p);
  return result;
}

START_TEST(a_set_that_fails_keeps_the_old_parameters) {
  cumega_ema *ema = reset_ema(7, 3);
  five *before = read_all(ema, cumega_float64, 7, 3), *in = five_new(cumega_float32, 7, 3, 0);
  double p = first_p(ema, 7, 3);
  five_fill(in, 5);
  tensor_set(in->t[4], 6, 0, 0, NAN); /* the very last value */
  ck_assert_int_eq(cumega_ema_set_parameters(ctx, ema, &in->io), CUMEGA_ERROR_ARGUMENT);
  ck_assert(strstr(cumega_context_message(ctx), "residual_weight") != NULL);
  five *after = read_all(ema, cumega_float64, 7, 3);
  must_hold_the_same(before, after);
  ck_assert_double_eq(first_p(ema, 7, 3), p);
  in->io.decay_factor = NULL;
  ck_assert_int_eq(cumega_ema_set_parameters(ctx, ema, &in->io), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_ema_set_parameters(ctx, ema, NULL), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_ema_set_parameters(ctx, NULL, &in->io), CUMEGA_ERROR_ARGUMENT);
  five_free(before);
  five_free(after);
  five_free(in);
  cumega_ema_destroy(ema);
}
END_TEST

/* ESPnet's cached coefficients go stale here. Everything derived must be what a new EMA with the
 * same parameters has: coefficients, kernel, and the run itself. */
START_TEST(reset_and_set_refresh_all_that_is_derived) {
  cumega_ema *ema = reset_ema(7, 3), *fresh = reset_ema(7, 3);
  double p = first_p(ema, 7, 3);
  MUST(ctx, cumega_ema_reset_parameters(ctx, ema, 0.1, 0.3, 0.5, 8));
  ck_assert_double_ne(first_p(ema, 7, 3), p);
  five *all = read_all(ema, cumega_float64, 7, 3);
  reference_coefficients pair =
      reference_ema_coefficients(five_get(all, 0, 0, 0), five_get(all, 1, 0, 0));
  ck_assert_double_eq_tol(first_p(ema, 7, 3), (double)pair.p, 4.0 * 0x1p-53 * (double)pair.p);
  MUST(ctx, cumega_ema_set_parameters(ctx, fresh, &all->io));
  test_tensor *x = tensor_new_3(cumega_float32, 5, 2, 7), *y[2];
  for (int64_t i = 0; i < 70; i++) tensor_set(x, i / 14, i / 7 % 2, i % 7, 0.1 * (double)i - 3.0);
  for (int i = 0; i < 2; i++) {
    y[i] = tensor_new_3(cumega_float32, 5, 2, 7);
    cumega_ema_io io = io_of(x, y[i]);
    MUST(ctx, cumega_ema_forward(ctx, i ? fresh : ema, &io));
  }
  ck_assert_mem_eq(y[0]->block, y[1]->block, (size_t)y[0]->block_bytes);
  tensor_free(x);
  tensor_free(y[0]);
  tensor_free(y[1]);
  five_free(all);
  cumega_ema_destroy(ema);
  cumega_ema_destroy(fresh);
}
END_TEST

/* Mean and deviation of `count` values normal(mean, deviation): the mean has a deviation of
 * deviation / sqrt(count), the deviation one of deviation / sqrt(2 count); five of these are
 * allowed. */
static void must_be_normal(const five *f, int i, double mean, double deviation, int alternating) {
  double sum = 0.0, squares = 0.0, count = 0.0;
  for (int64_t d = 0; d < f->D; d++)
    for (int64_t n = 0; n < (i == 4 ? 1 : f->N); n++, count++) {
      double value = five_get(f, i, d, n) - mean - (alternating ? (n % 2 ? -1.0 : 1.0) : 0.0);
      sum += value;
      squares += value * value;
    }
  double found = sqrt(squares / count);
  ck_assert_msg(fabs(sum / count) <= 5.0 * deviation / sqrt(count), "parameter %d: mean %g", i,
                sum / count + mean);
  ck_assert_msg(fabs(found - deviation) <= 5.0 * deviation / sqrt(2.0 * count),
                "parameter %d: deviation %g", i, found);
}

START_TEST(reset_gives_the_normal_numbers_that_it_was_asked_for) {
  const int64_t D = 3000, N = 5;
  cumega_ema *ema = reset_ema(D, N);
  static const double asked[][3] = {{0.0, 0.2, 1.0}, {0.1, 0.3, 0.5}, {-2.0, 1.5, 0.01}};
  for (int i = 0; i < 3; i++) {
    MUST(ctx, cumega_ema_reset_parameters(ctx, ema, asked[i][0], asked[i][1], asked[i][2],
                                          (uint64_t)i << 40));
    five *f = read_all(ema, cumega_float64, D, N);
    must_be_normal(f, 0, asked[i][0], asked[i][1], 0);
    must_be_normal(f, 1, asked[i][0], asked[i][1], 0);
    must_be_normal(f, 2, asked[i][0], 0.02, 1);
    must_be_normal(f, 3, asked[i][0], asked[i][2], 0);
    must_be_normal(f, 4, asked[i][0], asked[i][2], 0);
    five_free(f);
  }
  cumega_ema_destroy(ema);
}
END_TEST

/* Correlation of neighbours and between the parameters: within 5 / sqrt(count), as for
 * independent numbers. */
START_TEST(reset_numbers_are_not_correlated) {
  const int64_t D = 3000, N = 4;
  cumega_ema *ema = reset_ema(D, N);
  MUST(ctx, cumega_ema_reset_parameters(ctx, ema, 0.0, 1.0, 1.0, 17));
  five *f = read_all(ema, cumega_float64, D, N);
  double neighbours = 0.0, channels = 0.0, parameters = 0.0, count = (double)((D - 1) * (N - 1));
  for (int64_t d = 1; d < D; d++)
    for (int64_t n = 1; n < N; n++) {
      double value = five_get(f, 0, d, n);
      neighbours += value * five_get(f, 0, d, n - 1);
      channels += value * five_get(f, 0, d - 1, n);
      parameters += value * five_get(f, 1, d, n) + value * five_get(f, 3, d, n);
    }
  ck_assert_double_le(fabs(neighbours / count), 5.0 / sqrt(count));
  ck_assert_double_le(fabs(channels / count), 5.0 / sqrt(count));
  ck_assert_double_le(fabs(parameters / count), 5.0 * sqrt(2.0 / count));
  five_free(f);
  cumega_ema_destroy(ema);
}
END_TEST

START_TEST(a_seed_names_its_numbers) {
  static const uint64_t seeds[] = {0, 1, UINT64_C(1) << 32, UINT64_MAX};
  cumega_ema *ema = reset_ema(6, 4), *other = reset_ema(6, 4);
  double last = NAN;
  for (int i = 0; i < 4; i++) {
    MUST(ctx, cumega_ema_reset_parameters(ctx, ema, 0.0, 0.2, 1.0, seeds[i]));
    MUST(ctx, cumega_ema_reset_parameters(ctx, other, 0.0, 0.2, 1.0, seeds[i]));
    five *a = read_all(ema, cumega_float64, 6, 4), *b = read_all(other, cumega_float64, 6, 4);
    must_hold_the_same(a, b);
    ck_assert_double_ne(five_get(a, 3, 5, 3), last);
    last = five_get(a, 3, 5, 3);
    five_free(a);
    five_free(b);
  }
  cumega_ema_destroy(ema);
  cumega_ema_destroy(other);
}
END_TEST

START_TEST(zero_deviations_give_the_means) {
  cumega_ema *ema = reset_ema(3, 3);
  MUST(ctx, cumega_ema_reset_parameters(ctx, ema, 0.5, 0.0, 0.0, 1));
  five *f = read_all(ema, cumega_float64, 3, 3);
  for (int64_t d = 0; d < 3; d++) {
    ck_assert_double_eq(five_get(f, 0, d, 2), 0.5);
    ck_assert_double_eq(five_get(f, 3, d, 1), 0.5);
    ck_assert_double_eq(five_get(f, 4, d, 0), 0.5);
  }
  five_free(f);
  cumega_ema_destroy(ema);
}
END_TEST

START_TEST(bad_arguments_of_reset_keep_the_old_parameters) {
  static const double bad[][3] = {{NAN, 0.2, 1},    {INFINITY, 0.2, 1}, {0, -0.2, 1}, {0, NAN, 1},
                                  {0, INFINITY, 1}, {0, 0.2, -1},       {0, 0.2, NAN}};
  static const char *const words[] = {
      "val is nan, expected", "val is inf, expected", "std1", "std1", "std1", "std2", "std2"};
  cumega_ema *ema = reset_ema(3, 3);
  five *before = read_all(ema, cumega_float64, 3, 3);
  for (int i = 0; i < 7; i++) {
    ck_assert_int_eq(cumega_ema_reset_parameters(ctx, ema, bad[i][0], bad[i][1], bad[i][2], 1),
                     CUMEGA_ERROR_ARGUMENT);
    ck_assert_msg(strstr(cumega_context_message(ctx), words[i]) != NULL, "\"%s\"",
                  cumega_context_message(ctx));
  }
  ck_assert_int_eq(cumega_ema_reset_parameters(ctx, NULL, 0, 0.2, 1, 1), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_ema_reset_parameters(ctx, ema, 0, 0.2, 1e300, 1), CUMEGA_ERROR_ARGUMENT);
  ck_assert_ptr_nonnull(
      strstr(cumega_context_message(ctx),
             "a standard deviation of 1e+300 goes beyond float32 in kernel_projection_matrix"));
  five *after = read_all(ema, cumega_float64, 3, 3);
  must_hold_the_same(before, after);
  five_free(before);
  five_free(after);
  cumega_ema_destroy(ema);
}
END_TEST

START_TEST(settings_are_read_back_with_their_defaults_resolved) {
  cumega_ema_config config = ema_config_of(11), found = {.struct_size = sizeof found};
  config.activation = CUMEGA_ACTIVATION_SMISH;
  config.activation_arguments.smish_alpha = -4.0;
  config.activation_arguments.smish_beta = 0.0;
  config.truncation_length = 9;
  cumega_ema *ema;
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
  MUST(ctx, cumega_ema_get_config(ctx, ema, &found));
  ck_assert_int_eq(found.struct_size, sizeof found);
  ck_assert_int_eq(found.size, 11);
  ck_assert_int_eq(found.num_heads, 4);
  ck_assert_int_eq(found.truncation_length, 9);
  ck_assert_int_eq(found.activation, CUMEGA_ACTIVATION_SMISH);
  ck_assert(same_type(found.state_dtype, cumega_float32));
  ck_assert_double_eq(found.activation_arguments.smish_alpha, 1.0);
  ck_assert_double_eq(found.activation_arguments.smish_beta, 1.0);
  found.struct_size = 0;
  ck_assert_int_eq(cumega_ema_get_config(ctx, ema, &found), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_ema_get_config(ctx, ema, NULL), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_ema_get_config(ctx, NULL, &found), CUMEGA_ERROR_ARGUMENT);
  cumega_ema_destroy(ema);
}
END_TEST

/* ---- sharing ---- */

typedef struct worker {
  const cumega_ema *ema;
  test_tensor *x, *y;
  int failures;
} worker;

static void *run_often(void *argument) {
  worker *w = argument;
  cumega_context *own = context_new();
  cumega_ema_io io = io_of(w->x, w->y);
  for (int i = 0; i < 200; i++) w->failures += cumega_ema_forward(own, w->ema, &io) != CUMEGA_OK;
  cumega_context_destroy(own);
  return NULL;
}

START_TEST(an_ema_is_shared_by_contexts_in_threads_and_outlives_its_own) {
  cumega_context *maker = context_new();
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 33);
  cumega_ema *ema;
  MUST(maker, cumega_ema_create(maker, &config, NULL, &ema));
  cumega_context_destroy(maker);
  test_tensor *x = tensor_new_3(cumega_float32, 21, 2, 33);
  uint64_t seed = 4;
  for (int64_t i = 0; i < 21 * 66; i++)
    tensor_set(x, i / 66, i / 33 % 2, i % 33, random_noise(&seed));
  worker workers[2];
  pthread_t threads[2];
  for (int i = 0; i < 2; i++) {
    workers[i] = (worker){ema, x, tensor_new_3(cumega_float32, 21, 2, 33), 0};
    ck_assert_int_eq(pthread_create(&threads[i], NULL, run_often, &workers[i]), 0);
  }
  for (int i = 0; i < 2; i++) pthread_join(threads[i], NULL);
  ck_assert_int_eq(workers[0].failures + workers[1].failures, 0);
  ck_assert_mem_eq(workers[0].y->block, workers[1].y->block, (size_t)workers[0].y->block_bytes);
  cumega_ema_destroy(ema);
  for (int i = 0; i < 2; i++) tensor_free(workers[i].y);
  tensor_free(x);
}
END_TEST

/* Outputs are checked as inputs are: a wrong shape, and two outputs that share memory. */
START_TEST(places_for_parameters_that_are_wrong_are_refused) {
  cumega_ema *ema = reset_ema(3, 3);
  test_tensor *a = tensor_new_2(cumega_float64, 3, 3), *b = tensor_new_2(cumega_float64, 3, 4);
  cumega_ema_parameters p = {.struct_size = sizeof p, .damping_factor = dl(b)};
  static const char *const words[] = {"damping_factor has shape (3, 4)",
                                      "decay_factor is the same memory as damping_factor",
                                      "prev_timestep_weight is the same memory as damping_factor",
                                      "damping_factor has shape (3, 4)",
                                      "prev_timestep_weight has shape (3, 4)",
                                      "(3, 4, 1), expected 2 dimensions, (D, length)",
                                      "kernel is int32",
                                      "kernel has shape (4, 3), expected",
                                      "kernel is an output whose strides",
                                      "damping_factor is an output whose strides"};
  for (int i = 0; i < 10; i++) {
    test_tensor *cube = tensor_new_3(cumega_float32, 3, 4, 1),
                *k = tensor_new_2(cumega_float32, 3, 3);
    cumega_status status = CUMEGA_OK;
    tensor_remember(a);
    if (i == 6) dl(k)->dtype = cumega_int32;
    if (i == 7) dl(k)->shape[0] = 4;
    if (i > 7) dl(k)->strides[0] = 0;
    if (i == 0) status = cumega_ema_get_parameters(ctx, ema, &p);
    p.damping_factor = p.decay_factor = dl(a);
    if (i == 1) status = cumega_ema_get_parameters(ctx, ema, &p);
    if (i == 2) status = cumega_ema_compute_coefficients(ctx, ema, dl(a), dl(a));
    if (i == 3) status = cumega_ema_compute_coefficients(ctx, ema, dl(b), NULL);
    if (i == 4) status = cumega_ema_compute_coefficients(ctx, ema, dl(a), dl(b));
    if (i == 5) status = cumega_ema_compute_kernel(ctx, ema, dl(cube));
    if (i > 5 && i < 9) status = cumega_ema_compute_kernel(ctx, ema, dl(k));
    if (i == 9) status = cumega_ema_compute_coefficients(ctx, ema, dl(k), NULL);
    ck_assert_int_eq(status, CUMEGA_ERROR_ARGUMENT);
    const char *sentence = cumega_context_message(ctx);
    ck_assert_msg(strstr(sentence, words[i]) != NULL, "'%s' lacks '%s'", sentence, words[i]);
    ck_assert(tensor_unchanged(a));
    tensor_free(cube);
    tensor_free(k);
  }
  tensor_free(a);
  tensor_free(b);
  cumega_ema_destroy(ema);
}
END_TEST

/* 1e300 does not fit in float32, but a float64 state accepts it. */
START_TEST(what_the_states_type_cannot_hold_is_refused_by_name) {
  static const char *const names[] = {"ema_expansion_matrix", "kernel_projection_matrix",
                                      "residual_weight"};
  for (int is_double = 0; is_double < 2; is_double++) {
    cumega_ema_config config;
    cumega_ema_config_init(&config, sizeof config, 3);
    cumega_ema *ema = NULL;
    config.num_heads = 2;
    config.state_dtype = is_double ? cumega_float64 : cumega_float32;
    MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
    five *before = read_all(ema, cumega_float64, 3, 2);
    for (int i = 0; i < 3; i++) {
      char expected[120];
      five *f = five_new(cumega_float64, 3, 2, 0);
      five_fill(f, 1);
      tensor_set(f->t[2 + i], 1, i == 2 ? 0 : 1, 0, -1e300);
      snprintf(expected, sizeof expected,
               "%s is beyond the range of state_dtype float32 at channel 1, head %d", names[i],
               i == 2 ? 0 : 1);
      const cumega_status status = cumega_ema_set_parameters(ctx, ema, &f->io);
      ck_assert_int_eq(status, is_double ? CUMEGA_OK : CUMEGA_ERROR_ARGUMENT);
      if (!is_double) {
        ck_assert_str_eq(cumega_context_message(ctx), expected);
        five *after = read_all(ema, cumega_float64, 3, 2);
        must_hold_the_same(before, after);
        five_free(after);
      }
      five_free(f);
    }
    five_free(before);
    cumega_ema_destroy(ema);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ema_parameters");
  TCase *tests = add_case(suite, "parameters", 30);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, created_from_nothing_is_reset_with_the_defaults);
  tcase_add_test(tests, parameters_of_every_type_and_stride_come_back);
  tcase_add_test(tests, members_left_out_are_not_read_back);
  tcase_add_test(tests, a_set_that_fails_keeps_the_old_parameters);
  tcase_add_test(tests, reset_and_set_refresh_all_that_is_derived);
  tcase_add_test(tests, reset_gives_the_normal_numbers_that_it_was_asked_for);
  tcase_add_test(tests, reset_numbers_are_not_correlated);
  tcase_add_test(tests, a_seed_names_its_numbers);
  tcase_add_test(tests, zero_deviations_give_the_means);
  tcase_add_test(tests, bad_arguments_of_reset_keep_the_old_parameters);
  tcase_add_test(tests, places_for_parameters_that_are_wrong_are_refused);
  tcase_add_test(tests, settings_are_read_back_with_their_defaults_resolved);
  tcase_add_test(tests, an_ema_is_shared_by_contexts_in_threads_and_outlives_its_own);
  tcase_add_test(tests, what_the_states_type_cannot_hold_is_refused_by_name);
  return run_suite(suite);
}
