/* A run of the EMA on the device: enqueued, never waited for. Which kernels run depends on shapes,
 * strides, types, alignment and coefficients alone, so a captured graph serves other values and
 * lengths. */
#include <inttypes.h>
#include <stdio.h>
#include "../ema_slices.h"
#include "context_cuda.h"
#include "ema_fft_cuda.h"
#include "hooks.h"

/* Channels, over all sequences, that keep a large GPU busy; and steps below which slices of time
 * save less than their launches cost. */
#define BUSY_CHANNELS    16384
#define SLICED_MIN_STEPS 4096

/* Where AUTO leaves the chain for CHUNKED: so few channels that the chain's latency is the limit, and
 * steps enough for several chunks. */
#define CHUNKED_MOST_CHANNELS 4096
#define CHUNKED_MIN_STEPS     8192

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

/* What AUTO stands for here; other algorithms as they are. */
static ema_run resolve(const cumega_ema *ema, const ema_run *given) {
  ema_run run = *given;
  if (run.algorithm != CUMEGA_EMA_AUTO) return run;
  run.algorithm = CUMEGA_EMA_RECURRENT;
  if (run.truncated || ema->config.num_heads > EMA_CHUNKED_HEADS) return run;
  if (run.L < CHUNKED_MIN_STEPS || run.B * ema->config.size > CHUNKED_MOST_CHANNELS) return run;
  if (slices_of(ema, &run).count < 2) run.algorithm = CUMEGA_EMA_CHUNKED;
  return run;
}

/* The first that can, does; else ema_recurrent.cu. */
static const struct fast_kernel {
  bool (*can)(const ema_launch *launch);
  cudaError_t (*launch)(const ema_launch *launch, cudaStream_t stream, const char **kernel);
} fast_kernels[] = {{ema_channels_can, ema_channels_launch},
                    {ema_lanes_can, ema_lanes_launch},
                    {ema_tiles_can, ema_tiles_launch}};

static const struct fast_kernel *find_fast(const ema_launch *launch) {
  for (int i = 0; i < (int)(sizeof fast_kernels / sizeof fast_kernels[0]); i++)
    if (fast_kernels[i].can(launch)) return &fast_kernels[i];
  return NULL;
}

/* One launch by the fastest kernel of the chain that can. */
static cumega_status enqueue_chain(cumega_context *ctx, const ema_launch *launch,
                                   const char **kernel) {
  cudaStream_t stream = cuda_context_of(ctx)->stream;
  const struct fast_kernel *fast = find_fast(launch);
  if (fast != NULL)
    CUDA_TRY(ctx, fast->launch(launch, stream, kernel));
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

int64_t ema_workspace_cuda(const cumega_context *ctx, const cumega_ema *ema, const ema_run *given) {
  const ema_run run = resolve(ema, given);
  const ema_launch launch = launch_of(ema, &run);
  const ema_slices slices = slices_of(ema, &run);
  if (run.algorithm == CUMEGA_EMA_FFT) return run.B == 0 ? 0 : ema_fft_scratch(ctx, &launch);
  if (run.algorithm == CUMEGA_EMA_CHUNKED) return ema_chunked_scratch(&launch);
  if (slices.count > 1) return 2 * half_of_sliced_scratch(ema, &run, &slices);
  return ema_recurrent_scratch(&launch);
}

static cumega_status enqueue(cumega_context *ctx, const cumega_ema *ema, ema_launch *launch) {
  const ema_slices slices = slices_of(ema, &launch->run);
  launch->report = cuda_context_of(ctx)->report;
  if (launch->run.algorithm == CUMEGA_EMA_FFT) return ema_fft_enqueue(ctx, ema, launch);
  if (launch->run.algorithm == CUMEGA_EMA_CHUNKED) return enqueue_chunked(ctx, launch);
  if (slices.count > 1) return enqueue_sliced(ctx, ema, launch, &slices);
  TRY(cuda_scratch(ctx, find_fast(launch) != NULL ? 0 : ema_recurrent_scratch(launch),
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

/* One of the two below, within a scope. */
typedef cumega_status (*scoped)(cumega_context *ctx, const cumega_ema *ema, ema_launch *launch);

static cumega_status within_scope(cumega_context *ctx, const cumega_ema *ema, const ema_run *given,
                                  scoped function) {
  cuda_scope scope;
  const ema_run run = resolve(ema, given);
  TRY(check(ctx, ema, &run));
  ema_launch launch = launch_of(ema, &run);
  if (run.B == 0) return CUMEGA_OK;
  cumega_status status = cuda_enter(ctx, &scope);
  if (status == CUMEGA_OK) status = function(ctx, ema, &launch);
  cuda_scope_leave(&scope);
  return status;
}

cumega_status ema_forward_cuda(cumega_context *ctx, const cumega_ema *ema, const ema_run *run) {
  return within_scope(ctx, ema, run, enqueue);
}

static cumega_status make_ready(cumega_context *ctx, const cumega_ema *ema, ema_launch *launch) {
  return launch->run.algorithm == CUMEGA_EMA_FFT ? ema_fft_prepare(ctx, ema, launch) : CUMEGA_OK;
}

cumega_status ema_prepare_cuda(cumega_context *ctx, const cumega_ema *ema, const ema_run *run) {
  return within_scope(ctx, ema, run, make_ready);
}
