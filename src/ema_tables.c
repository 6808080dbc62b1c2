/* What an EMA precomputes: from the parameters, in double and without cancellation, the
 * coefficients p and q; from these, rounded once, what the chain reads.
 *
 *   p = sigmoid(damping), 1 - q = p * sigmoid(decay),
 *   q = 1 - (1 - q) where 1 - q <= 1/2, else sigmoid(-damping) + p * sigmoid(-decay)
 *
 * so that neither a q near 0 nor a q near 1 loses digits, and every finite parameter has its
 * coefficients. */
#include <math.h>
#include "backend.h"
#include "ema_slices.h"
#include "fp_environment.h"
#include "math/elementary_f64.h"

/* By which a context knows the tables that something was made from. */
static uint64_t next_serial(void) {
  static uint64_t last;
  return __atomic_add_fetch(&last, 1, __ATOMIC_RELAXED);
}

/* Both branches keep their relative accuracy: e^a does not overflow in the one, nor e^-a in the
 * other. */
static double sigmoid(double a) {
  double e = math_exp(a < 0 ? a : -a);
  return a < 0 ? e / (1 + e) : 1 / (1 + e);
}

/* Memory in order, each piece on a cache line of its own. */
typedef struct layout {
  char *base; /* NULL: only the size is wanted */
  int64_t used;
  int overflow;
} layout;

static void *take(layout *l, int64_t rows, int64_t columns, size_t element) {
  int64_t bytes, next;
  l->overflow |= __builtin_mul_overflow(rows, columns, &bytes);
  l->overflow |= __builtin_mul_overflow(bytes, (int64_t)element, &bytes);
  l->overflow |= __builtin_add_overflow(bytes, MEMORY_ALIGNMENT - 1, &bytes);
  bytes &= ~(int64_t)(MEMORY_ALIGNMENT - 1);
  l->overflow |= __builtin_add_overflow(l->used, bytes, &next);
  void *piece = l->base ? l->base + l->used : NULL;
  l->used = next;
  return piece;
}

static void lay_out(const cumega_ema *ema, ema_tables *t, layout *l) {
  int64_t D = ema->config.size, N = ema->config.num_heads, padded = ema->padded;
  int64_t K = ema->config.truncation_length;
  int is_double = tensor_type_of(ema->config.state_dtype) == TYPE_FLOAT64;
  size_t real = is_double ? sizeof(double) : sizeof(float);
  for (int i = 0; i < EMA_PARAMETER_COUNT; i++)
    t->parameters[i] = take(l, D, i == EMA_RESIDUAL ? 1 : N, sizeof(double));
  t->p = take(l, D, N, sizeof(double));
  t->q = take(l, D, N, sizeof(double));
  t->one_minus_q = take(l, D, N, sizeof(double));
  void *q = take(l, N, padded, real);
  void *q_lo = is_double ? NULL : take(l, N, padded, real);
  void *gain = take(l, N, padded, real);
  void *projection = take(l, N, padded, real);
  void *residual = take(l, 1, padded, real);
  void *kernel = K == CUMEGA_NO_TRUNCATION ? NULL : take(l, K, padded, real);
  if (is_double)
    t->f64 = (ema_coefficients_f64){q, gain, projection, residual, kernel};
  else
    t->f32 = (ema_coefficients_f32){q, q_lo, gain, projection, residual, kernel};
}

cumega_status ema_tables_allocate(cumega_context *ctx, const cumega_ema *ema, ema_tables *tables) {
  layout l = {NULL, 0, 0};
  memset(tables, 0, sizeof *tables);
  lay_out(ema, tables, &l);
  l.base = l.overflow ? NULL : memory_allocate(ema->memory, l.used);
  if (l.base == NULL)
    return context_fail(
        ctx, CUMEGA_ERROR_RESOURCE,
        "cannot allocate %s%lld bytes for the tables of an EMA of size %lld with %lld "
        "heads and a truncation_length of %lld",
        l.overflow ? "more than " : "", l.overflow ? (long long)INT64_MAX : (long long)l.used,
        (long long)ema->config.size, (long long)ema->config.num_heads,
        (long long)ema->config.truncation_length);
  tables->serial = next_serial();
  tables->block = l.base;
  tables->block_bytes = l.used;
  memset(l.base, 0, (size_t)l.used);
  l.used = 0;
  lay_out(ema, tables, &l);
  return CUMEGA_OK;
}

/* The device's twin of a host pointer; NULL stays NULL. */
static void *moved(const void *host, const char *from, char *to) {
  return host == NULL ? NULL : to + ((const char *)host - from);
}

/* The coefficients lie in one piece at the end of the tables, so one copy takes them over, and a
 * pointer into the device's piece is as far from its beginning as the host's. */
cumega_status ema_tables_upload(cumega_context *ctx, ema_tables *tables) {
  const ema_coefficients_f32 *f = &tables->f32;
  const ema_coefficients_f64 *g = &tables->f64;
  const char *from = g->q != NULL ? (const char *)g->q : (const char *)f->q;
  void *block;
  int64_t bytes = (const char *)tables->block + tables->block_bytes - from;
  TRY(ctx->backend->device->object_upload(ctx, "the coefficients of an EMA", from, bytes, &block));
  tables->device =
      (ema_device_tables){.block = block,
                          .bytes = bytes,
                          .f32 = {moved(f->q, from, block), moved(f->q_lo, from, block),
                                  moved(f->gain, from, block), moved(f->projection, from, block),
                                  moved(f->residual, from, block), moved(f->kernel, from, block)},
                          .f64 = {moved(g->q, from, block), moved(g->gain, from, block),
                                  moved(g->projection, from, block),
                                  moved(g->residual, from, block), moved(g->kernel, from, block)}};
  return CUMEGA_OK;
}

void ema_tables_free(const cumega_ema *ema, ema_tables *tables) {
  if (tables->device.block)
    ema->backend->device->object_release(ema->memory, ema->device, ema->owner, tables->device.block,
                                         tables->device.bytes);
  memory_free(ema->memory, tables->block, tables->block_bytes);
  memset(tables, 0, sizeof *tables);
}

static void derive_coefficients(const cumega_ema *ema, ema_tables *t) {
  int64_t count = ema->config.size * ema->config.num_heads;
  double least = 1;
  for (int64_t i = 0; i < count; i++) {
    double damping = t->parameters[EMA_DAMPING][i], decay = t->parameters[EMA_DECAY][i];
    double p = sigmoid(damping);
    t->p[i] = p;
    t->one_minus_q[i] = p * sigmoid(decay);
    /* Below 1/2 the difference loses nothing; above it the sum of two positive terms keeps its
     * digits. */
    t->q[i] =
        t->one_minus_q[i] <= 0.5 ? 1 - t->one_minus_q[i] : sigmoid(-damping) + p * sigmoid(-decay);
    if (t->one_minus_q[i] < least) least = t->one_minus_q[i];
  }
  /* Here, since a run may not do arithmetic in the caller's floating-point environment. */
  const double steps = (t->f64.q != NULL ? EMA_WARMUP_F64 : EMA_WARMUP_F32) / least;
  t->warmup = steps < 0x1p60 ? (int64_t)steps + 1 : (int64_t)1 << 60;
}

static double scaling(const cumega_ema *ema) {
  return sqrt(1.0 / (double)ema->config.num_heads);
}

static void derive_f32(const cumega_ema *ema, ema_tables *t) {
  int64_t D = ema->config.size, N = ema->config.num_heads, padded = ema->padded;
  ema_coefficients_f32 *c = &t->f32;
  for (int64_t d = 0; d < D; d++) {
    for (int64_t n = 0; n < N; n++) {
      int64_t from = d * N + n, to = n * padded + d;
      c->q[to] = (float)t->q[from];
      c->q_lo[to] = (float)(t->q[from] - c->q[to]);
      c->gain[to] = (float)(t->p[from] * t->parameters[EMA_EXPANSION][from]);
      c->projection[to] = (float)(scaling(ema) * t->parameters[EMA_PROJECTION][from]);
    }
    c->residual[d] = (float)t->parameters[EMA_RESIDUAL][d];
  }
}

static void derive_f64(const cumega_ema *ema, ema_tables *t) {
  int64_t D = ema->config.size, N = ema->config.num_heads, padded = ema->padded;
  ema_coefficients_f64 *c = &t->f64;
  for (int64_t d = 0; d < D; d++) {
    for (int64_t n = 0; n < N; n++) {
      int64_t from = d * N + n, to = n * padded + d;
      c->q[to] = t->q[from];
      c->gain[to] = t->p[from] * t->parameters[EMA_EXPANSION][from];
      c->projection[to] = scaling(ema) * t->parameters[EMA_PROJECTION][from];
    }
    c->residual[d] = t->parameters[EMA_RESIDUAL][d];
  }
}

cumega_status ema_kernel_row_begin(cumega_context *ctx, const cumega_ema *ema,
                                   ema_kernel_row *row) {
  int64_t N = ema->config.num_heads;
  void *scratch;
  int64_t doubles = 2 * N + EMA_KERNEL_BLOCK + N * EMA_KERNEL_BLOCK;
  TRY(context_scratch(ctx, doubles * (int64_t)sizeof(double), &scratch));
  row->num_heads = N;
  row->first = row->count = 0;
  row->terms = scratch;
  row->out = row->terms + N * EMA_KERNEL_BLOCK;
  row->weight = row->out + EMA_KERNEL_BLOCK;
  row->log_q = row->weight + N;
  return CUMEGA_OK;
}

void ema_kernel_row_channel(const cumega_ema *ema, const ema_tables *t, int64_t d,
                            ema_kernel_row *row) {
  for (int64_t n = 0; n < row->num_heads; n++) {
    int64_t i = d * row->num_heads + n;
    row->weight[n] = scaling(ema) * t->parameters[EMA_PROJECTION][i] *
                     (t->p[i] * t->parameters[EMA_EXPANSION][i]);
    row->log_q[n] = t->q[i] > 0.5 ? math_log1p(-t->one_minus_q[i]) : math_log(t->q[i]);
  }
}

/* The table of the truncated sum. */
static void derive_kernel(const cumega_context *ctx, const cumega_ema *ema, ema_tables *t,
                          ema_kernel_row *row) {
  const int64_t K = ema->config.truncation_length, padded = ema->padded;
  for (int64_t d = 0; d < ema->config.size; d++) {
    ema_kernel_row_channel(ema, t, d, row);
    for (row->first = 0; row->first < K; row->first += row->count) {
      row->count = K - row->first < EMA_KERNEL_BLOCK ? K - row->first : EMA_KERNEL_BLOCK;
      ctx->host->ema_kernel_row(row);
      for (int64_t i = 0; i < row->count; i++) {
        int64_t to = (row->first + i) * padded + d;
        if (t->f64.kernel)
          t->f64.kernel[to] = row->out[i];
        else
          t->f32.kernel[to] = (float)row->out[i];
      }
    }
  }
}

/* Finite parameters whose products are beyond the chain's type would give NaN where x is 0. In float64
 * none is: what they are multiplied by is at most 1. */
static cumega_status check_range(cumega_context *ctx, const cumega_ema *ema, const ema_tables *t) {
  const int64_t D = ema->config.size, N = ema->config.num_heads, padded = ema->padded;
  if (t->f32.q == NULL) return CUMEGA_OK;
  for (int64_t i = 0; i < D * N; i++) {
    const int64_t at = i % N * padded + i / N;
    const float gain = t->f32.gain[at], projection = t->f32.projection[at];
    const float residual = t->f32.residual[i / N];
    if (isfinite(gain) && isfinite(projection) && isfinite(residual)) continue;
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "%s is beyond the range of state_dtype float32 at channel %lld, head %lld",
                        !isfinite(gain)         ? "ema_expansion_matrix"
                        : !isfinite(projection) ? "kernel_projection_matrix"
                                                : "residual_weight",
                        (long long)(i / N), (long long)(i % N));
  }
  return CUMEGA_OK;
}

cumega_status ema_tables_derive(cumega_context *ctx, const cumega_ema *ema, ema_tables *t) {
  ema_kernel_row row;
  fp_environment environment;
  const int has_kernel = t->f64.kernel || t->f32.kernel;
  if (has_kernel) TRY(ema_kernel_row_begin(ctx, ema, &row));
  fp_begin(&environment);
  derive_coefficients(ema, t);
  if (t->f64.q)
    derive_f64(ema, t);
  else
    derive_f32(ema, t);
  if (has_kernel) derive_kernel(ctx, ema, t, &row);
  fp_end(&environment);
  return check_range(ctx, ema, t);
}
