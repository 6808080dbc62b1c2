/* Sizes and strides beyond 2^31 and 2^32 elements, on memory that is reserved and mostly never
 * touched. The results are compared bit by bit with the same run in compact memory: an offset
 * that loses its upper half lands on another page, where it reads zeros or its write goes
 * unseen. */
#include <stdio.h>
#include <sys/mman.h>
#include "defaults.h"
#include "ema_harness.h"
#include "runner.h"

enum { D = 3, N = 2, L = 3, B = 2 };

#define BEYOND_31 ((INT64_C(1) << 31) + 7)
#define BEYOND_32 ((INT64_C(1) << 32) + 11)

static cumega_context *ctx;
static cumega_ema *ema;

static void setup(void) {
  uint64_t seed = 9;
  ctx = context_new();
  test_parameters *parameters = parameters_new(D, N);
  parameters_fill(parameters, &seed, 0.1);
  ema = ema_new(ctx, ema_config_of(D), parameters, cumega_float32);
  parameters_free(parameters);
}

static void teardown(void) {
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
}

/* A tensor over a mapping that takes address space only. */
typedef struct sparse {
  cumega_tensor view;
  char *memory;
  size_t bytes;
} sparse;

static int sparse_make(sparse *s, DLDataType dtype, int ndim, const int64_t *shape,
                       const int64_t *strides) {
  int64_t extent = 1;
  for (int i = 0; i < ndim; i++) extent += (shape[i] - 1) * strides[i];
  s->bytes = (size_t)extent * dtype.bits / 8;
  s->memory = mmap(NULL, s->bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (s->memory == MAP_FAILED) {
    s->memory = NULL;
    printf("skipped: this system does not reserve %zu bytes of address space\n", s->bytes);
    return 0;
  }
  cumega_tensor_init(&s->view, s->memory, cumega_cpu, dtype, ndim, shape);
  s->view.dl.strides = s->view.strides;
  memcpy(s->view.strides, strides, (size_t)ndim * sizeof *strides);
  return 1;
}

static void sparse_free(sparse *s) {
  if (s->memory != NULL) munmap(s->memory, s->bytes);
  s->memory = NULL;
}

static float *float_at(sparse *s, int64_t i, int64_t j, int64_t k) {
  const int64_t *strides = s->view.strides;
  int64_t element = i * strides[0] + j * strides[1];
  if (s->view.dl.ndim > 2) element += k * strides[2];
  return (float *)(void *)s->memory + element;
}

/* The results for the same values in compact memory; mask and state may be NULL. */
static test_tensor *compact_y, *compact_state;

static void run_compact(test_tensor *mask, int with_state) {
  uint64_t seed = 2;
  test_tensor *x = tensor_new_3(cumega_float32, L, B, D);
  compact_y = tensor_new_3(cumega_float32, L, B, D);
  compact_state = tensor_new_3(cumega_float32, B, D, N);
  for (int64_t i = 0; i < L * B * D; i++)
    tensor_set(x, i / (B * D), i / D % B, i % D, random_noise(&seed));
  cumega_ema_io io = io_of(x, compact_y);
  io.mask = dl(mask);
  if (with_state) io.final_state = dl(compact_state);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  tensor_free(x);
}

static void free_compact(void) {
  tensor_free(compact_y);
  tensor_free(compact_state);
}

static float bits_as_float(const test_tensor *tensor, int64_t i, int64_t j, int64_t k) {
  return (float)tensor_get(tensor, i, j, k);
}

/* Strides of time, batch and channels, each in turn beyond 2^31 or 2^32 elements. */
START_TEST(strides_beyond_four_gigabytes_reach_their_elements) {
  static const int64_t strides[][3] = {{BEYOND_31, 5, 1},
                                       {BEYOND_32, D, 1},
                                       {5, BEYOND_32, 1},
                                       {2, 1, BEYOND_31},
                                       {1, L, BEYOND_32}};
  sparse x, y;
  int64_t shape[] = {L, B, D};
  run_compact(NULL, 0);
  int made = sparse_make(&x, cumega_float32, 3, shape, strides[_i]);
  if (made && !sparse_make(&y, cumega_float32, 3, shape, strides[(_i + 1) % 5])) {
    sparse_free(&x);
    made = 0;
  }
  if (made) {
    uint64_t seed = 2;
    for (int64_t i = 0; i < L * B * D; i++)
      *float_at(&x, i / (B * D), i / D % B, i % D) = (float)random_noise(&seed);
    cumega_ema_io io = {.struct_size = sizeof io, .x = &x.view.dl, .y = &y.view.dl};
    MUST(ctx, cumega_ema_forward(ctx, ema, &io));
    for (int64_t i = 0; i < L * B * D; i++)
      ck_assert_float_eq(*float_at(&y, i / (B * D), i / D % B, i % D),
                         bits_as_float(compact_y, i / (B * D), i / D % B, i % D));
    sparse_free(&x);
    sparse_free(&y);
  }
  free_compact();
}
END_TEST

/* More than 2^33 rows in total; the sequences are at both ends and around 2^32. */
START_TEST(packed_rows_beyond_two_to_the_32_are_found) {
  const int64_t total = (INT64_C(1) << 33) + 5, first[] = {0, BEYOND_32 - 1, total - L};
  sparse x, y;
  int64_t shape[] = {total, D}, strides[] = {1, total};
  run_compact(NULL, 0);
  for (int i = 0; i < 3; i++) {
    if (!sparse_make(&x, cumega_float32, 2, shape, strides)) break;
    int made = sparse_make(&y, cumega_float32, 2, shape, strides);
    uint64_t seed = 2;
    for (int64_t j = 0; j < L * B * D; j++) {
      float value = (float)random_noise(&seed);
      if (j / D % B == 1) *float_at(&x, first[i] + j / (B * D), j % D, 0) = value;
    }
    test_tensor *offsets =
        tensor_of_int64(4, (int64_t[]){first[i], first[i], first[i] + L, first[i] + L});
    cumega_ema_io io = {.struct_size = sizeof io, .x = &x.view.dl, .y = &y.view.dl};
    io.sequence_offsets = dl(offsets);
    if (made) MUST(ctx, cumega_ema_forward(ctx, ema, &io));
    for (int64_t j = 0; j < L * D && made; j++)
      ck_assert_float_eq(*float_at(&y, first[i] + j / D, j % D, 0),
                         bits_as_float(compact_y, j / D, 1, j % D));
    tensor_free(offsets);
    sparse_free(&x);
    if (made) sparse_free(&y);
  }
  free_compact();
}
END_TEST

/* x has 2^33 rows, stored as three numbers: stride 0. y holds only the rows that are run. */
START_TEST(a_broadcast_input_may_have_more_elements_than_memory) {
  const int64_t total = INT64_C(1) << 33;
  sparse x, y;
  if (!sparse_make(&x, cumega_float32, 2, (int64_t[]){total, D}, (int64_t[]){0, 1})) return;
  int made = sparse_make(&y, cumega_float32, 2, (int64_t[]){total, D}, (int64_t[]){D, 1});
  if (made) {
    for (int64_t d = 0; d < D; d++) *float_at(&x, 0, d, 0) = 0.5f;
    test_tensor *offsets = tensor_of_int64(2, (int64_t[]){total - 4, total - 1});
    cumega_ema_io io = {.struct_size = sizeof io, .x = &x.view.dl, .y = &y.view.dl};
    io.sequence_offsets = dl(offsets);
    MUST(ctx, cumega_ema_forward(ctx, ema, &io));
    test_tensor *small = tensor_new_3(cumega_float32, 3, 1, D),
                *out = tensor_new_3(cumega_float32, 3, 1, D);
    for (int64_t i = 0; i < 3 * D; i++) tensor_set(small, i / D, 0, i % D, 0.5);
    cumega_ema_io compact = io_of(small, out);
    MUST(ctx, cumega_ema_forward(ctx, ema, &compact));
    for (int64_t i = 0; i < 3 * D; i++)
      ck_assert_float_eq(*float_at(&y, total - 4 + i / D, i % D, 0),
                         bits_as_float(out, i / D, 0, i % D));
    for (int64_t d = 0; d < D; d++) ck_assert_float_eq(*float_at(&y, total - 1, d, 0), 0.0f);
    tensor_free(offsets);
    tensor_free(small);
    tensor_free(out);
  }
  sparse_free(&x);
  if (made) sparse_free(&y);
}
END_TEST

START_TEST(masks_and_states_beyond_two_to_the_32_are_found) {
  sparse mask, state;
  test_tensor *plain_mask = tensor_new_2(cumega_bool, B, L);
  for (int64_t i = 0; i < B * L; i++) tensor_set(plain_mask, i / L, i % L, 0, i % 3 == 1);
  run_compact(plain_mask, 1);
  int made = sparse_make(&mask, cumega_uint8, 2, (int64_t[]){B, L}, (int64_t[]){1, BEYOND_32});
  if (made && !sparse_make(&state, cumega_float32, 3, (int64_t[]){B, D, N},
                           (int64_t[]){1, BEYOND_31, 2 * BEYOND_32})) {
    sparse_free(&mask);
    made = 0;
  }
  if (made) {
    uint64_t seed = 2;
    test_tensor *x = tensor_new_3(cumega_float32, L, B, D),
                *y = tensor_new_3(cumega_float32, L, B, D);
    for (int64_t i = 0; i < L * B * D; i++)
      tensor_set(x, i / (B * D), i / D % B, i % D, random_noise(&seed));
    for (int64_t i = 0; i < B * L; i++) mask.memory[i / L + i % L * BEYOND_32] = i % 3 == 1;
    cumega_ema_io io = io_of(x, y);
    io.mask = &mask.view.dl;
    io.final_state = &state.view.dl;
    MUST(ctx, cumega_ema_forward(ctx, ema, &io));
    ck_assert_mem_eq(y->block, compact_y->block, (size_t)y->block_bytes);
    for (int64_t i = 0; i < B * D * N; i++)
      ck_assert_float_eq(*float_at(&state, i / (D * N), i / N % D, i % N),
                         bits_as_float(compact_state, i / (D * N), i / N % D, i % N));
    tensor_free(x);
    tensor_free(y);
    sparse_free(&mask);
    sparse_free(&state);
  }
  tensor_free(plain_mask);
  free_compact();
}
END_TEST

/* A pool of 2^30 rows or more: its last row starts beyond element 2^32. */
START_TEST(slots_name_rows_far_into_a_pool) {
  const int64_t rows = (INT64_C(1) << 30) + 7;
  sparse pool;
  if (!sparse_make(&pool, cumega_float32, 3, (int64_t[]){rows, D, N}, (int64_t[]){D * N, N, 1}))
    return;
  test_tensor *x = tensor_new_3(cumega_float32, L, B, D),
              *y = tensor_new_3(cumega_float32, L, B, D);
  test_tensor *state = tensor_new_3(cumega_float32, B, D, N),
              *z = tensor_new_3(cumega_float32, L, B, D);
  test_tensor *from = tensor_of_int64(B, (int64_t[]){rows - 1, BEYOND_31 / 2});
  test_tensor *to = tensor_of_int64(B, (int64_t[]){rows - 2, BEYOND_31 / 2});
  const int64_t read[] = {rows - 1, BEYOND_31 / 2}, written[] = {rows - 2, BEYOND_31 / 2};
  for (int64_t i = 0; i < L * B * D; i++) tensor_set(x, i / (B * D), i / D % B, i % D, 0.25);
  for (int64_t i = 0; i < B * D * N; i++) {
    *float_at(&pool, read[i / (D * N)], i / N % D, i % N) = (float)i + 1.0f;
    tensor_set(state, i / (D * N), i / N % D, i % N, (double)i + 1.0);
  }
  cumega_ema_io io = io_of(x, y);
  io.initial_state = io.final_state = dl(state);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  io = io_of(x, z);
  io.initial_state = io.final_state = &pool.view.dl;
  io.initial_slots = dl(from);
  io.final_slots = dl(to);
  MUST(ctx, cumega_ema_forward(ctx, ema, &io));
  ck_assert_mem_eq(y->block, z->block, (size_t)y->block_bytes);
  for (int64_t i = 0; i < B * D * N; i++)
    ck_assert_float_eq(*float_at(&pool, written[i / (D * N)], i / N % D, i % N),
                       bits_as_float(state, i / (D * N), i / N % D, i % N));
  test_tensor *all[] = {x, y, state, z, from, to};
  for (int i = 0; i < 6; i++) tensor_free(all[i]);
  sparse_free(&pool);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ema_huge");
  TCase *tests = add_case(suite, "beyond 2^32", 60);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_loop_test(tests, strides_beyond_four_gigabytes_reach_their_elements, 0, 5);
  tcase_add_test(tests, packed_rows_beyond_two_to_the_32_are_found);
  tcase_add_test(tests, a_broadcast_input_may_have_more_elements_than_memory);
  tcase_add_test(tests, masks_and_states_beyond_two_to_the_32_are_found);
  tcase_add_test(tests, slots_name_rows_far_into_a_pool);
  return run_suite(suite);
}
