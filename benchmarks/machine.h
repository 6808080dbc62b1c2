/* The machine that a result was measured on, for people and for JSON. */
#ifndef CUMEGA_BENCHMARKS_MACHINE_H
#define CUMEGA_BENCHMARKS_MACHINE_H

#include <stdint.h>
#include <stdio.h>
#include <jansson.h>

/* {"cpu", "cpus", "last_cache_bytes", "system", "compiler", "build_type", "cumega", "commit",
 * "date", "load"}. commit is the caller's word for the state of the sources, or NULL; the load is
 * the average of the last minute. NULL where memory ran out. */
json_t *machine_describe(const char *commit);

/* The same in a few lines. */
void machine_print(FILE *out, const json_t *machine);

/* CPU seconds that all other processes have used so far, and that the host took from a virtual
 * machine; divide the growth by the time that passed to know how many CPUs were busy elsewhere.
 * Negative where the system does not say. */
double machine_seconds_elsewhere(void);

/* Bytes of the largest cache that one core sees; 0 where the system does not say. */
int64_t machine_last_cache(void);

#endif
