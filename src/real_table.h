/* Vectors of numbers that an object owns: as doubles, exactly as given, as floats, and copies of
 * both in a GPU's memory. One piece each, so that new ones replace the old ones all at once. */
#ifndef CUMEGA_SRC_REAL_TABLE_H
#define CUMEGA_SRC_REAL_TABLE_H

#include "context.h"
#include "residual_run.h"

#define REAL_TABLE_VECTORS 4

typedef struct real_table {
  void *block, *device_block; /* device_block NULL where runs read the host's */
  int64_t bytes;
  int64_t sizes[REAL_TABLE_VECTORS];
  double *f64[REAL_TABLE_VECTORS];
  float *f32[REAL_TABLE_VECTORS];
} real_table;

/* Who made an object, where: what the release of a device's memory needs. */
typedef struct object_owner {
  memory *memory;
  const struct backend *backend;
  DLDevice device;
  pid_t process;
} object_owner;

object_owner object_owner_of(const cumega_context *ctx);

/* Room for REAL_TABLE_VECTORS vectors of these sizes, zeroed; `what` is for the sentence ("a
 * residual connection"). Free takes a zeroed table too. */
cumega_status real_table_allocate(cumega_context *ctx, const char *what, const int64_t *sizes,
                                  real_table *table);
void real_table_free(const object_owner *owner, real_table *table);

/* The floats from the doubles, then the device's copy where ctx's backend has memory of its own. */
cumega_status real_table_finish(cumega_context *ctx, const char *what, real_table *table);

/* Where runs read vector i. */
real_vector real_table_vector(const real_table *table, int i);

#endif
