/* How the CUDA backend's library is found, and what is said where it is not: the loader's answers are made up here.
 * It is looked for once per process, so every case is a child. */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include "backend.h"
#include "child.h"
#include "runner.h"

/* ---- the loader ---- */

typedef struct answers {
  const char *ours;     /* the file that we are in; NULL: the loader does not know us */
  const char *opens;    /* the one file that can be opened */
  const char *error;    /* the loader's sentence, or NULL */
  int has_entry, built; /* the file has our symbol; it is of our build */
  const char *sentence; /* what is expected, or NULL for success */
  const char *second;   /* the second file that it is tried with; NULL: it is found at once */
} answers;

static const char nameless[] = "known, but not by which file";
static const answers *a;
static char tried[2][PATH_MAX];
static int tries;

static cumega_status open_context(cumega_context *ctx, void *stream) {
  (void)ctx;
  (void)stream;
  return CUMEGA_OK;
}
static void close_context(cumega_context *ctx) {
  (void)ctx;
}

static const backend_device device = {.context_open = open_context, .context_close = close_context};
static const backend made_up = {.name = "made up", .device = &device};

static const backend *entry(const backend_front *front) {
  return a->built && front->version == CUMEGA_VERSION_NUMBER ? &made_up : NULL;
}

int __wrap_dladdr(const void *address, Dl_info *info);
int __wrap_dladdr(const void *address, Dl_info *info) {
  (void)address;
  memset(info, 0, sizeof *info);
  if (a->ours != nameless) info->dli_fname = a->ours;
  return a->ours != NULL;
}

void *__wrap_dlopen(const char *path, int flags);
void *__wrap_dlopen(const char *path, int flags) {
  (void)flags;
  if (tries < 2) strcpy(tried[tries], path);
  tries++;
  return a->opens && strcmp(path, a->opens) == 0 ? &tried : NULL;
}

void *__wrap_dlsym(void *library, const char *name);
void *__wrap_dlsym(void *library, const char *name) {
  union {
    backend_cuda_entry function;
    void *object;
  } symbol = {entry};
  return a->has_entry && library == &tried && strcmp(name, BACKEND_CUDA_ENTRY) == 0 ? symbol.object
                                                                                    : NULL;
}

char *__wrap_dlerror(void);
char *__wrap_dlerror(void) {
  return (char *)(uintptr_t)a->error;
}

/* ---- the cases ---- */

#define BESIDE   "/opt/lib/" BACKEND_CUDA_LIBRARY
#define NAME     BACKEND_CUDA_LIBRARY
#define NOT_OURS "device cuda:3 was asked for, but " NAME " is not of the same build as libcumega "

static char long_path[PATH_MAX];

static const answers cases[] = {
    {"/opt/lib/libcumega.so.0", BESIDE, NULL, 1, 1, NULL, NULL},
    {"/opt/lib/libcumega.so.0", NAME, NULL, 1, 1, NULL, NAME},
    {"/opt/lib/libcumega.so.0", NULL, "no such file", 1, 1,
     "device cuda:3 was asked for, but the CUDA backend cannot be opened: no such file", NAME},
    {"/opt/lib/libcumega.so.0", NULL, NULL, 1, 1,
     "device cuda:3 was asked for, but the CUDA backend cannot be opened: " NAME, NAME},
    {"/opt/lib/libcumega.so.0", BESIDE, NULL, 0, 1, NOT_OURS, NULL},
    {"/opt/lib/libcumega.so.0", BESIDE, NULL, 1, 0, NOT_OURS, NULL},
    /* it is not known where we are: only the name is tried */
    {NULL, NAME, NULL, 1, 1, NULL, NULL},
    {nameless, NAME, NULL, 1, 1, NULL, NULL},
    {"program", NAME, NULL, 1, 1, NULL, NULL},
    {long_path, NAME, NULL, 1, 1, NULL, NULL},
};

/* The number of the claim that is false, or 0. */
static int claims(void) {
  cumega_context_options options = cumega_context_options_default();
  cumega_context *ctx;
  options.device = (DLDevice){kDLCUDA, 3};
  for (int round = 0; round < 2; round++) { /* the second time nothing is tried */
    cumega_status status = cumega_context_create(&options, &ctx);
    const char *sentence = cumega_context_message(NULL);
    if (status != (a->sentence ? CUMEGA_ERROR_DEVICE : CUMEGA_OK)) return 1;
    if ((ctx != NULL) != (status == CUMEGA_OK)) return 2;
    if (a->sentence && strncmp(sentence, a->sentence, strlen(a->sentence)) != 0) return 3;
    if (ctx && strcmp(cumega_context_backend(ctx), "made up") != 0) return 4;
    cumega_context_destroy(ctx);
    if (tries != (a->second ? 2 : 1)) return 5;
  }
  const int knows = a->ours && a->ours[0] == '/' && a->ours != long_path;
  if (strcmp(tried[0], knows ? BESIDE : NAME) != 0) return 6;
  return a->second && strcmp(tried[1], a->second) != 0 ? 7 : 0;
}

START_TEST(the_library_is_looked_for_once_beside_us_and_then_by_name) {
  a = &cases[_i];
  fflush(NULL);
  pid_t child = fork();
  ck_assert_int_ge(child, 0);
  if (child == 0) end_child(claims());
  int status = -1;
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "case %d: %#x", _i,
                (unsigned)status);
}
END_TEST

int main(void) {
  Suite *suite = suite_create("inside CUDA library");
  TCase *tests = add_case(suite, "finding it", 20);
  memset(long_path, 'x', sizeof long_path - 1);
  long_path[0] = long_path[sizeof long_path - 2] = '/';
  tcase_add_loop_test(tests, the_library_is_looked_for_once_beside_us_and_then_by_name, 0,
                      (int)(sizeof cases / sizeof *cases));
  return run_suite(suite);
}
