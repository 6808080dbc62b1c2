/* The EMA against the reference, element by element.
 *
 * Let u = 2^-24 and M = the sum over heads and steps of |k| |x| (including the initial state's
 * part and |w x|). With r = 1 - q for a channel's slowest head, the promise is
 *
 *   float32 state     (8 + 1/r) u M for every input, (8 + 2/sqrt(r)) u M on noise with a mean
 *   float64 state     2 u M, float32 at the store
 *
 * Where the bounds come from: a step rounds h once, by u |h| (the outer fma), so the error is
 * sum_j q^j u |h[t-j]|, which is at most u M / r while h does not outgrow M. Independent
 * roundings add up as a square root instead. The 8 covers what does not accumulate: gain and gain
 * * x, the inner fma, the projection and its product, the tree over heads, the residual's fma. No
 * chain is longer than L steps, so 1/r counts at most as L.
 *
 * Where they do not hold: once the input has stopped, h decays and its old errors decay with it,
 * so that relative to M every step adds its rounding, up to u each. (The roundings need not be
 * independent: with q close to 1/2, h * q rounds back to h / 2 in every step.) An impulse is
 * therefore allowed one u per step.
 *
 * Rounding in the subnormal range is absolute: half of 2^-149 per operation, three operations per
 * step and head, scaled by the projection. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include "ema_harness.h"
#include "runner.h"

typedef enum input_kind { NOISE, MEAN, CONSTANT, IMPULSE, ALTERNATING, SPREAD, KINDS } input_kind;
static const char *const kind_names[] = {"noise",   "noise with a mean", "constant",
                                         "impulse", "alternating",       "spread"};

typedef struct trial {
  int64_t L, B, D, N;
  double slowest; /* 1 - q of the slowest head */
  input_kind kind;
  DLDataType dtype, state_dtype;
  int64_t truncation; /* 0: none, and states are read and kept */
  uint64_t seed;
  int masked; /* every third step, and ReLU, which makes no error larger */
} trial;

static cumega_context *ctx;

static void setup(void) {
  ctx = context_new();
}

static void teardown(void) {
  cumega_context_destroy(ctx);
}

static double input(input_kind kind, int64_t t, uint64_t *seed) {
  double noise = random_noise(seed);
  switch (kind) {
  case MEAN: return noise + 0.75;
  case CONSTANT: return 1.1;
  case IMPULSE: return t == 0 ? 1.3 : 0.0;
  case ALTERNATING: return t % 2 ? -0.7 : 0.9;
  case SPREAD: return noise * ldexp(1.0, (int)random_below(seed, 25) - 12);
  default: return noise;
  }
}

/* How many of `steps` steps add up their roundings. */
static double reach(double slowest, int64_t steps) {
  return 1.0 / slowest < (double)steps ? 1.0 / slowest : (double)steps;
}

static double unit_of(const trial *t) {
  return t->state_dtype.bits == 64 ? 0x1p-53 : 0x1p-24;
}

/* The factor of unit * M for values kept in the state's type, after `steps` steps. A float64 q is
 * one double, right to 2 units in the last place (4 u below 1); that error acts like a
 * rounding. */
static double chain_factor(const trial *t, double slowest, int64_t steps) {
  double chain = reach(slowest, steps);
  if (t->truncation > 0) return 3.0 + (double)(t->truncation < steps ? t->truncation : steps);
  if (t->state_dtype.bits == 64) return 8.0 + 5.0 * (t->kind == IMPULSE ? (double)steps : chain);
  if (t->kind == IMPULSE) return 8.0 + (double)steps;
  return t->kind == MEAN || t->kind == NOISE ? 8.0 + 2.0 * sqrt(chain) : 8.0 + chain;
}

/* The largest allowed |y - exact|. With a float64 state and float32 arithmetic elsewhere, e and y
 * are rounded (and w, if it is kept in float32): |e| + |y| + |w x| <= 2 M. */
static double tolerance(const trial *t, double slowest, int64_t steps, double magnitude,
                        double exact, double projections) {
  int narrow_outside = t->state_dtype.bits == 64 && t->dtype.bits != 64;
  double bound = chain_factor(t, slowest, steps) * unit_of(t) * magnitude;
  if (narrow_outside) bound += 2.0 * 0x1p-24 * magnitude;
  if (t->dtype.bits != 64) bound += (8.0 + 3.0 * projections * reach(slowest, steps)) * 0x1p-150;
  if (t->dtype.bits == 16) bound += number_rounding(t->dtype, fabs(exact) + bound);
  return bound;
}

typedef struct trial_data {
  test_parameters *parameters;
  test_tensor *x, *y, *mask, *initial, *final;
  double worst; /* error over tolerance */
} trial_data;

static void make_data(const trial *t, trial_data *data) {
  uint64_t seed = t->seed;
  data->worst = 0.0;
  data->parameters = parameters_new(t->D, t->N);
  parameters_fill(data->parameters, &seed, t->slowest);
  data->x = tensor_new_3(t->dtype, t->L, t->B, t->D);
  data->y = tensor_new_3(t->dtype, t->L, t->B, t->D);
  for (int64_t b = 0; b < t->B; b++)
    for (int64_t d = 0; d < t->D; d++)
      for (int64_t l = 0; l < t->L; l++) tensor_set(data->x, l, b, d, input(t->kind, l, &seed));
  data->initial = data->final = data->mask = NULL;
  if (t->masked) data->mask = tensor_new_3(cumega_bool, t->B, 1, t->L);
  for (int64_t i = 0; i < t->B * t->L && t->masked; i++)
    tensor_set(data->mask, i / t->L, 0, i % t->L, (i / t->L + i % t->L) % 3 == 1);
  if (t->truncation > 0) return;
  data->initial = tensor_new_3(t->state_dtype, t->B, t->D, t->N);
  data->final = tensor_new_3(t->state_dtype, t->B, t->D, t->N);
  for (int64_t i = 0; i < t->B * t->D * t->N; i++)
    tensor_set(data->initial, i / (t->D * t->N), i / t->N % t->D, i % t->N,
               0.01 * random_noise(&seed));
}

static void free_data(trial_data *data) {
  parameters_free(data->parameters);
  tensor_free(data->x);
  tensor_free(data->y);
  tensor_free(data->mask);
  tensor_free(data->initial);
  tensor_free(data->final);
}

static void note(trial_data *data, double error, double allowed) {
  double ratio = error == 0.0 ? 0.0 : error / allowed;
  if (!(ratio <= data->worst)) data->worst = ratio; /* NaN stays NaN */
}

/* One channel of one row: y, then the state after the last step. */
static void compare_channel(const trial *t, trial_data *data, int64_t b, int64_t d) {
  reference_ema channel = parameters_channel(data->parameters, d), sizes = channel;
  sizes.absolute = 1;
  double slowest = (double)reference_ema_least_decay(&channel), projections = 0.0;
  double *x = memory_new(t->L * 8);
  unsigned char *mask = t->masked ? dl(data->mask)->data : NULL;
  if (mask != NULL) mask += b * t->L;
  long double *e = memory_new(2 * t->L * (int64_t)sizeof *e), *magnitude = e + t->L;
  long double *h = memory_new(2 * t->N * (int64_t)sizeof *h);
  long double *h_sizes = h + t->N;
  for (int64_t l = 0; l < t->L; l++) x[l] = tensor_get(data->x, l, b, d);
  for (int64_t n = 0; n < t->N; n++) {
    projections += fabs(channel.projection[n]);
    if (data->initial != NULL) h[n] = tensor_get(data->initial, b, d, n);
    h_sizes[n] = h[n];
  }
  if (t->truncation > 0) {
    reference_ema_truncated(&channel, t->truncation, t->L, x, mask, e);
    reference_ema_truncated(&sizes, t->truncation, t->L, x, mask, magnitude);
  } else {
    reference_ema_recur(&channel, t->L, x, mask, h, e);
    reference_ema_recur(&sizes, t->L, x, mask, h_sizes, magnitude);
  }
  for (int64_t l = 0; l < t->L; l++) {
    long double through = (long double)data->parameters->residual[d] * x[l],
                exact = e[l] + through;
    double size = (double)(magnitude[l] + fabsl(through));
    if (t->masked && exact < 0.0L) exact = 0.0L;
    double error = (double)fabsl(tensor_get(data->y, l, b, d) - exact);
    note(data, error, tolerance(t, slowest, l + 1, size, (double)exact, projections));
  }
  for (int64_t n = 0; n < t->N && data->final != NULL; n++) {
    double error = (double)fabsl(tensor_get(data->final, b, d, n) - h[n]);
    double least = t->state_dtype.bits == 64 ? DBL_TRUE_MIN : 0x1p-149;
    note(data, error,
         chain_factor(t, slowest, t->L) * unit_of(t) * (double)h_sizes[n] +
             2.0 * reach(slowest, t->L) * least);
  }
  free(x);
  free(e);
  free(h);
}

/* The trial's worst error over tolerance. */
static double worst_of(const trial *t) {
  trial_data data;
  make_data(t, &data);
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, t->D);
  config.activation = t->masked ? CUMEGA_ACTIVATION_RELU : CUMEGA_ACTIVATION_IDENTITY;
  config.state_dtype = t->state_dtype;
  if (t->truncation > 0) config.truncation_length = t->truncation;
  cumega_ema *ema = ema_new(ctx, config, data.parameters, cumega_float32);
  cumega_ema_io io = io_of(data.x, data.y);
  io.mask = dl(data.mask);
  io.initial_state = dl(data.initial);
  io.final_state = dl(data.final);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  for (int64_t b = 0; b < t->B; b++)
    for (int64_t d = 0; d < t->D; d++) compare_channel(t, &data, b, d);
  ck_assert(tensor_gaps_hold(data.y));
  ck_assert(data.final == NULL || tensor_gaps_hold(data.final));
  cumega_ema_destroy(ema);
  free_data(&data);
  return data.worst;
}

static double must_hold(const trial *t) {
  double worst = worst_of(t);
  ck_assert_msg(worst <= 1.0,
                "%g of the bound: L %lld B %lld D %lld N %lld, 1 - q from %g, %s, %s, state %s, "
                "truncation %lld, seed %llu, masked %d",
                worst, (long long)t->L, (long long)t->B, (long long)t->D, (long long)t->N,
                t->slowest, kind_names[t->kind], number_name(t->dtype),
                number_name(t->state_dtype), (long long)t->truncation, (unsigned long long)t->seed,
                t->masked);
  return worst;
}

static const int64_t lengths[] = {1, 2, 31, 32, 33, 129, 1000, 4097};
static const int64_t channels[] = {1, 3, 5, 16, 17, 31, 64, 100, 129};
static const int64_t heads[] = {1, 2, 3, 4, 5, 7, 8, 16, 17, 33};
static const double decays[] = {0.5, 0.3, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5};
#define COUNT(table) ((int)(sizeof(table) / sizeof(table)[0]))

/* Every length with every head count, every fourth of them masked. Channels, decays and inputs
 * rotate as long as the work stays small; their table sizes are coprime to the others', so that
 * every pair occurs. */
static void sweep(DLDataType dtype, DLDataType state_dtype, int first_kind, const char *what) {
  double worst = 0.0;
  int turn = 0;
  for (int i = 0; i < COUNT(lengths); i++)
    for (int j = 0; j < COUNT(heads); j++, turn++) {
      trial t = {lengths[i],
                 1 + turn % 3,
                 channels[turn % COUNT(channels)],
                 heads[j],
                 decays[turn % COUNT(decays)],
                 (input_kind)((first_kind + turn) % KINDS),
                 dtype,
                 state_dtype,
                 0,
                 (uint64_t)turn,
                 turn % 4 == 3};
      if (t.L * t.B * t.D * t.N > 100000) t.B = 1;
      if (t.L * t.D * t.N > 100000) t.D = 3;
      if (t.L * t.D * t.N > 100000) t.D = 1;
      double ratio = must_hold(&t);
      if (ratio > worst) worst = ratio;
    }
  printf("%s: worst error over its bound %.3f\n", what, worst);
}

START_TEST(float32_is_within_the_bound_for_every_length_head_count_and_input) {
  for (int kind = 0; kind < KINDS; kind++)
    sweep(cumega_float32, cumega_float32, kind, kind_names[kind]);
}
END_TEST

START_TEST(a_float64_state_costs_two_roundings) {
  sweep(cumega_float32, cumega_float64, MEAN, "float64 state");
}
END_TEST

START_TEST(float64_tensors_are_exact_to_float64_roundings) {
  sweep(cumega_float64, cumega_float64, CONSTANT, "float64");
}
END_TEST

START_TEST(sixteen_bit_types_are_rounded_once_at_the_store) {
  sweep(cumega_bfloat16, cumega_float32, MEAN, "bfloat16");
  sweep(cumega_float16, cumega_float32, CONSTANT, "float16");
  sweep(cumega_bfloat16, cumega_float64, SPREAD, "bfloat16, float64 state");
  sweep(cumega_float16, cumega_float64, NOISE, "float16, float64 state");
}
END_TEST

START_TEST(a_million_steps_stay_within_the_bound) {
  for (int kind = 0; kind < KINDS; kind++) {
    trial t = {1 << 20,        1, 2,  2, kind % 2 ? 1e-5 : 1e-3, (input_kind)kind, cumega_float32,
               cumega_float32, 0, 77, 0};
    printf("2^20 steps, %s: %.3f of the bound\n", kind_names[kind], must_hold(&t));
  }
  trial t = {1 << 20, 1, 1, 2, 1e-5, CONSTANT, cumega_float32, cumega_float64, 0, 78, 0};
  printf("2^20 steps, float64 state: %.3f of the bound\n", must_hold(&t));
}
END_TEST

/* A sum of K taps in any order: one rounding for the tap, one for the product, K - 1 for the sum,
 * one for the residual's fma. */
START_TEST(a_truncated_sum_is_within_its_bound) {
  static const int64_t truncations[] = {1, 2, 5, 16, 100, 1000};
  static const DLDataType states[] = {{kDLFloat, 32, 1}, {kDLFloat, 64, 1}};
  for (int i = 0; i < COUNT(truncations); i++)
    for (int j = 0; j < COUNT(lengths) - 1; j++)
      for (int k = 0; k < 2; k++) {
        trial t = {lengths[j],
                   2,
                   channels[(i + 3 * j) % COUNT(channels)],
                   heads[(i + j) % COUNT(heads)],
                   decays[(i + j) % COUNT(decays)],
                   (input_kind)((i + j) % KINDS),
                   cumega_float32,
                   states[k],
                   truncations[i],
                   (uint64_t)(i * 100 + j),
                   (i + j) % 2};
        if (t.L * truncations[i] > 20000) t.D = 1 + t.D % 17;
        must_hold(&t);
      }
}
END_TEST

/* Damping and decay so extreme that q rounds to 0 or 1, where ESPnet's exp(l log q) fails. */
START_TEST(edge_decays_are_within_the_bound) {
  static const double edges[] = {40.0, 200.0, 1000.0, 1e30, -20.0, -40.0, -80.0};
  for (int i = 0; i < COUNT(edges); i++) {
    trial t = {1000,
               1,
               3,
               4,
               0.5,
               (input_kind)(i % KINDS),
               cumega_float32,
               i % 2 ? cumega_float64 : cumega_float32,
               0,
               (uint64_t)i,
               0};
    trial_data data;
    make_data(&t, &data);
    for (int64_t n = 0; n < t.D * t.N; n++) data.parameters->damping[n] = edges[i];
    for (int64_t n = 0; n < t.D * t.N; n++) data.parameters->decay[n] = fabs(edges[i]);
    cumega_ema_config config;
    cumega_ema_config_init(&config, sizeof config, t.D);
    config.activation = CUMEGA_ACTIVATION_IDENTITY;
    config.state_dtype = t.state_dtype;
    cumega_ema *ema = ema_new(ctx, config, data.parameters, cumega_float64);
    cumega_ema_io io = io_of(data.x, data.y);
    io.initial_state = dl(data.initial);
    io.final_state = dl(data.final);
    MUST(ctx, cumega_ema_forward(ctx, ema, &io));
    for (int64_t d = 0; d < t.D; d++) compare_channel(&t, &data, 0, d);
    ck_assert_msg(data.worst <= 1.0, "damping %g: %g of the bound", edges[i], data.worst);
    cumega_ema_destroy(ema);
    free_data(&data);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ema_accuracy");
  TCase *tests = add_case(suite, "against the reference", 120);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, float32_is_within_the_bound_for_every_length_head_count_and_input);
  tcase_add_test(tests, a_float64_state_costs_two_roundings);
  tcase_add_test(tests, float64_tensors_are_exact_to_float64_roundings);
  tcase_add_test(tests, sixteen_bit_types_are_rounded_once_at_the_store);
  tcase_add_test(tests, a_million_steps_stay_within_the_bound);
  tcase_add_test(tests, a_truncated_sum_is_within_its_bound);
  tcase_add_test(tests, edge_decays_are_within_the_bound);
  return run_suite(suite);
}
