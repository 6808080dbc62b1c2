#include "reference/ema.h"

static real sigmoid(real v) {
  return 1 / (1 + exp(-v));
}

static real taken(const reference_ema *ema, real value) {
  return ema->absolute ? fabs(value) : value;
}

reference_coefficients reference_ema_coefficients(double damping, double decay) {
  reference_coefficients c;
  c.p = sigmoid(damping);
  c.one_minus_q = c.p * sigmoid(decay);
  c.q = sigmoid(-(real)damping) + c.p * sigmoid(-(real)decay);
  return c;
}

real reference_ema_least_decay(const reference_ema *ema) {
  real least = 1;
  for (int64_t n = 0; n < ema->heads; n++)
    least = fmin(least, reference_ema_coefficients(ema->damping[n], ema->decay[n]).one_minus_q);
  return least;
}

/* x~[t]: a masked step counts as zero, whatever its value. */
static real input(const reference_ema *ema, const double *x, const unsigned char *mask,
                  int64_t t) {
  return mask != NULL && mask[t] ? 0 : taken(ema, x[t]);
}

void reference_ema_recur(const reference_ema *ema, int64_t length, const double *x,
                         const unsigned char *mask, real *h, real *e) {
  for (int64_t t = 0; e != NULL && t < length; t++) e[t] = 0;
  for (int64_t n = 0; n < ema->heads; n++) {
    reference_coefficients c = reference_ema_coefficients(ema->damping[n], ema->decay[n]);
    real gain = c.p * taken(ema, ema->expansion[n]);
    real projection = sqrt(1 / (real)ema->heads) * taken(ema, ema->projection[n]);
    h[n] = taken(ema, h[n]);
    for (int64_t t = 0; t < length; t++) {
      h[n] = gain * input(ema, x, mask, t) + c.q * h[n];
      if (e != NULL) e[t] += projection * h[n];
    }
  }
}

/* q^l. A rounding of q itself would be amplified l times, so the logarithm comes from 1 - q. */
static real power(reference_coefficients c, int64_t l) {
  if (l == 0) return 1;
  return exp((real)l * (c.q > (real)0.5 ? log1p(-c.one_minus_q) : log(c.q)));
}

real reference_ema_kernel(const reference_ema *ema, int64_t l) {
  real sum = 0;
  for (int64_t n = 0; n < ema->heads; n++) {
    reference_coefficients c = reference_ema_coefficients(ema->damping[n], ema->decay[n]);
    real gain = c.p * taken(ema, ema->expansion[n]);
    sum += sqrt(1 / (real)ema->heads) * taken(ema, ema->projection[n]) * gain * power(c, l);
  }
  return sum;
}

void reference_ema_truncated(const reference_ema *ema, int64_t truncation, int64_t length,
                             const double *x, const unsigned char *mask, real *e) {
  for (int64_t t = 0; t < length; t++) e[t] = 0;
  for (int64_t l = 0; l < truncation && l < length; l++) {
    real k = reference_ema_kernel(ema, l);
    for (int64_t t = l; t < length; t++) e[t] += k * input(ema, x, mask, t - l);
  }
}
