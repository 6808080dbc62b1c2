/* Host memory with an account. A context and the objects made through it share one: it counts what
 * they hold against the limit, goes through the caller's allocator, and lives until the last of
 * them is gone, so an object may outlive its context. All calls are safe from several threads. */
#ifndef CUMEGA_SRC_MEMORY_H
#define CUMEGA_SRC_MEMORY_H

#include <cumega/context.h>

#define MEMORY_ALIGNMENT 64 /* a cache line, and the widest vector */

typedef struct memory memory;

/* NULL where memory itself cannot be had. allocator is copied; all NULL means the C library's. */
memory *memory_create(const cumega_allocator *allocator, int64_t limit);
memory *memory_retain(memory *m);
void memory_release(memory *m);

/* bytes >= 0, aligned to MEMORY_ALIGNMENT; NULL where the limit or the allocator says no, or bytes
 * is negative. 0 bytes gives a pointer that may be freed and not read. Contents are undefined. */
void *memory_allocate(memory *m, int64_t bytes);
void memory_free(memory *m, void *pointer, int64_t bytes); /* bytes as allocated; NULL is allowed */

/* Memory of other kinds, as a device's, in the same account: charge returns 0 where the limit says
 * no, and bytes have been taken from the account where it does not. */
int memory_charge(memory *m, int64_t bytes);
void memory_discharge(memory *m, int64_t bytes);

int64_t memory_held(const memory *m);
int64_t memory_peak(const memory *m);
int64_t memory_limit(const memory *m); /* 0: none */

#endif
