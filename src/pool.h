/* A context's thread pool. The caller's thread is one of its threads, so a pool of one creates
 * none. */
#ifndef CUMEGA_SRC_POOL_H
#define CUMEGA_SRC_POOL_H

#include "memory.h"

typedef struct pool pool;

/* One piece of work: index in 0 .. count-1, worker in 0 .. threads-1 (to find its own scratch). */
typedef void (*pool_task)(void *argument, int64_t index, int worker);

/* Returns NULL where memory or a thread is refused; *reason is then a static sentence. threads >=
 * 1. */
pool *pool_create(memory *m, int threads, const char **reason);
void pool_destroy(pool *p); /* NULL is allowed */

/* Runs task for every index, in any order, on all threads, or on the caller's alone without a
 * pool (NULL). Returns when all are done. The pool's own threads run in the default
 * floating-point environment; the caller sets its own. */
void pool_run(pool *p, pool_task task, void *argument, int64_t count);

/* In a forked child, where the threads do not exist: forgets them and releases nothing. */
void pool_abandon(pool *p);

#endif
