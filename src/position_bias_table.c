/* The rotary tables of a context: one for each rotary bias that it has run, as long as the longest
 * sequence so far, rounded up to a power of two so that a sequence which grows by one key at a time
 * does not make one at every step.
 *
 * A table whose ticket is void is of no more use; it goes when the context makes another. One that
 * a captured graph has seen stays until the context goes. */
#include "backend.h"
#include "fp_environment.h"

#define SMALLEST_LENGTH 256 /* a multiple of ROTARY_BLOCK */
#define LONGEST_LENGTH  (INT64_C(1) << 40)

typedef struct position_entry {
  position_ticket *ticket;
  position_table table;
  void *block; /* where runs read: (2 * length) doubles, then as many floats */
  int64_t block_bytes;
  int captured;
  struct position_entry *next;
} position_entry;

static void release_block(cumega_context *ctx, void *block, int64_t bytes) {
  if (ctx->backend->device)
    ctx->backend->device->object_release(ctx->memory, ctx->device, ctx->owner, block, bytes);
  else
    memory_free(ctx->memory, block, bytes);
}

static void release_entry(cumega_context *ctx, position_entry *entry) {
  position_ticket_release(entry->ticket);
  release_block(ctx, entry->block, entry->block_bytes);
  memory_free(ctx->memory, entry, sizeof *entry);
}

void position_tables_free(cumega_context *ctx) {
  while (ctx->position_tables != NULL) {
    position_entry *entry = ctx->position_tables;
    ctx->position_tables = entry->next;
    release_entry(ctx, entry);
  }
}

/* What a new table for ticket makes useless. The stream is idle. */
static void sweep(cumega_context *ctx, const position_ticket *ticket) {
  position_entry **link = &ctx->position_tables;
  while (*link != NULL) {
    position_entry *entry = *link;
    const int useless = entry->ticket == ticket || atomic_load(&entry->ticket->is_void);
    if (!useless || entry->captured) {
      link = &entry->next;
      continue;
    }
    *link = entry->next;
    release_entry(ctx, entry);
  }
}

static position_table table_at(const void *block, int64_t length) {
  const double *f64 = block;
  const float *f32 = (const float *)(f64 + 2 * length);
  return (position_table){f32 + length, f64 + length, length};
}

/* Both halves of the block in the host's memory; its first double and float are never read. */
static cumega_status compute(cumega_context *ctx, const cumega_position_bias *bias, int64_t length,
                             double *block) {
  const position_values *v = &bias->values;
  const int64_t pairs = bias->config.size / 2;
  void *scratch;
  fp_environment environment;
  TRY(context_scratch(ctx, ROTARY_SCRATCH(pairs) * (int64_t)sizeof(double), &scratch));
  rotary_table t = {.pairs = pairs,
                    .length = length,
                    .quarters = v->quarters,
                    .quarters_lo = v->quarters_lo,
                    .even = v->even,
                    .odd = v->odd,
                    .scratch = scratch,
                    .out = block + length};
  float *f32 = (float *)(block + 2 * length);
  fp_begin(&environment);
  block[0] = 0;
  ctx->host->rotary_table(&t);
  for (int64_t i = 0; i < 2 * length; i++) f32[i] = (float)block[i];
  fp_end(&environment);
  return CUMEGA_OK;
}

/* entry's block, on ctx's device. */
static cumega_status fill_entry(cumega_context *ctx, const cumega_position_bias *bias,
                                int64_t length, position_entry *entry) {
  const backend_device *device = ctx->backend->device;
  void *block;
  entry->block_bytes = 2 * length * (int64_t)(sizeof(double) + sizeof(float));
  TRY(context_allocate(ctx, entry->block_bytes, "a rotary table", &block));
  cumega_status status = compute(ctx, bias, length, block);
  if (status == CUMEGA_OK && device)
    status = device->object_upload(ctx, "a rotary table", block, entry->block_bytes, &entry->block);
  if (status == CUMEGA_OK && !device)
    entry->block = block;
  else
    memory_free(ctx->memory, block, entry->block_bytes);
  return status;
}

static cumega_status make_entry(cumega_context *ctx, const cumega_position_bias *bias,
                                int64_t length, position_entry **made) {
  void *made_entry;
  int64_t reach = SMALLEST_LENGTH;
  if (length > LONGEST_LENGTH)
    return context_fail(ctx, CUMEGA_ERROR_RESOURCE,
                        "length is %lld: its rotary table is too large for memory",
                        (long long)length);
  while (reach < length) reach *= 2;
  TRY(context_allocate(ctx, sizeof(position_entry), "a rotary table's entry", &made_entry));
  position_entry *entry = made_entry;
  memset(entry, 0, sizeof *entry);
  cumega_status status = fill_entry(ctx, bias, reach, entry);
  if (status != CUMEGA_OK) {
    memory_free(ctx->memory, entry, sizeof *entry);
    return status;
  }
  sweep(ctx, bias->values.ticket);
  atomic_fetch_add(&bias->values.ticket->holders, 1);
  entry->ticket = bias->values.ticket;
  entry->table = table_at(entry->block, reach);
  entry->next = ctx->position_tables;
  ctx->position_tables = *made = entry;
  return CUMEGA_OK;
}

/* NULL: none is long enough. */
static position_entry *entry_for(const cumega_context *ctx, const position_ticket *ticket,
                                 int64_t length) {
  position_entry *entry = ctx->position_tables;
  while (entry != NULL && (entry->ticket != ticket || entry->table.reach < length))
    entry = entry->next;
  return entry;
}

static cumega_status find_rotary(cumega_context *ctx, const cumega_position_bias *bias,
                                 int64_t length, position_table *table) {
  int capturing = 0;
  position_entry *entry = entry_for(ctx, bias->values.ticket, length);
  if (ctx->backend->device) TRY(ctx->backend->device->is_capturing(ctx, &capturing));
  if (entry == NULL && capturing)
    return context_fail(ctx, CUMEGA_ERROR_RESOURCE,
                        "the context has no table of the rotary bias for %lld positions, and its "
                        "stream is being captured: call cumega_position_bias_prepare before",
                        (long long)length);
  if (entry == NULL) TRY(make_entry(ctx, bias, length, &entry));
  entry->captured |= capturing;
  *table = entry->table;
  return CUMEGA_OK;
}

cumega_status position_table_find(cumega_context *ctx, const cumega_position_bias *bias,
                                  int64_t length, position_table *table) {
  if (bias->config.kind == CUMEGA_POSITION_BIAS_ROTARY)
    return find_rotary(ctx, bias, length, table);
  *table = bias->values.table;
  return CUMEGA_OK;
}
