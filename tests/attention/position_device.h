/* The suites of position biases on another device, as ema_device.h: runs that a suite makes with
 * tensors in the host's memory are made with copies in the device's. */
#ifndef CUMEGA_TESTS_POSITION_DEVICE_H
#define CUMEGA_TESTS_POSITION_DEVICE_H

#include <cumega/cumega.h>

/* What kernels met in lengths (cumega_context_report) makes a run CUMEGA_ERROR_ARGUMENT, as the
 * CPU's check does, after the run. */
cumega_status device_position_bias_apply(cumega_context *ctx, const cumega_position_bias *bias,
                                         const cumega_position_bias_io *io);
cumega_status device_position_bias_softmax(cumega_context *ctx, const cumega_position_bias *bias,
                                           const cumega_position_bias_io *io);
cumega_status device_position_bias_workspace_size(cumega_context *ctx,
                                                  const cumega_position_bias *bias,
                                                  const cumega_position_bias_io *io,
                                                  int64_t *bytes);
cumega_status device_position_bias_forward(cumega_context *ctx, const cumega_position_bias *bias,
                                           DLTensor *output);

#if !defined(CUMEGA_TESTS_POSITION_DEVICE_INSIDE)
#define cumega_position_bias_apply          device_position_bias_apply
#define cumega_position_bias_softmax        device_position_bias_softmax
#define cumega_position_bias_workspace_size device_position_bias_workspace_size
#define cumega_position_bias_forward        device_position_bias_forward
#endif

#endif
