/* A run of the EMA on the device. It is enqueued and not waited for. Which kernels run depends
 * only on shapes, strides, types, alignment and coefficients, so a captured graph can be replayed
 * with other values and lengths. */
#include <inttypes.h>
#include <stdio.h>
#include "../ema_slices.h"
#include "context_cuda.h"
#include "ema_fft_cuda.h"
#include "hooks.h"
#include "tuning.h"

static ema_launch launch_of(const ema_run *run) {
  ema_launch launch = {.run = *run, .slices = {1, run->batch.rows, 0}};
  return launch;
}

/* ---- slices of time ---- */

static ema_slices slices_of(const ema_run *run) {
  const ema_slices whole = {1, run->batch.rows, 0};
  const int64_t channels = run->batch.count * run->channels;
  const int is_forced = run->algorithm == CUMEGA_EMA_SLICED;
  if (run->batch.count == 0 || run->heads > EMA_SLICED_HEADS) return whole;
  if (!is_forced && run->batch.rows < EMA_SLICED_MIN_STEPS) return whole;
  return ema_slices_of(run, EMA_BUSY_CHANNELS / channels);
}

/* The size of the states at the beginning of all slices. The states at the end take as much. */
static int64_t half_of_sliced_scratch(const ema_run *run, const ema_slices *slices) {
  const int64_t real = run->is_double ? (int64_t)sizeof(double) : (int64_t)sizeof(float);
  const int64_t states = run->batch.count * slices->count * run->channels * run->heads;
  return ema_round_up(states * real, MEMORY_ALIGNMENT);
}

/* Replaces FASTEST by the algorithm that is fastest here. */
static ema_run resolve(const ema_run *given) {
  ema_run run = *given;
  if (run.algorithm != CUMEGA_EMA_FASTEST) return run;
  run.algorithm = CUMEGA_EMA_DEFAULT;
  if (run.truncated || run.heads > EMA_CHUNKED_HEADS) return run;
  if (run.batch.rows < EMA_CHUNKED_MIN_STEPS ||
      run.batch.count * run.channels > EMA_CHUNKED_MOST_CHANNELS)
    return run;
  if (slices_of(&run).count < 2) run.algorithm = CUMEGA_EMA_CHUNKED;
  return run;
}

/* The first kernel that can takes a run. If none can, ema_recurrent.cu does. */
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

/* Launches the fastest kernel for the recurrence that can take the run. */
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
static cumega_status enqueue_sliced(cumega_context *ctx, ema_launch *launch,
                                    const ema_slices *slices) {
  cuda_context *c = cuda_context_of(ctx);
  const int64_t D = launch->run.channels, N = launch->run.heads;
  const int64_t half = half_of_sliced_scratch(&launch->run, slices);
  const char *first, *second, *third;
  void *scratch;
  TRY(cuda_scratch(ctx, 2 * half, &scratch));
  const ema_state begin = {scratch, D * N, N, 1};
  const ema_state end = {(char *)scratch + half, D * N, N, 1};
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

int64_t ema_workspace_cuda(const cumega_context *ctx, const ema_run *given) {
  const ema_run run = resolve(given);
  const ema_launch launch = launch_of(&run);
  const ema_slices slices = slices_of(&run);
  if (run.algorithm == CUMEGA_EMA_FFT)
    return run.batch.count == 0 ? 0 : ema_fft_scratch(ctx, &launch);
  if (run.algorithm == CUMEGA_EMA_CHUNKED) return ema_chunked_scratch(&launch);
  if (slices.count > 1) return 2 * half_of_sliced_scratch(&run, &slices);
  return ema_recurrent_scratch(&launch);
}

static cumega_status enqueue(cumega_context *ctx, ema_launch *launch) {
  const ema_slices slices = slices_of(&launch->run);
  launch->report = cuda_context_of(ctx)->report;
  if (launch->run.algorithm == CUMEGA_EMA_FFT) return ema_fft_enqueue(ctx, launch);
  if (launch->run.algorithm == CUMEGA_EMA_CHUNKED) return enqueue_chunked(ctx, launch);
  if (slices.count > 1) return enqueue_sliced(ctx, launch, &slices);
  TRY(cuda_scratch(ctx, find_fast(launch) != NULL ? 0 : ema_recurrent_scratch(launch),
                   &launch->states));
  return enqueue_chain(ctx, launch, &ctx->kernels);
}

/* Refuses what the front accepts but this backend does not support. */
static cumega_status check(cumega_context *ctx, const ema_run *run) {
  const int is_sliced = run->algorithm == CUMEGA_EMA_SLICED;
  const int most = is_sliced ? EMA_SLICED_HEADS : EMA_CHUNKED_HEADS;
  if (!is_sliced && run->algorithm != CUMEGA_EMA_CHUNKED) return CUMEGA_OK;
  if (run->heads <= most) return CUMEGA_OK;
  return front->fail(ctx, CUMEGA_ERROR_UNSUPPORTED,
                     "algorithm is %s, and the EMA has %" PRId64
                     " heads, expected at most %d on CUDA",
                     is_sliced ? "SLICED" : "CHUNKED", run->heads, most);
}

/* A function to call within a scope. */
typedef cumega_status (*scoped)(cumega_context *ctx, ema_launch *launch);

static cumega_status within_scope(cumega_context *ctx, const ema_run *given, scoped function) {
  const ema_run run = resolve(given);
  TRY(check(ctx, &run));
  ema_launch launch = launch_of(&run);
  if (run.batch.count == 0) return CUMEGA_OK;
  CUDA_WITHIN_SCOPE(ctx, function(ctx, &launch));
}

cumega_status ema_forward_cuda(cumega_context *ctx, const ema_run *run) {
  return within_scope(ctx, run, enqueue);
}

static cumega_status make_ready(cumega_context *ctx, ema_launch *launch) {
  return launch->run.algorithm == CUMEGA_EMA_FFT ? ema_fft_prepare(ctx, launch) : CUMEGA_OK;
}

cumega_status ema_prepare_cuda(cumega_context *ctx, const ema_run *run) {
  return within_scope(ctx, run, make_ready);
}
