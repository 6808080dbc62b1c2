/* What the EMA is, whatever its numbers: linear, causal, shift-invariant, a recurrence that may
 * be cut anywhere, independent of other sequences. Bits are compared throughout; check_ema_bits.c
 * does the same at random. */
#include <fenv.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "defaults.h"
#include "ema_runs.h"
#include "runner.h"

static const DLDataType types[] = {
    {kDLFloat, 32, 1}, {kDLFloat, 16, 1}, {kDLBfloat, 16, 1}, {kDLFloat, 64, 1}};

static recipe recipe_of(int type, int64_t D, int64_t N, int64_t B, int64_t L) {
  recipe r = {.D = D, .N = N, .B = B, .L = L, .dtype = types[type], .seed = 11};
  r.state_dtype = type == 3 ? cumega_float64 : cumega_float32;
  r.activation = CUMEGA_ACTIVATION_SWISH;
  return r;
}

static void must_agree(recipe r, way w) {
  char reason[400];
  problem *p = problem_new(&r);
  int differs = way_differs(p, &w, reason, sizeof reason);
  ck_assert_msg(!differs, "%s, D %lld N %lld B %lld L %lld: %s", number_name(r.dtype),
                (long long)r.D, (long long)r.N, (long long)r.B, (long long)r.L, reason);
  problem_free(p);
}

/* The same for all types, and for a few sizes around the widths of vectors, tiles and groups. */
static void must_agree_everywhere(way w, int masked) {
  static const int64_t sizes[][4] = {{1, 1, 1, 1},   {5, 4, 3, 33},  {16, 2, 2, 31},
                                     {17, 3, 2, 32}, {64, 4, 2, 40}, {129, 5, 2, 9},
                                     {600, 4, 2, 7}, {3, 33, 2, 64}};
  for (int type = 0; type < 4; type++)
    for (int i = 0; i < 8; i++) {
      recipe r = recipe_of(type, sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3]);
      r.stateful = i % 2;
      r.masked = masked;
      must_agree(r, w);
      if (w.cut > 0) continue;
      r.stateful = 0;
      r.truncation = 6;
      must_agree(r, w);
    }
}

START_TEST(a_batch_gives_each_sequence_the_bits_it_has_alone) {
  for (int form = PADDED; form <= PACKED; form++) {
    must_agree_everywhere((way){.form = form}, 0);
    must_agree_everywhere((way){.form = form, .shuffled = 1, .padding = 5, .seed = 3}, 0);
  }
  must_agree_everywhere((way){.form = PADDED, .padding = 3}, 1);
}
END_TEST

START_TEST(neighbours_of_nan_and_infinity_change_no_bit) {
  for (int form = PADDED; form <= PACKED; form++)
    must_agree_everywhere((way){.form = form, .strangers = 3, .padding = 2, .seed = 4}, 0);
}
END_TEST

START_TEST(chunks_and_steps_give_the_bits_of_the_whole) {
  for (int form = ALONE; form <= PACKED; form++)
    for (int cut = 1; cut < 20; cut += 6)
      for (int pool = 0; pool < 2; pool++)
        must_agree_everywhere((way){.form = form, .cut = cut, .pool = pool, .seed = 5}, form == 1);
}
END_TEST

START_TEST(states_may_be_replaced_in_place_and_pooled) {
  for (int i = 0; i < 8; i++)
    must_agree_everywhere(
        (way){.form = PACKED, .state_in_place = i & 1, .pool = i >> 1 & 1, .in_place = i >> 2}, 0);
}
END_TEST

START_TEST(every_layout_gives_the_same_bits) {
  for (int x = 0; x < LAYOUTS; x++)
    for (int y = 0; y < LAYOUTS; y++)
      must_agree_everywhere((way){.form = PADDED,
                                  .x_layout = x,
                                  .y_layout = y,
                                  .misaligned = x != y,
                                  .in_place = x == y,
                                  .seed = 6 + (uint64_t)y},
                            x == STRIDED);
}
END_TEST

START_TEST(every_cpu_level_and_thread_count_gives_the_same_bits) {
  for (int level = 0; level < CPU_LEVELS; level++)
    for (int threads = 1; threads < 4; threads++)
      must_agree_everywhere((way){.form = PADDED, .level = level, .threads = threads}, 0);
}
END_TEST

/* ---- one sequence, by hand ---- */

enum { D = 19, N = 3, STEPS = 37 };

static cumega_ema *simple_ema(cumega_activation activation) {
  uint64_t seed = 21;
  test_parameters *parameters = parameters_new(D, N);
  parameters_fill(parameters, &seed, 0.05);
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, D);
  config.activation = activation;
  cumega_ema *ema = ema_new(runs_context(0, 1), config, parameters, cumega_float32);
  parameters_free(parameters);
  return ema;
}

static test_tensor *noise(int64_t steps, double scale) {
  uint64_t seed = 22;
  test_tensor *x = tensor_new_3(cumega_float32, steps, 1, D);
  for (int64_t t = 0; t < steps; t++)
    for (int64_t d = 0; d < D; d++)
      tensor_set(x, t, 0, d, number_round(cumega_float32, random_noise(&seed)) * scale);
  return x;
}

static test_tensor *run(const cumega_ema *ema, test_tensor *x) {
  cumega_context *ctx = runs_context(2, 1);
  test_tensor *y = tensor_new_3(cumega_float32, dl(x)->shape[0], dl(x)->shape[1], D);
  cumega_ema_io io = io_of(x, y);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  ck_assert(tensor_gaps_hold(y));
  return y;
}

/* No intermediate value leaves the normal range: products are above 2^-70, sums below 2^50. */
START_TEST(scaling_by_a_power_of_two_scales_every_bit_pattern) {
  cumega_ema *ema = simple_ema(CUMEGA_ACTIVATION_IDENTITY);
  test_tensor *x = noise(STEPS, 1.0), *y = run(ema, x);
  static const double scales[] = {2.0, 0.5, -1.0, 0x1p20, -0x1p-12};
  for (int i = 0; i < 5; i++) {
    test_tensor *scaled = noise(STEPS, scales[i]), *z = run(ema, scaled);
    for (int64_t j = 0; j < STEPS * D; j++)
      ck_assert_double_eq(tensor_get(z, j / D, 0, j % D),
                          scales[i] * tensor_get(y, j / D, 0, j % D));
    tensor_free(scaled);
    tensor_free(z);
  }
  tensor_free(x);
  tensor_free(y);
  cumega_ema_destroy(ema);
}
END_TEST

START_TEST(a_delayed_input_gives_the_delayed_output) {
  cumega_ema *ema = simple_ema(CUMEGA_ACTIVATION_SWISH);
  test_tensor *x = noise(STEPS, 1.0), *y = run(ema, x);
  for (int64_t delay = 1; delay < 40; delay += 6) {
    test_tensor *late = tensor_new_3(cumega_float32, STEPS + delay, 1, D);
    for (int64_t t = 0; t < STEPS + delay; t++)
      for (int64_t d = 0; d < D; d++)
        tensor_set(late, t, 0, d, t < delay ? 0.0 : tensor_get(x, t - delay, 0, d));
    test_tensor *z = run(ema, late);
    for (int64_t j = 0; j < STEPS * D; j++)
      ck_assert_uint_eq(tensor_bits(z, j / D + delay, 0, j % D), tensor_bits(y, j / D, 0, j % D));
    for (int64_t j = 0; j < delay * D; j++)
      ck_assert_double_eq(tensor_get(z, j / D, 0, j % D), 0.0);
    tensor_free(late);
    tensor_free(z);
  }
  tensor_free(x);
  tensor_free(y);
  cumega_ema_destroy(ema);
}
END_TEST

START_TEST(later_inputs_change_no_earlier_output) {
  cumega_ema *ema = simple_ema(CUMEGA_ACTIVATION_SWISH);
  test_tensor *x = noise(STEPS, 1.0), *y = run(ema, x);
  for (int64_t from = 1; from < STEPS; from++) {
    test_tensor *other = noise(STEPS, 1.0);
    for (int64_t t = from; t < STEPS; t++)
      for (int64_t d = 0; d < D; d++) tensor_set(other, t, 0, d, t % 2 ? NAN : -3.0);
    test_tensor *z = run(ema, other);
    for (int64_t j = 0; j < from * D; j++)
      ck_assert_uint_eq(tensor_bits(z, j / D, 0, j % D), tensor_bits(y, j / D, 0, j % D));
    ck_assert_uint_ne(tensor_bits(z, from, 0, 0), tensor_bits(y, from, 0, 0));
    tensor_free(other);
    tensor_free(z);
  }
  tensor_free(x);
  tensor_free(y);
  cumega_ema_destroy(ema);
}
END_TEST

START_TEST(a_channel_of_nan_stays_in_its_channel) {
  cumega_ema *ema = simple_ema(CUMEGA_ACTIVATION_SWISH);
  test_tensor *x = noise(STEPS, 1.0), *y = run(ema, x);
  for (int64_t bad = 0; bad < D; bad++) {
    test_tensor *other = noise(STEPS, 1.0);
    for (int64_t t = 0; t < STEPS; t++) tensor_set(other, t, 0, bad, t % 3 ? NAN : INFINITY);
    test_tensor *z = run(ema, other);
    for (int64_t j = 0; j < STEPS * D; j++)
      if (j % D != bad)
        ck_assert_uint_eq(tensor_bits(z, j / D, 0, j % D), tensor_bits(y, j / D, 0, j % D));
    tensor_free(other);
    tensor_free(z);
  }
  tensor_free(x);
  tensor_free(y);
  cumega_ema_destroy(ema);
}
END_TEST

START_TEST(a_masked_nan_reaches_only_its_own_residual) {
  cumega_ema *ema = simple_ema(CUMEGA_ACTIVATION_IDENTITY);
  cumega_context *ctx = runs_context(0, 1);
  test_tensor *mask = tensor_new_2(cumega_uint8, 1, STEPS), *x[2], *y[2];
  for (int64_t t = 0; t < STEPS; t++) tensor_set(mask, 0, t, 0, t % 5 == 2 ? 200 : 0);
  for (int i = 0; i < 2; i++) {
    x[i] = noise(STEPS, 1.0);
    for (int64_t t = 2; t < STEPS; t += 5)
      for (int64_t d = 0; d < D; d++)
        tensor_set(x[i], t, 0, d, i ? (t % 2 ? NAN : -INFINITY) : 0.0);
    y[i] = tensor_new_3(cumega_float32, STEPS, 1, D);
    cumega_ema_io io = io_of(x[i], y[i]);
    io.mask = dl(mask);
    MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  }
  for (int64_t j = 0; j < STEPS * D; j++) {
    int64_t t = j / D;
    if (t % 5 == 2)
      ck_assert(!isfinite(tensor_get(y[1], t, 0, j % D)));
    else
      ck_assert_uint_eq(tensor_bits(y[0], t, 0, j % D), tensor_bits(y[1], t, 0, j % D));
  }
  test_tensor *plain = run(ema, x[0]); /* masked zeros are zeros */
  ck_assert_mem_eq(plain->block, y[0]->block, (size_t)plain->block_bytes);
  for (int i = 0; i < 2; i++) {
    tensor_free(x[i]);
    tensor_free(y[i]);
  }
  tensor_free(plain);
  tensor_free(mask);
  cumega_ema_destroy(ema);
}
END_TEST

/* Stride 0 along time, batch or channels gives the same as repeating the values. */
START_TEST(a_broadcast_input_is_the_input_written_out) {
  recipe r = recipe_of(0, D, N, 2, 12);
  problem *p = problem_new(&r);
  cumega_context *ctx = runs_context(1, 1);
  for (unsigned repeated = 1; repeated < 8; repeated++) {
    test_layout layout = {.repeated = repeated};
    int64_t shape[] = {12, 2, D};
    test_tensor *x[2] = {tensor_new(cumega_float32, 3, shape, &layout),
                         tensor_new(cumega_float32, 3, shape, NULL)};
    test_tensor *y[2];
    for (int64_t j = 0; j < 24 * D; j++)
      tensor_set(x[0], j / (2 * D), j / D % 2, j % D, 0.01 * (double)j - 1.0);
    for (int64_t j = 0; j < 24 * D; j++)
      tensor_set(x[1], j / (2 * D), j / D % 2, j % D,
                 tensor_get(x[0], j / (2 * D), j / D % 2, j % D));
    for (int i = 0; i < 2; i++) {
      y[i] = tensor_new(cumega_float32, 3, shape, NULL);
      cumega_ema_io io = io_of(x[i], y[i]);
      MUST(ctx, cumega_ema_forward(ctx, p->ema, &io));
    }
    ck_assert_mem_eq(y[0]->block, y[1]->block, (size_t)y[0]->block_bytes);
    for (int i = 0; i < 2; i++) {
      tensor_free(x[i]);
      tensor_free(y[i]);
    }
  }
  problem_free(p);
}
END_TEST

/* The chain meets inf - inf, or 0 * inf, in the step after the infinite one. */
START_TEST(after_an_infinite_input_e_is_nan) {
  for (int64_t heads = 1; heads < 4; heads++) {
    recipe r = recipe_of(0, 3, heads, 1, 6);
    r.activation = CUMEGA_ACTIVATION_IDENTITY;
    problem *p = problem_new(&r);
    p->x[2 * 3 + 1] = INFINITY;
    const way plain = {0};
    outcome *o = outcome_of(p, &plain);
    for (int64_t t = 3; t < 6; t++) ck_assert_uint_eq(o->y[t * 3 + 1], UINT64_MAX);
    ck_assert_uint_ne(o->y[5 * 3], UINT64_MAX);
    outcome_free(o);
    problem_free(p);
  }
}
END_TEST

START_TEST(an_empty_call_copies_the_state_and_touches_nothing_else) {
  cumega_ema *ema = simple_ema(CUMEGA_ACTIVATION_RELU);
  cumega_context *ctx = runs_context(0, 1);
  static const int64_t sizes[][2] = {{0, 3}, {4, 0}, {0, 0}};
  for (int i = 0; i < 3; i++)
    for (int given = 0; given < 2; given++) {
      int64_t L = sizes[i][0], B = sizes[i][1];
      test_tensor *x = tensor_new_3(cumega_float32, L, B, D),
                  *y = tensor_new_3(cumega_float32, L, B, D);
      test_tensor *from = tensor_new_3(cumega_float32, B, D, N),
                  *to = tensor_new_3(cumega_float32, B, D, N);
      for (int64_t j = 0; j < B * D * N; j++)
        tensor_set(from, j / (D * N), j / N % D, j % N, (double)j);
      dl(x)->data = dl(y)->data = NULL; /* there is nothing to read */
      cumega_ema_io io = io_of(x, y);
      if (given) io.initial_state = dl(from);
      io.final_state = dl(to);
      MUST(ctx, cumega_ema_forward(ctx, ema, &io));
      for (int64_t j = 0; j < B * D * N; j++)
        ck_assert_double_eq(tensor_get(to, j / (D * N), j / N % D, j % N),
                            given ? (double)j : 0.0);
      ck_assert(tensor_gaps_hold(to));
      test_tensor *all[] = {x, y, from, to};
      for (int j = 0; j < 4; j++) tensor_free(all[j]);
    }
  cumega_ema_destroy(ema);
}
END_TEST

/* Slots without sequences have no data, and the pool keeps its rows. */
START_TEST(a_pool_may_have_rows_where_there_is_no_sequence) {
  cumega_ema *ema = simple_ema(CUMEGA_ACTIVATION_RELU);
  cumega_context *ctx = runs_context(0, 1);
  test_tensor *x = tensor_new_3(cumega_float32, 4, 0, D),
              *y = tensor_new_3(cumega_float32, 4, 0, D);
  test_tensor *pool = tensor_new_3(cumega_float32, 5, D, N), *slots = tensor_of_int64(0, NULL);
  tensor_remember(pool);
  dl(slots)->data = NULL;
  cumega_ema_io io = io_of(x, y);
  io.initial_state = io.final_state = dl(pool);
  io.initial_slots = io.final_slots = dl(slots);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  ck_assert(tensor_unchanged(pool));
  test_tensor *all[] = {x, y, pool, slots};
  for (int j = 0; j < 4; j++) tensor_free(all[j]);
  cumega_ema_destroy(ema);
}
END_TEST

START_TEST(two_children_start_from_one_parent) {
  cumega_ema *ema = simple_ema(CUMEGA_ACTIVATION_SWISH);
  cumega_context *ctx = runs_context(0, 1);
  test_tensor *pool = tensor_new_3(cumega_float32, 5, D, N),
              *x = tensor_new_3(cumega_float32, 4, 2, D);
  for (int64_t j = 0; j < D * N; j++) tensor_set(pool, 3, j / N, j % N, 0.1 * (double)j);
  for (int64_t j = 0; j < 8 * D; j++)
    tensor_set(x, j / (2 * D), j / D % 2, j % D, 0.3); /* equal */
  tensor_remember(pool);
  test_tensor *y = tensor_new_3(cumega_float32, 4, 2, D);
  test_tensor *from = tensor_of_int64(2, (int64_t[]){3, 3}),
              *to = tensor_of_int64(2, (int64_t[]){0, 4});
  cumega_ema_io io = io_of(x, y);
  io.initial_state = io.final_state = dl(pool);
  io.initial_slots = dl(from);
  io.final_slots = dl(to);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  for (int64_t j = 0; j < 4 * D; j++)
    ck_assert_uint_eq(tensor_bits(y, j / D, 0, j % D), tensor_bits(y, j / D, 1, j % D));
  for (int64_t j = 0; j < D * N; j++) {
    ck_assert_uint_eq(tensor_bits(pool, 0, j / N, j % N), tensor_bits(pool, 4, j / N, j % N));
    ck_assert_double_eq(tensor_get(pool, 3, j / N, j % N),
                        number_round(cumega_float32, 0.1 * (double)j));
    ck_assert_double_nan(tensor_get(pool, 1, j / N, j % N));
    ck_assert_double_nan(tensor_get(pool, 2, j / N, j % N));
  }
  test_tensor *all[] = {pool, x, y, from, to};
  for (int j = 0; j < 5; j++) tensor_free(all[j]);
  cumega_ema_destroy(ema);
}
END_TEST

/* A raw run gives e: what identity gives with a residual weight of 0. */
START_TEST(a_raw_step_leaves_out_residual_and_activation) {
  recipe r = recipe_of(0, D, N, 3, 1);
  r.activation = CUMEGA_ACTIVATION_IDENTITY;
  problem *p = problem_new(&r);
  cumega_context *ctx = runs_context(0, 1);
  memset(p->parameters->residual, 0, D * sizeof(double));
  cumega_ema *silent = ema_new(ctx, ema_config_of(D), p->parameters, cumega_float64);
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, D);
  config.activation = CUMEGA_ACTIVATION_IDENTITY;
  cumega_ema *identity = ema_new(ctx, config, p->parameters, cumega_float64);
  test_tensor *x = tensor_new_2(cumega_float32, 3, D), *e = tensor_new_2(cumega_float32, 3, D);
  test_tensor *y = tensor_new_2(cumega_float32, 3, D);
  uint64_t seed = 4;
  for (int64_t j = 0; j < 3 * D; j++) tensor_set(x, j / D, j % D, 0, random_noise(&seed));
  cumega_ema_io io = io_of(x, e);
  io.raw = 1;
  MUST(ctx, cumega_ema_step(ctx, silent, &io));
  io = io_of(x, y);
  MUST(ctx, cumega_ema_step(ctx, identity, &io));
  int negative = 0;
  for (int64_t j = 0; j < 3 * D; j++) {
    ck_assert_uint_eq(tensor_bits(e, j / D, j % D, 0), tensor_bits(y, j / D, j % D, 0));
    negative += tensor_get(e, j / D, j % D, 0) < 0.0;
  }
  ck_assert_int_gt(negative, 0); /* ReLU was left out */
  test_tensor *all[] = {x, e, y};
  for (int j = 0; j < 3; j++) tensor_free(all[j]);
  cumega_ema_destroy(silent);
  cumega_ema_destroy(identity);
  problem_free(p);
}
END_TEST

START_TEST(the_callers_rounding_mode_is_kept_and_changes_no_bit) {
  static const int modes[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
  for (int threads = 1; threads < 3; threads++)
    for (int i = 0; i < 3; i++) {
      cumega_context *ctx = runs_context(2, threads);
      cumega_ema *ema = simple_ema(CUMEGA_ACTIVATION_MISH);
      test_tensor *x = noise(STEPS, 1.0), *y = run(ema, x),
                  *z = tensor_new_3(cumega_float32, STEPS, 1, D);
      cumega_ema_io io = io_of(x, z);
      feclearexcept(FE_ALL_EXCEPT);
      fesetround(modes[i]);
      cumega_status status = cumega_ema_forward(ctx, ema, &io);
      int mode = fegetround(), raised = fetestexcept(FE_ALL_EXCEPT);
      fesetround(FE_TONEAREST);
      ck_assert_int_eq(status, CUMEGA_OK);
      ck_assert_int_eq(mode, modes[i]);
      ck_assert_int_eq(raised, 0);
      ck_assert_mem_eq(y->block, z->block, (size_t)y->block_bytes);
      test_tensor *all[] = {x, y, z};
      for (int j = 0; j < 3; j++) tensor_free(all[j]);
      cumega_ema_destroy(ema);
    }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ema_properties");
  TCase *tests = add_case(suite, "properties", 120);
  tcase_add_unchecked_fixture(tests, NULL, runs_end);
  tcase_add_test(tests, a_batch_gives_each_sequence_the_bits_it_has_alone);
  tcase_add_test(tests, neighbours_of_nan_and_infinity_change_no_bit);
  tcase_add_test(tests, chunks_and_steps_give_the_bits_of_the_whole);
  tcase_add_test(tests, states_may_be_replaced_in_place_and_pooled);
  tcase_add_test(tests, every_layout_gives_the_same_bits);
  tcase_add_test(tests, every_cpu_level_and_thread_count_gives_the_same_bits);
  tcase_add_test(tests, scaling_by_a_power_of_two_scales_every_bit_pattern);
  tcase_add_test(tests, a_delayed_input_gives_the_delayed_output);
  tcase_add_test(tests, later_inputs_change_no_earlier_output);
  tcase_add_test(tests, a_channel_of_nan_stays_in_its_channel);
  tcase_add_test(tests, a_masked_nan_reaches_only_its_own_residual);
  tcase_add_test(tests, a_broadcast_input_is_the_input_written_out);
  tcase_add_test(tests, after_an_infinite_input_e_is_nan);
  tcase_add_test(tests, an_empty_call_copies_the_state_and_touches_nothing_else);
  tcase_add_test(tests, a_pool_may_have_rows_where_there_is_no_sequence);
  tcase_add_test(tests, two_children_start_from_one_parent);
  tcase_add_test(tests, a_raw_step_leaves_out_residual_and_activation);
  tcase_add_test(tests, the_callers_rounding_mode_is_kept_and_changes_no_bit);
  return run_suite(suite);
}
