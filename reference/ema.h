/* The multi-head damped EMA from its definition (docs/ema.md): one channel at a time, one step
 * after the other. It has nothing in common with the library but the struct of settings. */
#ifndef REFERENCE_EMA_H
#define REFERENCE_EMA_H

#include <cumega/ema.h>
#include "reference/real.h"

/* The parameters of one channel, (heads) each. With `absolute` every number is replaced by its
 * magnitude. The results are then the sums of |terms|, of which error bounds are multiples. */
typedef struct reference_ema {
  int64_t heads;
  const double *damping, *decay, *expansion, *projection;
  int absolute;
} reference_ema;

typedef struct reference_coefficients {
  real p, q, one_minus_q;
} reference_coefficients;

/* p = sigmoid(damping), q = 1 - p * sigmoid(decay), both without cancellation. */
reference_coefficients reference_ema_coefficients(double damping, double decay);

/* The smallest 1 - q over the heads. */
real reference_ema_least_decay(const reference_ema *ema);

/* The recurrence over `length` steps: h (heads) is the state before the first step and becomes the
 * state after the last; e[t] is the output without residual and activation. mask and e may be
 * NULL. */
void reference_ema_recur(const reference_ema *ema, int64_t length, const double *x,
                         const unsigned char *mask, real *h, real *e);

/* The convolution kernel k[l]: e[t] is the sum of k[l] * x[t - l] over l, from a state of
 * zeros. */
real reference_ema_kernel(const reference_ema *ema, int64_t l);

/* The same sum over the last `truncation` steps only. */
void reference_ema_truncated(const reference_ema *ema, int64_t truncation, int64_t length,
                             const double *x, const unsigned char *mask, real *e);

/* The activation of config, with its arguments: y[t] = activation(e[t] + residual * x[t]). */
real reference_activation(const cumega_ema_config *config, real z);

#endif
