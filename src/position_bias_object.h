/* A position bias from inside. */
#ifndef CUMEGA_SRC_POSITION_BIAS_OBJECT_H
#define CUMEGA_SRC_POSITION_BIAS_OBJECT_H

#include <cumega/position_bias.h>
#include "object.h"
#include "position_bias_run.h"

/* What the host keeps of a rotary bias; pairs = size / 2. */
typedef struct rotary_numbers {
  const double *alpha, *beta;           /* (size), as given */
  const double *quarters, *quarters_lo; /* (pairs): quarter turns per position, in two doubles */
  const double *even, *odd;             /* (pairs): factors of cos and sin */
} rotary_numbers;

/* A relative bias has its table, the parameter, in the block and keeps nothing on the host. A
 * rotary bias has no block: contexts keep its tables (position_bias_table.c). */
struct cumega_position_bias {
  object base;
  cumega_position_bias_config config;
};

/* call_enter, and bias is not NULL and on ctx's device. */
cumega_status position_bias_enter(cumega_context *ctx, const cumega_position_bias *bias);

/* Of a rotary bias whose numbers on the host begin at `host`. */
rotary_numbers rotary_numbers_at(const cumega_position_bias_config *config, void *host);

/* CUMEGA_ERROR_ARGUMENT where bias cannot serve so many positions, or a tensor of this type.
 * `length_name` and `tensor` are for the sentence. */
cumega_status position_bias_check_use(cumega_context *ctx, const cumega_position_bias *bias,
                                      const char *length_name, int64_t length, const char *tensor,
                                      tensor_type type);

/* The table for `length` positions, where ctx's runs read it; made where ctx has none that is long
 * enough. */
cumega_status position_table_find(cumega_context *ctx, const cumega_position_bias *bias,
                                  int64_t length, position_table *table);

#endif
