/* A context's threads. The caller's thread is one of them, so a pool of one has no thread of its
 * own. */
#ifndef CUMEGA_SRC_POOL_H
#define CUMEGA_SRC_POOL_H

#include "memory.h"

typedef struct pool pool;

/* One piece of work: index in 0 .. count-1, worker in 0 .. threads-1 (to find its own scratch). */
typedef void (*pool_task)(void *argument, int64_t index, int worker);

/* NULL where memory or a thread cannot be had; *reason is then a static sentence. threads >= 1. */
pool *pool_create(memory *m, int threads, const char **reason);
void pool_destroy(pool *p); /* NULL is allowed */

/* Runs task for every index, in any order, on all threads, or without a pool (NULL) on the caller's
 * alone; returns when all are done. Tasks run in the default floating-point environment on the
 * pool's own threads; the caller sets its own. */
void pool_run(pool *p, pool_task task, void *argument, int64_t count);

/* In a forked child, where the threads do not exist: releases nothing but forgets them. */
void pool_abandon(pool *p);

#endif
