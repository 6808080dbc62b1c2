/* How far results may differ from the reference. With u = 2^-53 for float64 states and 2^-24
 * otherwise, the library's e is within (8 + 1 / min(1 - q)) u M of the exact one, where M is the
 * same sum over magnitudes, sum of |kernel| |x|; a state is within the same bound for its own sum.
 * The residual adds a rounding of |w x|, which M includes. So the activation's argument is in v -
 * error .. v + error. The activation is evaluated at both ends and in the middle, so a jump
 * (ftswish) is no error. It is computed in float64 if x is float64, else in float32, whatever the
 * type of the state: a rounding of v and a few operations, each with an error of at most two units
 * in the last place of max(|v|, 1), together 16 u. The store rounds to x's type, and for subnormal
 * float16 with an absolute error of 2^-25.
 *
 * The algorithm fft spreads roundings over time, so its errors are relative to the largest y. */
#include <stdlib.h>
#include "bench.h"
#include "failure.h"
#include "op_ema.h"
#include "reference/ema.h"
#include "values.h"

#define FFT_ROUNDINGS 16
#define MOST_STEPS    (1 << 23) /* of all recurrences that are checked */

/* The job's tensors on the host, and one channel. */
typedef struct problem {
  const ema_call *call;
  const DLTensor *x, *y, *initial, *final; /* initial may be NULL; final is, if truncated */
  const int64_t *offsets;                  /* packed only */
  int64_t B, D, N, L;                      /* L: the longest sequence */
  double *parameters[EMA_PARAMETERS];
  bench_error *convolution; /* for the algorithm fft, else NULL */
  int64_t d;
  reference_ema values, sizes;
  double residual, allowed; /* allowed: (8 + 1 / min(1 - q)) u */
  double *seen;             /* (L): the channel's x */
  real *e, *h;              /* (2, L), (2, N): values, then magnitudes */
} problem;

static reference_ema channel_of(double *const *p, int64_t N, int64_t d, int absolute) {
  return (reference_ema){N, p[0] + d * N, p[1] + d * N, p[2] + d * N, p[3] + d * N, absolute};
}

static int64_t length_of(const problem *p, int64_t b) {
  return p->offsets ? p->offsets[b + 1] - p->offsets[b] : p->x->shape[0];
}

/* The offset of x and y of step t, sequence b, in elements. */
static int64_t place_of(const problem *p, int64_t b, int64_t t) {
  const int64_t *strides = p->x->strides;
  if (p->offsets) return (p->offsets[b] + t) * strides[0] + p->d * strides[1];
  return t * strides[0] + b * strides[1] + p->d * strides[2];
}

static void begin_channel(problem *p, int64_t d) {
  p->d = d;
  p->values = channel_of(p->parameters, p->N, d, 0);
  p->sizes = channel_of(p->parameters, p->N, d, 1);
  p->residual = p->parameters[4][d];
  p->allowed = (8 + 1 / (double)reference_ema_least_decay(&p->values)) *
               values_roundoff(p->call->config.state_dtype);
}

/* y[t], if the activation's argument has this error. */
static real activated(const problem *p, int64_t t, double error) {
  const real v = p->e[t] + (real)p->residual * p->seen[t];
  return reference_activation(&p->call->config, v + error);
}

/* The error of y as a share of what is allowed. */
static double share_of_y(const problem *p, int64_t t, double y) {
  const double residual = p->residual * p->seen[t], u = p->x->dtype.bits == 64 ? 0x1p-53 : 0x1p-24;
  const real v = p->e[t] + (real)p->residual * p->seen[t];
  const double error = p->allowed * (double)(p->e[p->L + t] + fabs(residual));
  double low = INFINITY, high = -INFINITY;
  for (int i = -1; i <= 1; i++) {
    const double value = (double)activated(p, t, i * error);
    low = fmin(low, value);
    high = fmax(high, value);
  }
  const double store = values_roundoff(p->x->dtype);
  const double slack = error + 16 * u * fmax(fabs((double)v), 1) + store * fabs(y) * (1 + store) +
                       (store == 0x1p-11 ? 0x1p-25 : 0);
  return bench_worse(low - y, y - high) / slack;
}

static double share_of_sequence(const problem *p, int64_t b) {
  const int64_t length = length_of(p, b), last = p->call->config.truncation_length;
  const int64_t state = (b * p->D + p->d) * p->N;
  double worst = 0;
  for (int64_t t = 0; t < length; t++) p->seen[t] = values_at(p->x, place_of(p, b, t));
  for (int64_t n = 0; n < p->N; n++)
    p->h[n] = p->h[p->N + n] = p->initial ? values_at(p->initial, state + n) : 0;
  if (last < p->x->shape[0]) {
    reference_ema_truncated(&p->values, last, length, p->seen, NULL, p->e);
    reference_ema_truncated(&p->sizes, last, length, p->seen, NULL, p->e + p->L);
  } else {
    reference_ema_recur(&p->values, length, p->seen, NULL, p->h, p->e);
    reference_ema_recur(&p->sizes, length, p->seen, NULL, p->h + p->N, p->e + p->L);
  }
  for (int64_t t = 0; t < length; t++) {
    const double y = values_at(p->y, place_of(p, b, t));
    if (p->convolution != NULL)
      bench_note(p->convolution, y, (double)activated(p, t, 0));
    else
      worst = bench_worse(share_of_y(p, t, y), worst);
  }
  for (int64_t n = 0; p->final != NULL && n < p->N; n++) {
    const double error = fabs(values_at(p->final, state + n) - (double)p->h[n]);
    worst = bench_worse(error == 0 ? 0 : error / (p->allowed * (double)p->h[p->N + n]), worst);
  }
  return worst;
}

static problem problem_of(const bench_row *row, const job *j) {
  const DLTensor *offsets = case_find(j->file, "inputs", "sequence_offsets");
  problem p = {.call = j->object, .B = row->shape[1], .D = row->shape[2]};
  p.N = p.call->config.num_heads;
  p.x = case_find(j->file, "inputs", "x");
  p.y = job_find(j, "y");
  p.initial = case_find(j->file, "inputs", "state");
  p.final = job_find(j, "state");
  p.offsets = offsets ? offsets->data : NULL;
  for (int64_t b = 0; b < p.B; b++)
    if (length_of(&p, b) > p.L) p.L = length_of(&p, b);
  return p;
}

int ema_check(const bench_row *row, const job *j, double *worst) {
  problem p = problem_of(row, j);
  bench_error convolution = {0, 0};
  if (j->algorithm == CUMEGA_EMA_FFT) p.convolution = &convolution;
  p.seen = malloc((size_t)(p.L + 1) * sizeof *p.seen);
  p.e = malloc(2 * (size_t)(p.L + p.N) * sizeof *p.e);
  int code = bench_numbers(j->file, ema_parameter_names, p.parameters);
  if (code == EXIT_OK && (p.seen == NULL || p.e == NULL))
    code = fail(EXIT_DEVICE, "no memory for the reference");
  if (code == EXIT_OK) p.h = p.e + 2 * p.L;
  const int64_t last = p.call->config.truncation_length, most = MOST_STEPS / SAMPLED_ROWS;
  const int64_t steps = values_count(p.x) / p.D * (last < p.L ? last : 1);
  int64_t sequences = steps <= most ? p.B : p.B * most / steps;
  if (sequences < 1) sequences = 1;
  for (int64_t i = 0; code == EXIT_OK && i < SAMPLED_ROWS; i++) {
    begin_channel(&p, bench_spread(i, SAMPLED_ROWS, p.D));
    for (int64_t s = 0; s < sequences; s++)
      *worst = bench_worse(share_of_sequence(&p, bench_spread(s, sequences, p.B)), *worst);
  }
  if (p.convolution != NULL) *worst = bench_share(&convolution, p.x->dtype, FFT_ROUNDINGS);
  for (int i = 0; i < EMA_PARAMETERS; i++) free(p.parameters[i]);
  free(p.seen);
  free(p.e);
  return code;
}

/* Row d of the convolution kernel, and the coefficients of channel d. */
int ema_exact_kernel(const job *j, double *const *parameters, int64_t d, real *const *exact) {
  const ema_call *call = j->object;
  const reference_ema ema = channel_of(parameters, call->config.num_heads, d, 0);
  for (int64_t l = 0; l < call->length; l++) exact[0][l] = reference_ema_kernel(&ema, l);
  for (int64_t n = 0; n < ema.heads; n++) {
    reference_coefficients c = reference_ema_coefficients(ema.damping[n], ema.decay[n]);
    exact[1][n] = c.p;
    exact[2][n] = c.q;
  }
  return EXIT_OK;
}

double ema_roundings_of_kernel(const job *j) {
  return 16 + (double)((const ema_call *)j->object)->config.num_heads;
}
