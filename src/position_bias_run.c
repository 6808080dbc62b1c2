/* A position bias's runs: io is checked and turned into a position_bias_run, which a backend
 * computes. */
#include <math.h>
#include "backend.h"
#include "fp_environment.h"
#include "trace.h"

/* The views that overlap checks need once everything else has been said. */
typedef struct io_views {
  tensor_view scores, output, attention, padding, query_lengths, key_lengths;
} io_views;

static cumega_status read_scores(cumega_context *ctx, const cumega_position_bias_io *io,
                                 io_views *v, position_bias_run *run) {
  tensor_view *x = &v->scores, *y = &v->output;
  TRY(tensor_view_make(ctx, "scores", io->scores, TYPES_FLOAT, x));
  TRY(tensor_view_make(ctx, "output", io->output, TYPES_FLOAT, y));
  TRY(tensor_view_check_ndim(ctx, x, "(B, H, Lq, Lk)", 4));
  TRY(tensor_view_check_shape(ctx, y, "(B, H, Lq, Lk)", 4, x->shape));
  if (x->type != y->type)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "output is %s, expected the scores' type, %s",
                        tensor_type_name(y->type), tensor_type_name(x->type));
  if (x->shape[2] > x->shape[3])
    return context_fail(
        ctx, CUMEGA_ERROR_ARGUMENT,
        "scores have %lld queries for %lld keys, expected no more queries than keys",
        (long long)x->shape[2], (long long)x->shape[3]);
  run->type = x->type;
  run->B = x->shape[0];
  run->H = x->shape[1];
  run->Lq = x->shape[2];
  run->Lk = x->shape[3];
  run->scores =
      (position_scores){x->data, x->strides[0], x->strides[1], x->strides[2], x->strides[3]};
  run->output =
      (position_scores){y->data, y->strides[0], y->strides[1], y->strides[2], y->strides[3]};
  return CUMEGA_OK;
}

/* (Lq, Lk) or (B, 1, Lq, Lk), and (B, Lk). */
static cumega_status read_masks(cumega_context *ctx, const cumega_position_bias_io *io, io_views *v,
                                position_bias_run *run) {
  const int64_t flat[] = {run->Lq, run->Lk}, full[] = {run->B, 1, run->Lq, run->Lk};
  const int64_t keys[] = {run->B, run->Lk};
  tensor_view *view = &v->attention;
  if (io->attention_mask) {
    TRY(tensor_view_make(ctx, "attention_mask", io->attention_mask, TYPES_MASK, view));
    if (view->ndim == 4)
      TRY(tensor_view_check_shape(ctx, view, "(B, 1, Lq, Lk)", 4, full));
    else
      TRY(tensor_view_check_shape(ctx, view, "(Lq, Lk)", 2, flat));
    run->attention =
        (position_mask){(const uint8_t *)view->data, view->ndim == 4 ? view->strides[0] : 0,
                        view->strides[view->ndim - 2], view->strides[view->ndim - 1]};
  }
  view = &v->padding;
  if (io->key_padding_mask) {
    TRY(tensor_view_make(ctx, "key_padding_mask", io->key_padding_mask, TYPES_MASK, view));
    TRY(tensor_view_check_shape(ctx, view, "(B, Lk)", 2, keys));
    run->padding =
        (position_mask){(const uint8_t *)view->data, view->strides[0], 0, view->strides[1]};
  }
  return CUMEGA_OK;
}

static cumega_status check_memory(cumega_context *ctx, const io_views *v) {
  const tensor_view *inputs[] = {&v->attention, &v->padding, &v->query_lengths, &v->key_lengths};
  TRY(tensor_view_check_output(ctx, &v->output));
  TRY(tensor_view_check_apart(ctx, &v->output, &v->scores, 1));
  for (size_t i = 0; i < sizeof inputs / sizeof *inputs; i++)
    TRY(tensor_view_check_apart(ctx, &v->output, inputs[i], 0));
  return CUMEGA_OK;
}

/* float32 scores are multiplied by a float. */
static cumega_status check_scale(cumega_context *ctx, const position_bias_run *run) {
  fp_environment environment;
  fp_begin(&environment);
  const int fits = run->type == TYPE_FLOAT64 ? isfinite(run->scale) : isfinite((float)run->scale);
  fp_end(&environment);
  if (fits) return CUMEGA_OK;
  return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                      "io.scale is %g, expected a finite number in the range of %s", run->scale,
                      run->type == TYPE_FLOAT64 ? "float64" : "float32");
}

/* A relative bias has no values beyond its max_positions. */
static cumega_status check_length(cumega_context *ctx, const cumega_position_bias *bias,
                                  const char *name, int64_t length) {
  if (bias->config.kind == CUMEGA_POSITION_BIAS_ROTARY || length <= bias->config.max_positions)
    return CUMEGA_OK;
  return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                      "%s is %lld, expected at most the relative bias's max_positions, %lld", name,
                      (long long)length, (long long)bias->config.max_positions);
}

/* Everything about io that does not need values: after this only lengths can be wrong. */
static cumega_status read_io(cumega_context *ctx, const cumega_position_bias *bias,
                             const cumega_position_bias_io *given, position_bias_run *run) {
  cumega_position_bias_io io = cumega_position_bias_io_default();
  io_views v;
  memset(&v, 0, sizeof v);
  memset(run, 0, sizeof *run);
  TRY(context_read_struct(ctx, "io", given, POSITION_IO_SMALLEST, &io, sizeof io));
  TRY(read_scores(ctx, &io, &v, run));
  TRY(read_masks(ctx, &io, &v, run));
  TRY(tensor_view_make_index(ctx, "query_lengths", io.query_lengths, "(B)", run->B,
                             &v.query_lengths, &run->query_lengths));
  TRY(tensor_view_make_index(ctx, "key_lengths", io.key_lengths, "(B)", run->B, &v.key_lengths,
                             &run->key_lengths));
  run->scale = io.scale;
  run->causal = io.causal != 0;
  run->nan_rows = io.nan_rows != 0;
  TRY(check_scale(ctx, run));
  if (bias) TRY(check_length(ctx, bias, "the scores' Lk", run->Lk));
  return check_memory(ctx, &v);
}

/* On the CPU: on a GPU kernels clamp. */
static cumega_status check_lengths(cumega_context *ctx, const position_bias_run *run) {
  for (int64_t b = 0; b < run->B; b++) {
    const int64_t queries = position_queries(run, b), keys = position_keys(run, b);
    if (queries < 0 || queries > run->Lq)
      return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                          "query_lengths[%lld] is %lld, expected 0 to Lq = %lld", (long long)b,
                          (long long)queries, (long long)run->Lq);
    if (keys < queries || keys > run->Lk)
      return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                          "key_lengths[%lld] is %lld, expected %lld, the sequence's queries, to "
                          "Lk = %lld",
                          (long long)b, (long long)keys, (long long)queries, (long long)run->Lk);
  }
  return CUMEGA_OK;
}

/* bias NULL: none. */
static cumega_status enter(cumega_context *ctx, const cumega_position_bias *bias) {
  return bias ? position_bias_enter(ctx, bias) : context_enter(ctx);
}

static cumega_status run_rows(cumega_context *ctx, const cumega_position_bias *bias,
                              const cumega_position_bias_io *io, int softmax) {
  position_bias_run run;
  TRY(enter(ctx, bias));
  TRY(read_io(ctx, bias, io, &run));
  run.softmax = softmax;
  ctx->kernels = "";
  if (ctx->device.device_type == kDLCPU) TRY(check_lengths(ctx, &run));
  const int empty = run.B == 0 || run.H == 0 || run.Lq == 0; /* Lk is no less than Lq */
  if (bias && !empty) TRY(position_table_find(ctx, bias, run.Lk, &run.table));
  ctx->runs++;
  return empty ? CUMEGA_OK : ctx->backend->position_bias_rows(ctx, &run);
}

/* For a range on a profiler's timeline; io has not been checked yet. */
static int64_t io_bytes(const cumega_position_bias_io *io) {
  if (!io || io->struct_size < POSITION_IO_SMALLEST) return 0;
  return trace_bytes(6, (const DLTensor *[]){io->scores, io->output, io->attention_mask,
                                             io->key_padding_mask, io->query_lengths,
                                             io->key_lengths});
}

cumega_status cumega_position_bias_apply(cumega_context *ctx, const cumega_position_bias *bias,
                                         const cumega_position_bias_io *io) {
  TRACE(ctx, io_bytes(io));
  return run_rows(ctx, bias, io, 0);
}

cumega_status cumega_position_bias_softmax(cumega_context *ctx, const cumega_position_bias *bias,
                                           const cumega_position_bias_io *io) {
  TRACE(ctx, io_bytes(io));
  return run_rows(ctx, bias, io, 1);
}

cumega_status cumega_position_bias_workspace_size(cumega_context *ctx,
                                                  const cumega_position_bias *bias,
                                                  const cumega_position_bias_io *io,
                                                  int64_t *bytes) {
  TRACE(ctx, 0);
  position_bias_run run;
  TRY(enter(ctx, bias));
  if (bytes == NULL)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT,
                        "bytes is NULL, expected where to put the size");
  TRY(read_io(ctx, bias, io, &run));
  *bytes = ctx->backend->position_bias_workspace(ctx, &run);
  return CUMEGA_OK;
}

cumega_status cumega_position_bias_prepare(cumega_context *ctx, const cumega_position_bias *bias,
                                           int64_t length) {
  TRACE(ctx, 0);
  position_table table;
  TRY(position_bias_enter(ctx, bias));
  if (length < 0)
    return context_fail(ctx, CUMEGA_ERROR_ARGUMENT, "length is %lld, expected at least 0",
                        (long long)length);
  TRY(check_length(ctx, bias, "length", length));
  return position_table_find(ctx, bias, length, &table);
}

cumega_status cumega_position_bias_forward(cumega_context *ctx, const cumega_position_bias *bias,
                                           DLTensor *output) {
  TRACE(ctx, trace_bytes(1, (const DLTensor *[]){output}));
  tensor_view view;
  position_bias_matrix run;
  TRY(position_bias_enter(ctx, bias));
  TRY(tensor_view_make(ctx, "output", output, TYPES_FLOAT, &view));
  TRY(tensor_view_check_ndim(ctx, &view, "(L, L)", 2));
  const int64_t L = view.shape[0], square[] = {L, L};
  TRY(tensor_view_check_shape(ctx, &view, "(L, L)", 2, square));
  TRY(check_length(ctx, bias, "the output's L", L));
  TRY(tensor_view_check_output(ctx, &view));
  ctx->kernels = "";
  if (L > 0) {
    run = (position_bias_matrix){
        .data = view.data, .L = L, .stride_i = view.strides[0], .stride_j = view.strides[1]};
    run.type = view.type;
    TRY(position_table_find(ctx, bias, L, &run.table));
  }
  ctx->runs++;
  return L > 0 ? ctx->backend->position_bias_forward(ctx, &run) : CUMEGA_OK;
}
