/* The damped EMA straight from its definitions, in long double, for tests. It shares nothing with
 * the library but the settings struct: sigmoids by expl, the recurrence step by step, a truncated
 * sum as a sum, and one number per result that says how large the terms were.
 *
 * Precision: x87 long double has 64 bits. The recurrence's own error follows the bounds that the
 * tests state for the library with 2^-64 in the place of 2^-24 or 2^-53, so it is at most 2^-11 of
 * any tolerance here; __float128 would buy nothing. */
#ifndef CUMEGA_TESTS_EMA_ORACLE_H
#define CUMEGA_TESTS_EMA_ORACLE_H

#include <cumega/ema.h>

/* Parameters as exact numbers, row-major (channels, heads); residual (channels). */
typedef struct ema_oracle {
  int64_t channels, heads;
  const double *damping, *decay, *expansion, *projection, *residual;
} ema_oracle;

typedef struct ema_oracle_pair {
  long double p, q, one_minus_q;
} ema_oracle_pair;

/* p = sigmoid(damping), q = 1 - p * sigmoid(decay), without cancellation. */
ema_oracle_pair ema_oracle_coefficients(double damping, double decay);

/* The least 1 - q over the heads of channel d. */
double ema_oracle_least_decay(const ema_oracle *ema, int64_t d);

/* k[d, l]; *magnitude, where not NULL: the sum over heads of |term|. */
long double ema_oracle_kernel(const ema_oracle *ema, int64_t d, int64_t l, long double *magnitude);

/* The state of one channel of one sequence, (heads) each: h, and the same recurrence over absolute
 * values, which starts from |h|. */
typedef struct ema_oracle_state {
  long double *h, *magnitude;
} ema_oracle_state;

/* Channel d over `length` steps from `state`, which it moves on. mask may be NULL. e[t] without
 * residual and activation; magnitude[t] is the sum over heads and steps of |k| |x|, the state's
 * part included. Either may be NULL. */
void ema_oracle_recur(const ema_oracle *ema, int64_t d, int64_t length, const double *x,
                      const unsigned char *mask, ema_oracle_state state, long double *e,
                      long double *magnitude);

/* The same from a zero state with the last `truncation` steps only, as a direct sum. */
void ema_oracle_truncated(const ema_oracle *ema, int64_t d, int64_t truncation, int64_t length,
                          const double *x, const unsigned char *mask, long double *e,
                          long double *magnitude);

/* The activation that config names, with its arguments. */
long double ema_oracle_activation(const cumega_ema_config *config, long double z);

#endif
