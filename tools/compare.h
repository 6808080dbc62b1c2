/* What a job's outputs are worth: their distance from exact answers.
 *
 * An error is max |out - exact| / max |exact|. */
#ifndef CUMEGA_TOOLS_COMPARE_H
#define CUMEGA_TOOLS_COMPARE_H

#include "operation.h"

typedef struct comparison {
  const char *name;
  double espnet, ours, tolerance; /* espnet is negative without ESPnet's output */
} comparison;

typedef struct verdict {
  int code;
  int from_float64; /* the exact answer is not the file's */
  int count;
  comparison outputs[JOB_OUTPUTS];
  int64_t compared; /* values */
  double seconds;
} verdict;

/* Both return an exit code: EXIT_WRONG for an error that is too large. The first takes the exact
 * answers of the file, and where it has none at all does as the second: the exact answer is the
 * same case in float64, run on the CPU at the plain level. */
int compare_with_answers(const job *j, verdict *v);
int compare_with_float64(const job *j, verdict *v);

#endif
