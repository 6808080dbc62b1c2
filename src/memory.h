/* Host memory with an account. A context and the objects made through it share one account. It
 * counts what they hold against the limit, goes through the caller's allocator, and exists until
 * the last of them is gone, so an object may outlive its context. All functions may be called by
 * several threads at once. */
#ifndef CUMEGA_SRC_MEMORY_H
#define CUMEGA_SRC_MEMORY_H

#include <cumega/context.h>

#define MEMORY_ALIGNMENT 64 /* a cache line, and the widest vector */

typedef struct memory memory;

/* Returns NULL where the account itself cannot be allocated. allocator is copied; all NULL means
 * the C library's. */
memory *memory_create(const cumega_allocator *allocator, int64_t limit);
memory *memory_retain(memory *m);
void memory_release(memory *m);

/* bytes >= 0. The memory is aligned to MEMORY_ALIGNMENT. Returns NULL where the limit or the
 * allocator refuses, or bytes is negative. 0 bytes gives a pointer that may be freed but not
 * read. Contents are undefined. */
void *memory_allocate(memory *m, int64_t bytes);
void memory_free(memory *m, void *pointer,
                 int64_t bytes); /* bytes as allocated; NULL is allowed */

/* Charges memory that is not the host's, as a device's, to the same account. memory_charge
 * returns 0 where that would pass the limit, and charges nothing. */
int memory_charge(memory *m, int64_t bytes);
void memory_discharge(memory *m, int64_t bytes);

int64_t memory_held(const memory *m);
int64_t memory_peak(const memory *m);
int64_t memory_limit(const memory *m); /* 0: none */

#endif
