/* Descriptions of tensors: strides, views, and what is refused. */
#include <stdint.h>
#include <string.h>
#include <cumega/cumega.h>
#include "runner.h"

static float memory_of_24[24];

static DLTensor *init(cumega_tensor *tensor, int ndim, const int64_t *shape) {
  return cumega_tensor_init(tensor, memory_of_24, cumega_cpu, cumega_float32, ndim, shape);
}

START_TEST(a_compact_tensor_has_row_major_strides) {
  cumega_tensor t;
  int64_t shape[] = {2, 3, 4};
  DLTensor *dl = init(&t, 3, shape);
  ck_assert_ptr_eq(dl, &t.dl);
  ck_assert_ptr_eq(dl->data, memory_of_24);
  ck_assert_int_eq(dl->device.device_type, kDLCPU);
  ck_assert_int_eq(dl->device.device_id, 0);
  ck_assert_int_eq(dl->dtype.code, kDLFloat);
  ck_assert_int_eq(dl->dtype.bits, 32);
  ck_assert_int_eq(dl->dtype.lanes, 1);
  ck_assert_uint_eq(dl->byte_offset, 0);
  ck_assert_int_eq(dl->ndim, 3);
  int64_t strides[] = {12, 4, 1};
  ck_assert_mem_eq(dl->shape, shape, sizeof shape);
  ck_assert_mem_eq(dl->strides, strides, sizeof strides);
}
END_TEST

START_TEST(the_shape_is_copied) {
  cumega_tensor t;
  int64_t shape[] = {2, 3};
  DLTensor *dl = init(&t, 2, shape);
  shape[0] = 99;
  ck_assert_int_eq(dl->shape[0], 2);
  ck_assert_ptr_eq(dl->shape, t.shape);
  ck_assert_ptr_eq(dl->strides, t.strides);
}
END_TEST

START_TEST(zero_to_eight_dimensions_are_accepted) {
  int64_t shape[CUMEGA_MAX_DIMS + 1] = {1, 2, 1, 3, 1, 2, 1, 2, 1};
  for (int ndim = 0; ndim <= CUMEGA_MAX_DIMS; ndim++) {
    cumega_tensor t;
    DLTensor *dl = init(&t, ndim, shape);
    ck_assert_ptr_nonnull(dl);
    ck_assert_int_eq(dl->ndim, ndim);
    int64_t expected = 1;
    for (int i = ndim - 1; i >= 0; i--) {
      ck_assert_int_eq(dl->strides[i], expected);
      expected *= shape[i];
    }
  }
  cumega_tensor t;
  ck_assert_ptr_null(init(&t, CUMEGA_MAX_DIMS + 1, shape));
  ck_assert_ptr_null(init(&t, -1, shape));
  ck_assert_ptr_nonnull(init(&t, 0, NULL));
}
END_TEST

START_TEST(an_empty_tensor_keeps_the_strides_of_its_neighbours) {
  cumega_tensor t;
  int64_t shape[] = {2, 0, 4};
  int64_t strides[] = {4, 4, 1};
  ck_assert_ptr_nonnull(init(&t, 3, shape));
  ck_assert_mem_eq(t.strides, strides, sizeof strides);
}
END_TEST

START_TEST(null_data_is_allowed) {
  cumega_tensor t;
  int64_t shape[] = {0};
  ck_assert_ptr_nonnull(cumega_tensor_init(&t, NULL, cumega_cpu, cumega_int64, 1, shape));
  ck_assert_ptr_null(t.dl.data);
}
END_TEST

START_TEST(null_arguments_and_negative_dimensions_are_refused) {
  cumega_tensor t;
  int64_t negative[] = {2, -1};
  int64_t hidden[] = {0, -1};
  int64_t shape[] = {2};
  ck_assert_ptr_null(init(NULL, 1, shape));
  ck_assert_ptr_null(init(&t, 1, NULL));
  ck_assert_ptr_null(init(&t, 2, negative));
  ck_assert_ptr_null(init(&t, 2, hidden));
}
END_TEST

START_TEST(a_shape_whose_product_overflows_is_refused) {
  cumega_tensor t;
  int64_t largest[] = {INT64_MAX, 1};
  int64_t product[] = {INT64_C(1) << 32, INT64_C(1) << 31};
  int64_t stride[] = {1, INT64_MAX, 2};
  int64_t wraps_to_zero[] = {2, INT64_C(1) << 32, INT64_C(1) << 32};
  int64_t empty[] = {0, INT64_MAX, 2};
  ck_assert_ptr_nonnull(init(&t, 2, largest));
  ck_assert_ptr_null(init(&t, 2, product));
  ck_assert_ptr_null(init(&t, 3, stride));
  ck_assert_ptr_null(init(&t, 3, wraps_to_zero));
  ck_assert_ptr_null(init(&t, 3, empty));
}
END_TEST

START_TEST(a_refused_tensor_is_left_alone) {
  cumega_tensor t, before;
  memset(&t, 0x5a, sizeof t);
  memcpy(&before, &t, sizeof t);
  int64_t bad[] = {INT64_MAX, INT64_MAX};
  ck_assert_ptr_null(init(&t, 2, bad));
  ck_assert_mem_eq(&t, &before, sizeof t);
}
END_TEST

START_TEST(a_permuted_view_addresses_the_same_elements) {
  cumega_tensor source, view;
  int64_t shape[] = {2, 3, 4}; /* memory order (B, L, D) */
  int order[] = {1, 0, 2};     /* logical (L, B, D) */
  DLTensor *blc = init(&source, 3, shape);
  blc->byte_offset = 8;
  DLTensor *lbd = cumega_tensor_permute(&view, blc, order);
  ck_assert_ptr_eq(lbd, &view.dl);
  ck_assert_ptr_eq(lbd->data, blc->data);
  ck_assert_uint_eq(lbd->byte_offset, 8);
  ck_assert_int_eq(lbd->ndim, 3);
  for (int64_t b = 0; b < 2; b++)
    for (int64_t l = 0; l < 3; l++)
      for (int64_t d = 0; d < 4; d++)
        ck_assert_int_eq(l * lbd->strides[0] + b * lbd->strides[1] + d * lbd->strides[2],
                         (b * 3 + l) * 4 + d);
  int64_t expected[] = {3, 2, 4};
  ck_assert_mem_eq(lbd->shape, expected, sizeof expected);
  ck_assert_ptr_eq(lbd->shape, view.shape);
  ck_assert_ptr_eq(lbd->strides, view.strides);
}
END_TEST

START_TEST(a_cycle_of_three_takes_dimension_order_i_as_dimension_i) {
  cumega_tensor source, view;
  int64_t shape[] = {2, 3, 4};
  int order[] = {2, 0, 1};
  ck_assert_ptr_nonnull(cumega_tensor_permute(&view, init(&source, 3, shape), order));
  int64_t expected_shape[] = {4, 2, 3}, expected_strides[] = {1, 12, 4};
  ck_assert_mem_eq(view.shape, expected_shape, sizeof expected_shape);
  ck_assert_mem_eq(view.strides, expected_strides, sizeof expected_strides);
}
END_TEST

START_TEST(null_strides_of_a_source_mean_compact) {
  cumega_tensor view;
  int64_t shape[] = {2, 3, 4};
  DLTensor source = {.data = memory_of_24,
                     .device = cumega_cpu,
                     .dtype = cumega_float32,
                     .ndim = 3,
                     .shape = shape,
                     .strides = NULL,
                     .byte_offset = 4};
  int order[] = {2, 1, 0};
  int64_t expected[] = {1, 4, 12};
  ck_assert_ptr_nonnull(cumega_tensor_permute(&view, &source, order));
  ck_assert_mem_eq(view.strides, expected, sizeof expected);
  int64_t overflowing[] = {4, INT64_MAX, 2};
  source.shape = overflowing;
  ck_assert_ptr_null(cumega_tensor_permute(&view, &source, order));
}
END_TEST

START_TEST(strides_of_any_sign_pass_through_a_view) {
  cumega_tensor view;
  int64_t shape[] = {2, 3}, strides[] = {-5, 0};
  DLTensor source = {.data = memory_of_24,
                     .device = cumega_cpu,
                     .dtype = cumega_float32,
                     .ndim = 2,
                     .shape = shape,
                     .strides = strides};
  int order[] = {1, 0};
  ck_assert_ptr_nonnull(cumega_tensor_permute(&view, &source, order));
  ck_assert_int_eq(view.strides[0], 0);
  ck_assert_int_eq(view.strides[1], -5);
}
END_TEST

START_TEST(a_scalar_permutes_to_itself) {
  cumega_tensor source, view;
  int64_t shape[] = {0};
  int order[] = {0};
  ck_assert_ptr_nonnull(cumega_tensor_permute(&view, init(&source, 0, shape), order));
  ck_assert_int_eq(view.dl.ndim, 0);
  DLTensor without_arrays = {.data = memory_of_24, .dtype = cumega_float32};
  ck_assert_ptr_nonnull(cumega_tensor_permute(&view, &without_arrays, order));
}
END_TEST

START_TEST(an_order_that_is_no_permutation_is_refused) {
  cumega_tensor source, view;
  int64_t shape[] = {2, 3, 4};
  int orders[][3] = {{0, 0, 2}, {0, 1, 3}, {-1, 0, 1}, {1, 2, 1}, {0, 1, 100}};
  init(&source, 3, shape);
  for (size_t i = 0; i < sizeof orders / sizeof *orders; i++)
    ck_assert_ptr_null(cumega_tensor_permute(&view, &source.dl, orders[i]));
}
END_TEST

START_TEST(a_view_of_bad_arguments_is_refused) {
  cumega_tensor source, view;
  int64_t shape[] = {2, 3};
  int order[] = {1, 0};
  DLTensor *dl = init(&source, 2, shape);
  ck_assert_ptr_null(cumega_tensor_permute(NULL, dl, order));
  ck_assert_ptr_null(cumega_tensor_permute(&view, NULL, order));
  ck_assert_ptr_null(cumega_tensor_permute(&view, dl, NULL));
  ck_assert_ptr_null(cumega_tensor_permute(&source, dl, order));
  dl->shape = NULL;
  ck_assert_ptr_null(cumega_tensor_permute(&view, dl, order));
  dl->shape = source.shape;
  dl->ndim = -1;
  ck_assert_ptr_null(cumega_tensor_permute(&view, dl, order));
  int64_t nine[CUMEGA_MAX_DIMS + 1] = {1, 1, 1, 1, 1, 1, 1, 1, 1};
  const int of_nine[CUMEGA_MAX_DIMS + 1] = {0, 1, 2, 3, 4, 5, 6, 7, 8};
  dl->ndim = CUMEGA_MAX_DIMS + 1;
  dl->shape = dl->strides = nine;
  ck_assert_ptr_null(cumega_tensor_permute(&view, dl, of_nine));
}
END_TEST

int main(void) {
  Suite *suite = suite_create("tensor");
  TCase *tests = add_case(suite, "tensor", 10);
  tcase_add_test(tests, a_compact_tensor_has_row_major_strides);
  tcase_add_test(tests, the_shape_is_copied);
  tcase_add_test(tests, zero_to_eight_dimensions_are_accepted);
  tcase_add_test(tests, an_empty_tensor_keeps_the_strides_of_its_neighbours);
  tcase_add_test(tests, null_data_is_allowed);
  tcase_add_test(tests, null_arguments_and_negative_dimensions_are_refused);
  tcase_add_test(tests, a_shape_whose_product_overflows_is_refused);
  tcase_add_test(tests, a_refused_tensor_is_left_alone);
  tcase_add_test(tests, a_permuted_view_addresses_the_same_elements);
  tcase_add_test(tests, a_cycle_of_three_takes_dimension_order_i_as_dimension_i);
  tcase_add_test(tests, null_strides_of_a_source_mean_compact);
  tcase_add_test(tests, strides_of_any_sign_pass_through_a_view);
  tcase_add_test(tests, a_scalar_permutes_to_itself);
  tcase_add_test(tests, an_order_that_is_no_permutation_is_refused);
  tcase_add_test(tests, a_view_of_bad_arguments_is_refused);
  return run_suite(suite);
}
