/* load_time: what libcumega costs a server at startup.
 *
 *   load_time [LIBRARY [JSON]]
 *
 * Twenty new processes load the library with dlopen, with all its symbols bound, then make a
 * context. The program prints the medians of the milliseconds and of the growth of the process's
 * memory: resident (RSS, including pages of the file that other processes may share) and
 * proportional (PSS, with such pages divided by their users). The libraries that it needs are
 * loaded with it and counted. After the first process the file is in the page cache. */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <cumega/context.h>

#define PROCESSES 20

#ifndef DEFAULT_LIBRARY
#define DEFAULT_LIBRARY "libcumega.so.0"
#endif

enum { LOAD_MS, LOAD_RSS, LOAD_PSS, CONTEXT_MS, CONTEXT_RSS, CONTEXT_PSS, FIGURES };

static double milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return 1e3 * (double)now.tv_sec + 1e-6 * (double)now.tv_nsec;
}

/* MB resident and proportional; 0 if the kernel does not say. */
static int read_memory(double *rss, double *pss) {
  char line[256];
  int found = 0;
  long kb;
  FILE *file = fopen("/proc/self/smaps_rollup", "r");
  while (file && fgets(line, sizeof line, file)) {
    if (sscanf(line, "Rss: %ld kB", &kb) == 1) {
      *rss = (double)kb * 1024e-6;
      found |= 1;
    }
    if (sscanf(line, "Pss: %ld kB", &kb) == 1) {
      *pss = (double)kb * 1024e-6;
      found |= 2;
    }
  }
  if (file) fclose(file);
  return found == 3;
}

typedef cumega_status (*create_call)(const cumega_context_options *, cumega_context **);
typedef void (*destroy_call)(cumega_context *);

/* In a new process: loads, makes a context, prints the figures to standard output. */
static int child(const char *library) {
  double figures[FIGURES], rss, pss, start;
  create_call create = NULL;
  destroy_call destroy = NULL;
  cumega_context *ctx = NULL;
  if (!read_memory(&rss, &pss)) return EXIT_FAILURE;
  start = milliseconds();
  void *handle = dlopen(library, RTLD_NOW | RTLD_LOCAL);
  figures[LOAD_MS] = milliseconds() - start;
  if (handle == NULL) {
    fprintf(stderr, "load_time: %s\n", dlerror());
    return EXIT_FAILURE;
  }
  if (!read_memory(&figures[LOAD_RSS], &figures[LOAD_PSS])) return EXIT_FAILURE;
  *(void **)&create = dlsym(handle, "cumega_context_create");
  *(void **)&destroy = dlsym(handle, "cumega_context_destroy");
  if (create == NULL || destroy == NULL || create(NULL, &ctx) != CUMEGA_OK) return EXIT_FAILURE;
  figures[CONTEXT_MS] = milliseconds() - start;
  if (!read_memory(&figures[CONTEXT_RSS], &figures[CONTEXT_PSS])) return EXIT_FAILURE;
  destroy(ctx);
  dlclose(handle);
  for (int i = 0; i < FIGURES; i++) {
    double before = i == LOAD_RSS || i == CONTEXT_RSS   ? rss
                    : i == LOAD_PSS || i == CONTEXT_PSS ? pss
                                                        : 0;
    printf("%.17g\n", figures[i] - before);
  }
  return EXIT_SUCCESS;
}

/* One process's figures; 0 if it failed. */
static int run_child(const char *self, const char *library, double *figures) {
  int ends[2], status, read_all = 0;
  if (pipe(ends)) return 0;
  pid_t pid = fork();
  if (pid == 0) {
    dup2(ends[1], STDOUT_FILENO);
    close(ends[0]);
    close(ends[1]);
    execl(self, self, "--child", library, (char *)NULL);
    _exit(127);
  }
  close(ends[1]);
  FILE *from = fdopen(ends[0], "r");
  while (from && read_all < FIGURES && fscanf(from, "%lf", &figures[read_all]) == 1) read_all++;
  if (from) fclose(from);
  return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0 && read_all == FIGURES;
}

static int compare(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static double median(double *values) {
  qsort(values, PROCESSES, sizeof *values, compare);
  return 0.5 * (values[PROCESSES / 2 - 1] + values[PROCESSES / 2]);
}

static int write_json(const char *path, const double *m) {
  FILE *file = fopen(path, "w");
  if (file == NULL) return 0;
  fprintf(file,
          "{\n \"processes\": %d,\n"
          " \"load\": {\"ms\": %.3f, \"rss_mb\": %.3f, \"pss_mb\": %.3f},\n"
          " \"load_and_context\": {\"ms\": %.3f, \"rss_mb\": %.3f, \"pss_mb\": %.3f}\n}\n",
          PROCESSES, m[LOAD_MS], m[LOAD_RSS], m[LOAD_PSS], m[CONTEXT_MS], m[CONTEXT_RSS],
          m[CONTEXT_PSS]);
  return fclose(file) == 0;
}

int main(int argc, char **argv) {
  double samples[FIGURES][PROCESSES], medians[FIGURES], one[FIGURES];
  if (argc == 3 && strcmp(argv[1], "--child") == 0) return child(argv[2]);
  if (argc > 3) {
    fprintf(stderr, "usage: load_time [LIBRARY [JSON]]\n");
    return 2;
  }
  const char *library = argc > 1 ? argv[1] : DEFAULT_LIBRARY;
  for (int p = 0; p < PROCESSES; p++) {
    if (!run_child("/proc/self/exe", library, one)) {
      fprintf(stderr, "load_time: a process that loads %s failed\n", library);
      return EXIT_FAILURE;
    }
    for (int i = 0; i < FIGURES; i++) samples[i][p] = one[i];
  }
  for (int i = 0; i < FIGURES; i++) medians[i] = median(samples[i]);
  printf("%-22s %10s %8s %8s   (medians of %d processes)\n", "", "ms", "RSS MB", "PSS MB",
         PROCESSES);
  printf("%-22s %10.3f %8.3f %8.3f\n", "load", medians[LOAD_MS], medians[LOAD_RSS],
         medians[LOAD_PSS]);
  printf("%-22s %10.3f %8.3f %8.3f\n", "load and a context", medians[CONTEXT_MS],
         medians[CONTEXT_RSS], medians[CONTEXT_PSS]);
  if (argc == 3 && !write_json(argv[2], medians)) return EXIT_FAILURE;
  return EXIT_SUCCESS;
}
