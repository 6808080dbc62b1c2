/* Index tensors: what a device reads if values are wrong, and what the front refuses in host
 * memory. */
#include "batch.h"
#include "context_struct.h"
#include "runner.h"

static tensor_index index_of(const int64_t *values) {
  return (tensor_index){values, 1, 1};
}

START_TEST(a_length_outside_its_tensor_is_clamped) {
  const int64_t lengths[] = {0, 5, 6, -1, INT64_MAX, INT64_MIN};
  const int64_t expected[] = {0, 5, 5, 0, 5, 0};
  const batch_layout padded = {.count = 6, .rows = 5, .index = index_of(lengths)};
  for (int64_t i = 0; i < padded.count; i++) {
    batch_span span;
    ck_assert_uint_eq(batch_read(&padded, i, &span), i < 2 ? 0 : CUMEGA_REPORT_LENGTH);
    ck_assert_int_eq(span.first, 0);
    ck_assert_int_eq(span.length, expected[i]);
  }
}
END_TEST

START_TEST(without_lengths_all_rows_count) {
  const batch_layout padded = {.count = 2, .rows = 5};
  batch_span span;
  ck_assert_uint_eq(batch_read(&padded, 1, &span), 0);
  ck_assert_int_eq(span.length, 5);
}
END_TEST

/* Pairs of offsets, each for a batch of one sequence in 7 rows. */
static const struct {
  int64_t offsets[2];
  int is_valid;
} packed[] = {{{0, 7}, 1},
              {{3, 3}, 1},
              {{7, 7}, 1},
              {{4, 3}, 0},
              {{-1, 3}, 0},
              {{3, 8}, 0},
              {{8, 8}, 0},
              {{0, INT64_MAX}, 0},
              {{INT64_MIN, -1}, 0},
              {{0, INT64_MIN}, 0},
              {{INT64_MIN, INT64_MAX}, 0},
              {{7, INT64_MIN}, 0}};

static batch_layout packed_of(int i) {
  return (batch_layout){.count = 1, .rows = 7, .packed = 1, .index = index_of(packed[i].offsets)};
}

START_TEST(wrong_offsets_are_reported) {
  const batch_layout one = packed_of(_i);
  batch_span span;
  ck_assert_uint_eq(batch_read(&one, 0, &span), packed[_i].is_valid ? 0 : CUMEGA_REPORT_OFFSET);
  if (!packed[_i].is_valid) return;
  ck_assert_int_eq(span.first, packed[_i].offsets[0]);
  ck_assert_int_eq(span.length, packed[_i].offsets[1] - packed[_i].offsets[0]);
}
END_TEST

START_TEST(slots_are_reported_where_the_pool_has_no_such_row) {
  const int64_t slots[] = {0, 2, -1, INT64_MIN, 3, INT64_MAX};
  const batch_slots states = {index_of(slots), 3}, absent = {.rows = 0};
  for (int64_t i = 0; i < 6; i++)
    ck_assert_uint_eq(batch_read_slot(&states, i), i < 4 ? 0 : CUMEGA_REPORT_SLOT);
  ck_assert_uint_eq(batch_read_slot(&absent, 0), 0); /* a run without that state */
}
END_TEST

/* ---- the front ---- */

static void must_say(cumega_context *ctx, cumega_status status, const char *sentence) {
  ck_assert_int_eq(status, sentence ? CUMEGA_ERROR_ARGUMENT : CUMEGA_OK);
  if (sentence)
    ck_assert_msg(strstr(cumega_context_message(ctx), sentence) != NULL, "%s",
                  cumega_context_message(ctx));
}

static cumega_context *open_context(void) {
  cumega_context *ctx = NULL;
  ck_assert_int_eq(cumega_context_create(NULL, &ctx), CUMEGA_OK);
  return ctx;
}

START_TEST(the_front_refuses_the_offsets_that_a_device_reports) {
  cumega_context *ctx = open_context();
  const batch_layout one = packed_of(_i);
  must_say(ctx, batch_check(ctx, &one, (batch_names){"starts", "T", ""}, NULL),
           packed[_i].is_valid ? NULL : "starts[");
  cumega_context_destroy(ctx);
}
END_TEST

START_TEST(lengths_are_at_least_those_of_another_batch) {
  const int64_t few[] = {1, 3}, many[] = {1, 2};
  const batch_layout least = {.count = 2, .rows = 4, .index = index_of(few)};
  batch_layout checked = {.count = 2, .rows = 5, .index = index_of(many)};
  cumega_context *ctx = open_context();
  must_say(ctx, batch_check(ctx, &checked, (batch_names){"steps", "T", ", a reason,"}, NULL),
           NULL);
  must_say(ctx, batch_check(ctx, &checked, (batch_names){"steps", "T", ", a reason,"}, &least),
           "steps[1] is 2, expected 3");
  checked.rows = 1;
  must_say(ctx, batch_check(ctx, &checked, (batch_names){"steps", "T", ", a reason,"}, NULL),
           "steps[1] is 2, expected 0 to T = 1");
  cumega_context_destroy(ctx);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("inside_batch");
  TCase *device = add_case(suite, "device", 60), *front = add_case(suite, "front", 60);
  const int pairs = sizeof packed / sizeof *packed;
  tcase_add_test(device, a_length_outside_its_tensor_is_clamped);
  tcase_add_test(device, without_lengths_all_rows_count);
  tcase_add_loop_test(device, wrong_offsets_are_reported, 0, pairs);
  tcase_add_test(device, slots_are_reported_where_the_pool_has_no_such_row);
  tcase_add_loop_test(front, the_front_refuses_the_offsets_that_a_device_reports, 0, pairs);
  tcase_add_test(front, lengths_are_at_least_those_of_another_batch);
  return run_suite(suite);
}
