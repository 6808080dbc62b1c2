/* What a program may do around the calls, and what a machine may lack: the bits stay the same,
 * and anything missing gives a status and a message. Tests that change a process for good run in
 * a child. */
#include <dirent.h>
#include <errno.h>
#include <fenv.h>
#include <locale.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>
#include "block.h"
#include "child.h"
#include "float_control.h"
#include "harness.h"
#include "runner.h"
#include "settled_threads.h"

#ifdef SANITIZED /* ThreadSanitizer allows no threads after a fork */
#define THREADS_OF_A_CHILD 1
#else
#define THREADS_OF_A_CHILD 3
#endif

enum { SEED = 7, SKIPPED = 77 };

static char folder[64], file[96]; /* this suite's folder, and a file in it */
static uint64_t right;            /* the bits of block_run with SEED */

static void setup(void) {
  cumega_context *ctx = context_of_level(NULL, 1);
  block b;
  MUST(ctx, block_create(ctx, &b));
  MUST(ctx, block_run(ctx, &b, SEED, &right));
  block_destroy(&b);
  cumega_context_destroy(ctx);
}

static cumega_status save(cumega_context *ctx, const char *path, int64_t bytes) {
  static unsigned char data[1 << 20];
  cumega_tensor t;
  const cumega_named_tensor tensor = {
      "x", cumega_tensor_init(&t, data, cumega_cpu, cumega_uint8, 1, &bytes)};
  const cumega_metadata metadata = {"scale", "1.5"};
  return cumega_weights_save(ctx, path, &tensor, 1, &metadata, 1);
}

/* Everything the library does, with threads, and files in `file`. Returns the number of the false
 * claim, or 0. It asserts nothing, because it is called in odd threads and in children. */
static int everything_works(int threads) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  cumega_context *ctx = NULL;
  cumega_weights *weights = NULL;
  block b;
  uint64_t hash = 0;
  int wrong = 0;
  options.threads = threads;
  if (cumega_context_create(&options, &ctx) != CUMEGA_OK) return 1;
  if (block_create(ctx, &b) != CUMEGA_OK) wrong = 2;
  if (!wrong && block_run(ctx, &b, SEED, &hash) != CUMEGA_OK) wrong = 3;
  if (!wrong && hash != right) wrong = 4;
  if (!wrong && save(ctx, file, 5000) != CUMEGA_OK) wrong = 5;
  if (!wrong && cumega_weights_open(ctx, file, &weights) != CUMEGA_OK) wrong = 6;
  if (!wrong && strcmp(cumega_weights_metadata_at(weights, 0).value, "1.5") != 0) wrong = 7;
  cumega_weights_close(weights);
  block_destroy(&b);
  cumega_context_destroy(ctx);
  return wrong;
}

/* Checks the test's claims in a child; SKIPPED if this machine does not allow it. */
static void in_a_child(const char *what, int (*claims)(void)) {
  fflush(NULL);
  wait_for_settled_threads();
  pid_t child = fork();
  ck_assert_int_ge(child, 0);
  if (child == 0) _exit(claims());
  int status = -1;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  if (WIFEXITED(status) && WEXITSTATUS(status) == SKIPPED)
    printf("skipped, not allowed here: %s\n", what);
  else
    ck_assert_msg(status == 0, "the child's status: %#x", (unsigned)status);
}

/* ---- what a program does ---- */

START_TEST(rounding_mode_and_flush_to_zero_change_no_bit_and_are_kept) {
  static const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
  for (int threads = 1; threads <= 3; threads += 2)
    for (int i = 0; i < 4; i++) {
      cumega_context_options options;
      cumega_context_options_init(&options, sizeof options);
      cumega_context *ctx = NULL;
      block b = {0};
      block_request *request = block_request_new(SEED);
      fenv_t original;
      options.threads = threads;
      fegetenv(&original);
      fesetround(modes[i]);
      set_control(control() | FLUSH_TO_ZERO);
      const unsigned before = control();
      cumega_status status = cumega_context_create(&options, &ctx);
      if (status == CUMEGA_OK) status = block_create(ctx, &b);
      if (status == CUMEGA_OK) status = block_request_run(ctx, &b, request);
      block_destroy(&b);
      cumega_context_destroy(ctx);
      const unsigned after = control();
      const int mode = fegetround();
      fesetenv(&original);
      ck_assert_int_eq(status, CUMEGA_OK);
      ck_assert_int_eq(mode, modes[i]);
      ck_assert_uint_eq(after, before);
      ck_assert_uint_eq(block_request_hash(request), right);
      block_request_free(request);
    }
}
END_TEST

/* Turkish: numbers with commas, and an i whose capital is not I. */
static int odd_locale(void) {
  char command[256];
  if (setlocale(LC_ALL, "tr_TR.UTF-8") != NULL) return 1;
  snprintf(command, sizeof command, "localedef -i tr_TR -f UTF-8 %s/tr_TR.UTF-8 >/dev/null 2>&1",
           folder);
  if (system(command) == -1) return 0;
  setenv("LOCPATH", folder, 1);
  return setlocale(LC_ALL, "tr_TR.UTF-8") != NULL;
}

static size_t read_file(char *bytes, size_t size) {
  FILE *stream = fopen(file, "r");
  const size_t length = stream != NULL ? fread(bytes, 1, size, stream) : 0;
  if (stream != NULL) fclose(stream);
  return length;
}

static int claims_in_an_odd_locale(void) {
  char expected[6000], found[sizeof expected];
  int wrong = everything_works(1);
  const size_t length = read_file(expected, sizeof expected);
  if (wrong) return wrong;
  if (!odd_locale()) return SKIPPED;
  if (localeconv()->decimal_point[0] != ',') return 10;
  wrong = everything_works(1);
  if (wrong) return wrong;
  if (read_file(found, sizeof found) != length || memcmp(expected, found, length) != 0) return 11;
  return 0;
}

START_TEST(a_locale_with_commas_changes_neither_bits_nor_files) {
  in_a_child("a locale with commas, which needs the package locales", claims_in_an_odd_locale);
}
END_TEST

static volatile sig_atomic_t signals_heard, signals_elsewhere;
static pthread_t listener;

static void hear(int number) {
  (void)number;
  signals_heard++;
  signals_elsewhere += !pthread_equal(pthread_self(), listener);
}

/* A timer, as of a profiler or a watchdog, whose handler interrupts system calls. */
START_TEST(signals_during_work_change_nothing_and_meet_no_thread_of_ours) {
  struct sigaction action = {.sa_handler = hear}, before;
  const struct itimerval often = {{0, 200}, {0, 200}}, never = {{0, 0}, {0, 0}};
  listener = pthread_self();
  signals_heard = signals_elsewhere = 0;
  ck_assert_int_eq(sigaction(SIGALRM, &action, &before), 0);
  ck_assert_int_eq(setitimer(ITIMER_REAL, &often, NULL), 0);
  int wrong = 0, rounds = 0;
  for (; wrong == 0 && rounds < 20000 && signals_heard < 200; rounds++)
    wrong = everything_works(1 + rounds % 3);
  ck_assert_int_eq(setitimer(ITIMER_REAL, &never, NULL), 0);
  ck_assert_int_eq(sigaction(SIGALRM, &before, NULL), 0);
  ck_assert_int_eq(wrong, 0);
  ck_assert_int_ge(signals_heard, 200);
  ck_assert_int_eq(signals_elsewhere, 0);
}
END_TEST

#ifndef SANITIZED /* whose frames are larger */
static void *work_on_a_small_stack(void *argument) {
  *(int *)argument = everything_works(2);
  return NULL;
}

START_TEST(a_stack_of_64_kib_is_enough) {
  pthread_attr_t attributes;
  pthread_t thread;
  int wrong = -1;
  pthread_attr_init(&attributes);
  ck_assert_int_eq(pthread_attr_setstacksize(&attributes, 64 << 10), 0);
  ck_assert_int_eq(pthread_create(&thread, &attributes, work_on_a_small_stack, &wrong), 0);
  pthread_join(thread, NULL);
  pthread_attr_destroy(&attributes);
  ck_assert_int_eq(wrong, 0);
}
END_TEST
#endif

static int threads_of_this_process(void) {
  int count = 0;
  DIR *tasks = opendir("/proc/self/task");
  ck_assert_ptr_nonnull(tasks);
  for (struct dirent *entry; (entry = readdir(tasks)) != NULL;) count += entry->d_name[0] != '.';
  closedir(tasks);
  return count;
}

START_TEST(a_context_of_one_thread_starts_none_and_one_of_three_two) {
  wait_for_settled_threads();
  const int before = threads_of_this_process();
  cumega_context *one = context_of_level(NULL, 1);
  ck_assert_int_eq(threads_of_this_process(), before);
  cumega_context *three = context_of_level(NULL, 3);
  ck_assert_int_eq(threads_of_this_process(), before + 2);
  cumega_context_destroy(three);
  cumega_context_destroy(one);
}
END_TEST

static int claims_on_one_processor(void) {
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(sched_getcpu(), &one);
  if (sched_setaffinity(0, sizeof one, &one) != 0) return SKIPPED;
  return everything_works(THREADS_OF_A_CHILD);
}

START_TEST(one_processor_is_enough_for_three_threads) {
  in_a_child("one processor", claims_on_one_processor);
}
END_TEST

static block parents;

static int claims_of_a_child_with_the_parents_weights(void) {
  uint64_t hash = 0;
  cumega_context *own = context_of_level(NULL, 1);
  if (block_run(own, &parents, SEED, &hash) != CUMEGA_OK) return 1;
  cumega_context_destroy(own);
  return hash != right;
}

START_TEST(a_forked_child_may_use_the_parents_weights_through_a_context_of_its_own) {
  cumega_context *ctx = context_of_level(NULL, 1);
  MUST(ctx, block_create(ctx, &parents));
  in_a_child("fork", claims_of_a_child_with_the_parents_weights);
  block_destroy(&parents);
  cumega_context_destroy(ctx);
}
END_TEST

/* ---- what a machine lacks ---- */

#ifndef SANITIZED /* its own memory would exceed the limit first */
static int claims_with_little_memory(void) {
  const struct rlimit limit = {200 << 20, 200 << 20};
  cumega_context *ctx = context_of_level(NULL, 2);
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, 20 << 20);
  cumega_ema *ema = (cumega_ema *)&config;
  if (setrlimit(RLIMIT_AS, &limit) != 0) return SKIPPED;
  if (cumega_ema_create(ctx, &config, NULL, &ema) != CUMEGA_ERROR_RESOURCE || ema) return 10;
  if (!strstr(cumega_context_message(ctx), "cannot allocate")) return 11;
  if (cumega_context_reserve(ctx, 300 << 20) != CUMEGA_ERROR_RESOURCE) return 12;
  cumega_context_destroy(ctx);
  return everything_works(THREADS_OF_A_CHILD);
}

START_TEST(memory_that_the_system_refuses_is_a_resource_error_and_less_still_works) {
  in_a_child("little memory", claims_with_little_memory);
}
END_TEST
#endif

static int claims_without_descriptors(void) {
  const struct rlimit none = {0, 0};
  cumega_context *ctx = context_of_level(NULL, 1);
  cumega_weights *weights;
  if (save(ctx, file, 100) != CUMEGA_OK) return 10;
  for (int fd = 0; fd < 3; fd++) close(fd);
  if (save(ctx, file, 100) != CUMEGA_OK) return 11; /* its file then gets descriptor 0 */
  if (cumega_weights_open(ctx, file, &weights) != CUMEGA_OK) return 12;
  cumega_weights_close(weights);
  if (setrlimit(RLIMIT_NOFILE, &none) != 0) return SKIPPED;
  if (cumega_weights_open(ctx, file, &weights) != CUMEGA_ERROR_FILE) return 13;
  if (!strstr(cumega_context_message(ctx), strerror(EMFILE))) return 14;
  if (save(ctx, file, 100) != CUMEGA_ERROR_FILE) return 15;
  if (!strstr(cumega_context_message(ctx), strerror(EMFILE))) return 16;
  cumega_context_destroy(ctx);
  return 0;
}

START_TEST(closed_standard_streams_do_no_harm_and_no_descriptor_is_a_file_error) {
  in_a_child("no descriptors", claims_without_descriptors);
}
END_TEST

/* A file system for this child alone, mounted over `place`. */
static int mount_here(const char *place, unsigned long flags, const char *options) {
  if (unshare(geteuid() == 0 ? CLONE_NEWNS : CLONE_NEWUSER | CLONE_NEWNS) != 0) return 0;
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0) return 0;
  return mount("tmpfs", place, "tmpfs", flags, options) == 0;
}

static int files_in_folder(void) {
  int count = 0;
  DIR *directory = opendir(folder);
  if (directory == NULL) return -1;
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;)
    count += entry->d_name[0] != '.' || strlen(entry->d_name) > 2;
  closedir(directory);
  return count;
}

static int size_of_file(void) {
  FILE *stream = fopen(file, "r");
  if (stream == NULL || fseek(stream, 0, SEEK_END) != 0) return -1;
  const int size = (int)ftell(stream);
  fclose(stream);
  return size;
}

static int claims_on_a_full_and_a_read_only_disk(void) {
  cumega_context *ctx = context_of_level(NULL, 1);
  if (!mount_here(folder, 0, "size=64k")) return SKIPPED;
  if (save(ctx, file, 1000) != CUMEGA_OK) return 10;
  const int size = size_of_file();
  if (save(ctx, file, 1 << 20) != CUMEGA_ERROR_FILE) return 11;
  if (!strstr(cumega_context_message(ctx), strerror(ENOSPC))) return 12;
  if (files_in_folder() != 1 || size_of_file() != size) return 13; /* the old one */
  if (save(ctx, file, 2000) != CUMEGA_OK) return 14;
  if (mount(NULL, folder, NULL, MS_REMOUNT | MS_RDONLY, NULL) != 0) return SKIPPED;
  if (save(ctx, file, 1000) != CUMEGA_ERROR_FILE) return 15;
  if (!strstr(cumega_context_message(ctx), strerror(EROFS))) return 16;
  if (files_in_folder() != 1 || size_of_file() != size + 1000) return 17;
  cumega_context_destroy(ctx);
  return 0;
}

START_TEST(a_full_or_read_only_disk_is_a_file_error_and_keeps_the_old_file) {
  in_a_child("a file system of our own", claims_on_a_full_and_a_read_only_disk);
}
END_TEST

static int claims_without_proc(void) {
  if (!mount_here("/proc", 0, NULL)) return SKIPPED;
  if (access("/proc/self", F_OK) == 0) return 10;
  return everything_works(THREADS_OF_A_CHILD);
}

START_TEST(without_proc_everything_works) {
  in_a_child("hiding /proc", claims_without_proc);
}
END_TEST

static void remove_folder(void) {
  char command[128];
  snprintf(command, sizeof command, "rm -rf -- '%s'", folder);
  if (system(command) != 0) printf("%s is left\n", folder);
}

int main(void) {
  Suite *suite = suite_create("surroundings");
  TCase *tests = add_case(suite, "programs and machines", 60);
  snprintf(folder, sizeof folder, "/tmp/cumega-check-surroundings-XXXXXX");
  if (mkdtemp(folder) == NULL) return EXIT_FAILURE;
  snprintf(file, sizeof file, "%s/weights.safetensors", folder);
  tcase_add_unchecked_fixture(tests, setup, NULL);
  tcase_add_test(tests, rounding_mode_and_flush_to_zero_change_no_bit_and_are_kept);
  tcase_add_test(tests, a_locale_with_commas_changes_neither_bits_nor_files);
  tcase_add_test(tests, signals_during_work_change_nothing_and_meet_no_thread_of_ours);
  tcase_add_test(tests, a_context_of_one_thread_starts_none_and_one_of_three_two);
  tcase_add_test(tests, one_processor_is_enough_for_three_threads);
  tcase_add_test(tests, a_forked_child_may_use_the_parents_weights_through_a_context_of_its_own);
  tcase_add_test(tests, closed_standard_streams_do_no_harm_and_no_descriptor_is_a_file_error);
  tcase_add_test(tests, a_full_or_read_only_disk_is_a_file_error_and_keeps_the_old_file);
  tcase_add_test(tests, without_proc_everything_works);
#ifndef SANITIZED
  tcase_add_test(tests, a_stack_of_64_kib_is_enough);
  tcase_add_test(tests, memory_that_the_system_refuses_is_a_resource_error_and_less_still_works);
#else
  printf("skipped under a sanitizer: a stack of 64 KiB, little memory\n");
#endif
  int code = run_suite(suite);
  remove_folder();
  return code;
}
