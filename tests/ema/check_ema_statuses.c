/* Every way in which a run of the EMA can be wrong: it must give the status and a message that
 * names the argument and the numbers, and write nothing. Each test below breaks one thing in a
 * valid call. */
#include <stdlib.h>
#include "ema_harness.h"
#include "runner.h"

enum { L = 6, B = 4, D = 5, N = 3, ROWS = 9 };

/* A padded call with every argument; `packed` has the tensors of the other form. */
typedef struct fixture {
  cumega_ema *ema;
  cumega_ema_io io;
  test_tensor *x, *y, *mask, *lengths, *offsets, *initial, *final, *initial_slots, *final_slots;
  test_tensor *spare; /* what a test substitutes for another tensor */
} fixture;

static cumega_context *ctx;

static void setup(void) {
  ctx = context_new();
}

static void teardown(void) {
  cumega_context_destroy(ctx);
}

static void fill(test_tensor *tensor, double first, double step) {
  const DLTensor *t = dl(tensor);
  int64_t sizes[3] = {1, 1, 1};
  for (int i = 0; i < t->ndim; i++) sizes[i] = t->shape[i];
  for (int64_t i = 0; i < sizes[0] * sizes[1] * sizes[2]; i++, first += step)
    tensor_set(tensor, i / (sizes[1] * sizes[2]), i / sizes[2] % sizes[1], i % sizes[2], first);
}

static fixture *fixture_new(int packed, int64_t truncation) {
  fixture *f = memory_new(sizeof *f);
  uint64_t seed = 3;
  test_parameters *parameters = parameters_new(D, N);
  parameters_fill(parameters, &seed, 0.1);
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, D);
  if (truncation > 0) config.truncation_length = truncation;
  f->ema = ema_new(ctx, config, parameters, cumega_float32);
  parameters_free(parameters);
  f->x = packed ? tensor_new_2(cumega_float32, L * B, D) : tensor_new_3(cumega_float32, L, B, D);
  f->y = packed ? tensor_new_2(cumega_float32, L * B, D) : tensor_new_3(cumega_float32, L, B, D);
  fill(f->x, -1.0, 0.01);
  f->io = io_of(f->x, f->y);
  f->initial = tensor_new_3(cumega_float32, ROWS, D, N);
  f->final = tensor_new_3(cumega_float32, ROWS, D, N);
  fill(f->initial, 1.0, -0.01);
  f->initial_slots = tensor_of_int64(B, (int64_t[]){0, -1, 3, 0});
  f->final_slots = tensor_of_int64(B, (int64_t[]){4, 1, -1, 8});
  f->offsets = tensor_of_int64(B + 1, (int64_t[]){2, 5, 5, 11, 20});
  f->lengths = tensor_of_int64(B, (int64_t[]){6, 0, 3, 5});
  f->mask = tensor_new_3(cumega_bool, B, 1, L);
  fill(f->mask, 0, 0);
  if (packed)
    f->io.sequence_offsets = dl(f->offsets);
  else {
    f->io.sequence_lengths = dl(f->lengths);
    f->io.mask = dl(f->mask);
  }
  if (truncation > 0) return f;
  f->io.initial_state = dl(f->initial);
  f->io.final_state = dl(f->final);
  f->io.initial_slots = dl(f->initial_slots);
  f->io.final_slots = dl(f->final_slots);
  return f;
}

static void fixture_free(fixture *f) {
  test_tensor *all[] = {f->x,       f->y,     f->mask,          f->lengths,     f->offsets,
                        f->initial, f->final, f->initial_slots, f->final_slots, f->spare};
  for (int i = 0; i < 10; i++) tensor_free(all[i]);
  cumega_ema_destroy(f->ema);
  free(f);
}

/* ---- ways to break it ---- */

typedef enum place { X, Y, MASK, LENGTHS, OFFSETS, INITIAL, FINAL, FIRST_SLOTS, LAST_SLOTS } place;
typedef enum change {
  ABSENT,  /* sets the io member to NULL */
  PRESENT, /* sets the io member to the fixture's tensor */
  NDIM,    /* = value */
  SHAPE,   /* [index] = value */
  STRIDE,  /* [index] = value */
  ELEMENT, /* [index] = value */
  OFFSET,  /* byte_offset = value */
  ALIAS,   /* data = that of the tensor `index`, plus `value` elements */
  NO_DATA,
  NO_SHAPE,
  ON_CUDA,
  TYPE, /* = types[value] */
  SPECIAL
} change;

static const DLDataType types[] = {{kDLFloat, 32, 1}, {kDLFloat, 64, 1},  {kDLFloat, 16, 1},
                                   {kDLInt, 32, 1},   {kDLBfloat, 16, 1}, {kDLFloat, 8, 1},
                                   {kDLInt, 16, 1},   {kDLFloat, 32, 2}};
enum { F32, F64, F16, I32, BF16, F8, I16, PAIR };

typedef struct breakage {
  place where;
  change what;
  int index;
  int64_t value;
  const char *words[3]; /* what the message must contain */
  void (*special)(fixture *f);
} breakage;

static void both_float64(fixture *f) {
  dl(f->x)->dtype = dl(f->y)->dtype = cumega_float64;
  dl(f->x)->shape[0] = dl(f->y)->shape[0] = 3; /* the same number of bytes */
  dl(f->mask)->shape[2] = 3;
  f->io.sequence_lengths = NULL;
}

static void both_narrow(fixture *f) {
  dl(f->x)->shape[1] = dl(f->y)->shape[1] = D - 1;
}

static void both_vast(fixture *f) {
  for (int i = 0; i < 2; i++) dl(f->x)->shape[i] = dl(f->y)->shape[i] = INT64_C(1) << 31;
}

static void y_is_x_transposed(fixture *f) {
  dl(f->y)->data = dl(f->x)->data;
  dl(f->y)->strides[0] = D;
  dl(f->y)->strides[1] = L * D;
}

static void pool_read_and_written(fixture *f) {
  f->io.final_state = dl(f->initial);
  tensor_set(f->final_slots, 0, 0, 0, 3); /* sequence 2 reads row 3 */
}

static void raw_forward(fixture *f) {
  f->io.raw = 1;
}

static void io_without_size(fixture *f) {
  f->io.struct_size = 0;
}

static void state_given(fixture *f) {
  f->io.initial_state = dl(f->initial);
  f->io.initial_slots = dl(f->initial_slots);
}

static void state_kept(fixture *f) {
  f->io.final_state = dl(f->final);
  f->io.final_slots = dl(f->final_slots);
}

static void fft_to_a_state(fixture *f) {
  f->io.algorithm = CUMEGA_EMA_FFT;
  f->io.initial_state = f->io.initial_slots = NULL;
}

static void fft_from_a_state(fixture *f) {
  f->io.algorithm = CUMEGA_EMA_FFT;
  f->io.final_state = NULL;
  f->io.final_slots = NULL;
}

static void x_at_the_end_of_memory(fixture *f) {
  dl(f->x)->data = (void *)(UINTPTR_MAX - 63);
}

static void offset_beyond_memory(fixture *f) {
  dl(f->x)->byte_offset = UINT64_MAX - 63;
}

/* (B, D), and with a mask (B). */
static void flat_without_shape(fixture *f) {
  dl(f->x)->ndim = 2;
  dl(f->x)->shape = NULL;
}

static void flat_of_two(fixture *f) {
  dl(f->x)->ndim = 1;
  dl(f->x)->shape[0] = 2;
}

static void mask_without_shape(fixture *f) {
  f->io.mask = dl(f->mask);
  dl(f->mask)->ndim = 1;
  dl(f->mask)->shape = NULL;
}

#define VAST (INT64_C(1) << 62)

static const breakage padded[] = {
    {X, ABSENT, 0, 0, {"x", "NULL"}, NULL},
    {Y, ABSENT, 0, 0, {"y", "NULL"}, NULL},
    {X, NDIM, 0, 1, {"x has shape (6), expected 3 dimensions, (L, B, D)"}, NULL},
    {X, NDIM, 0, 4, {"x", "(L, B, D)"}, NULL},
    {Y, NDIM, 0, 2, {"y", "(6, 4)", "(L, B, D)"}, NULL},
    {X, SHAPE, 2, 4, {"x", "4", "5"}, NULL},
    {Y, SHAPE, 0, 5, {"y", "5", "6"}, NULL},
    {Y, SHAPE, 1, 3, {"y", "3", "4"}, NULL},
    {Y, SHAPE, 2, 4, {"y", "4", "5"}, NULL},
    {X, TYPE, 0, I32, {"x", "int32"}, NULL},
    {X, TYPE, 0, F8, {"x", "8"}, NULL},
    {X, TYPE, 0, PAIR, {"x", "2", "lanes"}, NULL},
    {Y, TYPE, 0, F16, {"y", "float16", "float32"}, NULL},
    {X, SPECIAL, 0, 0, {"x", "float64", "state_dtype"}, both_float64},
    {X, ON_CUDA, 0, 0, {"x"}, NULL},
    {Y, ON_CUDA, 0, 0, {"y"}, NULL},
    {MASK, ON_CUDA, 0, 0, {"mask"}, NULL},
    {LENGTHS, ON_CUDA, 0, 0, {"sequence_lengths"}, NULL},
    {INITIAL, ON_CUDA, 0, 0, {"initial_state"}, NULL},
    {FINAL, ON_CUDA, 0, 0, {"final_state"}, NULL},
    {X, SHAPE, 0, -6, {"x", "-6"}, NULL},
    {X, SHAPE, 0, VAST, {"x", "4611686018427387904"}, NULL},
    {X, SPECIAL, 0, 0, {"x"}, both_vast},
    {X, STRIDE, 0, VAST, {"x"}, NULL},
    {X, STRIDE, 0, INT64_MIN, {"x"}, NULL},
    {Y, STRIDE, 1, -VAST, {"y"}, NULL},
    {X, OFFSET, 0, 2, {"x", "multiple", "4"}, NULL},
    {Y, OFFSET, 0, 1, {"y", "multiple", "4"}, NULL},
    {LENGTHS, OFFSET, 0, 4, {"sequence_lengths", "multiple", "8"}, NULL},
    {X, NO_DATA, 0, 0, {"x", "NULL"}, NULL},
    {Y, NO_DATA, 0, 0, {"y", "NULL"}, NULL},
    {MASK, NO_DATA, 0, 0, {"mask", "NULL"}, NULL},
    {X, NO_SHAPE, 0, 0, {"x", "NULL"}, NULL},
    {Y, STRIDE, 1, 0, {"y"}, NULL},
    {Y, STRIDE, 0, D, {"y"}, NULL},
    {FINAL, STRIDE, 0, 0, {"final_state"}, NULL},
    {Y, ALIAS, X, 1, {"y", "x"}, NULL},
    {Y, ALIAS, INITIAL, 3, {"y", "initial_state"}, NULL},
    {MASK, ALIAS, Y, 20, {"y", "mask"}, NULL},
    {LENGTHS, ALIAS, Y, 2, {"y", "sequence_lengths"}, NULL},
    {LAST_SLOTS, ALIAS, Y, 2, {"y", "final_slots"}, NULL},
    {Y, SPECIAL, 0, 0, {"y", "x"}, y_is_x_transposed},
    {FINAL, ALIAS, X, 0, {"final_state", "x"}, NULL},
    {FINAL, ALIAS, Y, 0, {"final_state", "y"}, NULL},
    {FINAL, ALIAS, INITIAL, 15, {"final_state", "initial_state"}, NULL},
    {LAST_SLOTS, ALIAS, FINAL, 4, {"final_state", "final_slots"}, NULL},
    {MASK, SHAPE, 2, 7, {"mask", "7", "6"}, NULL},
    {MASK, SHAPE, 0, 3, {"mask", "3", "4"}, NULL},
    {MASK, SHAPE, 1, 2, {"mask", "2", "1"}, NULL},
    {MASK, NDIM, 0, 1, {"mask", "(4)", "(B, 1, L)"}, NULL},
    {MASK, TYPE, 0, F32, {"mask", "float32", "bool"}, NULL},
    {LENGTHS, ELEMENT, 2, -1, {"sequence_lengths[2]", "-1"}, NULL},
    {LENGTHS, ELEMENT, 3, 7, {"sequence_lengths[3]", "7", "6"}, NULL},
    {LENGTHS, SHAPE, 0, 3, {"sequence_lengths", "3", "4"}, NULL},
    {LENGTHS, TYPE, 0, F64, {"sequence_lengths", "float64", "int64"}, NULL},
    {LENGTHS, TYPE, 0, I16, {"sequence_lengths", "16", "int32"}, NULL},
    {LENGTHS, NDIM, 0, 2, {"sequence_lengths", "(B)"}, NULL},
    {OFFSETS, PRESENT, 0, 0, {"sequence_lengths", "sequence_offsets"}, NULL},
    {INITIAL, SHAPE, 1, 4, {"initial_state", "4", "5"}, NULL},
    {FINAL, SHAPE, 2, 2, {"final_state", "2", "3"}, NULL},
    {INITIAL, NDIM, 0, 2, {"initial_state has shape (9, 5)", "(rows, D, N) = (4, 5, 3)"}, NULL},
    {FIRST_SLOTS, ABSENT, 0, 0, {"initial_state", "9", "4"}, NULL},
    {LAST_SLOTS, ABSENT, 0, 0, {"final_state", "9", "4"}, NULL},
    {INITIAL, TYPE, 0, F16, {"initial_state", "float16", "float32"}, NULL},
    {FINAL, TYPE, 0, BF16, {"final_state", "bfloat16", "float32"}, NULL},
    {FIRST_SLOTS, ELEMENT, 2, 9, {"initial_slots[2]", "9"}, NULL},
    {LAST_SLOTS, ELEMENT, 0, 100, {"final_slots[0]", "100", "9"}, NULL},
    {LAST_SLOTS, ELEMENT, 3, 4, {"final_slots", "4"}, NULL},
    {FIRST_SLOTS, SHAPE, 0, 5, {"initial_slots", "5", "4"}, NULL},
    {LAST_SLOTS, TYPE, 0, F32, {"final_slots", "float32"}, NULL},
    {INITIAL, ABSENT, 0, 0, {"initial_slots", "initial_state"}, NULL},
    {FINAL, ABSENT, 0, 0, {"final_slots", "final_state"}, NULL},
    {INITIAL, SPECIAL, 0, 0, {"3"}, pool_read_and_written},
    {X, SPECIAL, 0, 0, {"raw"}, raw_forward},
    {X, SPECIAL, 0, 0, {"struct_size"}, io_without_size},
    {X, NDIM, 0, 0, {"x", "()", "(L, B, D)"}, NULL},
    {X, NDIM, 0, -1, {"x", "-1 dimensions", "0 to 8"}, NULL},
    {X, NDIM, 0, 9, {"x", "9 dimensions", "0 to 8"}, NULL},
    {MASK, NDIM, 0, 2, {"mask", "(4, 1)", "(B, L) = (4, 6)"}, NULL},
    {X, SPECIAL, 0, 0, {"x", "outside the address space"}, x_at_the_end_of_memory},
    {X, SPECIAL, 0, 0, {"x", "outside the address space"}, offset_beyond_memory},
    {X, SPECIAL, 0, 0, {"algorithm is FFT", "final_state"}, fft_to_a_state},
    {X, SPECIAL, 0, 0, {"algorithm is FFT", "initial_state"}, fft_from_a_state},
};

static const breakage packed[] = {
    {OFFSETS, ELEMENT, 2, 4, {"sequence_offsets[2]", "4", "5"}, NULL},
    {OFFSETS, ELEMENT, 4, 25, {"sequence_offsets[4]", "25", "24"}, NULL},
    {OFFSETS, ELEMENT, 0, -1, {"sequence_offsets[0]", "-1"}, NULL},
    {OFFSETS, SHAPE, 0, 0, {"sequence_offsets", "0"}, NULL},
    {OFFSETS, ABSENT, 0, 0, {"x", "(24, 5)"}, NULL},
    {OFFSETS, TYPE, 0, F64, {"sequence_offsets", "float64"}, NULL},
    {OFFSETS, NDIM, 0, 2, {"sequence_offsets"}, NULL},
    {OFFSETS, NDIM, 0, 0, {"sequence_offsets has 0 dimensions"}, NULL},
    {MASK, PRESENT, 0, 0, {"mask", "sequence_offsets"}, NULL},
    {LENGTHS, PRESENT, 0, 0, {"sequence_lengths", "sequence_offsets"}, NULL},
    {Y, SHAPE, 0, 23, {"y", "23", "24"}, NULL},
    {X, SPECIAL, 0, 0, {"x has shape (24, 4)", "(total, D) = (24, 5)"}, both_narrow},
    {LAST_SLOTS, SHAPE, 0, 5, {"final_slots", "5", "4"}, NULL},
};

static const breakage truncated[] = {
    {INITIAL, SPECIAL, 0, 0, {"initial_state", "truncation_length", "3"}, state_given},
    {FINAL, SPECIAL, 0, 0, {"final_state", "truncation_length", "3"}, state_kept},
};

/* Of a step: x and y (1, B, D), states and slots, no lengths, no mask. */
static const breakage steps[] = {
    {X, SHAPE, 0, 2, {"x has 2 steps, expected one"}, NULL},
    {X, SPECIAL, 0, 0, {"x has shape (2), expected 3 dimensions"}, flat_of_two},
    {Y, SHAPE, 1, 3, {"y", "3", "4"}, NULL},
    {X, SHAPE, 2, 6, {"x", "6", "5"}, NULL},
    {X, ABSENT, 0, 0, {"x is NULL, expected a tensor"}, NULL},
    {Y, ABSENT, 0, 0, {"y is NULL, expected a tensor"}, NULL},
    {LENGTHS, PRESENT, 0, 0, {"sequence_lengths is given to a step"}, NULL},
    {OFFSETS, PRESENT, 0, 0, {"sequence_offsets is given to a step"}, NULL},
    {MASK, PRESENT, 0, 0, {"mask", "6"}, NULL},
    {FIRST_SLOTS, ELEMENT, 2, 9, {"initial_slots[2]", "9"}, NULL},
    {LAST_SLOTS, ELEMENT, 3, 4, {"final_slots", "4"}, NULL},
    {Y, ALIAS, X, 1, {"y", "x"}, NULL},
    {X, NO_SHAPE, 0, 0, {"x", "its shape is NULL"}, NULL},
    {X, SPECIAL, 0, 0, {"x", "its shape is NULL"}, flat_without_shape},
    {MASK, SPECIAL, 0, 0, {"mask", "(0, 1)", "(B, L) = (4, 1)"}, mask_without_shape},
};

static test_tensor *tensor_at_place(const fixture *f, int where) {
  test_tensor *const all[] = {f->x,       f->y,     f->mask,          f->lengths,    f->offsets,
                              f->initial, f->final, f->initial_slots, f->final_slots};
  return all[where];
}

static void set_member(cumega_ema_io *io, place where, DLTensor *tensor) {
  const DLTensor **inputs[] = {&io->x,
                               NULL,
                               &io->mask,
                               &io->sequence_lengths,
                               &io->sequence_offsets,
                               &io->initial_state,
                               NULL,
                               &io->initial_slots,
                               &io->final_slots};
  if (where == Y)
    io->y = tensor;
  else if (where == FINAL)
    io->final_state = tensor;
  else
    *inputs[where] = tensor;
}

static void apply(const breakage *b, fixture *f) {
  test_tensor *tensor = tensor_at_place(f, b->where);
  DLTensor *t = dl(tensor);
  switch (b->what) {
  case ABSENT: set_member(&f->io, b->where, NULL); break;
  case PRESENT: set_member(&f->io, b->where, t); break;
  case NDIM: t->ndim = (int)b->value; break;
  case SHAPE: t->shape[b->index] = b->value; break;
  case STRIDE: t->strides[b->index] = b->value; break;
  case ELEMENT: tensor_set(tensor, b->index, 0, 0, (double)b->value); break;
  case OFFSET: t->byte_offset = (uint64_t)b->value; break;
  case ALIAS:
    t->data = (float *)tensor_at(tensor_at_place(f, b->index), 0, 0, 0) + b->value;
    break;
  case NO_DATA: t->data = NULL; break;
  case NO_SHAPE: t->shape = NULL; break;
  case ON_CUDA: t->device.device_type = kDLCUDA; break;
  case TYPE: t->dtype = types[b->value]; break;
  case SPECIAL: b->special(f); break;
  }
}

static void must_be_argument(const breakage *b, cumega_status status) {
  const char *sentence = cumega_context_message(ctx);
  ck_assert_msg(status == CUMEGA_ERROR_ARGUMENT, "%s about %s: %s", cumega_status_string(status),
                b->words[0], sentence);
  for (int i = 0; i < 3 && b->words[i] != NULL; i++)
    ck_assert_msg(strstr(sentence, b->words[i]) != NULL, "\"%s\" does not say \"%s\"", sentence,
                  b->words[i]);
}

/* All tensors, as bytes, except those that the test itself broke. */
static void remember_all(fixture *f, int unchanged) {
  test_tensor *all[] = {f->x, f->y, f->mask, f->initial, f->final, f->lengths, f->offsets};
  for (int i = 0; i < 7; i++) {
    if (!unchanged)
      tensor_remember(all[i]);
    else
      ck_assert_msg(tensor_unchanged(all[i]), "tensor %d was written", i);
  }
}

/* Whether only the values of an index tensor are wrong. Then the status is an argument error on a
 * CPU but not on CUDA; check_cuda_ema.c tests what happens there. */
static int is_no_argument(const breakage *b) {
  return device_is_cuda() && (b->what == ELEMENT || b->special == pool_read_and_written);
}

static void must_be_refused(const breakage *b, int is_packed, int64_t truncation) {
  if (is_no_argument(b)) return;
  fixture *f = fixture_new(is_packed, truncation);
  int64_t bytes = -7;
  MUST(ctx, cumega_ema_forward(ctx, f->ema, &f->io)); /* unbroken, it is accepted */
  memset(f->y->block, 0xFF, (size_t)f->y->block_bytes);
  apply(b, f);
  remember_all(f, 0);
  must_be_argument(b, cumega_ema_forward(ctx, f->ema, &f->io));
  remember_all(f, 1);
  if (b->what != ELEMENT && b->special == NULL) /* workspace_size does not read values */
    ck_assert_int_eq(cumega_ema_workspace_size(ctx, f->ema, &f->io, &bytes),
                     CUMEGA_ERROR_ARGUMENT);
  fixture_free(f);
}

#define COUNT(table) (int)(sizeof(table) / sizeof(table)[0])

START_TEST(a_broken_padded_call_is_refused_and_writes_nothing) {
  must_be_refused(&padded[_i], 0, 0);
}
END_TEST

START_TEST(a_broken_packed_call_is_refused_and_writes_nothing) {
  must_be_refused(&packed[_i], 1, 0);
}
END_TEST

START_TEST(a_state_with_a_truncation_is_refused_unless_it_is_ignored) {
  must_be_refused(&truncated[_i], 0, 3);
  fixture *f = fixture_new(0, 3);
  truncated[_i].special(f);
  f->io.ignore_truncation = 1;
  MUST(ctx, cumega_ema_forward(ctx, f->ema, &f->io));
  fixture_free(f);
}
END_TEST

START_TEST(a_packed_truncation_counts_rows) {
  static const breakage kept = {FINAL, SPECIAL, 0, 0, {"final_state", "24 rows"}, state_kept};
  must_be_refused(&kept, 1, 3);
}
END_TEST

static void set_slots(fixture *f, const int64_t first[B], const int64_t last[B], int aliased) {
  for (int b = 0; b < B; b++) {
    tensor_set(f->initial_slots, b, 0, 0, (double)first[b]);
    tensor_set(f->final_slots, b, 0, 0, (double)last[b]);
  }
  if (aliased) f->io.final_state = dl(f->initial);
}

/* The other writer of a row is named, whichever it is. If the pools are one, the reader's own row
 * is not reported. */
START_TEST(a_row_with_two_users_names_both) {
  static const struct {
    int64_t first[B], last[B];
    int aliased;
    const char *words;
  } rows[] = {
      {{-1, -1, -1, -1}, {0, 5, 5, -1}, 0, "final_slots[2] is 5, as final_slots[1] is"},
      {{-1, -1, -1, -1}, {5, -1, 2, 5}, 0, "final_slots[3] is 5, as final_slots[0] is"},
      {{1, -1, -1, -1}, {0, 1, -1, -1}, 1, "sequence 0 reads row 1, which sequence 1 writes"},
      {{0, 1, 5, -1}, {0, 1, 2, 5}, 1, "sequence 2 reads row 5, which sequence 3 writes"},
  };
  if (device_is_cuda()) return; /* values are not arguments there */
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    fixture *f = fixture_new(0, 0);
    set_slots(f, rows[i].first, rows[i].last, rows[i].aliased);
    ck_assert_int_eq(cumega_ema_forward(ctx, f->ema, &f->io), CUMEGA_ERROR_ARGUMENT);
    const char *sentence = cumega_context_message(ctx);
    ck_assert_msg(strstr(sentence, rows[i].words) != NULL, "%s", sentence);
    fixture_free(f);
  }
}
END_TEST

/* Row 5 of one pool is read and that of the other is written; or a single sequence reads and
 * writes its row. */
START_TEST(rows_that_are_not_shared_are_accepted) {
  static const struct {
    int64_t first[B], last[B];
    int aliased;
  } rows[] = {{{5, -1, 5, 8}, {0, 5, 8, -1}, 0}, {{-1, -1, 2, 7}, {0, 1, 2, -1}, 1}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    fixture *f = fixture_new(0, 0);
    set_slots(f, rows[i].first, rows[i].last, rows[i].aliased);
    MUST(ctx, cumega_ema_forward(ctx, f->ema, &f->io));
    fixture_free(f);
  }
}
END_TEST

/* One state is a pool; in the other, row b belongs to sequence b. */
START_TEST(either_state_alone_may_be_a_pool) {
  for (int which = 0; which < 2; which++) {
    fixture *f = fixture_new(0, 0), *pools = fixture_new(0, 0);
    const int64_t own[B] = {0, 1, 2, 3};
    for (int b = 0; b < B; b++)
      tensor_set(which ? pools->initial_slots : pools->final_slots, b, 0, 0, (double)own[b]);
    if (which) {
      f->io.initial_slots = NULL;
      dl(f->initial)->shape[0] = B;
    } else {
      f->io.final_slots = NULL;
      dl(f->final)->shape[0] = B;
    }
    MUST(ctx, cumega_ema_forward(ctx, f->ema, &f->io));
    MUST(ctx, cumega_ema_forward(ctx, pools->ema, &pools->io));
    const int64_t rows = which ? ROWS : B;
    for (int64_t i = 0; i < rows * D * N; i++)
      ck_assert_uint_eq(tensor_bits(f->final, i / (D * N), i / N % D, i % N),
                        tensor_bits(pools->final, i / (D * N), i / N % D, i % N));
    fixture_free(f);
    fixture_free(pools);
  }
}
END_TEST

/* Neither function is told whether io belongs to a step. */
START_TEST(workspace_size_and_prepare_know_a_step) {
  for (int how = 0; how < 4; how++) {
    fixture *f = fixture_new(how == 3, 0);
    test_tensor *mask = tensor_new_1(cumega_bool, B);
    int64_t bytes = -1;
    f->io.mask = NULL;
    f->io.sequence_lengths = NULL;
    for (int b = 0; b < B; b++) tensor_set(mask, b, 0, 0, 0);
    if (how < 3) dl(f->x)->shape[0] = dl(f->y)->shape[0] = 1;
    if (how == 0) { /* (B, D) */
      dl(f->x)->shape += 1, dl(f->y)->shape += 1;
      dl(f->x)->strides += 1, dl(f->y)->strides += 1;
      dl(f->x)->ndim = dl(f->y)->ndim = 2;
    }
    if (how == 1) f->io.raw = 1;
    if (how == 2) f->io.mask = dl(mask);
    /* how == 3: packed, which belongs to forward */
    MUST(ctx, cumega_ema_workspace_size(ctx, f->ema, &f->io, &bytes));
    if (!device_is_cuda()) MUST(ctx, cumega_ema_prepare(ctx, f->ema, &f->io));
    ck_assert_int_ge(bytes, 0);
    tensor_free(mask);
    fixture_free(f);
  }
}
END_TEST

/* x, y (B, D) and mask (B); NULL strides mean compact. */
START_TEST(a_step_of_compact_tensors_needs_no_strides) {
  fixture *f = fixture_new(0, 0);
  test_tensor *mask = tensor_new_1(cumega_bool, B), *columns = tensor_new_2(cumega_bool, B, 2);
  for (int b = 0; b < B; b++) {
    tensor_set(mask, b, 0, 0, b % 2);
    tensor_set(columns, b, 0, 0, b % 2);
    tensor_set(columns, b, 1, 0, 1 - b % 2);
  }
  f->io.sequence_lengths = NULL;
  f->io.mask = dl(columns);
  dl(columns)->ndim = 1;
  dl(f->x)->shape += 1;
  dl(f->y)->shape += 1;
  dl(f->x)->strides += 1;
  dl(f->y)->strides += 1;
  dl(f->x)->ndim = dl(f->y)->ndim = 2;
  MUST(ctx, cumega_ema_step(ctx, f->ema, &f->io));
  tensor_remember(f->y);
  memset(tensor_at(f->y, 0, 0, 0), 0, B * D * sizeof(float));
  f->io.mask = dl(mask);
  dl(f->x)->strides = dl(f->y)->strides = dl(mask)->strides = NULL;
  MUST(ctx, cumega_ema_step(ctx, f->ema, &f->io));
  ck_assert(tensor_unchanged(f->y));
  tensor_free(mask);
  tensor_free(columns);
  fixture_free(f);
}
END_TEST

START_TEST(missing_objects_are_refused) {
  fixture *f = fixture_new(0, 0);
  remember_all(f, 0);
  ck_assert_int_eq(cumega_ema_forward(NULL, f->ema, &f->io), CUMEGA_ERROR_ARGUMENT);
  ck_assert(strstr(cumega_context_message(NULL), "ctx") != NULL);
  ck_assert_int_eq(cumega_ema_forward(ctx, NULL, &f->io), CUMEGA_ERROR_ARGUMENT);
  ck_assert(strstr(cumega_context_message(ctx), "ema") != NULL);
  ck_assert_int_eq(cumega_ema_forward(ctx, f->ema, NULL), CUMEGA_ERROR_ARGUMENT);
  ck_assert(strstr(cumega_context_message(ctx), "io") != NULL);
  ck_assert_int_eq(cumega_ema_step(NULL, f->ema, &f->io), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_ema_step(ctx, NULL, &f->io), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_ema_step(ctx, f->ema, NULL), CUMEGA_ERROR_ARGUMENT);
  int64_t bytes;
  ck_assert_int_eq(cumega_ema_workspace_size(NULL, f->ema, &f->io, &bytes), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_ema_workspace_size(ctx, NULL, &f->io, &bytes), CUMEGA_ERROR_ARGUMENT);
  ck_assert_int_eq(cumega_ema_workspace_size(ctx, f->ema, &f->io, NULL), CUMEGA_ERROR_ARGUMENT);
  remember_all(f, 1);
  MUST(ctx, cumega_ema_forward(ctx, f->ema, &f->io));
  ck_assert_str_eq(cumega_context_message(ctx), ""); /* success clears the message */
  fixture_free(f);
}
END_TEST

/* A newer program's struct: accepted while the part that this version does not know is zero. */
START_TEST(a_longer_struct_is_accepted_while_its_rest_is_zero) {
  if (device_is_cuda()) return; /* staging does not copy such a struct's tensors */
  fixture *f = fixture_new(0, 0);
  struct {
    cumega_ema_io io;
    int64_t news[2];
  } newer = {f->io, {0, 0}};
  newer.io.struct_size = sizeof newer;
  MUST(ctx, cumega_ema_forward(ctx, f->ema, &newer.io));
  newer.news[1] = 1;
  remember_all(f, 0);
  ck_assert_int_eq(cumega_ema_forward(ctx, f->ema, &newer.io), CUMEGA_ERROR_UNSUPPORTED);
  remember_all(f, 1);
  fixture_free(f);
}
END_TEST

/* Views of one buffer that lie between each other without sharing an element are no overlap. */
START_TEST(interleaved_views_are_accepted) {
  fixture *f = fixture_new(0, 0);
  int64_t shape[] = {L, B, 2 * D};
  f->spare = tensor_new(cumega_float32, 3, shape, NULL);
  fill(f->spare, 0.5, 0.001);
  int64_t strides[] = {B * 2 * D, 2 * D, 2};
  memcpy(dl(f->x)->strides, strides, sizeof strides);
  memcpy(dl(f->y)->strides, strides, sizeof strides);
  dl(f->x)->data = tensor_at(f->spare, 0, 0, 0);
  dl(f->y)->data = tensor_at(f->spare, 0, 0, 1);
  double before = tensor_get(f->spare, 5, 3, 8);
  MUST(ctx, cumega_ema_forward(ctx, f->ema, &f->io));
  ck_assert_double_eq(tensor_get(f->spare, 5, 3, 8), before);
  dl(f->x)->strides[2] = dl(f->y)->strides[2] = 1; /* the two halves of a row */
  dl(f->y)->data = tensor_at(f->spare, 0, 0, D);
  MUST(ctx, cumega_ema_forward(ctx, f->ema, &f->io));
  ck_assert_double_eq(tensor_get(f->spare, 5, 3, 4), tensor_get(f->x, 5, 3, 4));
  fixture_free(f);
}
END_TEST

START_TEST(a_broken_step_is_refused_and_writes_nothing) {
  if (is_no_argument(&steps[_i])) return;
  fixture *f = fixture_new(0, 0);
  dl(f->x)->shape[0] = dl(f->y)->shape[0] = 1;
  f->io.sequence_lengths = NULL;
  f->io.mask = NULL;
  MUST(ctx, cumega_ema_step(ctx, f->ema, &f->io));
  apply(&steps[_i], f);
  remember_all(f, 0);
  must_be_argument(&steps[_i], cumega_ema_step(ctx, f->ema, &f->io));
  remember_all(f, 1);
  fixture_free(f);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("ema_statuses");
  TCase *tests = add_case(suite, "runs", 30);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_loop_test(tests, a_broken_padded_call_is_refused_and_writes_nothing, 0, COUNT(padded));
  tcase_add_loop_test(tests, a_broken_packed_call_is_refused_and_writes_nothing, 0, COUNT(packed));
  tcase_add_loop_test(tests, a_state_with_a_truncation_is_refused_unless_it_is_ignored, 0,
                      COUNT(truncated));
  tcase_add_loop_test(tests, a_broken_step_is_refused_and_writes_nothing, 0, COUNT(steps));
  tcase_add_test(tests, a_packed_truncation_counts_rows);
  tcase_add_test(tests, a_row_with_two_users_names_both);
  tcase_add_test(tests, rows_that_are_not_shared_are_accepted);
  tcase_add_test(tests, either_state_alone_may_be_a_pool);
  tcase_add_test(tests, workspace_size_and_prepare_know_a_step);
  tcase_add_test(tests, a_step_of_compact_tensors_needs_no_strides);
  tcase_add_test(tests, missing_objects_are_refused);
  tcase_add_test(tests, a_longer_struct_is_accepted_while_its_rest_is_zero);
  tcase_add_test(tests, interleaved_views_are_accepted);
  return run_suite(suite);
}
