/* The suites of the EMA on another device: with CUMEGA_TEST_DEVICE=cuda their contexts are CUDA
 * contexts, and every run that a suite makes with tensors in the host's memory is made with copies
 * in the device's, exact to the byte and as aligned as the originals, which are brought back after
 * the run. The suites themselves know nothing of it: forward, step and workspace_size are replaced
 * for whoever includes this header. */
#ifndef CUMEGA_TESTS_EMA_DEVICE_H
#define CUMEGA_TESTS_EMA_DEVICE_H

#include <cumega/cumega.h>

/* A run on the CPU's contexts as it is, on others through copies. What kernels met in index tensors
 * (cumega_context_report) makes it CUMEGA_ERROR_ARGUMENT, as the CPU's check does, after the run.
 */
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
