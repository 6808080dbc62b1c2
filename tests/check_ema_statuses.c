/* Every way in which a run of the EMA can be wrong: the status, a sentence that names the argument
 * and the numbers, and nothing written. Each test below breaks one thing of a call that holds. */
#include <stdlib.h>
#include "ema_harness.h"
#include "runner.h"

enum { L = 6, B = 4, D = 5, N = 3, ROWS = 9 };

/* A padded call with everything in it; `packed` has the other form's tensors. */
typedef struct fixture {
  cumega_ema *ema;
  cumega_ema_io io;
  test_tensor *x, *y, *mask, *lengths, *offsets, *initial, *final, *initial_slots, *final_slots;
  test_tensor *spare; /* what a test puts in the place of another */
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
  cumega_ema_config config = cumega_ema_config_default(D);
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

/* ---- ways to break it: padded ---- */

static void x_null(fixture *f) {
  f->io.x = NULL;
}
static void y_null(fixture *f) {
  f->io.y = NULL;
}
static void x_flat(fixture *f) {
  dl(f->x)->ndim = 1;
}
static void x_four(fixture *f) {
  dl(f->x)->ndim = 4;
}
static void y_flat(fixture *f) {
  dl(f->y)->ndim = 2;
}
static void x_channels(fixture *f) {
  dl(f->x)->shape[2] = 4;
}
static void y_length(fixture *f) {
  dl(f->y)->shape[0] = 5;
}
static void y_batch(fixture *f) {
  dl(f->y)->shape[1] = 3;
}
static void y_channels(fixture *f) {
  dl(f->y)->shape[2] = 4;
}
static void x_int(fixture *f) {
  dl(f->x)->dtype = cumega_int32;
}
static void x_float8(fixture *f) {
  dl(f->x)->dtype = (DLDataType){kDLFloat, 8, 1};
}
static void x_lanes(fixture *f) {
  dl(f->x)->dtype.lanes = 2;
}
static void y_half(fixture *f) {
  dl(f->y)->dtype = cumega_float16;
}
static void both_float64(fixture *f) {
  dl(f->x)->dtype = dl(f->y)->dtype = cumega_float64;
  dl(f->x)->shape[0] = dl(f->y)->shape[0] = 3; /* as many bytes as there are */
  dl(f->lengths)->shape[0] = B;
  dl(f->mask)->shape[2] = 3;
  f->io.sequence_lengths = NULL;
}
static void x_cuda(fixture *f) {
  dl(f->x)->device.device_type = kDLCUDA;
}
static void y_cuda(fixture *f) {
  dl(f->y)->device.device_type = kDLCUDA;
}
static void mask_cuda(fixture *f) {
  dl(f->mask)->device.device_type = kDLCUDA;
}
static void x_negative(fixture *f) {
  dl(f->x)->shape[0] = -6;
}
static void x_vast(fixture *f) {
  dl(f->x)->shape[0] = INT64_C(1) << 62;
}
static void x_product(fixture *f) {
  dl(f->x)->shape[0] = dl(f->y)->shape[0] = INT64_C(1) << 31;
  dl(f->x)->shape[1] = dl(f->y)->shape[1] = INT64_C(1) << 31;
}
static void x_extent(fixture *f) {
  dl(f->x)->strides[0] = INT64_C(1) << 62;
}
static void x_least_stride(fixture *f) {
  dl(f->x)->strides[0] = INT64_MIN;
}
static void x_misaligned(fixture *f) {
  dl(f->x)->byte_offset = 2;
}
static void y_misaligned(fixture *f) {
  dl(f->y)->data = (char *)dl(f->y)->data + 1;
}
static void x_no_data(fixture *f) {
  dl(f->x)->data = NULL;
}
static void y_no_data(fixture *f) {
  dl(f->y)->data = NULL;
}
static void x_no_shape(fixture *f) {
  dl(f->x)->shape = NULL;
}
static void y_repeats(fixture *f) {
  dl(f->y)->strides[1] = 0;
}
static void y_overlaps_itself(fixture *f) {
  dl(f->y)->strides[0] = D;
}
static void y_in_x(fixture *f) {
  dl(f->y)->data = tensor_at(f->x, 0, 0, 1);
}
static void y_in_state(fixture *f) {
  dl(f->y)->data = tensor_at(f->initial, 0, 1, 0);
}
static void y_in_mask(fixture *f) {
  dl(f->mask)->data = tensor_at(f->y, 1, 0, 0);
}
static void y_in_lengths(fixture *f) {
  dl(f->lengths)->data = tensor_at(f->y, 0, 0, 1);
}
static void y_transposed_x(fixture *f) {
  dl(f->y)->data = dl(f->x)->data;
  dl(f->y)->strides[0] = D, dl(f->y)->strides[1] = L * D;
}
static void final_in_x(fixture *f) {
  dl(f->final)->data = dl(f->x)->data;
}
static void final_in_y(fixture *f) {
  dl(f->final)->data = dl(f->y)->data;
}
static void final_shifted(fixture *f) {
  dl(f->final)->data = tensor_at(f->initial, 1, 0, 0);
}
static void final_repeats(fixture *f) {
  dl(f->final)->strides[0] = 0;
}
static void mask_length(fixture *f) {
  dl(f->mask)->shape[2] = 7;
}
static void mask_batch(fixture *f) {
  dl(f->mask)->shape[0] = 3;
}
static void mask_middle(fixture *f) {
  dl(f->mask)->shape[1] = 2;
}
static void mask_flat(fixture *f) {
  dl(f->mask)->ndim = 1;
}
static void mask_float(fixture *f) {
  dl(f->mask)->dtype = cumega_float32;
}
static void mask_no_data(fixture *f) {
  dl(f->mask)->data = NULL;
}
static void length_negative(fixture *f) {
  tensor_set(f->lengths, 2, 0, 0, -1);
}
static void length_beyond(fixture *f) {
  tensor_set(f->lengths, 3, 0, 0, 7);
}
static void lengths_count(fixture *f) {
  dl(f->lengths)->shape[0] = 3;
}
static void lengths_float(fixture *f) {
  dl(f->lengths)->dtype = cumega_float64;
}
static void lengths_int16(fixture *f) {
  dl(f->lengths)->dtype = (DLDataType){kDLInt, 16, 1};
}
static void lengths_dims(fixture *f) {
  dl(f->lengths)->ndim = 2;
}
static void lengths_and_offsets(fixture *f) {
  f->io.sequence_offsets = dl(f->offsets);
}
static void state_channels(fixture *f) {
  dl(f->initial)->shape[1] = 4;
}
static void state_heads(fixture *f) {
  dl(f->final)->shape[2] = 2;
}
static void state_dims(fixture *f) {
  dl(f->initial)->ndim = 2;
}
static void state_rows(fixture *f) {
  f->io.initial_slots = NULL;
}
static void final_rows(fixture *f) {
  f->io.final_slots = NULL;
}
static void state_type(fixture *f) {
  dl(f->initial)->dtype = cumega_float16;
}
static void final_type(fixture *f) {
  dl(f->final)->dtype = cumega_bfloat16;
}
static void slot_beyond(fixture *f) {
  tensor_set(f->initial_slots, 2, 0, 0, 9);
}
static void final_slot_beyond(fixture *f) {
  tensor_set(f->final_slots, 0, 0, 0, 100);
}
static void final_slot_twice(fixture *f) {
  tensor_set(f->final_slots, 3, 0, 0, 4);
}
static void slots_count(fixture *f) {
  dl(f->initial_slots)->shape[0] = 5;
}
static void slots_type(fixture *f) {
  dl(f->final_slots)->dtype = cumega_float32;
}
static void slots_alone(fixture *f) {
  f->io.initial_state = NULL;
}
static void final_slots_alone(fixture *f) {
  f->io.final_state = NULL;
}
static void pool_read_and_written(fixture *f) {
  f->io.final_state = dl(f->initial);
  tensor_set(f->final_slots, 0, 0, 0, 3); /* sequence 2 reads row 3 */
}
static void raw_forward(fixture *f) {
  f->io.raw = 1;
}
static void io_no_size(fixture *f) {
  f->io.struct_size = 0;
}

/* ---- packed, truncated ---- */

static void offsets_fall(fixture *f) {
  tensor_set(f->offsets, 2, 0, 0, 4);
}
static void offsets_beyond(fixture *f) {
  tensor_set(f->offsets, 4, 0, 0, 25);
}
static void offsets_negative(fixture *f) {
  tensor_set(f->offsets, 0, 0, 0, -1);
}
static void offsets_empty(fixture *f) {
  dl(f->offsets)->shape[0] = 0;
}
static void offsets_missing(fixture *f) {
  f->io.sequence_offsets = NULL;
}
static void offsets_float(fixture *f) {
  dl(f->offsets)->dtype = cumega_float64;
}
static void mask_packed(fixture *f) {
  f->io.mask = dl(f->mask);
}
static void packed_y_rows(fixture *f) {
  dl(f->y)->shape[0] = 23;
}
static void packed_slots(fixture *f) {
  dl(f->final_slots)->shape[0] = 5;
}
static void state_and_truncation(fixture *f) {
  f->io.initial_state = dl(f->initial);
  f->io.initial_slots = dl(f->initial_slots);
}
static void final_and_truncation(fixture *f) {
  f->io.final_state = dl(f->final);
  f->io.final_slots = dl(f->final_slots);
}

typedef struct breakage {
  void (*break_it)(fixture *f);
  const char *name, *words[3]; /* what the sentence must hold */
} breakage;

#define BREAK(function, ...)                                                                       \
  {                                                                                                \
    function, #function, {                                                                         \
      __VA_ARGS__                                                                                  \
    }                                                                                              \
  }

static const breakage padded[] = {
    BREAK(x_null, "x"),
    BREAK(y_null, "y"),
    BREAK(x_flat, "x", "1"),
    BREAK(x_four, "x", "4"),
    BREAK(y_flat, "y", "2"),
    BREAK(x_channels, "x", "4", "5"),
    BREAK(y_length, "y", "5", "6"),
    BREAK(y_batch, "y", "3", "4"),
    BREAK(y_channels, "y", "4", "5"),
    BREAK(x_int, "x", "int32"),
    BREAK(x_float8, "x"),
    BREAK(x_lanes, "x", "2", "lanes"),
    BREAK(y_half, "y", "float16", "float32"),
    BREAK(both_float64, "x", "float64", "state_dtype"),
    BREAK(x_cuda, "x"),
    BREAK(y_cuda, "y"),
    BREAK(mask_cuda, "mask"),
    BREAK(x_negative, "x", "-6"),
    BREAK(x_vast, "x"),
    BREAK(x_product, "x"),
    BREAK(x_extent, "x"),
    BREAK(x_least_stride, "x"),
    BREAK(x_misaligned, "x", "align"),
    BREAK(y_misaligned, "y", "align"),
    BREAK(x_no_data, "x", "NULL"),
    BREAK(y_no_data, "y", "NULL"),
    BREAK(x_no_shape, "x", "NULL"),
    BREAK(y_repeats, "y"),
    BREAK(y_overlaps_itself, "y"),
    BREAK(y_in_x, "y", "x"),
    BREAK(y_in_state, "y", "initial_state"),
    BREAK(y_in_mask, "y", "mask"),
    BREAK(y_in_lengths, "y", "sequence_lengths"),
    BREAK(y_transposed_x, "y", "x"),
    BREAK(final_in_x, "final_state", "x"),
    BREAK(final_in_y, "final_state", "y"),
    BREAK(final_shifted, "final_state", "initial_state"),
    BREAK(final_repeats, "final_state"),
    BREAK(mask_length, "mask", "7", "6"),
    BREAK(mask_batch, "mask", "3", "4"),
    BREAK(mask_middle, "mask", "2"),
    BREAK(mask_flat, "mask", "1"),
    BREAK(mask_float, "mask", "float32", "bool"),
    BREAK(mask_no_data, "mask", "NULL"),
    BREAK(length_negative, "sequence_lengths[2]", "-1"),
    BREAK(length_beyond, "sequence_lengths[3]", "7", "6"),
    BREAK(lengths_count, "sequence_lengths", "3", "4"),
    BREAK(lengths_float, "sequence_lengths", "float64", "int64"),
    BREAK(lengths_int16, "sequence_lengths", "int16"),
    BREAK(lengths_dims, "sequence_lengths", "2"),
    BREAK(lengths_and_offsets, "sequence_lengths", "sequence_offsets"),
    BREAK(state_channels, "initial_state", "4", "5"),
    BREAK(state_heads, "final_state", "2", "3"),
    BREAK(state_dims, "initial_state", "2"),
    BREAK(state_rows, "initial_state", "9", "4"),
    BREAK(final_rows, "final_state", "9", "4"),
    BREAK(state_type, "initial_state", "float16", "float32"),
    BREAK(final_type, "final_state", "bfloat16", "float32"),
    BREAK(slot_beyond, "initial_slots[2]", "9"),
    BREAK(final_slot_beyond, "final_slots[0]", "100", "9"),
    BREAK(final_slot_twice, "final_slots", "4"),
    BREAK(slots_count, "initial_slots", "5", "4"),
    BREAK(slots_type, "final_slots", "float32"),
    BREAK(slots_alone, "initial_slots", "initial_state"),
    BREAK(final_slots_alone, "final_slots", "final_state"),
    BREAK(pool_read_and_written, "3"),
    BREAK(raw_forward, "raw"),
    BREAK(io_no_size, "struct_size"),
};

static const breakage packed[] = {
    BREAK(offsets_fall, "sequence_offsets[2]", "4", "5"),
    BREAK(offsets_beyond, "sequence_offsets[4]", "25", "24"),
    BREAK(offsets_negative, "sequence_offsets[0]", "-1"),
    BREAK(offsets_empty, "sequence_offsets", "0"),
    BREAK(offsets_missing, "x"),
    BREAK(offsets_float, "sequence_offsets", "float64"),
    BREAK(mask_packed, "mask", "sequence_offsets"),
    BREAK(packed_y_rows, "y", "23", "24"),
    BREAK(packed_slots, "final_slots", "5", "4"),
};

static const breakage truncated[] = {
    BREAK(state_and_truncation, "truncation_length", "3"),
    BREAK(final_and_truncation, "truncation_length", "3"),
};

/* Everything but the tensors that the test broke itself, seen as bytes. */
static void remember_all(fixture *f, int unchanged) {
  test_tensor *all[] = {f->x, f->y, f->mask, f->initial, f->final, f->lengths, f->offsets};
  for (int i = 0; i < 7; i++) {
    if (!unchanged)
      tensor_remember(all[i]);
    else
      ck_assert_msg(tensor_unchanged(all[i]), "tensor %d was written", i);
  }
}

static void must_be_refused(const breakage *b, int is_packed, int64_t truncation) {
  fixture *f = fixture_new(is_packed, truncation);
  MUST(ctx, cumega_ema_forward(ctx, f->ema, &f->io)); /* whole, it holds */
  memset(f->y->block, 0xFF, (size_t)f->y->block_bytes);
  b->break_it(f);
  remember_all(f, 0);
  cumega_status status = cumega_ema_forward(ctx, f->ema, &f->io);
  const char *sentence = cumega_context_message(ctx);
  ck_assert_msg(status == CUMEGA_ERROR_ARGUMENT, "%s: %s: %s", b->name,
                cumega_status_string(status), sentence);
  for (int i = 0; i < 3 && b->words[i] != NULL; i++)
    ck_assert_msg(strstr(sentence, b->words[i]) != NULL, "%s: \"%s\" does not say \"%s\"", b->name,
                  sentence, b->words[i]);
  remember_all(f, 1);
  int64_t bytes = -7;
  status = cumega_ema_workspace_size(ctx, f->ema, NULL, &bytes);
  ck_assert_int_eq(status, CUMEGA_ERROR_ARGUMENT);
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
  truncated[_i].break_it(f);
  f->io.ignore_truncation = 1;
  MUST(ctx, cumega_ema_forward(ctx, f->ema, &f->io));
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
  ck_assert_str_eq(cumega_context_message(ctx), ""); /* success clears the sentence */
  fixture_free(f);
}
END_TEST

/* A newer program's struct: accepted while what this version does not know is zero. */
START_TEST(a_longer_struct_is_accepted_while_its_rest_is_zero) {
  fixture *f = fixture_new(0, 0);
  struct {
    cumega_ema_io io;
    int64_t news[2];
  } newer = {f->io, {0, 0}};
  newer.io.struct_size = sizeof newer;
  MUST(ctx, cumega_ema_forward(ctx, f->ema, &newer.io));
  newer.news[1] = 1;
  remember_all(f, 0);
  ck_assert_int_eq(cumega_ema_forward(ctx, f->ema, &newer.io), CUMEGA_ERROR_ARGUMENT);
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

/* ---- step ---- */

static void step_three(fixture *f) {
  dl(f->x)->shape[0] = 2;
}
static void step_y(fixture *f) {
  dl(f->y)->shape[1] = 3;
}
static void step_lengths(fixture *f) {
  f->io.sequence_lengths = dl(f->lengths);
}
static void step_offsets(fixture *f) {
  f->io.sequence_offsets = dl(f->offsets);
}
static void step_mask(fixture *f) {
  f->io.mask = dl(f->mask);
  dl(f->mask)->shape[2] = 2;
}
static void step_channels(fixture *f) {
  dl(f->x)->shape[2] = 6;
}

static const breakage steps[] = {
    BREAK(step_three, "x", "2"),
    BREAK(step_y, "y", "3", "4"),
    BREAK(step_lengths, "sequence_lengths"),
    BREAK(step_offsets, "sequence_offsets"),
    BREAK(step_mask, "mask", "2"),
    BREAK(step_channels, "x", "6", "5"),
    BREAK(x_null, "x"),
    BREAK(y_null, "y"),
    BREAK(slot_beyond, "initial_slots[2]", "9"),
    BREAK(final_slot_twice, "final_slots", "4"),
    BREAK(y_in_x, "y", "x"),
};

START_TEST(a_broken_step_is_refused_and_writes_nothing) {
  fixture *f = fixture_new(0, 0);
  dl(f->x)->shape[0] = dl(f->y)->shape[0] = 1;
  f->io.sequence_lengths = NULL;
  f->io.mask = NULL;
  MUST(ctx, cumega_ema_step(ctx, f->ema, &f->io));
  steps[_i].break_it(f);
  remember_all(f, 0);
  cumega_status status = cumega_ema_step(ctx, f->ema, &f->io);
  const char *sentence = cumega_context_message(ctx);
  ck_assert_msg(status == CUMEGA_ERROR_ARGUMENT, "%s: %s", steps[_i].name, sentence);
  for (int i = 0; i < 3 && steps[_i].words[i] != NULL; i++)
    ck_assert_msg(strstr(sentence, steps[_i].words[i]) != NULL, "%s: \"%s\" does not say \"%s\"",
                  steps[_i].name, sentence, steps[_i].words[i]);
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
  tcase_add_test(tests, missing_objects_are_refused);
  tcase_add_test(tests, a_longer_struct_is_accepted_while_its_rest_is_zero);
  tcase_add_test(tests, interleaved_views_are_accepted);
  return run_suite(suite);
}
