/* One atomic counter hands out the work, an index at a time, so a slow thread delays the others
 * by one index at most. A thread joins an open job under the mutex. The caller closes the job
 * when no index is left and waits for the threads that joined. So a thread that the system did
 * not wake in time is not waited for, and a small job costs no more than the caller's own work.
 *
 * A decoding step takes about 10 microseconds, and waking a sleeping thread nearly as long. Both
 * sides therefore spin a little before they sleep: long enough for the next step of a busy
 * server, short enough to cost nothing where threads outnumber cores. */
#include "pool.h"
#include <fenv.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

#define STACK_BYTES (256 * 1024)
#define SPIN_ROUNDS 200 /* 2 to 10 microseconds */

#if defined(__x86_64__) || defined(__i386__)
#define SPIN_PAUSE() __builtin_ia32_pause()
#elif defined(__aarch64__)
#define SPIN_PAUSE() __asm__ volatile("yield")
#else
#define SPIN_PAUSE() ((void)0)
#endif

typedef struct job {
  pool_task task;
  void *argument;
  int64_t count;
} job;

typedef struct worker {
  pool *pool;
  pthread_t thread;
  int id; /* 1 .. threads-1; the caller is 0 */
} worker;

struct pool {
  memory *memory;
  int64_t bytes;
  int started; /* threads besides the caller's */
  pthread_mutex_t mutex;
  pthread_cond_t wake; /* a job has been opened, or the pool ends */
  pthread_cond_t idle; /* the last thread has left the job */

  /* Written under the mutex; the atomic ones are also read while spinning. */
  job job;
  int open; /* the job may still be joined */
  int ending;
  _Atomic uint64_t opened; /* jobs opened so far */
  _Atomic int active;      /* threads that joined the job and have not left */

  _Atomic int64_t next; /* the job's first index that no thread has taken */
  worker workers[];
};

static void take_indices(pool *p, const job *work, int id) {
  int64_t index;
  while ((index = atomic_fetch_add_explicit(&p->next, 1, memory_order_relaxed)) < work->count)
    work->task(work->argument, index, id);
}

/* Waits for a job after the `seen`-th. Returns 0 when the pool ends, else 1 with *work joined, or
 * with work->count 0 where that job was closed in the meantime. */
static int join_next_job(pool *p, uint64_t *seen, job *work) {
  for (int i = 0; i < SPIN_ROUNDS; i++) {
    if (atomic_load_explicit(&p->opened, memory_order_relaxed) != *seen) break;
    SPIN_PAUSE();
  }
  work->count = 0;
  pthread_mutex_lock(&p->mutex);
  while (!p->ending && atomic_load_explicit(&p->opened, memory_order_relaxed) == *seen)
    pthread_cond_wait(&p->wake, &p->mutex);
  int goes_on = !p->ending;
  *seen = atomic_load_explicit(&p->opened, memory_order_relaxed);
  if (goes_on && p->open) {
    *work = p->job;
    atomic_fetch_add_explicit(&p->active, 1, memory_order_relaxed);
  }
  pthread_mutex_unlock(&p->mutex);
  return goes_on;
}

static void leave_job(pool *p) {
  pthread_mutex_lock(&p->mutex);
  /* Release: the caller may see 0 while spinning, and must then see the work as well. */
  if (atomic_fetch_sub_explicit(&p->active, 1, memory_order_release) == 1)
    pthread_cond_signal(&p->idle);
  pthread_mutex_unlock(&p->mutex);
}

static void *worker_main(void *argument) {
  worker *self = argument;
  uint64_t seen = 0;
  job work;
  fesetenv(FE_DFL_ENV); /* a new thread inherits the environment of the thread that made it */
  while (join_next_job(self->pool, &seen, &work)) {
    if (work.count == 0) continue;
    take_indices(self->pool, &work, self->id);
    leave_job(self->pool);
  }
  return NULL;
}

/* Returns 0 or the system's error. */
static int start_worker(worker *w) {
  pthread_attr_t attributes;
  int error = pthread_attr_init(&attributes);
  if (error != 0) return error;
  long least = sysconf(_SC_THREAD_STACK_MIN);
  error =
      pthread_attr_setstacksize(&attributes, least > STACK_BYTES ? (size_t)least : STACK_BYTES);
  if (error == 0) error = pthread_create(&w->thread, &attributes, worker_main, w);
  pthread_attr_destroy(&attributes);
  if (error == 0) pthread_setname_np(w->thread, "cumega");
  return error;
}

/* The application's signal handlers belong on its own threads: the pool's threads start with
 * every signal blocked except those that a thread raises by its own fault, so that a crash is
 * still reported. */
static int start_workers(pool *p, int count) {
  sigset_t every, saved;
  sigfillset(&every);
  const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT};
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigdelset(&every, faults[i]);
  pthread_sigmask(SIG_SETMASK, &every, &saved);
  int error = 0;
  for (; p->started < count; p->started++) {
    worker *w = &p->workers[p->started];
    w->pool = p;
    w->id = p->started + 1;
    error = start_worker(w);
    if (error != 0) break;
  }
  pthread_sigmask(SIG_SETMASK, &saved, NULL);
  return error;
}

pool *pool_create(memory *m, int threads, const char **reason) {
  int64_t bytes = (int64_t)(sizeof(pool) + (size_t)(threads - 1) * sizeof(worker));
  pool *p = memory_allocate(m, bytes);
  if (!p) {
    *reason = "the allocator, or memory_limit, has no memory for them";
    return NULL;
  }
  p->memory = m;
  p->bytes = bytes;
  p->started = 0;
  p->open = 0;
  p->ending = 0;
  atomic_init(&p->opened, 0);
  atomic_init(&p->active, 0);
  atomic_init(&p->next, 0);
  pthread_mutex_init(&p->mutex, NULL);
  pthread_cond_init(&p->wake, NULL);
  pthread_cond_init(&p->idle, NULL);
  if (start_workers(p, threads - 1) != 0) {
    pool_destroy(p);
    *reason = "the system refused a thread";
    return NULL;
  }
  return p;
}

void pool_destroy(pool *p) {
  if (!p) return;
  pthread_mutex_lock(&p->mutex);
  p->ending = 1;
  pthread_mutex_unlock(&p->mutex);
  pthread_cond_broadcast(&p->wake);
  for (int i = 0; i < p->started; i++) pthread_join(p->workers[i].thread, NULL);
  pthread_cond_destroy(&p->idle);
  pthread_cond_destroy(&p->wake);
  pthread_mutex_destroy(&p->mutex);
  memory_free(p->memory, p, p->bytes);
}

static void open_job(pool *p, const job *work) {
  pthread_mutex_lock(&p->mutex);
  p->job = *work;
  p->open = 1;
  atomic_store_explicit(&p->next, 0, memory_order_relaxed);
  atomic_fetch_add_explicit(&p->opened, 1, memory_order_relaxed);
  pthread_mutex_unlock(&p->mutex);
  pthread_cond_broadcast(&p->wake);
}

/* No thread may join any more; waits for those that did. */
static void close_job(pool *p) {
  pthread_mutex_lock(&p->mutex);
  p->open = 0;
  pthread_mutex_unlock(&p->mutex);
  for (int i = 0; i < SPIN_ROUNDS; i++) {
    if (atomic_load_explicit(&p->active, memory_order_acquire) == 0) return;
    SPIN_PAUSE();
  }
  pthread_mutex_lock(&p->mutex);
  while (atomic_load_explicit(&p->active, memory_order_relaxed) != 0)
    pthread_cond_wait(&p->idle, &p->mutex);
  pthread_mutex_unlock(&p->mutex);
}

void pool_run(pool *p, pool_task task, void *argument, int64_t count) {
  if (!p || p->started == 0 || count <= 1) {
    for (int64_t index = 0; index < count; index++) task(argument, index, 0);
    return;
  }
  job work = {task, argument, count};
  open_job(p, &work);
  take_indices(p, &work, 0);
  close_job(p);
}

void pool_abandon(pool *p) {
  if (p) p->started = 0;
}
