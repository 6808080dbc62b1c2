/* The EMA from inside: the object with everything precomputed, and a run with every argument
 * resolved. */
#ifndef CUMEGA_SRC_EMA_H
#define CUMEGA_SRC_EMA_H

#include <cumega/ema.h>
#include "ema_run.h"
#include "memory.h"
#include "tensor_view.h"

#define EMA_CHANNEL_PADDING 64 /* whole vectors and whole cache lines at every CPU level */

/* Rows of coefficients of a power of two of channels would all meet in a few sets of a cache: with 8 heads they are
 * too many for it. A cache line more, or two, spreads them. */
#define EMA_ROW_SKEW 16

/* The parameters, in the order of cumega_ema_parameters. */
enum { EMA_DAMPING, EMA_DECAY, EMA_EXPANSION, EMA_PROJECTION, EMA_RESIDUAL, EMA_PARAMETER_COUNT };

/* A copy of the coefficients in a GPU's memory; block NULL where runs read the host's. */
typedef struct ema_device_tables {
  void *block;
  int64_t bytes;
  ema_coefficients_f32 f32;
  ema_coefficients_f64 f64;
} ema_device_tables;

/* Everything that depends on the parameters, in one piece of memory, so that new parameters replace
 * the old ones all at once. */
typedef struct ema_tables {
  void *block;
  int64_t block_bytes;
  double
      *parameters[EMA_PARAMETER_COUNT]; /* exactly as given: (D, N) each, the residual weight (D) */
  double *p, *q, *one_minus_q;          /* (D, N) */
  uint64_t serial;                      /* no other tables of this process have it; not 0 */
  int64_t warmup;                       /* steps of src/ema_slices.h */
  ema_coefficients_f32 f32;             /* where state_dtype is float32, else NULLs */
  ema_coefficients_f64 f64;             /* where state_dtype is float64, else NULLs */
  ema_device_tables device;             /* the coefficients where runs read them, on a GPU */
} ema_tables;

struct cumega_ema {
  memory *memory;
  const struct backend *backend; /* of the context that made it, for what a GPU keeps */
  pid_t owner;                   /* the process that made it */
  DLDevice device;
  cumega_ema_config config;
  int64_t padded; /* channels in a row of the tables: D in whole paddings, and EMA_ROW_SKEW */
  ema_tables tables;
};

/* What the first published headers had. */
#define EMA_CONFIG_SMALLEST     END_OF(cumega_ema_config, ftswish_mean_shift)
#define EMA_PARAMETERS_SMALLEST END_OF(cumega_ema_parameters, residual_weight)
#define EMA_IO_SMALLEST         END_OF(cumega_ema_io, raw)

/* Checks the settings and resolves what depends on other settings. */
cumega_status ema_config_check(cumega_context *ctx, cumega_ema_config *config);

/* ctx entered, ema not NULL and on ctx's device. */
cumega_status ema_enter(cumega_context *ctx, const cumega_ema *ema);

/* Tables are allocated, their parameters filled in by the caller, and the rest derived
 * (src/ema_tables.c). Upload makes tables->device, where the backend has memory of its own. */
cumega_status ema_tables_allocate(cumega_context *ctx, const cumega_ema *ema, ema_tables *tables);
cumega_status ema_tables_derive(cumega_context *ctx, const cumega_ema *ema, ema_tables *tables);
cumega_status ema_tables_upload(cumega_context *ctx, ema_tables *tables);
void ema_tables_free(const cumega_ema *ema, ema_tables *tables);

/* A stretch of one channel's kernel, as the backend computes it: out[i] = sum over heads of
 * weight[n] * q[n]^(first + i), in double, by the halving tree. */
typedef struct ema_kernel_row {
  int64_t num_heads, first, count; /* count <= EMA_KERNEL_BLOCK */
  double *weight, *log_q;          /* (num_heads) */
  double *terms;                   /* (num_heads, EMA_KERNEL_BLOCK), scratch */
  double *out;                     /* (EMA_KERNEL_BLOCK) */
} ema_kernel_row;
#define EMA_KERNEL_BLOCK 64

/* Finds the row's memory in ctx's scratch; then sets weight and log_q of channel d. */
cumega_status ema_kernel_row_begin(cumega_context *ctx, const cumega_ema *ema, ema_kernel_row *row);
void ema_kernel_row_channel(const cumega_ema *ema, const ema_tables *tables, int64_t d,
                            ema_kernel_row *row);

/* Checks the values of a run's index tensors, in CPU memory (src/ema_indices.c). */
cumega_status ema_indices_check(cumega_context *ctx, const ema_run *run, int aliased_pools);
int64_t ema_indices_workspace(const ema_run *run);

#endif
