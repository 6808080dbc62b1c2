#define CUMEGA_TESTS_EMA_DEVICE_INSIDE
#include "ema_device.h"
#include <check.h>
#include <stdlib.h>
#include <string.h>

#define TENSORS 9
#define LINE    64

/* On a GPU a kernel that writes beside a tensor is seen by these bytes around it; emulated CUDA
 * sees it by itself, since its allocations are exact. */
#define GUARD 256

int device_is_cuda(void) {
  const char *name = getenv("CUMEGA_TEST_DEVICE");
  return name != NULL && strcmp(name, "cuda") == 0;
}

DLDevice device_of_tests(void) {
  return device_is_cuda() ? (DLDevice){kDLCUDA, 0} : cumega_cpu;
}

/* Some bytes of the host, one tensor's or several that overlap, and their copy. */
typedef struct region {
  char *low, *high;
  char *block; /* on the device */
  int64_t block_bytes, lead;
} region;

typedef struct staging {
  cumega_context *ctx;
  int64_t guard;
  cumega_ema_io io;
  DLTensor tensors[TENSORS];
  region regions[TENSORS]; /* of tensor i; low NULL where it has none of its own */
} staging;

/* The members of io that are tensors, in the order of staging.tensors. */
static void find_members(cumega_ema_io *io, const DLTensor **members[TENSORS]) {
  const DLTensor **found[TENSORS] = {&io->x,
                                     (const DLTensor **)(uintptr_t)&io->y,
                                     &io->mask,
                                     &io->sequence_lengths,
                                     &io->sequence_offsets,
                                     &io->initial_state,
                                     (const DLTensor **)(uintptr_t)&io->final_state,
                                     &io->initial_slots,
                                     &io->final_slots};
  memcpy(members, found, sizeof found);
}

/* The same io with the host's tensors said to be on the device, and the other way round: a test
 * that puts a tensor into the wrong memory space goes on doing so. */
static void relabel(staging *s, const cumega_ema_io *io) {
  const DLTensor **members[TENSORS];
  s->io = *io;
  find_members(&s->io, members);
  for (int i = 0; i < TENSORS; i++) {
    if (*members[i] == NULL) continue;
    int on_host = (*members[i])->device.device_type == kDLCPU;
    s->tensors[i] = **members[i];
    s->tensors[i].device = on_host ? (DLDevice){kDLCUDA, 0} : cumega_cpu;
    *members[i] = &s->tensors[i];
  }
}

/* The bytes that hold a tensor which the library has found in order. */
static region region_of(const DLTensor *tensor) {
  region r = {0};
  int64_t bytes = tensor->dtype.bits / 8, below = 0, above = 0, compact = 1;
  for (int i = tensor->ndim - 1; i >= 0; i--) {
    int64_t n = tensor->shape[i], stride = tensor->strides ? tensor->strides[i] : compact;
    if (n == 0) return r;
    compact *= n;
    *(stride < 0 ? &below : &above) += (n - 1) * stride * bytes;
  }
  r.low = (char *)tensor->data + tensor->byte_offset + below;
  r.high = (char *)tensor->data + tensor->byte_offset + above + bytes;
  return r;
}

/* Regions that share a byte become one, the first of them. */
static void merge(staging *s) {
  for (int again = 1; again;) {
    again = 0;
    for (int i = 0; i < TENSORS; i++)
      for (int j = i + 1; j < TENSORS; j++) {
        region *a = &s->regions[i], *b = &s->regions[j];
        if (!a->low || !b->low || a->high <= b->low || b->high <= a->low) continue;
        if (b->low < a->low) a->low = b->low;
        if (b->high > a->high) a->high = b->high;
        b->low = NULL;
        again = 1;
      }
  }
}

static void must(cumega_context *ctx, cumega_status status) {
  ck_assert_msg(status == CUMEGA_OK, "staging: %s", cumega_context_message(ctx));
}

static void copy_there(staging *s, region *r) {
  void *block = NULL;
  int64_t bytes = r->high - r->low;
  r->lead = s->guard + (int64_t)((uintptr_t)r->low % LINE);
  r->block_bytes = r->lead + bytes + s->guard;
  must(s->ctx, cumega_memory_allocate(s->ctx, r->block_bytes, &block));
  r->block = block;
  char *image = malloc((size_t)r->block_bytes);
  if (image == NULL) abort();
  memset(image, 0xFF, (size_t)r->block_bytes);
  memcpy(image + r->lead, r->low, (size_t)bytes);
  must(s->ctx, cumega_memory_write(s->ctx, block, image, r->block_bytes));
  free(image);
}

static void copy_back(staging *s, region *r) {
  int64_t bytes = r->high - r->low;
  char *image = malloc((size_t)r->block_bytes);
  if (image == NULL) abort();
  must(s->ctx, cumega_memory_read(s->ctx, image, r->block, r->block_bytes));
  for (int64_t i = 0; i < r->block_bytes; i++)
    if (i < r->lead || i >= r->lead + bytes)
      ck_assert_msg((unsigned char)image[i] == 0xFF, "a kernel wrote beside a tensor");
  memcpy(r->low, image + r->lead, (size_t)bytes);
  free(image);
}

static void stage(staging *s) {
  const DLTensor **members[TENSORS];
  find_members(&s->io, members);
  for (int i = 0; i < TENSORS; i++)
    if (*members[i] != NULL) s->regions[i] = region_of(*members[i]);
  merge(s);
  for (int i = 0; i < TENSORS; i++)
    if (s->regions[i].low != NULL) copy_there(s, &s->regions[i]);
  for (int i = 0; i < TENSORS; i++) {
    if (*members[i] == NULL) continue;
    region own = region_of(*members[i]);
    for (int j = 0; j < TENSORS && own.low != NULL; j++) {
      const region *r = &s->regions[j];
      if (r->low == NULL || own.low < r->low || own.high > r->high) continue;
      s->tensors[i].data = r->block + r->lead + ((char *)s->tensors[i].data - r->low);
      break;
    }
  }
}

static void unstage(staging *s) {
  for (int i = 0; i < TENSORS; i++) {
    region *r = &s->regions[i];
    if (r->low == NULL) continue;
    copy_back(s, r);
    must(s->ctx, cumega_memory_release(s->ctx, r->block, r->block_bytes));
  }
}

typedef cumega_status (*run_function)(cumega_context *, const cumega_ema *, const cumega_ema_io *);

/* Memory is touched only where the library finds nothing wrong with the arguments: before, tensors
 * may be anything. The workspace's size is asked with the same checks, and reads no memory. */
static cumega_status run(cumega_context *ctx, const cumega_ema *ema, const cumega_ema_io *io,
                         run_function function, int is_step) {
  const char *backend = cumega_context_backend(ctx);
  if (strncmp(backend, "cuda", 4) != 0 || io == NULL || io->struct_size != sizeof *io)
    return function(ctx, ema, io);
  staging s = {.ctx = ctx, .guard = strcmp(backend, "cuda") == 0 ? GUARD : 0};
  int64_t bytes;
  relabel(&s, io);
  cumega_ema_io probe = s.io;
  if (is_step) probe.raw = 1;
  if (cumega_ema_workspace_size(ctx, ema, &probe, &bytes) != CUMEGA_OK)
    return function(ctx, ema, &s.io);
  stage(&s);
  cumega_status status = function(ctx, ema, &s.io);
  uint32_t met = 0;
  if (status == CUMEGA_OK) {
    must(ctx, cumega_context_report(ctx, &met));
    unstage(&s);
  }
  return met != 0 ? CUMEGA_ERROR_ARGUMENT : status;
}

cumega_status device_ema_forward(cumega_context *ctx, const cumega_ema *ema,
                                 const cumega_ema_io *io) {
  return run(ctx, ema, io, cumega_ema_forward, 0);
}

cumega_status device_ema_step(cumega_context *ctx, const cumega_ema *ema, const cumega_ema_io *io) {
  return run(ctx, ema, io, cumega_ema_step, 1);
}

cumega_status device_ema_workspace_size(cumega_context *ctx, const cumega_ema *ema,
                                        const cumega_ema_io *io, int64_t *bytes) {
  staging s = {.ctx = ctx};
  if (strncmp(cumega_context_backend(ctx), "cuda", 4) != 0 || io == NULL ||
      io->struct_size != sizeof *io)
    return cumega_ema_workspace_size(ctx, ema, io, bytes);
  relabel(&s, io);
  return cumega_ema_workspace_size(ctx, ema, &s.io, bytes);
}
