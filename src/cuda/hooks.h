/* The functions in the backend's table. */
#ifndef CUMEGA_SRC_CUDA_HOOKS_H
#define CUMEGA_SRC_CUDA_HOOKS_H

#include "../backend.h"

cumega_status object_write_cuda(cumega_context *ctx, const char *noun, const void *from,
                                int64_t bytes, void **block);
void object_release_cuda(memory *account, DLDevice device, pid_t owner, void *block,
                         int64_t bytes);

int64_t ema_workspace_cuda(const cumega_context *ctx, const ema_run *run);
cumega_status ema_prepare_cuda(cumega_context *ctx, const ema_run *run);
cumega_status ema_forward_cuda(cumega_context *ctx, const ema_run *run);

int64_t attention_scores_workspace_cuda(const cumega_context *ctx, const attention_run *run);
cumega_status attention_scores_cuda(cumega_context *ctx, const attention_run *run);
cumega_status position_bias_forward_cuda(cumega_context *ctx, const position_bias_matrix *run);

int64_t residual_workspace_cuda(const cumega_context *ctx, const residual_run *run);
cumega_status residual_forward_cuda(cumega_context *ctx, const residual_run *run);
cumega_status residual_prepare_cuda(cumega_context *ctx);

#endif
