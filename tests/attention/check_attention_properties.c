/* What follows from the definitions of position biases and attention scores, and the life of the
 * objects: tables follow their parameters, and memory is given back. */
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "defaults.h"
#include "counting_allocator.h"
#include "position_problem.h"
#include "runner.h"

static const DLDataType types[] = {
    {kDLFloat, 32, 1}, {kDLFloat, 16, 1}, {kDLBfloat, 16, 1}, {kDLFloat, 64, 1}};

static cumega_context *ctx;

static void begin(void) {
  ctx = context_new();
}
static void end(void) {
  cumega_context_destroy(ctx);
}

/* For tensors of that type. */
static cumega_position_bias *new_bias_for(DLDataType type, int kind, uint64_t seed) {
  const DLDataType dtype = real_dtype_of(type);
  cumega_position_bias *bias = NULL;
  if (kind == RELATIVE)
    MUST(ctx, bias_relative_as(dtype, ctx, 300, NULL, &bias));
  else
    MUST(ctx, bias_rotary_as(dtype, ctx, 6, 300, NULL, NULL, &bias));
  MUST(ctx, cumega_position_bias_reset_parameters(ctx, bias, 0, 1, seed));
  return bias;
}

static cumega_position_bias *new_bias(int kind, uint64_t seed) {
  return new_bias_for(cumega_float32, kind, seed);
}

static test_tensor *matrix_of(const cumega_position_bias *bias, DLDataType dtype, int64_t L) {
  test_tensor *matrix = tensor_new_2(dtype, L, L);
  MUST(ctx, cumega_position_bias_forward(ctx, bias, dl(matrix)));
  return matrix;
}

START_TEST(a_bias_depends_on_the_distance_alone) {
  for (int kind = RELATIVE; kind <= ROTARY; kind++)
    for (int type = 0; type < 4; type++) {
      cumega_position_bias *bias = new_bias_for(types[type], kind, 3);
      test_tensor *m = matrix_of(bias, types[type], 33);
      for (int64_t i = 1; i < 33; i++)
        for (int64_t j = 1; j < 33; j++)
          ck_assert_uint_eq(tensor_bits(m, i, j, 0), tensor_bits(m, i - 1, j - 1, 0));
      ck_assert_uint_ne(tensor_bits(m, 0, 5, 0), tensor_bits(m, 5, 0, 0));
      tensor_free(m);
      cumega_position_bias_destroy(bias);
    }
}
END_TEST

/* In any layout, and for whatever length the table was made. */
START_TEST(a_shorter_matrix_is_a_corner_of_a_longer_one) {
  for (int kind = RELATIVE; kind <= ROTARY; kind++)
    for (int type = 0; type < 4; type++) {
      static const int64_t lengths[] = {1, 2, 31, 257, 300};
      cumega_position_bias *bias = new_bias_for(types[type], kind, 4);
      cumega_position_bias *other = new_bias_for(types[type], kind, 4);
      MUST(ctx, cumega_position_bias_prepare(ctx, other, 300));
      test_tensor *whole = matrix_of(other, types[type], 300);
      for (int n = 0; n < 5; n++) {
        const int64_t L = lengths[n];
        const test_layout odd = {
            .ordered = 1, .order = {1, 0}, .gap = {1, 3}, .shift = 1, .reversed = n % 2 ? 1 : 0};
        test_tensor *m = tensor_new(types[type], 2, (int64_t[]){L, L}, n > 1 ? &odd : NULL);
        MUST(ctx, cumega_position_bias_forward(ctx, bias, dl(m)));
        ck_assert(tensor_gaps_hold(m));
        for (int64_t i = 0; i < L; i++)
          for (int64_t j = 0; j < L; j++)
            ck_assert_uint_eq(tensor_bits(m, i, j, 0), tensor_bits(whole, i, j, 0));
        tensor_free(m);
      }
      tensor_free(whole);
      cumega_position_bias_destroy(bias);
      cumega_position_bias_destroy(other);
    }
}
END_TEST

/* Scores (1, 1, 1, count), softmax in place. */
static test_tensor *softmax_of(const double *scores, int64_t count, int nan_rows,
                               const unsigned char *padding) {
  test_tensor *row = tensor_new(cumega_float32, 4, (int64_t[]){1, 1, 1, count}, NULL);
  test_tensor *mask = padding ? tensor_new_2(cumega_bool, 1, count) : NULL;
  for (int64_t j = 0; j < count; j++) {
    tensor_set_4(row, 0, 0, 0, j, scores[j]);
    if (mask) tensor_set(mask, 0, j, 0, padding[j]);
  }
  cumega_attention_scores_io io;
  cumega_attention_scores_io_init(&io, sizeof io);
  io.scores = io.output = dl(row);
  io.key_padding_mask = dl(mask);
  io.nan_rows = nan_rows;
  MUST(ctx, softmax_with(ctx, NULL, &io));
  tensor_free(mask);
  return row;
}

START_TEST(minus_infinity_is_an_exact_zero) {
  test_tensor *row = softmax_of((double[]){1, -INFINITY, 2, -1e4}, 4, 0, NULL);
  ck_assert(tensor_get_4(row, 0, 0, 0, 1) == 0 && tensor_get_4(row, 0, 0, 0, 3) == 0);
  ck_assert(tensor_get_4(row, 0, 0, 0, 0) > 0 && tensor_get_4(row, 0, 0, 0, 2) > 0);
  tensor_free(row);
}
END_TEST

START_TEST(nan_and_infinity_make_the_row_nan_unless_masked) {
  const double bad[] = {NAN, INFINITY};
  for (int which = 0; which < 2; which++) {
    const double scores[] = {1, bad[which], -INFINITY, 3};
    test_tensor *row = softmax_of(scores, 4, 0, NULL);
    for (int j = 0; j < 4; j++) ck_assert(isnan(tensor_get_4(row, 0, 0, 0, j)));
    tensor_free(row);
    row = softmax_of(scores, 4, 0, (unsigned char[]){0, 1, 0, 0});
    ck_assert(tensor_get_4(row, 0, 0, 0, 1) == 0 && tensor_get_4(row, 0, 0, 0, 3) > 0.8);
    tensor_free(row);
  }
  test_tensor *all = softmax_of((double[]){NAN, NAN, -INFINITY}, 3, 0, NULL);
  for (int j = 0; j < 3; j++) ck_assert(isnan(tensor_get_4(all, 0, 0, 0, j)));
  tensor_free(all);
}
END_TEST

/* Rows of several groups of the sum. One group has no numbers: all -inf, and NaN in one case. */
START_TEST(a_group_without_a_number_is_left_out_or_makes_the_row_nan) {
  enum { COUNT = 9000, BEGIN = 4096, END = 8192 };
  static double scores[COUNT];
  for (int with_nan = 0; with_nan < 2; with_nan++) {
    for (int j = 0; j < COUNT; j++) scores[j] = j >= BEGIN && j < END ? -INFINITY : 0;
    if (with_nan) scores[5000] = NAN;
    test_tensor *row = softmax_of(scores, COUNT, 0, NULL);
    for (int j = 0; j < COUNT; j++) {
      const double w = tensor_get_4(row, 0, 0, 0, j);
      const double expected = scores[j] == 0 ? 1.0f / (float)(COUNT - (END - BEGIN)) : 0;
      ck_assert(with_nan ? isnan(w) : w == expected);
    }
    tensor_free(row);
  }
}
END_TEST

START_TEST(a_row_without_a_number_is_zero_or_nan) {
  const double none[] = {-INFINITY, -INFINITY, -INFINITY};
  for (int nan_rows = 0; nan_rows < 2; nan_rows++) {
    test_tensor *row = softmax_of(none, 3, nan_rows, NULL);
    for (int j = 0; j < 3; j++) {
      const double w = tensor_get_4(row, 0, 0, 0, j);
      ck_assert(nan_rows ? isnan(w) : w == 0);
    }
    tensor_free(row);
  }
  static double many[9000];
  for (int j = 0; j < 9000; j++) many[j] = -INFINITY;
  for (int nan_rows = 0; nan_rows < 2; nan_rows++) {
    test_tensor *row = softmax_of(many, 9000, nan_rows, NULL);
    for (int j = 0; j < 9000; j++) {
      const double w = tensor_get_4(row, 0, 0, 0, j);
      ck_assert(nan_rows ? isnan(w) : w == 0);
    }
    tensor_free(row);
  }
}
END_TEST

/* ESPnet's rule for sequences whose keys are all padding. */
START_TEST(a_sequence_whose_keys_are_all_masked_counts_as_unmasked) {
  const double scores[] = {0.5, -1, 2};
  test_tensor *plain = softmax_of(scores, 3, 0, NULL);
  test_tensor *masked = softmax_of(scores, 3, 0, (unsigned char[]){1, 1, 1});
  for (int j = 0; j < 3; j++)
    ck_assert_uint_eq(tensor_bits_4(plain, 0, 0, 0, j), tensor_bits_4(masked, 0, 0, 0, j));
  tensor_free(plain);
  tensor_free(masked);
}
END_TEST

START_TEST(a_mask_of_four_dimensions_is_each_sequences_own) {
  test_tensor *row = tensor_new(cumega_float32, 4, (int64_t[]){2, 1, 1, 2}, NULL);
  test_tensor *mask = tensor_new(cumega_bool, 4, (int64_t[]){2, 1, 1, 2}, NULL);
  cumega_attention_scores_io io;
  cumega_attention_scores_io_init(&io, sizeof io);
  io.scores = io.output = dl(row);
  io.attention_mask = dl(mask);
  for (int b = 0; b < 2; b++)
    for (int j = 0; j < 2; j++) {
      tensor_set_4(row, b, 0, 0, j, 1);
      tensor_set_4(mask, b, 0, 0, j, b == j);
    }
  MUST(ctx, softmax_with(ctx, NULL, &io));
  for (int b = 0; b < 2; b++)
    for (int j = 0; j < 2; j++) ck_assert(tensor_get_4(row, b, 0, 0, j) == (b != j));
  tensor_free(row);
  tensor_free(mask);
}
END_TEST

/* Wherever the only unmasked key is. */
START_TEST(one_key_that_is_not_masked_has_all_the_weight) {
  double scores[200] = {0};
  unsigned char padding[200];
  for (int key = 0; key < 200; key++) {
    memset(padding, 1, sizeof padding);
    padding[key] = 0;
    test_tensor *row = softmax_of(scores, 200, 0, padding);
    for (int j = 0; j < 200; j++) ck_assert(tensor_get_4(row, 0, 0, 0, j) == (j == key));
    tensor_free(row);
  }
}
END_TEST

/* n weights with a relative error of about 30 u each (the bound of check_attention_accuracy.c),
 * and stores of u each. */
START_TEST(rows_sum_to_one) {
  static const int64_t lengths[] = {1, 2, 33, 1000, 4097, 20000};
  for (int n = 0; n < 6; n++)
    for (int type = 0; type < 4; type += 3) {
      position_recipe r = {.dtype = types[type], .B = 1, .H = 1, .Lq = 1, .Lk = lengths[n]};
      r.bias = ROTARY;
      r.scale = 1;
      r.seed = (uint64_t)n;
      position_problem *p = position_problem_new(&r);
      const position_way plain = {0};
      uint64_t *bits = memory_new(8 * position_count(p));
      double sum = 0;
      position_problem_run(p, &plain, ctx, 1, bits);
      for (int64_t j = 0; j < r.Lk; j++) sum += position_value(r.dtype, bits[j]);
      ck_assert_double_le(fabs(sum - 1),
                          64 * (type == 3 ? 0x1p-53 : 0x1p-24) + (double)r.Lk * 0x1p-53);
      position_problem_free(p);
      free(bits);
    }
}
END_TEST

START_TEST(positions_past_the_lengths_are_zero_and_minus_infinity) {
  test_tensor *scores = tensor_new(cumega_float32, 4, (int64_t[]){2, 1, 3, 4}, NULL);
  test_tensor *queries = tensor_of_int64(2, (int64_t[]){2, 0});
  test_tensor *keys = tensor_of_int64(2, (int64_t[]){3, 0});
  cumega_attention_scores_io io;
  cumega_attention_scores_io_init(&io, sizeof io);
  io.scores = io.output = dl(scores); /* NaN everywhere past the lengths */
  io.query_lengths = dl(queries);
  io.key_lengths = dl(keys);
  for (int softmax = 0; softmax < 2; softmax++) {
    memset(tensor_at(scores, 0, 0, 0), 0xff, 4 * 24);
    for (int i = 0; i < 2; i++)
      for (int j = 0; j < 3; j++) tensor_set_4(scores, 0, 0, i, j, 0);
    if (softmax)
      MUST(ctx, softmax_with(ctx, NULL, &io));
    else
      MUST(ctx, scores_with(ctx, NULL, &io));
    for (int b = 0; b < 2; b++)
      for (int i = 0; i < 3; i++)
        for (int j = 0; j < 4; j++) {
          const double inside = softmax ? (double)(1.0f / 3.0f) : 0;
          const double behind = softmax ? 0 : -INFINITY;
          ck_assert(tensor_get_4(scores, b, 0, i, j) ==
                    (b == 0 && i < 2 && j < 3 ? inside : behind));
        }
  }
  tensor_free(scores);
  tensor_free(queries);
  tensor_free(keys);
}
END_TEST

START_TEST(empty_scores_succeed_and_make_no_table) {
  static const int64_t shapes[][4] = {{0, 2, 3, 4}, {2, 0, 3, 4}, {2, 2, 0, 4}, {2, 2, 0, 0}};
  cumega_position_bias *bias = new_bias(ROTARY, 1);
  const int64_t before = bytes_held(ctx);
  for (int n = 0; n < 4; n++) {
    test_tensor *scores = tensor_new(cumega_float32, 4, shapes[n], NULL);
    cumega_attention_scores_io io;
    cumega_attention_scores_io_init(&io, sizeof io);
    io.scores = io.output = dl(scores);
    MUST(ctx, softmax_with(ctx, bias, &io));
    MUST(ctx, scores_with(ctx, bias, &io));
    tensor_free(scores);
  }
  test_tensor *matrix = matrix_of(bias, cumega_float32, 0);
  tensor_free(matrix);
  ck_assert_int_eq(bytes_held(ctx), before);
  cumega_position_bias_destroy(bias);
}
END_TEST

/* A table made before the parameters changed would be noticed. */
START_TEST(new_parameters_make_new_tables) {
  for (int kind = RELATIVE; kind <= ROTARY; kind++) {
    cumega_position_bias *bias = new_bias(kind, 5), *fresh = new_bias(kind, 6);
    test_tensor *old = matrix_of(bias, cumega_float32, 20);
    MUST(ctx, cumega_position_bias_reset_parameters(ctx, bias, 0, 1, 6));
    test_tensor *found = matrix_of(bias, cumega_float32, 20);
    test_tensor *right = matrix_of(fresh, cumega_float32, 20);
    ck_assert_uint_ne(tensor_bits(old, 3, 7, 0), tensor_bits(found, 3, 7, 0));
    for (int64_t i = 0; i < 20; i++)
      for (int64_t j = 0; j < 20; j++)
        ck_assert_uint_eq(tensor_bits(found, i, j, 0), tensor_bits(right, i, j, 0));
    tensor_free(old);
    tensor_free(found);
    tensor_free(right);
    cumega_position_bias_destroy(bias);
    cumega_position_bias_destroy(fresh);
  }
}
END_TEST

START_TEST(parameters_come_back_as_they_were_given) {
  enum { SIZE = 6 };
  uint64_t seed = 9;
  for (int type = 0; type < 4; type++) {
    test_tensor *alpha = tensor_new_2(types[type], 1, SIZE),
                *beta = tensor_new_1(types[type], SIZE);
    test_tensor *a = tensor_new_1(types[type], SIZE), *b = tensor_new_2(types[type], 1, SIZE);
    for (int i = 0; i < SIZE; i++) {
      tensor_set(alpha, 0, i, 0, random_noise(&seed));
      tensor_set(beta, i, 0, 0, random_noise(&seed));
    }
    cumega_position_bias *bias = NULL;
    MUST(ctx, bias_rotary(ctx, SIZE, 4, NULL, NULL, &bias));
    cumega_position_bias_parameters p = {.struct_size = sizeof p};
    p.alpha = dl(alpha);
    p.beta = dl(beta);
    MUST(ctx, cumega_position_bias_set_parameters(ctx, bias, &p));
    p.alpha = dl(a);
    p.beta = dl(b);
    MUST(ctx, cumega_position_bias_get_parameters(ctx, bias, &p));
    for (int i = 0; i < SIZE; i++) {
      ck_assert_uint_eq(tensor_bits(alpha, 0, i, 0), tensor_bits(a, i, 0, 0));
      ck_assert_uint_eq(tensor_bits(beta, i, 0, 0), tensor_bits(b, 0, i, 0));
    }
    cumega_position_bias_destroy(bias);
    tensor_free(alpha);
    tensor_free(beta);
    tensor_free(a);
    tensor_free(b);
  }
}
END_TEST

/* normal(val, std): for 4,095 numbers, the mean and the deviation are both within 5 standard
 * errors. */
START_TEST(reset_draws_normal_numbers_by_seed) {
  enum { COUNT = 4095 };
  cumega_position_bias *bias = NULL;
  test_tensor *w = tensor_new_1(cumega_float64, COUNT),
              *again = tensor_new_1(cumega_float64, COUNT);
  MUST(ctx, bias_relative(ctx, 2048, NULL, &bias));
  cumega_position_bias_parameters p = {.struct_size = sizeof p};
  p.relative_position_bias = dl(w);
  MUST(ctx, cumega_position_bias_get_parameters(ctx, bias, &p));
  double sum = 0, squares = 0;
  for (int i = 0; i < COUNT; i++) {
    const double x = tensor_get(w, i, 0, 0);
    sum += x;
    squares += x * x;
    ck_assert(x == (double)(float)x);
  }
  ck_assert_double_le(fabs(sum / COUNT), 5 * 0.02 / 64);
  ck_assert_double_le(fabs(sqrt(squares / COUNT) - 0.02), 5 * 0.02 / 90);
  MUST(ctx, cumega_position_bias_reset_parameters(ctx, bias, 0, 0.02, 0));
  p.relative_position_bias = dl(again);
  MUST(ctx, cumega_position_bias_get_parameters(ctx, bias, &p));
  for (int i = 0; i < COUNT; i++)
    ck_assert_uint_eq(tensor_bits(w, i, 0, 0), tensor_bits(again, i, 0, 0));
  MUST(ctx, cumega_position_bias_reset_parameters(ctx, bias, 0, 0.02, 1));
  MUST(ctx, cumega_position_bias_get_parameters(ctx, bias, &p));
  ck_assert_uint_ne(tensor_bits(w, 0, 0, 0), tensor_bits(again, 0, 0, 0));
  MUST(ctx, cumega_position_bias_reset_parameters(ctx, bias, 3, 0, 1));
  MUST(ctx, cumega_position_bias_get_parameters(ctx, bias, &p));
  for (int i = 0; i < COUNT; i++) ck_assert(tensor_get(again, i, 0, 0) == 3);
  tensor_free(w);
  tensor_free(again);
  cumega_position_bias_destroy(bias);
}
END_TEST

/* Each round leaves behind two tables of destroyed biases; the context keeps 64 in all. */
START_TEST(tables_of_biases_that_are_gone_do_not_pile_up) {
  int64_t full = 0;
  for (int i = 0; i < 40; i++) {
    cumega_position_bias *bias = new_bias(ROTARY, 1);
    MUST(ctx, cumega_position_bias_prepare(ctx, bias, 1000));
    MUST(ctx, cumega_position_bias_prepare(ctx, bias, 5000));
    MUST(ctx, cumega_position_bias_reset_parameters(ctx, bias, 0, 1, 2));
    MUST(ctx, cumega_position_bias_prepare(ctx, bias, 5000));
    cumega_position_bias_destroy(bias);
    if (i == 31) full = bytes_held(ctx);
  }
  ck_assert_int_eq(bytes_held(ctx), full);
}
END_TEST

/* What a context of the suite's device allocates shows whether prepare found a table. */
START_TEST(the_sixty_fifth_table_takes_the_place_of_the_one_used_longest_ago) {
  enum { KEPT = 64 };
  static counting_allocator ledger;
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  cumega_context *own = NULL;
  cumega_position_bias *biases[KEPT + 1];
  options.device = device_of_tests();
  options.allocator = counting_allocator_of(&ledger);
  MUST(NULL, cumega_context_create(&options, &own));
  for (int i = 0; i <= KEPT; i++) MUST(own, bias_rotary(own, 4, 8, NULL, NULL, &biases[i]));
  for (int i = 0; i < KEPT; i++) MUST(own, cumega_position_bias_prepare(own, biases[i], 100));
  int64_t calls = ledger.calls;
  const int64_t held = bytes_held(own);
  for (int i = 0; i < KEPT; i++) MUST(own, cumega_position_bias_prepare(own, biases[i], 100));
  MUST(own, cumega_position_bias_prepare(own, biases[0], 256)); /* the table is that long */
  ck_assert_int_eq(ledger.calls, calls);
  MUST(own, cumega_position_bias_prepare(own, biases[KEPT], 100));
  ck_assert_int_gt(ledger.calls, calls);
  ck_assert_int_eq(bytes_held(own), held);
  calls = ledger.calls;
  for (int i = 2; i <= KEPT; i++) MUST(own, cumega_position_bias_prepare(own, biases[i], 100));
  MUST(own, cumega_position_bias_prepare(own, biases[0], 100));
  ck_assert_int_eq(ledger.calls, calls);
  MUST(own, cumega_position_bias_prepare(own, biases[1], 100)); /* it was used longest ago */
  ck_assert_int_gt(ledger.calls, calls);
  ck_assert_int_eq(bytes_held(own), held);
  for (int i = 0; i <= KEPT; i++) cumega_position_bias_destroy(biases[i]);
  cumega_context_destroy(own);
  ck_assert_int_eq(ledger.blocks, 0);
}
END_TEST

/* While other runs use the same context, and beyond the table's length. */
START_TEST(a_table_is_made_once_and_found_again) {
  cumega_position_bias *biases[2];
  test_tensor *right[2];
  for (int i = 0; i < 2; i++) {
    biases[i] = new_bias(ROTARY, (uint64_t)(7 + i));
    right[i] = matrix_of(biases[i], cumega_float32, 20);
  }
  const int64_t before = bytes_held(ctx);
  for (int i = 0; i < 2; i++) {
    test_tensor *found = matrix_of(biases[i], cumega_float32, 20);
    for (int j = 0; j < 20; j++)
      ck_assert_uint_eq(tensor_bits(found, 0, j, 0), tensor_bits(right[i], 0, j, 0));
    tensor_free(found);
    tensor_free(right[i]);
  }
  ck_assert_int_eq(bytes_held(ctx), before);
  MUST(ctx, cumega_position_bias_prepare(ctx, biases[0], 257));
  const int64_t longer = bytes_held(ctx);
  ck_assert_int_eq(longer - before, 256 * 2 * 4); /* instead of the shorter one */
  MUST(ctx, cumega_position_bias_prepare(ctx, biases[1], 20));
  ck_assert_int_eq(bytes_held(ctx), longer);
  for (int i = 0; i < 2; i++) cumega_position_bias_destroy(biases[i]);
}
END_TEST

/* A relative bias holds its table; a rotary bias's tables belong to the context. */
START_TEST(a_bias_holds_what_its_kind_needs) {
  static const int64_t positions[] = {1, 2048};
  int64_t held[2][2][2];
  for (int kind = RELATIVE; kind <= ROTARY; kind++)
    for (int wide = 0; wide < 2; wide++)
      for (int i = 0; i < 2; i++) {
        const DLDataType dtype = wide ? cumega_float64 : cumega_float32;
        const int64_t before = bytes_held(ctx);
        cumega_position_bias *bias = NULL;
        if (kind == RELATIVE)
          MUST(ctx, bias_relative_as(dtype, ctx, positions[i], NULL, &bias));
        else
          MUST(ctx, bias_rotary_as(dtype, ctx, 8, positions[i], NULL, NULL, &bias));
        held[kind == ROTARY][wide][i] = bytes_held(ctx) - before;
        cumega_position_bias_destroy(bias);
        ck_assert_int_eq(bytes_held(ctx), before);
      }
  for (int wide = 0; wide < 2; wide++) {
    ck_assert_int_eq(held[0][wide][1] - held[0][wide][0], 4094 * (wide ? 8 : 4));
    ck_assert_int_eq(held[1][wide][0], held[1][wide][1]);
    ck_assert_int_lt(held[1][wide][0], 2048);
  }
}
END_TEST

/* As in a server: reserve and prepare, then run. The ledger counts allocations. */
START_TEST(prepared_runs_allocate_nothing) {
  static counting_allocator ledger;
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  cumega_context *own = NULL;
  cumega_position_bias *bias = NULL;
  int64_t bytes = 0;
  options.allocator = counting_allocator_of(&ledger);
  options.threads = 2;
  MUST(NULL, cumega_context_create(&options, &own));
  MUST(own, bias_rotary(own, 8, 64, NULL, NULL, &bias));
  test_tensor *scores = tensor_new(cumega_float32, 4, (int64_t[]){1, 1, 3, 5000}, NULL);
  memset(tensor_at(scores, 0, 0, 0), 0, 60000);
  cumega_attention_scores_io io;
  cumega_attention_scores_io_init(&io, sizeof io);
  io.scores = io.output = dl(scores);
  MUST(own, scores_size_with(own, bias, &io, &bytes));
  MUST(own, cumega_position_bias_prepare(own, bias, 5000));
  MUST(own, cumega_context_reserve(own, bytes));
  const int64_t before = ledger.calls;
  MUST(own, softmax_with(own, bias, &io));
  MUST(own, scores_with(own, bias, &io));
  ck_assert_int_eq(ledger.calls, before);
  tensor_free(scores);
  cumega_position_bias_destroy(bias);
  cumega_context_destroy(own);
  ck_assert_int_eq(ledger.blocks, 0);
}
END_TEST

/* One life in which the n-th allocation fails; returns whether all of it succeeded. */
static int live(counting_allocator *ledger, int kind) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  cumega_context *own = NULL;
  cumega_position_bias *bias = NULL;
  float row[300] = {0};
  cumega_tensor t;
  options.allocator = counting_allocator_of(ledger);
  cumega_status status = cumega_context_create(&options, &own);
  if (status == CUMEGA_OK)
    status = kind == ROTARY ? bias_rotary(own, 8, 64, NULL, NULL, &bias)
                            : bias_relative(own, 300, NULL, &bias);
  if (status == CUMEGA_OK) status = cumega_position_bias_prepare(own, bias, 100);
  cumega_attention_scores_io io;
  cumega_attention_scores_io_init(&io, sizeof io);
  io.scores = io.output =
      cumega_tensor_init(&t, row, cumega_cpu, cumega_float32, 4, (int64_t[]){1, 1, 1, 300});
  if (status == CUMEGA_OK) status = softmax_with(own, bias, &io);
  if (status == CUMEGA_OK) status = cumega_position_bias_reset_parameters(own, bias, 0, 1, 1);
  if (status == CUMEGA_OK) status = softmax_with(own, bias, &io);
  ck_assert(status == CUMEGA_OK || status == CUMEGA_ERROR_RESOURCE);
  cumega_context_destroy(own); /* the bias may outlive it */
  cumega_position_bias_destroy(bias);
  return status == CUMEGA_OK;
}

START_TEST(failing_allocations_leak_nothing) {
  for (int kind = RELATIVE; kind <= ROTARY; kind++) {
    int failed = 0;
    for (int64_t n = 1;; n++) {
      counting_allocator ledger = {.failing_call = n};
      const int whole = live(&ledger, kind);
      ck_assert_int_eq(ledger.blocks, 0);
      if (whole) break;
      failed++;
    }
    ck_assert_int_ge(failed, 5);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("position_properties");
  TCase *tests = add_case(suite, "properties", 300);
  tcase_add_checked_fixture(tests, begin, end);
  tcase_add_test(tests, a_bias_depends_on_the_distance_alone);
  tcase_add_test(tests, a_shorter_matrix_is_a_corner_of_a_longer_one);
  tcase_add_test(tests, minus_infinity_is_an_exact_zero);
  tcase_add_test(tests, nan_and_infinity_make_the_row_nan_unless_masked);
  tcase_add_test(tests, a_group_without_a_number_is_left_out_or_makes_the_row_nan);
  tcase_add_test(tests, a_row_without_a_number_is_zero_or_nan);
  tcase_add_test(tests, a_sequence_whose_keys_are_all_masked_counts_as_unmasked);
  tcase_add_test(tests, a_mask_of_four_dimensions_is_each_sequences_own);
  tcase_add_test(tests, one_key_that_is_not_masked_has_all_the_weight);
  tcase_add_test(tests, rows_sum_to_one);
  tcase_add_test(tests, positions_past_the_lengths_are_zero_and_minus_infinity);
  tcase_add_test(tests, empty_scores_succeed_and_make_no_table);
  tcase_add_test(tests, new_parameters_make_new_tables);
  tcase_add_test(tests, parameters_come_back_as_they_were_given);
  tcase_add_test(tests, reset_draws_normal_numbers_by_seed);
  tcase_add_test(tests, tables_of_biases_that_are_gone_do_not_pile_up);
  tcase_add_test(tests, the_sixty_fifth_table_takes_the_place_of_the_one_used_longest_ago);
  tcase_add_test(tests, a_table_is_made_once_and_found_again);
  tcase_add_test(tests, a_bias_holds_what_its_kind_needs);
  tcase_add_test(tests, prepared_runs_allocate_nothing);
  tcase_add_test(tests, failing_allocations_leak_nothing);
  return run_suite(suite);
}
