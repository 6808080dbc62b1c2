/* A file that appears whole or not at all: it is written under another name in the same folder
 * (so that the rename cannot cross a file system), then renamed. Symbolic links are followed
 * first, so a link to a model stays a link. A path that exists and is not a regular file is
 * refused, since a rename would replace /dev/null as readily as a model. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
#include "call.h"
#include "weights_file.h"

#define BUFFER_BYTES (256 * 1024)
#define NAME_BYTES   64 /* of the temporary file, after its folder */
#define OUTPUT_BYTES (2 * PATH_MAX + NAME_BYTES + BUFFER_BYTES)

static cumega_status fail(const weights_output *output, const char *what) {
  return weights_fail(output->ctx, CUMEGA_ERROR_FILE, output->path, "cannot be %s: %s", what,
                      strerror(errno));
}

/* output->final: path, or what it links to. */
static cumega_status resolve(weights_output *output) {
  struct stat file;
  if (lstat(output->path, &file) != 0) {
    if (errno != ENOENT) return fail(output, "written"); /* ENAMETOOLONG from PATH_MAX bytes on */
    strcpy(output->final, output->path);
    return CUMEGA_OK;
  }
  if (realpath(output->path, output->final) == NULL || stat(output->final, &file) != 0)
    return fail(output, "written");
  if (!S_ISREG(file.st_mode)) return weights_not_regular(output->ctx, output->path, &file);
  return CUMEGA_OK;
}

/* O_EXCL with a name that no file has; the mode follows the caller's umask, as for any new
 * file. */
static cumega_status create_temporary(weights_output *output) {
  const char *slash = strrchr(output->final, '/');
  int folder = slash == NULL ? 0 : (int)(slash - output->final) + 1;
  for (int attempt = 0; attempt < 100; attempt++) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    sprintf(output->temporary, "%.*s.cumega-%ld-%09ld-%d.tmp", folder, output->final,
            (long)getpid(), now.tv_nsec, attempt);
    output->fd = open(output->temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (output->fd >= 0) return CUMEGA_OK;
    if (errno != EEXIST && errno != EINTR) break;
  }
  output->temporary[0] = '\0';
  return fail(output, "created");
}

cumega_status weights_output_open(weights_output *output, cumega_context *ctx, const char *path) {
  void *block = NULL;
  *output = (weights_output){.ctx = ctx, .path = path, .fd = -1};
  TRY(call_allocate(ctx, OUTPUT_BYTES, "writing a weights file", &block));
  output->final = block;
  output->temporary = output->final + PATH_MAX;
  output->buffer = output->temporary + PATH_MAX + NAME_BYTES;
  output->temporary[0] = '\0';
  TRY(resolve(output));
  return create_temporary(output);
}

static cumega_status write_all(weights_output *output, const char *data, int64_t bytes) {
  while (bytes > 0) {
    int64_t piece = bytes < INT64_C(1) << 30 ? bytes : INT64_C(1) << 30;
    ssize_t written = write(output->fd, data, (size_t)piece);
    if (written < 0) {
      if (errno == EINTR) continue;
      return fail(output, "written");
    }
    data += written;
    bytes -= written;
  }
  return CUMEGA_OK;
}

static cumega_status flush(weights_output *output) {
  int64_t bytes = output->used;
  output->used = 0;
  return write_all(output, output->buffer, bytes);
}

/* Small pieces are gathered; large ones are written directly. */
cumega_status weights_output_put(weights_output *output, const void *data, int64_t bytes) {
  if (bytes > BUFFER_BYTES - output->used) TRY(flush(output));
  if (bytes > BUFFER_BYTES) return write_all(output, data, bytes);
  memcpy(output->buffer + output->used, data, (size_t)bytes);
  output->used += bytes;
  return CUMEGA_OK;
}

/* A close may report a write that failed late (NFS, quotas), so it comes before the rename. */
cumega_status weights_output_commit(weights_output *output) {
  TRY(flush(output));
  int closed = close(output->fd);
  output->fd = -1;
  if (closed != 0) return fail(output, "written");
  if (rename(output->temporary, output->final) != 0) return fail(output, "put in its place");
  output->temporary[0] = '\0';
  return CUMEGA_OK;
}

void weights_output_close(weights_output *output) {
  if (output->final == NULL) return;
  if (output->fd >= 0) close(output->fd);
  if (output->temporary[0] != '\0') unlink(output->temporary);
  memory_free(output->ctx->memory, output->final, OUTPUT_BYTES);
}
