/* The suites of the EMA on another device. With CUMEGA_TEST_DEVICE=cuda their contexts are CUDA
 * contexts, and every run with tensors in the host's memory is made with copies in the device's
 * memory. The copies are exact to the byte and aligned like the originals; they are copied back
 * after the run. The suites need no changes for this: forward, step and workspace_size are
 * replaced in every file that includes this header. */
#ifndef CUMEGA_TESTS_EMA_DEVICE_H
#define CUMEGA_TESTS_EMA_DEVICE_H

#include <cumega/cumega.h>

/* A run: on a CPU context it is called directly, on other contexts with copies. If kernels met
 * wrong values in index tensors (cumega_context_report), the run becomes CUMEGA_ERROR_ARGUMENT
 * after it has finished, as the CPU's check does before. */
cumega_status device_ema_forward(cumega_context *ctx, const cumega_ema *ema,
                                 const cumega_ema_io *io);
cumega_status device_ema_step(cumega_context *ctx, const cumega_ema *ema, const cumega_ema_io *io);
cumega_status device_ema_workspace_size(cumega_context *ctx, const cumega_ema *ema,
                                        const cumega_ema_io *io, int64_t *bytes);

#if !defined(CUMEGA_TESTS_EMA_DEVICE_INSIDE)
#define cumega_ema_forward        device_ema_forward
#define cumega_ema_step           device_ema_step
#define cumega_ema_workspace_size device_ema_workspace_size
#endif

#endif
