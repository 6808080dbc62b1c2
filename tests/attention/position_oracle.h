/* reference/position_bias.c in 113 bits, if the compiler has them: for a distant position, the
 * product m * theta_k would lose too many of the 64 bits of a long double. */
#ifndef CUMEGA_TESTS_POSITION_ORACLE_H
#define CUMEGA_TESTS_POSITION_ORACLE_H

#include <stdint.h>

#if defined(__SIZEOF_FLOAT128__)
__extension__ typedef __float128 oracle_wide;
#else
typedef long double oracle_wide; /* 113 bits on AArch64 */
#endif

/* As reference/position_bias.h describes them. */
void oracle_rotation(int64_t m, int64_t k, int64_t pairs, oracle_wide *cosine, oracle_wide *sine);
oracle_wide oracle_rotary_bias(const double *alpha, const double *beta, int64_t size, int64_t m,
                               int64_t n);
oracle_wide oracle_relative_bias(const double *weights, int64_t max_positions, int64_t m,
                                 int64_t n);
void oracle_softmax(int64_t keys, const oracle_wide *s, oracle_wide *weights);

/* The sum of the magnitudes of a rotary bias's terms, in the form that uses the distance. */
double oracle_rotary_magnitude(const double *alpha, const double *beta, int64_t size);

oracle_wide oracle_exp(oracle_wide x);

#endif
