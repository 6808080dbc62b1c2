/* A position bias from inside: the object with what is derived from its parameters, the tables that
 * contexts keep for it, and a rotary table as the host's backend makes it. */
#ifndef CUMEGA_SRC_POSITION_BIAS_H
#define CUMEGA_SRC_POSITION_BIAS_H

#include <stdatomic.h>
#include <cumega/position_bias.h>
#include "position_bias_run.h"
#include "tensor_view.h"

/* Shared by a bias's values and the tables made from them, and freed by whoever lets go last: so a
 * context learns that a table is of no more use without being called by another thread. */
typedef struct position_ticket {
  memory *memory;
  atomic_int holders;
  atomic_int is_void; /* the bias is gone, or has other parameters */
} position_ticket;

/* Everything that depends on the parameters, so that new ones replace the old ones all at once. */
typedef struct position_values {
  void *block;
  int64_t block_bytes;
  double *parameters[2]; /* exactly as given: relative_position_bias, or alpha and beta */
  float *relative_f32;
  double *quarters, *quarters_lo; /* rotary, (pairs): quarter turns per position */
  double *even, *odd;             /* (pairs): factors of cos and sin */
  void *device_block;             /* relative: the table on a GPU, else NULL */
  position_table table;           /* relative: where runs read it */
  position_ticket *ticket;        /* rotary */
} position_values;

struct cumega_position_bias {
  memory *memory;
  const struct backend *backend; /* of the context that made it, for what a GPU keeps */
  pid_t owner;                   /* the process that made it */
  DLDevice device;
  cumega_position_bias_config config;
  position_values values;
};

#define POSITION_CONFIG_SMALLEST     END_OF(cumega_position_bias_config, size)
#define POSITION_PARAMETERS_SMALLEST END_OF(cumega_position_bias_parameters, beta)
#define POSITION_IO_SMALLEST         END_OF(cumega_position_bias_io, key_lengths)

/* ctx entered, bias not NULL and on ctx's device. */
cumega_status position_bias_enter(cumega_context *ctx, const cumega_position_bias *bias);

/* Values are allocated, their parameters filled in by the caller, the rest derived and, on a GPU,
 * uploaded (src/position_bias_values.c). */
cumega_status position_values_allocate(cumega_context *ctx, const cumega_position_bias *bias,
                                       position_values *values);
cumega_status position_values_derive(cumega_context *ctx, const cumega_position_bias *bias,
                                     position_values *values);
void position_values_free(const cumega_position_bias *bias, position_values *values);

/* How many values each parameter has. */
int64_t position_parameter_count(const cumega_position_bias_config *config);

/* The table for `length` positions, where ctx's runs read it: made where ctx has none of that length
 * (src/position_bias_table.c). */
cumega_status position_table_find(cumega_context *ctx, const cumega_position_bias *bias,
                                  int64_t length, position_table *table);
void position_ticket_release(position_ticket *ticket);
/* All of ctx's tables, when it is destroyed. */
void position_tables_free(cumega_context *ctx);

#define ROTARY_BLOCK 64 /* positions that share their sines and cosines with every other block */

/* out[-d] and out[d] for 0 <= d < length: sums over pairs of even * cos(d theta) + odd * sin(d
 * theta), and with -odd. */
typedef struct rotary_table {
  int64_t pairs, length; /* length is a multiple of ROTARY_BLOCK */
  const double *quarters, *quarters_lo, *even, *odd;
  double *scratch; /* ROTARY_SCRATCH(pairs) doubles, aligned */
  double *out;     /* the value of 0 */
} rotary_table;
#define ROTARY_SCRATCH(pairs) ((2 * ROTARY_BLOCK + 4) * (pairs))

#endif
