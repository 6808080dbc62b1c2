/* Runs of residual connections: io is checked and turned into a residual_run, which a backend
 * computes. */
#include <stdio.h>
#include "backend.h"
#include "norm_object.h"
#include "residual_object.h"
#include "trace.h"

static const char *const operand_names[OPERAND_COUNT] = {"x", "y", "gate", "out", "normalized"};
static const char *const gated_names[OPERAND_COUNT] = {"x", "h", "gate", "out", "normalized"};

#define IO_SMALLEST       END_OF(cumega_residual_io, normalized)
#define GATED_IO_SMALLEST END_OF(cumega_residual_gated_io, normalized)

DEFINE_ZERO_INIT(cumega_residual_io)

DEFINE_ZERO_INIT(cumega_residual_gated_io)

/* A call on its way to a run. */
typedef struct request {
  const char *const *names;
  const DLTensor *tensors[OPERAND_COUNT]; /* NULL: absent */
  tensor_view views[OPERAND_COUNT];
  int transposed;
  const cumega_norm *norm;
  int64_t size; /* the number of channels that is expected; negative: any */
} request;

static cumega_status check_same(cumega_context *ctx, const tensor_view *view,
                                const tensor_view *y) {
  if (view->type != y->type)
    return call_fail_argument(ctx, "%s is %s, expected %s's type, %s", view->name,
                              tensor_type_name(view->type), y->name, tensor_type_name(y->type));
  char letters[48];
  snprintf(letters, sizeof letters, "the shape of %s", y->name);
  return tensor_view_check_shape(ctx, view, letters, y->ndim, y->shape);
}

/* The channels of y, against the object's and the norm's. */
static cumega_status check_channels(cumega_context *ctx, const request *r) {
  const tensor_view *y = &r->views[OPERAND_Y];
  const int least = r->transposed ? 2 : 1;
  if (y->ndim < least)
    return call_fail_argument(ctx, "%s has %d dimensions, expected %s", y->name, y->ndim,
                              r->transposed ? "(..., D, L)" : "(..., D)");
  const int64_t D = y->shape[y->ndim - least];
  if (r->size >= 0 && D != r->size)
    return call_fail_argument(ctx, "%s has %lld channels, in dimension %d, expected d_model, %lld",
                              y->name, (long long)D, y->ndim - least, (long long)r->size);
  return r->norm ? norm_check_use(ctx, r->norm, y, D) : CUMEGA_OK;
}

static cumega_status check_norm(cumega_context *ctx, const request *r) {
  if (r->norm == NULL && r->tensors[OPERAND_NORMALIZED])
    return call_fail_argument(ctx, "normalized is given without norm, expected both");
  if (r->norm == NULL) return CUMEGA_OK;
  if (r->tensors[OPERAND_NORMALIZED] == NULL)
    return call_fail_argument(ctx, "norm is given without normalized, expected both");
  if (r->transposed)
    return call_fail_argument(
        ctx, "norm is given with transposed, expected channels in the last dimension: "
             "pass permuted views");
  return CUMEGA_OK;
}

/* Outputs do not overlap each other or partly overlap inputs. Absent ones have no elements. */
static cumega_status check_memory(cumega_context *ctx, const request *r) {
  for (int i = OPERAND_OUT; i < OPERAND_COUNT; i++) {
    TRY(tensor_view_check_output(ctx, &r->views[i]));
    for (int j = 0; j < OPERAND_OUT; j++)
      TRY(tensor_view_check_apart(ctx, &r->views[i], &r->views[j], 1));
  }
  return tensor_view_check_apart(ctx, &r->views[OPERAND_NORMALIZED], &r->views[OPERAND_OUT], 0);
}

/* Everything about the tensors. */
static cumega_status check_request(cumega_context *ctx, request *r) {
  TRY(check_norm(ctx, r));
  if (r->tensors[OPERAND_OUT] == NULL && r->tensors[OPERAND_NORMALIZED] == NULL)
    return call_fail_argument(ctx, "out is NULL, expected a tensor");
  TRY(tensor_view_make(ctx, r->names[OPERAND_Y], r->tensors[OPERAND_Y], TYPES_FLOAT,
                       &r->views[OPERAND_Y]));
  TRY(check_channels(ctx, r));
  for (int i = 0; i < OPERAND_COUNT; i++) {
    if (i == OPERAND_Y || r->tensors[i] == NULL) continue;
    TRY(tensor_view_make(ctx, r->names[i], r->tensors[i], TYPES_FLOAT, &r->views[i]));
    TRY(check_same(ctx, &r->views[i], &r->views[OPERAND_Y]));
  }
  return check_memory(ctx, r);
}

/* ---- from views to loops ---- */

typedef struct loop {
  int64_t size, strides[OPERAND_COUNT], order;
  int is_channel;
} loop;

static int can_merge(const loop *outer, const loop *inner) {
  if (outer->is_channel || inner->is_channel) return 0;
  for (int k = 0; k < OPERAND_COUNT; k++)
    if (outer->strides[k] != inner->strides[k] * inner->size) return 0;
  return 1;
}

/* Dimensions of size 1 are dropped. The others are sorted so that the output's memory is walked
 * in order, with channels innermost where a row of them is processed together, and merged where
 * one stride serves two of them. */
static void make_loops(const request *r, residual_run *run, int needs_channel, int channel_last) {
  const tensor_view *y = &r->views[OPERAND_Y];
  const int key = r->tensors[OPERAND_OUT] ? OPERAND_OUT : OPERAND_NORMALIZED;
  const int channel = y->ndim - (r->transposed ? 2 : 1);
  loop loops[CUMEGA_MAX_DIMS + 1];
  int n = 0;
  for (int i = 0; i < y->ndim; i++) {
    loop l = {.size = y->shape[i], .is_channel = needs_channel && i == channel};
    if (l.size == 1 && !l.is_channel) continue;
    for (int k = 0; k < OPERAND_COUNT; k++) l.strides[k] = r->views[k].strides[i];
    l.order = l.strides[key] < 0 ? -l.strides[key] : l.strides[key];
    if (l.is_channel && channel_last) l.order = -1;
    int at = n++;
    for (; at > 0 && loops[at - 1].order < l.order; at--) loops[at] = loops[at - 1];
    loops[at] = l;
  }
  if (n == 0) loops[n++] = (loop){.size = 1};
  int merged = 0;
  for (int i = 1; i < n; i++) {
    if (can_merge(&loops[merged], &loops[i])) {
      loops[i].size *= loops[merged].size;
      loops[merged] = loops[i];
    } else {
      loops[++merged] = loops[i];
    }
  }
  run->ndim = merged + 1;
  run->channel = -1;
  for (int i = 0; i < run->ndim; i++) {
    run->shape[i] = loops[i].size;
    if (loops[i].is_channel) run->channel = i;
    for (int k = 0; k < OPERAND_COUNT; k++) run->operands[k].strides[i] = loops[i].strides[k];
  }
}

static void make_run(const request *r, residual_run *run) {
  const int rows = run->form == RESIDUAL_HIGHWAY || run->form == RESIDUAL_HIGHWAY_SCALE || r->norm;
  run->type = r->views[OPERAND_Y].type;
  run->norm = norm_run_of(r->norm);
  for (int k = 0; k < OPERAND_COUNT; k++) {
    run->operands[k].data = r->views[k].data;
    run->operands[k].type = r->views[k].type;
  }
  make_loops(r, run, rows || run->form == RESIDUAL_CHANNELS, rows);
}

/* ---- the kinds ---- */

static void set_form(const cumega_residual *residual, residual_run *run) {
  const cumega_residual_config *c = &residual->config;
  run->alpha = residual_numbers_of(residual)->alpha;
  run->beta = residual_numbers_of(residual)->beta;
  switch (c->kind) {
  case CUMEGA_RESIDUAL_FEEDFORWARD: run->form = RESIDUAL_COPY; return;
  case CUMEGA_RESIDUAL_RESIDUAL:
  case CUMEGA_RESIDUAL_DECAY:
    run->form = residual_reads_x(c) ? RESIDUAL_SUM : RESIDUAL_SCALE;
    return;
  case CUMEGA_RESIDUAL_AFFINE:
    run->form = c->scalar ? RESIDUAL_SUM : RESIDUAL_CHANNELS;
    if (!c->scalar) run->channels = residual_vector(residual, RESIDUAL_AFFINE);
    return;
  case CUMEGA_RESIDUAL_HIGHWAY:
    run->form = c->elemwise ? RESIDUAL_HIGHWAY_SCALE : RESIDUAL_HIGHWAY;
    run->alpha = c->scaling_correction ? 1.732 : 1;
    run->channels = residual_vector(residual, RESIDUAL_WY);
    run->products = (residual_products){.x_weight = residual_vector(residual, RESIDUAL_WX_WEIGHT),
                                        .x_bias = residual_vector(residual, RESIDUAL_WX_BIAS),
                                        .y_weight = residual_vector(residual, RESIDUAL_WY_WEIGHT),
                                        .y_bias = residual_vector(residual, RESIDUAL_WY_BIAS)};
    return;
  }
}

/* From a public call's arguments to a run; *count: the elements. */
static cumega_status prepare(cumega_context *ctx, const cumega_residual *residual,
                             const cumega_residual_io *given, residual_run *run, int64_t *count) {
  cumega_residual_io io;
  request r;
  memset(&io, 0, sizeof io);
  memset(&r, 0, sizeof r);
  memset(run, 0, sizeof *run);
  TRY(residual_enter(ctx, residual));
  TRY(call_read_struct(ctx, "io", given, IO_SMALLEST, &io, sizeof io));
  r.names = operand_names;
  r.transposed = io.transposed != 0;
  r.norm = io.norm;
  r.size = residual->config.d_model;
  r.tensors[OPERAND_Y] = io.y;
  r.tensors[OPERAND_OUT] = io.out;
  r.tensors[OPERAND_NORMALIZED] = io.normalized;
  if (residual_reads_x(&residual->config)) {
    r.tensors[OPERAND_X] = io.x;
    if (io.x == NULL) return call_fail_argument(ctx, "x is NULL, expected a tensor");
  }
  if (r.transposed && residual->config.kind == CUMEGA_RESIDUAL_HIGHWAY)
    return call_fail_argument(ctx,
                              "transposed is given to a Highway, expected channels in the last "
                              "dimension: pass permuted views");
  TRY(check_request(ctx, &r));
  if (residual->base.block_bytes > 0)
    TRY(object_check_type(ctx, "residual", residual->config.dtype, "y", r.views[OPERAND_Y].type));
  set_form(residual, run);
  make_run(&r, run);
  *count = r.views[OPERAND_Y].count;
  return CUMEGA_OK;
}

static cumega_status prepare_gated(cumega_context *ctx, const cumega_residual_gated_io *given,
                                   residual_run *run, int64_t *count) {
  cumega_residual_gated_io io;
  request r;
  memset(&io, 0, sizeof io);
  memset(&r, 0, sizeof r);
  memset(run, 0, sizeof *run);
  TRY(call_enter(ctx));
  TRY(call_read_struct(ctx, "io", given, GATED_IO_SMALLEST, &io, sizeof io));
  r.names = gated_names;
  r.norm = io.norm;
  r.size = -1;
  r.tensors[OPERAND_X] = io.x;
  r.tensors[OPERAND_Y] = io.h;
  r.tensors[OPERAND_GATE] = io.gate;
  r.tensors[OPERAND_OUT] = io.out;
  r.tensors[OPERAND_NORMALIZED] = io.normalized;
  if (io.x == NULL || io.gate == NULL)
    return call_fail_argument(ctx, "%s is NULL, expected a tensor", io.x == NULL ? "x" : "gate");
  TRY(check_request(ctx, &r));
  run->form = RESIDUAL_GATED;
  make_run(&r, run);
  *count = r.views[OPERAND_Y].count;
  return CUMEGA_OK;
}

static cumega_status forward(cumega_context *ctx, const residual_run *run, int64_t count) {
  ctx->kernels = "";
  ctx->runs++;
  return count == 0 ? CUMEGA_OK : ctx->backend->residual.forward(ctx, run);
}

/* For a range on a profiler's timeline; io has not been checked yet. x is ignored where the kind
 * does not read it, and is as large as y elsewhere. */
static int64_t io_bytes(const cumega_residual *residual, const cumega_residual_io *io) {
  if (!io || io->struct_size < IO_SMALLEST) return 0;
  int reads_x = residual && residual_reads_x(&residual->config);
  return trace_bytes(4,
                     (const DLTensor *[]){io->y, io->out, io->normalized, reads_x ? io->y : NULL});
}

static int64_t gated_io_bytes(const cumega_residual_gated_io *io) {
  if (!io || io->struct_size < GATED_IO_SMALLEST) return 0;
  return trace_bytes(5, (const DLTensor *[]){io->x, io->gate, io->h, io->out, io->normalized});
}

cumega_status cumega_residual_forward(cumega_context *ctx, const cumega_residual *residual,
                                      const cumega_residual_io *io) {
  TRACE(ctx, io_bytes(residual, io));
  residual_run run;
  int64_t count = 0;
  TRY(prepare(ctx, residual, io, &run, &count));
  return forward(ctx, &run, count);
}

cumega_status cumega_residual_gated_forward(cumega_context *ctx,
                                            const cumega_residual_gated_io *io) {
  TRACE(ctx, gated_io_bytes(io));
  residual_run run;
  int64_t count = 0;
  TRY(prepare_gated(ctx, io, &run, &count));
  return forward(ctx, &run, count);
}

static cumega_status workspace(cumega_context *ctx, const residual_run *run, int64_t count,
                               int64_t *bytes) {
  if (bytes == NULL)
    return call_fail_argument(ctx, "bytes is NULL, expected where to put the size");
  *bytes = count == 0 ? 0 : ctx->backend->residual.workspace(ctx, run);
  return CUMEGA_OK;
}

cumega_status cumega_residual_workspace_size(cumega_context *ctx, const cumega_residual *residual,
                                             const cumega_residual_io *io, int64_t *bytes) {
  TRACE(ctx, 0);
  residual_run run;
  int64_t count = 0;
  TRY(prepare(ctx, residual, io, &run, &count));
  return workspace(ctx, &run, count, bytes);
}

cumega_status cumega_residual_gated_workspace_size(cumega_context *ctx,
                                                   const cumega_residual_gated_io *io,
                                                   int64_t *bytes) {
  TRACE(ctx, 0);
  residual_run run;
  int64_t count = 0;
  TRY(prepare_gated(ctx, io, &run, &count));
  return workspace(ctx, &run, count, bytes);
}

cumega_status cumega_residual_prepare(cumega_context *ctx, const cumega_residual *residual) {
  TRACE(ctx, 0);
  TRY(residual_enter(ctx, residual));
  if (residual->config.kind != CUMEGA_RESIDUAL_HIGHWAY || ctx->backend->residual.prepare == NULL)
    return CUMEGA_OK;
  return ctx->backend->residual.prepare(ctx);
}
