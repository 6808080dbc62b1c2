/* memcpy as the yardstick: it reads and writes the same number of bytes, with the same number of
 * threads, as the operation that it is compared with. */
#ifndef CUMEGA_BENCHMARKS_COPY_H
#define CUMEGA_BENCHMARKS_COPY_H

#include <stddef.h>

typedef struct copier copier;

/* Copies `bytes` between two blocks of the copier's memory whenever copier_run is called. The
 * threads wait in between. Returns NULL if memory or a thread is missing. */
copier *copier_create(int threads, size_t bytes);
void copier_destroy(copier *copier);

/* argument is the copier: the function for `measured`. */
int copier_run(void *argument);

#endif
