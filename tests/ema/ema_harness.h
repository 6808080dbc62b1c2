/* What the tests of the EMA use besides the harness: EMAs with known parameters. */
#ifndef CUMEGA_TESTS_EMA_HARNESS_H
#define CUMEGA_TESTS_EMA_HARNESS_H

#include "ema_device.h"
#include "harness.h"
#include "reference/ema.h"

/* (D, N) each, residual (D): exact numbers for both the library and the reference. */
typedef struct test_parameters {
  int64_t channels, heads;
  double *damping, *decay, *expansion, *projection, *residual;
} test_parameters;

test_parameters *parameters_new(int64_t channels, int64_t heads);
void parameters_free(test_parameters *parameters);
/* float32 values; 1 - q spread from `slowest` to 1/2 over the heads, other parameters noise. */
void parameters_fill(test_parameters *parameters, uint64_t *seed, double slowest);
/* Channel d for the reference. */
reference_ema parameters_channel(const test_parameters *parameters, int64_t d);

/* Makes an EMA from its parameters, given as tensors of `dtype`. Sizes in config follow the
 * parameters. */
cumega_ema *ema_new(cumega_context *ctx, cumega_ema_config config,
                    const test_parameters *parameters, DLDataType dtype);

/* An EMA that lets x through to its activation: no projection, residual weight 1. */
cumega_ema *ema_pass_through(cumega_context *ctx, cumega_ema_config config);

static inline cumega_ema_io io_of(test_tensor *x, test_tensor *y) {
  cumega_ema_io io;
  memset(&io, 0, sizeof io);
  io.struct_size = sizeof io;
  io.x = dl(x);
  io.y = dl(y);
  return io;
}

#endif
