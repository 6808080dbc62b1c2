/* The answer that is expected, computed apart from the library: what is timed must be right. */
#ifndef CUMEGA_BENCHMARKS_EMA_REFERENCE_H
#define CUMEGA_BENCHMARKS_EMA_REFERENCE_H

#include "ema_run.h"

/* Compares y (and the final state of a step) with plain loops in double precision, for every
 * sequence and some of the channels. *worst becomes the largest error divided by what is allowed
 * there: above 1, or NaN, is a wrong answer. 0 where memory ran out. */
int ema_reference_compare(const ema_run *run, double *worst);

#endif
