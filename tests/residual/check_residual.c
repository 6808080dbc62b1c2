/* Residual connections and the norms after them: within the oracle's bounds, and with the same
 * bits wherever the tensors lie and whatever computes them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "defaults.h"
#include "residual_runs.h"
#include "runner.h"

static const int64_t sizes[] = {1, 2, 7, 31, 32, 33, 64, 129, 512, 1000, 2049};
#define SIZES ((int64_t)(sizeof sizes / sizeof *sizes))

static const DLDataType types[] = {
    {kDLFloat, 32, 1}, {kDLFloat, 16, 1}, {kDLBfloat, 16, 1}, {kDLFloat, 64, 1}};

/* Emulated threads are slow and random schedules are many: CUMEGA_TEST_PAIRS may ask for fewer. */
static int problems(void) {
  const uint64_t usual = device_is_cuda() ? 150 : 1500;
  const uint64_t asked = number_from("CUMEGA_TEST_PAIRS", usual);
  return (int)(asked < usual ? asked : usual);
}

static problem random_problem(uint64_t *seed) {
  const int64_t kind = random_below(seed, 7);
  problem p = {.gated = kind >= 5,
               .norm = (int)random_below(seed, 8) - 4,
               .dtype = types[random_below(seed, 4)],
               .seed = random_bits(seed) >> 8};
  const int highway = kind == CUMEGA_RESIDUAL_HIGHWAY;
  const int64_t D = sizes[random_below(seed, highway ? 8 : SIZES)];
  const int64_t most = 3000 / D > 0 ? 3000 / D : 1;
  const int64_t A = 1 + random_below(seed, most < 5 ? most : 5);
  const int64_t B = 1 + random_below(seed, most / A < 40 ? most / A : 40);
  cumega_residual_config_init(&p.config, sizeof p.config,
                              p.gated ? CUMEGA_RESIDUAL_RESIDUAL : (cumega_residual_kind)kind,
                              1 + random_below(seed, 30), D);
  p.transposed = p.norm < 0 && !highway && !p.gated && random_below(seed, 2);
  const int64_t rows[] = {A, B, D}, columns[] = {A, D, B};
  memcpy(p.shape, p.transposed ? columns : rows, sizeof p.shape);
  cumega_residual_config *c = &p.config;
  c->scalar = (int32_t)random_below(seed, 2);
  c->l2 = (int32_t)random_below(seed, 2);
  c->power = 0.25 * (double)random_below(seed, 8);
  c->scaling_correction = (int32_t)random_below(seed, 2);
  c->elemwise = (int32_t)random_below(seed, 2);
  if (kind == CUMEGA_RESIDUAL_RESIDUAL || kind == CUMEGA_RESIDUAL_AFFINE) {
    c->alpha = 0.5 * (double)random_below(seed, 4);
    c->beta = random_below(seed, 3) ? 1 : -1.3;
  }
  return p;
}

static test_layout random_layout(uint64_t *seed) {
  static const int orders[][3] = {{0, 1, 2}, {1, 0, 2}, {0, 2, 1},
                                  {2, 1, 0}, {1, 2, 0}, {2, 0, 1}};
  test_layout l = {.ordered = 1};
  memcpy(l.order, orders[random_below(seed, 3) ? random_below(seed, 2) : random_below(seed, 6)],
         sizeof orders[0]);
  for (int i = 0; i < 3; i++) l.gap[i] = random_below(seed, 3) ? 0 : random_below(seed, 9);
  l.reversed = random_below(seed, 4) ? 0 : (unsigned)random_below(seed, 8);
  l.shift = random_below(seed, 2) ? 0 : random_below(seed, 8);
  l.by_offset = (int)random_below(seed, 2);
  return l;
}

static placement random_placement(uint64_t *seed, const problem *p) {
  placement at = {.out_is = -1, .normalized_is = -1};
  for (int i = 0; i < INPUTS + 2; i++) at.layouts[i] = random_layout(seed);
  const int inputs = p->gated ? INPUTS : IN_GATE, least = problem_reads_x(p) ? IN_X : IN_Y;
  if (random_below(seed, 2)) at.out_is = least + (int)random_below(seed, inputs - least);
  if (random_below(seed, 2)) at.normalized_is = least + (int)random_below(seed, inputs - least);
  if (at.out_is >= 0 && at.normalized_is == at.out_is) at.normalized_is = -1;
  at.without_out = p->norm >= 0 && random_below(seed, 4) == 0;
  if (at.without_out) at.out_is = -1;
  return at;
}

static void expect_same(const problem *p, const result *a, const result *b, const char *what) {
  if (results_same(a, b)) return;
  problem_print(p);
  ck_abort_msg("not the same bits: %s", what);
}

static void check_right(const problem *p, const result *r, double *worst) {
  const double error = problem_error(p, r);
  if (error > *worst) *worst = error;
  if (error <= 1) return;
  problem_print(p);
  ck_abort_msg("an error is %g times what is allowed", error);
}

START_TEST(every_run_is_right_and_has_the_same_bits_wherever_its_tensors_lie) {
  uint64_t seed = 20261126;
  double worst = 0;
  cumega_context *ctx = context_new();
  for (int i = 0; i < problems(); i++) {
    const problem p = random_problem(&seed);
    const placement at = random_placement(&seed, &p);
    result a = problem_run(ctx, &p, NULL), b = problem_run(ctx, &p, &at);
    check_right(&p, &a, &worst);
    expect_same(&p, &a, &b, "another layout, or in place");
    result_free(&a);
    result_free(&b);
  }
  printf("the worst error is %.3f of what is allowed\n", worst);
  cumega_context_destroy(ctx);
}
END_TEST

/* In order, what chance may miss: one element, several, and more than one thread's share. */
START_TEST(every_form_is_right_in_every_type) {
  static const int64_t shapes[][3] = {{1, 1, 1}, {3, 80, 5}, {40, 190, 5}};
  const test_layout short_lines = {.ordered = 1, .order = {0, 1, 2}, .gap = {1, 1, 1}, .shift = 1};
  placement gaps = {.out_is = -1, .normalized_is = -1};
  uint64_t seed = 31;
  double worst = 0;
  for (int i = 0; i < INPUTS + 2; i++) gaps.layouts[i] = short_lines;
  cumega_context *ctx = device_is_cuda() ? context_new() : context_of_level(NULL, 3);
  for (int i = 0; i < 7 * 4 * 2 * 3; i++) {
    if (i >= 2 * 56 && i / 7 % 4 != 0) continue; /* the largest, in one type alone */
    const int form = i % 7, transposed = i / 28 % 2;
    const int64_t *shape = shapes[i / 56], D = shape[2];
    const cumega_residual_kind kind =
        form < 5 ? (cumega_residual_kind)form : CUMEGA_RESIDUAL_RESIDUAL;
    problem p = {.gated = form == 6, .norm = -1, .dtype = types[i / 7 % 4], .seed = (uint64_t)i};
    cumega_residual_config_init(&p.config, sizeof p.config, kind, 3, D);
    p.config.scalar = 0;
    if (form == 5) p.config.alpha = 0;
    p.transposed = transposed && !p.gated && kind != CUMEGA_RESIDUAL_HIGHWAY;
    if (transposed && !p.transposed) p.norm = i % 4; /* norms are tested instead of these two */
    const int64_t rows[] = {shape[0], shape[1], D}, columns[] = {shape[0], D, shape[1]};
    memcpy(p.shape, p.transposed ? columns : rows, sizeof p.shape);
    const placement at = random_placement(&seed, &p);
    result a = problem_run(ctx, &p, NULL), b = problem_run(ctx, &p, &at);
    result c = problem_run(ctx, &p, &gaps);
    check_right(&p, &a, &worst);
    expect_same(&p, &a, &b, "another layout, or in place");
    expect_same(&p, &a, &c, "lines with gaps between them");
    result_free(&a);
    result_free(&b);
    result_free(&c);
  }
  cumega_context_destroy(ctx);
}
END_TEST

/* A CPU cuts lines of more than 8,192 elements. */
START_TEST(long_lines_are_right_in_every_type) {
  double worst = 0;
  cumega_context *ctx = context_new();
  for (int i = 0; i < 4 * 2; i++) {
    problem p = {.gated = i % 2, .norm = -1, .dtype = types[i / 2], .shape = {1, 2, 8199}};
    cumega_residual_config_init(&p.config, sizeof p.config, CUMEGA_RESIDUAL_DECAY, 3, p.shape[2]);
    p.seed = (uint64_t)i;
    result a = problem_run(ctx, &p, NULL);
    check_right(&p, &a, &worst);
    result_free(&a);
  }
  cumega_context_destroy(ctx);
}
END_TEST

/* On CUDA: against the CPU. On a CPU: every level, and three threads. On CUDA another library
 * computes Highway's products, so they only have to be right. */
START_TEST(every_device_level_and_number_of_threads_gives_the_same_bits) {
  uint64_t seed = 77;
  cumega_context *ctx = context_new(), *others[CPU_LEVELS + 1] = {NULL};
  for (int i = 0; i < CPU_LEVELS; i++) others[i] = context_of_level(cpu_levels[i], 1);
  others[CPU_LEVELS] = context_of_level(NULL, 3);
  for (int i = 0; i < problems() / 3; i++) {
    problem p = random_problem(&seed);
    if (i % 10 == 0) p.shape[0] *= 40; /* enough for several threads */
    if (problem_is_highway(&p) && device_is_cuda()) continue;
    result a = problem_run(ctx, &p, NULL);
    for (int k = 0; k <= CPU_LEVELS; k++) {
      if (others[k] == NULL || (device_is_cuda() && k > 0)) continue;
      result b = problem_run(others[k], &p, NULL);
      expect_same(&p, &a, &b, k < CPU_LEVELS ? cpu_levels[k] : "three threads");
      result_free(&b);
    }
    result_free(&a);
  }
  for (int i = 0; i <= CPU_LEVELS; i++) cumega_context_destroy(others[i]);
  cumega_context_destroy(ctx);
}
END_TEST

/* Sums of more than one tree, in rows too long for the registers of a group of threads. */
START_TEST(long_rows_are_right_and_the_same) {
  static const int64_t long_sizes[] = {2048, 4095, 4096, 4097, 9001};
  double worst = 0;
  cumega_context *ctx = context_new(), *plain = context_of_level("plain", 1);
  for (int i = 0; i < 40; i++) {
    problem p = {.gated = i % 2,
                 .norm = (i / 2 + i / 8) % 4,
                 .dtype = types[i % 4],
                 .seed = (uint64_t)i + 1,
                 .shape = {1, 2, long_sizes[i / 8]}};
    cumega_residual_config_init(&p.config, sizeof p.config, CUMEGA_RESIDUAL_DECAY, 3, p.shape[2]);
    const placement in_place = {.out_is = -1, .normalized_is = IN_X, .without_out = 1};
    result a = problem_run(ctx, &p, NULL), b = problem_run(plain, &p, NULL);
    result c = problem_run(ctx, &p, &in_place);
    check_right(&p, &a, &worst);
    expect_same(&p, &a, &b, "the CPU's plain level");
    expect_same(&p, &a, &c, "only the normalised tensor, in place");
    result_free(&a);
    result_free(&b);
    result_free(&c);
  }
  printf("the worst error is %.3f of what is allowed\n", worst);
  cumega_context_destroy(plain);
  cumega_context_destroy(ctx);
}
END_TEST

/* What the first call stored passes through a Feedforward with the norm. */
START_TEST(one_call_has_the_bits_of_two) {
  cumega_context *ctx = context_new();
  for (int i = 0; i < 64; i++) {
    problem p = {.norm = i % 4, .dtype = types[i / 4 % 4], .seed = 900 + (uint64_t)i};
    const int64_t D = 3 + 37 * (i / 16);
    cumega_residual_config_init(&p.config, sizeof p.config, CUMEGA_RESIDUAL_DECAY, 5, D);
    p.shape[0] = p.shape[1] = 3;
    p.shape[2] = D;
    result fused = problem_run(ctx, &p, NULL);
    problem second = p;
    cumega_residual_config_init(&second.config, sizeof second.config, CUMEGA_RESIDUAL_FEEDFORWARD,
                                5, D);
    cumega_residual *residual;
    cumega_norm *norm;
    problem_make(ctx, &second, &residual, &norm);
    test_tensor *y = tensor_new(p.dtype, 3, p.shape, NULL);
    test_tensor *n = tensor_new(p.dtype, 3, p.shape, NULL);
    for (int64_t k = 0; k < fused.count; k++)
      tensor_set(y, k / (3 * D), k / D % 3, k % D, fused.out[k]);
    cumega_residual_io io = {
        .struct_size = sizeof io, .y = dl(y), .norm = norm, .normalized = dl(n)};
    const DLTensor *normalized = io.normalized;
    staging s;
    const int staged = staging_begin(&s, ctx);
    if (staged) staging_add(&s, &io.y), staging_add(&s, &normalized), staging_there(&s);
    io.normalized = (DLTensor *)(uintptr_t)normalized;
    MUST(ctx, cumega_residual_forward(ctx, residual, &io));
    if (staged) staging_back(&s);
    for (int64_t k = 0; k < fused.count; k++)
      ck_assert_uint_eq(tensor_bits(n, k / (3 * D), k / D % 3, k % D), fused.normalized_bits[k]);
    tensor_free(y);
    tensor_free(n);
    result_free(&fused);
    cumega_residual_destroy(residual);
    cumega_norm_destroy(norm);
  }
  cumega_context_destroy(ctx);
}
END_TEST

/* rows of D elements in x, y, gate and out, which begin at element `first`; without a residual
 * the run is gated. */
static void run_rows(cumega_context *ctx, cumega_residual *residual, DLDataType dtype, int64_t D,
                     char *const memory[4], int64_t first, int64_t rows) {
  const int64_t shape[] = {rows, D};
  cumega_tensor t[4];
  for (int k = 0; k < 4; k++)
    ck_assert_ptr_nonnull(cumega_tensor_init(&t[k], memory[k] + first * dtype.bits / 8, cumega_cpu,
                                             dtype, 2, shape));
  const cumega_residual_io io = {
      .struct_size = sizeof io, .x = &t[0].dl, .y = &t[1].dl, .out = &t[3].dl};
  const cumega_residual_gated_io gated = {.struct_size = sizeof gated,
                                          .x = &t[0].dl,
                                          .h = &t[1].dl,
                                          .gate = &t[2].dl,
                                          .out = &t[3].dl};
  if (residual)
    MUST(ctx, cumega_residual_forward(ctx, residual, &io));
  else
    MUST(ctx, cumega_residual_gated_forward(ctx, &gated));
}

/* A CPU writes an output of more than 2^22 elements past its caches. Here outputs begin one
 * element after an aligned address, and rows have odd lengths. */
START_TEST(outputs_larger_than_the_caches_have_the_bits_of_small_ones) {
  static const cumega_residual_kind kinds[] = {CUMEGA_RESIDUAL_DECAY, CUMEGA_RESIDUAL_AFFINE,
                                               CUMEGA_RESIDUAL_FEEDFORWARD};
  const int64_t D = 1023, rows = 4200, count = rows * D + 1;
  if (device_is_cuda()) return;
  cumega_context *ctx = context_new();
  char *memory[5];
  uint64_t seed = 5;
  for (int k = 0; k < 5; k++) {
    ck_assert_int_eq(posix_memalign((void **)&memory[k], 64, (size_t)count * 4), 0);
    for (int64_t i = 0; i < count / 2; i++)
      ((uint64_t *)memory[k])[i] =
          0x3f803f803f803f80u ^ (random_bits(&seed) & 0x8fff8fff8fff8fffu);
  }
  for (int i = 0; i < 12; i++) {
    const DLDataType dtype = types[i % 3];
    cumega_residual *residual = NULL;
    if (i / 3 < 3) {
      cumega_residual_config config;
      cumega_residual_config_init(&config, sizeof config, kinds[i / 3], 3, D);
      config.scalar = 0;
      MUST(ctx, cumega_residual_create(ctx, &config, NULL, &residual));
    }
    memset(memory[3], 0xff, (size_t)count * 4);
    memset(memory[4], 0xff, (size_t)count * 4);
    run_rows(ctx, residual, dtype, D, memory, 1, rows);
    char *const small[] = {memory[0], memory[1], memory[2], memory[4]};
    for (int64_t row = 0; row < rows; row += 600)
      run_rows(ctx, residual, dtype, D, small, 1 + row * D, 600);
    ck_assert_msg(memcmp(memory[3], memory[4], (size_t)count * 4) == 0, "kind %d, type %d", i / 3,
                  i % 3);
    cumega_residual_destroy(residual);
  }
  for (int k = 0; k < 5; k++) free(memory[k]);
  cumega_context_destroy(ctx);
}
END_TEST

/* scale_norm never divides by less than eps, and the sigmoid does not lose a NaN of the gate. */
START_TEST(rows_of_zeros_stay_zeros_and_nan_stays_nan) {
  enum { ROWS = 2, D = 5 };
  cumega_context *ctx = context_new();
  for (int type = 0; type < 4; type++) {
    cumega_norm_config config = norm_config_of(CUMEGA_NORM_SCALE, D);
    cumega_norm *norm;
    test_tensor *t[5];
    config.dtype = real_dtype_of(types[type]);
    MUST(ctx, cumega_norm_create(ctx, &config, NULL, &norm));
    for (int k = 0; k < 5; k++) {
      t[k] = tensor_new_2(types[type], ROWS, D);
      for (int i = 0; i < ROWS * D; i++)
        tensor_set(t[k], i / D, i % D, 0, k == 2 && i / D == 1 ? (double)NAN : 0);
    }
    const DLTensor *at[5];
    staging s;
    const int staged = staging_begin(&s, ctx);
    for (int k = 0; k < 5; k++) at[k] = dl(t[k]);
    for (int k = 0; k < 5 && staged; k++) staging_add(&s, &at[k]);
    if (staged) staging_there(&s);
    const cumega_residual_gated_io io = {.struct_size = sizeof io,
                                         .x = at[0],
                                         .h = at[1],
                                         .gate = at[2],
                                         .out = (DLTensor *)(uintptr_t)at[3],
                                         .norm = norm,
                                         .normalized = (DLTensor *)(uintptr_t)at[4]};
    MUST(ctx, cumega_residual_gated_forward(ctx, &io));
    if (staged) staging_back(&s);
    for (int k = 3; k < 5; k++)
      for (int i = 0; i < D; i++) {
        ck_assert(tensor_get(t[k], 0, i, 0) == 0);
        ck_assert(isnan(tensor_get(t[k], 1, i, 0)));
      }
    for (int k = 0; k < 5; k++) tensor_free(t[k]);
    cumega_norm_destroy(norm);
  }
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(a_run_names_its_kernels) {
  static const struct {
    cumega_residual_kind kind;
    int norm;
    DLDataType dtype;
    const char *names;
  } runs[] = {
      {CUMEGA_RESIDUAL_DECAY, -1, {kDLFloat, 32, 1}, "residual_lines_kernel"},
      {CUMEGA_RESIDUAL_DECAY, CUMEGA_NORM_RMS, {kDLFloat, 32, 1}, "residual_rows_kernel"},
      {CUMEGA_RESIDUAL_HIGHWAY, -1, {kDLFloat, 32, 1}, "cublas residual_lines_kernel"},
      {CUMEGA_RESIDUAL_HIGHWAY,
       -1,
       {kDLFloat, 16, 1},
       "residual_gather_kernel cublas residual_lines_kernel"},
  };
  cumega_context *ctx = context_new();
  for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
    problem p = {.norm = runs[i].norm, .dtype = runs[i].dtype, .shape = {2, 3, 8}, .seed = 9};
    cumega_residual_config_init(&p.config, sizeof p.config, runs[i].kind, 2, 8);
    result r = problem_run(ctx, &p, NULL);
    const char *names = device_is_cuda() ? runs[i].names : "";
    const char *found = cumega_context_kernels(ctx);
    ck_assert_msg(strncmp(found, names, strlen(names)) == 0 && (*names || !*found),
                  "'%s' does not begin with '%s'", found, names);
    result_free(&r);
  }
  cumega_context_destroy(ctx);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("residual");
  TCase *tests = add_case(suite, "residual connections", 600);
  tcase_add_test(tests, every_run_is_right_and_has_the_same_bits_wherever_its_tensors_lie);
  tcase_add_test(tests, every_form_is_right_in_every_type);
  tcase_add_test(tests, long_lines_are_right_in_every_type);
  tcase_add_test(tests, every_device_level_and_number_of_threads_gives_the_same_bits);
  tcase_add_test(tests, long_rows_are_right_and_the_same);
  tcase_add_test(tests, one_call_has_the_bits_of_two);
  tcase_add_test(tests, outputs_larger_than_the_caches_have_the_bits_of_small_ones);
  tcase_add_test(tests, rows_of_zeros_stay_zeros_and_nan_stays_nan);
  tcase_add_test(tests, a_run_names_its_kernels);
  return run_suite(suite);
}
