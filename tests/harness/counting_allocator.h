/* A caller's allocator that keeps its own ledger and fails on demand. Sizes are exact, so that a
 * sanitizer sees the first byte too many. The memory starts as poison, so that no code can rely
 * on zeros. */
#ifndef CUMEGA_TESTS_COUNTING_ALLOCATOR_H
#define CUMEGA_TESTS_COUNTING_ALLOCATOR_H

#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cumega/context.h>

typedef struct counting_allocator {
  _Atomic int64_t calls;  /* how often allocate was called */
  _Atomic int64_t blocks; /* allocated and not yet freed */
  _Atomic int64_t bytes;  /* in these blocks */
  int64_t failing_call;   /* the call, counted from 1, that returns NULL; 0: none */
  int for_ever;           /* not 0: and so does every call after it */
  int misaligned;         /* not 0: pointers are 16 bytes off */
} counting_allocator;

static inline void *counting_allocate(void *user, size_t bytes, size_t alignment) {
  counting_allocator *ledger = user;
  void *pointer = NULL;
  size_t shift = ledger->misaligned ? 16 : 0;
  int64_t call = atomic_fetch_add(&ledger->calls, 1) + 1;
  if (call == ledger->failing_call) return NULL;
  if (ledger->for_ever && ledger->failing_call > 0 && call > ledger->failing_call) return NULL;
  if (posix_memalign(&pointer, alignment, bytes + shift) != 0) return NULL;
  atomic_fetch_add(&ledger->blocks, 1);
  atomic_fetch_add(&ledger->bytes, (int64_t)bytes);
  memset(pointer, 0xa5, bytes + shift);
  return (char *)pointer + shift;
}

static inline void counting_release(void *user, void *pointer, size_t bytes) {
  counting_allocator *ledger = user;
  atomic_fetch_sub(&ledger->blocks, 1);
  atomic_fetch_sub(&ledger->bytes, (int64_t)bytes);
  free((char *)pointer - (ledger->misaligned ? 16 : 0));
}

/* ledger must outlive all memory allocated through it. */
static inline cumega_allocator counting_allocator_of(counting_allocator *ledger) {
  cumega_allocator allocator = {counting_allocate, counting_release, ledger};
  return allocator;
}

#endif
