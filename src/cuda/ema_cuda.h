/* The EMA on CUDA: what its files share.
 *
 *   ema_forward_cuda.c   a run: which kernel, scratch, launch
 *   ema_recurrent.cu     the kernels that give the CPU's bits
 *   ema_lanes.cu         faster ones, for contiguous channels
 *   ema_channels.cu      the same for very many channels: a thread has a whole one
 *   ema_tiles.cu         the same for contiguous time and any other layout
 *   ema_chunked.cu       parallel in time, with bits of its own
 *   ema_fft_cuda.c, ema_fft.cu   the long convolution through cuFFT (cufft_cuda.c)
 *   ema_sliced.cu        the check of slices of time that any of these have run */
#ifndef CUMEGA_SRC_CUDA_EMA_CUDA_H
#define CUMEGA_SRC_CUDA_EMA_CUDA_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include "../ema_run.h"
#include "../math/activation.h"

/* Everything that a kernel is given, by value. */
typedef struct ema_launch {
  ema_run run;
  uint32_t *report;  /* error flags: bits of cumega_report_bit */
  ema_slices slices; /* count > 1: a kernel walks through slices as through sequences */
  int silent;        /* computes states only, and does not write y */
  void *states;      /* scratch, as large as the kernel asked for, or NULL */
} ema_launch;

/* Sequences, or slices of them, that a kernel walks through. */
CUMEGA_MATH int64_t ema_sequence_count(const ema_launch *launch) {
  return launch->run.batch.count * launch->slices.count;
}

/* For the check of slices: the launch of the whole run, and the states with which each slice
 * began and ended, (B * slices, D, N). */
typedef struct ema_sliced_launch {
  ema_launch whole;
  ema_slices slices;
  ema_state begin, end;
} ema_sliced_launch;

/* For CHUNKED (ema_chunked.cu). */
typedef struct ema_chunked_launch {
  ema_launch whole;
  unsigned long long *ticket; /* the next unit */
  unsigned long long *flags;  /* of each chain: chunks whose end is in `ends` */
  void *ends;                 /* (chains, N, channels of a block) */
} ema_chunked_launch;

/* One step of FFT on some rows. Each channel of each sequence has a row (ema_fft.cu). */
typedef struct ema_fft_launch {
  ema_launch whole;
  void *rows; /* (row_count, pitch): n numbers and padding, or n / 2 + 1 pairs */
  int64_t first_row, row_count;
  int64_t n, pitch;     /* length of a transform; numbers between rows */
  const void *spectrum; /* (channels, n / 2 + 1) pairs, over n */
} ema_fft_launch;

/* The spectrum of the EMA's kernel, some channels at a time, in double. */
typedef struct ema_fft_table {
  const double *weight, *log_q; /* (channels, heads) */
  double *rows;                 /* (channel_count, pitch) */
  void *spectrum;               /* of all channels: pairs of floats or doubles */
  int64_t first_channel, channel_count, heads;
  int64_t taps, n, pitch;
  int is_double;
} ema_fft_table;

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes of scratch that ema_recurrent_launch needs for a run of this shape. */
int64_t ema_recurrent_scratch(const ema_launch *launch);

/* Any run: one launch. *kernel becomes its name. */
cudaError_t ema_recurrent_launch(const ema_launch *launch, cudaStream_t stream,
                                 const char **kernel);

/* Whether the kernel of ema_lanes.cu takes a run of this shape. Then it is one launch without
 * scratch, and faster. */
bool ema_lanes_can(const ema_launch *launch);
cudaError_t ema_lanes_launch(const ema_launch *launch, cudaStream_t stream, const char **kernel);

/* Likewise for ema_channels.cu: channels enough to fill a large GPU with a thread each. */
bool ema_channels_can(const ema_launch *launch);
cudaError_t ema_channels_launch(const ema_launch *launch, cudaStream_t stream, const char **kernel);

/* Likewise for ema_tiles.cu, which takes any strides and alignment. */
bool ema_tiles_can(const ema_launch *launch);
cudaError_t ema_tiles_launch(const ema_launch *launch, cudaStream_t stream, const char **kernel);

/* Computes the slices again that began with wrong states, and writes the final states. */
#define EMA_SLICED_HEADS 16
cudaError_t ema_sliced_check_launch(const ema_sliced_launch *launch, cudaStream_t stream,
                                    const char **kernel);

/* From x~ to rows, rows times spectrum, from rows to y; from the EMA's kernel to rows, and from
 * their transforms to its spectrum. */
cudaError_t ema_fft_gather(const ema_fft_launch *launch, cudaStream_t stream);
cudaError_t ema_fft_multiply(const ema_fft_launch *launch, cudaStream_t stream);
cudaError_t ema_fft_scatter(const ema_fft_launch *launch, cudaStream_t stream);
cudaError_t ema_fft_fill_table(const ema_fft_table *table, cudaStream_t stream);
cudaError_t ema_fft_store_table(const ema_fft_table *table, cudaStream_t stream);

/* Parallel in time; ema_chunked_scratch is in bytes. */
#define EMA_CHUNKED_HEADS 16
int64_t ema_chunked_scratch(const ema_launch *launch);
cudaError_t ema_chunked_launch_all(const ema_launch *launch, void *scratch, cudaStream_t stream,
                                   const char **kernel);

#ifdef __cplusplus
}
#endif

#endif
