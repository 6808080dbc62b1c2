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
#include <stdlib.h>
#include <string.h>
#include "bench_ema_reference.h"
#include "failure.h"
#include "values.h"

#define CHANNELS   7         /* the first and the last among them */
#define MOST_STEPS (1 << 23) /* of all chains that are looked at */

/* The job's tensors, on the host. */
typedef struct problem {
  int64_t B, D, N;
  const DLTensor *x, *y, *initial, *final; /* initial may be NULL; final is NULL where truncated */
  const int64_t *offsets;                  /* packed only */
  int64_t last;                            /* truncated: the steps that each step sees; else 0 */
  cumega_activation activation;
  DLDataType state_dtype;
} problem;

/* One channel's coefficients, and the chains of one sequence with their magnitudes. */
typedef struct channel {
  int64_t heads;
  double *gain, *q, *projection, *h, *magnitude; /* (N) each */
  double residual, allowed;                      /* (8 + 1 / min(1 - q)) u */
} channel;

static int64_t length_of(const problem *p, int64_t b) {
  return p->offsets ? p->offsets[b + 1] - p->offsets[b] : p->x->shape[0];
}

/* Where x and y of step t, sequence b and channel d are, in elements. */
static int64_t place_of(const problem *p, int64_t t, int64_t b, int64_t d) {
  const int64_t *strides = p->x->strides;
  if (p->offsets) return (p->offsets[b] + t) * strides[0] + d * strides[1];
  return t * strides[0] + b * strides[1] + d * strides[2];
}

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

static double parameter(const job *j, const char *name, int64_t i) {
  return values_at(case_find(j->file, "parameters", name), i);
}

static void begin_channel(const problem *p, const job *j, int64_t d, channel *c) {
  double least = 1, u = values_roundoff(p->state_dtype);
  for (int64_t n = 0; n < c->heads; n++) {
    int64_t i = d * c->heads + n;
    double damping = sigmoid(parameter(j, "damping_factor", i));
    double one_minus_q = damping * sigmoid(parameter(j, "decay_factor", i));
    c->gain[n] = damping * parameter(j, "ema_expansion_matrix", i);
    c->q[n] = 1 - one_minus_q;
    c->projection[n] = sqrt(1.0 / (double)c->heads) * parameter(j, "kernel_projection_matrix", i);
    if (one_minus_q < least) least = one_minus_q;
  }
  c->residual = parameter(j, "residual_weight", d);
  c->allowed = (8 + 1 / least) * u * (u == 0x1p-53 ? 2 : 1);
}

static void begin_sequence(const problem *p, int64_t b, int64_t d, channel *c) {
  for (int64_t n = 0; n < c->heads; n++) {
    c->h[n] = p->initial ? values_at(p->initial, (b * p->D + d) * c->heads + n) : 0;
    c->magnitude[n] = fabs(c->h[n]);
  }
}

static double max_of(double a, double b) {
  return isnan(a) || a > b ? a : b;
}

/* The error of y beyond which it is wrong, as a share of it. */
static double share_of_y(const problem *p, const channel *c, double x, double y) {
  double v = c->residual * x, size = fabs(v), u = p->x->dtype.bits == 64 ? 0x1p-53 : 0x1p-24;
  for (int64_t n = 0; n < c->heads; n++) {
    v += c->projection[n] * c->h[n];
    size += fabs(c->projection[n]) * c->magnitude[n];
  }
  double error = c->allowed * size;
  double middle = activate(p->activation, v);
  double low = activate(p->activation, v - error), high = low;
  double others[] = {middle, activate(p->activation, v + error)};
  for (int i = 0; i < 2; i++) {
    low = fmin(low, others[i]);
    high = fmax(high, others[i]);
  }
  double store = values_roundoff(p->x->dtype);
  double slack = error + 16 * u * fmax(fabs(v), 1) + store * fabs(y) * (1 + store) +
                 (store == 0x1p-11 ? 0x1p-25 : 0);
  return max_of(low - y, y - high) / slack;
}

/* The same for the states that are left. */
static double share_of_state(const problem *p, const channel *c, int64_t b, int64_t d) {
  double worst = 0;
  for (int64_t n = 0; n < c->heads; n++) {
    double got = values_at(p->final, (b * p->D + d) * c->heads + n);
    double error = fabs(got - c->h[n]), allowed = c->allowed * c->magnitude[n];
    worst = max_of(error == 0 ? 0 : error / allowed, worst);
  }
  return worst;
}

static void take_step(channel *c, double x) {
  for (int64_t n = 0; n < c->heads; n++) {
    c->h[n] = c->gain[n] * x + c->q[n] * c->h[n];
    c->magnitude[n] = fabs(c->gain[n] * x) + c->q[n] * c->magnitude[n];
  }
}

/* Truncated: each step sees the last ones only, so each begins a chain of its own. */
static double share_of_sequence(const problem *p, channel *c, int64_t b, int64_t d) {
  double worst = 0;
  begin_sequence(p, b, d, c);
  for (int64_t t = 0; t < length_of(p, b); t++) {
    int64_t first = p->last > 0 && t >= p->last ? t - p->last + 1 : 0;
    if (p->last > 0) begin_sequence(p, b, d, c);
    for (int64_t s = p->last > 0 ? first : t; s <= t; s++)
      take_step(c, values_at(p->x, place_of(p, s, b, d)));
    int64_t at = place_of(p, t, b, d);
    worst = max_of(share_of_y(p, c, values_at(p->x, at), values_at(p->y, at)), worst);
  }
  return p->final ? max_of(share_of_state(p, c, b, d), worst) : worst;
}

/* Element i of `some` that are spread over 0 .. all - 1, the first and the last among them. */
static int64_t spread(int64_t i, int64_t some, int64_t all) {
  return some < 2 ? all - 1 : i * (all - 1) / (some - 1);
}

static problem problem_of(const bench_settings *set, const job *j) {
  const DLTensor *offsets = case_find(j->file, "inputs", "sequence_offsets");
  problem p = {.D = set->shape[2], .N = set->heads};
  p.x = case_find(j->file, "inputs", "x");
  p.y = job_find(j, "y");
  p.initial = case_find(j->file, "inputs", "state");
  p.final = job_find(j, "state");
  p.offsets = offsets ? offsets->data : NULL;
  p.B = set->shape[1];
  p.last = p.final ? 0 : set->truncation;
  const char *type = json_string_value(json_object_get(j->file->config, "state_dtype"));
  (void)values_dtype_from_name(type, &p.state_dtype);
  (void)!cumega_activation_from_name(set->activation, &p.activation);
  return p;
}

int bench_ema_reference(const bench_settings *set, const job *j, double *worst) {
  const problem p = problem_of(set, j);
  double *memory = malloc(5 * (size_t)p.N * sizeof *memory);
  if (memory == NULL) return fail(EXIT_DEVICE, "no memory for the reference");
  channel c = {.heads = p.N,
               .gain = memory,
               .q = memory + p.N,
               .projection = memory + 2 * p.N,
               .h = memory + 3 * p.N,
               .magnitude = memory + 4 * p.N};
  int64_t steps = values_count(p.x) / p.D * (p.last > 0 ? p.last : 1), most = MOST_STEPS / CHANNELS;
  int64_t sequences = steps <= most ? p.B : p.B * most / steps;
  if (sequences < 1) sequences = 1;
  *worst = 0;
  for (int64_t i = 0; i < CHANNELS; i++) {
    int64_t d = spread(i, CHANNELS, p.D);
    begin_channel(&p, j, d, &c);
    for (int64_t s = 0; s < sequences; s++)
      *worst = max_of(share_of_sequence(&p, &c, spread(s, sequences, p.B), d), *worst);
  }
  free(memory);
  return EXIT_OK;
}
