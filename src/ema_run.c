/* The EMA's runs: io is checked and turned into an ema_run, which a backend computes. */
#include "backend.h"
#include "ema_object.h"
#include "trace.h"

#define IO_SMALLEST END_OF(cumega_ema_io, algorithm)

DEFINE_ZERO_INIT(cumega_ema_io)

/* The views that overlap checks need once everything else has been said. */
typedef struct io_views {
  tensor_view x, y, mask, lengths, offsets, initial, final, initial_slots, final_slots;
} io_views;

static cumega_status fail_io(cumega_context *ctx, const char *sentence) {
  return call_fail_argument(ctx, "%s", sentence);
}

/* (B, D, N), or (rows, D, N) where slots name the rows. */
static cumega_status read_state(cumega_context *ctx, const char *name, const DLTensor *tensor,
                                const cumega_ema *ema, int64_t B, int has_slots, tensor_view *view,
                                ema_state *state, batch_slots *slots) {
  if (tensor == NULL) return CUMEGA_OK;
  TRY(tensor_view_make(ctx, name, tensor, tensor_type_of(ema->config.state_dtype), view));
  int64_t shape[] = {has_slots && view->ndim == 3 ? view->shape[0] : B, ema->config.size,
                     ema->config.num_heads};
  TRY(tensor_view_check_shape(ctx, view, has_slots ? "(rows, D, N)" : "(B, D, N)", 3, shape));
  slots->rows = shape[0];
  state->data = view->data; /* NULL only where there is no row */
  state->stride_row = view->strides[0];
  state->stride_d = view->strides[1];
  state->stride_n = view->strides[2];
  return CUMEGA_OK;
}

/* x and y: (L, B, D), or packed (total, D). Sets L, B, type and the sequences. */
static cumega_status read_sequences(cumega_context *ctx, const cumega_ema *ema,
                                    const cumega_ema_io *io, io_views *v, ema_run *run) {
  int64_t D = ema->config.size;
  tensor_view *x = &v->x, *y = &v->y;
  TRY(tensor_view_make(ctx, "x", io->x, TYPES_FLOAT, x));
  TRY(tensor_view_make(ctx, "y", io->y, TYPES_FLOAT, y));
  run->batch.packed = io->sequence_offsets != NULL;
  int64_t rows = x->shape[0], B = x->shape[1]; /* 0 where x has fewer dimensions */
  int64_t packed[] = {rows, D}, padded[] = {rows, B, D};
  const char *letters = run->batch.packed ? "(total, D)" : "(L, B, D)";
  const int64_t *shape = run->batch.packed ? packed : padded;
  int ndim = run->batch.packed ? 2 : 3;
  TRY(tensor_view_check_ndim(ctx, x, letters, ndim));
  TRY(tensor_view_check_shape(ctx, x, letters, ndim, shape));
  TRY(tensor_view_check_shape(ctx, y, letters, ndim, shape));
  if (x->type != y->type)
    return call_fail_argument(ctx, "y is %s, expected x's type, %s", tensor_type_name(y->type),
                              tensor_type_name(x->type));
  if (x->type == TYPE_FLOAT64 && tensor_type_of(ema->config.state_dtype) != TYPE_FLOAT64)
    return fail_io(ctx,
                   "x is float64, which needs an EMA whose state_dtype is float64; it is float32");
  run->type = x->type;
  run->batch.rows = rows;
  run->x = (ema_sequences){x->data, x->strides[0], run->batch.packed ? 0 : x->strides[1],
                           x->strides[ndim - 1]};
  run->y = (ema_sequences){y->data, y->strides[0], run->batch.packed ? 0 : y->strides[1],
                           y->strides[ndim - 1]};
  if (!run->batch.packed) {
    run->batch.count = B;
    return CUMEGA_OK;
  }
  TRY(tensor_view_make(ctx, "sequence_offsets", io->sequence_offsets, TYPES_INDEX, &v->offsets));
  if (v->offsets.ndim != 1 || v->offsets.shape[0] < 1)
    return call_fail_argument(
        ctx, "sequence_offsets has %d dimensions, and %lld in the first, expected (B + 1)",
        v->offsets.ndim, (long long)v->offsets.shape[0]);
  run->batch.count = v->offsets.shape[0] - 1;
  run->batch.index = tensor_view_index(&v->offsets);
  return CUMEGA_OK;
}

/* (B, 1, L) or (B, L). */
static cumega_status read_mask(cumega_context *ctx, const DLTensor *mask, tensor_view *view,
                               ema_run *run) {
  if (mask == NULL) return CUMEGA_OK;
  if (run->batch.packed)
    return fail_io(ctx, "mask is given with sequence_offsets, expected the padded form (L, B, D)");
  TRY(tensor_view_make(ctx, "mask", mask, TYPES_MASK, view));
  int64_t full[] = {run->batch.count, 1, run->batch.rows},
          flat[] = {run->batch.count, run->batch.rows};
  if (view->ndim == 2)
    TRY(tensor_view_check_shape(ctx, view, "(B, L)", 2, flat));
  else
    TRY(tensor_view_check_shape(ctx, view, "(B, 1, L)", 3, full));
  run->mask = (const uint8_t *)view->data;
  run->mask_stride_b = view->strides[0];
  run->mask_stride_t = view->strides[view->ndim - 1];
  return CUMEGA_OK;
}

/* Outputs do not overlap themselves, each other or the inputs; y may be x, final_state may be
 * initial_state. */
static cumega_status check_memory(cumega_context *ctx, const io_views *v) {
  const tensor_view *inputs[] = {&v->mask,    &v->lengths,       &v->offsets,
                                 &v->initial, &v->initial_slots, &v->final_slots};
  const size_t count = sizeof inputs / sizeof *inputs;
  TRY(tensor_view_check_output(ctx, &v->y));
  TRY(tensor_view_check_apart(ctx, &v->y, &v->x, 1));
  for (size_t i = 0; i < count; i++) TRY(tensor_view_check_apart(ctx, &v->y, inputs[i], 0));
  TRY(tensor_view_check_output(ctx, &v->final));
  TRY(tensor_view_check_apart(ctx, &v->final, &v->x, 0));
  TRY(tensor_view_check_apart(ctx, &v->final, &v->y, 0));
  for (size_t i = 0; i < count; i++)
    TRY(tensor_view_check_apart(ctx, &v->final, inputs[i], inputs[i] == &v->initial));
  return CUMEGA_OK;
}

static cumega_status check_truncation(cumega_context *ctx, const cumega_ema *ema,
                                      const cumega_ema_io *io, ema_run *run) {
  int64_t K = ema->config.truncation_length;
  run->truncated = !io->ignore_truncation && K < run->batch.rows;
  if (!run->truncated || (io->initial_state == NULL && io->final_state == NULL)) return CUMEGA_OK;
  return call_fail_argument(
      ctx,
      "%s is given, but the EMA's truncation_length %lld is below the %lld %s of x: "
      "set ignore_truncation, or leave the state out",
      io->initial_state ? "initial_state" : "final_state", (long long)K,
      (long long)run->batch.rows, run->batch.packed ? "rows" : "steps");
}

static cumega_status check_has_cuda(cumega_context *ctx, const char *algorithm) {
  if (ctx->device.device_type != kDLCPU) return CUMEGA_OK;
  return call_fail(ctx, CUMEGA_ERROR_UNSUPPORTED,
                   "algorithm is %s, which the CPU does not have: SLICED is parallel in time "
                   "there, with the bits of DEFAULT",
                   algorithm);
}

/* Whether io.algorithm can compute this run at all; what a device lacks, its backend says. */
static cumega_status check_algorithm(cumega_context *ctx, const cumega_ema_io *io,
                                     const io_views *v, ema_run *run) {
  run->algorithm = (int)io->algorithm;
  switch (io->algorithm) {
  case CUMEGA_EMA_DEFAULT:
  case CUMEGA_EMA_RECURRENT: return CUMEGA_OK;
  case CUMEGA_EMA_FASTEST:
    if (ctx->device.device_type == kDLCPU) run->algorithm = CUMEGA_EMA_DEFAULT;
    return CUMEGA_OK;
  case CUMEGA_EMA_SLICED:
    if (run->truncated)
      return fail_io(ctx,
                     "algorithm is SLICED, and the run is truncated: steps of a truncated sum "
                     "do not wait for each other, expected DEFAULT");
    if (tensor_view_same(&v->x, &v->y))
      return fail_io(ctx,
                     "algorithm is SLICED, and y is x, expected other memory: a slice reads x "
                     "before it begins, and may be computed again");
    return CUMEGA_OK;
  case CUMEGA_EMA_CHUNKED:
    if (run->truncated)
      return fail_io(ctx, "algorithm is CHUNKED, and the run is truncated: a truncated sum has no "
                          "state to carry, expected DEFAULT");
    return check_has_cuda(ctx, "CHUNKED");
  case CUMEGA_EMA_FFT:
    if (io->initial_state == NULL && io->final_state == NULL) return check_has_cuda(ctx, "FFT");
    return call_fail_argument(ctx,
                              "algorithm is FFT, and %s is given: a convolution neither takes nor "
                              "gives a state, expected DEFAULT or CHUNKED",
                              io->initial_state ? "initial_state" : "final_state");
  }
  return call_fail_argument(ctx, "algorithm is %d, expected 0 to %d", (int)io->algorithm,
                            CUMEGA_EMA_FASTEST);
}

/* What a backend needs of the EMA. */
static void read_ema(const cumega_ema *ema, ema_run *run) {
  const cumega_ema_config *c = &ema->config;
  run->channels = c->size;
  run->heads = c->num_heads;
  run->padded = ema->padded;
  run->truncation = c->truncation_length;
  run->is_double = tensor_type_of(c->state_dtype) == TYPE_FLOAT64;
  run->f32 = ema_coefficients_f32_at(ema, ema->base.block);
  run->f64 = ema_coefficients_f64_at(ema, ema->base.block);
  run->finish_f32 = activation_resolve_f32(c->activation, &c->activation_arguments);
  run->finish_f64 = activation_resolve_f64(c->activation, &c->activation_arguments);
  run->warmup = ((const ema_derived *)ema->base.host)->warmup;
  run->numbers = ema_numbers_at(ema, ema->base.host);
  run->serial = ema->base.serial;
}

/* Everything about io that does not need values: after this only index tensors can be wrong. */
static cumega_status read_io(cumega_context *ctx, const cumega_ema *ema, const cumega_ema_io *io,
                             io_views *v, ema_run *run) {
  memset(v, 0, sizeof *v);
  memset(run, 0, sizeof *run);
  read_ema(ema, run);
  if (io->sequence_lengths && io->sequence_offsets)
    return fail_io(ctx,
                   "sequence_lengths and sequence_offsets are both given, expected one of them");
  if (io->initial_slots && !io->initial_state)
    return fail_io(ctx, "initial_slots is given without initial_state, expected both");
  if (io->final_slots && !io->final_state)
    return fail_io(ctx, "final_slots is given without final_state, expected both");
  TRY(read_sequences(ctx, ema, io, v, run));
  int64_t B = run->batch.count;
  TRY(read_mask(ctx, io->mask, &v->mask, run));
  TRY(tensor_view_make_index(ctx, "sequence_lengths", io->sequence_lengths, "(B)", B, &v->lengths,
                             &run->batch.index));
  TRY(tensor_view_make_index(ctx, "initial_slots", io->initial_slots, "(B)", B, &v->initial_slots,
                             &run->initial_slots.index));
  TRY(tensor_view_make_index(ctx, "final_slots", io->final_slots, "(B)", B, &v->final_slots,
                             &run->final_slots.index));
  TRY(read_state(ctx, "initial_state", io->initial_state, ema, B, io->initial_slots != NULL,
                 &v->initial, &run->initial, &run->initial_slots));
  TRY(read_state(ctx, "final_state", io->final_state, ema, B, io->final_slots != NULL, &v->final,
                 &run->final, &run->final_slots));
  TRY(check_truncation(ctx, ema, io, run));
  TRY(check_algorithm(ctx, io, v, run));
  return check_memory(ctx, v);
}

static cumega_status read_io_struct(cumega_context *ctx, const cumega_ema_io *given,
                                    cumega_ema_io *io) {
  memset(io, 0, sizeof *io);
  return call_read_struct(ctx, "io", given, IO_SMALLEST, io, sizeof *io);
}

/* A step is a forward of length 1: (B, D) becomes (1, B, D), its mask (B, 1). */
typedef struct step_views {
  cumega_tensor x, y, mask;
} step_views;

static const DLTensor *add_leading(cumega_tensor *view, const DLTensor *tensor, int ndim) {
  if (tensor == NULL || tensor->ndim != ndim || tensor->shape == NULL) return tensor;
  view->dl = *tensor;
  view->shape[0] = 1;
  memcpy(view->shape + 1, tensor->shape, (size_t)ndim * sizeof *view->shape);
  view->dl.ndim = ndim + 1;
  view->dl.shape = view->shape;
  if (tensor->strides) {
    view->strides[0] = 0;
    memcpy(view->strides + 1, tensor->strides, (size_t)ndim * sizeof *view->strides);
    view->dl.strides = view->strides;
  }
  return &view->dl;
}

static cumega_status step_io(cumega_context *ctx, cumega_ema_io *io, step_views *v) {
  if (io->sequence_lengths)
    return fail_io(ctx, "sequence_lengths is given to a step, which has one row per sequence");
  if (io->sequence_offsets)
    return fail_io(ctx, "sequence_offsets is given to a step, which has one row per sequence");
  io->x = add_leading(&v->x, io->x, 2);
  io->y = (DLTensor *)(uintptr_t)add_leading(&v->y, io->y, 2);
  if (io->x && io->x->ndim == 3 && io->x->shape && io->x->shape[0] != 1)
    return call_fail_argument(ctx, "x has %lld steps, expected one: (B, D) or (1, B, D)",
                              (long long)io->x->shape[0]);
  if (io->mask && io->mask->ndim == 1) {
    /* (B) is (B, 1): the batch keeps its stride, the one step needs none. */
    v->mask.dl = *io->mask;
    v->mask.dl.ndim = 2;
    v->mask.dl.shape = v->mask.shape;
    v->mask.dl.strides = v->mask.strides;
    v->mask.shape[0] = io->mask->shape ? io->mask->shape[0] : 0;
    v->mask.shape[1] = 1;
    v->mask.strides[0] = io->mask->strides ? io->mask->strides[0] : 1;
    v->mask.strides[1] = 0;
    io->mask = &v->mask.dl;
  }
  if (io->algorithm != CUMEGA_EMA_DEFAULT)
    return call_fail_argument(ctx,
                              "algorithm is %d for a step, expected 0: there is one way to do one",
                              (int)io->algorithm);
  io->ignore_truncation = 1;
  return CUMEGA_OK;
}

typedef enum which_call { FORWARD, STEP, EITHER } which_call;

/* Only a step has x (B, D) without offsets, or mask (B), or wants e. */
static int is_io_of_step(const cumega_ema_io *io) {
  return io->raw || (io->x && io->x->ndim == 2 && !io->sequence_offsets) ||
         (io->mask && io->mask->ndim == 1);
}

/* From a public call's arguments to a run. */
static cumega_status prepare(cumega_context *ctx, const cumega_ema *ema,
                             const cumega_ema_io *given, which_call call, int *aliased_pools,
                             ema_run *run) {
  cumega_ema_io io;
  step_views steps;
  io_views views;
  TRY(read_io_struct(ctx, given, &io));
  if (call == STEP || (call == EITHER && is_io_of_step(&io)))
    TRY(step_io(ctx, &io, &steps));
  else if (io.raw)
    return fail_io(ctx, "raw is given to forward, expected 0: it belongs to cumega_ema_step");
  TRY(read_io(ctx, ema, &io, &views, run));
  run->raw = io.raw;
  *aliased_pools = tensor_view_same(&views.initial, &views.final);
  return CUMEGA_OK;
}

/* Without slots sequence b has row b of both pools, and nothing can collide. */
static int needs_writers(const ema_run *run) {
  return run->final.data && (run->final_slots.index.data || run->initial_slots.index.data);
}

/* Scratch bytes for checking the values of index tensors, on a CPU. */
static int64_t checking_bytes(const cumega_context *ctx, const ema_run *run) {
  const int checks = ctx->device.device_type == kDLCPU && needs_writers(run);
  return checks ? batch_writers_bytes(&run->final_slots) : 0;
}

/* On a CPU; on a GPU kernels read them first. */
static cumega_status check_values(cumega_context *ctx, const ema_run *run, int aliased_pools) {
  static const batch_names padded = {"sequence_lengths", "L", ""};
  static const batch_names packed = {"sequence_offsets", "total", ""};
  static const batch_slot_names initial = {"initial_slots", "initial_state"};
  static const batch_slot_names final = {"final_slots", "final_state"};
  const int64_t B = run->batch.count;
  void *written;
  TRY(batch_check(ctx, &run->batch, run->batch.packed ? packed : padded, NULL));
  TRY(batch_check_slots(ctx, &run->initial_slots, initial, B));
  TRY(batch_check_slots(ctx, &run->final_slots, final, B));
  if (!needs_writers(run)) return CUMEGA_OK;
  TRY(call_scratch(ctx, checking_bytes(ctx, run), &written));
  return batch_check_writers(ctx, aliased_pools ? &run->initial_slots : NULL, initial,
                             &run->final_slots, final, B, written);
}

static cumega_status run_ema(cumega_context *ctx, const cumega_ema *ema, const cumega_ema_io *io,
                             which_call call) {
  ema_run run;
  int aliased_pools = 0;
  TRY(ema_enter(ctx, ema));
  TRY(prepare(ctx, ema, io, call, &aliased_pools, &run));
  ctx->kernels = "";
  if (ctx->device.device_type == kDLCPU) TRY(check_values(ctx, &run, aliased_pools));
  ctx->runs++;
  return ctx->backend->ema.forward(ctx, &run);
}

/* For a range on a profiler's timeline; io has not been checked yet. */
static int64_t io_bytes(const cumega_ema_io *io) {
  if (!io || io->struct_size < IO_SMALLEST) return 0;
  return trace_bytes(9, (const DLTensor *[]){io->x, io->y, io->mask, io->sequence_lengths,
                                             io->sequence_offsets, io->initial_state,
                                             io->final_state, io->initial_slots, io->final_slots});
}

cumega_status cumega_ema_forward(cumega_context *ctx, const cumega_ema *ema,
                                 const cumega_ema_io *io) {
  TRACE(ctx, io_bytes(io));
  return run_ema(ctx, ema, io, FORWARD);
}

cumega_status cumega_ema_step(cumega_context *ctx, const cumega_ema *ema,
                              const cumega_ema_io *io) {
  TRACE(ctx, io_bytes(io));
  return run_ema(ctx, ema, io, STEP);
}

/* The run that io stands for, forward's or step's, and the scratch that it needs. */
static cumega_status measure(cumega_context *ctx, const cumega_ema *ema, const cumega_ema_io *io,
                             ema_run *run, int64_t *bytes) {
  int aliased_pools = 0;
  TRY(ema_enter(ctx, ema));
  if (bytes == NULL)
    return call_fail_argument(ctx, "bytes is NULL, expected where to put the size");
  TRY(prepare(ctx, ema, io, EITHER, &aliased_pools, run));
  int64_t checking = checking_bytes(ctx, run);
  int64_t running = ctx->backend->ema.workspace(ctx, run);
  *bytes = checking > running ? checking : running; /* one after the other, in the same memory */
  return CUMEGA_OK;
}

cumega_status cumega_ema_workspace_size(cumega_context *ctx, const cumega_ema *ema,
                                        const cumega_ema_io *io, int64_t *bytes) {
  TRACE(ctx, 0);
  ema_run run;
  return measure(ctx, ema, io, &run, bytes);
}

cumega_status cumega_ema_prepare(cumega_context *ctx, const cumega_ema *ema,
                                 const cumega_ema_io *io) {
  TRACE(ctx, 0);
  ema_run run;
  int64_t bytes;
  TRY(measure(ctx, ema, io, &run, &bytes));
  if (ctx->backend->ema.prepare) TRY(ctx->backend->ema.prepare(ctx, &run));
  return cumega_context_reserve(ctx, bytes);
}
