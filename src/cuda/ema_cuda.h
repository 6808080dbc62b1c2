/* The EMA on CUDA: what its files share.
 *
 *   ema_forward_cuda.c   a run: which kernel, scratch, launch
 *   ema_recurrent.cu     the kernels that give the CPU's bits
 *   ema_lanes.cu         a faster one, for contiguous channels
 *   ema_channels.cu      a faster one for very many channels, with a thread for each
 *   ema_tiles.cu         a faster one for contiguous time and any other layout
 *   ema_chunked.cu       CHUNKED, parallel in time, with its own bits
 *   ema_fft_cuda.c, ema_fft.cu   the long convolution through cuFFT (cufft_cuda.c)
 *   ema_sliced.cu        SLICED: the check after the slices have run */
#ifndef CUMEGA_SRC_CUDA_EMA_CUDA_H
#define CUMEGA_SRC_CUDA_EMA_CUDA_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include "../ema_run.h"
#include "../math/activation.h"

/* The argument of most kernels, by value. */
typedef struct ema_launch {
  ema_run run;
  uint32_t *report;  /* error flags: bits of cumega_report_bit */
  ema_slices slices; /* count > 1: a kernel runs slices as it runs sequences */
  int silent;        /* computes states only, and does not write y */
  void *states;      /* scratch, as large as the kernel asked for, or NULL */
} ema_launch;

/* The number of sequences, or slices of them, that a kernel runs. */
CUMEGA_MATH int64_t ema_sequence_count(const ema_launch *launch) {
  return launch->run.batch.count * launch->slices.count;
}

/* The argument of the check of slices: the launch of the whole run, and the states at the
 * beginning and end of each slice, (B * slices, D, N). */
typedef struct ema_sliced_launch {
  ema_launch whole;
  ema_slices slices;
  ema_state begin, end;
} ema_sliced_launch;

/* The argument of CHUNKED (ema_chunked.cu). */
typedef struct ema_chunked_launch {
  ema_launch whole;
  unsigned long long *ticket; /* the next unit */
  unsigned long long *flags;  /* of each recurrence: how many of its spans have ended */
  void *ends;                 /* (recurrences, N, channels of a block): states after these spans */
} ema_chunked_launch;

/* A step of FFT on some rows. Each channel of each sequence has a row (ema_fft.cu). */
typedef struct ema_fft_launch {
  ema_launch whole;
  void *rows; /* (row_count, pitch): n numbers and padding, or n / 2 + 1 pairs */
  int64_t first_row, row_count;
  int64_t n, pitch;     /* length of a transform; numbers between rows */
  const void *spectrum; /* (channels, n / 2 + 1) pairs, divided by n */
} ema_fft_launch;

/* A step of making the spectra of the convolution kernels, for some channels, in double. */
typedef struct ema_fft_table {
  const double *weight, *log_q; /* (channels, heads) */
  double *rows;                 /* (channel_count, pitch) */
  void *spectrum;               /* of all channels, pairs of floats or doubles */
  int64_t first_channel, channel_count, heads;
  int64_t taps, n, pitch;
  int is_double;
} ema_fft_table;

#ifdef __cplusplus
extern "C" {
#endif

/* How many bytes of scratch ema_recurrent_launch needs for a run of this shape. */
int64_t ema_recurrent_scratch(const ema_launch *launch);

/* Takes any run, in one launch. *kernel becomes the kernel's name. */
cudaError_t ema_recurrent_launch(const ema_launch *launch, cudaStream_t stream,
                                 const char **kernel);

/* Whether the kernel of ema_lanes.cu can take a run of this shape. It is faster, with one launch
 * and no scratch. */
bool ema_lanes_can(const ema_launch *launch);
cudaError_t ema_lanes_launch(const ema_launch *launch, cudaStream_t stream, const char **kernel);

/* Likewise for ema_channels.cu, which needs enough channels to fill a large GPU with a thread
 * each. */
bool ema_channels_can(const ema_launch *launch);
cudaError_t ema_channels_launch(const ema_launch *launch, cudaStream_t stream,
                                const char **kernel);

/* Likewise for ema_tiles.cu, which takes any strides and alignment. */
bool ema_tiles_can(const ema_launch *launch);
cudaError_t ema_tiles_launch(const ema_launch *launch, cudaStream_t stream, const char **kernel);

/* Computes slices that began with wrong states again, and writes the final states. */
#define EMA_SLICED_HEADS 16
cudaError_t ema_sliced_check_launch(const ema_sliced_launch *launch, cudaStream_t stream,
                                    const char **kernel);

/* The steps of FFT: x~ to rows; rows times spectrum; rows to y. Then those of a spectrum: the
 * convolution kernel to rows; the transforms of these to the spectrum. */
cudaError_t ema_fft_gather(const ema_fft_launch *launch, cudaStream_t stream);
cudaError_t ema_fft_multiply(const ema_fft_launch *launch, cudaStream_t stream);
cudaError_t ema_fft_scatter(const ema_fft_launch *launch, cudaStream_t stream);
cudaError_t ema_fft_fill_table(const ema_fft_table *table, cudaStream_t stream);
cudaError_t ema_fft_store_table(const ema_fft_table *table, cudaStream_t stream);

/* CHUNKED. ema_chunked_scratch is in bytes. */
#define EMA_CHUNKED_HEADS 16
int64_t ema_chunked_scratch(const ema_launch *launch);
cudaError_t ema_chunked_launch_all(const ema_launch *launch, void *scratch, cudaStream_t stream,
                                   const char **kernel);

#ifdef __cplusplus
}
#endif

#endif
