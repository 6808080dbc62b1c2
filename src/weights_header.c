/* The header of a weight file: JSON into one compact, checked table.
 *
 *   {"__metadata__": {"key": "value", ...},
 *    "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}
 *
 * What is accepted is what the safetensors library accepts of this form: no other keys in a tensor,
 * nothing but spaces behind the object. Sizes are checked before a tensor is believed: the product
 * of its shape and type in 64 bits, its place in the data, and then, over all tensors in the order
 * of their data, that each begins where the one before it ended and the last ends with the file.
 *
 * jansson's own memory is not in the account: its allocator can only be replaced for the whole
 * process, which is not ours to change. The tree it makes takes about 20 times the header's bytes
 * (measured) and is gone when the call returns. */
#include <inttypes.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "context.h"
#include "weights.h"

#define METADATA_KEY "__metadata__"

typedef struct parse {
  cumega_context *ctx;
  const char *path;
  int64_t data_bytes;
  char *text; /* where the next string goes */
} parse;

/* "tensor '<name>' <sentence>", as a refusal of the file. */
static cumega_status refuse_tensor(const parse *p, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static cumega_status refuse_tensor(const parse *p, const char *name, const char *format, ...) {
  char quoted[WEIGHTS_QUOTE], sentence[400];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(sentence, sizeof sentence, format, arguments);
  va_end(arguments);
  return weights_fail(p->ctx, CUMEGA_ERROR_FORMAT, p->path, "tensor '%s' %s",
                      weights_quote(quoted, name), sentence);
}

static const char *keep_string(parse *p, const char *string) {
  size_t bytes = strlen(string) + 1;
  char *kept = memcpy(p->text, string, bytes);
  p->text += bytes;
  return kept;
}

static cumega_status parse_json(const parse *p, const char *header, int64_t bytes, json_t **root) {
  if (bytes == 0 || header[0] != '{')
    return weights_fail(p->ctx, CUMEGA_ERROR_FORMAT, p->path,
                        "its header (%" PRId64 " bytes) does not begin with '{'", bytes);
  int64_t end = bytes;
  while (header[end - 1] == ' ') end--;
  if (header[end - 1] != '}')
    return weights_fail(p->ctx, CUMEGA_ERROR_FORMAT, p->path,
                        "its header (%" PRId64 " bytes) does not end with '}' and spaces", bytes);
  json_error_t error;
  *root = json_loadb(header, (size_t)end, JSON_REJECT_DUPLICATES, &error);
  if (*root != NULL) return CUMEGA_OK;
  if (json_error_code(&error) == json_error_out_of_memory)
    return weights_fail(p->ctx, CUMEGA_ERROR_RESOURCE, p->path,
                        "there is no memory to parse its header of %" PRId64 " bytes", bytes);
  char quoted[WEIGHTS_QUOTE];
  return weights_fail(p->ctx, CUMEGA_ERROR_FORMAT, p->path,
                      "its header is not the JSON of a weights file, at byte %d: %s",
                      error.position, weights_quote(quoted, error.text));
}

/* The shape, and the product of its dimensions. */
static cumega_status parse_shape(const parse *p, const char *name, const json_t *shape,
                                 cumega_weights_entry *entry, int64_t *elements) {
  if (!json_is_array(shape)) return refuse_tensor(p, name, "has no shape (an array of integers)");
  size_t ndim = json_array_size(shape);
  entry->ndim = ndim <= CUMEGA_MAX_DIMS ? (int32_t)ndim : -1;
  *elements = 1;
  for (size_t i = 0; i < ndim; i++) {
    const json_t *dimension = json_array_get(shape, i);
    if (!json_is_integer(dimension))
      return refuse_tensor(p, name, "has a shape whose dimension %zu is not an integer", i);
    int64_t size = json_integer_value(dimension);
    if (size < 0)
      return refuse_tensor(p, name, "has a shape whose dimension %zu is negative: %" PRId64, i,
                           size);
    if (__builtin_mul_overflow(*elements, size, elements))
      return refuse_tensor(p, name,
                           "has more elements than 64 bits can count, from dimension %zu on", i);
    if (entry->ndim >= 0) entry->shape[i] = size;
  }
  return CUMEGA_OK;
}

static cumega_status parse_offsets(const parse *p, const char *name, const json_t *offsets,
                                   int64_t *begin, int64_t *end) {
  if (!json_is_array(offsets) || json_array_size(offsets) != 2 ||
      !json_is_integer(json_array_get(offsets, 0)) || !json_is_integer(json_array_get(offsets, 1)))
    return refuse_tensor(p, name, "has no data_offsets (an array of two integers)");
  *begin = json_integer_value(json_array_get(offsets, 0));
  *end = json_integer_value(json_array_get(offsets, 1));
  if (*begin < 0 || *end < *begin)
    return refuse_tensor(p, name, "spans bytes %" PRId64 " .. %" PRId64 ", which is no span",
                         *begin, *end);
  if (*end > p->data_bytes)
    return refuse_tensor(p, name,
                         "spans bytes %" PRId64 " .. %" PRId64 " but the file has %" PRId64
                         " bytes of data",
                         *begin, *end, p->data_bytes);
  return CUMEGA_OK;
}

/* Shape times type is what the offsets span. A type without a name of ours has any size. */
static cumega_status check_size(const parse *p, const char *name, const weights_type *type,
                                const weights_tensor *tensor, int64_t elements) {
  const cumega_weights_entry *entry = &tensor->entry;
  char shape[WEIGHTS_QUOTE] = "of many dimensions";
  if (entry->ndim >= 0) weights_quote_shape(shape, entry->ndim, entry->shape);
  int64_t bits;
  if (__builtin_mul_overflow(elements, (int64_t)type->bits, &bits))
    return refuse_tensor(p, name, "has more bits than 64 bits can count: %s %s", type->name, shape);
  if (bits % 8 != 0)
    return refuse_tensor(p, name, "does not end at a whole byte: %s %s has %" PRId64 " bits",
                         type->name, shape, bits);
  if (bits / 8 != entry->bytes)
    return refuse_tensor(p, name, "spans bytes %" PRId64 " .. %" PRId64 " but %s %s needs %" PRId64,
                         tensor->begin, tensor->begin + entry->bytes, type->name, shape, bits / 8);
  return CUMEGA_OK;
}

static cumega_status check_keys(const parse *p, const char *name, json_t *info) {
  const char *key;
  json_t *value;
  char quoted[WEIGHTS_QUOTE];
  if (!json_is_object(info)) return refuse_tensor(p, name, "is not described by an object");
  json_object_foreach(
      info, key, value) if (strcmp(key, "dtype") != 0 && strcmp(key, "shape") != 0 &&
                            strcmp(key, "data_offsets") !=
                                0) return refuse_tensor(p, name,
                                                        "has a key that the format has not: '%s'",
                                                        weights_quote(quoted, key));
  return CUMEGA_OK;
}

static cumega_status parse_tensor(parse *p, const char *name, json_t *info,
                                  weights_tensor *tensor) {
  cumega_weights_entry *entry = &tensor->entry;
  int64_t elements = 0, end = 0;
  TRY(check_keys(p, name, info));
  const char *dtype_name = json_string_value(json_object_get(info, "dtype"));
  if (dtype_name == NULL) return refuse_tensor(p, name, "has no dtype (a string)");
  TRY(parse_shape(p, name, json_object_get(info, "shape"), entry, &elements));
  TRY(parse_offsets(p, name, json_object_get(info, "data_offsets"), &tensor->begin, &end));
  entry->bytes = end - tensor->begin;
  entry->name = keep_string(p, name);
  entry->dtype_name = keep_string(p, dtype_name);
  entry->dtype.lanes = 1;
  const weights_type *type = weights_type_named(dtype_name);
  if (type == NULL) return CUMEGA_OK;
  if (entry->ndim >= 0) entry->dtype = type->dtype;
  return check_size(p, name, type, tensor, elements);
}

static cumega_status parse_metadata(parse *p, json_t *object, cumega_weights *weights) {
  const char *key;
  json_t *value;
  char quoted[WEIGHTS_QUOTE];
  json_object_foreach(object, key, value) {
    if (!json_is_string(value))
      return weights_fail(p->ctx, CUMEGA_ERROR_FORMAT, p->path,
                          "the value of its metadata '%s' is not a string",
                          weights_quote(quoted, key));
    cumega_metadata *pair = &weights->metadata[weights->metadata_count++];
    pair->key = keep_string(p, key);
    pair->value = keep_string(p, json_string_value(value));
  }
  return CUMEGA_OK;
}

/* Allocates the block of the table: the struct, three arrays, then every string. Strings are
 * counted where they are strings; what is not is refused when the table is filled. */
static cumega_status allocate_table(parse *p, json_t *root, cumega_weights **weights) {
  const char *key;
  json_t *value, *metadata = json_object_get(root, METADATA_KEY);
  size_t text = strlen(p->path) + 1, pairs = json_object_size(metadata);
  size_t count = json_object_size(root) - (metadata != NULL);
  json_object_foreach(root, key, value) text +=
      strlen(key) + 1 + json_string_length(json_object_get(value, "dtype")) + 1;
  json_object_foreach(metadata, key, value) text += strlen(key) + 1 + json_string_length(value) + 1;

  size_t bytes = sizeof **weights + count * (sizeof(weights_tensor) + sizeof(weights_tensor *)) +
                 pairs * sizeof(cumega_metadata) + text;
  void *block;
  TRY(context_allocate(p->ctx, (int64_t)bytes, "the table of a weights file", &block));
  memset(block, 0, bytes);
  cumega_weights *w = block;
  w->memory = memory_retain(p->ctx->memory);
  w->block_bytes = (int64_t)bytes;
  w->fd = -1;
  w->tensors = (weights_tensor *)(w + 1);
  w->by_name = (const weights_tensor **)(w->tensors + count);
  w->metadata = (cumega_metadata *)(w->by_name + count);
  p->text = (char *)(w->metadata + pairs);
  w->path = keep_string(p, p->path);
  *weights = w;
  return CUMEGA_OK;
}

static cumega_status fill_table(parse *p, json_t *root, cumega_weights *weights) {
  const char *key;
  json_t *value;
  json_object_foreach(root, key, value) {
    if (strcmp(key, METADATA_KEY) == 0) {
      if (!json_is_object(value))
        return weights_fail(p->ctx, CUMEGA_ERROR_FORMAT, p->path,
                            "its " METADATA_KEY " is not an object of strings");
      TRY(parse_metadata(p, value, weights));
    } else {
      weights_tensor *tensor = &weights->tensors[weights->count];
      tensor->position = weights->count++;
      TRY(parse_tensor(p, key, value, tensor));
    }
  }
  return CUMEGA_OK;
}

static int compare_places(const void *left, const void *right) {
  const weights_tensor *a = left, *b = right;
  if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
  if (a->entry.bytes != b->entry.bytes) return a->entry.bytes < b->entry.bytes ? -1 : 1;
  return a->position < b->position ? -1 : 1;
}

static int compare_names(const void *left, const void *right) {
  const weights_tensor *const *a = left, *const *b = right;
  return strcmp((*a)->entry.name, (*b)->entry.name);
}

/* In the order of the data, tensors follow each other without hole or overlap, to the end. */
static cumega_status check_places(const parse *p, const cumega_weights *weights) {
  int64_t end = 0;
  for (int64_t i = 0; i < weights->count; i++) {
    const weights_tensor *tensor = &weights->tensors[i];
    if (tensor->begin > end)
      return refuse_tensor(p, tensor->entry.name,
                           "begins at byte %" PRId64 " and leaves a hole behind byte %" PRId64,
                           tensor->begin, end);
    if (tensor->begin < end) {
      char quoted[WEIGHTS_QUOTE];
      return refuse_tensor(
          p, tensor->entry.name,
          "begins at byte %" PRId64 " and overlaps tensor '%s', which ends at byte %" PRId64,
          tensor->begin, weights_quote(quoted, weights->tensors[i - 1].entry.name), end);
    }
    end = tensor->begin + tensor->entry.bytes;
  }
  if (end != p->data_bytes)
    return weights_fail(p->ctx, CUMEGA_ERROR_FORMAT, p->path,
                        "its tensors end at byte %" PRId64 " of the data, which has %" PRId64, end,
                        p->data_bytes);
  return CUMEGA_OK;
}

cumega_status weights_parse(cumega_context *ctx, const char *path, const char *header,
                            int64_t header_bytes, int64_t data_bytes, cumega_weights **weights) {
  parse p = {ctx, path, data_bytes, NULL};
  cumega_weights *w = NULL;
  json_t *root = NULL;
  cumega_status status = parse_json(&p, header, header_bytes, &root);
  if (status != CUMEGA_OK) goto done;
  status = allocate_table(&p, root, &w);
  if (status != CUMEGA_OK) goto done;
  status = fill_table(&p, root, w);
  if (status != CUMEGA_OK) goto done;
  qsort(w->tensors, (size_t)w->count, sizeof *w->tensors, compare_places);
  status = check_places(&p, w);
  if (status != CUMEGA_OK) goto done;
  for (int64_t i = 0; i < w->count; i++) w->by_name[i] = &w->tensors[i];
  qsort(w->by_name, (size_t)w->count, sizeof *w->by_name, compare_names);
  *weights = w;
  w = NULL;

done:
  if (w != NULL) {
    memory_free(ctx->memory, w, w->block_bytes);
    memory_release(ctx->memory);
  }
  json_decref(root);
  return status;
}
