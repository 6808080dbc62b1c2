/* The EMA as docs/ema.md has it, one channel at a time, with libm and in double.
 *
 * What may differ. With u = 2^-53 for float64 states and 2^-24 otherwise, the library's e is within
 * (8 + 1 / min(1 - q)) u M of the exact one, where M is the same sum over magnitudes, sum of
 * |kernel| |x|; a state is within the same bound of its own chain. Where u is 2^-53 this reference
 * is no more exact than the library, and the bound counts twice. The residual adds a rounding of
 * |w x|, which M includes. The activation is then met somewhere in v - error .. v + error; it is
 * evaluated at both ends and in the middle, so a jump (ftswish) is no error. It is computed in
 * float64 where x is, else in float32, whatever the state is: a rounding of v and a handful of
 * operations, each within two units in the last place of something not above max(|v|, 1), 16 u
 * together. The store rounds to x's type, with an absolute 2^-25 where float16 is subnormal. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "ema_reference.h"
#include "values.h"

#define SAMPLES 7 /* channels, the first and the last among them */

typedef struct parameters {
  double *damping, *decay, *expansion, *projection; /* (D, N) */
  double *residual;                                 /* (D) */
} parameters;

/* One channel's coefficients, and the chains of one sequence with their magnitudes. */
typedef struct channel {
  int64_t heads;
  double *gain, *q, *projection, *h, *magnitude; /* (N) each */
  double residual, allowed;                      /* (8 + 1 / min(1 - q)) u */
} channel;

static double sigmoid(double v) {
  return 1 / (1 + exp(-v));
}

/* ESPnet's functions with their default arguments. */
static double activate(cumega_activation activation, double v) {
  const double scale = 1.0507009873554804934, alpha = 1.6732632423543772848;
  double swish = v * sigmoid(v) - 0.2;
  switch (activation) {
  case CUMEGA_ACTIVATION_IDENTITY: return v;
  case CUMEGA_ACTIVATION_RELU: return v > 0 ? v : 0;
  case CUMEGA_ACTIVATION_SWISH: return v * sigmoid(v);
  case CUMEGA_ACTIVATION_TANH: return tanh(v);
  case CUMEGA_ACTIVATION_LEAKY_RELU: return v > 0 ? v : 0.01 * v;
  case CUMEGA_ACTIVATION_HARDTANH: return v < -1 ? -1 : v > 1 ? 1 : v;
  case CUMEGA_ACTIVATION_SELU: return scale * (v > 0 ? v : alpha * expm1(v));
  case CUMEGA_ACTIVATION_MISH: return v * tanh(log1p(exp(v)));
  case CUMEGA_ACTIVATION_SMISH: return v * tanh(log1p(sigmoid(v)));
  case CUMEGA_ACTIVATION_FTSWISH: return swish >= 0 ? swish : -0.2;
  }
  return NAN;
}

/* All five in one piece, which begins at damping; 0 where memory ran out or the call failed. */
static int read_parameters(const ema_run *run, parameters *p) {
  int64_t D = run->set.channels, N = run->set.heads, all = D * N;
  const int64_t two[] = {D, N}, one[] = {D};
  cumega_tensor tensors[5];
  p->damping = malloc((size_t)(4 * all + D) * sizeof(double));
  if (p->damping == NULL) return 0;
  p->decay = p->damping + all;
  p->expansion = p->decay + all;
  p->projection = p->expansion + all;
  p->residual = p->projection + all;
  double *memory[] = {p->damping, p->decay, p->expansion, p->projection, p->residual};
  for (int i = 0; i < 5; i++)
    cumega_tensor_init(&tensors[i], memory[i], cumega_cpu, cumega_float64, i < 4 ? 2 : 1,
                       i < 4 ? two : one);
  const cumega_ema_parameters wanted = {sizeof wanted,  &tensors[0].dl, &tensors[1].dl,
                                        &tensors[2].dl, &tensors[3].dl, &tensors[4].dl};
  return cumega_ema_get_parameters(run->ctx, run->ema, &wanted) == CUMEGA_OK;
}

static void begin_channel(const ema_run *run, const parameters *p, int64_t d, channel *c) {
  double least = 1, u = value_roundoff(run->set.state_dtype);
  for (int64_t n = 0; n < c->heads; n++) {
    int64_t i = d * c->heads + n;
    double damping = sigmoid(p->damping[i]), one_minus_q = damping * sigmoid(p->decay[i]);
    c->gain[n] = damping * p->expansion[i];
    c->q[n] = 1 - one_minus_q;
    c->projection[n] = sqrt(1.0 / (double)c->heads) * p->projection[i];
    if (one_minus_q < least) least = one_minus_q;
  }
  c->residual = p->residual[d];
  c->allowed = (8 + 1 / least) * u * (u == 0x1p-53 ? 2 : 1);
}

static void begin_sequence(const ema_run *run, int64_t b, int64_t d, channel *c) {
  for (int64_t n = 0; n < c->heads; n++) {
    int64_t i = (b * run->set.channels + d) * c->heads + n;
    c->h[n] = run->set.step ? value_read(run->set.state_dtype, run->initial, i) : 0;
    c->magnitude[n] = fabs(c->h[n]);
  }
}

static double max_of(double a, double b) {
  return isnan(a) || a > b ? a : b;
}

/* The error of y beyond which it is wrong, as a share of it. */
static double share_of_y(const ema_run *run, const channel *c, double x, double y) {
  double v = c->residual * x, size = fabs(v), u = run->set.dtype.bits == 64 ? 0x1p-53 : 0x1p-24;
  for (int64_t n = 0; n < c->heads; n++) {
    v += c->projection[n] * c->h[n];
    size += fabs(c->projection[n]) * c->magnitude[n];
  }
  double error = c->allowed * size;
  double middle = activate(run->set.activation, v);
  double low = activate(run->set.activation, v - error), high = low;
  double others[] = {middle, activate(run->set.activation, v + error)};
  for (int i = 0; i < 2; i++) {
    low = fmin(low, others[i]);
    high = fmax(high, others[i]);
  }
  double store = value_roundoff(run->set.dtype);
  double slack = error + 16 * u * fmax(fabs(v), 1) + store * fabs(y) * (1 + store) +
                 (store == 0x1p-11 ? 0x1p-25 : 0);
  return max_of(low - y, y - high) / slack;
}

/* The same for the states that a step leaves. */
static double share_of_state(const ema_run *run, const channel *c, int64_t b, int64_t d) {
  double worst = 0;
  for (int64_t n = 0; n < c->heads; n++) {
    int64_t i = (b * run->set.channels + d) * c->heads + n;
    double got = value_read(run->set.state_dtype, run->final, i);
    worst = max_of(fabs(got - c->h[n]) / (c->allowed * c->magnitude[n]), worst);
  }
  return worst;
}

static double share_of_sequence(const ema_run *run, channel *c, int64_t b, int64_t d) {
  double worst = 0;
  begin_sequence(run, b, d, c);
  for (int64_t t = 0; t < ema_run_length(run, b); t++) {
    int64_t at = ema_run_at(run, t, b, d);
    double x = value_read(run->set.dtype, run->x, at);
    for (int64_t n = 0; n < c->heads; n++) {
      c->h[n] = c->gain[n] * x + c->q[n] * c->h[n];
      c->magnitude[n] = fabs(c->gain[n] * x) + c->q[n] * c->magnitude[n];
    }
    worst = max_of(share_of_y(run, c, x, value_read(run->set.dtype, run->y, at)), worst);
  }
  return run->set.step ? max_of(share_of_state(run, c, b, d), worst) : worst;
}

int ema_reference_compare(const ema_run *run, double *worst) {
  const int64_t D = run->set.channels, N = run->set.heads;
  parameters p = {0};
  double *memory = malloc(5 * (size_t)N * sizeof *memory);
  int made = memory && read_parameters(run, &p);
  channel c = {.heads = N};
  *worst = 0;
  if (made) {
    c.gain = memory;
    c.q = memory + N;
    c.projection = memory + 2 * N;
    c.h = memory + 3 * N;
    c.magnitude = memory + 4 * N;
  }
  for (int64_t i = 0; made && i < SAMPLES; i++) {
    int64_t d = i * (D - 1) / (SAMPLES - 1);
    begin_channel(run, &p, d, &c);
    for (int64_t b = 0; b < run->set.batch; b++)
      *worst = max_of(share_of_sequence(run, &c, b, d), *worst);
  }
  free(p.damping);
  free(memory);
  return made;
}
