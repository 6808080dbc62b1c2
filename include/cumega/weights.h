/* Weight files: safetensors (https://huggingface.co/docs/safetensors), read and written.
 *
 * The reader accepts only what the format allows: a header of at most CUMEGA_WEIGHTS_HEADER_LIMIT
 * bytes of UTF-8 JSON without duplicate keys, in which a tensor is described by at most
 * CUMEGA_WEIGHTS_DESCRIPTION_LIMIT bytes; tensors that are in range, contiguous, without holes or
 * overlaps, that fill the file to its end, and whose sizes (checked in 64 bits) equal their shape
 * times their type. All of it is checked when the file is opened; nothing is allocated for a
 * tensor before that. Data is read by pread when asked for, so a file may be larger than memory.
 * Opening takes at most 8 times the header's bytes and 1 MB, all in ctx's account but for what
 * the C library's qsort takes. Types that cumega has no name for are listed and otherwise left
 * alone. */
#ifndef CUMEGA_WEIGHTS_H
#define CUMEGA_WEIGHTS_H

#include <cumega/context.h>

#define CUMEGA_WEIGHTS_HEADER_LIMIT      (100 * 1000 * 1000)
#define CUMEGA_WEIGHTS_DESCRIPTION_LIMIT 4096

typedef struct cumega_weights cumega_weights;

/* One tensor of a file. name and dtype_name are valid as long as the cumega_weights. */
typedef struct cumega_weights_entry {
  const char *name;
  /* As in the file: "F32", "BF16", "F8_E4M3", ... */
  const char *dtype_name;
  /* bits = 0 where DLPack or cumega has no such type. */
  DLDataType dtype;
  /* -1: more than CUMEGA_MAX_DIMS; dtype.bits and shape are then 0. */
  int32_t ndim;
  int64_t shape[CUMEGA_MAX_DIMS];
  int64_t bytes;
} cumega_weights_entry;

/* A tensor to write: compact or strided CPU memory. */
typedef struct cumega_named_tensor {
  const char *name;
  const DLTensor *tensor;
} cumega_named_tensor;

typedef struct cumega_metadata {
  const char *key;
  const char *value;
} cumega_metadata;

#ifdef __cplusplus
extern "C" {
#endif

/* Opens a file and checks its header. Memory comes from ctx, which need not outlive *weights.
 * *weights is NULL on failure. A cumega_weights never changes after this, so threads may share it.
 * Returns CUMEGA_OK, CUMEGA_ERROR_ARGUMENT (NULL), CUMEGA_ERROR_FILE (not a regular file, or
 * unreadable), CUMEGA_ERROR_FORMAT (the sentence names the tensor and what is wrong),
 * CUMEGA_ERROR_RESOURCE, CUMEGA_ERROR_STATE, CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_weights_open(cumega_context *ctx,
                                                                 const char *path,
                                                                 cumega_weights **weights);

/* NULL is allowed. */
CUMEGA_API void cumega_weights_close(cumega_weights *weights);

/* The number of tensors; 0 for NULL. */
CUMEGA_API int64_t cumega_weights_count(const cumega_weights *weights);

/* The i-th tensor, in the order of the file's data; NULL where i is out of range. */
CUMEGA_API const cumega_weights_entry *cumega_weights_at(const cumega_weights *weights, int64_t i);

/* The tensor of that name, or NULL. */
CUMEGA_API const cumega_weights_entry *cumega_weights_find(const cumega_weights *weights,
                                                           const char *name);

/* The file's metadata: the value of a key, or NULL. */
CUMEGA_API const char *cumega_weights_metadata(const cumega_weights *weights, const char *key);

/* The i-th metadata pair in the file's order; {NULL, NULL} where i is out of range. */
CUMEGA_API cumega_metadata cumega_weights_metadata_at(const cumega_weights *weights, int64_t i);

/* Reads one tensor's data into memory (CPU, entry->bytes bytes), row-major, little-endian as in
 * the file. Returns CUMEGA_OK, _ARGUMENT (NULL, an entry of another file, too few bytes), _FILE
 * (unreadable, or the file has shrunk since it was opened; memory may then be partly written),
 * _STATE, _FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status cumega_weights_read(cumega_context *ctx,
                                                                 const cumega_weights *weights,
                                                                 const cumega_weights_entry *entry,
                                                                 void *memory, int64_t bytes);

/* Writes a file under another name in the same folder, then renames it, so that path holds either
 * what it had before or the whole new file. The bytes are those that the safetensors library
 * writes: tensors by type (U64, I64, F64, C64, F32, U32, I32, BF16, F16, U16, I16, I8, U8, BOOL),
 * then by name; but metadata keeps the given order, which that library makes random. metadata may
 * be NULL where metadata_count is 0. A symbolic link is followed; path may not be a device.
 * Returns CUMEGA_OK, CUMEGA_ERROR_ARGUMENT (NULL, a duplicate name or one that is not UTF-8, a
 * device or type that the format does not have), CUMEGA_ERROR_FILE (cannot be written: the
 * sentence has the system's reason), CUMEGA_ERROR_RESOURCE, CUMEGA_ERROR_STATE,
 * CUMEGA_ERROR_FATAL. */
CUMEGA_API CUMEGA_CHECK_RESULT cumega_status
cumega_weights_save(cumega_context *ctx, const char *path, const cumega_named_tensor *tensors,
                    int64_t tensor_count, const cumega_metadata *metadata, int64_t metadata_count);

#ifdef __cplusplus
}
#endif
#endif
