/* Every CUDA call of a position bias's life fails once: a status, nothing left behind, and the next
 * life succeeds. */
#define CUMEGA_TESTS_POSITION_DEVICE_INSIDE
#include <emulation.h>
#include "harness.h"
#include "position_device.h"
#include "runner.h"

/* All that a server does with one; a context made, and destroyed whatever happened. */
static cumega_status live(int rotary) {
  cumega_context_options options = cumega_context_options_default();
  cumega_context *ctx = NULL;
  cumega_position_bias *bias = NULL;
  cumega_tensor t;
  void *memory = NULL;
  const int64_t shape[] = {1, 1, 1, 17000}, bytes = 4 * 17000;
  options.device = (DLDevice){kDLCUDA, 0};
  cumega_status status = cumega_context_create(&options, &ctx);
  if (status == CUMEGA_OK)
    status = rotary ? cumega_position_bias_create_rotary(ctx, 4, 64, NULL, NULL, &bias)
                    : cumega_position_bias_create_relative(ctx, 17000, NULL, &bias);
  if (status == CUMEGA_OK) status = cumega_memory_allocate(ctx, bytes, &memory);
  cumega_position_bias_io io = cumega_position_bias_io_default();
  io.output = cumega_tensor_init(&t, memory, options.device, cumega_float32, 4, shape);
  io.scores = io.output;
  if (status == CUMEGA_OK) status = cumega_position_bias_softmax(ctx, bias, &io);
  if (status == CUMEGA_OK) status = cumega_position_bias_reset_parameters(ctx, bias, 0, 1, 1);
  if (status == CUMEGA_OK) status = cumega_position_bias_apply(ctx, bias, &io);
  if (status == CUMEGA_OK) status = cumega_context_synchronize(ctx);
  /* What could not wait for the stream has released nothing, and is called again. */
  if (ctx && memory && cumega_memory_release(ctx, memory, bytes) != CUMEGA_OK)
    (void)!cumega_memory_release(ctx, memory, bytes);
  cumega_position_bias_destroy(bias);
  cumega_context_destroy(ctx);
  return status;
}

static void check_faults(cudaError_t error) {
  for (int rotary = 0; rotary < 2; rotary++) {
    int64_t failed = 0;
    for (int64_t n = 1;; n++) {
      const int64_t before = emulation_call_count();
      emulation_fail(n, error, 0, 0);
      const cumega_status status = live(rotary);
      const int reached = emulation_call_count() - before >= n;
      emulation_fail(0, cudaSuccess, 0, 0);
      if (!reached) break;
      failed += status != CUMEGA_OK;
      ck_assert_msg(status == CUMEGA_OK || status == CUMEGA_ERROR_RESOURCE ||
                        status == CUMEGA_ERROR_DEVICE,
                    "call %lld gives %s", (long long)n, cumega_status_string(status));
      ck_assert_int_eq(live(rotary), CUMEGA_OK);
    }
    ck_assert_int_ge(failed, 10);
  }
}

START_TEST(failing_calls_give_a_status_and_leave_nothing) {
  const char *text = "";
  check_faults(cudaErrorMemoryAllocation);
  check_faults(cudaErrorInvalidValue);
  ck_assert_msg(emulation_leaks(&text) == 0, "%s", text);
  ck_assert_msg(emulation_faults(&text) == 0, "%s", text);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("emulated_position");
  TCase *tests = add_case(suite, "faults", 300);
  tcase_add_test(tests, failing_calls_give_a_status_and_leave_nothing);
  return run_suite(suite);
}
