/* memcpy as the yardstick: the same bytes from the same memory to the same memory, by as many
 * threads as the operation beside it has. */
#ifndef CUMEGA_BENCHMARKS_COPY_H
#define CUMEGA_BENCHMARKS_COPY_H

#include <stddef.h>

#define COPY_MAX_PARTS 2

typedef struct copy_part {
  void *to;
  const void *from;
  size_t bytes;
} copy_part;

typedef struct copier copier;

/* Copies parts[0 .. count-1] whenever copier_run is called; count <= COPY_MAX_PARTS. The threads
 * wait in between. NULL where one could not be made. */
copier *copier_create(int threads, const copy_part *parts, int count);
void copier_destroy(copier *copier);

/* argument is the copier: what `measured` calls. */
void copier_run(void *argument);

#endif
