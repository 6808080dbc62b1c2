/* The EMA as an object. Its runs are in ema_run.c. */
#include "backend.h"
#include "ema_object.h"
#include "fp_environment.h"
#include "tensor_element.h"
#include "trace.h"

/* Rows of coefficients that are a power of two of channels long would all meet in a few sets of a
 * cache: with 8 heads they would not fit there. A cache line or two more spreads them. */
#define ROW_SKEW 16

/* (D, N, 1) or (D, N); the projection (D, N) only; the residual weight (D). */
static parameter parameter_of(const object *o, int which) {
  static const char *const names[EMA_PARAMETER_COUNT] = {
      "damping_factor", "decay_factor", "ema_expansion_matrix", "kernel_projection_matrix",
      "residual_weight"};
  const cumega_ema *ema = (const cumega_ema *)o;
  const int64_t D = ema->config.size, N = ema->config.num_heads;
  parameter p = {.name = names[which],
                 .shape = {"(D, N, 1)", 3, {D, N, 1}},
                 .also = {"(D, N)", 2, {D, N}},
                 .type = TYPE_FLOAT64,
                 .offset = ema->parameters_at[which]};
  if (which == EMA_PROJECTION) p.shape = p.also;
  if (which == EMA_RESIDUAL) p.shape = p.also = (parameter_shape){"(D)", 1, {D}};
  return p;
}

static cumega_status check(cumega_context *ctx, object *o) {
  cumega_ema *ema = (cumega_ema *)o;
  cumega_ema_config *config = &ema->config;
  TRY(ema_config_check(ctx, config));
  if (config->size > INT64_MAX - 2 * EMA_CHANNEL_PADDING)
    return call_fail(ctx, CUMEGA_ERROR_RESOURCE, "config.size is %lld: too large for memory",
                     (long long)config->size);
  const int64_t D = config->size, N = config->num_heads;
  const tensor_type state = tensor_type_of(config->state_dtype);
  const int64_t real = tensor_type_bytes(state);
  const int64_t padding = EMA_CHANNEL_PADDING;
  ema->padded = (D + padding - 1) / padding * padding + ROW_SKEW;
  object_layout host = {.used = MEMORY_ALIGNMENT}, block = {0}; /* ema_derived comes first */
  for (int which = 0; which < EMA_PARAMETER_COUNT; which++)
    ema->parameters_at[which] =
        object_take(&host, D, which == EMA_RESIDUAL ? 1 : N, sizeof(double));
  ema->at.q = object_take(&block, N, ema->padded, real);
  if (state == TYPE_FLOAT32) ema->at.q_lo = object_take(&block, N, ema->padded, real);
  ema->at.gain = object_take(&block, N, ema->padded, real);
  ema->at.projection = object_take(&block, N, ema->padded, real);
  ema->at.residual = object_take(&block, 1, ema->padded, real);
  if (config->truncation_length != CUMEGA_NO_TRUNCATION) {
    ema->at.kernel = object_take(&block, config->truncation_length, ema->padded, real);
    o->scratch_bytes = ema_kernel_row_bytes(N);
  }
  o->host_bytes = host.used;
  o->block_bytes = block.used;
  TRY(object_check_layout(ctx, o->class, &host));
  return object_check_layout(ctx, o->class, &block);
}

/* Each parameter has a stream of random numbers of its own. */
static cumega_status fill(cumega_context *ctx, const object *o, const object_source *from,
                          int which, void *values) {
  const parameter p = parameter_of(o, which);
  const int64_t N = ((const cumega_ema *)o)->config.num_heads;
  const double std[EMA_PARAMETER_COUNT] = {from->std1, from->std1, 0.02, from->std2, from->std2};
  TRY(object_draw(ctx, &p, from, std[which], (uint64_t)which, values));
  if (which != EMA_EXPANSION) return CUMEGA_OK;
  double *expansion = values;
  for (int64_t i = 0; i < parameter_count(&p); i++)
    expansion[i] = (float)expansion[i] + (i % N % 2 == 0 ? 1.0f : -1.0f);
  return CUMEGA_OK;
}

static const object_class ema_class = {
    .argument = "ema",
    .noun = "an EMA",
    .bytes = sizeof(cumega_ema),
    .config_at = offsetof(cumega_ema, config),
    .config_bytes = sizeof(cumega_ema_config),
    .config_smallest = END_OF(cumega_ema_config, activation_arguments),
    .parameter_count = EMA_PARAMETER_COUNT,
    .parameters_smallest = END_OF(cumega_ema_parameters, residual_weight),
    .needs_all = 1,
    .check = check,
    .parameter_of = parameter_of,
    .fill = fill,
    .derive = ema_derive,
};

DEFINE_ZERO_INIT(cumega_ema_parameters)

cumega_status ema_enter(cumega_context *ctx, const cumega_ema *ema) {
  return object_enter(ctx, &ema_class, (const object *)ema);
}

cumega_status cumega_ema_create(cumega_context *ctx, const cumega_ema_config *config,
                                const cumega_ema_parameters *parameters, cumega_ema **ema) {
  TRACE(ctx, 0);
  const object_source from = {.parameters = parameters, .std1 = 0.2, .std2 = 1};
  return object_create(ctx, &ema_class, config, &from, ema);
}

cumega_status cumega_ema_create_from_weights(cumega_context *ctx, const cumega_weights *weights,
                                             const char *prefix, const cumega_ema_config *config,
                                             cumega_ema **ema) {
  TRACE(ctx, 0);
  const object_source from = {.from_weights = 1, .weights = weights, .prefix = prefix};
  return object_create(ctx, &ema_class, config, &from, ema);
}

void cumega_ema_destroy(cumega_ema *ema) {
  object_destroy((object *)ema);
}

cumega_status cumega_ema_get_config(cumega_context *ctx, const cumega_ema *ema,
                                    cumega_ema_config *config) {
  TRACE(ctx, 0);
  return object_get_config(ctx, &ema_class, (const object *)ema, config);
}

cumega_status cumega_ema_set_parameters(cumega_context *ctx, cumega_ema *ema,
                                        const cumega_ema_parameters *parameters) {
  TRACE(ctx, 0);
  return object_set_parameters(ctx, &ema_class, (object *)ema, parameters);
}

cumega_status cumega_ema_get_parameters(cumega_context *ctx, const cumega_ema *ema,
                                        const cumega_ema_parameters *parameters) {
  TRACE(ctx, 0);
  return object_get_parameters(ctx, &ema_class, (const object *)ema, parameters);
}

cumega_status cumega_ema_reset_parameters(cumega_context *ctx, cumega_ema *ema, double val,
                                          double std1, double std2, uint64_t seed) {
  TRACE(ctx, 0);
  const object_source from = {.val = val, .std1 = std1, .std2 = std2, .seed = seed};
  TRY(ema_enter(ctx, ema));
  TRY(object_check_val(ctx, val));
  TRY(parameter_check_spread(ctx, "std1", std1));
  TRY(parameter_check_spread(ctx, "std2", std2));
  return object_replace(ctx, (object *)ema, &from);
}

/* Rows of (D, N): as many values as there are heads. */
static void write_decays(const cumega_ema *ema, const tensor_view *p, const tensor_view *q) {
  const ema_numbers numbers = ema_numbers_at(ema, ema->base.host);
  for (int64_t i = 0; i < ema->config.size * numbers.heads; i++) {
    const ema_decay decay = ema_decay_of(numbers.damping[i], numbers.decay[i]);
    const int64_t d = i / numbers.heads, n = i % numbers.heads;
    if (p) tensor_store(p, d * p->strides[0] + n * p->strides[1], 0, 1, &decay.p);
    if (q) tensor_store(q, d * q->strides[0] + n * q->strides[1], 0, 1, &decay.q);
  }
}

cumega_status cumega_ema_compute_coefficients(cumega_context *ctx, const cumega_ema *ema,
                                              DLTensor *damping_factor,
                                              DLTensor *prev_timestep_weight) {
  TRACE(ctx, trace_bytes(2, (const DLTensor *[]){damping_factor, prev_timestep_weight}));
  tensor_view p, q;
  fp_environment environment;
  TRY(ema_enter(ctx, ema));
  const parameter shape_p = parameter_of((const object *)ema, EMA_DAMPING);
  parameter shape_q = shape_p;
  shape_q.name = "prev_timestep_weight";
  if (damping_factor) TRY(parameter_check_output(ctx, &shape_p, damping_factor, &p));
  if (prev_timestep_weight) TRY(parameter_check_output(ctx, &shape_q, prev_timestep_weight, &q));
  if (damping_factor && prev_timestep_weight) TRY(tensor_view_check_apart(ctx, &q, &p, 0));
  fp_begin(&environment);
  write_decays(ema, damping_factor ? &p : NULL, prev_timestep_weight ? &q : NULL);
  fp_end(&environment);
  return CUMEGA_OK;
}

cumega_status cumega_ema_compute_kernel(cumega_context *ctx, const cumega_ema *ema,
                                        DLTensor *kernel) {
  TRACE(ctx, trace_bytes(1, (const DLTensor *[]){kernel}));
  tensor_view view;
  ema_kernel_row row;
  fp_environment environment;
  TRY(ema_enter(ctx, ema));
  TRY(tensor_view_make_host(ctx, "kernel", kernel, TYPES_FLOAT, &view));
  TRY(tensor_view_check_ndim(ctx, &view, "(D, length)", 2));
  const int64_t shape[] = {ema->config.size, view.shape[1]};
  TRY(tensor_view_check_shape(ctx, &view, "(D, length)", 2, shape));
  TRY(tensor_view_check_output(ctx, &view));
  const ema_numbers numbers = ema_numbers_at(ema, ema->base.host);
  TRY(ema_kernel_row_begin(ctx, numbers.heads, &row));
  fp_begin(&environment);
  for (int64_t d = 0; d < shape[0]; d++) {
    ema_kernel_row_channel(&numbers, d, &row);
    for (row.first = 0; row.first < shape[1]; row.first += row.count) {
      const int64_t left = shape[1] - row.first;
      row.count = left < EMA_KERNEL_BLOCK ? left : EMA_KERNEL_BLOCK;
      ctx->host->ema.kernel_row(&row);
      tensor_store(&view, d * view.strides[0] + row.first * view.strides[1], view.strides[1],
                   row.count, row.out);
    }
  }
  fp_end(&environment);
  return CUMEGA_OK;
}
