/* Ranges on a profiler's timeline: if a profiler is attached there is one for each call, with the
 * bytes of its tensors; otherwise there are none. The profiler is tests/nvtx/recorder.c. */
#include "program.h"

static char recorded[1 << 16];

/* What the profiler saw while the program ran a case with CUMEGA_NVTX as given (NULL: unset). */
static int record(const char *asked, const char *profiler) {
  const char *log = in_folder("ranges");
  unlink(log);
  setenv("RECORDER_LOG", log, 1);
  profiler ? setenv("NVTX_INJECTION64_PATH", profiler, 1) : unsetenv("NVTX_INJECTION64_PATH");
  asked ? setenv("CUMEGA_NVTX", asked, 1) : unsetenv("CUMEGA_NVTX");
  int code =
      RUN("run", "ema_forward", FORWARD, "-o", in_folder("o.safetensors"), "--device", "cpu");
  unsetenv("CUMEGA_NVTX");
  unsetenv("NVTX_INJECTION64_PATH");
  read_text(log, recorded, sizeof recorded);
  return code;
}

static int64_t bytes_in(const char *path, const char *name) {
  editable e;
  open_case(&e, path);
  const DLTensor *tensor = tensor_of(&e, name);
  ck_assert_msg(tensor != NULL, "no %s", name);
  int64_t bytes = bytes_of(tensor);
  close_case(&e);
  return bytes;
}

START_TEST(a_profiler_sees_each_call_with_its_bytes) {
  char line[128];
  int depth = 0, ranges = 0;
  ck_assert_int_eq(record(NULL, RECORDER), 0);
  ck_assert_msg(strncmp(recorded, "domain cumega\n", 14) == 0, "%.200s", recorded);
  const char *written = in_folder("o.safetensors");
  int64_t bytes = bytes_in(FORWARD, "inputs.x") + bytes_in(FORWARD, "inputs.mask") +
                  bytes_in(written, "outputs.y") + bytes_in(written, "outputs.state");
  snprintf(line, sizeof line, "\npush 1 cumega_ema_forward %lld\npop 1\n", (long long)bytes);
  ck_assert_msg(strstr(recorded, line) != NULL, "no %s in %s", line, recorded);
  ck_assert_ptr_nonnull(strstr(recorded, "\npush 1 cumega_ema_create "));
  for (const char *at = recorded; (at = strchr(at, '\n')) != NULL && at[1] != '\0'; at++) {
    int pushes = strncmp(at + 1, "push 1 cumega_", 14) == 0;
    ck_assert_msg(pushes || strncmp(at + 1, "pop 1\n", 6) == 0, "%.80s", at + 1);
    depth += pushes ? 1 : -1;
    ranges += pushes;
    ck_assert_int_ge(depth, 0);
  }
  ck_assert_int_eq(depth, 0);
  ck_assert_int_ge(ranges, 3);
}
END_TEST

START_TEST(the_environment_switches_ranges_off_and_on) {
  ck_assert_int_eq(record("0", RECORDER), 0);
  ck_assert_str_eq(recorded, "");
  ck_assert_int_eq(record("1", RECORDER), 0);
  ck_assert_ptr_nonnull(strstr(recorded, "push 1 cumega_ema_forward "));
  ck_assert_int_eq(record("1", NULL), 0);
  ck_assert_str_eq(recorded, "");
  ck_assert_int_eq(record("", NULL), 0);
  ck_assert_int_eq(record("yes", NULL), 2);
  ck_assert_ptr_nonnull(strstr(err, "CUMEGA_NVTX is 'yes', expected 0 or 1"));
}
END_TEST

int main(void) {
  Suite *suite = suite_create("program: nvtx");
  TCase *ranges = add_case(suite, "ranges", 60);
  tcase_add_test(ranges, a_profiler_sees_each_call_with_its_bytes);
  tcase_add_test(ranges, the_environment_switches_ranges_off_and_on);
  return run_program_suite(suite);
}
