/* What a position bias precomputes from its parameters.
 *
 * Relative: the parameter is the table, in double and rounded once to float. Rotary, per pair k of
 * the halves of alpha and beta:
 *
 *   even = a1 b1 + a2 b2, odd = a1 b2 - a2 b1,  quarters = theta_k * 2 / pi in two doubles */
#include <float.h>
#include <math.h>
#include "backend.h"
#include "fp_environment.h"
#include "math/rotation.h"

static int is_relative(const cumega_position_bias *bias) {
  return bias->config.kind == CUMEGA_POSITION_BIAS_RELATIVE;
}

int64_t position_parameter_count(const cumega_position_bias_config *config) {
  if (config->kind == CUMEGA_POSITION_BIAS_ROTARY) return config->size;
  return 2 * config->max_positions - 1;
}

void position_ticket_release(position_ticket *ticket) {
  if (ticket == NULL || atomic_fetch_sub(&ticket->holders, 1) > 1) return;
  memory *account = ticket->memory;
  memory_free(account, ticket, sizeof *ticket);
  memory_release(account);
}

static cumega_status make_ticket(cumega_context *ctx, position_values *values) {
  void *made;
  TRY(context_allocate(ctx, sizeof *values->ticket, "a rotary position bias", &made));
  values->ticket = made;
  values->ticket->memory = memory_retain(ctx->memory);
  atomic_init(&values->ticket->holders, 1);
  atomic_init(&values->ticket->is_void, 0);
  return CUMEGA_OK;
}

/* Sizes have been checked to fit: every piece is a whole number of lines of its own. */
static double *take(char **at, int64_t bytes) {
  double *piece = (double *)(void *)*at;
  *at += (bytes + MEMORY_ALIGNMENT - 1) / MEMORY_ALIGNMENT * MEMORY_ALIGNMENT;
  return piece;
}

cumega_status position_values_allocate(cumega_context *ctx, const cumega_position_bias *bias,
                                       position_values *values) {
  const int64_t count = position_parameter_count(&bias->config);
  const int64_t line = MEMORY_ALIGNMENT, doubles = count * (int64_t)sizeof(double);
  memset(values, 0, sizeof *values);
  values->block_bytes = is_relative(bias) ? doubles / 2 * 3 + 2 * line : 4 * doubles + 6 * line;
  TRY(context_allocate(ctx, values->block_bytes, "a position bias", &values->block));
  char *at = values->block;
  values->parameters[0] = take(&at, doubles);
  if (is_relative(bias)) {
    values->relative_f32 = (float *)take(&at, doubles / 2);
    return CUMEGA_OK;
  }
  values->parameters[1] = take(&at, doubles);
  values->quarters = take(&at, doubles / 2);
  values->quarters_lo = take(&at, doubles / 2);
  values->even = take(&at, doubles / 2);
  values->odd = take(&at, doubles / 2);
  return make_ticket(ctx, values);
}

void position_values_free(const cumega_position_bias *bias, position_values *values) {
  const backend_device *device = bias->backend->device;
  if (values->device_block)
    device->object_release(bias->memory, bias->device, bias->owner, values->device_block,
                           values->block_bytes);
  if (values->ticket) atomic_store(&values->ticket->is_void, 1);
  position_ticket_release(values->ticket);
  memory_free(bias->memory, values->block, values->block_bytes);
  memset(values, 0, sizeof *values);
}

/* Beyond float32 a run would give NaN where the scores are finite. */
static cumega_status fail_range(cumega_context *ctx, const char *what, int64_t i, double value) {
  return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                      "%s is %g at [%lld], expected values within the range of float32", what,
                      value, (long long)i);
}

static int64_t derive_relative(const cumega_position_bias *bias, position_values *v) {
  int64_t wrong = -1;
  for (int64_t i = 0; i < position_parameter_count(&bias->config); i++) {
    v->relative_f32[i] = (float)v->parameters[0][i];
    if (!isfinite(v->relative_f32[i]) && wrong < 0) wrong = i;
  }
  return wrong;
}

/* The sum over pairs of |even| + |odd| is what no value of the table goes beyond. */
static double derive_rotary(const cumega_position_bias *bias, position_values *v) {
  const int64_t pairs = bias->config.size / 2;
  const double *a1 = v->parameters[0], *a2 = a1 + pairs, *b1 = v->parameters[1], *b2 = b1 + pairs;
  double largest = 0;
  for (int64_t k = 0; k < pairs; k++) {
    const math_two quarters = math_rotary_quarters(k, pairs);
    v->quarters[k] = quarters.hi;
    v->quarters_lo[k] = quarters.lo;
    v->even[k] = a1[k] * b1[k] + a2[k] * b2[k];
    v->odd[k] = a1[k] * b2[k] - a2[k] * b1[k];
    largest += fabs(v->even[k]) + fabs(v->odd[k]);
  }
  return largest;
}

static position_table table_at(const char *block, const position_values *v, int64_t reach) {
  const char *from = v->block;
  const double *f64 = (const double *)(const void *)(block + ((char *)v->parameters[0] - from));
  const float *f32 = (const float *)(const void *)(block + ((char *)v->relative_f32 - from));
  return (position_table){f32 + (reach - 1), f64 + (reach - 1), reach};
}

/* As for objects that have something on the device, which are refused when it is copied there. */
static cumega_status refuse_capture(cumega_context *ctx) {
  int capturing = 0;
  if (ctx->backend->device) TRY(ctx->backend->device->is_capturing(ctx, &capturing));
  if (!capturing) return CUMEGA_OK;
  return context_fail(ctx, CUMEGA_ERROR_STATE,
                      "the context's stream is being captured, and making or changing an object is "
                      "not allowed meanwhile");
}

cumega_status position_values_derive(cumega_context *ctx, const cumega_position_bias *bias,
                                     position_values *v) {
  fp_environment environment;
  if (!is_relative(bias)) {
    fp_begin(&environment);
    const double largest = derive_rotary(bias, v);
    fp_end(&environment);
    if (largest <= (double)FLT_MAX) return refuse_capture(ctx);
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "alpha and beta have products that add up to %g, expected sums within the "
                        "range of float32",
                        largest);
  }
  fp_begin(&environment);
  const int64_t wrong = derive_relative(bias, v);
  fp_end(&environment);
  if (wrong >= 0) return fail_range(ctx, "relative_position_bias", wrong, v->parameters[0][wrong]);
  const char *block = v->block;
  if (ctx->backend->device) {
    TRY(ctx->backend->device->object_upload(ctx, "a position bias", v->block, v->block_bytes,
                                            &v->device_block));
    block = v->device_block;
  }
  v->table = table_at(block, v, bias->config.max_positions);
  return CUMEGA_OK;
}
