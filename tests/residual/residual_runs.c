#include "residual_runs.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "defaults.h"

int64_t problem_size(const problem *p) {
  return p->shape[p->transposed ? 1 : 2];
}

int64_t problem_channel(const problem *p, int64_t i) {
  return p->transposed ? i / p->shape[2] % p->shape[1] : i % p->shape[2];
}

int problem_is_highway(const problem *p) {
  return !p->gated && p->config.kind == CUMEGA_RESIDUAL_HIGHWAY;
}

int problem_reads_x(const problem *p) {
  if (p->gated) return 1;
  if (p->config.kind == CUMEGA_RESIDUAL_FEEDFORWARD) return 0;
  return p->config.kind != CUMEGA_RESIDUAL_RESIDUAL || p->config.alpha != 0;
}

void problem_print(const problem *p) {
  printf("%s layer %lld, %s, norm %d, (%lld, %lld, %lld)%s, seed %llu\n",
         p->gated ? "gated" : cumega_residual_kind_name(p->config.kind),
         (long long)p->config.i_layer, number_name(p->dtype), p->norm, (long long)p->shape[0],
         (long long)p->shape[1], (long long)p->shape[2], p->transposed ? " transposed" : "",
         (unsigned long long)p->seed);
}

/* ---- parameters: float32 values, so that runs read what the oracle reads ---- */

static double *numbers(uint64_t *seed, int64_t count, double size, double mean) {
  double *values = memory_new(count * (int64_t)sizeof *values);
  for (int64_t i = 0; i < count; i++)
    values[i] = (double)(float)(mean + size * random_noise(seed));
  return values;
}

parameters parameters_new(const problem *p) {
  const int64_t D = problem_size(p);
  uint64_t seed = p->seed;
  parameters v = {0};
  const double weight = 0.6 / sqrt((double)D);
  if (!p->gated && p->config.kind == CUMEGA_RESIDUAL_AFFINE)
    v.affine = numbers(&seed, p->config.scalar ? 1 : D, 1, 0);
  if (problem_is_highway(p)) {
    v.Wx_weight = numbers(&seed, D * D, weight, 0);
    v.Wx_bias = numbers(&seed, D, 0.3, 0);
    if (p->config.elemwise) v.Wy = numbers(&seed, D, 1, 0);
    if (!p->config.elemwise) v.Wy_weight = numbers(&seed, D * D, weight, 0);
    if (!p->config.elemwise) v.Wy_bias = numbers(&seed, D, 0.3, 0);
  }
  if (p->norm == CUMEGA_NORM_LAYER || p->norm == CUMEGA_NORM_RMS)
    v.weight = numbers(&seed, D, 0.3, 1);
  if (p->norm == CUMEGA_NORM_LAYER) v.bias = numbers(&seed, D, 0.3, 0);
  v.scalar = p->norm == CUMEGA_NORM_BASIC ? -1.25 : 1.5;
  return v;
}

void parameters_free(parameters *v) {
  double *all[] = {v->affine,  v->Wx_weight, v->Wx_bias, v->Wy_weight,
                   v->Wy_bias, v->Wy,        v->weight,  v->bias};
  for (size_t i = 0; i < sizeof all / sizeof *all; i++) free(all[i]);
}

static DLTensor *vector_of(cumega_tensor *t, double *values, int ndim, int64_t a) {
  const int64_t shape[] = {a, a};
  return values == NULL ? NULL
                        : cumega_tensor_init(t, values, cumega_cpu, cumega_float64, ndim, shape);
}

static cumega_status create_norm(cumega_context *ctx, const problem *p, parameters *v,
                                 cumega_norm **norm) {
  const int64_t D = problem_size(p);
  cumega_tensor vector, bias, number;
  cumega_norm_config config = norm_config_of((cumega_norm_type)p->norm, D);
  cumega_norm_parameters given = {.struct_size = sizeof given};
  config.dtype = real_dtype_of(p->dtype);
  DLTensor *weight = vector_of(&vector, v->weight, 1, D);
  if (p->norm == CUMEGA_NORM_LAYER) given.weight = weight;
  if (p->norm == CUMEGA_NORM_LAYER) given.bias = vector_of(&bias, v->bias, 1, D);
  if (p->norm == CUMEGA_NORM_RMS) given.scale = weight;
  if (p->norm == CUMEGA_NORM_SCALE) given.scale = vector_of(&number, &v->scalar, 0, 1);
  if (p->norm == CUMEGA_NORM_BASIC) given.eps = vector_of(&number, &v->scalar, 0, 1);
  return cumega_norm_create(ctx, &config, &given, norm);
}

cumega_status problem_create(cumega_context *ctx, const problem *p, cumega_residual **residual,
                             cumega_norm **norm) {
  cumega_status status = CUMEGA_OK;
  const int64_t D = problem_size(p);
  parameters v = parameters_new(p);
  cumega_tensor t[6];
  *residual = NULL;
  *norm = NULL;
  if (!p->gated) {
    cumega_residual_parameters given = {
        .struct_size = sizeof given,
        .affine = vector_of(&t[0], v.affine, 1, p->config.scalar ? 1 : D),
        .Wx_weight = vector_of(&t[1], v.Wx_weight, 2, D),
        .Wx_bias = vector_of(&t[2], v.Wx_bias, 1, D),
        .Wy_weight = vector_of(&t[3], v.Wy_weight, 2, D),
        .Wy_bias = vector_of(&t[4], v.Wy_bias, 1, D),
        .Wy = vector_of(&t[5], v.Wy, 1, D)};
    cumega_residual_config config = p->config;
    config.dtype = real_dtype_of(p->dtype);
    status = cumega_residual_create(ctx, &config, &given, residual);
  }
  if (status == CUMEGA_OK && p->norm >= 0) {
    status = create_norm(ctx, p, &v, norm);
  }
  parameters_free(&v);
  return status;
}

void problem_make(cumega_context *ctx, const problem *p, cumega_residual **residual,
                  cumega_norm **norm) {
  MUST(ctx, problem_create(ctx, p, residual, norm));
}

/* ---- runs ---- */

static void fill(test_tensor *t, const problem *p, int which) {
  uint64_t seed = p->seed * 16 + (uint64_t)which + 1;
  for (int64_t i = 0; i < p->shape[0]; i++)
    for (int64_t j = 0; j < p->shape[1]; j++)
      for (int64_t k = 0; k < p->shape[2]; k++)
        tensor_set(t, i, j, k, random_noise(&seed) * (which == IN_GATE ? 3 : 1));
}

static double *values_of(const test_tensor *t, const problem *p) {
  double *values = memory_new(p->shape[0] * p->shape[1] * p->shape[2] * (int64_t)sizeof *values);
  int64_t n = 0;
  for (int64_t i = 0; i < p->shape[0]; i++)
    for (int64_t j = 0; j < p->shape[1]; j++)
      for (int64_t k = 0; k < p->shape[2]; k++) values[n++] = tensor_get(t, i, j, k);
  return values;
}

static uint64_t *bits_of(const test_tensor *t, const problem *p) {
  uint64_t *bits = memory_new(p->shape[0] * p->shape[1] * p->shape[2] * (int64_t)sizeof *bits);
  int64_t n = 0;
  for (int64_t i = 0; i < p->shape[0]; i++)
    for (int64_t j = 0; j < p->shape[1]; j++)
      for (int64_t k = 0; k < p->shape[2]; k++) bits[n++] = tensor_bits(t, i, j, k);
  return bits;
}

/* The call, on the device if ctx has one. */
static void call(cumega_context *ctx, const problem *p, const cumega_residual *residual,
                 const cumega_norm *norm, test_tensor *const *t) {
  const DLTensor *in[] = {dl(t[0]), dl(t[1]), dl(t[2]), dl(t[3]), dl(t[4])};
  staging s;
  const int staged = staging_begin(&s, ctx);
  for (int i = 0; staged && i < 5; i++) staging_add(&s, &in[i]);
  if (staged) staging_there(&s);
  DLTensor *out = (DLTensor *)(uintptr_t)in[3], *normalized = (DLTensor *)(uintptr_t)in[4];
  if (p->gated) {
    cumega_residual_gated_io io = {sizeof io, in[IN_X], in[IN_GATE], in[IN_Y],
                                   out,       norm,     normalized};
    MUST(ctx, cumega_residual_gated_forward(ctx, &io));
  } else {
    cumega_residual_io io = {sizeof io, in[IN_X], in[IN_Y], out, p->transposed, norm, normalized};
    MUST(ctx, cumega_residual_forward(ctx, residual, &io));
  }
  if (staged) staging_back(&s);
}

result problem_run(cumega_context *ctx, const problem *p, const placement *at) {
  static const placement plain = {.out_is = -1, .normalized_is = -1};
  if (at == NULL) at = &plain;
  test_tensor *t[5] = {NULL};
  cumega_residual *residual;
  cumega_norm *norm;
  result r = {.count = p->shape[0] * p->shape[1] * p->shape[2]};
  problem_make(ctx, p, &residual, &norm);
  for (int i = 0; i < INPUTS; i++) {
    if ((i == IN_X && !problem_reads_x(p)) || (i == IN_GATE && !p->gated)) continue;
    t[i] = tensor_new(p->dtype, 3, p->shape, &at->layouts[i]);
    fill(t[i], p, i);
    r.inputs[i] = values_of(t[i], p);
  }
  if (!at->without_out)
    t[3] = at->out_is >= 0 ? t[at->out_is] : tensor_new(p->dtype, 3, p->shape, &at->layouts[3]);
  if (norm)
    t[4] = at->normalized_is >= 0 ? t[at->normalized_is]
                                  : tensor_new(p->dtype, 3, p->shape, &at->layouts[4]);
  call(ctx, p, residual, norm, t);
  if (t[3]) r.out = values_of(t[3], p), r.out_bits = bits_of(t[3], p);
  if (t[4]) r.normalized = values_of(t[4], p), r.normalized_bits = bits_of(t[4], p);
  for (int i = 0; i < 5; i++) {
    if (t[i] == NULL || (i == 3 && at->out_is >= 0) || (i == 4 && at->normalized_is >= 0))
      continue;
    ck_assert_msg(tensor_gaps_hold(t[i]), "written beside tensor %d", i);
    tensor_free(t[i]);
  }
  cumega_residual_destroy(residual);
  cumega_norm_destroy(norm);
  return r;
}

void result_free(result *r) {
  for (int i = 0; i < INPUTS; i++) free(r->inputs[i]);
  free(r->out);
  free(r->normalized);
  free(r->out_bits);
  free(r->normalized_bits);
}

static int same_bits(const uint64_t *a, const uint64_t *b, int64_t count) {
  return a == NULL || b == NULL || memcmp(a, b, (size_t)count * sizeof *a) == 0;
}

int results_same(const result *a, const result *b) {
  return a->count == b->count && same_bits(a->out_bits, b->out_bits, a->count) &&
         same_bits(a->normalized_bits, b->normalized_bits, a->count);
}

/* ---- what is right ---- */

static oracle_value exact_at(const problem *p, const parameters *v, const result *r, int64_t i,
                             long double u) {
  const int64_t D = problem_size(p), d = problem_channel(p, i);
  const double x = r->inputs[IN_X] ? r->inputs[IN_X][i] : 0, y = r->inputs[IN_Y][i];
  const cumega_residual_config *c = &p->config;
  if (p->gated) return oracle_gated(x, r->inputs[IN_GATE][i], y, u);
  real alpha, beta;
  reference_multipliers(c, &alpha, &beta);
  switch (c->kind) {
  case CUMEGA_RESIDUAL_FEEDFORWARD: return (oracle_value){y, 0};
  case CUMEGA_RESIDUAL_AFFINE: return oracle_linear(alpha, x, v->affine[c->scalar ? 0 : d], y, u);
  case CUMEGA_RESIDUAL_HIGHWAY: {
    const oracle_highway h = {D,
                              v->Wx_weight,
                              v->Wx_bias,
                              v->Wy_weight,
                              v->Wy_bias,
                              v->Wy,
                              c->scaling_correction ? 1.732L : 1.0L};
    return oracle_highway_at(&h, r->inputs[IN_X] + i - d, r->inputs[IN_Y] + i - d, d, u);
  }
  default: return oracle_linear(alpha, x, beta, y, u);
  }
}

static double error_of(const problem *p, oracle_value right, double found) {
  const long double rounding = number_rounding(p->dtype, fabs((double)right.exact) * 1.01);
  return (double)(fabsl(found - right.exact) / (right.bound + rounding + 0x1p-1000L));
}

double problem_error(const problem *p, const result *r) {
  const int64_t D = problem_size(p);
  const long double u = p->dtype.bits == 64 ? 0x1p-53L : 0x1p-24L;
  parameters v = parameters_new(p);
  double worst = 0;
  for (int64_t i = 0; i < r->count; i++)
    worst = fmax(worst, error_of(p, exact_at(p, &v, r, i, u), r->out[i]));
  if (p->norm >= 0) {
    cumega_norm_config config;
    cumega_norm_config_init(&config, sizeof config, (cumega_norm_type)p->norm, D);
    const reference_norm n = {
        config.type, D,        config.type == CUMEGA_NORM_BASIC ? exp(v.scalar) : config.eps,
        v.scalar,    v.weight, v.bias};
    /* A few channels of each row, since the oracle reads a whole row for each. */
    for (int64_t row = 0; row < r->count; row += D)
      for (int64_t d = 0; d < D; d += D / 7 + 1)
        worst = fmax(worst,
                     error_of(p, oracle_norm_at(&n, r->out + row, d, u), r->normalized[row + d]));
  }
  parameters_free(&v);
  return worst;
}
