/* The account is kept by compare-and-exchange. Bytes are charged before the allocator is called
 * and given back where it refuses, so that threads which allocate at the same time cannot pass
 * the limit together. For a moment memory_held may therefore show another thread an allocation
 * that is about to fail. The peak counts what was really allocated, plus at most such moments of
 * other threads.
 *
 * The account's own struct is allocated and counted like everything else, so the caller's
 * allocator sees every byte, and bytes held are exactly what it has given out. */
#include "memory.h"
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>

/* Pointers into a larger block could not be subtracted. Leaves room for rounding up. */
#define LARGEST_HELD ((int64_t)(PTRDIFF_MAX - MEMORY_ALIGNMENT))

struct memory {
  cumega_allocator allocator;
  int64_t limit;   /* as given */
  int64_t ceiling; /* the limit, or LARGEST_HELD */
  _Atomic int64_t references;
  _Atomic int64_t held;
  _Atomic int64_t peak;
};

static void *library_allocate(void *user, size_t bytes, size_t alignment) {
  (void)user;
  return aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
}

static void library_release(void *user, void *pointer, size_t bytes) {
  (void)user;
  (void)bytes;
  free(pointer);
}

/* Memory that the caller's allocator did not align is given back at once: a refusal with a
 * sentence is better than a fault in the first vector instruction. */
static void *allocate_aligned(const cumega_allocator *allocator, int64_t bytes) {
  void *pointer = allocator->allocate(allocator->user, (size_t)bytes, MEMORY_ALIGNMENT);
  if ((uintptr_t)pointer % MEMORY_ALIGNMENT != 0) { /* NULL is aligned */
    allocator->release(allocator->user, pointer, (size_t)bytes);
    return NULL;
  }
  return pointer;
}

memory *memory_create(const cumega_allocator *allocator, int64_t limit) {
  cumega_allocator chosen = *allocator;
  if (!chosen.allocate) {
    chosen.allocate = library_allocate;
    chosen.release = library_release;
  }
  int64_t ceiling = limit > 0 && limit < LARGEST_HELD ? limit : LARGEST_HELD;
  /* cppcheck-suppress memleak ; `allocate` is a function */
  if ((int64_t)sizeof(memory) > ceiling) return NULL;
  memory *m = allocate_aligned(&chosen, sizeof *m);
  if (!m) return NULL;
  m->allocator = chosen;
  m->limit = limit;
  m->ceiling = ceiling;
  atomic_init(&m->references, 1);
  atomic_init(&m->held, (int64_t)sizeof *m);
  atomic_init(&m->peak, (int64_t)sizeof *m);
  return m;
}

memory *memory_retain(memory *m) {
  atomic_fetch_add_explicit(&m->references, 1, memory_order_relaxed);
  return m;
}

void memory_release(memory *m) {
  if (atomic_fetch_sub_explicit(&m->references, 1, memory_order_acq_rel) != 1) return;
  cumega_allocator allocator = m->allocator;
  allocator.release(allocator.user, m, sizeof *m);
}

/* The bytes held after the charge, or -1 where it would pass the ceiling. */
static int64_t charge(memory *m, int64_t bytes) {
  int64_t held = atomic_load_explicit(&m->held, memory_order_relaxed);
  do {
    if (bytes > m->ceiling - held) return -1;
  } while (!atomic_compare_exchange_weak_explicit(&m->held, &held, held + bytes,
                                                  memory_order_relaxed, memory_order_relaxed));
  return held + bytes;
}

static void raise_peak(memory *m, int64_t held) {
  int64_t peak = atomic_load_explicit(&m->peak, memory_order_relaxed);
  while (held > peak && !atomic_compare_exchange_weak_explicit(
                            &m->peak, &peak, held, memory_order_relaxed, memory_order_relaxed)) {
  }
}

/* An allocator may answer NULL to 0 bytes, so it is always asked for at least 1. */
static int64_t bytes_to_ask(int64_t bytes) {
  return bytes == 0 ? 1 : bytes;
}

void *memory_allocate(memory *m, int64_t bytes) {
  if (bytes < 0) return NULL;
  bytes = bytes_to_ask(bytes);
  int64_t held = charge(m, bytes);
  if (held < 0) return NULL;
  void *pointer = allocate_aligned(&m->allocator, bytes);
  if (pointer)
    raise_peak(m, held);
  else
    atomic_fetch_sub_explicit(&m->held, bytes, memory_order_relaxed);
  return pointer;
}

void memory_free(memory *m, void *pointer, int64_t bytes) {
  if (!pointer) return;
  bytes = bytes_to_ask(bytes);
  m->allocator.release(m->allocator.user, pointer, (size_t)bytes);
  atomic_fetch_sub_explicit(&m->held, bytes, memory_order_relaxed);
}

int memory_charge(memory *m, int64_t bytes) {
  int64_t held = bytes < 0 ? -1 : charge(m, bytes);
  raise_peak(m, held); /* not by -1 */
  return held >= 0;
}

void memory_discharge(memory *m, int64_t bytes) {
  atomic_fetch_sub_explicit(&m->held, bytes, memory_order_relaxed);
}

int64_t memory_held(const memory *m) {
  return atomic_load_explicit(&m->held, memory_order_relaxed);
}

int64_t memory_peak(const memory *m) {
  return atomic_load_explicit(&m->peak, memory_order_relaxed);
}

int64_t memory_limit(const memory *m) {
  return m->limit;
}
