/* CHUNKED: as exact as its grid allows, the same bits in any surroundings, and the same bits when
 * a sequence is cut at grid points. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "ema_runs.h"
#include "runner.h"

#define UNIT 0x1p-24

/* In CHUNKED, a state takes one rounded step per cell and at most 64 within a cell. So the
 * chain's bound, 8 + 1 / (1 - q) roundings of the sum of |k| |x| (docs/ema.md), holds with room
 * to spare: the roundings of earlier cells fade by q^64 per cell. */
static void check_error(int64_t length, double slowest, DLDataType state_dtype) {
  enum { D = 2, N = 3 };
  uint64_t seed = 3;
  cumega_context *ctx = context_new();
  test_parameters *parameters = parameters_new(D, N);
  parameters_fill(parameters, &seed, slowest);
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, D);
  config.activation = CUMEGA_ACTIVATION_IDENTITY;
  config.num_heads = N;
  config.state_dtype = state_dtype;
  for (int64_t d = 0; d < D; d++) parameters->residual[d] = 0;
  cumega_ema *ema = ema_new(ctx, config, parameters, cumega_float64);
  const int is_double = same_type(state_dtype, cumega_float64);
  DLDataType dtype = is_double ? cumega_float64 : cumega_float32;
  test_tensor *x = tensor_new_3(dtype, length, 1, D), *y = tensor_new_3(dtype, length, 1, D);
  double *of_channel = memory_new(length * 8);
  long double *e = memory_new(length * (int64_t)sizeof *e);
  long double *magnitude = memory_new(length * (int64_t)sizeof *magnitude);
  for (int64_t i = 0; i < length * D; i++)
    tensor_set(x, i / D, 0, i % D, number_round(cumega_float32, random_noise(&seed) + 0.5));
  cumega_ema_io io = io_of(x, y);
  io.algorithm = CUMEGA_EMA_CHUNKED;
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  ck_assert_ptr_nonnull(strstr(cumega_context_kernels(ctx), "ema_chunked_kernel"));
  for (int64_t d = 0; d < D; d++) {
    real h[N] = {0}, h_sizes[N] = {0};
    const double unit = is_double ? 0x1p-53 : UNIT;
    const reference_ema channel = parameters_channel(parameters, d);
    reference_ema sizes = channel;
    sizes.absolute = 1;
    const real bound = (8 + 1 / reference_ema_least_decay(&channel)) * (real)unit;
    for (int64_t t = 0; t < length; t++) of_channel[t] = tensor_get(x, t, 0, d);
    reference_ema_recur(&channel, length, of_channel, NULL, h, e);
    reference_ema_recur(&sizes, length, of_channel, NULL, h_sizes, magnitude);
    for (int64_t t = 0; t < length; t++)
      ck_assert_msg(fabsl(tensor_get(y, t, 0, d) - e[t]) <= bound * magnitude[t],
                    "1 - q = %g, step %lld: %g, not %Lg", slowest, (long long)t,
                    tensor_get(y, t, 0, d), e[t]);
  }
  free(of_channel);
  free(e);
  free(magnitude);
  tensor_free(x);
  tensor_free(y);
  parameters_free(parameters);
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
}

START_TEST(it_is_as_exact_as_the_chain) {
  static const double decays[] = {0.4, 0.1, 1e-2, 1e-3};
  static const int64_t lengths[] = {1, 63, 64, 65, 1024, 1025, 5000};
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 7; j++)
      check_error(lengths[j], decays[i], (i + j) % 3 == 0 ? cumega_float64 : cumega_float32);
}
END_TEST

static int differ(const uint64_t *a, const uint64_t *b, int64_t count) {
  return memcmp(a, b, (size_t)count * sizeof *a) != 0;
}

/* Alone and compact, compared with: batches, layouts, padding, other sequences, pools, in
 * place. */
START_TEST(bits_do_not_depend_on_the_surroundings) {
  static const DLDataType types[] = {
      {kDLFloat, 32, 1}, {kDLFloat, 16, 1}, {kDLBfloat, 16, 1}, {kDLFloat, 64, 1}};
  static const int64_t most_heads[] = {1, 2, 4, 8, 16}; /* for one kernel */
  uint64_t seed = 77;
  for (int i = 0; i < 40; i++) {
    recipe r = {.D = 1 + random_below(&seed, 40),
                .N = most_heads[i % 5],
                .B = 1 + random_below(&seed, 4),
                .L = random_below(&seed, 5) == 0 ? 1200 : random_below(&seed, 200)};
    if (r.N > 2) r.N -= random_below(&seed, r.N / 2);
    if (i < 10) r.L += 1025; /* more than a chunk in each kernel */
    if (r.L > 1024) r.D = 3;
    r.dtype = types[i < 5 ? random_below(&seed, 3) : random_below(&seed, 4)];
    r.state_dtype = r.dtype.bits == 64 || i / 5 % 2 ? cumega_float64 : cumega_float32;
    r.activation = (cumega_activation)random_below(&seed, 10);
    r.masked = (int)random_below(&seed, 2);
    r.stateful = (int)random_below(&seed, 2);
    r.special = random_below(&seed, 4) == 0;
    r.seed = random_bits(&seed);
    const way plain = {.algorithm = CUMEGA_EMA_CHUNKED};
    way w = {.form = (int)random_below(&seed, 3),
             .x_layout = (int)random_below(&seed, LAYOUTS),
             .y_layout = (int)random_below(&seed, LAYOUTS),
             .misaligned = (int)random_below(&seed, 2),
             .shuffled = (int)random_below(&seed, 2),
             .strangers = (int)random_below(&seed, 3),
             .padding = (int)random_below(&seed, 5),
             .in_place = (int)random_below(&seed, 2),
             .state_in_place = (int)random_below(&seed, 2),
             .pool = (int)random_below(&seed, 2),
             .narrow_indices = (int)random_below(&seed, 2),
             .algorithm = CUMEGA_EMA_CHUNKED,
             .seed = random_bits(&seed)};
    problem *p = problem_new(&r);
    outcome *alone = outcome_of(p, &plain), *among = outcome_of(p, &w);
    ck_assert_str_eq(alone->fault, "");
    ck_assert_str_eq(among->fault, "");
    ck_assert_msg(!differ(alone->y, among->y, p->steps * r.D) &&
                      !differ(alone->state, among->state, r.B * r.D * r.N),
                  "pair %d of seed 77", i);
    outcome_free(alone);
    outcome_free(among);
    problem_free(p);
  }
}
END_TEST

/* Cut at multiples of the grid; each part starts from the state of the part before. */
START_TEST(a_cut_at_grid_points_changes_nothing) {
  enum { D = 3, N = 4, L = 2500 };
  static const int64_t cuts[] = {0, 64, 192, 1216, 1280, L};
  cumega_context *ctx = context_new();
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, D);
  cumega_ema *ema = NULL;
  uint64_t seed = 9;
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
  test_tensor *x = tensor_new_3(cumega_float32, L, 1, D),
              *y = tensor_new_3(cumega_float32, L, 1, D);
  test_tensor *whole = tensor_new_3(cumega_float32, L, 1, D);
  test_tensor *state = tensor_new_3(cumega_float32, 1, D, N);
  test_tensor *after = tensor_new_3(cumega_float32, 1, D, N);
  for (int64_t i = 0; i < L * D; i++) tensor_set(x, i / D, 0, i % D, random_noise(&seed));
  for (int64_t i = 0; i < D * N; i++) tensor_set(state, 0, i / N, i % N, 0);
  cumega_ema_io io = io_of(x, whole);
  io.algorithm = CUMEGA_EMA_CHUNKED;
  io.final_state = dl(after);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  for (int i = 0; i < 5; i++) {
    cumega_tensor xs, ys;
    const int64_t shape[] = {cuts[i + 1] - cuts[i], 1, D};
    io.x =
        cumega_tensor_init(&xs, tensor_at(x, cuts[i], 0, 0), cumega_cpu, cumega_float32, 3, shape);
    io.y =
        cumega_tensor_init(&ys, tensor_at(y, cuts[i], 0, 0), cumega_cpu, cumega_float32, 3, shape);
    io.initial_state = io.final_state = dl(state);
    MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  }
  ck_assert_mem_eq(tensor_at(y, 0, 0, 0), tensor_at(whole, 0, 0, 0), L * D * sizeof(float));
  ck_assert_mem_eq(tensor_at(state, 0, 0, 0), tensor_at(after, 0, 0, 0), D * N * sizeof(float));
  test_tensor *all[] = {x, y, whole, state, after};
  for (int i = 0; i < 5; i++) tensor_free(all[i]);
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
}
END_TEST

/* Packed sequences of a small EMA: x for all steps, initial states, and the results of both. */
enum { PACKED_D = 3, PACKED_N = 4, PACKED_B = 3, PACKED_STEPS = 200 };

typedef struct packed_run {
  cumega_context *ctx;
  cumega_ema *ema;
  test_tensor *x, *y, *initial, *final, *offsets;
} packed_run;

static packed_run packed_new(const int64_t *offsets) {
  packed_run r = {.ctx = context_new()};
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, PACKED_D);
  uint64_t seed = 11;
  config.num_heads = PACKED_N;
  MUST(r.ctx, cumega_ema_create(r.ctx, &config, NULL, &r.ema));
  r.x = tensor_new_2(cumega_float32, PACKED_STEPS, PACKED_D);
  r.y = tensor_new_2(cumega_float32, PACKED_STEPS, PACKED_D);
  r.initial = tensor_new_3(cumega_float32, PACKED_B, PACKED_D, PACKED_N);
  r.final = tensor_new_3(cumega_float32, PACKED_B, PACKED_D, PACKED_N);
  r.offsets = tensor_new_1(cumega_int64, PACKED_B + 1);
  for (int i = 0; i < PACKED_STEPS * PACKED_D; i++)
    tensor_set(r.x, i / PACKED_D, i % PACKED_D, 0, random_noise(&seed));
  for (int i = 0; i < PACKED_B * PACKED_D * PACKED_N; i++) {
    const int64_t at[] = {i / (PACKED_D * PACKED_N), i / PACKED_N % PACKED_D, i % PACKED_N};
    tensor_set(r.initial, at[0], at[1], at[2], random_noise(&seed));
  }
  memcpy(tensor_at(r.offsets, 0, 0, 0), offsets, (PACKED_B + 1) * sizeof *offsets);
  return r;
}

static cumega_status packed_forward(const packed_run *r) {
  cumega_ema_io io = io_of(r->x, r->y);
  io.sequence_offsets = dl(r->offsets);
  io.initial_state = dl(r->initial);
  io.final_state = dl(r->final);
  io.algorithm = CUMEGA_EMA_CHUNKED;
  return cumega_ema_forward(r->ctx, r->ema, &io);
}

static void packed_free(packed_run *r) {
  test_tensor *all[] = {r->x, r->y, r->initial, r->final, r->offsets};
  for (int i = 0; i < 5; i++) tensor_free(all[i]);
  cumega_ema_destroy(r->ema);
  cumega_context_destroy(r->ctx);
}

START_TEST(an_empty_sequence_hands_its_state_on) {
  packed_run r = packed_new((const int64_t[]){0, 0, 70, PACKED_STEPS});
  MUST(r.ctx, packed_forward(&r));
  ck_assert_mem_eq(tensor_at(r.final, 0, 0, 0), tensor_at(r.initial, 0, 0, 0),
                   PACKED_D * PACKED_N * sizeof(float));
  packed_free(&r);
}
END_TEST

/* Its block takes the next unit immediately. */
START_TEST(a_skipped_sequence_disturbs_no_other) {
  packed_run bad = packed_new((const int64_t[]){0, 70, PACKED_STEPS + 1, PACKED_STEPS + 1});
  packed_run good = packed_new((const int64_t[]){0, 70, 70, 70});
  ck_assert_int_eq(packed_forward(&bad), CUMEGA_ERROR_ARGUMENT);
  MUST(good.ctx, packed_forward(&good));
  ck_assert_mem_eq(tensor_at(bad.y, 0, 0, 0), tensor_at(good.y, 0, 0, 0),
                   70 * PACKED_D * sizeof(float));
  ck_assert_mem_eq(tensor_at(bad.final, 0, 0, 0), tensor_at(good.final, 0, 0, 0),
                   PACKED_D * PACKED_N * sizeof(float));
  packed_free(&bad);
  packed_free(&good);
}
END_TEST

/* Tells the algorithm by the scratch that such a run in place would take; slices are never in
 * place. */
START_TEST(auto_means_chunked_for_few_channels_and_heads) {
  static const struct {
    int64_t D, N;
    int is_chunked;
  } rows[] = {{1, 16, 1}, {1, 17, 0}, {4096, 2, 1}, {4097, 2, 0}};
  float nothing[1]; /* where the tensors begin */
  cumega_context *ctx = context_new();
  for (int i = 0; i < 4; i++) {
    const int64_t shape[] = {8192, 1, rows[i].D};
    cumega_ema_config config;
    cumega_ema_config_init(&config, sizeof config, rows[i].D);
    cumega_ema *ema = NULL;
    cumega_tensor x;
    int64_t automatic = -1, chain = -1, chunked = -1;
    config.num_heads = rows[i].N;
    MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
    cumega_ema_io io = {.struct_size = sizeof io, .algorithm = CUMEGA_EMA_FASTEST};
    io.y = cumega_tensor_init(&x, nothing, cumega_cpu, cumega_float32, 3, shape);
    io.x = io.y;
    MUST(ctx, cumega_ema_workspace_size(ctx, ema, &io, &automatic));
    io.algorithm = CUMEGA_EMA_DEFAULT;
    MUST(ctx, cumega_ema_workspace_size(ctx, ema, &io, &chain));
    io.algorithm = CUMEGA_EMA_CHUNKED;
    MUST(ctx, cumega_ema_workspace_size(ctx, ema, &io, &chunked));
    ck_assert(chain != chunked);
    ck_assert_int_eq(automatic, rows[i].is_chunked ? chunked : chain);
    cumega_ema_destroy(ema);
  }
  cumega_context_destroy(ctx);
}
END_TEST

int main(void) {
  setenv("CUMEGA_TEST_DEVICE", "cuda", 1);
  Suite *suite = suite_create("cuda_ema_chunked");
  TCase *tests = add_case(suite, "chunked", 300);
  tcase_add_test(tests, it_is_as_exact_as_the_chain);
  tcase_add_test(tests, bits_do_not_depend_on_the_surroundings);
  tcase_add_test(tests, a_cut_at_grid_points_changes_nothing);
  tcase_add_test(tests, an_empty_sequence_hands_its_state_on);
  tcase_add_test(tests, a_skipped_sequence_disturbs_no_other);
  tcase_add_test(tests, auto_means_chunked_for_few_channels_and_heads);
  int failed = run_suite(suite);
  runs_end();
  return failed;
}
