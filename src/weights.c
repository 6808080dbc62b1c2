/* Reading weight files. A file is opened and its header checked once; after that it is a constant
 * table and a descriptor for pread, which several threads may use at once. pread and not a
 * mapping: a file that shrinks under a mapping kills the process, under pread it is a status.
 * (strerror is safe between threads in glibc and in musl.) */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <unistd.h>
#include "call.h"
#include "weights_file.h"
#include "trace.h"

cumega_status weights_not_regular(cumega_context *ctx, const char *path, const struct stat *file) {
  const char *kind = S_ISDIR(file->st_mode)    ? "a directory"
                     : S_ISFIFO(file->st_mode) ? "a pipe"
                     : S_ISSOCK(file->st_mode) ? "a socket"
                                               : "a device";
  return weights_fail(ctx, CUMEGA_ERROR_FILE, path, "is %s, not a regular file", kind);
}

/* O_NONBLOCK: a pipe without a writer opens at once and is refused, instead of being waited
 * for. */
static cumega_status open_file(cumega_context *ctx, const char *path, int *fd, int64_t *bytes) {
  struct stat file;
  do *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  while (*fd < 0 && errno == EINTR);
  if (*fd < 0)
    return weights_fail(ctx, CUMEGA_ERROR_FILE, path, "cannot be opened: %s", strerror(errno));
  if (fstat(*fd, &file) != 0)
    return weights_fail(ctx, CUMEGA_ERROR_FILE, path, "cannot be examined: %s", strerror(errno));
  if (!S_ISREG(file.st_mode)) return weights_not_regular(ctx, path, &file);
  *bytes = file.st_size;
  return CUMEGA_OK;
}

static cumega_status read_at(cumega_context *ctx, const char *path, int fd, void *buffer,
                             int64_t bytes, int64_t offset) {
  int64_t done = 0;
  while (done < bytes) {
    int64_t piece = bytes - done < INT64_C(1) << 30 ? bytes - done : INT64_C(1) << 30;
    ssize_t got = pread(fd, (char *)buffer + done, (size_t)piece, offset + done);
    if (got < 0) {
      if (errno == EINTR) continue;
      return weights_fail(ctx, CUMEGA_ERROR_FILE, path, "cannot be read at byte %" PRId64 ": %s",
                          offset + done, strerror(errno));
    }
    if (got == 0)
      return weights_fail(ctx, CUMEGA_ERROR_FILE, path,
                          "ends at byte %" PRId64 " where %" PRId64
                          " more were expected; it has shrunk since it was opened",
                          offset + done, bytes - done);
    done += got;
  }
  return CUMEGA_OK;
}

/* The header's length, from the first 8 bytes; checked against the file before anything is
 * allocated for it. */
static cumega_status read_header_length(cumega_context *ctx, const char *path, int fd,
                                        int64_t file_bytes, int64_t *header_bytes) {
  unsigned char bytes[8];
  if (file_bytes < 8)
    return weights_fail(ctx, CUMEGA_ERROR_FORMAT, path,
                        "has %" PRId64 " bytes, fewer than the 8 of a header's length",
                        file_bytes);
  TRY(read_at(ctx, path, fd, bytes, 8, 0));
  uint64_t length = 0;
  for (int i = 7; i >= 0; i--) length = length << 8 | bytes[i];
  if (length > CUMEGA_WEIGHTS_HEADER_LIMIT)
    return weights_fail(ctx, CUMEGA_ERROR_FORMAT, path,
                        "says that its header has %" PRIu64
                        " bytes, more than the %d allowed; is it a safetensors file?",
                        length, CUMEGA_WEIGHTS_HEADER_LIMIT);
  if ((int64_t)length > file_bytes - 8)
    return weights_fail(ctx, CUMEGA_ERROR_FORMAT, path,
                        "says that its header has %" PRIu64 " bytes, but only %" PRId64
                        " follow; it is cut short",
                        length, file_bytes - 8);
  *header_bytes = (int64_t)length;
  return CUMEGA_OK;
}

cumega_status cumega_weights_open(cumega_context *ctx, const char *path,
                                  cumega_weights **weights) {
  TRACE(ctx, 0);
  if (weights != NULL) *weights = NULL;
  TRY(call_enter(ctx));
  if (path == NULL) return call_fail_argument(ctx, "path is NULL");
  if (weights == NULL) return call_fail_argument(ctx, "weights is NULL");

  int fd = -1;
  int64_t file_bytes = 0, header_bytes = 0;
  void *header = NULL;
  cumega_status status = open_file(ctx, path, &fd, &file_bytes);
  if (status != CUMEGA_OK) goto done;
  status = read_header_length(ctx, path, fd, file_bytes, &header_bytes);
  if (status != CUMEGA_OK) goto done;
  status = call_allocate(ctx, header_bytes, "the header of a weights file", &header);
  if (status != CUMEGA_OK) goto done;
  status = read_at(ctx, path, fd, header, header_bytes, 8);
  if (status != CUMEGA_OK) goto done;
  status = weights_parse(ctx, path, header, header_bytes, file_bytes - 8 - header_bytes, weights);
  if (status != CUMEGA_OK) goto done;
  (*weights)->fd = fd;
  (*weights)->data_begin = 8 + header_bytes;
  fd = -1;

done:
  memory_free(ctx->memory, header, header_bytes);
  if (fd >= 0) close(fd);
  return status;
}

void cumega_weights_close(cumega_weights *weights) {
  if (weights == NULL) return;
  close(weights->fd);
  memory *m = weights->memory;
  memory_free(m, weights, weights->block_bytes);
  memory_release(m);
}

int64_t cumega_weights_count(const cumega_weights *weights) {
  return weights == NULL ? 0 : weights->count;
}

const cumega_weights_entry *cumega_weights_at(const cumega_weights *weights, int64_t i) {
  if (weights == NULL || i < 0 || i >= weights->count) return NULL;
  return &weights->tensors[i].entry;
}

static int compare_to_tensor(const void *name, const void *tensor) {
  return strcmp(name, (*(const weights_tensor *const *)tensor)->entry.name);
}

const cumega_weights_entry *cumega_weights_find(const cumega_weights *weights, const char *name) {
  if (weights == NULL || name == NULL) return NULL;
  const weights_tensor **found = bsearch(name, weights->by_name, (size_t)weights->count,
                                         sizeof *weights->by_name, compare_to_tensor);
  return found == NULL ? NULL : &(*found)->entry;
}

static int compare_to_pair(const void *key, const void *pair) {
  return strcmp(key, (*(const cumega_metadata *const *)pair)->key);
}

const char *cumega_weights_metadata(const cumega_weights *weights, const char *key) {
  if (weights == NULL || key == NULL) return NULL;
  const cumega_metadata **found = bsearch(key, weights->by_key, (size_t)weights->metadata_count,
                                          sizeof *weights->by_key, compare_to_pair);
  return found == NULL ? NULL : (*found)->value;
}

cumega_metadata cumega_weights_metadata_at(const cumega_weights *weights, int64_t i) {
  if (weights == NULL || i < 0 || i >= weights->metadata_count)
    return (cumega_metadata){NULL, NULL};
  return weights->metadata[i];
}

/* The tensor that an entry belongs to, found by its address; NULL where it is not of this file. */
static const weights_tensor *tensor_of(const cumega_weights *weights,
                                       const cumega_weights_entry *entry) {
  uintptr_t first = (uintptr_t)weights->tensors, address = (uintptr_t)entry;
  uintptr_t index =
      (address - first) / sizeof(weights_tensor); /* huge for an address before the first */
  if (index >= (uintptr_t)weights->count) return NULL;
  return &weights->tensors[index].entry == entry ? &weights->tensors[index] : NULL;
}

cumega_status cumega_weights_read(cumega_context *ctx, const cumega_weights *weights,
                                  const cumega_weights_entry *entry, void *destination,
                                  int64_t bytes) {
  TRACE(ctx, bytes);
  TRY(call_enter(ctx));
  if (weights == NULL) return call_fail_argument(ctx, "weights is NULL");
  if (entry == NULL) return call_fail_argument(ctx, "entry is NULL");
  const weights_tensor *tensor = tensor_of(weights, entry);
  if (tensor == NULL)
    return weights_fail(ctx, CUMEGA_ERROR_ARGUMENT, weights->path,
                        "entry is none of this file's; take it from cumega_weights_at or _find");
  char quoted[WEIGHTS_QUOTE];
  if (bytes < entry->bytes)
    return weights_fail(ctx, CUMEGA_ERROR_ARGUMENT, weights->path,
                        "tensor '%s' has %" PRId64 " bytes, memory only %" PRId64,
                        weights_quote(quoted, entry->name), entry->bytes, bytes);
  if (entry->bytes == 0) return CUMEGA_OK;
  if (destination == NULL) return call_fail_argument(ctx, "memory is NULL");
  return read_at(ctx, weights->path, weights->fd, destination, entry->bytes,
                 weights->data_begin + tensor->begin);
}
