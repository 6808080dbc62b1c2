/* What an EMA derives from its parameters, in double and without cancellation, then rounded once:
 * the coefficients that the recurrence reads, and the table of a truncated kernel.
 *
 *   p = sigmoid(damping), 1 - q = p * sigmoid(decay),
 *   q = 1 - (1 - q) where 1 - q <= 1/2, else sigmoid(-damping) + p * sigmoid(-decay)
 *
 * so neither a q near 0 nor a q near 1 loses digits, and every finite parameter has its
 * coefficients. */
#include <math.h>
#include "backend.h"
#include "ema_object.h"
#include "ema_slices.h"
#include "math/elementary_f64.h"

/* Both branches keep their relative accuracy: neither e^a nor e^-a overflows. */
static double sigmoid(double a) {
  double e = math_exp(a < 0 ? a : -a);
  return a < 0 ? e / (1 + e) : 1 / (1 + e);
}

ema_decay ema_decay_of(double damping, double decay) {
  const double p = sigmoid(damping), one_minus_q = p * sigmoid(decay);
  /* Up to 1/2 the difference loses nothing; above it the sum of two positive terms keeps its
   * digits. */
  const double q = one_minus_q <= 0.5 ? 1 - one_minus_q : sigmoid(-damping) + p * sigmoid(-decay);
  return (ema_decay){p, q, one_minus_q};
}

static const double *numbers_at(const void *host, int64_t offset) {
  return (const double *)(const void *)((const char *)host + offset);
}

ema_numbers ema_numbers_at(const cumega_ema *ema, const void *host) {
  return (ema_numbers){ema->config.num_heads, numbers_at(host, ema->parameters_at[EMA_DAMPING]),
                       numbers_at(host, ema->parameters_at[EMA_DECAY]),
                       numbers_at(host, ema->parameters_at[EMA_EXPANSION]),
                       numbers_at(host, ema->parameters_at[EMA_PROJECTION])};
}

static int is_double(const cumega_ema *ema) {
  return tensor_type_of(ema->config.state_dtype) == TYPE_FLOAT64;
}

static int has_kernel(const cumega_ema *ema) {
  return ema->config.truncation_length != CUMEGA_NO_TRUNCATION;
}

#define AT(type, offset) ((type *)(void *)((char *)block + (offset)))

ema_coefficients_f32 ema_coefficients_f32_at(const cumega_ema *ema, void *block) {
  if (is_double(ema)) return (ema_coefficients_f32){0};
  return (ema_coefficients_f32){.q = AT(float, ema->at.q),
                                .q_lo = AT(float, ema->at.q_lo),
                                .gain = AT(float, ema->at.gain),
                                .projection = AT(float, ema->at.projection),
                                .residual = AT(float, ema->at.residual),
                                .kernel = has_kernel(ema) ? AT(float, ema->at.kernel) : NULL};
}

ema_coefficients_f64 ema_coefficients_f64_at(const cumega_ema *ema, void *block) {
  if (!is_double(ema)) return (ema_coefficients_f64){0};
  return (ema_coefficients_f64){.q = AT(double, ema->at.q),
                                .gain = AT(double, ema->at.gain),
                                .projection = AT(double, ema->at.projection),
                                .residual = AT(double, ema->at.residual),
                                .kernel = has_kernel(ema) ? AT(double, ema->at.kernel) : NULL};
}

static double scaling(int64_t heads) {
  return sqrt(1.0 / (double)heads);
}

/* Coefficients of one head of one channel, before rounding. */
typedef struct exact {
  ema_decay decay;
  double gain, projection;
} exact;

static exact exact_at(const ema_numbers *n, int64_t i) {
  exact e = {.decay = ema_decay_of(n->damping[i], n->decay[i])};
  e.gain = e.decay.p * n->expansion[i];
  e.projection = scaling(n->heads) * n->projection[i];
  return e;
}

static void store_f32(const ema_coefficients_f32 *c, int64_t at, const exact *e) {
  c->q[at] = (float)e->decay.q;
  c->q_lo[at] = (float)(e->decay.q - c->q[at]);
  c->gain[at] = (float)e->gain;
  c->projection[at] = (float)e->projection;
}

static void store_f64(const ema_coefficients_f64 *c, int64_t at, const exact *e) {
  c->q[at] = e->decay.q;
  c->gain[at] = e->gain;
  c->projection[at] = e->projection;
}

/* Finite parameters whose products are beyond the state's type would give NaN where x is 0.
 * float64 holds all of them: what the parameters are multiplied by is at most 1. */
static cumega_status fail_range(cumega_context *ctx, const char *name, int64_t d, int64_t n) {
  return call_fail_argument(
      ctx, "%s is beyond the range of state_dtype float32 at channel %lld, head %lld", name,
      (long long)d, (long long)n);
}

static cumega_status check_range(cumega_context *ctx, const ema_coefficients_f32 *c, int64_t at,
                                 int64_t d, int64_t n) {
  if (!isfinite(c->gain[at])) return fail_range(ctx, "ema_expansion_matrix", d, n);
  if (!isfinite(c->projection[at])) return fail_range(ctx, "kernel_projection_matrix", d, n);
  if (!isfinite(c->residual[d])) return fail_range(ctx, "residual_weight", d, n);
  return CUMEGA_OK;
}

int64_t ema_kernel_row_bytes(int64_t heads) {
  return (2 * heads + EMA_KERNEL_BLOCK + heads * EMA_KERNEL_BLOCK) * (int64_t)sizeof(double);
}

cumega_status ema_kernel_row_begin(cumega_context *ctx, int64_t heads, ema_kernel_row *row) {
  void *scratch;
  TRY(call_scratch(ctx, ema_kernel_row_bytes(heads), &scratch));
  row->num_heads = heads;
  row->first = row->count = 0;
  row->terms = scratch;
  row->out = row->terms + heads * EMA_KERNEL_BLOCK;
  row->weight = row->out + EMA_KERNEL_BLOCK;
  row->log_q = row->weight + heads;
  return CUMEGA_OK;
}

void ema_kernel_row_channel(const ema_numbers *numbers, int64_t d, ema_kernel_row *row) {
  for (int64_t n = 0; n < row->num_heads; n++) {
    const exact e = exact_at(numbers, d * row->num_heads + n);
    row->weight[n] = e.projection * e.gain;
    row->log_q[n] = e.decay.q > 0.5 ? math_log1p(-e.decay.one_minus_q) : math_log(e.decay.q);
  }
}

/* The table of the truncated sum. */
static cumega_status derive_kernel(cumega_context *ctx, const cumega_ema *ema,
                                   const ema_numbers *numbers, void *block) {
  const int64_t K = ema->config.truncation_length;
  const ema_coefficients_f32 f32 = ema_coefficients_f32_at(ema, block);
  const ema_coefficients_f64 f64 = ema_coefficients_f64_at(ema, block);
  ema_kernel_row row;
  TRY(ema_kernel_row_begin(ctx, numbers->heads, &row));
  for (int64_t d = 0; d < ema->config.size; d++) {
    ema_kernel_row_channel(numbers, d, &row);
    for (row.first = 0; row.first < K; row.first += row.count) {
      row.count = K - row.first < EMA_KERNEL_BLOCK ? K - row.first : EMA_KERNEL_BLOCK;
      ctx->host->ema.kernel_row(&row);
      for (int64_t i = 0; i < row.count; i++) {
        const int64_t to = (row.first + i) * ema->padded + d;
        if (f64.kernel)
          f64.kernel[to] = row.out[i];
        else
          f32.kernel[to] = (float)row.out[i];
      }
    }
  }
  return CUMEGA_OK;
}

cumega_status ema_derive(cumega_context *ctx, const object *o, void *host, void *block) {
  const cumega_ema *ema = (const cumega_ema *)o;
  const int64_t D = ema->config.size, N = ema->config.num_heads;
  const ema_numbers numbers = ema_numbers_at(ema, host);
  const double *residual = numbers_at(host, ema->parameters_at[EMA_RESIDUAL]);
  const ema_coefficients_f32 f32 = ema_coefficients_f32_at(ema, block);
  const ema_coefficients_f64 f64 = ema_coefficients_f64_at(ema, block);
  double least = 1;
  for (int64_t d = 0; d < D; d++) {
    if (f64.q)
      f64.residual[d] = residual[d];
    else
      f32.residual[d] = (float)residual[d];
    for (int64_t n = 0; n < N; n++) {
      const exact e = exact_at(&numbers, d * N + n);
      const int64_t at = n * ema->padded + d;
      if (e.decay.one_minus_q < least) least = e.decay.one_minus_q;
      if (f64.q) {
        store_f64(&f64, at, &e);
      } else {
        store_f32(&f32, at, &e);
        TRY(check_range(ctx, &f32, at, d, n));
      }
    }
  }
  /* Here, since a run may not compute in the caller's floating-point environment. */
  const double steps = (f64.q ? EMA_WARMUP_F64 : EMA_WARMUP_F32) / least;
  ((ema_derived *)host)->warmup = steps < 0x1p60 ? (int64_t)steps + 1 : (int64_t)1 << 60;
  return has_kernel(ema) ? derive_kernel(ctx, ema, &numbers, block) : CUMEGA_OK;
}
