/* Where the CUDA backend is looked for, and what is said about what is found there. This file
 * replaces the loader's functions. A process looks only once, so each case runs in its own
 * process. */
#include "backend.h"
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "runner.h"

/* ---- the loader ---- */

static const char *our_file; /* what dladdr reports; NULL with `known`: nothing */
static int known;            /* whether dladdr finds anything */
static int
    found_at; /* the number of the dlopen, from 1, that finds the backend's library; 0: none */
static char asked[3][PATH_MAX]; /* by which names */
static int count;

int dladdr(const void *address, Dl_info *info) {
  (void)address;
  memset(info, 0, sizeof *info);
  info->dli_fname = our_file;
  return known;
}

/* The library that is found lacks the backend's entry. */
void *dlopen(const char *name, int mode) {
  union {
    void *object;
    void *(*function)(const char *name, int mode);
  } real = {dlsym(RTLD_NEXT, "dlopen")};
  if (name == NULL || strstr(name, BACKEND_CUDA_LIBRARY) == NULL) return real.function(name, mode);
  if (count < 3) snprintf(asked[count], sizeof asked[count], "%s", name);
  return real.function(++count == found_at ? "libm.so.6" : "/nowhere/libnothing.so", mode);
}

/* ---- a process that asks for CUDA ---- */

typedef struct finding {
  const char *file;
  int known, found_at;
  const char *beside; /* the first name, or NULL: only the plain one is tried */
  const char *sentence;
} finding;

static void ask(const finding *f) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  cumega_context *ctx = NULL;
  options.device = (DLDevice){kDLCUDA, 3};
  our_file = f->file;
  known = f->known;
  found_at = f->found_at;
  const int tries = f->found_at > 0 ? f->found_at : 1 + (f->beside != NULL);
  int right = 1;
  for (int i = 0; i < 2; i++) { /* the second time it does not look */
    right &= cumega_context_create(&options, &ctx) == CUMEGA_ERROR_DEVICE && ctx == NULL;
    right &= strstr(cumega_context_message(NULL), "device cuda:3 was asked for, but ") != NULL;
    right &= strstr(cumega_context_message(NULL), f->sentence) != NULL;
    right &= count == tries;
  }
  right &= strcmp(asked[0], f->beside != NULL ? f->beside : BACKEND_CUDA_LIBRARY) == 0;
  right &= tries < 2 || strcmp(asked[1], BACKEND_CUDA_LIBRARY) == 0;
  if (!right)
    fprintf(stderr, "%d tries, %s, %s: %s\n", count, asked[0], asked[1],
            cumega_context_message(NULL));
  exit(!right);
}

static void must_be(finding f) {
  int ended = -1;
  fflush(NULL);
  const pid_t child = fork();
  if (child == 0) ask(&f);
  ck_assert_int_eq(waitpid(child, &ended, 0), child);
  ck_assert_int_eq(ended, 0);
}

static const char *const nowhere = "the CUDA backend cannot be opened: /nowhere/libnothing.so: ";
static const char *const another = "libcumega_cuda.so.0 is not of the same build as libcumega ";

START_TEST(it_is_looked_for_beside_our_file_and_then_by_its_name) {
  must_be(
      (finding){"/some/where/libcumega.so.0", 1, 0, "/some/where/libcumega_cuda.so.0", nowhere});
  must_be((finding){"here/program", 1, 0, "here/libcumega_cuda.so.0", nowhere});
}
END_TEST

START_TEST(where_our_file_is_unknown_it_is_looked_for_by_its_name) {
  char path[PATH_MAX];
  memset(path, 'a', sizeof path);
  path[0] = path[PATH_MAX - 10] = '/';
  path[PATH_MAX - 1] = '\0';
  must_be((finding){NULL, 0, 0, NULL, nowhere});
  must_be((finding){NULL, 1, 0, NULL, nowhere});
  must_be((finding){"program", 1, 0, NULL, nowhere});
  must_be((finding){path, 1, 0, NULL, nowhere}); /* the backend's path would be too long */
}
END_TEST

START_TEST(a_library_that_is_no_backend_of_ours_is_refused) {
  must_be((finding){"/usr/libcumega.so.0", 1, 1, "/usr/libcumega_cuda.so.0", another});
  must_be((finding){"/usr/libcumega.so.0", 1, 2, "/usr/libcumega_cuda.so.0", another});
}
END_TEST

int main(void) {
  Suite *suite = suite_create("inside_backend");
  TCase *tests = add_case(suite, "the CUDA backend", 60);
  tcase_add_test(tests, it_is_looked_for_beside_our_file_and_then_by_its_name);
  tcase_add_test(tests, where_our_file_is_unknown_it_is_looked_for_by_its_name);
  tcase_add_test(tests, a_library_that_is_no_backend_of_ours_is_refused);
  return run_suite(suite);
}
