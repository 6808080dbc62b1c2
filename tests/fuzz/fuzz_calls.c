/* Bytes as a sequence of calls: objects are made, used and destroyed in any order, with harmful
 * arguments, on a CPU and on emulated CUDA if the build has it. calls.h says how. A new noun
 * needs a file calls_<noun>.c and lines in the table of kinds. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "calls.h"
#ifdef FUZZ_EMULATION
#include <emulation.h>
#endif

#define MOST_CALLS 24
#define MOST_BYTES (64 << 20)

/* The first kinds of contexts and EMAs are in the table more than once, since sequences need them
 * often. The corpus refers to kinds by number: new ones go at the end. */
static const call_kind kinds[] = {
    call_context_create,
    call_context_destroy,
    call_context_misc,
    call_memory,
    call_weights_save,
    call_tensor,
    call_fill,
    call_ema_create,
    call_ema_destroy,
    call_ema_forward,
    call_ema_step,
    call_ema_parameters,
    call_ema_compute,
    call_ema_config,
    call_ema_forward,
    call_ema_create,
    call_position_bias_create,
    call_position_bias_object,
    call_position_bias_forward,
    call_position_bias_scores,
    call_position_bias_scores,
    call_norm_create,
    call_residual_create,
    call_residual_object,
    call_residual_forward,
    call_residual_forward,
    call_residual_gated,
};
#define KINDS      ((int)(sizeof kinds / sizeof *kinds))
#define KINDS_ROOM 64
_Static_assert(sizeof kinds / sizeof *kinds <= KINDS_ROOM, "their numbers would change");

/* ---- memory with the fuzzer's account ---- */

static int64_t allocations_left; /* until one fails; < 0: none fails */
static int64_t bytes_out;

static void *allocate(void *user, size_t bytes, size_t alignment) {
  (void)user;
  if (allocations_left == 0) return NULL;
  if (allocations_left > 0) allocations_left--;
  if (bytes > MOST_BYTES) return NULL;
  void *memory = aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  if (memory != NULL) bytes_out += (int64_t)bytes;
  return memory;
}

static void release(void *user, void *memory, size_t bytes) {
  (void)user;
  bytes_out -= (int64_t)bytes;
  free(memory);
}

/* ---- contexts ---- */

cumega_context *any_context(calls *c) {
  int kind = input_byte(&c->in);
  if (kind >= 252) return NULL;
  cumega_context *chosen = c->contexts[kind % CALLS_CONTEXTS];
  return chosen != NULL ? chosen : c->contexts[0];
}

void call_context_create(calls *c) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  int i = input_below(&c->in, CALLS_CONTEXTS), harm = input_byte(&c->in);
  call_begin(c);
  options.device = c->device;
  if (harm >= 128 && harm < 144) options.device.device_type = (DLDeviceType)input_byte(&c->in);
  if (harm >= 144 && harm < 160) options.device.device_id = (int)input_number(&c->in);
  if (harm >= 160 && harm < 176) options.threads = 1 + input_below(&c->in, 3);
  if (harm >= 176 && harm < 180) options.threads = 1025 + input_byte(&c->in);
  if (harm >= 180 && harm < 188) options.threads = -input_byte(&c->in);
  if (harm >= 188 && harm < 220) options.memory_limit = input_number(&c->in) % 100 * 997;
  if (harm < 188 || harm >= 200) options.allocator = (cumega_allocator){allocate, release, NULL};
  if (harm >= 220 && harm < 224) options.allocator.release = NULL;
  allocations_left = harm >= 224 ? input_byte(&c->in) : -1;
  if (options.memory_limit == 0) options.memory_limit = MOST_BYTES; /* on a device too */
  void *given = any_struct(c, &options, sizeof options, sizeof options);
  cumega_context *made = NULL;
  cumega_status status = cumega_context_create(harm == 255 ? NULL : given, &made);
  call_end(c, made, status);
  MUST((status == CUMEGA_OK) == (made != NULL), "status %d", (int)status);
  if (made == NULL) return;
  /* The default is a CPU context, whose tensors are in other memory. */
  int foreign = strncmp(cumega_context_backend(made), "cuda", 4) == 0;
  if (foreign != (c->device.device_type == kDLCUDA)) {
    cumega_context_destroy(made);
    return;
  }
  cumega_context_destroy(c->contexts[i]);
  c->contexts[i] = made;
}

void call_context_destroy(calls *c) {
  int i = input_below(&c->in, CALLS_CONTEXTS);
  cumega_context_destroy(c->contexts[i]);
  c->contexts[i] = NULL;
}

void call_context_misc(calls *c) {
  cumega_context *ctx = any_context(c);
  cumega_statistics statistics = {.struct_size = sizeof statistics};
  int64_t bytes = input_number(&c->in);
  uint32_t bits;
  cumega_status status;
  call_begin(c);
  switch (input_below(&c->in, 6)) {
  case 0: status = cumega_context_synchronize(ctx); break;
  case 1: status = cumega_context_reserve(ctx, bytes); break;
  case 2:
    status = cumega_context_set_stream(ctx, c->device.device_type == kDLCPU ? ctx : NULL);
    break;
  case 3: status = cumega_context_report(ctx, input_byte(&c->in) < 8 ? NULL : &bits); break;
  case 4: status = cumega_weights_read(ctx, NULL, NULL, NULL, bytes); break;
  default:
    status = cumega_context_statistics(
        ctx, any_struct(c, &statistics, sizeof statistics, sizeof statistics));
  }
  call_end(c, ctx, status);
}

/* The caller's memory, large enough; or a size that no memory has. */
void call_memory(calls *c) {
  cumega_context *ctx = any_context(c);
  int64_t bytes = input_number(&c->in), some = bytes > 0 && bytes < 4096 ? bytes : 1;
  void *pointer = NULL;
  char *host = calloc(1, (size_t)some), *back = calloc(1, (size_t)some);
  MUST(host != NULL && back != NULL, "no memory");
  memset(host, 0x5A, (size_t)some);
  call_begin(c);
  cumega_status status = cumega_memory_allocate(ctx, bytes, &pointer);
  call_end(c, ctx, status);
  MUST(status == CUMEGA_OK || pointer == NULL, "status %d with a pointer", (int)status);
  if (status == CUMEGA_OK && bytes == some) {
    status = cumega_memory_write(ctx, pointer, host, some);
    check_message(ctx, status);
    if (status == CUMEGA_OK) status = cumega_memory_read(ctx, back, pointer, some);
    check_message(ctx, status);
    if (status == CUMEGA_OK) MUST(memcmp(host, back, (size_t)some) == 0, "other bytes came back");
  }
  check_message(ctx, cumega_memory_write(ctx, NULL, host, bytes));
  check_message(ctx, cumega_memory_read(ctx, host, NULL, bytes < 0 ? bytes : -bytes));
  if (ctx != NULL) check_message(ctx, cumega_memory_release(ctx, pointer, bytes));
  free(host);
  free(back);
}

/* ---- what needs no device ---- */

void call_weights_save(calls *c) {
  static const char *const names[] = {"a",        "b.c",     "__metadata__",       "",
                                      "\xFF\xFE", "a\"\\\n", "gr\xC3\xB6\xC3\x9F", "a"};
  cumega_context *ctx = any_context(c);
  cumega_named_tensor named[3];
  cumega_metadata metadata[2];
  char path[64];
  snprintf(path, sizeof path, "/tmp/cumega-fuzz-%ld-c", (long)getpid());
  call_begin(c);
  int count = input_below(&c->in, 4), pairs = input_below(&c->in, 3);
  for (int i = 0; i < count; i++) {
    wanted like = {cumega_float32, 1 + input_below(&c->in, 3), {2, 3, 2}};
    int kind = input_byte(&c->in);
    named[i].name = kind < 8 ? NULL : kind < 200 ? names[i] : names[kind % 8];
    named[i].tensor = any_tensor(c, &like, 0, 1);
  }
  for (int i = 0; i < pairs; i++)
    metadata[i] = (cumega_metadata){names[input_below(&c->in, 8)], names[input_below(&c->in, 8)]};
  int64_t claimed = input_byte(&c->in) < 8 ? -1 - input_byte(&c->in) : count;
  cumega_status status = cumega_weights_save(ctx, input_byte(&c->in) < 8 ? NULL : path, named,
                                             claimed, metadata, pairs);
  call_end(c, ctx, status);
  MUST(access(path, F_OK) != 0 || status == CUMEGA_OK, "a failed save left a file");
  unlink(path);
}

void call_tensor(calls *c) {
  cumega_tensor tensor, view;
  int64_t shape[CUMEGA_MAX_DIMS];
  int order[CUMEGA_MAX_DIMS], ndim = (int)input_number(&c->in);
  for (int i = 0; i < CUMEGA_MAX_DIMS; i++) {
    shape[i] = input_number(&c->in);
    order[i] = input_byte(&c->in) < 200 ? i : (int)input_number(&c->in);
  }
  DLTensor *made = cumega_tensor_init(&tensor, NULL, c->device, cumega_float32, ndim, shape);
  DLTensor *turned = cumega_tensor_permute(&view, made, order);
  MUST(turned == NULL || turned->ndim == ndim, "a view of %d dimensions", (int)turned->ndim);
}

/* Small floats, small integers, or the input's bytes. */
void call_fill(calls *c) {
  block *b = &c->blocks[input_below(&c->in, CALLS_BLOCKS)];
  int kind = input_below(&c->in, 4), first = input_byte(&c->in), step = input_byte(&c->in);
  char *image = calloc(1, (size_t)b->bytes);
  MUST(image != NULL, "no memory");
  for (int64_t i = 0; i < b->bytes / 8; i++) {
    float real = (float)((int)((first + i * step) & 255) - 128) / 64;
    int32_t small = (int32_t)((first + i * step) & 7) - (kind == 3);
    int64_t number = small;
    if (kind == 0) memcpy(image + 4 * i, &real, 4);
    if (kind == 1) memcpy(image + 4 * i, &small, 4);
    if (kind == 3) memcpy(image + 8 * i, &number, 8);
  }
  if (kind == 2) input_bytes(&c->in, image, b->bytes < 64 ? b->bytes : 64);
  memcpy(b->before, image, (size_t)b->bytes);
  if (c->device.device_type == kDLCPU) {
    memcpy(b->base, image, (size_t)b->bytes);
  } else {
    cumega_context *ctx = calls_device_context();
    cumega_status status = cumega_memory_write(ctx, b->base, image, b->bytes);
    MUST(status == CUMEGA_OK, "%s", cumega_context_message(ctx));
  }
  free(image);
}

/* ---- one input ---- */

cumega_context *calls_device_context(void) {
  static cumega_context *ctx;
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  options.device = (DLDevice){kDLCUDA, 0};
  if (ctx == NULL)
    MUST(cumega_context_create(&options, &ctx) == CUMEGA_OK, "%s", cumega_context_message(NULL));
  return ctx;
}

static const int64_t block_sizes[CALLS_BLOCKS] = {8, 64, 256, 1000, 4096, 4096, 16384};

static void begin_block(block *b, int64_t bytes, int on_device, const float *values) {
  b->bytes = bytes;
  b->before = malloc((size_t)bytes);
  void *base = NULL;
  if (on_device) {
    cumega_context *ctx = calls_device_context();
    MUST(cumega_memory_allocate(ctx, bytes, &base) == CUMEGA_OK, "%s",
         cumega_context_message(ctx));
    MUST(cumega_memory_write(ctx, base, values, bytes) == CUMEGA_OK, "%s",
         cumega_context_message(ctx));
  } else {
    base = malloc((size_t)bytes);
    if (base != NULL) memcpy(base, values, (size_t)bytes);
  }
  b->base = base;
  MUST(base != NULL && b->before != NULL, "no memory");
  memcpy(b->before, values, (size_t)bytes);
}

static void begin(calls *c) {
  float values[4096];
  int on_device = c->device.device_type == kDLCUDA;
  for (int i = 0; i < 4096; i++) values[i] = (float)(i % 13 - 6) / 4;
  for (int i = 0; i < CALLS_BLOCKS; i++) {
    begin_block(&c->host[i], block_sizes[i], 0, values);
    if (on_device)
      begin_block(&c->blocks[i], block_sizes[i], 1, values);
    else
      c->blocks[i] = c->host[i];
  }
  bytes_out = 0;
  allocations_left = -1;
}

static void end(calls *c) {
  int first = input_below(
      &c->in, 2); /* contexts are destroyed before or after the objects made through them */
  for (int i = 0; i < CALLS_CONTEXTS && first; i++) cumega_context_destroy(c->contexts[i]);
  for (int i = 0; i < CALLS_EMAS; i++) cumega_ema_destroy(c->emas[i].ema);
  for (int i = 0; i < CALLS_BIASES; i++) cumega_position_bias_destroy(c->biases[i].bias);
  for (int i = 0; i < CALLS_RESIDUALS; i++) cumega_residual_destroy(c->residuals[i].residual);
  for (int i = 0; i < CALLS_NORMS; i++) cumega_norm_destroy(c->norms[i]);
  for (int i = 0; i < CALLS_CONTEXTS && !first; i++) cumega_context_destroy(c->contexts[i]);
  MUST(bytes_out == 0, "%lld bytes were not given back", (long long)bytes_out);
  for (int i = 0; i < CALLS_BLOCKS; i++) {
    if (c->device.device_type == kDLCUDA) {
      cumega_status status =
          cumega_memory_release(calls_device_context(), c->blocks[i].base, c->blocks[i].bytes);
      MUST(status == CUMEGA_OK, "%s", cumega_context_message(calls_device_context()));
      free(c->blocks[i].before);
    }
    free(c->host[i].base);
    free(c->host[i].before);
  }
#ifdef FUZZ_EMULATION
  const char *text = "";
  MUST(emulation_faults(&text) == 0, "the emulated GPU: %s", text);
#endif
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  calls c = {.in = {data, size}, .device = cumega_cpu};
  int mode = input_byte(&c.in);
#ifdef FUZZ_EMULATION
  if (mode & 1) c.device.device_type = kDLCUDA;
  emulation_set_schedule(mode & 2 ? EMULATION_RANDOM : EMULATION_FIXED, (uint64_t)mode);
#endif
  begin(&c);
  if (!(mode & 4)) call_context_create(&c);
  if (!(mode & 4)) call_ema_create(&c);
  for (int i = 0; i < MOST_CALLS && c.in.left > 0; i++) {
    int kind = input_below(&c.in, KINDS_ROOM);
    if (kind < KINDS) kinds[kind](&c);
  }
  end(&c);
  return 0;
}
