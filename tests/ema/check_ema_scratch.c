/* The memory of runs: it is as large as announced, and can be allocated beforehand. */
#include <inttypes.h>
#include "ema_harness.h"
#include "runner.h"

enum { L = 6, B = 2, D = 3 };

static const DLDataType types[] = {
    {kDLFloat, 32, 1}, {kDLFloat, 16, 1}, {kDLBfloat, 16, 1}, {kDLFloat, 64, 1}};

START_TEST(a_reserved_context_allocates_nothing_in_runs) {
  for (int type = 0; type < 4; type++)
    for (int threads = 1; threads < 4; threads++)
      for (int truncated = 0; truncated < 2; truncated++) {
        cumega_context *own = context_of_level(NULL, threads);
        cumega_ema_config config;
        cumega_ema_config_init(&config, sizeof config, 70);
        if (types[type].bits == 64) config.state_dtype = cumega_float64;
        if (truncated) config.truncation_length = 5;
        cumega_ema *ema;
        MUST(own, cumega_ema_create(own, &config, NULL, &ema));
        test_tensor *x = tensor_new_3(types[type], 30, 3, 70),
                    *y = tensor_new_3(types[type], 30, 3, 70);
        test_tensor *lengths = tensor_of_int64(3, (int64_t[]){30, 0, 17});
        cumega_ema_io io = io_of(x, y);
        io.sequence_lengths = dl(lengths);
        int64_t bytes = -1;
        MUST(own, cumega_ema_workspace_size(own, ema, &io, &bytes));
        ck_assert_int_ge(bytes, 0);
        MUST(own, cumega_context_reserve(own, bytes));
        cumega_statistics before = {.struct_size = sizeof before}, after = before;
        MUST(own, cumega_context_statistics(own, &before));
        for (int i = 0; i < 3; i++) MUST(own, cumega_ema_forward(own, ema, &io));
        MUST(own, cumega_context_statistics(own, &after));
        ck_assert_int_eq(after.bytes_held, before.bytes_held);
        ck_assert_int_eq(after.bytes_peak, before.bytes_peak);
        ck_assert_int_eq(after.runs, before.runs + 3);
        cumega_ema_destroy(ema);
        cumega_context_destroy(own);
        tensor_free(x);
        tensor_free(y);
        tensor_free(lengths);
      }
}
END_TEST

/* Scratch of float32 sequences (L, B, D) of four heads. */
static int64_t scratch_of(int threads, int64_t steps, int64_t sequences, int64_t channels) {
  cumega_context *ctx = context_of_level(NULL, threads);
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, channels);
  cumega_ema *ema;
  int64_t bytes = -1;
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
  test_tensor *x = tensor_new_3(cumega_float32, steps, sequences, channels);
  const cumega_ema_io io = io_of(x, x);
  MUST(ctx, cumega_ema_workspace_size(ctx, ema, &io, &bytes));
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
  tensor_free(x);
  return bytes;
}

/* Each CPU thread holds the states of the channels of one item. Items are smaller if there are
 * enough steps for several threads: a thread pays off from 32,768 steps of channels and heads on,
 * and gets four items. */
START_TEST(threads_have_the_states_of_as_many_channels_as_an_item) {
  static const struct {
    int64_t steps, sequences;
    int threads;
    int64_t channels;
  } rows[] = {{15, 1, 4, 512},   {16, 1, 4, 256},    {31, 1, 4, 256},
              {32, 1, 4, 128},   {4000, 1, 4, 64},   {4000, 5, 4, 128},
              {4000, 8, 4, 256}, {4000, 16, 4, 512}, {4000, 1, 1, 512}};
  const int64_t state = 4 * sizeof(float), others = scratch_of(1, 1, 1, 64) - 64 * state;
  ck_assert_int_ge(others, 0);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    ck_assert_int_eq(scratch_of(rows[i].threads, rows[i].steps, rows[i].sequences, 512),
                     rows[i].threads * (rows[i].channels * state + others));
}
END_TEST

typedef struct sliced_run {
  cumega_ema_algorithm algorithm;
  int threads; /* for a CPU */
  int64_t steps, sequences;
  int is_truncated, in_place;
  int64_t slices; /* for each sequence */
  int64_t heads;
} sliced_run;

/* The scratch for sequences of 16 channels, all of whose heads have q = 0.75. */
static int64_t scratch_of_run(const sliced_run *r, cumega_ema_algorithm algorithm) {
  cumega_context *ctx = r->threads ? context_of_level(NULL, r->threads) : context_new();
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 16);
  cumega_ema *ema;
  int64_t bytes = -1;
  if (r->is_truncated) config.truncation_length = 9;
  config.num_heads = r->heads;
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
  MUST(ctx, cumega_ema_reset_parameters(ctx, ema, 0, 0, 0, 1));
  test_tensor *x = tensor_new_3(cumega_float32, r->steps, r->sequences, 16),
              *y = tensor_new_3(cumega_float32, r->steps, r->sequences, 16);
  cumega_ema_io io = io_of(x, r->in_place ? x : y);
  io.algorithm = algorithm;
  MUST(ctx, cumega_ema_workspace_size(ctx, ema, &io, &bytes));
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
  tensor_free(x);
  tensor_free(y);
  return bytes;
}

static void must_have_slices(const sliced_run *rows, size_t count) {
  for (size_t i = 0; i < count; i++) {
    const int64_t states = 2 * 16 * rows[i].heads * (int64_t)sizeof(float);
    const int64_t expected = rows[i].slices * rows[i].sequences * states;
    const int64_t found = scratch_of_run(&rows[i], rows[i].algorithm) -
                          scratch_of_run(&rows[i], CUMEGA_EMA_RECURRENT);
    ck_assert_msg(found == expected, "row %zu has %" PRId64 " bytes, expected %" PRId64, i, found,
                  expected);
  }
}

/* Each slice has two states: the one it began in and the one it ended in. It takes a warm-up of
 * 145 steps here; RECURRENT rounds that up to 192 and allows it to be at most a quarter of a
 * slice. A CPU takes four slices for each of several threads, which 131,072 steps of channels and
 * heads justify. */
START_TEST(slices_of_time_have_two_states_each) {
  static const sliced_run rows[] = {
      {CUMEGA_EMA_SLICED, 1, 4096, 1, 0, 0, 2, 4},  {CUMEGA_EMA_SLICED, 2, 4096, 1, 0, 0, 8, 4},
      {CUMEGA_EMA_SLICED, 4, 4096, 1, 0, 0, 16, 4}, {CUMEGA_EMA_SLICED, 4, 2048, 1, 0, 0, 15, 4},
      {CUMEGA_EMA_SLICED, 4, 2047, 1, 0, 0, 2, 4},  {CUMEGA_EMA_SLICED, 4, 250, 1, 0, 0, 2, 4},
      {CUMEGA_EMA_SLICED, 4, 2, 1, 0, 0, 2, 4},     {CUMEGA_EMA_SLICED, 4, 1, 1, 0, 0, 0, 4},
      {CUMEGA_EMA_SLICED, 4, 4096, 7, 0, 0, 2, 4},  {CUMEGA_EMA_SLICED, 4, 4096, 8, 0, 0, 2, 4},
      {CUMEGA_EMA_DEFAULT, 4, 4096, 1, 0, 0, 6, 4}, {CUMEGA_EMA_DEFAULT, 4, 4096, 1, 0, 1, 0, 4},
      {CUMEGA_EMA_DEFAULT, 1, 4096, 1, 0, 0, 0, 4}, {CUMEGA_EMA_DEFAULT, 4, 16000, 1, 0, 0, 16, 4},
      {CUMEGA_EMA_DEFAULT, 4, 2048, 1, 0, 0, 3, 4}, {CUMEGA_EMA_DEFAULT, 4, 2047, 1, 0, 0, 0, 4},
      {CUMEGA_EMA_DEFAULT, 4, 4096, 7, 0, 0, 2, 4}, {CUMEGA_EMA_DEFAULT, 4, 4096, 8, 0, 0, 0, 4},
      {CUMEGA_EMA_DEFAULT, 4, 4096, 1, 1, 0, 0, 4}};
  must_have_slices(rows, sizeof rows / sizeof *rows);
}
END_TEST

/* A GPU wants 16,384 channels over all slices, RECURRENT wants 4,096 steps, and both want at most
 * 16 heads. */
START_TEST(slices_of_time_are_many_on_a_gpu) {
  static const sliced_run rows[] = {{CUMEGA_EMA_SLICED, 0, 4096, 1, 0, 0, 29, 4},
                                    {CUMEGA_EMA_SLICED, 0, 4096, 64, 0, 0, 16, 4},
                                    {CUMEGA_EMA_SLICED, 0, 250, 1, 0, 0, 2, 4},
                                    {CUMEGA_EMA_SLICED, 0, 1, 1, 0, 0, 0, 4},
                                    {CUMEGA_EMA_SLICED, 0, 60, 1024, 0, 0, 2, 4},
                                    {CUMEGA_EMA_SLICED, 0, 60, 1025, 0, 0, 2, 4},
                                    {CUMEGA_EMA_DEFAULT, 0, 4096, 1, 0, 0, 6, 4},
                                    {CUMEGA_EMA_DEFAULT, 0, 4096, 1, 0, 1, 0, 4},
                                    {CUMEGA_EMA_DEFAULT, 0, 4095, 1, 0, 0, 0, 4},
                                    {CUMEGA_EMA_DEFAULT, 0, 4096, 1, 1, 0, 0, 4},
                                    {CUMEGA_EMA_DEFAULT, 0, 4096, 1, 0, 0, 0, 17},
                                    {CUMEGA_EMA_FASTEST, 0, 8192, 1, 1, 0, 0, 4},
                                    {CUMEGA_EMA_FASTEST, 0, 8192, 1, 0, 0, 11, 4},
                                    {CUMEGA_EMA_FASTEST, 0, 8192, 1, 0, 0, 0, 17}};
  if (device_is_cuda()) must_have_slices(rows, sizeof rows / sizeof *rows);
}
END_TEST

START_TEST(a_run_of_no_steps_that_keeps_no_state_takes_no_memory) {
  cumega_context *ctx = context_new();
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, D);
  cumega_ema *ema;
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
  test_tensor *x = tensor_new_3(cumega_float32, 0, B, D);
  const cumega_ema_io io = io_of(x, x);
  const int64_t held = bytes_held(ctx);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  ck_assert_int_eq(bytes_held(ctx), held);
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
  tensor_free(x);
}
END_TEST

/* Many heads and slices need scratch on every device, and FFT plans on CUDA. */
START_TEST(a_prepared_run_allocates_nothing) {
  static const struct {
    cumega_ema_algorithm algorithm;
    int64_t heads;
  } rows[] = {{CUMEGA_EMA_DEFAULT, 40}, {CUMEGA_EMA_SLICED, 4}, {CUMEGA_EMA_FFT, 4}};
  for (int i = 0; i < (device_is_cuda() ? 3 : 2); i++) {
    cumega_context *ctx = context_new();
    cumega_ema_config config;
    cumega_ema_config_init(&config, sizeof config, D);
    config.num_heads = rows[i].heads;
    cumega_ema *ema = NULL;
    MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
    test_tensor *x = tensor_new_3(cumega_float32, L, B, D),
                *y = tensor_new_3(cumega_float32, L, B, D);
    for (int j = 0; j < L * B * D; j++) tensor_set(x, j / (B * D), j / D % B, j % D, 1);
    cumega_ema_io io = io_of(x, y);
    io.algorithm = rows[i].algorithm;
    staging s;
    const int staged = staging_begin(&s, ctx);
    cumega_ema_io placed = io;
    if (staged) {
      const DLTensor *to = io.y;
      staging_add(&s, &placed.x);
      staging_add(&s, &to);
      placed.y = (DLTensor *)(uintptr_t)to;
      staging_there(&s);
    }
    MUST(ctx, cumega_ema_prepare(ctx, ema, &placed));
    if (staged) staging_back(&s);
    const int64_t held = bytes_held(ctx);
    MUST(ctx, cumega_ema_forward(ctx, ema, &io));
    ck_assert_int_eq(bytes_held(ctx), held);
    cumega_ema_destroy(ema);
    tensor_free(x);
    tensor_free(y);
    cumega_context_destroy(ctx);
  }
}
END_TEST

/* A CPU checks whether a pool's row has two writers, in scratch that was reserved; without slots
 * it checks none. A GPU does not check. */
START_TEST(scratch_is_for_rows_that_slots_name) {
  const int64_t rows = INT64_C(1) << 20;
  cumega_context *ctx = context_new();
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 1);
  config.num_heads = 1;
  cumega_ema *ema;
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &ema));
  test_tensor *pool = tensor_new_3(cumega_float32, rows, 1, 1);
  test_tensor *many = tensor_new_3(cumega_float32, 1, rows, 1),
              *one = tensor_new_3(cumega_float32, 1, 1, 1);
  test_tensor *y = tensor_new_3(cumega_float32, 1, rows, 1),
              *slots = tensor_new_1(cumega_int64, 1);
  cumega_ema_io io = io_of(one, y);
  int64_t bytes = -1;
  tensor_set(slots, 0, 0, 0, (double)rows - 1);
  tensor_set(one, 0, 0, 0, 1);
  dl(y)->shape[1] = 1;
  io.final_state = dl(pool);
  io.final_slots = dl(slots);
  MUST(ctx, cumega_ema_workspace_size(ctx, ema, &io, &bytes));
  ck_assert_int_eq(bytes >= rows / 8, !device_is_cuda());
  MUST(ctx, cumega_context_reserve(ctx, bytes));
  const int64_t held = bytes_held(ctx);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  if (!device_is_cuda()) ck_assert_int_eq(bytes_held(ctx), held);
  io = io_of(many, y);
  dl(y)->shape[1] = rows;
  io.final_state = dl(pool);
  MUST(ctx, cumega_ema_workspace_size(ctx, ema, &io, &bytes));
  ck_assert_int_lt(bytes, rows / 8);
  test_tensor *all[] = {pool, many, one, y, slots};
  for (int i = 0; i < 5; i++) tensor_free(all[i]);
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ema_scratch");
  TCase *tests = add_case(suite, "scratch", 120);
  tcase_add_test(tests, a_reserved_context_allocates_nothing_in_runs);
  tcase_add_test(tests, threads_have_the_states_of_as_many_channels_as_an_item);
  tcase_add_test(tests, slices_of_time_have_two_states_each);
  tcase_add_test(tests, slices_of_time_are_many_on_a_gpu);
  tcase_add_test(tests, a_run_of_no_steps_that_keeps_no_state_takes_no_memory);
  tcase_add_test(tests, a_prepared_run_allocates_nothing);
  tcase_add_test(tests, scratch_is_for_rows_that_slots_name);
  return run_suite(suite);
}
