#include "real_table.h"
#include "backend.h"
#include "fp_environment.h"

object_owner object_owner_of(const cumega_context *ctx) {
  return (object_owner){ctx->memory, ctx->backend, ctx->device, ctx->owner};
}

__extension__ typedef __int128 wide; /* sums of vectors whose sizes nobody has checked */

/* Where the doubles lie, then where the floats: every vector begins on a cache line of its own.
 * Returns the bytes, or -1 where 63 bits do not hold them. */
static int64_t lay_out(const int64_t *sizes, int64_t at[2 * REAL_TABLE_VECTORS]) {
  wide used = 0;
  for (int i = 0; i < 2 * REAL_TABLE_VECTORS; i++) {
    at[i] = (int64_t)used;
    used += (wide)sizes[i % REAL_TABLE_VECTORS] *
            (int64_t)(i < REAL_TABLE_VECTORS ? sizeof(double) : sizeof(float));
    used = (used + MEMORY_ALIGNMENT - 1) & ~(wide)(MEMORY_ALIGNMENT - 1);
  }
  return used <= INT64_MAX ? (int64_t)used : -1;
}

cumega_status real_table_allocate(cumega_context *ctx, const char *what, const int64_t *sizes,
                                  real_table *table) {
  int64_t at[2 * REAL_TABLE_VECTORS];
  memset(table, 0, sizeof *table);
  memcpy(table->sizes, sizes, sizeof table->sizes);
  table->bytes = lay_out(sizes, at);
  if (table->bytes < 0)
    return context_fail(ctx, CUMEGA_ERROR_RESOURCE,
                        "cannot allocate more than %lld bytes for the parameters of %s",
                        (long long)INT64_MAX, what);
  if (table->bytes == 0) return CUMEGA_OK;
  TRY(context_allocate(ctx, table->bytes, what, &table->block));
  memset(table->block, 0, (size_t)table->bytes);
  for (int v = 0; v < REAL_TABLE_VECTORS; v++) {
    table->f64[v] = (double *)((char *)table->block + at[v]);
    table->f32[v] = (float *)((char *)table->block + at[REAL_TABLE_VECTORS + v]);
  }
  return CUMEGA_OK;
}

void real_table_free(const object_owner *owner, real_table *table) {
  if (table->device_block)
    owner->backend->device->object_release(owner->memory, owner->device, owner->process,
                                           table->device_block, table->bytes);
  memory_free(owner->memory, table->block, table->bytes);
  memset(table, 0, sizeof *table);
}

cumega_status real_table_finish(cumega_context *ctx, const char *what, real_table *table) {
  fp_environment environment;
  fp_begin(&environment);
  for (int v = 0; v < REAL_TABLE_VECTORS; v++)
    for (int64_t i = 0; i < table->sizes[v]; i++) table->f32[v][i] = (float)table->f64[v][i];
  fp_end(&environment);
  if (ctx->backend->device == NULL || table->bytes == 0) return CUMEGA_OK;
  return ctx->backend->device->object_upload(ctx, what, table->block, table->bytes,
                                             &table->device_block);
}

real_vector real_table_vector(const real_table *table, int i) {
  const char *from = table->block;
  const char *to = table->device_block ? table->device_block : from;
  return (real_vector){(const float *)(to + ((const char *)table->f32[i] - from)),
                       (const double *)(to + ((const char *)table->f64[i] - from))};
}
