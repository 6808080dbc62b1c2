/* What the program's suites share: running the program, and editing cases. PROGRAM and SOURCE_DIR
 * come from the build. */
#ifndef CUMEGA_TESTS_PROGRAM_H
#define CUMEGA_TESTS_PROGRAM_H

#include <fcntl.h>
#include <glob.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cumega/cumega.h>
#include "runner.h"

#define GOLDEN(name) SOURCE_DIR "/tests/golden/" name ".safetensors"
#define FORWARD      GOLDEN("ema_forward-mask-lengths")
#define MAX_TENSORS  32
#define MAX_METADATA 8

extern char **environ;

static char folder[64];                 /* for this test program's own files */
static char out[1 << 16], err[1 << 16]; /* what the last run of the program wrote */

/* Valid until the eighth call after this one. */
static inline const char *in_folder(const char *name) {
  static char paths[8][128];
  static int next;
  char *path = paths[next++ % 8];
  snprintf(path, sizeof paths[0], "%s/%s", folder, name);
  return path;
}

static inline void read_text(const char *path, char *text, size_t size) {
  FILE *file = fopen(path, "r");
  size_t length = file != NULL ? fread(text, 1, size - 1, file) : 0;
  text[length] = '\0';
  if (file != NULL) fclose(file);
}

/* Runs the program with stdout in `to` (NULL: collected in out; "": closed) and stderr in err, and
 * returns its exit code. */
static inline int run_into(const char *to, const char *const *arguments) {
  posix_spawn_file_actions_t actions;
  char err_path[96], out_path[96];
  const int flags = O_WRONLY | O_CREAT | O_TRUNC;
  pid_t child;
  int status;
  snprintf(err_path, sizeof err_path, "%s/stderr", folder);
  snprintf(out_path, sizeof out_path, "%s/stdout", folder);
  posix_spawn_file_actions_init(&actions);
  if (to != NULL && to[0] == '\0')
    posix_spawn_file_actions_addclose(&actions, 1);
  else
    posix_spawn_file_actions_addopen(&actions, 1, to != NULL ? to : out_path, flags, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, err_path, flags, 0600);
  int failed = posix_spawn(&child, PROGRAM, &actions, NULL, (char *const *)arguments, environ);
  ck_assert_msg(failed == 0, "cannot start %s: %s", PROGRAM, strerror(failed));
  posix_spawn_file_actions_destroy(&actions);
  ck_assert_int_eq(waitpid(child, &status, 0), child);
  ck_assert_msg(WIFEXITED(status), "the program died of signal %d", WTERMSIG(status));
  read_text(err_path, err, sizeof err);
  out[0] = '\0';
  if (to == NULL) read_text(out_path, out, sizeof out);
  return WEXITSTATUS(status);
}

#define RUN_INTO(to, ...) run_into(to, (const char *[]){"cumega", __VA_ARGS__, NULL})
#define RUN(...)          RUN_INTO(NULL, __VA_ARGS__)
/* A run that ends with code and writes `text` to stderr. */
#define ASSERT_SAYS(code, text, ...)                                                              \
  do {                                                                                            \
    int got = RUN(__VA_ARGS__);                                                                   \
    ck_assert_msg(got == (code), "exit code %d, expected %d: %s", got, (code), err);              \
    ck_assert_msg(strstr(err, text) != NULL, "'%s' is not in: %s", text, err);                    \
  } while (0)

static inline const char *last_line(void) {
  size_t end = strlen(out);
  ck_assert(end > 0 && out[end - 1] == '\n');
  while (end > 1 && out[end - 2] != '\n') end--;
  return out + end - 1;
}

/* A case file in memory, to be edited and written again. */
typedef struct editable {
  cumega_context *ctx;
  cumega_weights *weights;
  cumega_tensor tensors[MAX_TENSORS];
  cumega_named_tensor named[MAX_TENSORS];
  cumega_metadata metadata[MAX_METADATA];
  int64_t count, pairs;
} editable;

static inline void open_case(editable *e, const char *path) {
  memset(e, 0, sizeof *e);
  ck_assert_int_eq(cumega_context_create(NULL, &e->ctx), CUMEGA_OK);
  cumega_status status = cumega_weights_open(e->ctx, path, &e->weights);
  ck_assert_msg(status == CUMEGA_OK, "%s", cumega_context_message(e->ctx));
  ck_assert_int_le(cumega_weights_count(e->weights), MAX_TENSORS);
  for (; e->count < cumega_weights_count(e->weights); e->count++) {
    const cumega_weights_entry *entry = cumega_weights_at(e->weights, e->count);
    cumega_tensor *t = &e->tensors[e->count];
    void *memory = malloc((size_t)entry->bytes + 1);
    ck_assert_int_eq(cumega_weights_read(e->ctx, e->weights, entry, memory, entry->bytes),
                     CUMEGA_OK);
    cumega_tensor_init(t, memory, cumega_cpu, entry->dtype, entry->ndim, entry->shape);
    e->named[e->count] = (cumega_named_tensor){entry->name, &t->dl};
  }
  for (; e->pairs < MAX_METADATA; e->pairs++) {
    e->metadata[e->pairs] = cumega_weights_metadata_at(e->weights, e->pairs);
    if (e->metadata[e->pairs].key == NULL) break;
  }
}

static inline void close_case(editable *e) {
  for (int64_t i = 0; i < cumega_weights_count(e->weights); i++) free(e->tensors[i].dl.data);
  cumega_weights_close(e->weights);
  cumega_context_destroy(e->ctx);
}

static inline DLTensor *tensor_of(editable *e, const char *name) {
  for (int64_t i = 0; i < e->count; i++)
    if (strcmp(e->named[i].name, name) == 0) return (DLTensor *)e->named[i].tensor;
  return NULL;
}

static inline void rename_tensor(editable *e, const char *name, const char *to) {
  for (int64_t i = 0; i < e->count; i++)
    if (strcmp(e->named[i].name, name) == 0) e->named[i].name = to;
}

static inline void drop_group(editable *e, const char *start) {
  int64_t kept = 0;
  for (int64_t i = 0; i < e->count; i++)
    if (strncmp(e->named[i].name, start, strlen(start)) != 0) e->named[kept++] = e->named[i];
  ck_assert_int_lt(kept, e->count);
  e->count = kept;
}

static inline void set_metadata(editable *e, const char *key, const char *value) {
  for (int64_t i = 0; i < e->pairs; i++)
    if (strcmp(e->metadata[i].key, key) == 0) e->metadata[i].value = value;
}

/* Writes the edited case, closes it and returns its path. */
static inline const char *save_case(editable *e) {
  static int number;
  char name[32];
  snprintf(name, sizeof name, "edited-%d.safetensors", number++ % 4);
  const char *path = in_folder(name);
  cumega_status status =
      cumega_weights_save(e->ctx, path, e->named, e->count, e->metadata, e->pairs);
  ck_assert_msg(status == CUMEGA_OK, "%s", cumega_context_message(e->ctx));
  close_case(e);
  return path;
}

static inline int64_t bytes_of(const DLTensor *t) {
  int64_t bytes = t->dtype.bits / 8;
  for (int i = 0; i < t->ndim; i++) bytes *= t->shape[i];
  return bytes;
}

static inline int same_tensor(const DLTensor *a, const DLTensor *b) {
  return a->ndim == b->ndim && memcmp(&a->dtype, &b->dtype, sizeof a->dtype) == 0 &&
         (a->ndim == 0 || memcmp(a->shape, b->shape, (size_t)a->ndim * sizeof *a->shape) == 0) &&
         memcmp(a->data, b->data, (size_t)bytes_of(a)) == 0;
}

/* FORWARD with one value of an exact tensor changed. */
static inline const char *perturbed_case(const char *name, int64_t index, double value) {
  editable e;
  open_case(&e, FORWARD);
  ((double *)tensor_of(&e, name)->data)[index] = value;
  return save_case(&e);
}

/* Runs the suite with its own folder, and removes the folder. */
static inline int run_program_suite(Suite *suite) {
  snprintf(folder, sizeof folder, "/tmp/cumega-check-program-XXXXXX");
  if (mkdtemp(folder) == NULL) return EXIT_FAILURE;
  int code = run_suite(suite);
  glob_t left;
  if (glob(in_folder("*"), 0, NULL, &left) == 0) {
    for (size_t i = 0; i < left.gl_pathc; i++) unlink(left.gl_pathv[i]);
    globfree(&left);
  }
  rmdir(folder);
  return code;
}

#endif
