/* The promise of bits for attention scores, tested at random. A recipe makes a problem and a way
 * of running it that must give the same bits as the compact way on the plain CPU level.
 * CUMEGA_TEST_PAIRS sets how many pairs are tried, CUMEGA_TEST_SEED where they start; both are
 * printed. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include "defaults.h"
#include "position_problem.h"
#include "runner.h"

#define THREADS 3

static cumega_context *contexts[CPU_LEVELS][THREADS], *of_device;

/* A level that the machine lacks becomes the plain one. */
static cumega_context *context_at(int level, int threads) {
  static int lacking[CPU_LEVELS];
  cumega_context **kept = &contexts[level][threads - 1];
  if (*kept == NULL && !lacking[level]) *kept = context_of_level(cpu_levels[level], threads);
  lacking[level] = *kept == NULL;
  return *kept != NULL ? *kept : context_at(0, threads);
}

static cumega_context *device_context(void) {
  if (of_device == NULL) of_device = context_new();
  return of_device;
}

static void end(void) {
  for (int level = 0; level < CPU_LEVELS; level++)
    for (int i = 0; i < THREADS; i++) {
      cumega_context_destroy(contexts[level][i]);
      contexts[level][i] = NULL;
    }
  cumega_context_destroy(of_device);
  of_device = NULL;
}

static const DLDataType types[] = {
    {kDLFloat, 32, 1}, {kDLFloat, 16, 1}, {kDLBfloat, 16, 1}, {kDLFloat, 64, 1}};

/* Lengths at which kernels and loops change. */
static int64_t random_keys(uint64_t *seed) {
  static const int64_t odd[] = {1,    2,    31,   32,   33,   127,  128,  129,
                                255,  256,  257,  511,  513,  1000, 1024, 1025,
                                2049, 4095, 4096, 4097, 5000, 8192, 8193, 9000};
  if (random_below(seed, 3) > 0) return 1 + random_below(seed, 70);
  return odd[random_below(seed, (int64_t)(sizeof odd / sizeof *odd))];
}

static position_recipe random_recipe(uint64_t *seed) {
  position_recipe r = {.dtype = types[random_below(seed, 4)], .scale = 1};
  r.Lk = random_keys(seed);
  r.Lq = random_below(seed, 3) ? r.Lk : 1 + random_below(seed, r.Lk);
  if (r.Lq > 4000 / r.Lk + 1) r.Lq = 4000 / r.Lk + 1;
  r.B = r.Lk > 1000 ? 1 : 1 + random_below(seed, 3);
  r.H = r.Lk > 300 ? 1 : 1 + random_below(seed, 3);
  r.bias = (int)random_below(seed, 3);
  r.causal = (int)random_below(seed, 2);
  r.nan_rows = random_below(seed, 4) == 0;
  r.attention = random_below(seed, 3) ? 0 : 1 + (int)random_below(seed, 2);
  r.padding = (int)random_below(seed, 4);
  r.lengths = random_below(seed, 3) == 0;
  r.special = random_below(seed, 4) == 0;
  if (random_below(seed, 2)) r.scale = random_noise(seed);
  r.seed = random_bits(seed);
  return r;
}

static position_way random_way(uint64_t *seed) {
  position_way w = {.layout = (int)random_below(seed, POSITION_LAYOUTS),
                    .output_layout = (int)random_below(seed, POSITION_LAYOUTS)};
  w.misaligned = (int)random_below(seed, 2);
  w.in_place = random_below(seed, 3) == 0;
  w.strangers = (int)random_below(seed, 2);
  w.narrow_indices = (int)random_below(seed, 2);
  w.bytes_as_masks = (int)random_below(seed, 2);
  w.seed = random_bits(seed);
  return w;
}

static void print_pair(const position_recipe *r, const position_way *w, int softmax) {
  printf("%s %s (%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64
         ") bias %d causal %d attention %d padding %d lengths %d special %d scale %g seed %" PRIu64
         "; layouts %d %d misaligned %d in place %d strangers %d\n",
         softmax ? "softmax" : "scores", number_name(r->dtype), r->B, r->H, r->Lq, r->Lk, r->bias,
         r->causal, r->attention, r->padding, r->lengths, r->special, r->scale, r->seed, w->layout,
         w->output_layout, w->misaligned, w->in_place, w->strangers);
}

START_TEST(random_pairs_have_the_same_bits) {
  const uint64_t pairs = number_from("CUMEGA_TEST_PAIRS", 1500);
  uint64_t start = number_from("CUMEGA_TEST_SEED", 1), wrong = 0;
  printf("%" PRIu64 " pairs from seed %" PRIu64 "\n", pairs, start);
  for (uint64_t pair = 0; pair < pairs; pair++) {
    uint64_t seed = start + pair;
    const position_recipe r = random_recipe(&seed);
    const position_way w = random_way(&seed), plain = {0};
    const int softmax = random_below(&seed, 4) > 0;
    position_problem *p = position_problem_new(&r);
    const int64_t count = position_count(p);
    uint64_t *right = memory_new(8 * count), *bits = memory_new(8 * count);
    cumega_context *ctx = device_is_cuda() ? device_context()
                                           : context_at((int)random_below(&seed, CPU_LEVELS),
                                                        1 + (int)random_below(&seed, THREADS));
    const char *fault = position_problem_run(p, &plain, context_at(0, 1), softmax, right);
    if (*fault == '\0') fault = position_problem_run(p, &w, ctx, softmax, bits);
    if (*fault != '\0' || memcmp(right, bits, (size_t)(8 * count)) != 0) {
      if (wrong++ < 5) {
        printf("pair %" PRIu64 " differs %s: ", pair, fault);
        print_pair(&r, &w, softmax);
      }
    }
    free(right);
    free(bits);
    position_problem_free(p);
  }
  ck_assert_uint_eq(wrong, 0);
}
END_TEST

/* The last query of a number of keys, as in a decoding step. */
static void check_decoding(position_problem *p, const uint64_t *whole, int64_t i, int64_t group) {
  position_problem step = *p;
  const position_way plain = {0};
  const int64_t keys = p->r.Lk - p->r.Lq + i + 1;
  step.r.Lq = group;
  step.r.Lk = keys;
  step.scores = memory_new(8 * p->r.H * group * keys);
  for (int64_t h = 0; h < p->r.H; h++)
    for (int64_t q = 0; q < group; q++)
      memcpy(step.scores + (h * group + q) * keys,
             p->scores + position_index(p, 0, h, i - group + 1 + q, 0), (size_t)(8 * keys));
  uint64_t *bits = memory_new(8 * p->r.H * group * keys);
  ck_assert_str_eq(position_problem_run(&step, &plain, device_context(), 1, bits), "");
  for (int64_t h = 0; h < p->r.H; h++)
    for (int64_t q = 0; q < group; q++)
      ck_assert_mem_eq(bits + (h * group + q) * keys,
                       whole + position_index(p, 0, h, i - group + 1 + q, 0), (size_t)(8 * keys));
  free(bits);
  free(step.scores);
}

START_TEST(a_row_of_a_prefill_is_the_decoding_step) {
  for (int bias = NO_BIAS; bias <= ROTARY; bias++)
    for (int type = 0; type < 4; type++) {
      position_recipe r = {.dtype = types[type], .B = 1, .H = 2, .Lq = 37, .Lk = 40, .bias = bias};
      r.causal = 1;
      r.scale = 0.25;
      r.seed = (uint64_t)(7 + type);
      position_problem *p = position_problem_new(&r);
      const position_way plain = {0};
      uint64_t *whole = memory_new(8 * position_count(p));
      ck_assert_str_eq(position_problem_run(p, &plain, device_context(), 1, whole), "");
      for (int64_t i = 0; i < r.Lq; i++) check_decoding(p, whole, i, 1);
      check_decoding(p, whole, 20, 8);
      free(whole);
      position_problem_free(p);
    }
}
END_TEST

/* Groups of 4,096 keys: rows that end inside the second and third group, in a longer prefill. */
START_TEST(long_rows_of_a_prefill_are_decoding_steps) {
  position_recipe r = {.dtype = cumega_float32, .B = 1, .H = 1, .Lq = 3, .Lk = 17000};
  r.bias = RELATIVE;
  r.causal = 1;
  r.scale = 1;
  position_problem *p = position_problem_new(&r);
  const position_way plain = {0};
  uint64_t *whole = memory_new(8 * position_count(p));
  ck_assert_str_eq(position_problem_run(p, &plain, device_context(), 1, whole), "");
  for (int64_t i = 0; i < r.Lq; i++) check_decoding(p, whole, i, 1);
  free(whole);
  position_problem_free(p);
}
END_TEST

/* Every kernel and loop of the CPU against the others, where one takes over from another. */
START_TEST(lengths_of_every_size_agree_on_every_level) {
  static const int64_t lengths[] = {1, 31, 256, 257, 1024, 1025, 4096, 4097, 16384, 16385, 20481};
  for (int type = 0; type < 4; type += 3)
    for (size_t n = 0; n < sizeof lengths / sizeof *lengths; n++) {
      position_recipe r = {.dtype = types[type], .B = 1, .H = 1, .Lq = 1, .Lk = lengths[n]};
      r.bias = ROTARY;
      r.scale = 1;
      r.seed = n;
      position_problem *p = position_problem_new(&r);
      const position_way plain = {0};
      const size_t bytes = (size_t)(8 * position_count(p));
      uint64_t *right = memory_new((int64_t)bytes), *bits = memory_new((int64_t)bytes);
      position_problem_run(p, &plain, context_at(0, 1), 1, right);
      for (int level = 1; level < CPU_LEVELS; level++) {
        position_problem_run(p, &plain, context_at(level, 1), 1, bits);
        ck_assert_mem_eq(right, bits, bytes);
      }
      position_problem_run(p, &plain, device_context(), 1, bits);
      ck_assert_mem_eq(right, bits, bytes);
      free(right);
      free(bits);
      position_problem_free(p);
    }
}
END_TEST

static uint64_t hash_of(int type, int bias, int level) {
  position_recipe r = {.dtype = types[type], .B = 2, .H = 2, .Lq = 33, .Lk = 70, .bias = bias};
  r.causal = 1;
  r.padding = bias;
  r.scale = 0.5;
  r.seed = 99;
  position_problem *p = position_problem_new(&r);
  const position_way plain = {0};
  uint64_t *bits = memory_new(8 * position_count(p)), hash = UINT64_C(0xcbf29ce484222325);
  position_problem_run(p, &plain, level < 0 ? device_context() : context_at(level, 1), 1, bits);
  for (int64_t i = 0; i < position_count(p); i++)
    for (int byte = 0; byte < 8; byte++)
      hash = (hash ^ (bits[i] >> (8 * byte) & 0xff)) * UINT64_C(0x100000001b3);
  free(bits);
  position_problem_free(p);
  return hash;
}

/* Large enough that threads share the rows; the pairs above are not. */
START_TEST(threads_share_the_rows_of_a_large_problem_and_the_bits_stay) {
  enum { H = 2, Q = 300, K = 500, L = 600 };
  const int64_t shape[] = {1, H, Q, K};
  cumega_context *one = context_at(0, 1), *three = context_at(0, 3);
  uint64_t seed = 41;
  for (int kind = 0; kind < 2; kind++)
    for (int type = 0; type < 4; type++) {
      const DLDataType dtype = real_dtype_of(types[type]);
      cumega_position_bias *bias = NULL;
      if (kind == 0)
        MUST(one, bias_relative_as(dtype, one, L, NULL, &bias));
      else
        MUST(one, bias_rotary_as(dtype, one, 6, L, NULL, NULL, &bias));
      test_tensor *scores = tensor_new(types[type], 4, shape, NULL);
      test_tensor *y[2], *matrix[2];
      for (int64_t i = 0; i < H * Q * K; i++)
        tensor_set_4(scores, 0, i / (Q * K), i / K % Q, i % K, random_noise(&seed));
      for (int t = 0; t < 2; t++) {
        cumega_context *ctx = t ? three : one;
        cumega_attention_scores_io io;
        cumega_attention_scores_io_init(&io, sizeof io);
        y[t] = tensor_new(types[type], 4, shape, NULL);
        matrix[t] = tensor_new_2(types[type], L, L);
        io.scores = dl(scores);
        io.output = dl(y[t]);
        if (type % 2)
          MUST(ctx, scores_with(ctx, bias, &io));
        else
          MUST(ctx, softmax_with(ctx, bias, &io));
        MUST(ctx, cumega_position_bias_forward(ctx, bias, dl(matrix[t])));
        ck_assert(tensor_gaps_hold(y[t]) && tensor_gaps_hold(matrix[t]));
      }
      const size_t bytes = types[type].bits / 8;
      ck_assert_mem_eq(tensor_at(y[0], 0, 0, 0), tensor_at(y[1], 0, 0, 0), H * Q * K * bytes);
      ck_assert_mem_eq(tensor_at(matrix[0], 0, 0, 0), tensor_at(matrix[1], 0, 0, 0),
                       L * L * bytes);
      for (int t = 0; t < 2; t++) {
        tensor_free(y[t]);
        tensor_free(matrix[t]);
      }
      tensor_free(scores);
      cumega_position_bias_destroy(bias);
    }
}
END_TEST

/* By type and bias, the same on every compiler, level and device. With CUMEGA_PRINT_HASHES set
 * they are printed, for a deliberate change of arithmetic. */
START_TEST(fixed_results_have_their_committed_hashes) {
  static const uint64_t committed[4][3] = {
#include "position_hashes.h"
  };
  for (int type = 0; type < 4; type++)
    for (int bias = NO_BIAS; bias <= ROTARY; bias++) {
      if (getenv("CUMEGA_PRINT_HASHES")) {
        printf("%sUINT64_C(0x%016" PRIx64 ")%s\n", bias == NO_BIAS ? "{" : "",
               hash_of(type, bias, 0), bias == ROTARY ? "}," : ",");
        continue;
      }
      for (int level = -1; level < CPU_LEVELS; level++)
        ck_assert_msg(hash_of(type, bias, level) == committed[type][bias],
                      "%s with bias %d on level %d: %016" PRIx64, number_name(types[type]), bias,
                      level, hash_of(type, bias, level));
    }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("attention_bits");
  TCase *tests = add_case(suite, "bits", 3600);
  tcase_add_unchecked_fixture(tests, NULL, end);
  tcase_add_test(tests, random_pairs_have_the_same_bits);
  tcase_add_test(tests, a_row_of_a_prefill_is_the_decoding_step);
  tcase_add_test(tests, long_rows_of_a_prefill_are_decoding_steps);
  tcase_add_test(tests, lengths_of_every_size_agree_on_every_level);
  if (!device_is_cuda())
    tcase_add_test(tests, threads_share_the_rows_of_a_large_problem_and_the_bits_stay);
  tcase_add_test(tests, fixed_results_have_their_committed_hashes);
  return run_suite(suite);
}
