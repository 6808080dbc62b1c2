/* The suites of position biases on another device, as in ema_device.h: a run with tensors in the
 * host's memory is made with copies in the device's memory. */
#ifndef CUMEGA_TESTS_POSITION_DEVICE_H
#define CUMEGA_TESTS_POSITION_DEVICE_H

#include "defaults.h"

/* If kernels met wrong values in lengths (cumega_context_report), the run becomes
 * CUMEGA_ERROR_ARGUMENT after it has finished, as the CPU's check does before. */
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
