/* The CUDA backend's table of functions, and the one symbol by which libcumega finds it. */
#include <string.h>
#include "build_id.h"
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
    .object_write = object_write_cuda,
    .object_release = object_release_cuda,
    .is_capturing = is_capturing_cuda,
};

static const backend table = {
    .name = BACKEND_NAME,
    .ema = {.workspace = ema_workspace_cuda,
            .prepare = ema_prepare_cuda,
            .forward = ema_forward_cuda},
    .position_bias = {.forward = position_bias_forward_cuda},
    .attention = {.scores_workspace = attention_scores_workspace_cuda,
                  .scores = attention_scores_cuda},
    .residual = {.workspace = residual_workspace_cuda,
                 .prepare = residual_prepare_cuda,
                 .forward = residual_forward_cuda},
    .device = &device,
};

CUMEGA_API const backend *cumega_backend_cuda(const backend_front *given);

const backend *cumega_backend_cuda(const backend_front *given) {
  if (strcmp(given->build_id, BUILD_ID) != 0) return NULL;
  front = given;
  return &table;
}
