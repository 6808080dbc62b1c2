/* Weight files from untrusted sources: whatever they contain, the answer is a status and a
 * message that says what is wrong, never a crash and never a guess. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include "runner.h"
#include "weights_files.h"

static weights_files files;
static void setup(void) {
  files_begin(&files);
}
static void teardown(void) {
  files_end(&files);
}

/* The file at path is refused with a status and a message that begins with the file's name and
 * contains `sentence`. */
static void assert_refused(const char *path, cumega_status expected, const char *sentence) {
  cumega_weights *weights = (cumega_weights *)1;
  MUST_FAIL(files.ctx, cumega_weights_open(files.ctx, path, &weights), expected, sentence);
  ck_assert_ptr_null(weights);
  const char *message = cumega_context_message(files.ctx);
  ck_assert_msg(strncmp(message, "weights file '", 14) == 0, "%s", message);
  for (const char *c = message; *c != '\0'; c++) ck_assert_int_ge((unsigned char)*c, 0x20);
}

#define A_8         "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
#define A_8_ESCAPED "\"\\u0061\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}"
#define INFO(dtype, shape, offsets)                                                               \
  "{\"a\":{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}}"
#define NOT_JSON "not the JSON of a weights file"

static const struct {
  const char *header;
  size_t data;
  const char *sentence;
} refused[] = {
    /* the header as a whole */
    {"", 0, "does not begin with '{'"},
    {" {}", 0, "does not begin with '{'"},
    {"[]", 0, "does not begin with '{'"},
    {"\xEF\xBB\xBF{}", 0, "does not begin with '{'"},
    {"{", 0, "does not end with '}'"},
    {"{}\n", 0, "does not end with '}'"},
    {"{}{}", 0, NOT_JSON},
    {"{} }", 0, NOT_JSON},
    {"{" A_8 ",}", 8, NOT_JSON},
    {"{a:1}", 0, NOT_JSON},
    {"{'a':1}", 0, NOT_JSON},
    {"{\"a\":1 /* */}", 0, NOT_JSON},
    {"{" A_8 "," A_8 "}", 8, "tensor 'a' is described twice"},
    {"{" A_8 "," A_8_ESCAPED "}", 8, "tensor 'a' is described twice"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "its __metadata__ is given twice"},
    {"{\"__metadata__\":{},\"__met\\u0061data__\":{}}", 0, "its __metadata__ is given twice"},
    {"{\"__metadata__\":{\"k\":\"1\",\"k\":\"2\"}}", 0, "its metadata 'k' is given twice"},
    {INFO("\"F32\"", "[2],\"shape\":[2]", "[0,8]"), 8, "duplicate object key near '\"shape\"'"},
    {"{\"a\"}", 0, "at byte 4: expected ':'"},
    {"{\"a\":}", 0, "at byte 5: expected a value"},
    {"{\"a\":,\"b\":1}", 0, "at byte 5: expected a value"},
    {"{\"a\":{}", 0, "at byte 7: expected ',' or '}'"},
    {"{\"a\":{\"b}", 0, "at byte 5: expected a value that ends"},
    {"{\"a}", 0, "at byte 1: expected a name that ends"},
    {"{\"a\\\"}", 0, "at byte 1: expected a name that ends"},
    {"{,}", 0, "at byte 1: expected a name in quotes"},
    {"{} }", 0, "at byte 2: expected nothing behind its '}'"},
    {"{\"a\":{]}", 0, NOT_JSON},
    {"{\"__metadata__\":{\"k\"}}", 0, "at byte 20: expected ':'"},
    {"{\"__metadata__\":{]}", 0, "at byte 17: expected a name in quotes"},
    {"{\"\xFF\":{}}", 0, NOT_JSON},
    {"{\"\xC0\xAF\":{}}", 0, NOT_JSON},
    {"{\"\\ud800\":{}}", 0, NOT_JSON},
    {"{\"a\\u0000b\":{}}", 0, NOT_JSON},
    {"{\"a\x01\":{}}", 0, NOT_JSON},
    /* metadata */
    {"{\"__metadata__\":null}", 0, "__metadata__ is not an object"},
    {"{\"__metadata__\":\"x\"}", 0, "__metadata__ is not an object"},
    {"{\"__metadata__\":{\"k\\n\":1}}", 0, "its metadata 'k\\x0a' is not a string"},
    {"{\"__metadata__\":{\"k\":null}}", 0, "its metadata 'k' is not a string"},
    {"{\"__metadata__\":{\"k\":\"\\u0000\"}}", 0, NOT_JSON},
    /* a tensor's description */
    {"{\"a\":1}", 0, "tensor 'a' is not described by an object"},
    {"{\"a\":[]}", 0, "tensor 'a' is not described by an object"},
    {"{\"a\":[1,[2,3]]}", 0, "tensor 'a' is not described by an object"},
    {"{\"a\":{}}", 0, "tensor 'a' has no dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[]}}", 4, "tensor 'a' has no data_offsets"},
    {"{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,4]}}", 4, "tensor 'a' has no shape"},
    {"{\"a\":{\"shape\":[],\"data_offsets\":[0,4]}}", 4, "tensor 'a' has no dtype"},
    {"{\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4],\"x\\u001b\":0}}", 4,
     "tensor 'a' has a key that the format has not: 'x\\x1b'"},
    {INFO("32", "[1]", "[0,4]"), 4, "has no dtype"},
    {INFO("null", "[1]", "[0,4]"), 4, "has no dtype"},
    /* its shape */
    {INFO("\"F32\"", "1", "[0,4]"), 4, "has no shape"},
    {INFO("\"F32\"", "{}", "[0,4]"), 4, "has no shape"},
    {INFO("\"F32\"", "[1,1.0]", "[0,4]"), 4, "dimension 1 is not an integer"},
    {INFO("\"F32\"", "[1e0]", "[0,4]"), 4, "dimension 0 is not an integer"},
    {INFO("\"F32\"", "[\"1\"]", "[0,4]"), 4, "dimension 0 is not an integer"},
    {INFO("\"F32\"", "[true]", "[0,4]"), 4, "dimension 0 is not an integer"},
    {INFO("\"F32\"", "[[1]]", "[0,4]"), 4, "dimension 0 is not an integer"},
    {INFO("\"F32\"", "[1,-1]", "[0,4]"), 4, "dimension 1 is negative: -1"},
    {INFO("\"F32\"", "[9223372036854775808]", "[0,4]"), 4, "too big integer"},
    {INFO("\"F32\"", "[4294967296,2147483648]", "[0,4]"), 4,
     "more elements than 64 bits can count, from dimension 1 on"},
    {INFO("\"X9\"", "[4294967296,4294967296]", "[0,4]"), 4, "more elements than 64 bits"},
    {INFO("\"U8\"", "[1,1,1,1,1,1,1,9223372036854775807,2]", "[0,2]"), 2,
     "more elements than 64 bits can count, from dimension 8 on"},
    {INFO("\"F32\"", "[4611686018427387904]", "[0,0]"), 0,
     "more bits than 64 bits can count: F32 (4611686018427387904)"},
    /* 2^61 elements of 8 bytes are 2^64 bytes, which is 0 in 64 bits */
    {INFO("\"F64\"", "[2305843009213693952]", "[0,0]"), 0, "more bits than 64 bits can count"},
    {INFO("\"F4\"", "[3]", "[0,2]"), 2, "does not end at a whole byte: F4 (3) has 12 bits"},
    {INFO("\"F6_E2M3\"", "[5]", "[0,4]"), 4, "does not end at a whole byte"},
    /* its place */
    {INFO("\"F32\"", "[1]", "[4]"), 4, "has no data_offsets"},
    {INFO("\"F32\"", "[1]", "[0,4,8]"), 4, "has no data_offsets"},
    {INFO("\"F32\"", "[1]", "4"), 4, "has no data_offsets"},
    {INFO("\"F32\"", "[1]", "[0.0,4]"), 4, "has no data_offsets"},
    {INFO("\"F32\"", "[1]", "[0,\"4\"]"), 4, "has no data_offsets"},
    {INFO("\"F32\"", "[1]", "[-4,0]"), 4, "spans bytes -4 .. 0, which is no span"},
    {INFO("\"F32\"", "[1]", "[4,0]"), 4, "spans bytes 4 .. 0, which is no span"},
    {INFO("\"F32\"", "[1]", "[0,-9223372036854775808]"), 4, "which is no span"},
    {INFO("\"F32\"", "[1]", "[4,8]"), 4, "spans bytes 4 .. 8 but the file has 4 bytes of data"},
    {INFO("\"F32\"", "[1]", "[9223372036854775803,9223372036854775807]"), 4,
     "but the file has 4 bytes of data"},
    {INFO("\"F32\"", "[1]", "[0,18446744073709551616]"), 4, "too big integer"},
    {INFO("\"F32\"", "[2,3]", "[0,32]"), 32,
     "tensor 'a' spans bytes 0 .. 32 but F32 (2, 3) needs 24"},
    {INFO("\"BF16\"", "[]", "[0,4]"), 4, "spans bytes 0 .. 4 but BF16 () needs 2"},
    {INFO("\"U8\"", "[1,1,1,1,1,1,1,1,3]", "[0,2]"), 2, "but U8 of many dimensions needs 3"},
    {INFO("\"U8\"", "[0]", "[0,1]"), 1, "spans bytes 0 .. 1 but U8 (0) needs 0"},
    {INFO("\"U8\"",
          "[0,999999999999999999,999999999999999999,999999999999999999,999999999999999999,"
          "999999999999999999,9]",
          "[0,1]"),
     1,
     "but U8 (0, 999999999999999999, 999999999999999999, 999999999999999999, 999999999999999999, "
     "999999999999999999, ...) needs 0"},
    {INFO("\"F8_E4M3\"", "[3]", "[0,2]"), 2, "but F8_E4M3 (3) needs 3"},
    /* all tensors together */
    {"{" A_8 "}", 9, "its tensors end at byte 8 of the data, which has 9"},
    {"{}", 1, "its tensors end at byte 0 of the data, which has 1"},
    {INFO("\"U8\"", "[1]", "[1,2]"), 2,
     "tensor 'a' begins at byte 1 and leaves a hole behind byte 0"},
    {"{" A_8 ",\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[9,10]}}", 10,
     "tensor 'b' begins at byte 9 and leaves a hole behind byte 8"},
    {"{" A_8 ",\"b\":{\"dtype\":\"U8\",\"shape\":[2],\"data_offsets\":[7,9]}}", 9,
     "tensor 'b' begins at byte 7 and overlaps tensor 'a', which ends at byte 8"},
    {"{" A_8 ",\"b\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[4,4]}}", 8,
     "tensor 'b' begins at byte 4 and overlaps tensor 'a'"},
    {"{" A_8 ",\"b\":{\"dtype\":\"??\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8,
     "tensor 'b' begins at byte 0 and overlaps tensor 'a'"},
};

START_TEST(every_malformed_header_is_refused_with_its_reason) {
  unsigned char bytes[1024];
  save_bytes(files.path, bytes,
             make_file(bytes, sizeof bytes, refused[_i].header, refused[_i].data));
  assert_refused(files.path, CUMEGA_ERROR_FORMAT, refused[_i].sentence);
}
END_TEST

static const struct {
  unsigned char bytes[10];
  size_t count;
  const char *sentence;
} lengths[] = {
    {"", 0, "has 0 bytes, fewer than the 8"},
    {"\2\0\0\0\0\0\0", 7, "has 7 bytes, fewer than the 8"},
    {"\2\0\0\0\0\0\0\0", 8, "has 2 bytes, but only 0 follow"},
    {"\3\0\0\0\0\0\0\0{}", 10, "has 3 bytes, but only 2 follow"},
    {"\0\341\365\5\0\0\0\0{}", 10, "has 100000000 bytes, but only 2 follow"},
    {"\1\341\365\5\0\0\0\0{}", 10, "has 100000001 bytes, more than the 100000000 allowed"},
    {"\2\0\0\0\0\0\0\200{}", 10, "has 9223372036854775810 bytes, more than"},
    {"\377\377\377\377\377\377\377\377{}", 10, "has 18446744073709551615 bytes, more than"},
    {"\370\377\377\377\377\377\377\377{}", 10, "has 18446744073709551608 bytes, more than"},
    {"PK\3\4\24\0\0\0\10\0", 10, "is it a safetensors file?"},
};

START_TEST(a_header_length_that_the_file_cannot_hold_is_refused_before_it_is_read) {
  save_bytes(files.path, lengths[_i].bytes, lengths[_i].count);
  assert_refused(files.path, CUMEGA_ERROR_FORMAT, lengths[_i].sentence);
}
END_TEST

/* Deeper than any stack with one frame per level would survive: one kind of bracket, then the
 * other. */
static void nest(const char *open, const char *close, const char *sentence) {
  const size_t depth = 1000 * 1000, unit = strlen(open), all = 8 + 1 + depth * (unit + 1) + 1;
  unsigned char *bytes = malloc(all), *at = bytes + 8;
  ck_assert_ptr_nonnull(bytes);
  for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)((all - 8) >> (8 * i));
  *at++ = '{';
  for (size_t i = 0; i < depth; i++, at += unit) memcpy(at, open, unit);
  memset(at, *close, depth);
  bytes[all - 1] = '}';
  save_bytes(files.path, bytes, all);
  free(bytes);
  assert_refused(files.path, CUMEGA_ERROR_FORMAT, sentence);
}

/* jansson skips one after a number. */
START_TEST(a_nul_byte_is_refused_wherever_it_stands) {
  static const char header[] =
      " {\"a\" :{ \"dtype\":\"U8\", \"shape\":[ 1 ],\"data_offsets\":[0 ,1]}}  ";
  const size_t length = sizeof header - 2;
  unsigned char bytes[128];
  for (size_t i = 0; i < length; i++) {
    size_t all = make_file(bytes, sizeof bytes, header + 1, 1);
    bytes[8 + i] = '\0';
    save_bytes(files.path, bytes, all);
    assert_refused(files.path, CUMEGA_ERROR_FORMAT, i == 0 ? "does not begin with" : "");
  }
}
END_TEST

START_TEST(deep_nesting_is_refused) {
  nest("\"a\":{", "}", "tensor 'a' is described by 5999996 bytes, more than the 4096 allowed");
  nest("[", "]", "at byte 1: expected a name in quotes");
}
END_TEST

START_TEST(long_and_hostile_names_are_cut_and_escaped_in_sentences) {
  static const struct {
    const char *name, *sentence;
  } cases[] = {
      {"\\n\\u001b[2J\\u007f", "tensor '\\x0a\\x1b[2J\\x7f' has no dtype"},
      {"\xC2\x85", "tensor '\\xc2\\x85' has no dtype"},     /* C1: next line */
      {"\\u202e", "tensor '\\xe2\\x80\\xae' has no dtype"}, /* right-to-left override */
      {"\\u2066\\ufeff", "tensor '\\xe2\\x81\\xa6\\xef\\xbb\\xbf' has no dtype"},
      {"gr\xC3\xB6\xC3\x9F"
       "e \xF0\x9F\x98\x80",
       "tensor 'gr\xC3\xB6\xC3\x9F"
       "e \xF0\x9F\x98\x80' has"},
  };
  char header[512];
  unsigned char bytes[1024];
  for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
    snprintf(header, sizeof header, "{\"%s\":{}}", cases[i].name);
    save_bytes(files.path, bytes, make_file(bytes, sizeof bytes, header, 0));
    assert_refused(files.path, CUMEGA_ERROR_FORMAT, cases[i].sentence);
  }
  char name[301] = "";
  for (int i = 0; i < 300; i++) strcat(name, i < 299 ? "x" : "!");
  snprintf(header, sizeof header, "{\"%s\":{}}", name);
  save_bytes(files.path, bytes, make_file(bytes, sizeof bytes, header, 0));
  assert_refused(files.path, CUMEGA_ERROR_FORMAT, "xxx...' has no dtype");
  ck_assert_uint_lt(strlen(cumega_context_message(files.ctx)), 300);
}
END_TEST

#define SMALL                                                                                     \
  "{\"__metadata__\":{\"k\":\"v\"},\"a\":{\"dtype\":\"F32\",\"shape\":[1,2],\"data_offsets\":[0," \
  "8]},"                                                                                          \
  "\"b\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[8,11]}} "

START_TEST(a_file_cut_at_any_byte_is_refused) {
  unsigned char bytes[512];
  size_t all = make_file(bytes, sizeof bytes, SMALL, 11);
  for (size_t count = 0; count < all; count++) {
    save_bytes(files.path, bytes, count);
    assert_refused(files.path, CUMEGA_ERROR_FORMAT, "");
  }
}
END_TEST

/* If the file opens, it must also be readable; every refusal has its message. A flip in the data,
 * in a name, in the metadata or in the padding may leave a valid file. */
START_TEST(a_file_with_any_bit_flipped_is_refused_or_read) {
  unsigned char bytes[512], data[512];
  size_t all = make_file(bytes, sizeof bytes, SMALL, 11);
  int opened = 0;
  for (size_t bit = 0; bit < 8 * all; bit++) {
    cumega_weights *weights;
    bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    save_bytes(files.path, bytes, all);
    bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
    cumega_status status = cumega_weights_open(files.ctx, files.path, &weights);
    const char *message = cumega_context_message(files.ctx);
    ck_assert(status == CUMEGA_OK || status == CUMEGA_ERROR_FORMAT);
    ck_assert_int_eq(status == CUMEGA_OK, message[0] == '\0');
    ck_assert_int_eq(status == CUMEGA_OK, weights != NULL);
    int64_t total = 0;
    for (int64_t i = 0; i < cumega_weights_count(weights); i++) {
      const cumega_weights_entry *entry = cumega_weights_at(weights, i);
      ck_assert_ptr_eq(cumega_weights_find(weights, entry->name), entry);
      ck_assert_int_eq(cumega_weights_read(files.ctx, weights, entry, data, sizeof data),
                       CUMEGA_OK);
      total += entry->bytes;
    }
    if (status == CUMEGA_OK) ck_assert_int_eq(total, 11);
    opened += status == CUMEGA_OK;
    cumega_weights_close(weights);
  }
  ck_assert_int_ge(opened, 8 * 11); /* at least those in the data */
  ck_assert_int_lt(opened, 8 * (int)all / 2);
}
END_TEST

START_TEST(what_is_no_regular_file_is_refused_without_waiting) {
  char path[128];
  assert_refused(files.folder, CUMEGA_ERROR_FILE, "is a directory, not a regular file");
  snprintf(path, sizeof path, "%s/pipe", files.folder);
  ck_assert_int_eq(mkfifo(path, 0600), 0);
  assert_refused(path, CUMEGA_ERROR_FILE, "is a pipe, not a regular file");
  assert_refused("/dev/null", CUMEGA_ERROR_FILE, "is a device, not a regular file");
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", files.folder);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  ck_assert_int_ge(fd, 0);
  ck_assert_int_eq(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
  close(fd);
  assert_refused(address.sun_path, CUMEGA_ERROR_FILE, "cannot be opened: ");
}
END_TEST

START_TEST(a_missing_or_unreadable_file_has_the_reason_of_the_system) {
  char path[300];
  assert_refused(files.path, CUMEGA_ERROR_FILE, strerror(ENOENT));
  assert_refused("", CUMEGA_ERROR_FILE, strerror(ENOENT));
  snprintf(path, sizeof path, "%s/%0200d/x.safetensors", files.folder, 0);
  assert_refused(path, CUMEGA_ERROR_FILE,
                 "/x.safetensors': cannot be opened"); /* keeps the file's end */
  save_bytes(files.path, "\2\0\0\0\0\0\0\0{}", 10);
  if (geteuid() == 0) return; /* root can read everything */
  ck_assert_int_eq(chmod(files.path, 0), 0);
  assert_refused(files.path, CUMEGA_ERROR_FILE, strerror(EACCES));
}
END_TEST

START_TEST(a_file_that_shrinks_after_it_was_opened_is_reported) {
  cumega_weights *weights = open_header(&files, SMALL, 11);
  unsigned char data[8];
  struct stat file;
  ck_assert_int_eq(stat(files.path, &file), 0);
  ck_assert_int_eq(truncate(files.path, file.st_size - 5), 0);
  const cumega_weights_entry *a = cumega_weights_find(weights, "a");
  const cumega_weights_entry *b = cumega_weights_find(weights, "b");
  cumega_status status = cumega_weights_read(files.ctx, weights, a, data, 8);
  ck_assert_int_eq(status, CUMEGA_ERROR_FILE);
  const char *message = cumega_context_message(files.ctx);
  ck_assert_msg(strstr(message, "where 2 more were expected; it has shrunk") != NULL, "%s",
                message);
  ck_assert_int_eq(cumega_weights_read(files.ctx, weights, b, data, 8), CUMEGA_ERROR_FILE);
  cumega_weights_close(weights);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("weights that are malformed");
  TCase *tests = add_case(suite, "headers", 30);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_loop_test(tests, every_malformed_header_is_refused_with_its_reason, 0,
                      (int)(sizeof refused / sizeof refused[0]));
  tcase_add_loop_test(tests,
                      a_header_length_that_the_file_cannot_hold_is_refused_before_it_is_read, 0,
                      (int)(sizeof lengths / sizeof lengths[0]));
  tcase_add_test(tests, a_nul_byte_is_refused_wherever_it_stands);
  tcase_add_test(tests, deep_nesting_is_refused);
  tcase_add_test(tests, long_and_hostile_names_are_cut_and_escaped_in_sentences);
  tcase_add_test(tests, a_file_cut_at_any_byte_is_refused);
  tcase_add_test(tests, a_file_with_any_bit_flipped_is_refused_or_read);
  tests = add_case(suite, "files", 30);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, what_is_no_regular_file_is_refused_without_waiting);
  tcase_add_test(tests, a_missing_or_unreadable_file_has_the_reason_of_the_system);
  tcase_add_test(tests, a_file_that_shrinks_after_it_was_opened_is_reported);
  return run_suite(suite);
}
