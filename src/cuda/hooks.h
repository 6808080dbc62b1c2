/* What objects and operations put into the backend's table. */
#ifndef CUMEGA_SRC_CUDA_HOOKS_H
#define CUMEGA_SRC_CUDA_HOOKS_H

#include "../backend.h"

cumega_status object_upload_cuda(cumega_context *ctx, const char *what, const void *from,
                                 int64_t bytes, void **block);
void object_release_cuda(memory *account, DLDevice device, pid_t owner, void *block, int64_t bytes);

int64_t ema_workspace_cuda(const cumega_context *ctx, const cumega_ema *ema, const ema_run *run);
cumega_status ema_prepare_cuda(cumega_context *ctx, const cumega_ema *ema, const ema_run *run);
cumega_status ema_forward_cuda(cumega_context *ctx, const cumega_ema *ema, const ema_run *run);

int64_t position_bias_workspace_cuda(const cumega_context *ctx, const position_bias_run *run);
cumega_status position_bias_rows_cuda(cumega_context *ctx, const position_bias_run *run);
cumega_status position_bias_forward_cuda(cumega_context *ctx, const position_bias_matrix *run);

int64_t residual_workspace_cuda(const cumega_context *ctx, const residual_run *run);
cumega_status residual_forward_cuda(cumega_context *ctx, const residual_run *run);
cumega_status residual_prepare_cuda(cumega_context *ctx);

#endif
