/* Harmful weight files, made here and judged one by one: twenty small seeds, cut at every byte
 * and with every bit flipped, and every kind of header and file that is known to have broken a
 * reader.
 *
 * With a folder as argument the seeds are written there, for a fuzzer's corpus. */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include "damage.h"

static damage_count n;

#define T(name, dtype, shape, offsets)                                                            \
  "\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define META "\"__metadata__\":"

/* Each seed's contents show what it tests. */
static const struct {
  const char *header;
  size_t data;
} seeds[] = {
    {"{}", 0},
    {"{}      ", 0},
    {"{" META "{}}", 0},
    {"{" META "{\"format\":\"pt\"}," T("w", "F32", "[2,3]", "[0,24]") "}    ", 24},
    {"{" T("scalar", "F64", "[]", "[0,8]") "}", 8},
    {"{" T("none", "F32", "[0,3]", "[0,0]") "," T("one", "U8", "[1]", "[0,1]") "}", 1},
    {"{" T("a", "BF16", "[2]", "[0,4]") "," T("b", "F16", "[1,2]", "[4,8]") "}", 8},
    {"{" T("last", "I64", "[1]", "[4,12]") "," T("first", "I32", "[1]", "[0,4]") "}", 12},
    {"{" T("q", "F8_E4M3", "[3]", "[0,3]") "," T("p", "F4", "[2]", "[3,4]") "}", 4},
    {"{" T("new", "F128_X", "[9]", "[0,5]") "}", 5},
    {"{" T("nine", "U8", "[1,1,1,1,1,1,1,1,3]", "[0,3]") "}", 3},
    {"{" T("bools", "BOOL", "[5]", "[0,5]") "," T("c", "C64", "[1]", "[5,13]") "}", 13},
    {"{" T("gr\xC3\xB6\xC3\x9F"
           "e",
           "U8", "[1]", "[0,1]") "," T("\xF0\x9F\x98\x80", "I8", "[1]", "[1,2]") "}",
     2},
    {"{" T("\\u0061\\n\\\"", "U8", "[1]", "[0,1]") "," T("", "U16", "[1]", "[1,3]") "}", 3},
    {"{ \t\"a\" :\n{\"shape\": [ 2 ],\r\"dtype\":\"U8\" , \"data_offsets\":[0,2]} }", 2},
    {"{" META "{\"\\ud83d\\ude00\":\"\xCE\xB5\\\\\",\"\":\"\"}," T("m", "U8", "[]", "[0,1]") "}",
     1},
    {"{" T("damping_factor", "F32", "[1,1,1]", "[0,4]") "," T(
         "decay_factor", "F32", "[1,1,1]",
         "[4,8]") "," T("ema_expansion_matrix", "F32", "[1,1,1]",
                        "[8,12]") "," T("kernel_projection_matrix", "F32", "[1,1]",
                                        "[12,16]") "," T("residual_weight", "F32", "[1]",
                                                         "[16,20]") "}",
     20},
    {"{" T("z", "U64", "[1]", "[0,8]") "," T("z.z", "U32", "[1]", "[8,12]") "}  ", 12},
    {"{" META "{\"cumega.case\":\"1\",\"cumega.op\":\"x\",\"cumega.config\":\"{}\"}}", 0},
    {"{" T("e0", "F32", "[0]", "[0,0]") "," T("e1", "F32", "[0]", "[0,0]") "," T(
         "e2", "F32", "[0,9223372036854775807]", "[0,0]") "}",
     0},
};
#define SEEDS ((int)(sizeof seeds / sizeof *seeds))
_Static_assert(SEEDS == 20, "twenty of them");

static void write_seed(const char *folder, int i, const uint8_t *bytes, size_t count) {
  char path[4096];
  MUST(snprintf(path, sizeof path, "%s/seed-%02d", folder, i) < (int)sizeof path, "too long");
  FILE *file = fopen(path, "wb");
  MUST(file != NULL && fwrite(bytes, 1, count, file) == count, "%s: %s", path, strerror(errno));
  fclose(file);
}

static void judge_seeds(const char *folder) {
  for (int i = 0; i < SEEDS; i++) {
    size_t count;
    uint8_t *file = make_file(seeds[i].header, strlen(seeds[i].header), seeds[i].data, &count);
    judge_file(&n, file, count, NULL);
    if (folder != NULL)
      write_seed(folder, i, file, count);
    else
      judge_damage(&n, file, count, count - seeds[i].data, 1);
    free(file);
  }
}

/* A file with this header and `data` bytes. */
static void judge_header(size_t data, const char *expected, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void judge_header(size_t data, const char *expected, const char *format, ...) {
  char header[8192];
  va_list arguments;
  size_t count;
  va_start(arguments, format);
  int length = vsnprintf(header, sizeof header, format, arguments);
  va_end(arguments);
  MUST(length < (int)sizeof header, "the header is too long");
  uint8_t *file = make_file(header, (size_t)length, data, &count);
  judge_file(&n, file, count, expected);
  free(file);
}

static const char *const dtypes[] = {
    "U64", "I64",     "F64",     "C64", "F32",     "U32",     "I32",     "BF16", "F16",  "U16",
    "I16", "F8_E8M0", "F8_E4M3", "I8",  "F8_E5M2", "F6_E3M2", "F6_E2M3", "F4",   "BOOL", "U8"};
#define DTYPES ((int)(sizeof dtypes / sizeof *dtypes))

/* Sizes whose product in 64 bits is 0, 1 or small, and their byte ranges. */
static void judge_products(void) {
  static const char *const wraps[] = {"[4294967296,4294967296]",
                                      "[9223372036854775807,2]",
                                      "[9223372036854775807,9223372036854775807]",
                                      "[2147483648,2147483648,4]",
                                      "[65536,65536,65536,65536]",
                                      "[6148914691236517205,3]",
                                      "[3037000500,3037000500]",
                                      "[1,1,1,1,1,1,1,9223372036854775807,2]",
                                      "[4611686018427387904,4]",
                                      "[2305843009213693952,8]",
                                      "[1152921504606846976,16,16]",
                                      "[9223372036854775807,9223372036854775807,0]"};
  for (int i = 0; i < DTYPES; i++) {
    for (size_t j = 0; j < sizeof wraps / sizeof *wraps; j++)
      for (size_t bytes = 0; bytes < 3; bytes++)
        judge_header(8 * bytes, "'w' has more elements than 64 bits can count",
                     "{" T("w", "%s", "%s", "[0,%zu]") "}", dtypes[i], wraps[j], 8 * bytes);
    judge_header(0, "'w' has more bits than 64 bits can count",
                 "{" T("w", "%s", "[9223372036854775807]", "[0,0]") "}", dtypes[i]);
    judge_header(7, "'w'", "{" T("w", "%s", "[1000]", "[0,7]") "}", dtypes[i]);
    judge_header(0, "'w'", "{" T("w", "%s", "[8]", "[0,0]") "}", dtypes[i]);
  }
}

/* Two tensors in 12 bytes, at every two places: only those that fill the bytes side by side make
 * a valid file. */
static void judge_places(void) {
  for (int a = 0; a <= 13; a++)
    for (int b = 0; b <= 13; b++)
      for (int c = 0; c <= 13; c++) {
        int first = b - a, second = 12 - c;
        int valid = b >= a && c <= 12 && ((a == 0 && b == c) || (c == 0 && a == 12 && b == 12));
        judge_header(12, valid ? NULL : "'",
                     "{" T("x", "U8", "[%d]", "[%d,%d]") "," T("y", "U8", "[%d]", "[%d,12]") "}",
                     first < 0 ? 0 : first, a, b, second < 0 ? 0 : second, c);
      }
}

/* Values that are not 64-bit integers, strings or objects, where these are required. */
static void judge_values(void) {
  static const char *const values[] = {"1.0",
                                       "1e0",
                                       "-1",
                                       "\"1\"",
                                       "true",
                                       "false",
                                       "null",
                                       "[1]",
                                       "{}",
                                       "1e99",
                                       "0x1",
                                       "01",
                                       "+1",
                                       "1.",
                                       ".1",
                                       "NaN",
                                       "Infinity",
                                       "1e",
                                       "-",
                                       "'1'",
                                       "1 1",
                                       "[]",
                                       "-0.0",
                                       "9223372036854775808",
                                       "-9223372036854775809",
                                       "18446744073709551616",
                                       "99999999999999999999999999999999",
                                       "[[]]",
                                       "\"\\u0000\""};
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
    const char *v = values[i];
    int is_string = v[0] == '"' && v[1] != '\\';
    judge_header(1, "", "{" T("w", "U8", "[%s]", "[0,1]") "}", v);
    judge_header(1, "", "{" T("w", "U8", "[1,%s]", "[0,1]") "}", v);
    judge_header(1, "", "{" T("w", "U8", "[1]", "[%s,1]") "}", v);
    judge_header(1, "", "{" T("w", "U8", "[1]", "[0,%s]") "}", v);
    judge_header(1, "", "{\"w\":{\"dtype\":\"U8\",\"shape\":%s,\"data_offsets\":[0,2]}}", v);
    judge_header(1, "", "{\"w\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":%s}}", v);
    judge_header(1, "", "{\"w\":%s}", v);
    judge_header(0, strcmp(v, "{}") == 0 ? NULL : "", "{" META "%s}", v);
    judge_header(0, is_string ? NULL : "", "{" META "{\"k\":%s}}", v);
    if (!is_string)
      judge_header(1, "", "{\"w\":{\"dtype\":%s,\"shape\":[1],\"data_offsets\":[0,1]}}", v);
  }
}

/* Bytes that are not UTF-8 or not allowed in JSON, in every kind of string. */
static void judge_text(void) {
  static const char *const wrong[] = {"\xC0\x80",
                                      "\xC1\xBF",
                                      "\xE0\x80\x80",
                                      "\xE0\x9F\xBF",
                                      "\xED\xA0\x80",
                                      "\xED\xBF\xBF",
                                      "\xF0\x80\x80\x80",
                                      "\xF0\x8F\xBF\xBF",
                                      "\xF4\x90\x80\x80",
                                      "\xF5\x80\x80\x80",
                                      "\xC3",
                                      "\xE2\x82",
                                      "\xF0\x9F\x98",
                                      "\xC3\x28",
                                      "\xE2\x28\xA1",
                                      "\\ud800",
                                      "\\udc00",
                                      "\\ud800\\u0041",
                                      "\\u00",
                                      "\\x41",
                                      "\\u0000",
                                      "\\",
                                      "\\ug000"};
  const int count = sizeof wrong / sizeof *wrong;
  for (int i = 0; i < count + 0xA0; i++) {
    char byte[2] = {(char)(i - count < 0x20 ? i - count : 0x60 + i - count), '\0'};
    const char *text = i < count ? wrong[i] : byte;
    if (i == count) continue; /* a NUL, which printf cannot write */
    judge_header(1, "", "{" T("%s", "U8", "[1]", "[0,1]") "}", text);
    judge_header(1, "", "{" T("w", "%s", "[1]", "[0,1]") "}", text);
    judge_header(0, "", "{" META "{\"%s\":\"\"}}", text);
    judge_header(0, "", "{" META "{\"k\":\"%s\"}}", text);
  }
}

/* The header's length, as a file may claim it. */
static void judge_lengths(void) {
  for (int bit = 0; bit < 64; bit++)
    for (int off = -2; off <= 2; off++) {
      uint8_t bytes[32] = {0};
      uint64_t length = (UINT64_C(1) << bit) + (uint64_t)(int64_t)off;
      for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(length >> (8 * i));
      memcpy(bytes + 8, "{}                      ", 24);
      if (length >= 2 && length < 24)
        judge_file(&n, bytes, 32, "its tensors end at byte 0");
      else
        judge_file(&n, bytes, 32, length == 24 ? NULL : "");
    }
}

/* before, then `unit` the given number of times, then after. */
static void judge_repeated(int64_t times, const char *before, const char *unit, const char *after,
                           size_t data, const char *expected) {
  size_t length = strlen(unit), used = strlen(before), count;
  char *header = malloc(used + (size_t)times * length + strlen(after) + 1);
  MUST(header != NULL, "no memory");
  memcpy(header, before, used);
  for (int64_t i = 0; i < times; i++, used += length) memcpy(header + used, unit, length);
  strcpy(header + used, after);
  uint8_t *file = make_file(header, used + strlen(after), data, &count);
  judge_file(&n, file, count, expected);
  free(file);
  free(header);
}

static void judge_large(void) {
  for (int64_t times = 1; times <= 1 << 20; times *= 4) {
    judge_repeated(times, "{", "\"a\":{", "}", 0, "");
    judge_repeated(times, "{\"a\":", "[", "}", 0, "");
    judge_repeated(times, "{\"a\":{\"shape\":", "[", "}}", 0, "");
    judge_repeated(times, "{", "{", "}", 0, "at byte 1: expected a name");
    judge_repeated(times, "{\"a\":{\"dtype\":\"U8\",\"shape\":[", "1,",
                   "1],\"data_offsets\":[0,1]}}", 1, times < 2000 ? NULL : "bytes, more than");
    judge_repeated(times, "{", "\"a\":{},", "\"a\":{}}", 0, "'a'");
    judge_repeated(times, "{" META "{", "\"k\":\"\",", "\"k\":\"\"}}", 0, "'k' is given twice");
    judge_repeated(times, "{" META "{\"k\":\"", "x", "\"}}", 0, NULL);
    judge_repeated(times, "{" META "{\"k\":\"", "\\u20ac", "\"}}", 0, NULL);
    judge_repeated(times, "{\"", "x", "\":{}}", 0, "'x");
    judge_repeated(times, "{}", " ", "", 0, NULL);
    judge_repeated(times, "{", " ", "}", 0, NULL);
    judge_repeated(times, "{", "\t", "", 0, "does not end");
  }
  for (size_t data = 1; data <= 32; data++)
    judge_header(data + 4, "its tensors end at byte 4", "{" T("w", "F32", "[1]", "[0,4]") "}");
}

/* ---- what is on a disk ---- */

static void judge_path(cumega_context *ctx, const char *path, const char *expected) {
  cumega_weights *weights;
  alarm(20); /* a pipe must not be waited for */
  cumega_status status = cumega_weights_open(ctx, path, &weights);
  alarm(0);
  const char *sentence = cumega_context_message(ctx);
  MUST(status == CUMEGA_ERROR_FILE && weights == NULL, "%s: status %d", path, (int)status);
  MUST(strstr(sentence, expected) != NULL, "'%s' is not in: %s", expected, sentence);
  n.refused++;
}

/* A file that shrinks and grows while it is opened and read: whatever is read, the result is a
 * status. */
static void judge_unsteady(cumega_context *ctx, const char *path) {
  size_t count;
  uint8_t *bytes = make_file(seeds[3].header, strlen(seeds[3].header), seeds[3].data, &count);
  int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600), seen[2] = {0, 0};
  MUST(fd >= 0, "%s", strerror(errno));
  for (size_t cut = 0; cut <= count; cut++) {
    cumega_weights *weights;
    char data[64];
    MUST(pwrite(fd, bytes, count, 0) == (ssize_t)count, "%s", strerror(errno));
    cumega_status status = cumega_weights_open(ctx, path, &weights);
    MUST(status == CUMEGA_OK, "%s", cumega_context_message(ctx));
    MUST(ftruncate(fd, (off_t)cut) == 0, "%s", strerror(errno));
    status = cumega_weights_read(ctx, weights, cumega_weights_at(weights, 0), data, sizeof data);
    MUST(status == (cut == count ? CUMEGA_OK : CUMEGA_ERROR_FILE), "cut at %zu", cut);
    if (status != CUMEGA_OK)
      MUST(strstr(cumega_context_message(ctx), "it has shrunk since it was opened") != NULL, "%s",
           cumega_context_message(ctx));
    seen[status == CUMEGA_OK]++;
    cumega_weights_close(weights);
  }
  n.accepted += seen[1];
  n.refused += seen[0];
  close(fd);
  free(bytes);
}

/* Root can read everything, so the process becomes the user nobody for a moment. */
static void judge_unreadable(cumega_context *ctx, const char *folder, const char *path) {
  uid_t was = geteuid();
  MUST(chmod(path, 0) == 0 && chmod(folder, 0755) == 0, "%s", strerror(errno));
  if (was == 0 && seteuid(65534) != 0) {
    printf("unreadable files: skipped, root cannot become nobody here\n");
    return;
  }
  judge_path(ctx, path, strerror(EACCES));
  MUST(seteuid(was) == 0, "%s", strerror(errno));
}

static void judge_paths(void) {
  char folder[] = "/tmp/cumega-bad-XXXXXX", path[5000];
  cumega_context *ctx;
  struct sockaddr_un address = {.sun_family = AF_UNIX};
  MUST(mkdtemp(folder) != NULL, "%s", strerror(errno));
  MUST(cumega_context_create(NULL, &ctx) == CUMEGA_OK, "%s", cumega_context_message(NULL));
#define IN_FOLDER(name) (snprintf(path, sizeof path, "%s/%s", folder, name), path)
  judge_path(ctx, folder, "is a directory");
  judge_path(ctx, IN_FOLDER("none"), strerror(ENOENT));
  judge_path(ctx, "", strerror(ENOENT));
  MUST(mkfifo(IN_FOLDER("pipe"), 0600) == 0, "%s", strerror(errno));
  judge_path(ctx, path, "is a pipe");
  int writer = open(path, O_RDWR | O_NONBLOCK); /* even if a writer has it open */
  judge_path(ctx, path, "is a pipe");
  close(writer);
  unlink(path);
  judge_path(ctx, "/dev/null", "is a device");
  judge_path(ctx, "/dev/zero", "is a device");
  snprintf(address.sun_path, sizeof address.sun_path, "%s/socket", folder);
  int fd = socket(AF_UNIX, SOCK_STREAM, 0);
  MUST(bind(fd, (struct sockaddr *)&address, sizeof address) == 0, "%s", strerror(errno));
  judge_path(ctx, address.sun_path, "cannot be opened");
  close(fd);
  unlink(address.sun_path);
  MUST(symlink("loop", IN_FOLDER("loop")) == 0, "%s", strerror(errno));
  judge_path(ctx, path, strerror(ELOOP));
  unlink(path);
  memset(path, 'x', sizeof path - 1);
  path[sizeof path - 1] = '\0';
  judge_path(ctx, path, strerror(ENAMETOOLONG));
  judge_unsteady(ctx, IN_FOLDER("unsteady"));
  judge_unreadable(ctx, folder, path);
  unlink(path);
  cumega_context_destroy(ctx);
  MUST(rmdir(folder) == 0, "something was left in %s", folder);
}

int main(int count, char **arguments) {
  judge_seeds(count > 1 ? arguments[1] : NULL);
  if (count > 1) return EXIT_SUCCESS;
  judge_products();
  judge_places();
  judge_values();
  judge_text();
  judge_lengths();
  judge_large();
  judge_paths();
  printf("%ld weight files: %ld refused, %ld read\n", n.refused + n.accepted, n.refused,
         n.accepted);
  MUST(n.refused + n.accepted >= 10000, "too few");
  return EXIT_SUCCESS;
}
