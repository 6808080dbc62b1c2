/* The payload of a range is the number of bytes in the call's tensors, before any checks; missing
 * tensors and impossible descriptions count as nothing. The profiler is tests/nvtx/recorder.c;
 * check_missing tests the names and ends of ranges. */
#include <stdio.h>
#include <unistd.h>
#include "defaults.h"
#include "harness.h"
#include "runner.h"

static char path[] = "check_nvtx.ranges.XXXXXX";
static cumega_context *ctx;
static cumega_ema *ema;
static cumega_residual *residual, *feedforward;
static FILE *ranges;

static void begin(void) {
  cumega_ema_config e;
  cumega_ema_config_init(&e, sizeof e, 3);
  cumega_residual_config r;
  cumega_residual_config_init(&r, sizeof r, CUMEGA_RESIDUAL_RESIDUAL, 1, 3);
  ctx = context_new();
  MUST(ctx, cumega_ema_create(ctx, &e, NULL, &ema));
  MUST(ctx, cumega_residual_create(ctx, &r, NULL, &residual));
  r.kind = CUMEGA_RESIDUAL_FEEDFORWARD;
  MUST(ctx, cumega_residual_create(ctx, &r, NULL, &feedforward));
  ranges = fopen(path, "r");
  ck_assert_ptr_nonnull(ranges);
  fseek(ranges, 0, SEEK_END);
}

static void end(void) {
  cumega_residual_destroy(feedforward);
  cumega_residual_destroy(residual);
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
  fclose(ranges);
}

/* The payload of the only range since the last look. */
static int64_t payload(void) {
  char line[200], name[100];
  long long bytes = -1;
  clearerr(ranges);
  ck_assert_ptr_nonnull(fgets(line, sizeof line, ranges));
  ck_assert_msg(sscanf(line, "push 1 %99s %lld", name, &bytes) == 2, "%s", line);
  ck_assert_ptr_nonnull(fgets(line, sizeof line, ranges));
  ck_assert_str_eq(line, "pop 1\n");
  ck_assert_msg(fgets(line, sizeof line, ranges) == NULL, "%s", line);
  return bytes;
}

/* Whatever the call says about its arguments. */
#define BYTES(expected, call)                                                                     \
  do {                                                                                            \
    (void)!(call);                                                                                \
    const int64_t seen = payload();                                                               \
    ck_assert_msg(seen == (expected), "%s: %lld bytes, expected %lld", #call, (long long)seen,    \
                  (long long)(expected));                                                         \
  } while (0)

/* `tensors` of bytes, with lengths whose sums are all different: 1, 2, 4 ... */
static DLTensor tensors[9];
static int64_t lengths[9];

static void make_tensors(void) {
  for (int i = 0; i < 9; i++) {
    lengths[i] = (int64_t)1 << i;
    tensors[i] = (DLTensor){.ndim = 1, .dtype = cumega_uint8, .shape = &lengths[i]};
  }
}

START_TEST(every_tensor_of_a_call_counts) {
  DLTensor *t[9];
  char bytes[8];
  make_tensors();
  for (int i = 0; i < 9; i++) t[i] = &tensors[i];
  cumega_ema_io e = {.struct_size = sizeof e, .x = t[0], .y = t[1], .mask = t[2]};
  e.sequence_lengths = t[3], e.sequence_offsets = t[4], e.initial_state = t[5];
  e.final_state = t[6], e.initial_slots = t[7], e.final_slots = t[8];
  BYTES(511, cumega_ema_forward(ctx, ema, &e));
  BYTES(511, cumega_ema_step(ctx, ema, &e));
  BYTES(3, cumega_ema_compute_coefficients(ctx, ema, t[0], t[1]));
  BYTES(4, cumega_ema_compute_kernel(ctx, ema, t[2]));
  cumega_attention_scores_io p;
  cumega_attention_scores_io_init(&p, sizeof p);
  p.scores = t[0], p.output = t[1], p.attention_mask = t[2];
  p.key_padding_mask = t[3], p.query_lengths = t[4], p.key_lengths = t[5];
  BYTES(63, scores_with(ctx, NULL, &p));
  BYTES(63, softmax_with(ctx, NULL, &p));
  BYTES(2, cumega_position_bias_forward(ctx, NULL, t[1]));
  cumega_residual_io r = {.struct_size = sizeof r, .y = t[1], .out = t[2], .normalized = t[3]};
  BYTES(2 + 2 + 4 + 8, cumega_residual_forward(ctx, residual, &r)); /* x is as large as y */
  BYTES(2 + 4 + 8, cumega_residual_forward(ctx, feedforward, &r));
  BYTES(2 + 4 + 8, cumega_residual_forward(ctx, NULL, &r));
  cumega_residual_gated_io g = {.struct_size = sizeof g, .x = t[0], .gate = t[1], .h = t[2]};
  g.out = t[3], g.normalized = t[4];
  BYTES(31, cumega_residual_gated_forward(ctx, &g));
  void *memory = bytes;
  BYTES(-7, cumega_memory_allocate(ctx, -7, &memory));
  BYTES(6, cumega_memory_read(ctx, bytes, NULL, 6));
  BYTES(5, cumega_memory_write(ctx, NULL, bytes, 5));
  BYTES(4, cumega_weights_read(ctx, NULL, NULL, bytes, 4));
}
END_TEST

START_TEST(what_makes_no_sense_counts_nothing) {
  int64_t shape[CUMEGA_MAX_DIMS + 1] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
  DLTensor wide = {.ndim = 1, .dtype = cumega_float32, .shape = shape};
  shape[0] = 3;
  BYTES(12, cumega_ema_compute_kernel(ctx, ema, &wide));
  shape[0] = 0;
  BYTES(0, cumega_ema_compute_kernel(ctx, ema, &wide));
  shape[0] = -3;
  BYTES(0, cumega_ema_compute_kernel(ctx, ema, &wide));
  shape[0] = 3;
  wide.ndim = CUMEGA_MAX_DIMS;
  BYTES(12, cumega_ema_compute_kernel(ctx, ema, &wide));
  wide.ndim = CUMEGA_MAX_DIMS + 1;
  BYTES(0, cumega_ema_compute_kernel(ctx, ema, &wide));
  wide.ndim = -1;
  BYTES(0, cumega_ema_compute_kernel(ctx, ema, &wide));
  wide.ndim = 0;
  wide.shape = NULL;
  BYTES(4, cumega_ema_compute_kernel(ctx, ema, &wide)); /* a number is one element */
  wide.ndim = 1;
  BYTES(0, cumega_ema_compute_kernel(ctx, ema, &wide));
  BYTES(0, cumega_ema_compute_kernel(ctx, ema, NULL));
  wide.ndim = 2;
  wide.shape = shape;
  shape[0] = INT64_MAX / 4, shape[1] = 1;
  BYTES(INT64_MAX / 4 * 4, cumega_ema_compute_kernel(ctx, ema, &wide));
  shape[1] = 2; /* more bytes than the type can hold, next to a tensor that has some */
  int64_t two = 2;
  DLTensor narrow = {.ndim = 1, .dtype = cumega_uint8, .shape = &two};
  BYTES(2, cumega_ema_compute_coefficients(ctx, ema, &wide, &narrow));
  shape[0] = INT64_C(1) << 60, shape[1] = 5; /* 5/4 of what 64 bits count, a quarter too much */
  BYTES(2, cumega_ema_compute_coefficients(ctx, ema, &wide, &narrow));
  shape[1] = 1;
  cumega_ema_io smaller = {.struct_size = sizeof smaller.struct_size, .x = &narrow};
  BYTES(0, cumega_ema_forward(ctx, ema, &smaller));
  cumega_attention_scores_io bias = {.struct_size = 1, .scores = &narrow};
  BYTES(0, softmax_with(ctx, NULL, &bias));
  cumega_residual_io residual_io = {.struct_size = 1, .y = &narrow};
  BYTES(0, cumega_residual_forward(ctx, residual, &residual_io));
  cumega_residual_gated_io gated = {.struct_size = 1, .x = &narrow};
  BYTES(0, cumega_residual_gated_forward(ctx, &gated));
  BYTES(0, cumega_ema_forward(ctx, ema, NULL));
  BYTES(0, softmax_with(ctx, NULL, NULL));
  BYTES(0, cumega_residual_forward(ctx, residual, NULL));
  BYTES(0, cumega_residual_gated_forward(ctx, NULL));
}
END_TEST

static void find_domain(void *found, cumega_log_level level, const char *message) {
  (void)level;
  *(int *)found += strstr(message, "NVTX ranges of domain cumega") != NULL;
}

START_TEST(a_context_with_ranges_says_so) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  cumega_context *made = NULL;
  int found = 0;
  options.log_callback = find_domain;
  options.log_user = &found;
  MUST(NULL, cumega_context_create(&options, &made));
  ck_assert_int_eq(found, 1);
  cumega_context_destroy(made);
}
END_TEST

int main(void) {
  const int file = mkstemp(path);
  if (file < 0) return EXIT_FAILURE;
  close(file);
  setenv("RECORDER_LOG", path, 1);
  setenv("NVTX_INJECTION64_PATH", RECORDER, 1);
  Suite *suite = suite_create("nvtx");
  TCase *tests = add_case(suite, "payloads", 60);
  tcase_add_checked_fixture(tests, begin, end);
  tcase_add_test(tests, every_tensor_of_a_call_counts);
  tcase_add_test(tests, what_makes_no_sense_counts_nothing);
  tcase_add_test(tests, a_context_with_ranges_says_so);
  const int status = run_suite(suite);
  unlink(path);
  return status;
}
