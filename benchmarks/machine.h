/* The machine that a result was measured on, for readers and as JSON. */
#ifndef CUMEGA_BENCHMARKS_MACHINE_H
#define CUMEGA_BENCHMARKS_MACHINE_H

#include <stdint.h>
#include <stdio.h>
#include <jansson.h>

/* {"cpu", "cpus", "last_cache_bytes", "system", "compiler", "build_type", "cumega", "commit",
 * "date", "load"}. commit is the caller's name for the state of the sources, or NULL; the load is
 * the average of the last minute. Returns NULL if memory runs out. */
json_t *machine_describe(const char *commit);

/* The same in a few lines. */
void machine_print(FILE *out, const json_t *machine);

/* CPU seconds that all other processes have used so far, and that the host took from a virtual
 * machine. Divided by the elapsed time, its growth is the number of CPUs that were busy
 * elsewhere. Negative if the system does not say. */
double machine_seconds_elsewhere(void);

/* The size in bytes of the largest cache that one core uses; 0 if the system does not say. */
int64_t machine_last_cache(void);

#endif
