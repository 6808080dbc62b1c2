/* Writing weight files: the bytes that the safetensors library would write for the same tensors
 * and metadata. Tensors are sorted by type, widest alignment first, and within a type by name;
 * the header has no spaces except the padding to a multiple of 8 bytes. (That library writes
 * several metadata pairs in random order; here they keep the order given.)
 *
 *   pass 1: check every argument and size; pass 2: sort; pass 3: header, data, rename. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "call.h"
#include "weights_file.h"
#include "trace.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "the format is little-endian, and data is written as it lies in memory");

typedef struct save_item {
  const char *name;
  const DLTensor *tensor;
  const weights_type *type;
  int64_t bytes;
} save_item;

typedef struct save {
  cumega_context *ctx;
  const char *path;
  save_item *items;
  int64_t count;
  const cumega_metadata *metadata;
  int64_t metadata_count;
  const char **names; /* to find duplicates: as long as the larger of both */
} save;

static cumega_status refuse_item(const save *s, const char *name, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static cumega_status refuse_item(const save *s, const char *name, const char *format, ...) {
  char quoted[WEIGHTS_QUOTE], sentence[400];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(sentence, sizeof sentence, format, arguments);
  va_end(arguments);
  return weights_fail(s->ctx, CUMEGA_ERROR_ARGUMENT, s->path, "'%s' %s",
                      weights_quote(quoted, name), sentence);
}

/* Whether a non-empty tensor of so many bytes claims memory past the address space. */
static int reaches_outside(const DLTensor *t, int64_t element, int64_t bytes) {
  uintptr_t address;
  int64_t below = 0, above = t->strides == NULL ? bytes : element, reach;
  int outside = __builtin_add_overflow((uintptr_t)t->data, t->byte_offset, &address);
  for (int i = 0; i < t->ndim && t->strides != NULL; i++) {
    int64_t stride = t->strides[i], *side = stride < 0 ? &below : &above;
    outside |= __builtin_mul_overflow(t->shape[i] - 1, stride, &reach);
    outside |= __builtin_mul_overflow(reach, stride < 0 ? -element : element, &reach);
    outside |= __builtin_add_overflow(*side, reach, side);
  }
  return outside || address < (uintptr_t)below || UINTPTR_MAX - address < (uintptr_t)above;
}

/* The tensor's bytes, with its shape and memory checked. */
static cumega_status check_memory(const save *s, save_item *item) {
  const DLTensor *t = item->tensor;
  if (t->ndim < 0 || t->ndim > CUMEGA_MAX_DIMS)
    return refuse_item(s, item->name, "has %d dimensions; 0 .. %d are possible", (int)t->ndim,
                       CUMEGA_MAX_DIMS);
  if (t->ndim > 0 && t->shape == NULL) return refuse_item(s, item->name, "has no shape (NULL)");
  item->bytes = item->type->bits / 8;
  for (int i = 0; i < t->ndim; i++) {
    if (t->shape[i] < 0)
      return refuse_item(s, item->name, "has a negative dimension %d: %" PRId64, i, t->shape[i]);
    if (__builtin_mul_overflow(item->bytes, t->shape[i], &item->bytes))
      return refuse_item(s, item->name, "has more bytes than 64 bits can count");
  }
  if (item->bytes > 0 && t->data == NULL) return refuse_item(s, item->name, "has no data (NULL)");
  if (item->bytes > 0 && reaches_outside(t, item->type->bits / 8, item->bytes))
    return refuse_item(s, item->name,
                       "reaches outside the address space: data %p, byte_offset %llu", t->data,
                       (unsigned long long)t->byte_offset);
  return CUMEGA_OK;
}

static cumega_status check_item(const save *s, const cumega_named_tensor *given, int64_t i,
                                save_item *item) {
  if (given->name == NULL)
    return weights_fail(s->ctx, CUMEGA_ERROR_ARGUMENT, s->path, "tensors[%" PRId64 "] has no name",
                        i);
  *item = (save_item){given->name, given->tensor, NULL, 0};
  if (!weights_is_utf8(given->name)) return refuse_item(s, given->name, "is not UTF-8");
  if (strcmp(given->name, "__metadata__") == 0)
    return refuse_item(s, given->name, "cannot name a tensor: the format uses it itself");
  if (given->tensor == NULL) return refuse_item(s, given->name, "has no tensor (NULL)");
  DLDevice device = given->tensor->device;
  if (device.device_type != kDLCPU && device.device_type != kDLCUDAHost)
    return refuse_item(s, given->name, "lies on device type %d; only CPU memory (%d, %d) is saved",
                       (int)device.device_type, (int)kDLCPU, (int)kDLCUDAHost);
  DLDataType dtype = given->tensor->dtype;
  item->type = weights_type_of(dtype);
  if (item->type == NULL)
    return refuse_item(s, given->name,
                       "has a type that the format has not: code %d, %d bits, %d lanes",
                       (int)dtype.code, (int)dtype.bits, (int)dtype.lanes);
  return check_memory(s, item);
}

static int compare_strings(const void *left, const void *right) {
  return strcmp(*(const char *const *)left, *(const char *const *)right);
}

/* Sorts s->names, which holds count of them. */
static cumega_status check_distinct(const save *s, int64_t count, const char *what) {
  qsort(s->names, (size_t)count, sizeof *s->names, compare_strings);
  for (int64_t i = 1; i < count; i++)
    if (strcmp(s->names[i - 1], s->names[i]) == 0)
      return refuse_item(s, s->names[i], "is given twice among the %s", what);
  return CUMEGA_OK;
}

static cumega_status check_tensors(save *s, const cumega_named_tensor *tensors) {
  int64_t total = 0;
  for (int64_t i = 0; i < s->count; i++) {
    TRY(check_item(s, &tensors[i], i, &s->items[i]));
    if (__builtin_add_overflow(total, s->items[i].bytes, &total))
      return refuse_item(s, tensors[i].name, "brings the file above 2^63 bytes");
    s->names[i] = tensors[i].name;
  }
  return check_distinct(s, s->count, "tensors");
}

static cumega_status check_metadata(save *s) {
  for (int64_t i = 0; i < s->metadata_count; i++) {
    const cumega_metadata *pair = &s->metadata[i];
    if (pair->key == NULL || pair->value == NULL)
      return weights_fail(s->ctx, CUMEGA_ERROR_ARGUMENT, s->path,
                          "metadata[%" PRId64 "] has no %s (NULL)", i,
                          pair->key == NULL ? "key" : "value");
    if (!weights_is_utf8(pair->key)) return refuse_item(s, pair->key, "is not UTF-8");
    if (!weights_is_utf8(pair->value))
      return refuse_item(s, pair->key, "has a metadata value that is not UTF-8");
    s->names[i] = pair->key;
  }
  return check_distinct(s, s->metadata_count, "metadata");
}

static int compare_items(const void *left, const void *right) {
  const save_item *a = left, *b = right;
  if (a->type != b->type) return a->type->order < b->type->order ? -1 : 1;
  return strcmp(a->name, b->name);
}

static void put_metadata(weights_text *text, const save *s) {
  weights_put(text, "\"__metadata__\":{");
  for (int64_t i = 0; i < s->metadata_count; i++) {
    if (i > 0) weights_put(text, ",");
    weights_put_json(text, s->metadata[i].key);
    weights_put(text, ":");
    weights_put_json(text, s->metadata[i].value);
  }
  weights_put(text, "}");
}

static void put_item(weights_text *text, const save_item *item, int64_t begin) {
  weights_put_json(text, item->name);
  weights_put(text, ":{\"dtype\":\"");
  weights_put(text, item->type->name);
  weights_put(text, "\",\"shape\":[");
  for (int i = 0; i < item->tensor->ndim; i++) {
    if (i > 0) weights_put(text, ",");
    weights_put_number(text, item->tensor->shape[i]);
  }
  weights_put(text, "],\"data_offsets\":[");
  weights_put_number(text, begin);
  weights_put(text, ",");
  weights_put_number(text, begin + item->bytes);
  weights_put(text, "]}");
}

static void put_header(weights_text *text, const save *s) {
  int64_t begin = 0;
  weights_put(text, "{");
  if (s->metadata_count > 0) put_metadata(text, s);
  for (int64_t i = 0; i < s->count; i++) {
    if (i > 0 || s->metadata_count > 0) weights_put(text, ",");
    put_item(text, &s->items[i], begin);
    begin += s->items[i].bytes;
  }
  weights_put(text, "}");
  while (text->length % 8 != 0) weights_put(text, " ");
}

/* The file's first bytes: the header's length, then the header. */
static cumega_status make_header(const save *s, void **header, int64_t *bytes) {
  weights_text text = {NULL, 0};
  put_header(&text, s);
  int64_t length = text.length;
  if (length > CUMEGA_WEIGHTS_HEADER_LIMIT)
    return weights_fail(s->ctx, CUMEGA_ERROR_ARGUMENT, s->path,
                        "its header would have %" PRId64 " bytes; %d are allowed", length,
                        CUMEGA_WEIGHTS_HEADER_LIMIT);
  TRY(call_allocate(s->ctx, 8 + length, "the header of a weights file", header));
  *bytes = 8 + length;
  unsigned char *first = *header;
  for (int i = 0; i < 8; i++) first[i] = (unsigned char)((uint64_t)length >> (8 * i));
  text = (weights_text){(char *)first + 8, 0};
  put_header(&text, s);
  return CUMEGA_OK;
}

/* The number of trailing dimensions that are stored in memory as in the file, and their bytes. */
static int contiguous_tail(const DLTensor *t, int64_t element, int64_t *run) {
  int outer = t->ndim;
  *run = element;
  while (outer > 0 && (t->strides == NULL || t->shape[outer - 1] == 1 ||
                       t->strides[outer - 1] == *run / element))
    *run *= t->shape[--outer];
  return outer;
}

/* In row-major order, one contiguous run after another; index counts the outer dimensions. */
static cumega_status write_tensor(const save_item *item, weights_output *output) {
  const DLTensor *t = item->tensor;
  int64_t index[CUMEGA_MAX_DIMS] = {0}, element = item->type->bits / 8, run;
  if (item->bytes == 0) return CUMEGA_OK;
  int outer = contiguous_tail(t, element, &run);
  const char *at = (const char *)t->data + t->byte_offset;
  for (;;) {
    TRY(weights_output_put(output, at, run));
    int i = outer - 1;
    while (i >= 0 && index[i] == t->shape[i] - 1) {
      at -= index[i] * t->strides[i] * element;
      index[i--] = 0;
    }
    if (i < 0) return CUMEGA_OK;
    at += t->strides[i] * element;
    index[i]++;
  }
}

static cumega_status write_file(const save *s) {
  weights_output output;
  void *header;
  int64_t header_bytes = 0;
  TRY(make_header(s, &header, &header_bytes));
  cumega_status status = weights_output_open(&output, s->ctx, s->path);
  if (status == CUMEGA_OK) status = weights_output_put(&output, header, header_bytes);
  for (int64_t i = 0; i < s->count && status == CUMEGA_OK; i++)
    status = write_tensor(&s->items[i], &output);
  if (status == CUMEGA_OK) status = weights_output_commit(&output);
  weights_output_close(&output);
  memory_free(s->ctx->memory, header, header_bytes);
  return status;
}

static cumega_status check_counts(cumega_context *ctx, const char *path,
                                  const cumega_named_tensor *tensors, int64_t tensor_count,
                                  const cumega_metadata *metadata, int64_t metadata_count) {
  const int64_t limit = CUMEGA_WEIGHTS_HEADER_LIMIT; /* each takes more than a byte of header */
  if (path == NULL) return call_fail_argument(ctx, "path is NULL");
  if (tensor_count < 0 || tensor_count > limit)
    return call_fail_argument(ctx, "tensor_count is %" PRId64 "; 0 .. %" PRId64 " are possible",
                              tensor_count, limit);
  if (metadata_count < 0 || metadata_count > limit)
    return call_fail_argument(ctx, "metadata_count is %" PRId64 "; 0 .. %" PRId64 " are possible",
                              metadata_count, limit);
  if (tensors == NULL && tensor_count > 0)
    return call_fail_argument(ctx, "tensors is NULL, but tensor_count is not 0");
  if (metadata == NULL && metadata_count > 0)
    return call_fail_argument(ctx, "metadata is NULL, but metadata_count is not 0");
  return CUMEGA_OK;
}

cumega_status cumega_weights_save(cumega_context *ctx, const char *path,
                                  const cumega_named_tensor *tensors, int64_t tensor_count,
                                  const cumega_metadata *metadata, int64_t metadata_count) {
  TRACE(ctx, 0);
  TRY(call_enter(ctx));
  TRY(check_counts(ctx, path, tensors, tensor_count, metadata, metadata_count));
  save s = {ctx, path, NULL, tensor_count, metadata, metadata_count, NULL};
  int64_t names = tensor_count > metadata_count ? tensor_count : metadata_count;
  int64_t items_bytes = tensor_count * (int64_t)sizeof(save_item);
  int64_t bytes = items_bytes + names * (int64_t)sizeof(char *);
  void *block;
  TRY(call_allocate(ctx, bytes, "the list of tensors to save", &block));
  s.items = block;
  s.names = (const char **)(s.items + tensor_count);
  cumega_status status = check_tensors(&s, tensors);
  if (status == CUMEGA_OK) status = check_metadata(&s);
  if (status == CUMEGA_OK) {
    qsort(s.items, (size_t)tensor_count, sizeof *s.items, compare_items);
    status = write_file(&s);
  }
  memory_free(ctx->memory, block, bytes);
  return status;
}
