/* memcpy as the yardstick: as many bytes read and written, by as many threads, as the operation
 * beside it has. */
#ifndef CUMEGA_BENCHMARKS_COPY_H
#define CUMEGA_BENCHMARKS_COPY_H

#include <stddef.h>

typedef struct copier copier;

/* Copies `bytes` from memory of its own to memory of its own whenever copier_run is called. The
 * threads wait in between. NULL where memory or a thread could not be had. */
copier *copier_create(int threads, size_t bytes);
void copier_destroy(copier *copier);

/* argument is the copier: what `measured` calls. */
int copier_run(void *argument);

#endif
