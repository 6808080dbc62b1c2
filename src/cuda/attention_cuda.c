/* Runs of attention scores and position biases on the device. They are enqueued and not waited
 * for. Which kernel runs depends only on shapes, strides, types and alignment, so a captured graph
 * can be replayed with other values and lengths. */
#include "context_cuda.h"
#include "hooks.h"
#include "attention_cuda.h"

/* Whether a row's keys are adjacent and every row begins at a multiple of `bytes`. */
static int can_vector(const attention_run *run, const attention_tensor *s, int64_t bytes) {
  const int64_t element = run->type == TYPE_FLOAT64 ? 8 : run->type == TYPE_FLOAT32 ? 4 : 2;
  const int64_t strides = (s->stride_b | s->stride_h | s->stride_q) * element;
  return s->stride_k == 1 && (uintptr_t)s->data % (uintptr_t)bytes == 0 && strides % bytes == 0;
}

static attention_launch launch_of(const cumega_context *ctx, const attention_run *run) {
  const int64_t bytes = run->type == TYPE_FLOAT64 || run->type == TYPE_FLOAT32 ? 16 : 8;
  attention_launch launch = {.run = *run,
                             .rows = run->B * run->H * run->Lq,
                             .vector_in = can_vector(run, &run->scores, bytes),
                             .vector_out = can_vector(run, &run->output, bytes),
                             .report = cuda_context_of(ctx)->report};
  return launch;
}

int64_t attention_scores_workspace_cuda(const cumega_context *ctx, const attention_run *run) {
  (void)ctx;
  return attention_softmax_can(run) ? 0 : attention_long_scratch(run);
}

static cumega_status enqueue_rows(cumega_context *ctx, attention_launch *launch) {
  cuda_context *c = cuda_context_of(ctx);
  const attention_run *run = &launch->run;
  if (!run->softmax) {
    CUDA_TRY(ctx, attention_scores_launch(launch, c->stream, &ctx->kernels));
  } else if (attention_softmax_can(run)) {
    CUDA_TRY(ctx, attention_softmax_launch(launch, c->stream, &ctx->kernels));
  } else {
    TRY(cuda_scratch(ctx, attention_long_scratch(run), &launch->statistics));
    CUDA_TRY(ctx, attention_long_launch(launch, c->stream, &ctx->kernels));
  }
  return CUMEGA_OK;
}

cumega_status attention_scores_cuda(cumega_context *ctx, const attention_run *run) {
  attention_launch launch = launch_of(ctx, run);
  CUDA_WITHIN_SCOPE(ctx, enqueue_rows(ctx, &launch));
}

static cumega_status enqueue_matrix(cumega_context *ctx, const position_bias_matrix *matrix) {
  const attention_run run = {.B = 1,
                             .H = 1,
                             .Lq = matrix->L,
                             .Lk = matrix->L,
                             .type = matrix->type,
                             .table = matrix->table,
                             .output = {.data = matrix->data,
                                        .stride_q = matrix->stride_i,
                                        .stride_k = matrix->stride_j}};
  const attention_launch launch = launch_of(ctx, &run);
  CUDA_TRY(ctx, position_bias_launch(&launch, cuda_context_of(ctx)->stream, &ctx->kernels));
  return CUMEGA_OK;
}

cumega_status position_bias_forward_cuda(cumega_context *ctx, const position_bias_matrix *run) {
  CUDA_WITHIN_SCOPE(ctx, enqueue_matrix(ctx, run));
}
