/* The suites of position biases on another device, as ema_device.h: runs that a suite makes with
 * tensors in the host's memory are made with copies in the device's. */
#ifndef CUMEGA_TESTS_POSITION_DEVICE_H
#define CUMEGA_TESTS_POSITION_DEVICE_H

#include "defaults.h"

/* What kernels met in lengths (cumega_context_report) makes a run CUMEGA_ERROR_ARGUMENT, as the
 * CPU's check does, after the run. */
cumega_status device_scores_with(cumega_context *ctx, const cumega_position_bias *bias,
                                 const cumega_attention_scores_io *io);
cumega_status device_softmax_with(cumega_context *ctx, const cumega_position_bias *bias,
                                  const cumega_attention_scores_io *io);
cumega_status device_scores_size_with(cumega_context *ctx, const cumega_position_bias *bias,
                                      const cumega_attention_scores_io *io, int64_t *bytes);
cumega_status device_position_bias_forward(cumega_context *ctx, const cumega_position_bias *bias,
                                           DLTensor *output);

#if !defined(CUMEGA_TESTS_POSITION_DEVICE_INSIDE)
#define scores_with                  device_scores_with
#define softmax_with                 device_softmax_with
#define scores_size_with             device_scores_size_with
#define cumega_position_bias_forward device_position_bias_forward
#endif

#endif
