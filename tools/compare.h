/* Compares a job's outputs with exact answers.
 *
 * An error is max |out - exact| / max |exact|. */
#ifndef CUMEGA_TOOLS_COMPARE_H
#define CUMEGA_TOOLS_COMPARE_H

#include "operation.h"

typedef struct comparison {
  const char *name;
  double espnet, ours, tolerance; /* espnet is negative if the file has no output of ESPnet */
} comparison;

typedef struct verdict {
  int code;
  int from_float64; /* exact answers were computed in float64 */
  int count;
  comparison outputs[JOB_OUTPUTS];
  int64_t compared; /* values */
  double seconds;
} verdict;

/* Both return an exit code, EXIT_WRONG for an error that is too large. compare_with_answers takes
 * the exact answers of the file, or if it has none at all, does the same as the other. That one
 * runs the same case in float64, on the CPU at the plain level, to get the exact answers. */
int compare_with_answers(const job *j, verdict *v);
int compare_with_float64(const job *j, verdict *v);

#endif
