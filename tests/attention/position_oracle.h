/* Position biases and the softmax of attention scores from their definitions, in 113 bits where the
 * compiler has them. Written from the formulas, not from the library: angles are multiplied and
 * reduced as they stand, sums are plain. */
#ifndef CUMEGA_TESTS_POSITION_ORACLE_H
#define CUMEGA_TESTS_POSITION_ORACLE_H

#include <stdint.h>

#if defined(__SIZEOF_FLOAT128__)
__extension__ typedef __float128 oracle_wide;
#else
typedef long double oracle_wide; /* 113 bits on AArch64 */
#endif

/* cos and sin of m * 10000^(-k / pairs). */
void oracle_rotation(int64_t m, int64_t k, int64_t pairs, oracle_wide *cosine, oracle_wide *sine);

/* ESPnet's way, the inner product of two rotated vectors: alpha at position m, beta at n. */
oracle_wide oracle_rotary(const double *alpha, const double *beta, int64_t size, int64_t m,
                          int64_t n);
/* The same by the distance m - n, and the sum of the magnitudes of its terms. */
oracle_wide oracle_rotary_by_distance(const double *alpha, const double *beta, int64_t size,
                                      int64_t distance, double *magnitude);

oracle_wide oracle_exp(oracle_wide x);

#endif
