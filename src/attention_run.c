/* Runs of attention scores and their softmax: io is checked and turned into a attention_run, which
 * a backend computes. */
#include <math.h>
#include <cumega/attention.h>
#include "backend.h"
#include "fp_environment.h"
#include "position_bias_object.h"
#include "trace.h"

/* The views that overlap checks need once everything else has been said. */
typedef struct io_views {
  tensor_view scores, output, attention, padding, query_lengths, key_lengths;
} io_views;

static cumega_status read_scores(cumega_context *ctx, const cumega_attention_scores_io *io,
                                 io_views *v, attention_run *run) {
  tensor_view *x = &v->scores, *y = &v->output;
  TRY(tensor_view_make(ctx, "scores", io->scores, TYPES_FLOAT, x));
  TRY(tensor_view_make(ctx, "output", io->output, TYPES_FLOAT, y));
  TRY(tensor_view_check_ndim(ctx, x, "(B, H, Lq, Lk)", 4));
  TRY(tensor_view_check_shape(ctx, y, "(B, H, Lq, Lk)", 4, x->shape));
  if (x->type != y->type)
    return call_fail_argument(ctx, "output is %s, expected the scores' type, %s",
                              tensor_type_name(y->type), tensor_type_name(x->type));
  if (x->shape[2] > x->shape[3])
    return call_fail_argument(
        ctx, "scores have %lld queries for %lld keys, expected no more queries than keys",
        (long long)x->shape[2], (long long)x->shape[3]);
  run->type = x->type;
  run->B = x->shape[0];
  run->H = x->shape[1];
  run->Lq = x->shape[2];
  run->Lk = x->shape[3];
  run->queries = (batch_layout){.count = run->B, .rows = run->Lq};
  run->keys = (batch_layout){.count = run->B, .rows = run->Lk};
  run->scores =
      (attention_tensor){x->data, x->strides[0], x->strides[1], x->strides[2], x->strides[3]};
  run->output =
      (attention_tensor){y->data, y->strides[0], y->strides[1], y->strides[2], y->strides[3]};
  return CUMEGA_OK;
}

/* (Lq, Lk) or (B, 1, Lq, Lk), and (B, Lk). */
static cumega_status read_masks(cumega_context *ctx, const cumega_attention_scores_io *io,
                                io_views *v, attention_run *run) {
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
        (attention_mask_view){(const uint8_t *)view->data, view->ndim == 4 ? view->strides[0] : 0,
                              view->strides[view->ndim - 2], view->strides[view->ndim - 1]};
  }
  view = &v->padding;
  if (io->key_padding_mask) {
    TRY(tensor_view_make(ctx, "key_padding_mask", io->key_padding_mask, TYPES_MASK, view));
    TRY(tensor_view_check_shape(ctx, view, "(B, Lk)", 2, keys));
    run->padding =
        (attention_mask_view){(const uint8_t *)view->data, view->strides[0], 0, view->strides[1]};
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
static cumega_status check_scale(cumega_context *ctx, const attention_run *run) {
  fp_environment environment;
  fp_begin(&environment);
  const int fits = run->type == TYPE_FLOAT64 ? isfinite(run->scale) : isfinite((float)run->scale);
  fp_end(&environment);
  if (fits) return CUMEGA_OK;
  return call_fail_argument(ctx, "io.scale is %g, expected a finite number in the range of %s",
                            run->scale, run->type == TYPE_FLOAT64 ? "float64" : "float32");
}

#define IO_SMALLEST END_OF(cumega_attention_scores_io, bias)

static const cumega_attention_scores_io default_io = {.struct_size = sizeof default_io,
                                                      .scale = 1};

void cumega_attention_scores_io_init(cumega_attention_scores_io *io, size_t struct_size) {
  call_init_struct(io, struct_size, &default_io, sizeof default_io);
}

/* Everything about io that does not need values: after this only lengths can be wrong. *bias may
 * become NULL. */
static cumega_status read_io(cumega_context *ctx, const cumega_attention_scores_io *given,
                             const cumega_position_bias **bias, attention_run *run) {
  cumega_attention_scores_io io = default_io;
  io_views v;
  memset(&v, 0, sizeof v);
  memset(run, 0, sizeof *run);
  TRY(call_enter(ctx));
  TRY(call_read_struct(ctx, "io", given, IO_SMALLEST, &io, sizeof io));
  TRY(read_scores(ctx, &io, &v, run));
  TRY(read_masks(ctx, &io, &v, run));
  TRY(tensor_view_make_index(ctx, "query_lengths", io.query_lengths, "(B)", run->B,
                             &v.query_lengths, &run->queries.index));
  TRY(tensor_view_make_index(ctx, "key_lengths", io.key_lengths, "(B)", run->B, &v.key_lengths,
                             &run->keys.index));
  run->scale = io.scale;
  run->causal = io.causal != 0;
  run->nan_rows = io.nan_rows != 0;
  TRY(check_scale(ctx, run));
  *bias = io.bias;
  if (io.bias) {
    TRY(call_check_device(ctx, "bias", io.bias->base.device));
    TRY(position_bias_check_use(ctx, io.bias, "the scores' Lk", run->Lk, "scores", run->type));
  }
  return check_memory(ctx, &v);
}

static cumega_status run_rows(cumega_context *ctx, const cumega_attention_scores_io *io,
                              int softmax) {
  attention_run run;
  const cumega_position_bias *bias;
  TRY(read_io(ctx, io, &bias, &run));
  run.softmax = softmax;
  ctx->kernels = "";
  if (ctx->device.device_type == kDLCPU) { /* on a GPU kernels clamp */
    TRY(batch_check(ctx, &run.queries, (batch_names){"query_lengths", "Lq", ""}, NULL));
    TRY(batch_check(ctx, &run.keys,
                    (batch_names){"key_lengths", "Lk", ", the sequence's queries,"},
                    &run.queries));
  }
  const int empty = run.B == 0 || run.H == 0 || run.Lq == 0; /* Lk is no less than Lq */
  if (bias && !empty) TRY(position_table_find(ctx, bias, run.Lk, &run.table));
  ctx->runs++;
  return empty ? CUMEGA_OK : ctx->backend->attention.scores(ctx, &run);
}

/* For a range on a profiler's timeline; io has not been checked yet. */
static int64_t io_bytes(const cumega_attention_scores_io *io) {
  if (!io || io->struct_size < IO_SMALLEST) return 0;
  return trace_bytes(6, (const DLTensor *[]){io->scores, io->output, io->attention_mask,
                                             io->key_padding_mask, io->query_lengths,
                                             io->key_lengths});
}

cumega_status cumega_attention_scores(cumega_context *ctx, const cumega_attention_scores_io *io) {
  TRACE(ctx, io_bytes(io));
  return run_rows(ctx, io, 0);
}

cumega_status cumega_attention_softmax(cumega_context *ctx, const cumega_attention_scores_io *io) {
  TRACE(ctx, io_bytes(io));
  return run_rows(ctx, io, 1);
}

cumega_status cumega_attention_scores_workspace_size(cumega_context *ctx,
                                                     const cumega_attention_scores_io *io,
                                                     int64_t *bytes) {
  TRACE(ctx, 0);
  attention_run run;
  const cumega_position_bias *bias;
  TRY(call_enter(ctx));
  if (bytes == NULL)
    return call_fail_argument(ctx, "bytes is NULL, expected where to put the size");
  TRY(read_io(ctx, io, &bias, &run));
  *bytes = ctx->backend->attention.scores_workspace(ctx, &run);
  return CUMEGA_OK;
}
