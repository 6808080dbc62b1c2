/* The EMA on CUDA: what its files share.
 *
 *   ema_forward_cuda.c   a run: which kernel, scratch, launch
 *   ema_tables_cuda.c    coefficients on the device
 *   ema_recurrent.cu     the kernels that give the CPU's bits
 *   ema_lanes.cu         faster ones, for contiguous channels
 *   ema_channels.cu      the same for so many of them that each thread takes a whole one
 *   ema_tiles.cu         and for contiguous time and everything else with so many heads */
#ifndef CUMEGA_SRC_CUDA_EMA_CUDA_H
#define CUMEGA_SRC_CUDA_EMA_CUDA_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include "../ema_run.h"
#include "../math/activation.h"

/* All that a kernel is given, by value. */
typedef struct ema_launch {
  ema_run run;
  int64_t channels, heads; /* D, N */
  int64_t padded;          /* channels from one head's coefficients to the next's */
  int64_t truncation;      /* K, where run.truncated */
  int is_double;           /* f64 is used, else f32 */
  ema_coefficients_f32 f32;
  ema_coefficients_f64 f64;
  activation_f32 finish_f32;
  activation_f64 finish_f64;
  uint32_t *report; /* cumega_report_bit are set here */
  void *states;     /* scratch of so many bytes as the kernel asked for, or NULL */
} ema_launch;

#ifdef __cplusplus
extern "C" {
#endif

/* Scratch bytes that ema_recurrent_launch needs for a run of this shape. */
int64_t ema_recurrent_scratch(const ema_launch *launch);

/* Any run: one launch. *kernel becomes its name. */
cudaError_t ema_recurrent_launch(const ema_launch *launch, cudaStream_t stream,
                                 const char **kernel);

/* Whether the kernel of ema_lanes.cu takes a run of this shape; then it is one launch without
 * scratch, and faster. Below so many steps its pipeline would not even fill. */
#define EMA_LANES_STEPS 16
bool ema_lanes_can(const ema_launch *launch);
cudaError_t ema_lanes_launch(const ema_launch *launch, cudaStream_t stream, const char **kernel);

/* Likewise for ema_channels.cu: from so many channels of all sequences together on, a thread for each
 * fills a large GPU. */
#define EMA_CHANNELS_LEAST 16384
bool ema_channels_can(const ema_launch *launch);
cudaError_t ema_channels_launch(const ema_launch *launch, cudaStream_t stream, const char **kernel);

/* Likewise for ema_tiles.cu, which takes any strides and alignment. */
bool ema_tiles_can(const ema_launch *launch);
cudaError_t ema_tiles_launch(const ema_launch *launch, cudaStream_t stream, const char **kernel);

#ifdef __cplusplus
}
#endif

#endif
