/* Bytes as a weight file. A refusal has a status and a message, and leaves nothing behind. A file
 * that opens is read exactly, and is the same after the writer has written it. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "fuzz.h"

#define SMALL_ENTRIES 64

static cumega_context *ctx;
static char saved_path[64], saved_again_path[64];

static void begin(void) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  options.memory_limit = 64 << 20;
  MUST(cumega_context_create(&options, &ctx) == CUMEGA_OK, "%s", cumega_context_message(NULL));
  snprintf(saved_path, sizeof saved_path, "/tmp/cumega-fuzz-%ld-a", (long)getpid());
  snprintf(saved_again_path, sizeof saved_again_path, "/tmp/cumega-fuzz-%ld-b", (long)getpid());
}

static unsigned char *read_whole(const char *path, int64_t *bytes) {
  FILE *file = fopen(path, "rb");
  MUST(file != NULL && fseek(file, 0, SEEK_END) == 0, "%s is not there", path);
  *bytes = ftell(file);
  unsigned char *all = malloc((size_t)*bytes + 1);
  rewind(file);
  MUST(all != NULL && fread(all, 1, (size_t)*bytes, file) == (size_t)*bytes, "%s", path);
  fclose(file);
  return all;
}

/* With too little memory, then the whole tensor, which must be these bytes and nothing after
 * them. */
static void *read_entry(const cumega_weights *weights, const cumega_weights_entry *entry) {
  unsigned char *memory = malloc((size_t)entry->bytes + 1);
  MUST(memory != NULL, "no memory");
  memory[entry->bytes] = 0xA5;
  cumega_status status = cumega_weights_read(ctx, weights, entry, memory, entry->bytes - 1);
  MUST(status == CUMEGA_ERROR_ARGUMENT, "%d", (int)status);
  status = cumega_weights_read(ctx, weights, entry, memory, entry->bytes + 1);
  MUST(status == CUMEGA_OK, "'%s': %s", entry->name, cumega_context_message(ctx));
  MUST(memory[entry->bytes] == 0xA5, "a byte behind '%s' was written", entry->name);
  return memory;
}

/* The tensors lie one after the other and fill the file; each is found by name. */
static void check_entries(const cumega_weights *weights, const uint8_t *data, size_t size) {
  uint64_t header = 0;
  for (int i = 7; i >= 0; i--) header = header << 8 | data[i];
  int64_t at = 8 + (int64_t)header;
  for (int64_t i = 0; i < cumega_weights_count(weights); i++) {
    const cumega_weights_entry *entry = cumega_weights_at(weights, i);
    MUST(cumega_weights_find(weights, entry->name) == entry, "'%s' is not found", entry->name);
    MUST(entry->bytes <= (int64_t)size - at, "'%s' is longer than the file", entry->name);
    void *memory = read_entry(weights, entry);
    MUST(memcmp(memory, data + at, (size_t)entry->bytes) == 0, "'%s' is not exact", entry->name);
    free(memory);
    at += entry->bytes;
  }
  MUST(at == (int64_t)size, "%lld of %zu bytes are accounted for", (long long)at, size);
  for (int64_t i = 0; cumega_weights_metadata_at(weights, i).key != NULL; i++) {
    cumega_metadata pair = cumega_weights_metadata_at(weights, i);
    MUST(cumega_weights_metadata(weights, pair.key) == pair.value, "'%s'", pair.key);
  }
}

/* Saves everything that the writer has types for to path. Returns the number of tensors. */
static int64_t save(const cumega_weights *weights, const char *path) {
  cumega_tensor tensors[SMALL_ENTRIES];
  cumega_named_tensor named[SMALL_ENTRIES];
  cumega_metadata metadata[SMALL_ENTRIES];
  int64_t count = 0, pairs = 0;
  for (int64_t i = 0; i < cumega_weights_count(weights) && count < SMALL_ENTRIES; i++) {
    const cumega_weights_entry *e = cumega_weights_at(weights, i);
    if (e->dtype.bits == 0) continue;
    void *memory = read_entry(weights, e);
    DLTensor *tensor =
        cumega_tensor_init(&tensors[count], memory, cumega_cpu, e->dtype, e->ndim, e->shape);
    if (tensor == NULL) { /* other sizes next to a 0, whose product is too large for a tensor */
      free(memory);
      continue;
    }
    named[count++] = (cumega_named_tensor){e->name, tensor};
  }
  while (pairs < SMALL_ENTRIES && cumega_weights_metadata_at(weights, pairs).key != NULL) {
    metadata[pairs] = cumega_weights_metadata_at(weights, pairs);
    pairs++;
  }
  cumega_status status = cumega_weights_save(ctx, path, named, count, metadata, pairs);
  MUST(status == CUMEGA_OK, "%s", cumega_context_message(ctx));
  for (int64_t i = 0; i < count; i++) free(tensors[i].dl.data);
  return count;
}

/* Saved, opened and saved again: the same bytes, and the same tensors under their names. */
static void check_round_trip(const cumega_weights *weights) {
  cumega_weights *again;
  int64_t count = save(weights, saved_path), bytes, bytes_again;
  cumega_status status = cumega_weights_open(ctx, saved_path, &again);
  MUST(status == CUMEGA_OK, "%s", cumega_context_message(ctx));
  MUST(cumega_weights_count(again) == count, "%lld tensors came back", (long long)count);
  for (int64_t i = 0; i < count; i++) {
    const cumega_weights_entry *b = cumega_weights_at(again, i);
    const cumega_weights_entry *a = cumega_weights_find(weights, b->name);
    MUST(a != NULL && a->bytes == b->bytes && a->ndim == b->ndim, "'%s' changed", b->name);
    MUST(memcmp(a->shape, b->shape, sizeof a->shape) == 0, "'%s' has another shape", b->name);
    MUST(strcmp(a->dtype_name, b->dtype_name) == 0, "'%s' has another type", b->name);
    void *before = read_entry(weights, a), *after = read_entry(again, b);
    MUST(memcmp(before, after, (size_t)a->bytes) == 0, "'%s' has other bytes", b->name);
    free(before);
    free(after);
  }
  save(again, saved_again_path);
  cumega_weights_close(again);
  unsigned char *first = read_whole(saved_path, &bytes);
  unsigned char *second = read_whole(saved_again_path, &bytes_again);
  MUST(bytes == bytes_again && memcmp(first, second, (size_t)bytes) == 0, "other bytes");
  free(first);
  free(second);
  unlink(saved_path);
  unlink(saved_again_path);
}

/* An EMA of the size that the file seems to hold. */
static void check_ema(const cumega_weights *weights) {
  const cumega_weights_entry *e = cumega_weights_find(weights, "damping_factor");
  if (e == NULL || e->ndim < 2 || e->shape[0] > 4096 || e->shape[1] > 4096) return;
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, e->shape[0]);
  config.num_heads = e->shape[1];
  cumega_ema *ema = NULL;
  cumega_status status = cumega_ema_create_from_weights(ctx, weights, NULL, &config, &ema);
  check_message(ctx, status);
  MUST((status == CUMEGA_OK) == (ema != NULL), "status %d", (int)status);
  cumega_ema_destroy(ema);
}

/* A refusal names the file, what is wrong with it, and where: a byte, a size, a tensor or a
 * key. */
static void check_refusal(cumega_status status, const char *sentence) {
  const char *begin = "weights file '", *behind = strstr(sentence, "': ");
  MUST(status == CUMEGA_ERROR_FORMAT || status == CUMEGA_ERROR_RESOURCE, "status %d", (int)status);
  if (status == CUMEGA_ERROR_RESOURCE) return;
  MUST(strncmp(sentence, begin, strlen(begin)) == 0 && behind != NULL, "%s", sentence);
  MUST(strpbrk(behind + 2, "0123456789'") != NULL || strstr(behind, "its __metadata__") != NULL,
       "it does not say where: %s", sentence);
}

int judge(const uint8_t *bytes, size_t count, char *sentence) {
  if (ctx == NULL) begin();
  cumega_weights *weights = (cumega_weights *)&weights; /* must be overwritten */
  int64_t before = bytes_held(ctx);
  cumega_status status = cumega_weights_open(ctx, file_of_bytes(bytes, count), &weights);
  check_message(ctx, status);
  snprintf(sentence, SENTENCE, "%s", cumega_context_message(ctx));
  MUST((status == CUMEGA_OK) == (weights != NULL), "status %d", (int)status);
  if (status == CUMEGA_OK) {
    check_entries(weights, bytes, count);
    check_round_trip(weights);
    check_ema(weights);
  } else {
    check_refusal(status, sentence);
  }
  cumega_weights_close(weights);
  MUST(bytes_held(ctx) == before, "%lld bytes are still held",
       (long long)(bytes_held(ctx) - before));
  return (int)status;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  char sentence[SENTENCE];
  judge(data, size, sentence);
  return 0;
}
