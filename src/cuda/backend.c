/* The CUDA backend's table, and the one symbol by which libcumega finds it. */
#include "context_cuda.h"
#include "hooks.h"

const backend_front *front;

#if defined(CUMEGA_EMULATION)
#define BACKEND_NAME "cuda-emulation"
#else
#define BACKEND_NAME "cuda"
#endif

static const backend_device device = {
    .context_open = context_open_cuda,
    .context_close = context_close_cuda,
    .context_synchronize = context_synchronize_cuda,
    .context_reserve = context_reserve_cuda,
    .context_set_stream = context_set_stream_cuda,
    .context_report = context_report_cuda,
    .memory_allocate = memory_allocate_cuda,
    .memory_release = memory_release_cuda,
    .memory_write = memory_write_cuda,
    .memory_read = memory_read_cuda,
    .object_upload = object_upload_cuda,
    .object_release = object_release_cuda,
    .ema_prepare = ema_prepare_cuda,
    .is_capturing = is_capturing_cuda,
};

static const backend table = {
    .name = BACKEND_NAME,
    .ema_workspace = ema_workspace_cuda,
    .ema_forward = ema_forward_cuda,
    .position_bias_workspace = position_bias_workspace_cuda,
    .position_bias_rows = position_bias_rows_cuda,
    .position_bias_forward = position_bias_forward_cuda,
    .residual_workspace = residual_workspace_cuda,
    .residual_forward = residual_forward_cuda,
    .residual_prepare = residual_prepare_cuda,
    .device = &device,
};

CUMEGA_API const backend *cumega_backend_cuda(const backend_front *given);

const backend *cumega_backend_cuda(const backend_front *given) {
  if (given->version != CUMEGA_VERSION_NUMBER || given->struct_bytes != BACKEND_STRUCT_BYTES)
    return NULL;
  front = given;
  return &table;
}
