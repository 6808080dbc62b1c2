/* Call before a fork: waits until every other thread of the process sleeps. A thread that has
 * just started may be inside malloc. AddressSanitizer's malloc (gcc 12) then leaves its lock
 * taken in the child, which waits for it forever. */
#ifndef CUMEGA_TESTS_SETTLED_THREADS_H
#define CUMEGA_TESTS_SETTLED_THREADS_H

#include <ctype.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

/* How many of them are not asleep. */
static inline int busy_threads(void) {
  int busy = 0;
  DIR *tasks = opendir("/proc/self/task");
  for (struct dirent *task; tasks != NULL && (task = readdir(tasks)) != NULL;) {
    char path[300], line[300] = "";
    if (!isdigit((unsigned char)task->d_name[0]) || atol(task->d_name) == (long)getpid()) continue;
    snprintf(path, sizeof path, "/proc/self/task/%s/stat", task->d_name);
    FILE *file = fopen(path, "r");
    if (file == NULL) continue;
    const char *name_end = fgets(line, sizeof line, file) ? strrchr(line, ')') : NULL;
    busy += name_end != NULL && name_end[2] != 'S';
    fclose(file);
  }
  if (tasks != NULL) closedir(tasks);
  return busy;
}

/* For the main thread. Asks for three looks in a row at which all sleep, so that no thread is on
 * its way from one lock to the next. */
static inline void wait_for_settled_threads(void) {
  for (int quiet = 0; quiet < 3;) {
    nanosleep(&(struct timespec){0, 1000000}, NULL);
    quiet = busy_threads() == 0 ? quiet + 1 : 0;
  }
}

#endif
