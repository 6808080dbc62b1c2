/* The shapes that have fast paths: contiguous channels or contiguous time, 1, 2, 4, 8 or 16
 * heads, and more than a few steps. Around the sizes of tiles, stages and groups, and in every
 * type, the bits are those of the plain way on the CPU, and those of its best level. On CUDA, the
 * kernel for such shapes is the one that ran. */
#include <stdio.h>
#include <string.h>
#include "ema_runs.h"
#include "runner.h"

static const DLDataType types[] = {{kDLFloat, 32, 1}, {kDLFloat, 16, 1}, {kDLBfloat, 16, 1}};
static const int64_t heads[] = {1, 2, 4, 8, 16};
static const cumega_activation kinds[] = {CUMEGA_ACTIVATION_IDENTITY, CUMEGA_ACTIVATION_RELU,
                                          CUMEGA_ACTIVATION_SWISH, CUMEGA_ACTIVATION_TANH};

static void must_agree(const recipe *r, way w, const char *kernel) {
  char reason[400];
  w.level = CPU_LEVELS - 1;
  problem *p = problem_new(r);
  int differs = way_differs(p, &w, reason, sizeof reason);
  ck_assert_msg(!differs, "%s, D %lld N %lld B %lld L %lld, form %d: %s", number_name(r->dtype),
                (long long)r->D, (long long)r->N, (long long)r->B, (long long)r->L, w.form,
                reason);
  if (device_is_cuda() && kernel != NULL)
    ck_assert_msg(strstr(cumega_context_kernels(runs_device()), kernel) != NULL, "%s ran, not %s",
                  cumega_context_kernels(runs_device()), kernel);
  problem_free(p);
}

static recipe recipe_of(int type, int64_t D, int64_t N, int64_t B, int64_t L) {
  recipe r = {.D = D, .N = N, .B = B, .L = L, .dtype = types[type], .state_dtype = cumega_float32};
  r.seed = (uint64_t)(1000 * D + 100 * L + N);
  return r;
}

/* Lengths around a reduction of 4 steps and a stage of 16 (float32) or 32, and several stages. */
START_TEST(every_length_around_a_stage_has_the_cpus_bits) {
  static const int64_t lengths[] = {16, 17, 18, 19, 31, 32, 33, 48, 63, 64, 65, 127, 130, 257};
  for (int type = 0; type < 3; type++)
    for (int i = 0; i < 14; i++) {
      recipe r = recipe_of(type, 16, heads[i % 5], 2, lengths[i]);
      r.activation = kinds[i % 4];
      must_agree(&r, (way){.form = PADDED}, "ema_lanes_kernel");
      must_agree(&r, (way){.form = PACKED}, "ema_lanes_kernel");
    }
}
END_TEST

/* Channels around a 16-byte piece, a warp's 8 and a block's 32. */
START_TEST(every_number_of_channels_has_the_cpus_bits) {
  static const int64_t channels[] = {8, 16, 24, 32, 40, 56, 64, 72, 128, 200};
  for (int type = 0; type < 3; type++)
    for (int i = 0; i < 10; i++) {
      recipe r = recipe_of(type, channels[i], heads[(i + type) % 5], 3, 37);
      r.activation = kinds[(i + type) % 4];
      r.stateful = i % 2;
      must_agree(&r, (way){.form = PADDED, .padding = 5}, "ema_lanes_kernel");
    }
  recipe r = recipe_of(0, 4, 4, 3, 37); /* one piece */
  must_agree(&r, (way){.form = PADDED}, "ema_lanes_kernel");
}
END_TEST

START_TEST(every_number_of_heads_and_activation_has_the_cpus_bits) {
  for (int type = 0; type < 3; type++)
    for (int n = 0; n < 5; n++)
      for (int kind = 0; kind < 10; kind++) {
        recipe r = recipe_of(type, 8, heads[n], 2, 21);
        r.activation = (cumega_activation)kind;
        r.odd_arguments = n % 2;
        r.special = kind % 2;
        must_agree(&r, (way){.form = PADDED}, "ema_lanes_kernel");
      }
}
END_TEST

/* Fewer sequences and groups of channels than there are threads: groups are halved. */
START_TEST(threads_share_the_channels_of_one_sequence) {
  const recipe r = recipe_of(0, 512, 4, 1, 200);
  for (int threads = 1; threads < 4; threads++)
    must_agree(&r, (way){.form = PADDED, .threads = threads}, NULL);
}
END_TEST

/* Rows of y that begin at whole vectors but do not end at one. The memory between rows is not
 * written, not even by stores past the caches (used from 4 KB on in builds that look for
 * mistakes, else from 16 MB). */
START_TEST(gaps_after_rows_are_not_written) {
  enum { D = 12, PITCH = 16, L = 600 };
  const test_layout padded = {.ordered = 1, .order = {0, 1, 2}, .gap = {0, 0, PITCH - D}};
  cumega_context *ctx = context_new();
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, D);
  uint64_t seed = 3;
  test_parameters *parameters = parameters_new(D, config.num_heads);
  parameters_fill(parameters, &seed, 0.1);
  cumega_ema *ema = ema_new(ctx, config, parameters, cumega_float32);
  test_tensor *x = tensor_new_3(cumega_float32, L, 1, D),
              *y = tensor_new_3(cumega_float32, L, 1, D);
  test_tensor *rows = tensor_new(cumega_float32, 3, (int64_t[]){L, 1, D}, &padded);
  for (int64_t i = 0; i < (int64_t)L * D; i++) tensor_set(x, i / D, 0, i % D, random_noise(&seed));
  cumega_ema_io io = io_of(x, y), gapped = io_of(x, rows);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  MUST(ctx, cumega_ema_forward(ctx, ema, &gapped));
  ck_assert(tensor_gaps_hold(rows));
  for (int64_t i = 0; i < (int64_t)L * D; i++)
    ck_assert_uint_eq(tensor_bits(y, i / D, 0, i % D), tensor_bits(rows, i / D, 0, i % D));
  tensor_free(x);
  tensor_free(y);
  tensor_free(rows);
  parameters_free(parameters);
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(in_place_pools_strangers_and_cuts_change_no_bit) {
  for (int type = 0; type < 3; type++)
    for (int n = 0; n < 5; n++) {
      recipe r = recipe_of(type, 72, heads[n], 4, 70);
      r.activation = CUMEGA_ACTIVATION_SWISH;
      r.stateful = 1;
      must_agree(&r, (way){.form = PADDED, .in_place = 1, .padding = 3}, "ema_lanes_kernel");
      must_agree(&r, (way){.form = PADDED, .pool = 1, .strangers = 2, .seed = 5}, NULL);
      must_agree(&r, (way){.form = PACKED, .cut = 33, .state_in_place = 1, .seed = 6}, NULL);
    }
}
END_TEST

/* Some masked steps, and lengths that leave a part of a stage. */
START_TEST(masks_change_no_bit) {
  static const int64_t lengths[] = {16, 19, 33, 64, 101};
  for (int type = 0; type < 3; type++)
    for (int i = 0; i < 5; i++) {
      recipe r = recipe_of(type, 24, heads[i], 3, lengths[i]);
      r.masked = r.stateful = r.special = 1;
      r.activation = kinds[i % 4];
      must_agree(&r, (way){.form = PADDED, .padding = 2}, "ema_lanes_kernel");
      must_agree(&r, (way){.form = ALONE}, NULL);
    }
}
END_TEST

/* Contiguous time in x, in y or in both. If the length is a multiple of 8, every channel begins
 * at a 16-byte piece; otherwise it does not. Tiles have 16 or 32 steps and 8 channels. */
START_TEST(contiguous_time_has_the_cpus_bits) {
  static const int64_t lengths[] = {16, 17, 31, 32, 40, 64, 67, 136, 263};
  static const int64_t channels[] = {1, 7, 8, 9, 16, 31, 33, 40, 65};
  for (int type = 0; type < 3; type++)
    for (int i = 0; i < 9; i++) {
      recipe r = recipe_of(type, channels[(i + type) % 9], heads[(i + type) % 5], 2, lengths[i]);
      way w = {.form = PADDED, .x_layout = CHANNELS_FIRST, .y_layout = CHANNELS_FIRST};
      r.activation = kinds[i % 4];
      r.stateful = i % 2;
      must_agree(&r, w, "ema_tiles_kernel");
      w.in_place = 1;
      must_agree(&r, w, "ema_tiles_kernel");
      w.in_place = 0;
      w.y_layout = BATCH_TIME;
      must_agree(&r, w, "ema_tiles_kernel");
      w.x_layout = STRIDED;
      w.y_layout = CHANNELS_FIRST;
      w.padding = 5;
      must_agree(&r, w, "ema_tiles_kernel");
      r.masked = 1;
      w.x_layout = CHANNELS_FIRST;
      must_agree(&r, w, "ema_tiles_kernel");
    }
}
END_TEST

/* A packed sequence may begin anywhere in its channel's row. */
START_TEST(packed_contiguous_time_has_the_cpus_bits) {
  for (int type = 0; type < 3; type++)
    for (int n = 0; n < 5; n++) {
      recipe r = recipe_of(type, 17, heads[n], 5, 50 + 7 * n);
      way w = {.form = PACKED, .x_layout = CHANNELS_FIRST, .y_layout = CHANNELS_FIRST};
      r.activation = (cumega_activation)(2 * n + type % 2);
      r.special = 1;
      must_agree(&r, w, "ema_tiles_kernel");
      w.misaligned = w.padding = w.pool = 1;
      must_agree(&r, w, "ema_tiles_kernel");
      w.cut = 37;
      w.strangers = 2;
      must_agree(&r, w, NULL);
    }
}
END_TEST

/* 16,384 channels or more over all sequences. Few problems, since each is large. */
START_TEST(very_many_channels_have_the_cpus_bits) {
  static const int64_t lengths[] = {16, 35, 21, 67, 33, 18, 48, 97};
  static const int64_t channels[] = {16384, 4096, 8200, 8192, 2056, 16384, 5464, 4104};
  for (int i = 0; i < 8; i++) {
    const int64_t B = (16384 + channels[i] - 1) / channels[i];
    recipe r = recipe_of(i % 3, channels[i], heads[i % 4], B, lengths[i]);
    way w = {.form = i % 3 == 1 ? PACKED : PADDED, .padding = i % 2, .in_place = i % 5 == 0};
    r.activation = kinds[(i + i / 4) % 4];
    r.masked = i % 4 == 2;
    r.stateful = r.special = i % 2;
    must_agree(&r, w, "ema_channels_kernel");
  }
}
END_TEST

/* 16-byte pieces that are misaligned or incomplete take other paths and give the same bits. */
START_TEST(shapes_next_to_these_have_the_same_bits) {
  for (int type = 0; type < 3; type++) {
    recipe r = recipe_of(type, 66, 4, 2, 40);
    must_agree(&r, (way){.form = PADDED}, "ema_tiles_kernel");
    r.D = 64;
    must_agree(&r, (way){.form = PADDED, .misaligned = 1, .seed = 9}, NULL);
    must_agree(&r, (way){.form = PADDED, .y_layout = CHANNELS_FIRST}, "ema_tiles_kernel");
    r.N = 3;
    must_agree(&r, (way){.form = PADDED}, "ema_recurrent_kernel");
    for (int layout = TIME_BATCH; layout < LAYOUTS; layout++) {
      const way w = {.form = PADDED, .x_layout = layout, .y_layout = layout, .seed = 4};
      r.state_dtype = cumega_float32;
      must_agree(&r, w, NULL);
      r.state_dtype = cumega_float64;
      must_agree(&r, w, NULL);
    }
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ema_contiguous");
  TCase *tests = add_case(suite, "contiguous", 120);
  tcase_add_checked_fixture(tests, NULL, runs_end);
  tcase_add_test(tests, every_length_around_a_stage_has_the_cpus_bits);
  tcase_add_test(tests, every_number_of_channels_has_the_cpus_bits);
  tcase_add_test(tests, every_number_of_heads_and_activation_has_the_cpus_bits);
  tcase_add_test(tests, threads_share_the_channels_of_one_sequence);
  tcase_add_test(tests, gaps_after_rows_are_not_written);
  tcase_add_test(tests, in_place_pools_strangers_and_cuts_change_no_bit);
  tcase_add_test(tests, masks_change_no_bit);
  tcase_add_test(tests, contiguous_time_has_the_cpus_bits);
  tcase_add_test(tests, packed_contiguous_time_has_the_cpus_bits);
  tcase_add_test(tests, very_many_channels_have_the_cpus_bits);
  tcase_add_test(tests, shapes_next_to_these_have_the_same_bits);
  return run_suite(suite);
}
