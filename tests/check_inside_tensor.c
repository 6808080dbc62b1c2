/* Tensor arguments from inside: types, devices, addresses, and whether two of them share memory. */
#include <stdint.h>
#include <string.h>
#include "context.h"
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
  ck_assert_int_eq(context_check_device(ctx, "norm", (DLDevice){kDLCUDA, 1}), CUMEGA_OK);
  ck_assert_int_eq(context_check_device(ctx, "norm", (DLDevice){kDLCUDA, 0}),
                   CUMEGA_ERROR_ARGUMENT);
  check_sentence("norm was made for device (2, 0), expected the context's (2, 1)");
}
END_TEST

/* 100 elements of 4 bytes up from an address, and down from it. */
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
  const tensor_view others[] = {
      view_of(bytes + 4, cumega_float32, 2, two, rows), view_of(bytes, cumega_int32, 2, two, rows),
      view_of(bytes, cumega_float32, 1, two, rows), view_of(bytes, cumega_float32, 2, turned, rows),
      view_of(bytes, cumega_float32, 2, two, columns)};
  tensor_view again = view_of(bytes, cumega_float32, 2, two, NULL);
  ck_assert(tensor_view_same(&one, &again));
  for (int i = 0; i < 5; i++) ck_assert_msg(!tensor_view_same(&one, &others[i]), "%d", i);
}
END_TEST

/* Bytes, and the halves of complex numbers, which lie between each other. */
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

/* All strides are even and the two begin an odd number of bytes from each other, which a search over sixteen
 * strides of nearly one size does not see in bounded time: it gives up, and says so in its way. */
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
  tcase_add_test(tests, tensors_too_tangled_to_tell_apart_count_as_overlapping);
  return run_suite(suite);
}
