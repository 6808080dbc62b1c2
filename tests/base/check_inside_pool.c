/* The threads: every index runs once, no worker is used twice at a time, and threads start in the
 * right environment. */
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "pool.h"
#include "child.h"
#include "counting_allocator.h"
#include "float_control.h"
#include "runner.h"
#include "settled_threads.h"

enum { MOST_THREADS = 8, MOST_INDICES = 100000 };

static counting_allocator ledger;
static memory *account;

static void setup(void) {
  memset(&ledger, 0, sizeof ledger);
  cumega_allocator allocator = counting_allocator_of(&ledger);
  account = memory_create(&allocator, 0);
  ck_assert_ptr_nonnull(account);
}

static void teardown(void) {
  memory_release(account);
  ck_assert_int_eq(ledger.blocks, 0);
  ck_assert_int_eq(ledger.bytes, 0);
}

static pool *new_pool(int threads) {
  const char *reason = "";
  pool *p = pool_create(account, threads, &reason);
  ck_assert_msg(p != NULL, "%s", reason);
  return p;
}

/* What a job has seen. visits is not atomic: the pool itself must order the accesses (TSan
 * checks). */
typedef struct record {
  unsigned char visits[MOST_INDICES];
  _Atomic int busy[MOST_THREADS];
  _Atomic int faults; /* wrong indices, workers or overlaps */
  int64_t count;
  int threads;
} record;

static record seen;

static void visit(void *argument, int64_t index, int worker) {
  record *r = argument;
  if (index < 0 || index >= r->count || worker < 0 || worker >= r->threads) {
    r->faults++;
    return;
  }
  if (atomic_exchange(&r->busy[worker], 1) != 0) r->faults++;
  r->visits[index]++;
  atomic_store(&r->busy[worker], 0);
}

static void run_and_expect_every_index_once(pool *p, int threads, int64_t count) {
  memset(&seen, 0, sizeof seen);
  seen.count = count;
  seen.threads = threads;
  pool_run(p, visit, &seen, count);
  ck_assert_int_eq(seen.faults, 0);
  for (int64_t i = 0; i < count; i++)
    ck_assert_msg(seen.visits[i] == 1, "index %lld of %lld on %d threads: %d visits", (long long)i,
                  (long long)count, threads, seen.visits[i]);
}

START_TEST(every_index_runs_exactly_once) {
  static const int threads[] = {1, 2, 3, 8};
  static const int64_t counts[] = {0, 1, 2, 1000, 100000};
  for (size_t t = 0; t < sizeof threads / sizeof *threads; t++) {
    pool *p = new_pool(threads[t]);
    for (size_t c = 0; c < sizeof counts / sizeof *counts; c++)
      run_and_expect_every_index_once(p, threads[t], counts[c]);
    pool_destroy(p);
  }
}
END_TEST

START_TEST(jobs_of_random_sizes_in_random_rhythm_run_completely) {
  unsigned seed = (unsigned)time(NULL) ^ (unsigned)getpid();
  printf("jobs_of_random_sizes_in_random_rhythm_run_completely: seed %u\n", seed);
  for (int round = 0; round < 20; round++) {
    int threads = 1 + rand_r(&seed) % MOST_THREADS;
    pool *p = new_pool(threads);
    for (int job = 0; job < 100; job++) {
      run_and_expect_every_index_once(p, threads, rand_r(&seed) % 50);
      if (rand_r(&seed) % 4 == 0) /* long enough for the others to fall asleep, or nearly so */
        usleep((useconds_t)(rand_r(&seed) % 100));
    }
    pool_destroy(p);
  }
}
END_TEST

static void add_index(void *argument, int64_t index, int worker) {
  int64_t *sums = argument;
  sums[worker * 8] += index + 1; /* eight apart: one cache line each */
}

/* A worker that comes late does not take an index of the next run. */
START_TEST(many_runs_in_a_row_lose_nothing) {
  static int64_t sums[2][MOST_THREADS * 8];
  pool *p = new_pool(3);
  for (int run = 0; run < 20000; run++) pool_run(p, add_index, sums[run % 2], 4);
  for (int k = 0; k < 2; k++) {
    int64_t total = 0;
    for (int i = 0; i < MOST_THREADS; i++) total += sums[k][i * 8];
    ck_assert_int_eq(total, 10000 * (1 + 2 + 3 + 4));
  }
  pool_destroy(p);
}
END_TEST

/* All threads meet: no thread leaves its index before every thread has one. */
typedef struct meeting {
  _Atomic int present;
  int expected;
  pthread_t threads[MOST_THREADS];
  int rounding[MOST_THREADS];
  double denormal[MOST_THREADS];
  sigset_t mask[MOST_THREADS];
  char name[MOST_THREADS][16];
} meeting;

static void attend(void *argument, int64_t index, int worker) {
  meeting *m = argument;
  (void)index;
  volatile double tiny = 0x1p-1030;
  m->threads[worker] = pthread_self();
  m->rounding[worker] = fegetround();
  m->denormal[worker] = tiny * 0.5;
  pthread_sigmask(SIG_BLOCK, NULL, &m->mask[worker]);
  pthread_getname_np(pthread_self(), m->name[worker], sizeof m->name[worker]);
  m->present++;
  while (m->present < m->expected) usleep(10);
}

static void hold_meeting(pool *p, meeting *m, int threads) {
  memset(m, 0, sizeof *m);
  m->expected = threads;
  pool_run(p, attend, m, threads);
}

START_TEST(all_threads_take_part_and_the_caller_is_worker_0) {
  meeting m;
  pool *p = new_pool(MOST_THREADS);
  for (int round = 0; round < 20; round++) {
    hold_meeting(p, &m, MOST_THREADS);
    ck_assert(pthread_equal(m.threads[0], pthread_self()));
    for (int i = 0; i < MOST_THREADS; i++)
      for (int j = 0; j < i; j++) ck_assert(!pthread_equal(m.threads[i], m.threads[j]));
  }
  pool_destroy(p);
}
END_TEST

/* The pool is made, and runs, while its caller rounds upwards and flushes denormals to zero. */
START_TEST(pool_threads_compute_in_the_default_environment_and_leave_the_callers_alone) {
  meeting m;
  fenv_t saved;
  fegetenv(&saved);
  fesetround(FE_UPWARD);
  set_control(control() | FLUSH_TO_ZERO);
  unsigned before = control();
  pool *p = new_pool(4);
  hold_meeting(p, &m, 4);
  pool_destroy(p);
  unsigned after = control();
  int rounding = fegetround();
  fesetenv(&saved);
  ck_assert_int_eq(rounding, FE_UPWARD);
  ck_assert_uint_eq(after & FLUSH_TO_ZERO, before & FLUSH_TO_ZERO);
  ck_assert_int_eq(m.rounding[0], FE_UPWARD);
  for (int i = 1; i < 4; i++) {
    ck_assert_int_eq(m.rounding[i], FE_TONEAREST);
    ck_assert(m.denormal[i] == 0x1p-1031);
  }
}
END_TEST

START_TEST(pool_threads_block_all_but_faults_and_the_callers_mask_stays) {
  static const int signals[] = {SIGINT,  SIGTERM, SIGHUP,  SIGUSR1,
                                SIGUSR2, SIGALRM, SIGPROF, SIGCHLD};
  static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
  meeting m;
  sigset_t original, before, after;
  sigemptyset(&before);
  sigaddset(&before, SIGUSR2);
  pthread_sigmask(SIG_SETMASK, &before, &original);
  pool *p = new_pool(3);
  hold_meeting(p, &m, 3);
  pool_destroy(p);
  pthread_sigmask(SIG_SETMASK, &original, &after);
  for (size_t s = 0; s < sizeof signals / sizeof *signals; s++) {
    ck_assert_int_eq(sigismember(&after, signals[s]), signals[s] == SIGUSR2);
    for (int i = 1; i < 3; i++) ck_assert_int_eq(sigismember(&m.mask[i], signals[s]), 1);
  }
  for (size_t s = 0; s < sizeof faults / sizeof *faults; s++)
    for (int i = 1; i < 3; i++) ck_assert_int_eq(sigismember(&m.mask[i], faults[s]), 0);
}
END_TEST

START_TEST(pool_threads_are_called_cumega) {
  meeting m;
  pool *p = new_pool(2);
  hold_meeting(p, &m, 2);
  pool_destroy(p);
  ck_assert_str_eq(m.name[1], "cumega");
}
END_TEST

START_TEST(a_pool_without_memory_says_so) {
  const char *reason = NULL;
  ledger.failing_call = ledger.calls + 1;
  ck_assert_ptr_null(pool_create(account, 4, &reason));
  ck_assert_str_eq(reason, "the allocator, or memory_limit, has no memory for them");
  ck_assert_int_eq(ledger.blocks, 1); /* the account itself */
}
END_TEST

START_TEST(a_pool_counts_in_the_account_until_it_is_destroyed) {
  int64_t before = memory_held(account);
  pool *p = new_pool(2);
  ck_assert_int_gt(memory_held(account), before);
  pool_destroy(p);
  ck_assert_int_eq(memory_held(account), before);
  pool_destroy(NULL);
}
END_TEST

START_TEST(pools_that_never_ran_end_at_once) {
  for (int i = 0; i < 200; i++) pool_destroy(new_pool(1 + i % MOST_THREADS));
}
END_TEST

static void *use_a_pool(void *argument) {
  int64_t sums[MOST_THREADS * 8] = {0}, *total = argument;
  const char *reason;
  pool *p = pool_create(account, 3, &reason);
  if (!p) return NULL;
  for (int run = 0; run < 500; run++) pool_run(p, add_index, sums, 20);
  pool_destroy(p);
  for (int i = 0; i < MOST_THREADS; i++) *total += sums[i * 8];
  return NULL;
}

START_TEST(pools_of_several_threads_do_not_disturb_each_other) {
  pthread_t threads[3];
  int64_t totals[3] = {0};
  for (int i = 0; i < 3; i++)
    ck_assert_int_eq(pthread_create(&threads[i], NULL, use_a_pool, &totals[i]), 0);
  for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
  for (int i = 0; i < 3; i++) ck_assert_int_eq(totals[i], 500 * (20 * 21 / 2));
}
END_TEST

START_TEST(a_forked_child_forgets_the_threads_and_the_parent_goes_on) {
  pool *p = new_pool(3);
  run_and_expect_every_index_once(p, 3, 1000);
  fflush(NULL);
  wait_for_settled_threads();
  pid_t child = fork();
  ck_assert_int_ge(child, 0);
  if (child == 0) {
    int64_t sums[MOST_THREADS * 8] = {0};
    pool_abandon(NULL);
    pool_abandon(p);
    pool_run(p, add_index, sums, 100);
    end_child(sums[0] == 5050 ? 0 : 1);
  }
  int status = -1;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_int_eq(status, 0);
  run_and_expect_every_index_once(p, 3, 1000);
  pool_destroy(p);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("inside pool");
  TCase *tests = add_case(suite, "pool", 60);
  tcase_add_checked_fixture(tests, setup, teardown);
  tcase_add_test(tests, every_index_runs_exactly_once);
  tcase_add_test(tests, jobs_of_random_sizes_in_random_rhythm_run_completely);
  tcase_add_test(tests, many_runs_in_a_row_lose_nothing);
  tcase_add_test(tests, all_threads_take_part_and_the_caller_is_worker_0);
  tcase_add_test(tests,
                 pool_threads_compute_in_the_default_environment_and_leave_the_callers_alone);
  tcase_add_test(tests, pool_threads_block_all_but_faults_and_the_callers_mask_stays);
  tcase_add_test(tests, pool_threads_are_called_cumega);
  tcase_add_test(tests, a_pool_without_memory_says_so);
  tcase_add_test(tests, a_pool_counts_in_the_account_until_it_is_destroyed);
  tcase_add_test(tests, pools_that_never_ran_end_at_once);
  tcase_add_test(tests, pools_of_several_threads_do_not_disturb_each_other);
  tcase_add_test(tests, a_forked_child_forgets_the_threads_and_the_parent_goes_on);
  return run_suite(suite);
}
