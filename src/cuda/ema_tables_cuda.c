/* An EMA's coefficients in the device's memory. They lie in one piece at the end of the host's
 * tables, so one copy takes them over, and a pointer into the device's piece is as far from its
 * beginning as the host's. */
#include <unistd.h>
#include "context_cuda.h"
#include "ema_hooks.h"

/* The device's twin of a host pointer; NULL stays NULL. */
static void *moved(const void *host, const char *from, char *to) {
  return host == NULL ? NULL : to + ((const char *)host - from);
}

static cumega_status upload(cumega_context *ctx, ema_tables *tables) {
  const ema_coefficients_f32 *f = &tables->f32;
  const ema_coefficients_f64 *g = &tables->f64;
  cuda_context *c = cuda_context_of(ctx);
  ema_device_tables made = {0};
  const char *from = g->q != NULL ? (const char *)g->q : (const char *)f->q;
  TRY(cuda_refuse_capture(ctx, "making or changing an EMA"));
  made.bytes = (const char *)tables->block + tables->block_bytes - from;
  TRY(cuda_allocate(ctx, made.bytes, "the coefficients of an EMA", &made.block));
  tables->device = made; /* from here on ema_tables_free gives it back */
  CUDA_TRY(ctx, cudaMemcpyAsync(made.block, from, (size_t)made.bytes, cudaMemcpyHostToDevice,
                                c->stream));
  CUDA_TRY(ctx, cudaStreamSynchronize(c->stream));
  char *to = made.block;
  tables->device.f32 = (ema_coefficients_f32){
      moved(f->q, from, to),          moved(f->q_lo, from, to),     moved(f->gain, from, to),
      moved(f->projection, from, to), moved(f->residual, from, to), moved(f->kernel, from, to)};
  tables->device.f64 = (ema_coefficients_f64){
      moved(g->q, from, to), moved(g->gain, from, to), moved(g->projection, from, to),
      moved(g->residual, from, to), moved(g->kernel, from, to)};
  return CUMEGA_OK;
}

cumega_status ema_upload_cuda(cumega_context *ctx, const cumega_ema *ema, ema_tables *tables) {
  cuda_scope scope;
  (void)ema;
  cudaError_t error = cuda_scope_enter(&scope, ctx->device.device_id);
  cumega_status status = CUMEGA_OK;
  if (error != cudaSuccess)
    status = cuda_fail(ctx, error, "cuda_scope_enter", __FILE__, __LINE__);
  else
    status = upload(ctx, tables);
  cuda_scope_leave(&scope);
  return status;
}

/* In a forked child the device's memory is the parent's, and CUDA may not be called. */
void ema_release_cuda(const cumega_ema *ema, ema_tables *tables) {
  cuda_scope scope;
  if (ema->owner != getpid()) return;
  (void)cuda_scope_enter(&scope, ema->device.device_id);
  cuda_release(ema->memory, tables->device.block, tables->device.bytes);
  cuda_scope_leave(&scope);
  tables->device = (ema_device_tables){0};
}
