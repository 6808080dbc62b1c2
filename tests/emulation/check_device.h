/* Device memory for the suites, and how they check that a fault is caught. */
#ifndef EMULATION_CHECK_DEVICE_H
#define EMULATION_CHECK_DEVICE_H

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>
#include <sys/wait.h>
#include <unistd.h>

#include <cuda_runtime.h>
#include "emulation.h"
#include "runner.h"
#include "sanitizer.h"

static const int SEEDS = 24;

#define OK(call) ck_assert_int_eq((int)(call), (int)cudaSuccess)

/* Memory of the device, with values or without. */
template <typename T> struct buffer {
  T *data = nullptr;
  size_t count;
  explicit buffer(size_t n) : count(n) { OK(cudaMalloc(&data, n * sizeof(T))); }
  explicit buffer(const std::vector<T> &values) : buffer(values.size()) {
    OK(cudaMemcpy(data, values.data(), count * sizeof(T), cudaMemcpyHostToDevice));
  }
  ~buffer() { cudaFree(data); }
  buffer(const buffer &) = delete;
  std::vector<T> read() const {
    std::vector<T> values(count);
    OK(cudaMemcpy(values.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost));
    return values;
  }
};

/* seed 0: the fixed schedule. */
static inline void begin(int seed) {
  emulation_reset();
  emulation_set_schedule(seed == 0 ? EMULATION_FIXED : EMULATION_RANDOM, (uint64_t)seed);
}

/* How the suites end: nothing is left for LeakSanitizer to find. */
static inline int run_and_reset(Suite *suite) {
  const int failed = run_suite(suite);
  emulation_reset();
  return failed;
}

/* Calls run under the fixed schedule and SEEDS random ones; says what failed. */
template <typename RUN> static inline void under_all_schedules(RUN run) {
  for (int seed = 0; seed <= SEEDS; seed++) {
    begin(seed);
    run(seed);
  }
}

/* What a forked child writes to stderr while it calls run; *status is its exit status. */
template <typename RUN> static inline std::string stderr_of(RUN run, int *status) {
  int ends[2];
  ck_assert_int_eq(pipe(ends), 0);
  fflush(stdout);
  const pid_t child = fork();
  ck_assert_int_ge(child, 0);
  if (child == 0) {
    dup2(ends[1], 2);
    close(ends[0]);
    close(ends[1]);
    run();
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  char piece[4096];
  for (ssize_t n; (n = read(ends[0], piece, sizeof piece)) > 0;) text.append(piece, (size_t)n);
  close(ends[0]);
  waitpid(child, status, 0);
  return text;
}

/* The accesses of run are detected. With AddressSanitizer the process ends, and its output
 * contains `sanitized`; without it, there is a fault that contains `plain`. */
template <typename RUN>
static inline void access_is_caught(RUN run, const char *sanitized, const char *plain) {
#ifdef EMULATION_ASAN
  (void)plain;
  int status;
  const std::string text = stderr_of(run, &status);
  ck_assert_msg(status != 0 && text.find(sanitized) != std::string::npos, "%s not in: %s",
                sanitized, text.c_str());
#else
  (void)sanitized;
  run();
  const char *text;
  ck_assert_int_ge(emulation_faults(&text), 1);
  ck_assert_msg(strstr(text, plain) != nullptr, "%s not in: %s", plain, text);
#endif
}

#endif
