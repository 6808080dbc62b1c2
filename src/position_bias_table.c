/* Position biases as runs read them: tables of values by distance.
 *
 * A relative bias's table is its parameter. The table of a rotary bias is computed for the context
 * that runs it and kept there, as long as the longest sequence so far, rounded up to a power of
 * two so that a sequence which grows by one key at a time does not make a table at every step. */
#include "backend.h"
#include "fp_environment.h"
#include "kept.h"
#include "position_bias_object.h"
#include "trace.h"

#define SMALLEST_LENGTH 256 /* a multiple of ROTARY_BLOCK */
#define LONGEST_LENGTH  (INT64_C(1) << 40)
#define MOST_TABLES     64 /* of rotary biases used last */

/* key: the bias's serial, and the table's reach. */
typedef struct rotary_entry {
  kept base;
  void *block; /* where runs read: 2 * reach numbers */
  int64_t bytes;
  position_table table;
} rotary_entry;

static void release_entry(cumega_context *ctx, kept *base) {
  rotary_entry *entry = (rotary_entry *)base;
  if (ctx->backend->device)
    ctx->backend->device->object_release(ctx->memory, ctx->device, ctx->owner, entry->block,
                                         entry->bytes);
  else
    memory_free(ctx->memory, entry->block, entry->bytes);
  memory_free(ctx->memory, entry, sizeof *entry);
}

/* The table's values, as doubles; the first is never read. */
static cumega_status compute(cumega_context *ctx, const cumega_position_bias *bias, int64_t reach,
                             double *values) {
  const rotary_numbers numbers = rotary_numbers_at(&bias->config, bias->base.host);
  const int64_t pairs = bias->config.size / 2;
  void *scratch;
  fp_environment environment;
  TRY(call_scratch(ctx, ROTARY_SCRATCH(pairs) * (int64_t)sizeof(double), &scratch));
  const rotary_table t = {.pairs = pairs,
                          .length = reach,
                          .quarters = numbers.quarters,
                          .quarters_lo = numbers.quarters_lo,
                          .even = numbers.even,
                          .odd = numbers.odd,
                          .scratch = scratch,
                          .out = values + reach};
  values[0] = 0;
  fp_begin(&environment);
  ctx->host->position_bias.rotary_table(&t);
  if (tensor_type_of(bias->config.dtype) == TYPE_FLOAT32) /* in place, from the front */
    for (int64_t i = 0; i < 2 * reach; i++) {
      const float narrow = (float)values[i];
      memcpy((char *)values + i * (int64_t)sizeof narrow, &narrow, sizeof narrow);
    }
  fp_end(&environment);
  return CUMEGA_OK;
}

/* entry's block, on ctx's device. */
static cumega_status fill_entry(cumega_context *ctx, const cumega_position_bias *bias,
                                int64_t reach, rotary_entry *entry) {
  const int64_t work_bytes = 2 * reach * (int64_t)sizeof(double);
  void *work;
  entry->bytes = 2 * reach * tensor_type_bytes(tensor_type_of(bias->config.dtype));
  TRY(call_allocate(ctx, work_bytes, "a rotary table", &work));
  cumega_status status = compute(ctx, bias, reach, work);
  if (status == CUMEGA_OK && ctx->backend->device) {
    status = ctx->backend->device->object_write(ctx, "a rotary table", work, entry->bytes,
                                                &entry->block);
  } else if (status == CUMEGA_OK) {
    status = call_allocate(ctx, entry->bytes, "a rotary table", &entry->block);
    if (status == CUMEGA_OK) memcpy(entry->block, work, (size_t)entry->bytes);
  }
  memory_free(ctx->memory, work, work_bytes);
  return status;
}

/* Tables that a new one of this bias makes useless, and one too many. On a GPU the stream is
 * idle: the new table has just been copied there. */
static void make_room(cumega_context *ctx, uint64_t serial) {
  kept *next;
  for (kept *at = kept_next(ctx->kept, release_entry); at != NULL; at = next) {
    next = kept_next(at->next, release_entry);
    if (at->key[0] == (int64_t)serial && !at->captured) kept_remove(ctx, at);
  }
  kept *excess = kept_excess(ctx, release_entry, MOST_TABLES);
  if (excess) kept_remove(ctx, excess);
}

static position_table table_of(const rotary_entry *entry, DLDataType dtype, int64_t reach) {
  position_table table = {.reach = reach};
  if (tensor_type_of(dtype) == TYPE_FLOAT64)
    table.f64 = (const double *)entry->block + reach;
  else
    table.f32 = (const float *)entry->block + reach;
  return table;
}

static cumega_status make_entry(cumega_context *ctx, const cumega_position_bias *bias,
                                int64_t length, rotary_entry **made) {
  void *memory_of_it;
  int64_t reach = SMALLEST_LENGTH;
  if (length > LONGEST_LENGTH)
    return call_fail(ctx, CUMEGA_ERROR_RESOURCE,
                     "length is %lld: its rotary table is too large for memory",
                     (long long)length);
  while (reach < length) reach *= 2;
  TRY(call_allocate(ctx, sizeof(rotary_entry), "a rotary table's entry", &memory_of_it));
  rotary_entry *entry = memory_of_it;
  memset(entry, 0, sizeof *entry);
  const cumega_status status = fill_entry(ctx, bias, reach, entry);
  if (status != CUMEGA_OK) {
    memory_free(ctx->memory, entry, sizeof *entry);
    return status;
  }
  make_room(ctx, bias->base.serial);
  entry->base.release = release_entry;
  entry->base.key[0] = (int64_t)bias->base.serial;
  entry->base.key[1] = reach;
  entry->table = table_of(entry, bias->config.dtype, reach);
  kept_add(ctx, &entry->base);
  *made = entry;
  return CUMEGA_OK;
}

/* The bias's table that is long enough, which becomes the list's first; NULL where there is
 * none. */
static rotary_entry *entry_for(cumega_context *ctx, uint64_t serial, int64_t length) {
  kept *at = kept_next(ctx->kept, release_entry);
  while (at != NULL && (at->key[0] != (int64_t)serial || at->key[1] < length))
    at = kept_next(at->next, release_entry);
  return at ? (rotary_entry *)kept_find(ctx, release_entry, at->key) : NULL;
}

static cumega_status find_rotary(cumega_context *ctx, const cumega_position_bias *bias,
                                 int64_t length, position_table *table) {
  int capturing = 0;
  rotary_entry *entry = entry_for(ctx, bias->base.serial, length);
  if (ctx->backend->device) TRY(ctx->backend->device->is_capturing(ctx, &capturing));
  if (entry == NULL && capturing)
    return call_fail(ctx, CUMEGA_ERROR_RESOURCE,
                     "the context has no table of the rotary bias for %lld positions, and its "
                     "stream is being captured: call cumega_position_bias_prepare before",
                     (long long)length);
  if (entry == NULL) TRY(make_entry(ctx, bias, length, &entry));
  entry->base.captured |= capturing;
  *table = entry->table; /* analyzer: entry is set, or there was a status */
  return CUMEGA_OK;
}

cumega_status position_table_find(cumega_context *ctx, const cumega_position_bias *bias,
                                  int64_t length, position_table *table) {
  if (bias->config.kind == CUMEGA_POSITION_BIAS_ROTARY)
    return find_rotary(ctx, bias, length, table);
  const int64_t reach = bias->config.max_positions;
  const real_vector values = object_vector(&bias->base, bias->config.dtype, 0);
  *table = (position_table){values.f32 ? values.f32 + (reach - 1) : NULL,
                            values.f64 ? values.f64 + (reach - 1) : NULL, reach};
  return CUMEGA_OK;
}

/* ---- the public calls ---- */

static cumega_status check_length(cumega_context *ctx, const cumega_position_bias *bias,
                                  const char *name, int64_t length) {
  if (bias->config.kind == CUMEGA_POSITION_BIAS_ROTARY || length <= bias->config.max_positions)
    return CUMEGA_OK;
  return call_fail_argument(ctx,
                            "%s is %lld, expected at most the relative bias's max_positions, %lld",
                            name, (long long)length, (long long)bias->config.max_positions);
}

cumega_status position_bias_check_use(cumega_context *ctx, const cumega_position_bias *bias,
                                      const char *length_name, int64_t length, const char *tensor,
                                      tensor_type type) {
  TRY(check_length(ctx, bias, length_name, length));
  return object_check_type(ctx, "bias", bias->config.dtype, tensor, type);
}

cumega_status cumega_position_bias_prepare(cumega_context *ctx, const cumega_position_bias *bias,
                                           int64_t length) {
  TRACE(ctx, 0);
  position_table table;
  TRY(position_bias_enter(ctx, bias));
  if (length < 0)
    return call_fail_argument(ctx, "length is %lld, expected at least 0", (long long)length);
  TRY(check_length(ctx, bias, "length", length));
  return position_table_find(ctx, bias, length, &table);
}

cumega_status cumega_position_bias_forward(cumega_context *ctx, const cumega_position_bias *bias,
                                           DLTensor *output) {
  TRACE(ctx, trace_bytes(1, (const DLTensor *[]){output}));
  tensor_view view;
  TRY(position_bias_enter(ctx, bias));
  TRY(tensor_view_make(ctx, "output", output, TYPES_FLOAT, &view));
  TRY(tensor_view_check_ndim(ctx, &view, "(L, L)", 2));
  const int64_t L = view.shape[0], square[] = {L, L};
  TRY(tensor_view_check_shape(ctx, &view, "(L, L)", 2, square));
  TRY(position_bias_check_use(ctx, bias, "the output's L", L, "output", view.type));
  TRY(tensor_view_check_output(ctx, &view));
  position_bias_matrix run = {.data = view.data,
                              .L = L,
                              .stride_i = view.strides[0],
                              .stride_j = view.strides[1],
                              .type = view.type};
  ctx->kernels = "";
  if (L > 0) TRY(position_table_find(ctx, bias, L, &run.table));
  ctx->runs++;
  return L > 0 ? ctx->backend->position_bias.forward(ctx, &run) : CUMEGA_OK;
}
