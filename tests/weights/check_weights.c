/* Reading valid weight files. Invalid ones: check_weights_malformed.c; writing:
 * check_weights_save.c. */
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/stat.h>
#include "runner.h"
#include "weights_files.h"

static weights_files files;
static void setup(void) {
  files_begin(&files);
}
static void teardown(void) {
  files_end(&files);
}

/* The tensors of tests/data/weights/every_type.safetensors, in the order of its data. */
static const struct {
  const char *name, *dtype_name;
  DLDataType dtype;
  int ndim;
  int64_t shape[3], bytes;
} every_type[] = {
    {"m.uint64", "U64", {kDLUInt, 64, 1}, 2, {2, 2}, 32},
    {"l.int64", "I64", {kDLInt, 64, 1}, 1, {1}, 8},
    {"k.float64", "F64", {kDLFloat, 64, 1}, 1, {3}, 24},
    {"n.complex64", "C64", {kDLComplex, 64, 1}, 1, {2}, 16},
    {"j.float32", "F32", {kDLFloat, 32, 1}, 2, {2, 3}, 24},
    {"i.uint32", "U32", {kDLUInt, 32, 1}, 1, {3}, 12},
    {"h.int32", "I32", {kDLInt, 32, 1}, 1, {2}, 8},
    {"g.bfloat16", "BF16", {kDLBfloat, 16, 1}, 3, {1, 2, 3}, 12},
    {"f.float16", "F16", {kDLFloat, 16, 1}, 1, {7}, 14},
    {"e.uint16", "U16", {kDLUInt, 16, 1}, 1, {2}, 4},
    {"d.int16", "I16", {kDLInt, 16, 1}, 2, {3, 1}, 6},
    {"c.int8", "I8", {kDLInt, 8, 1}, 1, {5}, 5},
    {"b.uint8", "U8", {kDLUInt, 8, 1}, 2, {2, 3}, 6},
    {"a.bool", "BOOL", {CUMEGA_DTYPE_CODE_BOOL, 8, 1}, 1, {3}, 3},
};
#define EVERY_TYPE ((int64_t)(sizeof every_type / sizeof every_type[0]))

static cumega_weights *open_reference(const char *name) {
  char path[512];
  cumega_weights *weights;
  snprintf(path, sizeof path, SOURCE_DIR "/tests/data/weights/%s", name);
  cumega_status status = cumega_weights_open(files.ctx, path, &weights);
  ck_assert_msg(status == CUMEGA_OK, "%s", cumega_context_message(files.ctx));
  return weights;
}

START_TEST(every_type_of_the_safetensors_package_is_read) {
  cumega_weights *weights = open_reference("every_type.safetensors");
  ck_assert_int_eq(cumega_weights_count(weights), EVERY_TYPE);
  for (int64_t i = 0; i < EVERY_TYPE; i++) {
    const cumega_weights_entry *entry = cumega_weights_at(weights, i);
    ck_assert_str_eq(entry->name, every_type[i].name);
    ck_assert_str_eq(entry->dtype_name, every_type[i].dtype_name);
    ck_assert_int_eq(entry->dtype.code, every_type[i].dtype.code);
    ck_assert_int_eq(entry->dtype.bits, every_type[i].dtype.bits);
    ck_assert_int_eq(entry->dtype.lanes, 1);
    ck_assert_int_eq(entry->ndim, every_type[i].ndim);
    ck_assert_mem_eq(entry->shape, every_type[i].shape, 8 * (size_t)entry->ndim);
    ck_assert_int_eq(entry->bytes, every_type[i].bytes);
    ck_assert_ptr_eq(cumega_weights_find(weights, entry->name), entry);
    unsigned char data[64];
    ck_assert_int_eq(cumega_weights_read(files.ctx, weights, entry, data, 64), CUMEGA_OK);
    int modulus = entry->dtype.code == CUMEGA_DTYPE_CODE_BOOL ? 2 : 256; /* data/weights/make.py */
    for (int j = 0; j < entry->bytes; j++)
      ck_assert_int_eq(data[j], (31 * j + entry->name[0]) % modulus);
  }
  cumega_metadata pair = cumega_weights_metadata_at(weights, 0);
  ck_assert_str_eq(pair.key, "gr\xC3\xB6\xC3\x9F"
                             "e/\"\\");
  ck_assert_str_eq(pair.value, "\xCE\xB5 = 1\t\xE2\x80\xA8\x7F\x01 \xF0\x9F\x98\x80");
  ck_assert_str_eq(cumega_weights_metadata(weights, pair.key), pair.value);
  cumega_weights_close(weights);
}
END_TEST

START_TEST(scalars_empty_tensors_and_odd_names_are_read) {
  static const char *const order[] = {
      "zero", "", "Z", "a", "ab", "b", "\xC3\xA9\n\r\t\b\f\x1f/\"\\"};
  cumega_weights *weights = open_reference("edges.safetensors");
  ck_assert_int_eq(cumega_weights_count(weights), 7);
  for (int i = 0; i < 7; i++) ck_assert_str_eq(cumega_weights_at(weights, i)->name, order[i]);
  const cumega_weights_entry *scalar = cumega_weights_find(weights, "");
  ck_assert_int_eq(scalar->ndim, 0);
  ck_assert_int_eq(scalar->bytes, 4);
  const cumega_weights_entry *empty = cumega_weights_find(weights, "a");
  ck_assert_int_eq(empty->ndim, 2);
  ck_assert_int_eq(empty->shape[0], 0);
  ck_assert_int_eq(empty->shape[1], 3);
  ck_assert_int_eq(empty->bytes, 0);
  ck_assert_int_eq(cumega_weights_read(files.ctx, weights, empty, NULL, 0), CUMEGA_OK);
  ck_assert_int_eq(cumega_weights_find(weights, "ab")->ndim, 8);
  ck_assert_ptr_null(cumega_weights_metadata_at(weights, 0).key);
  cumega_weights_close(weights);
}
END_TEST

START_TEST(a_file_of_nothing_opens) {
  cumega_weights *weights = open_header(&files, "{}", 0);
  ck_assert_int_eq(cumega_weights_count(weights), 0);
  ck_assert_ptr_null(cumega_weights_at(weights, 0));
  ck_assert_ptr_null(cumega_weights_find(weights, ""));
  cumega_weights_close(weights);
  weights = open_header(&files, "{\"__metadata__\":{}}        ", 0);
  ck_assert_ptr_null(cumega_weights_metadata_at(weights, 0).key);
  cumega_weights_close(weights);
}
END_TEST

START_TEST(what_is_not_there_is_null) {
  cumega_weights *weights = open_reference("every_type.safetensors");
  ck_assert_ptr_null(cumega_weights_at(weights, -1));
  ck_assert_ptr_null(cumega_weights_at(weights, EVERY_TYPE));
  ck_assert_ptr_null(cumega_weights_find(weights, "a"));
  ck_assert_ptr_null(cumega_weights_find(weights, "__metadata__"));
  ck_assert_ptr_null(cumega_weights_find(weights, NULL));
  ck_assert_ptr_null(cumega_weights_metadata(weights, "none"));
  ck_assert_ptr_null(cumega_weights_metadata(weights, NULL));
  ck_assert_ptr_null(cumega_weights_metadata_at(weights, -1).key);
  ck_assert_ptr_null(cumega_weights_metadata_at(weights, 1).value);
  cumega_weights_close(weights);
  ck_assert_int_eq(cumega_weights_count(NULL), 0);
  ck_assert_ptr_null(cumega_weights_at(NULL, 0));
  ck_assert_ptr_null(cumega_weights_find(NULL, "a"));
  ck_assert_ptr_null(cumega_weights_metadata(NULL, "a"));
  ck_assert_ptr_null(cumega_weights_metadata_at(NULL, 0).key);
  cumega_weights_close(NULL);
}
END_TEST

/* Spaces, and names with escapes, wherever JSON allows them. */
START_TEST(a_header_may_be_written_loosely) {
  cumega_weights *weights =
      open_header(&files,
                  "{ \t\"\\u0061\" :\n{\"shape\": [ 2 ],\r \"dtype\":\"U8\" , "
                  "\"data_offsets\":[0,2]} ,\n\"__metadat\\u0061__\":{ "
                  "\"\\n\" : \"\\ud83d\\ude00\" } }  ",
                  2);
  ck_assert_int_eq(cumega_weights_count(weights), 1);
  ck_assert_ptr_nonnull(cumega_weights_find(weights, "a"));
  ck_assert_str_eq(cumega_weights_metadata(weights, "\n"), "\xF0\x9F\x98\x80");
  cumega_weights_close(weights);
}
END_TEST

START_TEST(metadata_keeps_the_order_of_the_file) {
  static const char *const keys[] = {"z", "a", "m", "", "b", "y", "c"};
  cumega_weights *weights = open_header(
      &files,
      "{\"__metadata__\":{\"z\":\"0\",\"a\":\"1\",\"m\":\"2\",\"\":\"3\",\"b\":\"4\",\"y\":\"5\","
      "\"c\":\"6\"}}",
      0);
  for (int i = 0; i < 7; i++) {
    cumega_metadata pair = cumega_weights_metadata_at(weights, i);
    ck_assert_str_eq(pair.key, keys[i]);
    ck_assert_int_eq(pair.value[0], '0' + i);
    ck_assert_ptr_eq(cumega_weights_metadata(weights, keys[i]), pair.value);
  }
  ck_assert_ptr_null(cumega_weights_metadata_at(weights, 7).key);
  cumega_weights_close(weights);
}
END_TEST

/* The header's order is not the data's, and an empty tensor is at the place its offset says. */
START_TEST(tensors_are_listed_in_the_order_of_the_data) {
  cumega_weights *weights =
      open_header(&files,
                  "{\"c\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[3,5]},"
                  "\"none2\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[3,3]},"
                  "\"a\":{\"shape\":[3],\"data_offsets\":[0,3],\"dtype\":\"U8\"},"
                  "\"none1\":{\"dtype\":\"F32\",\"shape\":[5,0],\"data_offsets\":[3,3]},"
                  "\"end\":{\"dtype\":\"F32\",\"shape\":[0],\"data_offsets\":[5,5]}}",
                  5);
  static const char *const order[] = {"a", "none2", "none1", "c", "end"};
  for (int i = 0; i < 5; i++) ck_assert_str_eq(cumega_weights_at(weights, i)->name, order[i]);
  unsigned char data[2];
  const cumega_weights_entry *c = cumega_weights_find(weights, "c");
  ck_assert_int_eq(cumega_weights_read(files.ctx, weights, c, data, 2), CUMEGA_OK);
  ck_assert_int_eq(data[0], 3);
  ck_assert_int_eq(data[1], 4);
  cumega_weights_close(weights);
}
END_TEST

START_TEST(types_that_dlpack_lacks_are_listed_and_readable) {
  static const char *const dtypes[] = {"F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3",
                                       "F6_E3M2", "I128",    "f32",     ""};
  static const int bytes[] = {4, 4, 4, 2, 3, 3, 7, 7, 0};
  for (int i = 0; i < 9; i++) {
    char header[128];
    snprintf(header, sizeof header,
             "{\"a\":{\"dtype\":\"%s\",\"shape\":[2,2],\"data_offsets\":[0,%d]}}", dtypes[i],
             bytes[i]);
    cumega_weights *weights = open_header(&files, header, (size_t)bytes[i]);
    const cumega_weights_entry *entry = cumega_weights_at(weights, 0);
    ck_assert_str_eq(entry->dtype_name, dtypes[i]);
    ck_assert_int_eq(entry->dtype.bits, 0);
    ck_assert_int_eq(entry->ndim, 2);
    ck_assert_int_eq(entry->bytes, bytes[i]);
    unsigned char data[8] = {0};
    ck_assert_int_eq(cumega_weights_read(files.ctx, weights, entry, data, 8), CUMEGA_OK);
    for (int j = 0; j < bytes[i]; j++) ck_assert_int_eq(data[j], j);
    cumega_weights_close(weights);
  }
}
END_TEST

START_TEST(a_tensor_of_nine_dimensions_is_listed_without_a_shape) {
  cumega_weights *weights = open_header(
      &files, "{\"a\":{\"dtype\":\"U8\",\"shape\":[1,1,1,1,1,1,1,1,3],\"data_offsets\":[0,3]}}",
      3);
  const cumega_weights_entry *entry = cumega_weights_at(weights, 0);
  ck_assert_int_eq(entry->ndim, -1);
  for (int i = 0; i < CUMEGA_MAX_DIMS; i++) ck_assert_int_eq(entry->shape[i], 0);
  ck_assert_int_eq(entry->dtype.bits, 0);
  ck_assert_str_eq(entry->dtype_name, "U8");
  ck_assert_int_eq(entry->bytes, 3);
  cumega_weights_close(weights);
}
END_TEST

START_TEST(reading_fills_the_tensor_and_nothing_after_it) {
  cumega_weights *weights = open_reference("every_type.safetensors");
  const cumega_weights_entry *entry = cumega_weights_find(weights, "c.int8");
  unsigned char data[9], guard[9];
  memset(data, 0xA5, sizeof data);
  memset(guard, 0xA5, sizeof guard);
  ck_assert_int_eq(cumega_weights_read(files.ctx, weights, entry, data + 1, 8), CUMEGA_OK);
  ck_assert_mem_eq(data, guard, 1);
  ck_assert_mem_eq(data + 6, guard, 3);
  ck_assert_int_eq(data[1], 'c');
  cumega_weights_close(weights);
}
END_TEST

START_TEST(reading_with_a_wrong_argument_says_which) {
  cumega_weights *weights = open_reference("every_type.safetensors");
  cumega_weights *others = open_reference("every_type.safetensors");
  cumega_context *ctx = files.ctx;
  const cumega_weights_entry *entry = cumega_weights_find(weights, "c.int8");
  cumega_weights_entry copy = *entry;
  char data[8] = "";
  MUST_FAIL(ctx, cumega_weights_read(ctx, NULL, entry, data, 8), CUMEGA_ERROR_ARGUMENT,
            "weights is NULL");
  MUST_FAIL(ctx, cumega_weights_read(ctx, weights, NULL, data, 8), CUMEGA_ERROR_ARGUMENT,
            "entry is NULL");
  MUST_FAIL(ctx, cumega_weights_read(ctx, weights, entry, NULL, 8), CUMEGA_ERROR_ARGUMENT,
            "memory is NULL");
  MUST_FAIL(ctx, cumega_weights_read(ctx, others, entry, data, 8), CUMEGA_ERROR_ARGUMENT,
            "entry is none of this file's");
  MUST_FAIL(ctx, cumega_weights_read(ctx, weights, &copy, data, 8), CUMEGA_ERROR_ARGUMENT,
            "entry is none of this file's");
  MUST_FAIL(ctx,
            cumega_weights_read(ctx, weights,
                                (const cumega_weights_entry *)((const char *)entry + 8), data, 8),
            CUMEGA_ERROR_ARGUMENT, "entry is none of this file's");
  MUST_FAIL(ctx, cumega_weights_read(ctx, weights, entry, data, 4), CUMEGA_ERROR_ARGUMENT,
            "tensor 'c.int8' has 5 bytes, memory only 4");
  MUST_FAIL(ctx, cumega_weights_read(ctx, weights, entry, data, -1), CUMEGA_ERROR_ARGUMENT,
            "memory only -1");
  ck_assert_int_eq(cumega_weights_read(NULL, weights, entry, data, 8), CUMEGA_ERROR_ARGUMENT);
  for (int i = 0; i < 8; i++) ck_assert_int_eq(data[i], 0);
  cumega_weights_close(weights);
  weights = others;
  MUST_FAIL(ctx, cumega_weights_open(ctx, NULL, &weights), CUMEGA_ERROR_ARGUMENT, "path is NULL");
  ck_assert_ptr_null(weights);
  MUST_FAIL(ctx, cumega_weights_open(ctx, "x", NULL), CUMEGA_ERROR_ARGUMENT, "weights is NULL");
  ck_assert_int_eq(cumega_weights_open(NULL, "x", &weights), CUMEGA_ERROR_ARGUMENT);
  cumega_weights_close(others);
}
END_TEST

START_TEST(weights_outlive_their_context) {
  cumega_context *first;
  cumega_weights *weights;
  char data[8];
  ck_assert_int_eq(cumega_context_create(NULL, &first), CUMEGA_OK);
  ck_assert_int_eq(cumega_weights_open(
                       first, SOURCE_DIR "/tests/data/weights/every_type.safetensors", &weights),
                   CUMEGA_OK);
  cumega_context_destroy(first);
  const cumega_weights_entry *entry = cumega_weights_find(weights, "c.int8");
  ck_assert_int_eq(cumega_weights_read(files.ctx, weights, entry, data, 8), CUMEGA_OK);
  ck_assert_int_eq(data[0], 'c');
  cumega_weights_close(weights);
}
END_TEST

/* A sparse file of 5 GiB: offsets past 2^32 must be exact. */
START_TEST(a_tensor_past_four_gigabytes_is_read) {
  const int64_t large = INT64_C(5) << 30;
  unsigned char bytes[512], data[4];
  char header[200];
  snprintf(header, sizeof header,
           "{\"a\":{\"dtype\":\"U8\",\"shape\":[5,1073741824],\"data_offsets\":[0,5368709120]},"
           "\"b\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[5368709120,5368709124]}}");
  size_t count = make_file(bytes, sizeof bytes, header, 0);
  save_bytes(files.path, bytes, count);
  int fd = open(files.path, O_WRONLY);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq(pwrite(fd, "last", 4, (off_t)count + large), 4);
  close(fd);
  cumega_weights *weights;
  ck_assert_int_eq(cumega_weights_open(files.ctx, files.path, &weights), CUMEGA_OK);
  ck_assert_int_eq(cumega_weights_find(weights, "a")->bytes, large);
  const cumega_weights_entry *b = cumega_weights_find(weights, "b");
  ck_assert_int_eq(cumega_weights_read(files.ctx, weights, b, data, 4), CUMEGA_OK);
  ck_assert_mem_eq(data, "last", 4);
  cumega_weights_close(weights);
}
END_TEST

static void *read_many_times(void *shared) {
  const cumega_weights *weights = shared;
  cumega_context *ctx;
  if (cumega_context_create(NULL, &ctx) != CUMEGA_OK) return "no context";
  const char *wrong = NULL;
  for (int repeat = 0; repeat < 500 && wrong == NULL; repeat++) {
    unsigned char data[64];
    const cumega_weights_entry *entry = cumega_weights_at(weights, repeat % EVERY_TYPE);
    if (cumega_weights_read(ctx, weights, entry, data, 64) != CUMEGA_OK)
      wrong = "not read";
    else if (data[1] != (31 + entry->name[0]) % (entry->dtype.code == 6 ? 2 : 256))
      wrong = "mixed";
  }
  cumega_context_destroy(ctx);
  return (void *)wrong;
}

START_TEST(threads_share_an_open_file) {
  cumega_weights *weights = open_reference("every_type.safetensors");
  pthread_t threads[4];
  for (int i = 0; i < 4; i++)
    ck_assert_int_eq(pthread_create(&threads[i], NULL, read_many_times, weights), 0);
  for (int i = 0; i < 4; i++) {
    void *wrong;
    ck_assert_int_eq(pthread_join(threads[i], &wrong), 0);
    ck_assert_msg(wrong == NULL, "%s", (const char *)wrong);
  }
  cumega_weights_close(weights);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("weights");
  TCase *tests = add_case(suite, "reading", 30);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, every_type_of_the_safetensors_package_is_read);
  tcase_add_test(tests, scalars_empty_tensors_and_odd_names_are_read);
  tcase_add_test(tests, a_file_of_nothing_opens);
  tcase_add_test(tests, what_is_not_there_is_null);
  tcase_add_test(tests, a_header_may_be_written_loosely);
  tcase_add_test(tests, metadata_keeps_the_order_of_the_file);
  tcase_add_test(tests, tensors_are_listed_in_the_order_of_the_data);
  tcase_add_test(tests, types_that_dlpack_lacks_are_listed_and_readable);
  tcase_add_test(tests, a_tensor_of_nine_dimensions_is_listed_without_a_shape);
  tcase_add_test(tests, reading_fills_the_tensor_and_nothing_after_it);
  tcase_add_test(tests, reading_with_a_wrong_argument_says_which);
  tcase_add_test(tests, weights_outlive_their_context);
  tcase_add_test(tests, a_tensor_past_four_gigabytes_is_read);
  tcase_add_test(tests, threads_share_an_open_file);
  return run_suite(suite);
}
