#include "ema_oracle.h"
#include <math.h>
#include <stdlib.h>

static long double sigmoid(long double a) {
  return 1.0L / (1.0L + expl(-a));
}

ema_oracle_pair ema_oracle_coefficients(double damping, double decay) {
  ema_oracle_pair pair;
  pair.p = sigmoid(damping);
  pair.one_minus_q = pair.p * sigmoid(decay);
  pair.q = sigmoid(-(long double)damping) + pair.p * sigmoid(-(long double)decay);
  return pair;
}

double ema_oracle_least_decay(const ema_oracle *ema, int64_t d) {
  long double least = 1.0L;
  for (int64_t n = 0; n < ema->heads; n++) {
    int64_t i = d * ema->heads + n;
    long double one_minus_q = ema_oracle_coefficients(ema->damping[i], ema->decay[i]).one_minus_q;
    if (one_minus_q < least) least = one_minus_q;
  }
  return (double)least;
}

/* q^l through log1p, because a rounding of q itself would be amplified l times. */
static long double power(ema_oracle_pair pair, int64_t l) {
  if (l == 0) return 1.0L;
  long double log_q = pair.q > 0.5L ? log1pl(-pair.one_minus_q) : logl(pair.q);
  return expl((long double)l * log_q);
}

static long double scaling(const ema_oracle *ema) {
  return sqrtl(1.0L / (long double)ema->heads);
}

long double ema_oracle_kernel(const ema_oracle *ema, int64_t d, int64_t l, long double *magnitude) {
  long double sum = 0.0L, size = 0.0L;
  for (int64_t n = 0; n < ema->heads; n++) {
    int64_t i = d * ema->heads + n;
    ema_oracle_pair pair = ema_oracle_coefficients(ema->damping[i], ema->decay[i]);
    long double term =
        scaling(ema) * ema->projection[i] * pair.p * ema->expansion[i] * power(pair, l);
    sum += term;
    size += fabsl(term);
  }
  if (magnitude != NULL) *magnitude = size;
  return sum;
}

/* x~: masked steps count as zero, whatever they hold. */
static long double seen(const double *x, const unsigned char *mask, int64_t t) {
  return mask != NULL && mask[t] ? 0.0L : (long double)x[t];
}

void ema_oracle_recur(const ema_oracle *ema, int64_t d, int64_t length, const double *x,
                      const unsigned char *mask, ema_oracle_state state, long double *e,
                      long double *magnitude) {
  for (int64_t t = 0; t < length; t++) {
    if (e != NULL) e[t] = 0.0L;
    if (magnitude != NULL) magnitude[t] = 0.0L;
  }
  for (int64_t n = 0; n < ema->heads; n++) {
    int64_t i = d * ema->heads + n;
    ema_oracle_pair pair = ema_oracle_coefficients(ema->damping[i], ema->decay[i]);
    long double gain = pair.p * ema->expansion[i], projection = scaling(ema) * ema->projection[i];
    for (int64_t t = 0; t < length; t++) {
      long double input = gain * seen(x, mask, t);
      state.h[n] = pair.q * state.h[n] + input;
      state.magnitude[n] = pair.q * state.magnitude[n] + fabsl(input);
      if (e != NULL) e[t] += projection * state.h[n];
      if (magnitude != NULL) magnitude[t] += fabsl(projection) * state.magnitude[n];
    }
  }
}

void ema_oracle_truncated(const ema_oracle *ema, int64_t d, int64_t truncation, int64_t length,
                          const double *x, const unsigned char *mask, long double *e,
                          long double *magnitude) {
  int64_t taps = truncation < length ? truncation : length;
  long double *kernel = malloc(2 * (size_t)(taps + 1) * sizeof *kernel);
  if (kernel == NULL) abort();
  long double *size = kernel + taps + 1;
  for (int64_t j = 0; j < taps; j++) kernel[j] = ema_oracle_kernel(ema, d, j, &size[j]);
  for (int64_t t = 0; t < length; t++) {
    e[t] = 0.0L;
    magnitude[t] = 0.0L;
    for (int64_t j = 0; j < taps && j <= t; j++) {
      e[t] += kernel[j] * seen(x, mask, t - j);
      magnitude[t] += size[j] * fabsl(seen(x, mask, t - j));
    }
  }
  free(kernel);
}

static long double swish(long double z) {
  return z * sigmoid(z);
}

/* Klambauer et al., "Self-Normalizing Neural Networks" (2017). */
static long double selu(long double z) {
  const long double alpha = 1.67326324235437728481704299167L;
  const long double scale = 1.05070098735548049341933498529L;
  return z > 0.0L ? scale * z : scale * alpha * expm1l(z);
}

static long double smish(const cumega_ema_config *config, long double z) {
  long double alpha = config->smish_alpha > 0.0 ? config->smish_alpha : 1.0;
  long double beta = config->smish_beta > 0.0 ? config->smish_beta : 1.0;
  return alpha * z * tanhl(log1pl(sigmoid(beta * z)));
}

static long double ftswish(const cumega_ema_config *config, long double z) {
  long double v = swish(z) + config->ftswish_threshold;
  return (v >= 0.0L ? v : (long double)config->ftswish_threshold) - config->ftswish_mean_shift;
}

static long double hardtanh(const cumega_ema_config *config, long double z) {
  if (z < config->hardtanh_min_val) return config->hardtanh_min_val;
  return z > config->hardtanh_max_val ? config->hardtanh_max_val : z;
}

long double ema_oracle_activation(const cumega_ema_config *config, long double z) {
  switch (config->activation) {
  case CUMEGA_ACTIVATION_IDENTITY: return z;
  case CUMEGA_ACTIVATION_RELU: return z < 0.0L ? 0.0L : z;
  case CUMEGA_ACTIVATION_SWISH:
    return (config->swish_beta > 1.0 ? config->swish_beta : 1.0) * swish(z);
  case CUMEGA_ACTIVATION_TANH: return tanhl(z);
  case CUMEGA_ACTIVATION_LEAKY_RELU: return z < 0.0L ? config->leakyrelu_neg_slope * z : z;
  case CUMEGA_ACTIVATION_HARDTANH: return hardtanh(config, z);
  case CUMEGA_ACTIVATION_SELU: return selu(z);
  case CUMEGA_ACTIVATION_MISH: return z * tanhl(log1pl(expl(z)));
  case CUMEGA_ACTIVATION_SMISH: return smish(config, z);
  case CUMEGA_ACTIVATION_FTSWISH: return ftswish(config, z);
  }
  abort();
}
