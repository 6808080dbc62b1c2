/* The header of a weight file: JSON into one compact, checked table.
 *
 *   {"__metadata__": {"key": "value", ...},
 *    "name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [begin, end]}, ...}
 *
 * It accepts what the safetensors library accepts: no other keys in a tensor, only spaces after
 * the object. Sizes are checked before a tensor is accepted: the product of its shape and type in
 * 64 bits, its place in the data, and then, over all tensors in the order of their data, that
 * each begins where the one before it ended and the last ends with the file.
 *
 *   pass 1: the object's structure, and the number of tensors and metadata pairs;
 *   pass 2: each of them into the table;
 *   pass 3: names and places compared with each other. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "call.h"
#include "weights_file.h"

#define METADATA_KEY "__metadata__"

/* The shortest description, with its name before and the comma after it:
 * "":{"dtype":"","shape":[],"data_offsets":[0,0]}, */
#define SMALLEST_TENSOR 48

typedef weights_parse_state parse;

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

static const char *keep_text(parse *p, const char *string) {
  size_t bytes = strlen(string) + 1;
  char *kept = memcpy(p->text, string, bytes);
  p->text += bytes;
  return kept;
}

/* The piece's string, copied into the table. */
static cumega_status keep_string(parse *p, weights_piece piece, const char **kept) {
  json_t *string;
  TRY(weights_load(p, piece, &string));
  *kept = keep_text(p, json_string_value(string));
  weights_unload(p, piece, string);
  return CUMEGA_OK;
}

/* The object of the whole header: trailing spaces are cut off. */
static cumega_status find_object(const parse *p, int64_t bytes, weights_object *object) {
  if (bytes == 0 || p->header[0] != '{')
    return weights_fail(p->ctx, CUMEGA_ERROR_FORMAT, p->path,
                        "its header (%" PRId64 " bytes) does not begin with '{'", bytes);
  int64_t end = bytes;
  while (p->header[end - 1] == ' ') end--;
  if (p->header[end - 1] != '}')
    return weights_fail(p->ctx, CUMEGA_ERROR_FORMAT, p->path,
                        "its header (%" PRId64 " bytes) does not end with '}' and spaces", bytes);
  *object = (weights_object){.at = p->header, .end = p->header + end};
  const char *nul = memchr(p->header, '\0', (size_t)end); /* jansson skips some */
  return nul == NULL ? CUMEGA_OK : weights_not_json(p, nul, "a NUL");
}

static cumega_status next_member(const parse *p, weights_object *object, weights_member *member,
                                 int *there) {
  char reason[64];
  *there = weights_next_member(object, member);
  if (*there >= 0) return CUMEGA_OK;
  snprintf(reason, sizeof reason, "expected %s", object->expected);
  return weights_not_json(p, object->at, reason);
}

/* A name may be written with escapes. */
static cumega_status is_metadata(const parse *p, weights_piece name, int *is) {
  const int64_t plain = (int64_t)strlen("\"" METADATA_KEY "\""), bytes = name.end - name.begin;
  if (memchr(name.begin, '\\', (size_t)bytes) == NULL) {
    *is = bytes == plain && memcmp(name.begin, "\"" METADATA_KEY "\"", (size_t)plain) == 0;
    return CUMEGA_OK;
  }
  json_t *string;
  TRY(weights_load(p, name, &string));
  *is = strcmp(json_string_value(string), METADATA_KEY) == 0;
  weights_unload(p, name, string);
  return CUMEGA_OK;
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
    if (json_typeof(dimension) != JSON_INTEGER)
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

static cumega_status parse_offsets(const parse *p, const char *name, json_t *offsets,
                                   int64_t *begin, int64_t *end) {
  json_int_t first, last;
  if (json_unpack(offsets, "[II!]", &first, &last) != 0)
    return refuse_tensor(p, name, "has no data_offsets (an array of two integers)");
  *begin = first;
  *end = last;
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

/* The offsets must span shape times type. A type that cumega has no name for has any size. */
static cumega_status check_size(const parse *p, const char *name, const weights_type *type,
                                const weights_tensor *tensor, int64_t elements) {
  const cumega_weights_entry *entry = &tensor->entry;
  char shape[WEIGHTS_QUOTE] = "of many dimensions";
  if (entry->ndim >= 0) weights_quote_shape(shape, entry->ndim, entry->shape);
  int64_t bits;
  if (__builtin_mul_overflow(elements, (int64_t)type->bits, &bits))
    return refuse_tensor(p, name, "has more bits than 64 bits can count: %s %s", type->name,
                         shape);
  if (bits % 8 != 0)
    return refuse_tensor(p, name, "does not end at a whole byte: %s %s has %" PRId64 " bits",
                         type->name, shape, bits);
  if (bits / 8 != entry->bytes)
    return refuse_tensor(p, name,
                         "spans bytes %" PRId64 " .. %" PRId64 " but %s %s needs %" PRId64,
                         tensor->begin, tensor->begin + entry->bytes, type->name, shape, bits / 8);
  return CUMEGA_OK;
}

static cumega_status check_keys(const parse *p, const char *name, json_t *info) {
  char quoted[WEIGHTS_QUOTE];
  for (void *at = json_object_iter(info); at != NULL; at = json_object_iter_next(info, at)) {
    const char *key = json_object_iter_key(at);
    if (strcmp(key, "dtype") != 0 && strcmp(key, "shape") != 0 && strcmp(key, "data_offsets") != 0)
      return refuse_tensor(p, name, "has a key that the format has not: '%s'",
                           weights_quote(quoted, key));
  }
  return CUMEGA_OK;
}

/* info: an object. */
static cumega_status parse_description(parse *p, json_t *info, weights_tensor *tensor) {
  cumega_weights_entry *entry = &tensor->entry;
  const char *name = entry->name;
  int64_t elements = 0, end = 0;
  TRY(check_keys(p, name, info));
  const char *dtype_name = json_string_value(json_object_get(info, "dtype"));
  if (dtype_name == NULL) return refuse_tensor(p, name, "has no dtype (a string)");
  TRY(parse_shape(p, name, json_object_get(info, "shape"), entry, &elements));
  TRY(parse_offsets(p, name, json_object_get(info, "data_offsets"), &tensor->begin, &end));
  entry->bytes = end - tensor->begin;
  entry->dtype_name = keep_text(p, dtype_name);
  entry->dtype.lanes = 1;
  const weights_type *type = weights_type_named(dtype_name);
  if (type == NULL) return CUMEGA_OK;
  if (entry->ndim >= 0) entry->dtype = type->dtype;
  return check_size(p, name, type, tensor, elements);
}

static cumega_status parse_tensor(parse *p, const weights_member *member, weights_tensor *tensor) {
  json_t *info;
  int64_t bytes = member->value.end - member->value.begin;
  TRY(keep_string(p, member->name, &tensor->entry.name));
  if (*member->value.begin != '{')
    return refuse_tensor(p, tensor->entry.name, "is not described by an object");
  if (bytes > CUMEGA_WEIGHTS_DESCRIPTION_LIMIT)
    return refuse_tensor(p, tensor->entry.name,
                         "is described by %" PRId64 " bytes, more than the %d allowed", bytes,
                         CUMEGA_WEIGHTS_DESCRIPTION_LIMIT);
  TRY(weights_load(p, member->value, &info));
  cumega_status status = parse_description(p, info, tensor);
  weights_unload(p, member->value, info);
  return status;
}

static cumega_status parse_pair(parse *p, const weights_member *member, cumega_metadata *pair) {
  char quoted[WEIGHTS_QUOTE];
  TRY(keep_string(p, member->name, &pair->key));
  if (*member->value.begin == '"') return keep_string(p, member->value, &pair->value);
  return weights_fail(p->ctx, CUMEGA_ERROR_FORMAT, p->path,
                      "the value of its metadata '%s' is not a string",
                      weights_quote(quoted, pair->key));
}

/* How many there are, by structure alone. */
typedef struct counts {
  int64_t tensors, pairs;
} counts;

static cumega_status count_pairs(const parse *p, weights_piece value, counts *n) {
  weights_object object = {.at = value.begin, .end = value.end};
  weights_member member;
  int there;
  if (*value.begin != '{')
    return weights_fail(p->ctx, CUMEGA_ERROR_FORMAT, p->path,
                        "its " METADATA_KEY " is not an object of strings");
  for (;;) {
    TRY(next_member(p, &object, &member, &there));
    if (!there) return CUMEGA_OK;
    n->pairs++;
  }
}

static cumega_status count_members(const parse *p, weights_object object, counts *n) {
  weights_member member;
  int there, metadata, seen = 0;
  for (;;) {
    TRY(next_member(p, &object, &member, &there));
    if (!there) break;
    TRY(is_metadata(p, member.name, &metadata));
    n->tensors += !metadata;
    if (!metadata) continue;
    if (seen++)
      return weights_fail(p->ctx, CUMEGA_ERROR_FORMAT, p->path,
                          "its " METADATA_KEY " is given twice");
    TRY(count_pairs(p, member.value, n));
  }
  if (object.at == object.end) return CUMEGA_OK;
  return weights_not_json(p, object.at, "expected nothing behind its '}'");
}

/* Allocates the table: one block with the struct, four arrays, then every string. A string with
 * its NUL takes no more than it took in the header with its quotes. The header has room for only
 * so many descriptions, however many names it has: filling stops at the first name without one. */
static cumega_status allocate_table(parse *p, int64_t header_bytes, const counts *n,
                                    cumega_weights **weights) {
  int64_t most = header_bytes / SMALLEST_TENSOR + 1;
  size_t count = (size_t)(n->tensors < most ? n->tensors : most), pairs = (size_t)n->pairs;
  size_t bytes = sizeof **weights + count * (sizeof(weights_tensor) + sizeof(weights_tensor *)) +
                 pairs * (sizeof(cumega_metadata) + sizeof(cumega_metadata *)) +
                 (size_t)header_bytes + strlen(p->path) + 1;
  void *block;
  TRY(call_allocate(p->ctx, (int64_t)bytes, "the table of a weights file", &block));
  memset(block, 0, bytes);
  cumega_weights *w = block;
  w->memory = memory_retain(p->ctx->memory);
  w->block_bytes = (int64_t)bytes;
  w->fd = -1;
  w->tensors = (weights_tensor *)(w + 1);
  w->by_name = (const weights_tensor **)(w->tensors + count);
  w->metadata = (cumega_metadata *)(w->by_name + count);
  w->by_key = (const cumega_metadata **)(w->metadata + pairs);
  p->text = (char *)(w->by_key + pairs);
  w->path = keep_text(p, p->path);
  *weights = w;
  return CUMEGA_OK;
}

static cumega_status fill_metadata(parse *p, weights_piece value, cumega_weights *weights) {
  weights_object object = {.at = value.begin, .end = value.end};
  weights_member member;
  while (weights_next_member(&object, &member) > 0) { /* pass 1 has been to the end */
    TRY(parse_pair(p, &member, &weights->metadata[weights->metadata_count]));
    weights->metadata_count++;
  }
  return CUMEGA_OK;
}

static cumega_status fill_table(parse *p, weights_object object, cumega_weights *weights) {
  weights_member member;
  int metadata;
  while (weights_next_member(&object, &member) > 0) { /* as above */
    TRY(is_metadata(p, member.name, &metadata));
    if (metadata) {
      TRY(fill_metadata(p, member.value, weights));
      continue;
    }
    weights_tensor *tensor = &weights->tensors[weights->count];
    tensor->position = weights->count;
    TRY(parse_tensor(p, &member, tensor));
    weights->count++;
  }
  return CUMEGA_OK;
}

static int compare_places(const void *left, const void *right) {
  const weights_tensor *a = left, *b = right;
  if (a->begin != b->begin) return a->begin < b->begin ? -1 : 1;
  if (a->entry.bytes != b->entry.bytes) return a->entry.bytes < b->entry.bytes ? -1 : 1;
  return (a->position > b->position) - (a->position < b->position);
}

static int compare_names(const void *left, const void *right) {
  const weights_tensor *const *a = left, *const *b = right;
  return strcmp((*a)->entry.name, (*b)->entry.name);
}

static int compare_keys(const void *left, const void *right) {
  const cumega_metadata *const *a = left, *const *b = right;
  return strcmp((*a)->key, (*b)->key);
}

/* In sorted order, a name that is given twice is its own neighbour. */
static cumega_status check_names(const parse *p, cumega_weights *w) {
  char quoted[WEIGHTS_QUOTE];
  for (int64_t i = 0; i < w->count; i++) w->by_name[i] = &w->tensors[i];
  for (int64_t i = 0; i < w->metadata_count; i++) w->by_key[i] = &w->metadata[i];
  qsort(w->by_name, (size_t)w->count, sizeof *w->by_name, compare_names);
  qsort(w->by_key, (size_t)w->metadata_count, sizeof *w->by_key, compare_keys);
  for (int64_t i = 1; i < w->count; i++)
    if (compare_names(&w->by_name[i - 1], &w->by_name[i]) == 0)
      return refuse_tensor(p, w->by_name[i]->entry.name, "is described twice");
  for (int64_t i = 1; i < w->metadata_count; i++)
    if (compare_keys(&w->by_key[i - 1], &w->by_key[i]) == 0)
      return weights_fail(p->ctx, CUMEGA_ERROR_FORMAT, p->path, "its metadata '%s' is given twice",
                          weights_quote(quoted, w->by_key[i]->key));
  return CUMEGA_OK;
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
  parse p = {ctx, path, header, data_bytes, NULL};
  cumega_weights *w = NULL;
  weights_object object;
  counts n = {0, 0};
  TRY(find_object(&p, header_bytes, &object));
  TRY(count_members(&p, object, &n));
  TRY(allocate_table(&p, header_bytes, &n, &w));
  cumega_status status = fill_table(&p, object, w);
  if (status != CUMEGA_OK) goto done;
  qsort(w->tensors, (size_t)w->count, sizeof *w->tensors, compare_places);
  status = check_names(&p, w);
  if (status != CUMEGA_OK) goto done;
  status = check_places(&p, w);
  if (status != CUMEGA_OK) goto done;
  *weights = w;
  w = NULL;

done:
  if (w != NULL) {
    memory_free(ctx->memory, w, w->block_bytes);
    memory_release(ctx->memory);
  }
  return status;
}
