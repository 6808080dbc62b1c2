/* The EMA as an object: made, read back, given new parameters, destroyed. Its runs are in
 * ema_run.c. */
#include <math.h>
#include "backend.h"
#include "fp_environment.h"
#include "math/philox.h"
#include "parameter.h"
#include "tensor_element.h"
#include "trace.h"

static const char *const parameter_names[EMA_PARAMETER_COUNT] = {
    "damping_factor", "decay_factor", "ema_expansion_matrix", "kernel_projection_matrix",
    "residual_weight"};

cumega_status ema_enter(cumega_context *ctx, const cumega_ema *ema) {
  TRY(context_enter(ctx));
  if (ema == NULL) return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "ema is NULL, expected an EMA");
  return context_check_device(ctx, "ema", ema->device);
}

/* (D, N, 1) or (D, N); the projection (D, N) only; the residual weight (D). */
static parameter parameter_of(const cumega_ema *ema, int which) {
  const int64_t D = ema->config.size, N = ema->config.num_heads;
  parameter p = {parameter_names[which], {"(D, N, 1)", 3, {D, N, 1}}, {"(D, N)", 2, {D, N}}};
  if (which == EMA_PROJECTION) p.shape = p.also;
  if (which == EMA_RESIDUAL) p.shape = p.also = (parameter_shape){"(D)", 1, {D}};
  return p;
}

static cumega_status read_parameter_struct(cumega_context *ctx, const cumega_ema_parameters *given,
                                           DLTensor **tensors) {
  cumega_ema_parameters p;
  memset(&p, 0, sizeof p);
  TRY(context_read_struct(ctx, "parameters", given, EMA_PARAMETERS_SMALLEST, &p, sizeof p));
  tensors[EMA_DAMPING] = p.damping_factor;
  tensors[EMA_DECAY] = p.decay_factor;
  tensors[EMA_EXPANSION] = p.ema_expansion_matrix;
  tensors[EMA_PROJECTION] = p.kernel_projection_matrix;
  tensors[EMA_RESIDUAL] = p.residual_weight;
  return CUMEGA_OK;
}

/* Random parameters, as float32 values. Stream: which parameter; index: the element. */
static cumega_status draw_parameters(cumega_context *ctx, const cumega_ema *ema, double val,
                                     double std1, double std2, uint64_t seed, ema_tables *t) {
  const double std[EMA_PARAMETER_COUNT] = {std1, std1, 0.02, std2, std2};
  int beyond = -1;
  fp_environment environment;
  fp_begin(&environment);
  for (int which = 0; which < EMA_PARAMETER_COUNT; which++) {
    const parameter p = parameter_of(ema, which);
    for (int64_t i = 0; i < parameter_count(&p); i++) {
      float value = (float)(val + std[which] * normal_at(seed, (uint64_t)which, (uint64_t)i));
      if (which == EMA_EXPANSION) value += i % ema->config.num_heads % 2 == 0 ? 1.0f : -1.0f;
      if (!isfinite(value)) beyond = which;
      t->parameters[which][i] = value;
    }
  }
  fp_end(&environment);
  if (beyond < 0) return CUMEGA_OK;
  return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                      "val %g with a standard deviation of %g goes beyond float32 in %s", val,
                      std[beyond], parameter_names[beyond]);
}

/* Where new parameters come from: one of the three. */
typedef struct source {
  const cumega_ema_parameters *parameters;
  const cumega_weights *weights;
  const char *prefix;
  double val, std1, std2;
  uint64_t seed;
} source;

static cumega_status read_from_struct(cumega_context *ctx, const cumega_ema *ema,
                                      const cumega_ema_parameters *given, ema_tables *t) {
  DLTensor *tensors[EMA_PARAMETER_COUNT];
  TRY(read_parameter_struct(ctx, given, tensors));
  for (int which = 0; which < EMA_PARAMETER_COUNT; which++) {
    const parameter p = parameter_of(ema, which);
    TRY(parameter_read(ctx, &p, p.name, tensors[which], t->parameters[which]));
  }
  return CUMEGA_OK;
}

static cumega_status read_from_weights(cumega_context *ctx, const cumega_ema *ema,
                                       const source *from, ema_tables *t) {
  for (int which = 0; which < EMA_PARAMETER_COUNT; which++) {
    const parameter p = parameter_of(ema, which);
    TRY(parameter_read_weights(ctx, &p, from->weights, from->prefix, t->parameters[which]));
  }
  return CUMEGA_OK;
}

/* New tables from a source take the place of the old ones, or on failure leave them. */
static cumega_status replace_tables(cumega_context *ctx, cumega_ema *ema, const source *from) {
  ema_tables tables;
  cumega_status status = ema_tables_allocate(ctx, ema, &tables);
  if (status != CUMEGA_OK) return status;
  if (from->weights)
    status = read_from_weights(ctx, ema, from, &tables);
  else if (from->parameters)
    status = read_from_struct(ctx, ema, from->parameters, &tables);
  else
    status = draw_parameters(ctx, ema, from->val, from->std1, from->std2, from->seed, &tables);
  if (status == CUMEGA_OK) status = ema_tables_derive(ctx, ema, &tables);
  if (status == CUMEGA_OK && ctx->backend->device) {
    memory *account = context_use_account(ctx, ema->memory);
    status = ema_tables_upload(ctx, &tables);
    context_use_account(ctx, account);
  }
  if (status == CUMEGA_OK) {
    ema_tables old = ema->tables;
    ema->tables = tables;
    tables = old;
  }
  ema_tables_free(ema, &tables);
  return status;
}

static cumega_status create(cumega_context *ctx, const cumega_ema_config *config,
                            const source *from, cumega_ema **ema) {
  if (ema == NULL)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "ema is NULL, expected where to put the EMA");
  *ema = NULL;
  cumega_ema made;
  memset(&made, 0, sizeof made);
  TRY(context_read_struct(ctx, "config", config, EMA_CONFIG_SMALLEST, &made.config,
                          sizeof made.config));
  TRY(ema_config_check(ctx, &made.config));
  made.config.struct_size = sizeof made.config;
  if (made.config.size > INT64_MAX - 2 * EMA_CHANNEL_PADDING)
    return context_fail(ctx, CUMEGA_ERROR_RESOURCE, "config.size is %lld: too large for memory",
                        (long long)made.config.size);
  made.device = ctx->device;
  made.padded =
      (made.config.size + EMA_CHANNEL_PADDING - 1) / EMA_CHANNEL_PADDING * EMA_CHANNEL_PADDING +
      EMA_ROW_SKEW;
  made.memory = ctx->memory;
  made.backend = ctx->backend;
  made.owner = ctx->owner;
  TRY(replace_tables(ctx, &made, from));
  cumega_ema *object = memory_allocate(ctx->memory, sizeof *object);
  if (object == NULL) {
    ema_tables_free(&made, &made.tables);
    return context_fail(ctx, CUMEGA_ERROR_RESOURCE, "cannot allocate %zu bytes for an EMA",
                        sizeof *object);
  }
  memory_retain(ctx->memory);
  *object = made;
  *ema = object;
  return CUMEGA_OK;
}

cumega_status cumega_ema_create(cumega_context *ctx, const cumega_ema_config *config,
                                const cumega_ema_parameters *parameters, cumega_ema **ema) {
  TRACE(ctx, 0);
  source from = {.parameters = parameters, .val = 0, .std1 = 0.2, .std2 = 1, .seed = 0};
  if (ema) *ema = NULL;
  TRY(context_enter(ctx));
  return create(ctx, config, &from, ema);
}

cumega_status cumega_ema_create_from_weights(cumega_context *ctx, const cumega_weights *weights,
                                             const char *prefix, const cumega_ema_config *config,
                                             cumega_ema **ema) {
  TRACE(ctx, 0);
  source from = {.weights = weights, .prefix = prefix};
  if (ema) *ema = NULL;
  TRY(context_enter(ctx));
  if (weights == NULL)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "weights is NULL, expected an open weight file");
  return create(ctx, config, &from, ema);
}

void cumega_ema_destroy(cumega_ema *ema) {
  if (ema == NULL) return;
  memory *account = ema->memory;
  ema_tables_free(ema, &ema->tables);
  memory_free(account, ema, sizeof *ema);
  memory_release(account);
}

cumega_status cumega_ema_set_parameters(cumega_context *ctx, cumega_ema *ema,
                                        const cumega_ema_parameters *parameters) {
  TRACE(ctx, 0);
  source from = {.parameters = parameters};
  TRY(ema_enter(ctx, ema));
  if (parameters == NULL)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "parameters is NULL, expected five tensors");
  return replace_tables(ctx, ema, &from);
}

cumega_status cumega_ema_reset_parameters(cumega_context *ctx, cumega_ema *ema, double val,
                                          double std1, double std2, uint64_t seed) {
  TRACE(ctx, 0);
  source from = {.val = val, .std1 = std1, .std2 = std2, .seed = seed};
  TRY(ema_enter(ctx, ema));
  if (!isfinite(val))
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "val is %g, expected a finite number", val);
  TRY(parameter_check_spread(ctx, "std1", std1));
  TRY(parameter_check_spread(ctx, "std2", std2));
  return replace_tables(ctx, ema, &from);
}

cumega_status cumega_ema_get_parameters(cumega_context *ctx, const cumega_ema *ema,
                                        const cumega_ema_parameters *parameters) {
  TRACE(ctx, 0);
  DLTensor *tensors[EMA_PARAMETER_COUNT];
  tensor_view views[EMA_PARAMETER_COUNT];
  TRY(ema_enter(ctx, ema));
  TRY(read_parameter_struct(ctx, parameters, tensors));
  for (int i = 0; i < EMA_PARAMETER_COUNT; i++) {
    if (tensors[i] == NULL) continue;
    const parameter p = parameter_of(ema, i);
    TRY(parameter_check_output(ctx, &p, tensors[i], &views[i]));
    for (int j = 0; j < i; j++)
      if (tensors[j]) TRY(tensor_view_check_apart(ctx, &views[i], &views[j], 0));
  }
  for (int i = 0; i < EMA_PARAMETER_COUNT; i++)
    if (tensors[i]) parameter_write(&views[i], ema->tables.parameters[i]);
  return CUMEGA_OK;
}

cumega_status cumega_ema_compute_coefficients(cumega_context *ctx, const cumega_ema *ema,
                                              DLTensor *damping_factor,
                                              DLTensor *prev_timestep_weight) {
  TRACE(ctx, trace_bytes(2, (const DLTensor *[]){damping_factor, prev_timestep_weight}));
  tensor_view p, q;
  TRY(ema_enter(ctx, ema));
  const parameter shape_p = parameter_of(ema, EMA_DAMPING);
  parameter shape_q = shape_p;
  shape_q.name = "prev_timestep_weight";
  if (damping_factor) TRY(parameter_check_output(ctx, &shape_p, damping_factor, &p));
  if (prev_timestep_weight) TRY(parameter_check_output(ctx, &shape_q, prev_timestep_weight, &q));
  if (damping_factor && prev_timestep_weight) TRY(tensor_view_check_apart(ctx, &q, &p, 0));
  if (damping_factor) parameter_write(&p, ema->tables.p);
  if (prev_timestep_weight) parameter_write(&q, ema->tables.q);
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
  int64_t shape[] = {ema->config.size, view.shape[1]};
  TRY(tensor_view_check_shape(ctx, &view, "(D, length)", 2, shape));
  TRY(tensor_view_check_output(ctx, &view));
  TRY(ema_kernel_row_begin(ctx, ema, &row));
  fp_begin(&environment);
  for (int64_t d = 0; d < ema->config.size; d++) {
    ema_kernel_row_channel(ema, &ema->tables, d, &row);
    for (row.first = 0; row.first < shape[1]; row.first += row.count) {
      int64_t left = shape[1] - row.first;
      row.count = left < EMA_KERNEL_BLOCK ? left : EMA_KERNEL_BLOCK;
      ctx->host->ema_kernel_row(&row);
      for (int64_t i = 0; i < row.count; i++)
        tensor_set_element(&view, d * view.strides[0] + (row.first + i) * view.strides[1],
                           row.out[i]);
    }
  }
  fp_end(&environment);
  return CUMEGA_OK;
}
