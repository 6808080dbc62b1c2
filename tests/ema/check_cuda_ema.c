/* Where a CUDA context differs from a CPU context: kernels meet wrong values in index tensors,
 * scratch is on the device, and there are memory spaces. What both do alike is tested in the
 * EMA's other suites, which run here with CUMEGA_TEST_DEVICE=cuda. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#define CUMEGA_TESTS_EMA_DEVICE_INSIDE /* the calls themselves, without staging */
#include "ema_harness.h"
#include "runner.h"

#define L 7
#define B 4
#define D 5
#define N 3

static cumega_context *ctx;

static cumega_context *cuda_context(int64_t limit) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  cumega_context *made = NULL;
  options.device = (DLDevice){kDLCUDA, 0};
  options.memory_limit = limit;
  cumega_status status = cumega_context_create(&options, &made);
  ck_assert_msg(status == CUMEGA_OK, "%s", cumega_context_message(NULL));
  return made;
}

static void setup(void) {
  ctx = cuda_context(0);
}

static void teardown(void) {
  cumega_context_destroy(ctx);
}

/* A compact tensor on the device, and the values that it was given. */
typedef struct device_tensor {
  cumega_tensor view;
  void *host;
  int64_t bytes;
} device_tensor;

static void upload(device_tensor *t) {
  MUST(ctx, cumega_memory_write(ctx, t->view.dl.data, t->host, t->bytes));
}

static void download(device_tensor *t) {
  MUST(ctx, cumega_memory_read(ctx, t->host, t->view.dl.data, t->bytes));
}

static device_tensor *device_new(DLDataType dtype, int ndim, const int64_t *shape) {
  device_tensor *t = memory_new(sizeof *t);
  void *data = NULL;
  t->bytes = dtype.bits / 8;
  for (int i = 0; i < ndim; i++) t->bytes *= shape[i];
  MUST(ctx, cumega_memory_allocate(ctx, t->bytes, &data));
  t->host = memory_new(t->bytes);
  ck_assert_ptr_nonnull(
      cumega_tensor_init(&t->view, data, (DLDevice){kDLCUDA, 0}, dtype, ndim, shape));
  return t;
}

static void device_free(device_tensor *t) {
  if (t == NULL) return;
  MUST(ctx, cumega_memory_release(ctx, t->view.dl.data, t->bytes));
  free(t->host);
  free(t);
}

static device_tensor *indices(int64_t count, const int64_t *values) {
  device_tensor *t = device_new(cumega_int64, 1, &count);
  memcpy(t->host, values, (size_t)t->bytes);
  upload(t);
  return t;
}

static DLTensor *dl_of(device_tensor *t) {
  return t == NULL ? NULL : &t->view.dl;
}

/* x, y and the states of one run; y and the final pool start as 99. */
typedef struct fixture {
  cumega_ema *ema;
  device_tensor *x, *y, *initial, *final, *lengths, *offsets, *from, *to;
  cumega_ema_io io;
} fixture;

static void fill(device_tensor *t, float first, float step) {
  for (int64_t i = 0; i < t->bytes / 4; i++) ((float *)t->host)[i] = first + step * (float)i;
  upload(t);
}

static fixture *fixture_new(int packed) {
  fixture *f = memory_new(sizeof *f);
  int64_t dense[] = {L, B, D}, flat[] = {L * B, D}, pool[] = {9, D, N};
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, D);
  config.num_heads = N;
  MUST(ctx, cumega_ema_create(ctx, &config, NULL, &f->ema));
  f->x = device_new(cumega_float32, packed ? 2 : 3, packed ? flat : dense);
  f->y = device_new(cumega_float32, packed ? 2 : 3, packed ? flat : dense);
  f->initial = device_new(cumega_float32, 3, pool);
  f->final = device_new(cumega_float32, 3, pool);
  fill(f->x, -1.0f, 0.01f);
  fill(f->y, 99.0f, 0.0f);
  fill(f->initial, 0.5f, 0.02f);
  fill(f->final, 99.0f, 0.0f);
  f->from = indices(B, (int64_t[]){1, 0, 3, 2});
  f->to = indices(B, (int64_t[]){4, 5, 6, 7});
  f->io = (cumega_ema_io){.struct_size = sizeof f->io, .x = dl_of(f->x), .y = dl_of(f->y)};
  f->io.initial_state = dl_of(f->initial);
  f->io.final_state = dl_of(f->final);
  f->io.initial_slots = dl_of(f->from);
  f->io.final_slots = dl_of(f->to);
  return f;
}

static void fixture_free(fixture *f) {
  cumega_ema_destroy(f->ema);
  device_tensor *all[] = {f->x,       f->y,       f->initial, f->final,
                          f->lengths, f->offsets, f->from,    f->to};
  for (int i = 0; i < 8; i++) device_free(all[i]);
  free(f);
}

static void set_index(device_tensor *t, int64_t at, int64_t value) {
  ((int64_t *)t->host)[at] = value;
  upload(t);
}

/* Runs, and copies y and the final pool back; returns what was reported. */
static uint32_t run(fixture *f) {
  uint32_t bits = 77;
  MUST(ctx, cumega_ema_forward(ctx, f->ema, &f->io));
  MUST(ctx, cumega_context_synchronize(ctx));
  download(f->y);
  download(f->final);
  MUST(ctx, cumega_context_report(ctx, &bits));
  return bits;
}

/* Where row t of sequence b begins in y, which is padded, or packed with L rows each. */
static const float *row_of(const fixture *f, int64_t b, int64_t t) {
  int64_t row = f->offsets != NULL ? b * L + t : t * B + b;
  return (const float *)f->y->host + row * D;
}

static int is_untouched(const fixture *f, int64_t b) {
  const float *state = (const float *)f->final->host + (4 + b) * D * N;
  int untouched = 1;
  for (int64_t t = 0; t < L; t++)
    for (int64_t d = 0; d < D; d++) untouched &= row_of(f, b, t)[d] == 99.0f;
  for (int64_t i = 0; i < D * N; i++) untouched &= state[i] == 99.0f;
  return untouched;
}

static int same_rows(const fixture *f, const float *before, int64_t b) {
  int same = 1;
  for (int64_t t = 0; t < L; t++)
    same &= memcmp(row_of(f, b, t), before + (row_of(f, b, t) - (const float *)f->y->host),
                   D * sizeof(float)) == 0;
  return same;
}

static float *copy_of_y(const fixture *f) {
  float *copy = memory_new(f->y->bytes);
  memcpy(copy, f->y->host, (size_t)f->y->bytes);
  return copy;
}

START_TEST(lengths_outside_are_clamped_and_reported_once) {
  fixture *f = fixture_new(0);
  uint32_t bits;
  f->lengths = indices(B, (int64_t[]){L, 0, 3, 1});
  f->io.sequence_lengths = dl_of(f->lengths);
  ck_assert_uint_eq(run(f), 0);
  float *right = copy_of_y(f);
  for (int i = 0; i < 2; i++) { /* one at a time */
    set_index(f->lengths, 0, i == 0 ? L + 1 : L);
    set_index(f->lengths, 1, i == 0 ? 0 : -5);
    fill(f->y, 99.0f, 0.0f);
    ck_assert_uint_eq(run(f), CUMEGA_REPORT_LENGTH);
    ck_assert_mem_eq(f->y->host, right, (size_t)f->y->bytes);
    MUST(ctx, cumega_context_report(ctx, &bits));
    ck_assert_uint_eq(bits, 0);
  }
  free(right);
  fixture_free(f);
}
END_TEST

START_TEST(a_sequence_with_bad_offsets_is_skipped_and_reported) {
  static const int64_t bad[][3] = {
      /* index, value, and a bit for each sequence that it spoils */
      {2, 3 * L + 1, 1 << 2}, /* more than the next: sequence 1 is longer, 2 decreases */
      {0, -1, 1 << 0},
      {4, L * B + 1, 1 << 3},
  };
  for (int i = 0; i < 3; i++) {
    fixture *f = fixture_new(1);
    f->offsets = indices(B + 1, (int64_t[]){0, L, 2 * L, 3 * L, 4 * L});
    f->io.sequence_offsets = dl_of(f->offsets);
    ck_assert_uint_eq(run(f), 0);
    float *right = copy_of_y(f);
    set_index(f->offsets, bad[i][0], bad[i][1]);
    fill(f->y, 99.0f, 0.0f);
    fill(f->final, 99.0f, 0.0f);
    ck_assert_uint_eq(run(f), CUMEGA_REPORT_OFFSET);
    for (int64_t b = 0; b < B; b++) {
      if (i == 0 && b > 0) continue; /* rows that another sequence also has, in any order */
      ck_assert_int_eq(is_untouched(f, b), (int)(bad[i][2] >> b & 1));
      ck_assert_int_eq(same_rows(f, right, b), !(bad[i][2] >> b & 1));
    }
    free(right);
    fixture_free(f);
  }
}
END_TEST

START_TEST(a_sequence_with_a_slot_outside_the_pool_is_skipped_and_reported) {
  for (int is_final = 0; is_final < 2; is_final++) {
    fixture *f = fixture_new(0);
    ck_assert_uint_eq(run(f), 0);
    float *right = copy_of_y(f);
    set_index(is_final ? f->to : f->from, 2, 9);
    fill(f->y, 99.0f, 0.0f);
    fill(f->final, 99.0f, 0.0f);
    ck_assert_uint_eq(run(f), CUMEGA_REPORT_SLOT);
    for (int64_t b = 0; b < B; b++) {
      ck_assert_int_eq(is_untouched(f, b), b == 2);
      ck_assert_int_eq(same_rows(f, right, b), b != 2);
    }
    free(right);
    fixture_free(f);
  }
}
END_TEST

/* More than 16 heads need scratch. */
static cumega_ema *ema_of_heads(cumega_context *own, int64_t heads) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, D);
  cumega_ema *ema;
  config.num_heads = heads;
  MUST(own, cumega_ema_create(own, &config, NULL, &ema));
  return ema;
}

START_TEST(scratch_is_reserved_once_and_for_all_runs) {
  fixture *f = fixture_new(0);
  cumega_ema_io io = {.struct_size = sizeof io, .x = f->io.x, .y = f->io.y};
  cumega_ema *many = ema_of_heads(ctx, 40);
  cumega_statistics before = {.struct_size = sizeof before}, after = before;
  int64_t bytes = -1;
  MUST(ctx, cumega_ema_workspace_size(ctx, f->ema, &io, &bytes));
  ck_assert_int_eq(bytes, 0);
  MUST(ctx, cumega_ema_workspace_size(ctx, many, &io, &bytes));
  ck_assert_int_ge(bytes, B * D * 40 * 4);
  MUST(ctx, cumega_context_reserve(ctx, bytes));
  MUST(ctx, cumega_context_statistics(ctx, &before));
  ck_assert_int_ge(before.scratch_bytes, bytes);
  for (int i = 0; i < 3; i++) MUST(ctx, cumega_ema_forward(ctx, many, &io));
  MUST(ctx, cumega_context_statistics(ctx, &after));
  ck_assert_int_eq(after.bytes_peak, before.bytes_peak);
  ck_assert_int_eq(after.runs, before.runs + 3);
  ck_assert_ptr_nonnull(strstr(cumega_context_kernels(ctx), "ema_many_heads_kernel"));
  MUST(ctx, cumega_ema_forward(ctx, f->ema, &io));
  ck_assert_ptr_nonnull(strstr(cumega_context_kernels(ctx), "ema_recurrent_kernel"));
  MUST(ctx, cumega_context_synchronize(ctx)); /* no run may still use what is destroyed */
  cumega_ema_destroy(many);
  fixture_free(f);
}
END_TEST

START_TEST(the_memory_limit_holds_for_the_device) {
  cumega_context *small = cuda_context(1 << 20);
  void *pointer = &pointer;
  cumega_statistics at_first = {.struct_size = sizeof at_first}, later = at_first;
  MUST(small, cumega_context_statistics(small, &at_first));
  ck_assert_int_eq(cumega_memory_allocate(small, 1 << 20, &pointer), CUMEGA_ERROR_RESOURCE);
  ck_assert_ptr_null(pointer);
  ck_assert(strstr(cumega_context_message(small), "memory_limit is 1048576") != NULL);
  ck_assert_int_eq(cumega_context_reserve(small, 1 << 20), CUMEGA_ERROR_RESOURCE);
  MUST(small, cumega_memory_allocate(small, 1 << 19, &pointer));
  MUST(small, cumega_context_statistics(small, &later));
  ck_assert_int_eq(later.bytes_held, at_first.bytes_held + (1 << 19));
  MUST(small, cumega_memory_release(small, pointer, 1 << 19));
  MUST(small, cumega_context_statistics(small, &later));
  ck_assert_int_eq(later.bytes_held, at_first.bytes_held);
  cumega_context_destroy(small);
}
END_TEST

START_TEST(an_ema_and_its_tensors_belong_to_one_device) {
  fixture *f = fixture_new(0);
  cumega_context *cpu = context_of_level(NULL, 1);
  cumega_ema *on_cpu = ema_of_heads(cpu, N);
  float memory[L * B * D];
  cumega_tensor host;
  ck_assert_int_eq(cumega_ema_forward(ctx, on_cpu, &f->io), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_ema_forward(cpu, f->ema, &f->io), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_ema_forward(cpu, on_cpu, &f->io), CUMEGA_ERROR_ARGUMENT);
  f->io.x = cumega_tensor_init(&host, memory, cumega_cpu, cumega_float32, 3, f->io.y->shape);
  ck_assert_int_eq(cumega_ema_forward(ctx, f->ema, &f->io), CUMEGA_ERROR_ARGUMENT);
  ck_assert(strstr(cumega_context_message(ctx), "x is on device") != NULL);
  cumega_ema_destroy(on_cpu);
  cumega_context_destroy(cpu);
  fixture_free(f);
}
END_TEST

START_TEST(memory_calls_refuse_what_they_cannot_do) {
  void *pointer = NULL;
  char byte = 0;
  ck_assert_int_eq(cumega_memory_allocate(ctx, -1, &pointer), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_memory_allocate(ctx, 1, NULL), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_memory_write(ctx, NULL, &byte, 1), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_memory_read(ctx, &byte, NULL, 1), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_memory_read(NULL, &byte, &byte, 1), CUMEGA_ERROR_ARGUMENT);
  MUST(ctx, cumega_memory_write(ctx, NULL, NULL, 0));
  MUST(ctx, cumega_memory_release(ctx, NULL, 10));
  MUST(ctx, cumega_memory_allocate(ctx, 0, &pointer)); /* an empty tensor has a place too */
  ck_assert_ptr_nonnull(pointer);
  MUST(ctx, cumega_memory_release(ctx, pointer, 0));
}
END_TEST

/* exit counts the child's coverage. A driver expects no exit of a child, and a leak sanitizer
 * mistakes the parent's device memory for the child's. */
static int child_may_exit(void) {
#if defined(__SANITIZE_ADDRESS__)
  return 0;
#else
  return strcmp(cumega_context_backend(ctx), "cuda-emulation") == 0;
#endif
}

/* The device belongs to the parent: every call is refused, and destroying releases nothing. */
START_TEST(a_forked_child_is_refused) {
  fixture *f = fixture_new(0);
  const int may_exit = child_may_exit();
  fflush(NULL);
  pid_t child = fork();
  if (child == 0) {
    int refused = cumega_ema_forward(ctx, f->ema, &f->io) == CUMEGA_ERROR_STATE &&
                  cumega_context_synchronize(ctx) == CUMEGA_ERROR_STATE;
    cumega_ema_destroy(f->ema);
    cumega_context_destroy(ctx);
    if (may_exit) exit(refused ? 0 : 1);
    _exit(refused ? 0 : 1);
  }
  int ended = -1;
  ck_assert_int_eq(waitpid(child, &ended, 0), child);
  ck_assert_int_eq(ended, 0);
  ck_assert_uint_eq(run(f), 0);
  fixture_free(f);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("cuda_ema");
  TCase *tests = add_case(suite, "cuda", 30);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, lengths_outside_are_clamped_and_reported_once);
  tcase_add_test(tests, a_sequence_with_bad_offsets_is_skipped_and_reported);
  tcase_add_test(tests, a_sequence_with_a_slot_outside_the_pool_is_skipped_and_reported);
  tcase_add_test(tests, scratch_is_reserved_once_and_for_all_runs);
  tcase_add_test(tests, the_memory_limit_holds_for_the_device);
  tcase_add_test(tests, an_ema_and_its_tensors_belong_to_one_device);
  tcase_add_test(tests, memory_calls_refuse_what_they_cannot_do);
  tcase_add_test(tests, a_forked_child_is_refused);
  return run_suite(suite);
}
