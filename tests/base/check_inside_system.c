/* What the system may answer to the library's calls. Each call is interrupted, does less than it
 * was asked to do, or fails. The library then goes on, or names the file or thread in its message
 * and leaves nothing behind. The linker replaces open with __wrap_open, and so on
 * (base/CMakeLists.txt). */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cumega/cumega.h>
#include "counting_allocator.h"
#include "runner.h"
#include "weights_files.h"

/* ---- the system ---- */

typedef enum call {
  OPEN,
  FSTAT,
  STAT,
  PREAD,
  WRITE,
  CLOSE,
  RENAME,
  ATTR_INIT,
  ATTR_STACK,
  THREAD,
  CALLS
} call;

static const char *const call_names[CALLS] = {"open",
                                              "fstat",
                                              "stat",
                                              "pread",
                                              "write",
                                              "close",
                                              "rename",
                                              "pthread_attr_init",
                                              "pthread_attr_setstacksize",
                                              "pthread_create"};

/* Calls number first to last, from 1, fail with error; pieces: the most bytes that a read or
 * write takes. */
static struct {
  int64_t made, first, last;
  int error;
} plans[CALLS];
static size_t pieces;
static long least_stack;
static size_t asked_stack;

static void spoil(call which, int64_t first, int64_t last, int error) {
  plans[which].made = 0;
  plans[which].first = first;
  plans[which].last = last;
  plans[which].error = error;
}

static void mend(void) {
  memset(plans, 0, sizeof plans);
  pieces = 0;
  least_stack = 0;
}

/* The error of this call, or 0. */
static int error_of(call which) {
  int64_t number = ++plans[which].made;
  return number >= plans[which].first && number <= plans[which].last ? plans[which].error : 0;
}

static int fails(call which) {
  int error = error_of(which);
  if (error) errno = error;
  return error != 0;
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...) {
  va_list arguments;
  va_start(arguments, flags);
  mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
  va_end(arguments);
  return fails(OPEN) ? -1 : __real_open(path, flags, mode);
}

#define WRAP(which, type, name, parameters, arguments)                                            \
  type __real_##name parameters;                                                                  \
  type __wrap_##name parameters;                                                                  \
  type __wrap_##name parameters {                                                                 \
    return fails(which) ? (type)-1 : __real_##name arguments;                                     \
  }
#define SHORTER(bytes) (pieces && pieces < (bytes) ? pieces : (bytes))

WRAP(FSTAT, int, fstat, (int fd, struct stat *file), (fd, file))
WRAP(STAT, int, stat, (const char *path, struct stat *file), (path, file))
WRAP(PREAD, ssize_t, pread, (int fd, void *to, size_t n, off_t at), (fd, to, SHORTER(n), at))
WRAP(WRITE, ssize_t, write, (int fd, const void *from, size_t n), (fd, from, SHORTER(n)))
WRAP(RENAME, int, rename, (const char *from, const char *to), (from, to))

/* A close that fails has still closed the file, as on Linux. */
int __real_close(int fd);
int __wrap_close(int fd);
int __wrap_close(int fd) {
  int closed = __real_close(fd);
  return fails(CLOSE) ? -1 : closed;
}

int __real_pthread_attr_init(pthread_attr_t *attributes);
int __wrap_pthread_attr_init(pthread_attr_t *attributes);
int __wrap_pthread_attr_init(pthread_attr_t *attributes) {
  int error = error_of(ATTR_INIT);
  return error ? error : __real_pthread_attr_init(attributes);
}

int __real_pthread_attr_setstacksize(pthread_attr_t *attributes, size_t bytes);
int __wrap_pthread_attr_setstacksize(pthread_attr_t *attributes, size_t bytes);
int __wrap_pthread_attr_setstacksize(pthread_attr_t *attributes, size_t bytes) {
  int error = error_of(ATTR_STACK);
  asked_stack = bytes;
  return error ? error : __real_pthread_attr_setstacksize(attributes, bytes);
}

typedef void *thread_body(void *argument);
int __real_pthread_create(pthread_t *, const pthread_attr_t *, thread_body *, void *);
int __wrap_pthread_create(pthread_t *, const pthread_attr_t *, thread_body *, void *);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, thread_body *body,
                          void *argument) {
  int error = error_of(THREAD);
  return error ? error : __real_pthread_create(thread, attributes, body, argument);
}

long __real_sysconf(int name);
long __wrap_sysconf(int name);
long __wrap_sysconf(int name) {
  return name == _SC_THREAD_STACK_MIN && least_stack ? least_stack : __real_sysconf(name);
}

/* ---- weight files ---- */

/* Together larger than the writer's buffer of 256 KiB; each one smaller. */
enum { TENSORS = 40, BYTES = 20000, WRITES = 4 };

static weights_files files;
static unsigned char data[TENSORS][BYTES];

static void setup(void) {
  mend();
  files_begin(&files);
  for (int i = 0; i < TENSORS; i++)
    for (int k = 0; k < BYTES; k++) data[i][k] = (unsigned char)(i * 7 + k * 13);
}
static void teardown(void) {
  mend();
  files_end(&files);
}

static cumega_status save(void) {
  static char names[TENSORS][24];
  cumega_tensor views[TENSORS];
  cumega_named_tensor tensors[TENSORS];
  const int64_t shape[] = {BYTES};
  for (int i = 0; i < TENSORS; i++) {
    snprintf(names[i], sizeof names[i], "tensor %d", i);
    tensors[i] = (cumega_named_tensor){
        names[i], cumega_tensor_init(&views[i], data[i], cumega_cpu, cumega_uint8, 1, shape)};
  }
  return cumega_weights_save(files.ctx, files.path, tensors, TENSORS, NULL, 0);
}

/* Opens the file and reads all of it; every tensor must be whole. */
static cumega_status load(void) {
  static unsigned char read[BYTES];
  cumega_weights *weights = NULL;
  cumega_status status = cumega_weights_open(files.ctx, files.path, &weights);
  for (int64_t i = 0; i < TENSORS && status == CUMEGA_OK; i++) {
    const cumega_weights_entry *entry = cumega_weights_at(weights, i);
    status = cumega_weights_read(files.ctx, weights, entry, read, BYTES);
    if (status != CUMEGA_OK) break;
    ck_assert_int_eq(memcmp(read, data[atoi(entry->name + strlen("tensor "))], BYTES), 0);
  }
  cumega_weights_close(weights);
  return status;
}

/* The descriptor that the next file would get: unchanged if no descriptor was lost. */
static int next_descriptor(void) {
  int fd = dup(0);
  ck_assert_int_ge(fd, 0);
  __real_close(fd);
  return fd;
}

START_TEST(interrupted_and_short_calls_are_made_again) {
  static const call interrupted[] = {OPEN, WRITE, PREAD};
  for (int i = 0; i < 3; i++) {
    spoil(interrupted[i], 1, 3, EINTR);
    pieces = i == 0 ? 0 : 4099;
    ck_assert_msg(save() == CUMEGA_OK, "%s", cumega_context_message(files.ctx));
    if (interrupted[i] == OPEN) spoil(OPEN, 1, 3, EINTR);
    ck_assert_msg(load() == CUMEGA_OK, "%s", cumega_context_message(files.ctx));
    ck_assert_int_gt(plans[interrupted[i]].made, 3);
    mend();
  }
}
END_TEST

/* Each call of a kind fails, one per round, until a round makes too few of them. */
static int fail_each(call which, cumega_status (*action)(void), int files_left) {
  int64_t held = 0, n = 0;
  const int descriptor = next_descriptor();
  cumega_statistics statistics = {.struct_size = sizeof statistics};
  ck_assert_int_eq(cumega_context_statistics(files.ctx, &statistics), CUMEGA_OK);
  held = statistics.bytes_held;
  for (;;) {
    n++;
    spoil(which, n, n, EIO);
    cumega_status status = action();
    if (plans[which].made < n) break;
    mend();
    ck_assert_msg(status == CUMEGA_ERROR_FILE, "%s %d: %d", call_names[which], (int)n,
                  (int)status);
    ck_assert_ptr_nonnull(strstr(cumega_context_message(files.ctx), "model.safetensors': "));
    ck_assert_ptr_nonnull(strstr(cumega_context_message(files.ctx), strerror(EIO)));
    ck_assert_int_eq(next_descriptor(), descriptor);
    ck_assert_int_eq(files_in_folder(&files, 0), files_left);
    ck_assert_int_eq(cumega_context_statistics(files.ctx, &statistics), CUMEGA_OK);
    ck_assert_int_eq(statistics.bytes_held, held);
    if (files_left) ck_assert_int_eq(load(), CUMEGA_OK); /* the old file is complete */
  }
  mend();
  return (int)n - 1;
}

START_TEST(a_save_whose_call_fails_leaves_the_old_file_or_none) {
  static const call calls[] = {OPEN, WRITE, CLOSE, RENAME};
  for (int i = 0; i < 4; i++) {
    ck_assert_int_eq(fail_each(calls[i], save, 0), calls[i] == WRITE ? WRITES : 1);
    ck_assert_int_eq(files_in_folder(&files, 1), 1);
  }
  ck_assert_int_eq(save(), CUMEGA_OK);
  ck_assert_int_eq(fail_each(STAT, save, 1), 1); /* of the file to be replaced */
  ck_assert_int_eq(fail_each(WRITE, save, 1), WRITES);
}
END_TEST

START_TEST(an_open_or_a_read_whose_call_fails_is_a_file_error) {
  ck_assert_int_eq(save(), CUMEGA_OK);
  ck_assert_int_eq(fail_each(OPEN, load, 1), 1);
  ck_assert_int_eq(fail_each(FSTAT, load, 1), 1);
  ck_assert_int_eq(fail_each(PREAD, load, 1), 2 + TENSORS);
}
END_TEST

/* Another program cuts the file short between a look at it and the read. */
START_TEST(parameters_that_cannot_be_read_any_more_are_a_file_error) {
  float numbers[3] = {1, 2, 3};
  const int64_t shape[] = {3};
  cumega_tensor view;
  const cumega_named_tensor tensor = {
      "scale", cumega_tensor_init(&view, numbers, cumega_cpu, cumega_float32, 1, shape)};
  cumega_norm_config config;
  cumega_norm_config_init(&config, sizeof config, CUMEGA_NORM_RMS, 3);
  cumega_weights *weights;
  cumega_norm *norm;
  ck_assert_int_eq(cumega_weights_save(files.ctx, files.path, &tensor, 1, NULL, 0), CUMEGA_OK);
  ck_assert_int_eq(cumega_weights_open(files.ctx, files.path, &weights), CUMEGA_OK);
  spoil(PREAD, 1, 1, EIO);
  ck_assert_int_eq(cumega_norm_create_from_weights(files.ctx, weights, NULL, &config, &norm),
                   CUMEGA_ERROR_FILE);
  ck_assert_ptr_null(norm);
  mend();
  ck_assert_int_eq(cumega_norm_create_from_weights(files.ctx, weights, NULL, &config, &norm),
                   CUMEGA_OK);
  cumega_norm_destroy(norm);
  cumega_weights_close(weights);
}
END_TEST

START_TEST(a_temporary_name_that_is_taken_is_passed_over_a_hundred_times) {
  spoil(OPEN, 1, 99, EEXIST);
  ck_assert_int_eq(save(), CUMEGA_OK);
  ck_assert_int_eq(plans[OPEN].made, 100);
  spoil(OPEN, 1, 1000, EEXIST);
  ck_assert_int_eq(save(), CUMEGA_ERROR_FILE);
  ck_assert_ptr_nonnull(strstr(cumega_context_message(files.ctx), strerror(EEXIST)));
  ck_assert_int_eq(plans[OPEN].made, 100);
  mend();
  ck_assert_int_eq(load(), CUMEGA_OK);
}
END_TEST

/* ---- threads ---- */

START_TEST(a_thread_that_the_system_refuses_ends_those_before_it) {
  static const call calls[] = {ATTR_INIT, ATTR_STACK, THREAD};
  counting_allocator ledger;
  memset(&ledger, 0, sizeof ledger);
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  options.allocator = counting_allocator_of(&ledger);
  options.threads = 4;
  for (int i = 0; i < 3; i++)
    for (int n = 1; n <= 4; n++) {
      cumega_context *ctx = (cumega_context *)&ledger;
      spoil(calls[i], n, n, EAGAIN);
      cumega_status status = cumega_context_create(&options, &ctx);
      ck_assert_int_eq(status, n < 4 ? CUMEGA_ERROR_RESOURCE : CUMEGA_OK);
      ck_assert_int_eq(ctx != NULL, n == 4);
      if (n < 4)
        ck_assert_str_eq(cumega_context_message(NULL), "cannot make options.threads = 4 threads: "
                                                       "the system refused a thread");
      cumega_context_destroy(ctx);
      ck_assert_int_eq(ledger.blocks, 0);
      mend();
    }
}
END_TEST

START_TEST(a_stack_is_as_large_as_the_system_asks_for) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  cumega_context *ctx;
  options.threads = 2;
  for (int i = 0; i < 2; i++) {
    least_stack = i * (1 << 20);
    ck_assert_int_eq(cumega_context_create(&options, &ctx), CUMEGA_OK);
    ck_assert_uint_eq(asked_stack, i ? 1 << 20 : 256 << 10);
    cumega_context_destroy(ctx);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("inside system");
  TCase *tests = add_case(suite, "calls", 60);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, interrupted_and_short_calls_are_made_again);
  tcase_add_test(tests, a_save_whose_call_fails_leaves_the_old_file_or_none);
  tcase_add_test(tests, an_open_or_a_read_whose_call_fails_is_a_file_error);
  tcase_add_test(tests, parameters_that_cannot_be_read_any_more_are_a_file_error);
  tcase_add_test(tests, a_temporary_name_that_is_taken_is_passed_over_a_hundred_times);
  tcase_add_test(tests, a_thread_that_the_system_refuses_ends_those_before_it);
  tcase_add_test(tests, a_stack_is_as_large_as_the_system_asks_for);
  return run_suite(suite);
}
