/* What the EMA puts into the backend's table. */
#ifndef CUMEGA_SRC_CUDA_EMA_HOOKS_H
#define CUMEGA_SRC_CUDA_EMA_HOOKS_H

#include "../backend.h"

cumega_status ema_upload_cuda(cumega_context *ctx, const cumega_ema *ema, ema_tables *tables);
void ema_release_cuda(const cumega_ema *ema, ema_tables *tables);
cumega_status ema_prepare_cuda(cumega_context *ctx, const cumega_ema *ema, const ema_run *run);
int64_t ema_workspace_cuda(const cumega_context *ctx, const cumega_ema *ema, const ema_run *run);
cumega_status ema_forward_cuda(cumega_context *ctx, const cumega_ema *ema, const ema_run *run);

#endif
