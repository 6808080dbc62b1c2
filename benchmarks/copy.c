/* The calling thread copies the first slice, thread i the i-th. All meet at a barrier before and
 * after a copy, as the threads of a context do. */
#include "copy.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define LINE 64 /* slices begin at whole cache lines */

typedef struct copy_thread {
  struct copier *copier;
  int index;
  pthread_t thread;
} copy_thread;

struct copier {
  int threads, made;
  int ends; /* written before the first barrier, read after it */
  size_t bytes;
  char *from, *to;
  pthread_barrier_t begin, done;
  copy_thread *helpers; /* threads - 1 elements */
};

static size_t slice_begin(size_t bytes, int threads, int index) {
  size_t lines = bytes / LINE;
  return index == threads ? bytes : lines * (size_t)index / (size_t)threads * LINE;
}

static void copy_slice(const copier *c, int index) {
  size_t begin = slice_begin(c->bytes, c->threads, index);
  size_t end = slice_begin(c->bytes, c->threads, index + 1);
  memcpy(c->to + begin, c->from + begin, end - begin);
}

static void *helper_main(void *argument) {
  copy_thread *self = argument;
  copier *c = self->copier;
  for (;;) {
    pthread_barrier_wait(&c->begin);
    if (c->ends) return NULL;
    copy_slice(c, self->index);
    pthread_barrier_wait(&c->done);
  }
}

int copier_run(void *argument) {
  copier *c = argument;
  if (c->threads > 1) pthread_barrier_wait(&c->begin);
  copy_slice(c, 0);
  if (c->threads > 1) pthread_barrier_wait(&c->done);
  return 1;
}

/* Memory aligned like that of tensors, and written once, so that no page is new while the clock
 * runs. */
static char *new_memory(size_t bytes) {
  void *memory = NULL;
  if (posix_memalign(&memory, LINE, bytes > 0 ? bytes : 1)) return NULL;
  return memset(memory, 1, bytes);
}

copier *copier_create(int threads, size_t bytes) {
  copier *c = calloc(1, sizeof *c);
  if (c == NULL) return NULL;
  c->threads = threads;
  c->bytes = bytes;
  c->from = new_memory(bytes);
  c->to = new_memory(bytes);
  if (c->from == NULL || c->to == NULL) {
    free(c->from);
    free(c->to);
    free(c);
    return NULL;
  }
  if (threads == 1) return c;
  c->helpers = calloc((size_t)threads - 1, sizeof *c->helpers);
  pthread_barrier_init(&c->begin, NULL, (unsigned)threads);
  pthread_barrier_init(&c->done, NULL, (unsigned)threads);
  for (int i = 1; c->helpers && i < threads; i++) {
    copy_thread *helper = &c->helpers[i - 1];
    helper->copier = c;
    helper->index = i;
    if (pthread_create(&helper->thread, NULL, helper_main, helper)) break;
    c->made++;
  }
  /* The threads that were started would wait forever at a barrier for the missing ones. The
   * benchmark ends here, so they are not stopped. */
  return c->made == threads - 1 ? c : NULL;
}

void copier_destroy(copier *c) {
  if (c == NULL) return;
  if (c->threads > 1) {
    c->ends = 1;
    pthread_barrier_wait(&c->begin);
    for (int i = 0; i < c->made; i++) pthread_join(c->helpers[i].thread, NULL);
    pthread_barrier_destroy(&c->begin);
    pthread_barrier_destroy(&c->done);
    free(c->helpers);
  }
  free(c->from);
  free(c->to);
  free(c);
}
