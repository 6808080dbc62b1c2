/* The answer that is expected, computed apart from the library: what is timed must be right. */
#ifndef CUMEGA_TOOLS_BENCH_EMA_REFERENCE_H
#define CUMEGA_TOOLS_BENCH_EMA_REFERENCE_H

#include "bench.h"

#define BENCH_EMA_CHECKED                                                                          \
  "y and the final states of 7 channels, of as many sequences as 2^23 steps allow, against plain " \
  "loops in double precision"

/* Compares y and the final states with plain loops in double precision, for some of the channels
 * and sequences. *worst becomes the largest error divided by what is allowed there: above 1, or
 * NaN, is a wrong answer. An exit code, not 0 where memory ran out. */
int bench_ema_reference(const bench_settings *set, const job *j, double *worst);

#endif
