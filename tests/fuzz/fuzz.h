/* What the fuzz targets share: a reader of the input's bytes, a file made of bytes, and the way a
 * finding ends the process. README.md says how to run them. */
#ifndef CUMEGA_TESTS_FUZZ_H
#define CUMEGA_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cumega/cumega.h>

/* A fuzzer calls it with every input, replay.c with every file. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A promise was broken: prints the sentence and aborts, with or without NDEBUG. */
#define MUST(condition, ...)                                                                      \
  do {                                                                                            \
    if (!(condition)) finding(__FILE__, __LINE__, #condition, __VA_ARGS__);                       \
  } while (0)
void finding(const char *file, int line, const char *condition, const char *format, ...)
    __attribute__((noreturn, format(printf, 4, 5)));

/* The input, read from its front. Past its end everything is 0. */
typedef struct input {
  const uint8_t *at;
  size_t left;
} input;

int input_byte(input *in);
int input_below(input *in, int bound); /* 0 .. bound - 1, bound <= 256 */
int64_t input_number(input *in);       /* small, at an edge of some type, or anything */
double input_real(input *in);          /* likewise, with infinities and NaN */
int64_t input_bytes(input *in, void *to, int64_t most); /* how many there were */

/* A path under which these bytes are a regular file, in memory. It is valid until the next
 * call. */
const char *file_of_bytes(const void *bytes, size_t count);

/* "" if the last call on ctx (NULL: without a context) returned CUMEGA_OK, else a message. */
void check_message(const cumega_context *ctx, cumega_status status);

/* What fuzz_weights.c and fuzz_case.c do with a file. Returns CUMEGA_OK (EXIT_OK), or the status
 * of the refusal. Every promise is checked on the way; sentence (SENTENCE bytes) is "" or the
 * reason. */
#define SENTENCE 800
int judge(const uint8_t *bytes, size_t count, char *sentence);

/* The bytes that ctx's account holds. */
int64_t bytes_held(cumega_context *ctx);

#endif
