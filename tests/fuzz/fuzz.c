#include "fuzz.h"
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* AddressSanitizer answers a large allocation with NULL, as malloc does: that is not a finding. */
const char *__asan_default_options(void);
const char *__asan_default_options(void) {
  return "allocator_may_return_null=1:max_allocation_size_mb=512";
}

void finding(const char *file, int line, const char *condition, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "finding: %s:%d: %s: ", file, line, condition);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  va_end(arguments);
  abort();
}

int input_byte(input *in) {
  if (in->left == 0) return 0;
  in->left--;
  return *in->at++;
}

int input_below(input *in, int bound) {
  return input_byte(in) % bound;
}

int64_t input_bytes(input *in, void *to, int64_t most) {
  int64_t count = (int64_t)in->left < most ? (int64_t)in->left : most;
  if (count > 0) memcpy(to, in->at, (size_t)count);
  in->at += count;
  in->left -= (size_t)count;
  return count;
}

int64_t input_number(input *in) {
  static const int64_t edges[] = {-1,
                                  -2,
                                  63,
                                  64,
                                  65,
                                  4095,
                                  4096,
                                  4097,
                                  INT64_C(1) << 20,
                                  INT32_MAX,
                                  INT64_C(1) << 31,
                                  INT64_C(1) << 32,
                                  INT64_C(1) << 40,
                                  INT64_C(1) << 61,
                                  INT64_C(1) << 62,
                                  -(INT64_C(1) << 62),
                                  INT64_MAX - 1,
                                  INT64_MAX,
                                  INT64_MIN,
                                  INT64_MIN + 1};
  const int count = sizeof edges / sizeof *edges;
  int kind = input_byte(in);
  if (kind < 200) return kind % 40;
  if (kind < 240) return edges[input_below(in, count)];
  int64_t number = 0;
  input_bytes(in, &number, 8);
  return number;
}

double input_real(input *in) {
  static const double edges[] = {0.0,   -0.0,     1.0,       -1.0, 1e-310, 1e308,
                                 -1e39, INFINITY, -INFINITY, NAN,  0.5,    2.0};
  int kind = input_byte(in);
  if (kind < 128) return edges[kind % 12];
  double number = 0;
  input_bytes(in, &number, 8);
  return number;
}

const char *file_of_bytes(const void *bytes, size_t count) {
  static int fd = -1;
  static char path[64];
  if (fd < 0) {
    fd = memfd_create("cumega-fuzz", MFD_CLOEXEC);
    MUST(fd >= 0, "no file in memory");
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  }
  MUST(ftruncate(fd, 0) == 0, "the file in memory keeps its bytes");
  MUST(pwrite(fd, bytes, count, 0) == (ssize_t)count, "%zu bytes were not written", count);
  return path;
}

void check_message(const cumega_context *ctx, cumega_status status) {
  const char *message = cumega_context_message(ctx);
  MUST(status >= CUMEGA_OK && status <= CUMEGA_ERROR_DEVICE, "status %d: %s", (int)status,
       message);
  if (status == CUMEGA_OK)
    MUST(message[0] == '\0', "a success left the sentence '%s'", message);
  else
    MUST(strlen(message) > 5, "status %d has the sentence '%s'", (int)status, message);
  for (const char *c = message; *c != '\0'; c++)
    MUST((unsigned char)*c >= 0x20, "a control character is in: %s", message);
}

int64_t bytes_held(cumega_context *ctx) {
  cumega_statistics statistics = {.struct_size = sizeof statistics};
  cumega_status status = cumega_context_statistics(ctx, &statistics);
  MUST(status == CUMEGA_OK, "statistics: %s", cumega_context_message(ctx));
  return statistics.bytes_held;
}
