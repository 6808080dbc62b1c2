#include "device.h"
#include "assertions.h"
#include <stdlib.h>
#include <string.h>

#define LINE 64

/* On a GPU, these bytes around a tensor reveal a kernel that writes outside it. Emulated CUDA
 * finds such writes itself, since its allocations are exact. */
#define GUARD 256

int device_is_cuda(void) {
  const char *name = getenv("CUMEGA_TEST_DEVICE");
  return name != NULL && strcmp(name, "cuda") == 0;
}

DLDevice device_of_tests(void) {
  return device_is_cuda() ? (DLDevice){kDLCUDA, 0} : cumega_cpu;
}

int staging_begin(staging *s, cumega_context *ctx) {
  const char *backend = cumega_context_backend(ctx);
  memset(s, 0, sizeof *s);
  s->ctx = ctx;
  s->guard = strcmp(backend, "cuda") == 0 ? GUARD : 0;
  return strncmp(backend, "cuda", 4) == 0;
}

void staging_add(staging *s, const DLTensor **member) {
  if (*member == NULL) return;
  ck_assert_int_lt(s->count, STAGED_TENSORS);
  DLTensor *tensor = &s->tensors[s->count++];
  int on_host = (*member)->device.device_type == kDLCPU;
  *tensor = **member;
  tensor->device = on_host ? (DLDevice){kDLCUDA, 0} : cumega_cpu;
  *member = tensor;
}

/* The bytes that hold a tensor which the library has accepted. */
static staged_region region_of(const DLTensor *tensor) {
  staged_region r = {0};
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

/* Merges regions that share a byte into the first of them. */
static void merge(staging *s) {
  for (int again = 1; again;) {
    again = 0;
    for (int i = 0; i < s->count; i++)
      for (int j = i + 1; j < s->count; j++) {
        staged_region *a = &s->regions[i], *b = &s->regions[j];
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

static void copy_there(staging *s, staged_region *r) {
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

static void copy_back(staging *s, staged_region *r) {
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

void staging_there(staging *s) {
  staged_region own[STAGED_TENSORS];
  for (int i = 0; i < s->count; i++) s->regions[i] = own[i] = region_of(&s->tensors[i]);
  merge(s);
  for (int i = 0; i < s->count; i++)
    if (s->regions[i].low != NULL) copy_there(s, &s->regions[i]);
  for (int i = 0; i < s->count; i++)
    for (int j = 0; j < s->count && own[i].low != NULL; j++) {
      const staged_region *r = &s->regions[j];
      if (r->low == NULL || own[i].low < r->low || own[i].high > r->high) continue;
      s->tensors[i].data = r->block + r->lead + ((char *)s->tensors[i].data - r->low);
      break;
    }
}

void staging_back(staging *s) {
  for (int i = 0; i < s->count; i++) {
    staged_region *r = &s->regions[i];
    if (r->low == NULL) continue;
    copy_back(s, r);
    must(s->ctx, cumega_memory_release(s->ctx, r->block, r->block_bytes));
  }
}
