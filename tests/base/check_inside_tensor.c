/* Tensor arguments from inside the library: types, devices, addresses, and whether two of them
 * share memory. */
#include <stdint.h>
#include <string.h>
#include "call.h"
#include "runner.h"
#include "tensor_view.h"

static cumega_context *ctx;

static void setup(void) {
  ck_assert_int_eq(cumega_context_create(NULL, &ctx), CUMEGA_OK);
}
static void teardown(void) {
  ctx->device = cumega_cpu;
  cumega_context_destroy(ctx);
}

static void check_sentence(const char *part) {
  ck_assert_msg(strstr(cumega_context_message(ctx), part) != NULL, "'%s' is not in: %s", part,
                cumega_context_message(ctx));
}

START_TEST(every_type_has_its_name_and_size) {
  const struct {
    tensor_type type;
    DLDataType dtype;
    const char *name;
    int64_t bytes;
  } rows[] = {{TYPE_FLOAT32, cumega_float32, "float32", 4},
              {TYPE_FLOAT16, cumega_float16, "float16", 2},
              {TYPE_BFLOAT16, cumega_bfloat16, "bfloat16", 2},
              {TYPE_FLOAT64, cumega_float64, "float64", 8},
              {TYPE_BOOL, cumega_bool, "bool", 1},
              {TYPE_UINT8, cumega_uint8, "uint8", 1},
              {TYPE_INT32, cumega_int32, "int32", 4},
              {TYPE_INT64, cumega_int64, "int64", 8}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    ck_assert_int_eq(tensor_type_of(rows[i].dtype), rows[i].type);
    ck_assert_str_eq(tensor_type_name(rows[i].type), rows[i].name);
    ck_assert_int_eq(tensor_type_bytes(rows[i].type), rows[i].bytes);
  }
  ck_assert_int_eq(tensor_type_of((DLDataType){kDLComplex, 64, 1}), 0);
  ck_assert_int_eq(tensor_type_bytes((tensor_type)0), 0);
}
END_TEST

START_TEST(a_cuda_context_takes_its_own_devices_tensors_managed_or_not) {
  static const struct {
    DLDevice device;
    int fits;
  } rows[] = {{{kDLCUDA, 1}, 1},        {{kDLCUDAManaged, 1}, 1}, {{kDLCUDA, 0}, 0},
              {{kDLCUDAManaged, 2}, 0}, {{kDLCPU, 0}, 0},         {{kDLCUDAHost, 1}, 0}};
  float data[2];
  const int64_t shape[] = {2};
  cumega_tensor t;
  tensor_view view;
  ctx->device = (DLDevice){kDLCUDA, 1};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    cumega_tensor_init(&t, data, rows[i].device, cumega_float32, 1, shape);
    cumega_status status = tensor_view_make(ctx, "x", &t.dl, TYPES_FLOAT, &view);
    ck_assert_int_eq(status, rows[i].fits ? CUMEGA_OK : CUMEGA_ERROR_ARGUMENT);
    if (!rows[i].fits) check_sentence("expected the context's CUDA device 1");
  }
  ck_assert_int_eq(call_check_device(ctx, "norm", (DLDevice){kDLCUDA, 1}), CUMEGA_OK);
  ck_assert_int_eq(call_check_device(ctx, "norm", (DLDevice){kDLCUDA, 0}), CUMEGA_ERROR_ARGUMENT);
  check_sentence("norm was made for device (2, 0), expected the context's (2, 1)");
}
END_TEST

/* 100 elements of 4 bytes, upwards and downwards from an address. */
START_TEST(tensors_end_where_addresses_do) {
  static const struct {
    uintptr_t address;
    int64_t stride;
    int fits;
  } rows[] = {{400, 1, 1},
              {UINTPTR_MAX - 399, 1, 0}, /* the end would be address 0 */
              {UINTPTR_MAX - 403, 1, 1},
              {UINTPTR_MAX - 395, 1, 0},
              {396, -1, 1},
              {392, -1, 0},
              {4, -1, 0}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    int64_t shape[] = {100}, strides[] = {rows[i].stride};
    DLTensor t = {.data = (void *)rows[i].address,
                  .device = cumega_cpu,
                  .ndim = 1,
                  .dtype = cumega_float32,
                  .shape = shape,
                  .strides = strides};
    tensor_view view;
    cumega_status status = tensor_view_make(ctx, "x", &t, TYPES_FLOAT, &view);
    ck_assert_msg(status == (rows[i].fits ? CUMEGA_OK : CUMEGA_ERROR_ARGUMENT), "row %d", (int)i);
    if (!rows[i].fits) check_sentence("x reaches outside the address space");
  }
}
END_TEST

static tensor_view view_of(char *data, DLDataType dtype, int ndim, const int64_t *shape,
                           const int64_t *strides) {
  DLTensor t = {.data = data,
                .device = cumega_cpu,
                .ndim = ndim,
                .dtype = dtype,
                .shape = (int64_t *)(uintptr_t)shape,
                .strides = (int64_t *)(uintptr_t)strides};
  tensor_view view;
  ck_assert_msg(tensor_view_make(ctx, "x", &t, ~0u, &view) == CUMEGA_OK, "%s",
                cumega_context_message(ctx));
  return view;
}

START_TEST(tensors_are_the_same_where_everything_is) {
  static char bytes[64] __attribute__((aligned(8)));
  static const int64_t two[] = {2, 3}, turned[] = {3, 2}, rows[] = {3, 1}, columns[] = {1, 2};
  const tensor_view one = view_of(bytes, cumega_float32, 2, two, rows);
  const tensor_view others[] = {view_of(bytes + 4, cumega_float32, 2, two, rows),
                                view_of(bytes, cumega_int32, 2, two, rows),
                                view_of(bytes, cumega_float32, 1, two, rows),
                                view_of(bytes, cumega_float32, 2, turned, rows),
                                view_of(bytes, cumega_float32, 2, two, columns)};
  tensor_view again = view_of(bytes, cumega_float32, 2, two, NULL);
  ck_assert(tensor_view_same(&one, &again));
  for (int i = 0; i < 5; i++)
    ck_assert_msg(!tensor_view_same(&one, &others[i]) && !tensor_view_same(&others[i], &one), "%d",
                  i);
  static const int64_t flat[] = {1, 3}, far[] = {99, 1}, near[] = {3, 1};
  const tensor_view a = view_of(bytes, cumega_float32, 2, flat, far);
  const tensor_view b = view_of(bytes, cumega_float32, 2, flat, near);
  ck_assert(tensor_view_same(&a, &b)); /* a dimension of one step ignores its stride */
}
END_TEST

/* What is read of a description, and how little of an empty one. */
START_TEST(descriptions_are_judged_by_what_they_describe) {
  static float data[4];
  const struct {
    DLDevice device;
    void *data;
    int ndim;
    int64_t shape[2], strides[2];
    const char *refusal; /* NULL: none */
  } rows[] = {
      {{kDLCUDAHost, 0}, data, 1, {4}, {1}, NULL},
      {{kDLCUDA, 0}, data, 1, {4}, {1}, "x is on device (2, 0), expected CPU memory"},
      {{kDLCPU, 0}, NULL, 2, {0, 3}, {3, 1}, NULL},
      {{kDLCPU, 0}, NULL, 2, {1, 3}, {3, 1}, "x has 3 elements, but its data is NULL"},
      {{kDLCPU, 0}, (void *)UINTPTR_MAX, 2, {0, 3}, {3, 1}, NULL},
      {{kDLCPU, 0}, data, 2, {0, 3}, {1, INT64_MAX}, NULL},
      {{kDLCPU, 0}, data, 2, {2, 3}, {1, INT64_MAX}, "its strides reach further than 63 bits"},
      {{kDLCPU, 0}, data, 2, {2, -3}, {1, 1}, "x has shape (2, -3): a dimension is negative"},
      {{kDLCPU, 0},
       data,
       2,
       {INT64_C(1) << 32, INT64_C(1) << 32},
       {0, 0},
       "more elements than 63 bits can count"},
  };
  tensor_view view;
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    int64_t shape[] = {rows[i].shape[0], rows[i].shape[1]};
    int64_t strides[] = {rows[i].strides[0], rows[i].strides[1]};
    DLTensor t = {.data = rows[i].data,
                  .device = rows[i].device,
                  .ndim = rows[i].ndim,
                  .dtype = cumega_float32,
                  .shape = shape,
                  .strides = strides};
    cumega_status status = tensor_view_make(ctx, "x", &t, TYPES_FLOAT, &view);
    ck_assert_msg(status == (rows[i].refusal ? CUMEGA_ERROR_ARGUMENT : CUMEGA_OK), "row %d: %s",
                  (int)i, cumega_context_message(ctx));
    if (rows[i].refusal) check_sentence(rows[i].refusal);
  }
  DLTensor scalar = {.data = data, .device = cumega_cpu, .ndim = 0, .dtype = cumega_float32};
  ck_assert_int_eq(tensor_view_make(ctx, "x", &scalar, TYPES_FLOAT, &view), CUMEGA_OK);
  scalar.ndim = 1;
  ck_assert_int_eq(tensor_view_make(ctx, "x", &scalar, TYPES_FLOAT, &view), CUMEGA_ERROR_ARGUMENT);
  check_sentence("x has 1 dimensions, but its shape is NULL");
  scalar.ndim = 0;
  scalar.dtype = cumega_int32;
  ck_assert_int_eq(tensor_view_make(ctx, "x", &scalar, TYPES_FLOAT, &view), CUMEGA_ERROR_ARGUMENT);
  check_sentence("x is int32, expected float32, float16, bfloat16 or float64");
  ck_assert_int_eq(tensor_view_make(ctx, "x", &scalar, TYPE_BOOL, &view), CUMEGA_ERROR_ARGUMENT);
  check_sentence("x is int32, expected bool");
}
END_TEST

/* Bytes, and interleaved halves of complex numbers. */
START_TEST(interleaved_tensors_are_apart_and_tensors_that_share_a_byte_are_not) {
  static char block[256] __attribute__((aligned(8)));
  static const int64_t shape[] = {5, 3}, bytes[] = {8, 2}, halves[] = {6, 2};
  for (int width = 1; width <= 4; width += 3)
    for (int shift = 1 - width; shift <= 2 * width; shift++) {
      const DLDataType dtype = width == 1 ? cumega_bool : cumega_float32;
      const int64_t *strides = width == 1 ? bytes : halves;
      if (shift % width != 0) continue;
      tensor_view a = view_of(block, dtype, 2, shape, strides);
      tensor_view b = view_of(block + width + shift, dtype, 2, shape, strides);
      cumega_status status = tensor_view_check_apart(ctx, &a, &b, 0);
      ck_assert_int_eq(status, shift % (2 * width) == 0 ? CUMEGA_OK : CUMEGA_ERROR_ARGUMENT);
    }
}
END_TEST

/* One byte at an offset from `bytes`, next to a tensor of bytes. */
static cumega_status check_byte(const tensor_view *a, char *byte) {
  const tensor_view one = view_of(byte, cumega_uint8, 0, NULL, NULL);
  const cumega_status status = tensor_view_check_apart(ctx, a, &one, 0);
  ck_assert_int_eq(tensor_view_check_apart(ctx, &one, a, 0), status);
  return status;
}

/* Every byte in and around a tensor, found through its elements. */
START_TEST(a_byte_is_shared_where_an_element_is) {
  static const struct {
    int64_t shape[2], strides[2];
  } rows[] = {{{2, 2}, {10, 1}}, {{2, 6}, {10, 7}}, {{2, 6}, {-10, 7}},
              {{3, 5}, {0, 4}},  {{1, 1}, {5, 5}},  {{4, 3}, {-9, -2}}};
  static char bytes[200];
  for (size_t r = 0; r < sizeof rows / sizeof *rows; r++) {
    const tensor_view a = view_of(bytes + 100, cumega_uint8, 2, rows[r].shape, rows[r].strides);
    for (int64_t offset = -60; offset <= 60; offset++) {
      int is_element = 0;
      for (int64_t i = 0; i < rows[r].shape[0]; i++)
        for (int64_t j = 0; j < rows[r].shape[1]; j++)
          is_element |= i * rows[r].strides[0] + j * rows[r].strides[1] == offset;
      ck_assert_msg((check_byte(&a, bytes + 100 + offset) != CUMEGA_OK) == is_element,
                    "row %d, byte %d", (int)r, (int)offset);
    }
  }
}
END_TEST

START_TEST(an_empty_tensor_is_nowhere) {
  static char bytes[16];
  static const int64_t all[] = {16}, none[] = {0}, wide[] = {0, 3}, zeros[] = {0, 0};
  const tensor_view a = view_of(bytes, cumega_uint8, 1, all, NULL);
  const tensor_view b = view_of(bytes + 4, cumega_uint8, 1, none, NULL);
  const tensor_view c = view_of(bytes + 4, cumega_uint8, 2, wide, zeros);
  ck_assert_int_eq(tensor_view_check_apart(ctx, &a, &b, 0), CUMEGA_OK);
  ck_assert_int_eq(tensor_view_check_apart(ctx, &b, &a, 0), CUMEGA_OK);
  ck_assert_int_eq(tensor_view_check_apart(ctx, &b, &b, 0), CUMEGA_OK);
  ck_assert_int_eq(tensor_view_check_output(ctx, &c), CUMEGA_OK);
}
END_TEST

START_TEST(an_output_has_an_address_for_each_element) {
  static const struct {
    int64_t strides[2];
    int fits;
  } rows[] = {{{3, 1}, 1}, {{1, 3}, 1}, {{-3, 1}, 1}, {{2, 1}, 0}, {{1, 2}, 0},
              {{1, 1}, 0}, {{0, 1}, 0}, {{3, 0}, 0},  {{-1, 1}, 0}};
  static const int64_t three[] = {3, 3};
  static char bytes[64];
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const tensor_view view = view_of(bytes + 32, cumega_uint8, 2, three, rows[i].strides);
    const cumega_status status = tensor_view_check_output(ctx, &view);
    ck_assert_msg(status == (rows[i].fits ? CUMEGA_OK : CUMEGA_ERROR_ARGUMENT), "row %d", (int)i);
  }
}
END_TEST

/* All strides are even and the two tensors begin an odd number of bytes apart. A search over
 * sixteen strides of nearly one size cannot find that in bounded time: it gives up and says so. */
START_TEST(tensors_too_tangled_to_tell_apart_count_as_overlapping) {
  static char bytes[1 << 20];
  static const int64_t four[] = {4, 4, 4, 4, 4, 4, 4, 4};
  static const int64_t primes[] = {2018, 2026, 2038, 2042, 2062, 2066, 2078, 2098};
  static const int64_t others[] = {2102, 2122, 2126, 2138, 2174, 2182, 2186, 2194};
  tensor_view a = view_of(bytes, cumega_uint8, 8, four, primes);
  tensor_view b = view_of(bytes + 1, cumega_uint8, 8, four, others);
  ck_assert_int_eq(tensor_view_check_apart(ctx, &a, &b, 1), CUMEGA_ERROR_ARGUMENT);
  check_sentence("x overlaps x");
}
END_TEST

int main(void) {
  Suite *suite = suite_create("inside tensor");
  TCase *tests = add_case(suite, "views", 20);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, every_type_has_its_name_and_size);
  tcase_add_test(tests, a_cuda_context_takes_its_own_devices_tensors_managed_or_not);
  tcase_add_test(tests, tensors_end_where_addresses_do);
  tcase_add_test(tests, tensors_are_the_same_where_everything_is);
  tcase_add_test(tests, interleaved_tensors_are_apart_and_tensors_that_share_a_byte_are_not);
  tcase_add_test(tests, descriptions_are_judged_by_what_they_describe);
  tcase_add_test(tests, a_byte_is_shared_where_an_element_is);
  tcase_add_test(tests, an_empty_tensor_is_nowhere);
  tcase_add_test(tests, an_output_has_an_address_for_each_element);
  tcase_add_test(tests, tensors_too_tangled_to_tell_apart_count_as_overlapping);
  return run_suite(suite);
}
