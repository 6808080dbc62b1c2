#include "real_table.h"
#include "backend.h"
#include "fp_environment.h"

object_owner object_owner_of(const cumega_context *ctx) {
  return (object_owner){ctx->memory, ctx->backend, ctx->device, ctx->owner};
}

/* Every vector begins on a cache line of its own; base NULL: only the size is wanted. Returns the
 * bytes, or -1 where 63 bits do not hold them. */
static int64_t lay_out(real_table *t, char *base) {
  int64_t used = 0;
  for (int i = 0; i < 2 * t->count; i++) {
    const int wide = i < t->count, v = wide ? i : i - t->count;
    int64_t bytes;
    if (__builtin_mul_overflow(t->sizes[v], wide ? (int64_t)sizeof(double) : (int64_t)sizeof(float),
                               &bytes) ||
        __builtin_add_overflow(bytes, MEMORY_ALIGNMENT - 1, &bytes))
      return -1;
    if (base && wide) t->f64[v] = (double *)(base + used);
    if (base && !wide) t->f32[v] = (float *)(base + used);
    bytes &= ~(int64_t)(MEMORY_ALIGNMENT - 1);
    if (__builtin_add_overflow(used, bytes, &used)) return -1;
  }
  return used;
}

cumega_status real_table_allocate(cumega_context *ctx, const char *what, int count,
                                  const int64_t *sizes, real_table *table) {
  memset(table, 0, sizeof *table);
  table->count = count;
  for (int i = 0; i < count; i++) table->sizes[i] = sizes[i];
  table->bytes = lay_out(table, NULL);
  if (table->bytes < 0)
    return context_fail(ctx, CUMEGA_ERROR_RESOURCE,
                        "cannot allocate more than %lld bytes for the parameters of %s",
                        (long long)INT64_MAX, what);
  if (table->bytes == 0) return CUMEGA_OK;
  TRY(context_allocate(ctx, table->bytes, what, &table->block));
  memset(table->block, 0, (size_t)table->bytes);
  lay_out(table, table->block);
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
  for (int v = 0; v < table->count; v++)
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
