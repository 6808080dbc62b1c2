/* Outputs so large that whole vectors are written past the caches. The bits are those of an
 * unaligned output, which cannot be written that way, and those of a run in x's memory. */
#include "ema_harness.h"
#include "runner.h"

/* 16.6 MiB, above the 16 MiB from which outputs are streamed; 496 channels are whole vectors at
 * every CPU level, but not whole tiles. */
enum { L = 1100, B = 8, D = 496 };

static const test_layout one_off = {.shift = 1};

static int same_bits(const test_tensor *a, const test_tensor *b) {
  return memcmp(tensor_at(a, 0, 0, 0), tensor_at(b, 0, 0, 0), sizeof(float) * L * B * D) == 0;
}

static void compare(const char *level, int threads, cumega_activation activation, int64_t heads,
                    int is_masked) {
  const int64_t shape[] = {L, B, D};
  cumega_context *ctx = context_of_level(level, threads);
  if (ctx == NULL) return;
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, D);
  config.activation = activation;
  config.num_heads = heads;
  cumega_ema *ema = NULL;
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
  test_tensor *x = tensor_new_3(cumega_float32, L, B, D);
  test_tensor *streamed = tensor_new_3(cumega_float32, L, B, D);
  test_tensor *stored = tensor_new(cumega_float32, 3, shape, &one_off);
  test_tensor *mask = tensor_new_2(cumega_uint8, B, L);
  uint64_t seed = 11;
  float *values = tensor_at(x, 0, 0, 0);
  for (int64_t i = 0; i < (int64_t)L * B * D; i++) values[i] = (float)random_unit(&seed) - 0.5f;
  for (int64_t i = 0; i < (int64_t)B * L; i++)
    tensor_set(mask, i / L, i % L, 0, random_below(&seed, 5) == 0);
  cumega_ema_io io = io_of(x, streamed);
  if (is_masked) io.mask = dl(mask);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  io.y = dl(stored);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  io.y = dl(x);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  ck_assert_msg(same_bits(streamed, stored) && same_bits(x, stored),
                "%s, %d threads, %s, %d heads: bits differ", level, threads,
                cumega_activation_name(activation), (int)heads);
  ck_assert(tensor_gaps_hold(streamed) && tensor_gaps_hold(stored) && tensor_gaps_hold(x));
  test_tensor *all[] = {x, streamed, stored, mask};
  for (int i = 0; i < 4; i++) tensor_free(all[i]);
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
}

START_TEST(an_output_past_the_caches_has_the_same_bits) {
  const char *level = cpu_levels[_i];
  compare(level, 1, CUMEGA_ACTIVATION_RELU, 4, 0);
  compare(level, 2, CUMEGA_ACTIVATION_RELU, 2, 1);
  compare(level, 1, CUMEGA_ACTIVATION_SWISH, 4, 1);
  compare(level, 2, CUMEGA_ACTIVATION_IDENTITY, 3, 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ema_stream");
  TCase *tests = add_case(suite, "stream", 600);
  tcase_add_loop_test(tests, an_output_past_the_caches_has_the_same_bits, 0, CPU_LEVELS);
  return run_suite(suite);
}
