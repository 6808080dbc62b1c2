/* What an object keeps in the device's memory: one block, copied from the host when the object is
 * made or changed. */
#include <unistd.h>
#include "context_cuda.h"
#include "hooks.h"

static cumega_status write_block(cumega_context *ctx, const char *noun, const void *from,
                                 int64_t bytes, void **block) {
  cuda_context *c = cuda_context_of(ctx);
  TRY(cuda_refuse_capture(ctx, "making or changing an object"));
  if (*block == NULL) TRY(cuda_allocate(ctx, bytes, noun, block));
  CUDA_TRY(ctx, cudaMemcpyAsync(*block, from, (size_t)bytes, cudaMemcpyHostToDevice, c->stream));
  CUDA_TRY(ctx, cudaStreamSynchronize(c->stream));
  return CUMEGA_OK;
}

cumega_status object_write_cuda(cumega_context *ctx, const char *noun, const void *from,
                                int64_t bytes, void **block) {
  cuda_scope scope;
  const int is_new = *block == NULL;
  cumega_status status = cuda_enter(ctx, &scope);
  if (status == CUMEGA_OK) status = write_block(ctx, noun, from, bytes, block);
  if (status != CUMEGA_OK && is_new && *block != NULL) {
    (void)cudaStreamSynchronize(cuda_context_of(ctx)->stream); /* the copy may be enqueued */
    cuda_release(ctx->memory, *block, bytes);
    *block = NULL;
  }
  cuda_scope_leave(&scope);
  return status;
}

/* In a forked child the device's memory is the parent's, and CUDA may not be called. */
void object_release_cuda(memory *account, DLDevice device, pid_t owner, void *block,
                         int64_t bytes) {
  cuda_scope scope;
  if (owner != getpid()) return;
  (void)cuda_scope_enter(&scope, device.device_id);
  cuda_release(account, block, bytes);
  cuda_scope_leave(&scope);
}
