/* The library's calls return only when they have finished, so a separate thread draws the line. */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>
#include "progress.h"

#define FIRST_SECOND  1
#define PAUSE_SECONDS 1

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t stop = PTHREAD_COND_INITIALIZER;
static pthread_t thread;
static int running, drawn;
static char text[160];

static void erase(void) {
  if (drawn) fputs("\r\033[K", stderr);
  drawn = 0;
}

static void *draw(void *unused) {
  struct timespec wake;
  clock_gettime(CLOCK_REALTIME, &wake);
  wake.tv_sec += FIRST_SECOND;
  pthread_mutex_lock(&mutex);
  while (running) {
    struct timespec now;
    pthread_cond_timedwait(&stop, &mutex, &wake);
    clock_gettime(CLOCK_REALTIME, &now);
    if (!running || now.tv_sec < wake.tv_sec) continue;
    erase();
    fprintf(stderr, "\r%.78s", text);
    fflush(stderr);
    drawn = 1;
    wake.tv_sec = now.tv_sec + PAUSE_SECONDS;
  }
  pthread_mutex_unlock(&mutex);
  return unused;
}

void progress_begin(void) {
  if (!isatty(STDERR_FILENO)) return;
  running = 1;
  if (pthread_create(&thread, NULL, draw, NULL) != 0) running = 0;
}

void progress_end(void) {
  if (!running) return;
  pthread_mutex_lock(&mutex);
  running = 0;
  pthread_cond_signal(&stop);
  pthread_mutex_unlock(&mutex);
  pthread_join(thread, NULL);
  erase();
}

void progress_set(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  pthread_mutex_lock(&mutex);
  vsnprintf(text, sizeof text, format, arguments);
  pthread_mutex_unlock(&mutex);
  va_end(arguments);
}

void progress_lock(void) {
  pthread_mutex_lock(&mutex);
  erase();
}

void progress_unlock(void) {
  pthread_mutex_unlock(&mutex);
}
