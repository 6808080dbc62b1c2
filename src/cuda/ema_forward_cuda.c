/* A run of the EMA on the device: enqueued, never waited for. Which kernels run depends on shapes,
 * strides, types, alignment and coefficients alone, so a captured graph serves other values and
 * lengths. */
#include <inttypes.h>
#include <stdio.h>
#include "../ema_slices.h"
#include "context_cuda.h"
#include "ema_cuda.h"
#include "hooks.h"

/* Channels, over all sequences, that keep a large GPU busy; and steps below which slices of time
 * save less than their launches cost. */
#define BUSY_CHANNELS    16384
#define SLICED_MIN_STEPS 4096

static ema_launch launch_of(const cumega_ema *ema, const ema_run *run) {
  const ema_device_tables *device = &ema->tables.device;
  ema_launch launch = {.run = *run,
                       .channels = ema->config.size,
                       .heads = ema->config.num_heads,
                       .padded = ema->padded,
                       .truncation = ema->config.truncation_length,
                       .is_double = device->f64.q != NULL,
                       .f32 = device->f32,
                       .f64 = device->f64,
                       .finish_f32 = activation_resolve_f32(&ema->config),
                       .finish_f64 = activation_resolve_f64(&ema->config),
                       .slices = {1, run->L, 0},
                       .initial_rows = run->initial.data != NULL ? run->initial.rows : INT64_MAX,
                       .final_rows = run->final.data != NULL ? run->final.rows : INT64_MAX};
  return launch;
}

/* ---- slices of time ---- */

static ema_slices slices_of(const cumega_ema *ema, const ema_run *run) {
  const ema_slices whole = {1, run->L, 0};
  const int64_t channels = run->B * ema->config.size;
  const int is_forced = run->algorithm == CUMEGA_EMA_SLICED;
  if (run->B == 0 || ema->config.num_heads > EMA_SLICED_HEADS) return whole;
  if (!is_forced && run->L < SLICED_MIN_STEPS) return whole;
  return ema_slices_of(ema, run, BUSY_CHANNELS / channels);
}

/* Of the states with which slices begin; those with which they end are as many. */
static int64_t half_of_sliced_scratch(const cumega_ema *ema, const ema_run *run,
                                      const ema_slices *slices) {
  const int64_t real = ema->tables.f64.q != NULL ? (int64_t)sizeof(double) : (int64_t)sizeof(float);
  const int64_t states = run->B * slices->count * ema->config.size * ema->config.num_heads;
  return ema_round_up(states * real, MEMORY_ALIGNMENT);
}

/* One launch by the fastest kernel of the chain that can. */
static cumega_status enqueue_chain(cumega_context *ctx, const ema_launch *launch,
                                   const char **kernel) {
  cudaStream_t stream = cuda_context_of(ctx)->stream;
  if (ema_lanes_can(launch))
    CUDA_TRY(ctx, ema_lanes_launch(launch, stream, kernel));
  else
    CUDA_TRY(ctx, ema_recurrent_launch(launch, stream, kernel));
  return CUMEGA_OK;
}

/* The three launches of ema_sliced.cu. */
static cumega_status enqueue_sliced(cumega_context *ctx, const cumega_ema *ema, ema_launch *launch,
                                    const ema_slices *slices) {
  cuda_context *c = cuda_context_of(ctx);
  const int64_t D = launch->channels, N = launch->heads, rows = launch->run.B * slices->count;
  const int64_t half = half_of_sliced_scratch(ema, &launch->run, slices);
  const char *first, *second, *third;
  void *scratch;
  TRY(cuda_scratch(ctx, 2 * half, &scratch));
  const ema_state begin = {scratch, rows, D * N, N, 1};
  const ema_state end = {(char *)scratch + half, rows, D * N, N, 1};
  const ema_sliced_launch check = {*launch, *slices, begin, end};
  launch->slices = *slices;
  launch->silent = 1;
  launch->run.final = begin;
  TRY(enqueue_chain(ctx, launch, &first));
  launch->silent = 0;
  launch->run.initial = begin;
  launch->run.final = end;
  TRY(enqueue_chain(ctx, launch, &second));
  CUDA_TRY(ctx, ema_sliced_check_launch(&check, c->stream, &third));
  snprintf(c->kernels, sizeof c->kernels, "%s %s %s", first, second, third);
  ctx->kernels = c->kernels;
  return CUMEGA_OK;
}

static cumega_status enqueue_chunked(cumega_context *ctx, const ema_launch *launch) {
  void *scratch;
  TRY(cuda_scratch(ctx, ema_chunked_scratch(launch), &scratch));
  CUDA_TRY(ctx,
           ema_chunked_launch_all(launch, scratch, cuda_context_of(ctx)->stream, &ctx->kernels));
  return CUMEGA_OK;
}

/* ---- the hooks ---- */

int64_t ema_workspace_cuda(const cumega_context *ctx, const cumega_ema *ema, const ema_run *run) {
  ema_launch launch = launch_of(ema, run);
  const ema_slices slices = slices_of(ema, run);
  (void)ctx;
  if (run->algorithm == CUMEGA_EMA_CHUNKED) return ema_chunked_scratch(&launch);
  if (slices.count > 1) return 2 * half_of_sliced_scratch(ema, run, &slices);
  return ema_recurrent_scratch(&launch);
}

static cumega_status enqueue(cumega_context *ctx, const cumega_ema *ema, ema_launch *launch) {
  const ema_slices slices = slices_of(ema, &launch->run);
  launch->report = cuda_context_of(ctx)->report;
  if (launch->run.algorithm == CUMEGA_EMA_CHUNKED) return enqueue_chunked(ctx, launch);
  if (slices.count > 1) return enqueue_sliced(ctx, ema, launch, &slices);
  TRY(cuda_scratch(ctx, ema_lanes_can(launch) ? 0 : ema_recurrent_scratch(launch),
                   &launch->states));
  return enqueue_chain(ctx, launch, &ctx->kernels);
}

/* What the front lets pass and this backend does not have. */
static cumega_status check(cumega_context *ctx, const cumega_ema *ema, const ema_run *run) {
  const int is_sliced = run->algorithm == CUMEGA_EMA_SLICED;
  const int most = is_sliced ? EMA_SLICED_HEADS : EMA_CHUNKED_HEADS;
  if (!is_sliced && run->algorithm != CUMEGA_EMA_CHUNKED) return CUMEGA_OK;
  if (ema->config.num_heads <= most) return CUMEGA_OK;
  return front->fail(ctx, CUMEGA_ERROR_UNSUPPORTED,
                     "algorithm is %s, and the EMA has %" PRId64
                     " heads, expected at most %d on CUDA",
                     is_sliced ? "SLICED" : "CHUNKED", ema->config.num_heads, most);
}

cumega_status ema_forward_cuda(cumega_context *ctx, const cumega_ema *ema, const ema_run *run) {
  cuda_scope scope;
  TRY(check(ctx, ema, run));
  ema_launch launch = launch_of(ema, run);
  if (run->B == 0) return CUMEGA_OK;
  cudaError_t error = cuda_scope_enter(&scope, ctx->device.device_id);
  cumega_status status = CUMEGA_OK;
  if (error != cudaSuccess)
    status = cuda_fail(ctx, error, "cuda_scope_enter", __FILE__, __LINE__);
  else
    status = enqueue(ctx, ema, &launch);
  cuda_scope_leave(&scope);
  return status;
}
