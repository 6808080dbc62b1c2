#include "cases.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "runner.h"

const DLDataType case_types[CASE_TYPES] = {
    {kDLFloat, 32, 1}, {kDLFloat, 16, 1}, {kDLBfloat, 16, 1}, {kDLFloat, 64, 1}};

static const struct {
  const char *name;
  void (*count)(cumega_context *ctx);
} families[] = {{"ema", count_ema}, {"position", count_position}, {"residual", count_residual}};
#define FAMILIES ((int)(sizeof families / sizeof *families))

static int family;

/* Every byte of a floating number is the same: 0x3c gives 0.0115 in float32 and bfloat16, 1.06 in float16. */
test_tensor *case_tensor(DLDataType dtype, int ndim, const int64_t *shape,
                         const test_layout *layout) {
  test_tensor *t = tensor_new(dtype, ndim, shape, layout);
  const int is_float = dtype.code == kDLFloat || dtype.code == kDLBfloat;
  memset(t->block, is_float ? 0x3c : 0, (size_t)t->block_bytes);
  for (int64_t i = 0; i < t->block_bytes && dtype.bits == 8; i += 5) t->block[i] = 1;
  return t;
}

void case_over(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  printf("case ");
  vprintf(format, arguments);
  putchar('\n');
  va_end(arguments);
}

START_TEST(every_case) {
  cumega_context *ctx = context_of_level(NULL, 1);
  ck_assert_ptr_nonnull(ctx);
  families[family].count(ctx);
  cumega_context_destroy(ctx);
}
END_TEST

int main(int argc, char **argv) {
  while (argc == 2 && family < FAMILIES && strcmp(argv[1], families[family].name) != 0) family++;
  if (argc != 2 || family == FAMILIES) {
    fprintf(stderr, "usage: %s ema|position|residual\n", argv[0]);
    return 2;
  }
  Suite *suite = suite_create("instructions");
  tcase_add_test(add_case(suite, families[family].name, 0), every_case);
  return run_suite(suite);
}
