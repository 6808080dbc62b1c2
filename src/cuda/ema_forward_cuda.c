/* A run of the EMA on the device: enqueued, never waited for. Which kernel runs depends on shapes,
 * strides, types and alignment alone, so a captured graph serves other values and lengths. */
#include "context_cuda.h"
#include "ema_cuda.h"
#include "ema_hooks.h"

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
                       .finish_f64 = activation_resolve_f64(&ema->config)};
  return launch;
}

int64_t ema_workspace_cuda(const cumega_context *ctx, const cumega_ema *ema, const ema_run *run) {
  ema_launch launch = launch_of(ema, run);
  (void)ctx;
  return ema_recurrent_scratch(&launch);
}

/* The first that can, does; else ema_recurrent.cu. */
static const struct fast_kernel {
  bool (*can)(const ema_launch *launch);
  cudaError_t (*launch)(const ema_launch *launch, cudaStream_t stream, const char **kernel);
} fast_kernels[] = {{ema_channels_can, ema_channels_launch},
                    {ema_lanes_can, ema_lanes_launch},
                    {ema_tiles_can, ema_tiles_launch}};

static cumega_status enqueue(cumega_context *ctx, ema_launch *launch) {
  cuda_context *c = cuda_context_of(ctx);
  launch->report = c->report;
  for (int i = 0; i < (int)(sizeof fast_kernels / sizeof fast_kernels[0]); i++) {
    if (!fast_kernels[i].can(launch)) continue;
    CUDA_TRY(ctx, fast_kernels[i].launch(launch, c->stream, &ctx->kernels));
    return CUMEGA_OK;
  }
  TRY(cuda_scratch(ctx, ema_recurrent_scratch(launch), &launch->states));
  CUDA_TRY(ctx, ema_recurrent_launch(launch, c->stream, &ctx->kernels));
  return CUMEGA_OK;
}

cumega_status ema_forward_cuda(cumega_context *ctx, const cumega_ema *ema, const ema_run *run) {
  cuda_scope scope;
  ema_launch launch = launch_of(ema, run);
  if (run->B == 0) return CUMEGA_OK;
  cudaError_t error = cuda_scope_enter(&scope, ctx->device.device_id);
  cumega_status status = CUMEGA_OK;
  if (error != cudaSuccess)
    status = cuda_fail(ctx, error, "cuda_scope_enter", __FILE__, __LINE__);
  else
    status = enqueue(ctx, &launch);
  cuda_scope_leave(&scope);
  return status;
}
