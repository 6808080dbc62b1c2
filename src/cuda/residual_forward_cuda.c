/* A run of a residual connection on the device. It is enqueued and not waited for. Which kernels
 * run depends only on shapes, strides, types and alignment, so a captured graph can be replayed
 * with other values.
 *
 * cuBLAS computes Highway's products, in float32 (float64 for float64 tensors) and without TF32.
 * They take the places of gate and y, and one pass follows as for other connections. */
#include <stdio.h>
#include "cublas_cuda.h"
#include "hooks.h"
#include "residual_cuda.h"

static int has_products(const residual_run *run) {
  return run->form == RESIDUAL_HIGHWAY || run->form == RESIDUAL_HIGHWAY_SCALE;
}

static int64_t rows_of(const residual_run *run) {
  int64_t rows = 1;
  for (int i = 0; i < run->ndim - 1; i++) rows *= run->shape[i];
  return rows;
}

/* Scratch: cuBLAS's workspace, the two products, and copies of what cuBLAS cannot read
 * directly. */
typedef struct layout {
  int64_t gate, y, x_copy, y_copy, bytes; /* offsets; negative: not needed */
  int64_t x_stride, y_stride;             /* between rows, as given to cuBLAS */
} layout;

/* The stride between rows if cuBLAS can read them: floats or doubles, contiguous and in order.
 * Else 0. */
static int64_t plain_stride(const residual_run *run, int operand) {
  const residual_operand *o = &run->operands[operand];
  const int64_t D = run->shape[run->ndim - 1];
  const int64_t stride = run->ndim == 1 ? D : o->strides[0];
  if (run->ndim > 2 || (o->type != TYPE_FLOAT32 && o->type != TYPE_FLOAT64)) return 0;
  if (D > 1 && o->strides[run->ndim - 1] != 1) return 0;
  return stride >= D && stride <= INT32_MAX ? stride : 0;
}

static int64_t take(layout *l, int64_t bytes) {
  const int64_t at = l->bytes;
  l->bytes += (bytes + 255) / 256 * 256;
  return at;
}

static layout layout_of(const residual_run *run) {
  const int64_t D = run->shape[run->ndim - 1];
  const int64_t real = run->type == TYPE_FLOAT64 ? sizeof(double) : sizeof(float);
  const int64_t bytes = rows_of(run) * D * real;
  const int has_y = run->form == RESIDUAL_HIGHWAY;
  layout l = {.gate = -1, .y = -1, .x_copy = -1, .y_copy = -1, .bytes = CUBLAS_WORKSPACE_BYTES};
  l.gate = take(&l, bytes);
  l.x_stride = plain_stride(run, OPERAND_X);
  if (l.x_stride == 0) {
    l.x_copy = take(&l, bytes);
    l.x_stride = D;
  }
  if (!has_y) return l;
  l.y = take(&l, bytes);
  l.y_stride = plain_stride(run, OPERAND_Y);
  if (l.y_stride == 0) {
    l.y_copy = take(&l, bytes);
    l.y_stride = D;
  }
  return l;
}

int64_t residual_workspace_cuda(const cumega_context *ctx, const residual_run *run) {
  (void)ctx;
  return has_products(run) ? layout_of(run).bytes : 0;
}

/* Computes the product of one operand into `out`, which is compact. */
static cumega_status multiply(cumega_context *ctx, const residual_run *run, int operand,
                              int64_t stride, const real_vector *weight, void *copy, void *out) {
  const int is_double = run->type == TYPE_FLOAT64;
  const void *in = run->operands[operand].data;
  if (copy != NULL) {
    CUDA_TRY(ctx, residual_gather_launch(run, operand, copy, cuda_context_of(ctx)->stream));
    in = copy;
  }
  return cublas_product(ctx, is_double, rows_of(run), run->shape[run->ndim - 1], in, stride,
                        is_double ? (const void *)weight->f64 : weight->f32, out);
}

static void put_product(residual_run *run, int operand, void *product) {
  residual_operand *o = &run->operands[operand];
  int64_t stride = 1;
  o->data = product;
  o->type = run->type == TYPE_FLOAT64 ? TYPE_FLOAT64 : TYPE_FLOAT32;
  for (int i = run->ndim - 1; i >= 0; i--) {
    o->strides[i] = stride;
    stride *= run->shape[i];
  }
}

static void *at(void *scratch, int64_t offset) {
  return offset < 0 ? NULL : (char *)scratch + offset;
}

static cumega_status enqueue_products(cumega_context *ctx, const residual_run *run,
                                      residual_run *made) {
  const layout l = layout_of(run);
  void *scratch;
  TRY(cublas_open(ctx));
  TRY(cuda_scratch(ctx, l.bytes, &scratch));
  TRY(cublas_begin(ctx, scratch));
  void *gate = at(scratch, l.gate), *y = at(scratch, l.y);
  TRY(multiply(ctx, run, OPERAND_X, l.x_stride, &run->products.x_weight, at(scratch, l.x_copy),
               gate));
  if (y != NULL)
    TRY(multiply(ctx, run, OPERAND_Y, l.y_stride, &run->products.y_weight, at(scratch, l.y_copy),
                 y));
  put_product(made, OPERAND_GATE, gate);
  if (y != NULL) put_product(made, OPERAND_Y, y);
  return CUMEGA_OK;
}

/* The names of a Highway's kernels, for cumega_context_kernels. `last` runs after the products. */
static const char *names_of(cumega_context *ctx, const residual_run *run, const char *last) {
  cuda_context *c = cuda_context_of(ctx);
  const layout l = layout_of(run);
  const int gathers = l.x_copy >= 0 || l.y_copy >= 0;
  snprintf(c->kernels, sizeof c->kernels, "%scublas %s", gathers ? "residual_gather_kernel " : "",
           last);
  return c->kernels;
}

static cumega_status enqueue(cumega_context *ctx, const residual_run *run) {
  const cudaStream_t stream = cuda_context_of(ctx)->stream;
  residual_run made = *run;
  const char *last;
  if (has_products(run)) TRY(enqueue_products(ctx, run, &made));
  if (run->norm.type >= 0)
    CUDA_TRY(ctx, residual_rows_launch(&made, stream, &last));
  else
    CUDA_TRY(ctx, residual_lines_launch(&made, stream, &last));
  ctx->kernels = has_products(run) ? names_of(ctx, run, last) : last;
  return CUMEGA_OK;
}

cumega_status residual_forward_cuda(cumega_context *ctx, const residual_run *run) {
  CUDA_WITHIN_SCOPE(ctx, enqueue(ctx, run));
}

cumega_status residual_prepare_cuda(cumega_context *ctx) {
  CUDA_WITHIN_SCOPE(ctx, cublas_open(ctx));
}
