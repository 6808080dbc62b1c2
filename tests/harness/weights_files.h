/* A separate folder for every test that writes weight files, a context, and hand-made files. */
#ifndef CUMEGA_TESTS_WEIGHTS_FILES_H
#define CUMEGA_TESTS_WEIGHTS_FILES_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "statuses.h"

typedef struct weights_files {
  cumega_context *ctx;
  char folder[64];
  char path[128]; /* where save_bytes writes, inside folder */
} weights_files;

static inline void files_begin(weights_files *files) {
  ck_assert_int_eq(cumega_context_create(NULL, &files->ctx), CUMEGA_OK);
  strcpy(files->folder, "/tmp/cumega-weights-XXXXXX");
  ck_assert_ptr_nonnull(mkdtemp(files->folder));
  snprintf(files->path, sizeof files->path, "%s/model.safetensors", files->folder);
}

/* The number of files in the folder; removes them if asked to. */
static inline int files_in_folder(const weights_files *files, int remove_them) {
  DIR *folder = opendir(files->folder);
  ck_assert_ptr_nonnull(folder);
  int count = 0;
  for (struct dirent *file = readdir(folder); file != NULL; file = readdir(folder)) {
    if (strcmp(file->d_name, ".") == 0 || strcmp(file->d_name, "..") == 0) continue;
    count++;
    char path[512];
    snprintf(path, sizeof path, "%s/%s", files->folder, file->d_name);
    if (remove_them) ck_assert_int_eq(remove(path), 0);
  }
  closedir(folder);
  return count;
}

static inline void files_end(weights_files *files) {
  files_in_folder(files, 1);
  ck_assert_int_eq(rmdir(files->folder), 0);
  cumega_context_destroy(files->ctx);
}

static inline void save_bytes(const char *path, const void *bytes, size_t count) {
  FILE *file = fopen(path, "wb");
  ck_assert_ptr_nonnull(file);
  ck_assert_uint_eq(fwrite(bytes, 1, count, file), count);
  ck_assert_int_eq(fclose(file), 0);
}

/* A file made of a header, preceded by its length, and of `data` bytes 0, 1, 2, ... after it.
 * Returns its size in bytes; the bytes are also in `file` (which has `room` bytes). */
static inline size_t make_file(unsigned char *file, size_t room, const char *header, size_t data) {
  size_t length = strlen(header), all = 8 + length + data;
  ck_assert_uint_le(all, room);
  for (int i = 0; i < 8; i++) file[i] = (unsigned char)((uint64_t)length >> (8 * i));
  memcpy(file + 8, header, length);
  for (size_t i = 0; i < data; i++) file[8 + length + i] = (unsigned char)i;
  return all;
}

static inline cumega_weights *open_header(weights_files *files, const char *header, size_t data) {
  unsigned char bytes[4096];
  save_bytes(files->path, bytes, make_file(bytes, sizeof bytes, header, data));
  cumega_weights *weights;
  cumega_status status = cumega_weights_open(files->ctx, files->path, &weights);
  ck_assert_msg(status == CUMEGA_OK, "%s", cumega_context_message(files->ctx));
  return weights;
}

#endif
