/* The program on the build's CUDA device: every case of the EMA is within its tolerance, and the
 * kernels that computed it are listed. */
#include <jansson.h>
#include "program.h"

static int cuda_is_here(void) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  cumega_context *ctx = NULL;
  options.device = (DLDevice){kDLCUDA, 0};
  int here = cumega_context_create(&options, &ctx) == CUMEGA_OK;
  if (!here) fprintf(stderr, "%s\n", cumega_context_message(NULL));
  cumega_context_destroy(ctx);
  return here;
}

#define MOST_CASES 200

START_TEST(every_case_is_verified) {
  glob_t cases;
  const char *arguments[MOST_CASES + 5] = {"cumega", "verify", "--device", "cuda"};
  ck_assert_int_eq(glob(GOLDEN("ema_*"), 0, NULL, &cases), 0);
  ck_assert(cases.gl_pathc >= 60 && cases.gl_pathc <= MOST_CASES);
  for (size_t i = 0; i < cases.gl_pathc; i++) arguments[4 + i] = cases.gl_pathv[i];
  int code = run_into(NULL, arguments);
  ck_assert_msg(code == 0, "exit code %d: %s%s", code, out, err);
  char expected[32];
  snprintf(expected, sizeof expected, "PASS: %zu ok", cases.gl_pathc);
  ck_assert_msg(strstr(last_line(), expected) != NULL, "'%s' is not in: %s", expected,
                last_line());
  globfree(&cases);
}
END_TEST

/* There is at least one kernel, and each name begins like a cumega kernel's. */
static void kernels_are_listed(const char *operation, const char *path, const char *first) {
  int code = RUN("run", operation, path, "-o", in_folder("written"), "--device", "cuda", "--json");
  ck_assert_msg(code == 0, "%s", err);
  json_t *report = json_loads(out, 0, NULL), *kernels = json_object_get(report, "kernels");
  ck_assert_uint_ge(json_array_size(kernels), 1);
  for (size_t i = 0; i < json_array_size(kernels); i++) {
    const char *name = json_string_value(json_array_get(kernels, i));
    ck_assert_msg(strncmp(name, first, strlen(first)) == 0 && name[strlen(name) - 1] == '>',
                  "%s: kernel '%s', expected %s...>", path, name, first);
  }
  json_decref(report);
}

START_TEST(a_run_lists_its_kernels) {
  kernels_are_listed("ema_forward", GOLDEN("ema_forward-default"), "ema_lanes_kernel<");
  kernels_are_listed("ema_forward", GOLDEN("ema_forward-heads3"), "ema_recurrent_kernel<");
  kernels_are_listed("ema_step", GOLDEN("ema_step-many"), "ema_recurrent_kernel<");
}
END_TEST

/* Emulated CUDA can hide its cuFFT, as on a machine without the file; runs that do not need it
 * still work. */
START_TEST(without_cufft_the_algorithm_fft_is_a_device_error_that_says_so) {
  const char *path = GOLDEN("ema_forward-default");
  if (RUN("verify", "--device", "cuda", path) != 0 || !strstr(out, "cuda-emulation")) return;
  setenv("EMULATION_CUFFT", "off", 1);
  ASSERT_SAYS(4, "algorithm FFT needs cuFFT, and emulated cuFFT cannot be opened", "verify",
              "--device", "cuda", "--algorithm", "fft", path);
  ck_assert_int_eq(RUN("verify", "--device", "cuda", path), 0);
  unsetenv("EMULATION_CUFFT");
  ck_assert_int_eq(RUN("verify", "--device", "cuda", "--algorithm", "fft", path), 0);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("cuda_program");
  TCase *tests = add_case(suite, "cuda", 300);
  if (!cuda_is_here())
    return EXIT_FAILURE; /* its message makes CTest report the suite as skipped */
  tcase_add_test(tests, every_case_is_verified);
  tcase_add_test(tests, a_run_lists_its_kernels);
  tcase_add_test(tests, without_cufft_the_algorithm_fft_is_a_device_error_that_says_so);
  return run_program_suite(suite);
}
