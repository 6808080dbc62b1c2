/* Every CUDA call of a life fails once: a status with a sentence, nothing left behind, and the next life
 * succeeds. A lost device is FATAL, however it was met: through CUDA, cuFFT or cuBLAS. */
#include <stdio.h>
#include <stdlib.h>
#include <emulation.h>
#include "harness.h"
#include "lives.h"
#include "runner.h"

static life_end live_once(const life *l) {
  cumega_context_options options = cumega_context_options_default();
  options.device = (DLDevice){kDLCUDA, 0};
  return l->live(&options);
}

static int is_right(const life_end *e, int sticky) {
  if (e->status == CUMEGA_OK) return 1;
  if (e->sentence[0] == '\0') return 0;
  if (sticky) return e->status == CUMEGA_ERROR_FATAL || !e->has_context;
  return e->status == CUMEGA_ERROR_RESOURCE || e->status == CUMEGA_ERROR_DEVICE;
}

/* Of the errors one after the other. */
static void check_faults(const life *l, const cudaError_t *errors, int count, int sticky) {
  const char *text = "";
  int64_t failed = 0;
  for (int64_t n = 1;; n++) {
    const cudaError_t error = errors[n % count];
    const int64_t before = emulation_call_count();
    emulation_fail(n, error, 0, sticky);
    const life_end e = live_once(l);
    const int reached = emulation_call_count() - before >= n;
    emulation_fail(0, cudaSuccess, 0, 0);
    ck_assert(sticky || e.lost == NULL);
    emulation_revive();
    (void)cudaFree(e.lost);
    if (getenv("CUMEGA_TEST_TRACE") != NULL)
      printf("%s, call %lld: %s\n", l->name, (long long)n, e.sentence);
    if (!reached) break;
    failed += e.status != CUMEGA_OK;
    ck_assert_msg(is_right(&e, sticky), "%s, %s at call %lld: %s: %s", l->name,
                  cudaGetErrorName(error), (long long)n, cumega_status_string(e.status),
                  e.sentence);
    (void)cudaGetLastError();
  }
  ck_assert_int_ge(failed, 10);
  const life_end e = live_once(l);
  ck_assert_msg(e.status == CUMEGA_OK, "%s", e.sentence);
  ck_assert_msg(emulation_leaks(&text) == 0, "%s leaves:\n%.1000s", l->name, text);
  ck_assert_msg(emulation_faults(&text) == 0, "%.1000s", text);
}

START_TEST(failing_calls_give_a_status_and_leave_nothing) {
  static const cudaError_t errors[] = {cudaErrorMemoryAllocation, cudaErrorInvalidValue,
                                       cudaErrorInitializationError};
  check_faults(&lives[_i], errors, 3, 0);
}
END_TEST

START_TEST(a_lost_device_is_fatal_wherever_it_is_met) {
  static const cudaError_t errors[] = {cudaErrorLaunchFailure, cudaErrorIllegalAddress};
  check_faults(&lives[_i], errors, 2, 1);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("emulated_lives");
  TCase *tests = add_case(suite, "faults", 300);
  tcase_add_loop_test(tests, failing_calls_give_a_status_and_leave_nothing, 0, life_count);
  tcase_add_loop_test(tests, a_lost_device_is_fatal_wherever_it_is_met, 0, life_count);
  return run_suite(suite);
}
