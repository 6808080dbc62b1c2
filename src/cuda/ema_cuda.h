/* The EMA on CUDA: what its files share.
 *
 *   ema_forward_cuda.c   a run: which kernel, scratch, launch
 *   ema_recurrent.cu     the kernels that give the CPU's bits
 *   ema_lanes.cu         faster ones, for contiguous channels
 *   ema_channels.cu      the same for so many of them that each thread takes a whole one
 *   ema_tiles.cu         and for contiguous time and everything else with so many heads
 *   ema_chunked.cu       parallel in time, with bits of its own
 *   ema_fft_cuda.c, ema_fft.cu   the long convolution through cuFFT (cufft_library.c)
 *   ema_sliced.cu        the check of slices of time that any of them have run */
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
  uint32_t *report;                 /* cumega_report_bit are set here */
  ema_slices slices;                /* count > 1: each slice is what a sequence is otherwise */
  int silent;                       /* only the states are wanted: y is left alone */
  int64_t initial_rows, final_rows; /* that slots may name */
  void *states;                     /* scratch of so many bytes as the kernel asked for, or NULL */
} ema_launch;

/* Sequences, or slices of them, that a kernel walks through. */
CUMEGA_MATH int64_t ema_sequence_count(const ema_launch *launch) {
  return launch->run.B * launch->slices.count;
}

/* What the check of slices is given: the run's own launch, whole, and the states with which each
 * slice began and ended, (B * slices, D, N). */
typedef struct ema_sliced_launch {
  ema_launch whole;
  ema_slices slices;
  ema_state begin, end;
} ema_sliced_launch;

/* What CHUNKED is given (ema_chunked.cu). */
typedef struct ema_chunked_launch {
  ema_launch whole;
  unsigned long long *ticket; /* the next unit */
  unsigned long long *flags;  /* of a chain: chunks whose end is in `ends` */
  void *ends;                 /* (chains, N, channels of a block) */
} ema_chunked_launch;

/* A step of FFT on some rows, one for each channel of each sequence (ema_fft.cu). */
typedef struct ema_fft_launch {
  ema_launch whole;
  void *rows; /* (row_count, pitch): n numbers and room, or n / 2 + 1 pairs */
  int64_t first_row, row_count;
  int64_t n, pitch;     /* length of a transform; numbers between rows */
  const void *spectrum; /* (channels, n / 2 + 1) pairs, over n */
} ema_fft_launch;

/* The kernel's own spectrum, some channels at a time, in double. */
typedef struct ema_fft_table {
  const double *weight, *log_q; /* (channels, heads) */
  double *rows;                 /* (channel_count, pitch) */
  void *spectrum;               /* of all channels: pairs of floats, or of doubles */
  int64_t first_channel, channel_count, heads;
  int64_t taps, n, pitch;
  int is_double;
} ema_fft_table;

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
 * fills a large GPU. The emulated one is small, so that small tests come there. */
#if defined(CUMEGA_EMULATION)
#define EMA_CHANNELS_LEAST 1024
#else
#define EMA_CHANNELS_LEAST 16384
#endif
bool ema_channels_can(const ema_launch *launch);
cudaError_t ema_channels_launch(const ema_launch *launch, cudaStream_t stream, const char **kernel);

/* Likewise for ema_tiles.cu, which takes any strides and alignment. */
bool ema_tiles_can(const ema_launch *launch);
cudaError_t ema_tiles_launch(const ema_launch *launch, cudaStream_t stream, const char **kernel);

/* Computes again what began wrong, and writes the final states. */
#define EMA_SLICED_HEADS 16
cudaError_t ema_sliced_check_launch(const ema_sliced_launch *launch, cudaStream_t stream,
                                    const char **kernel);

/* x~ to rows, rows times spectrum, rows to y; the kernel's values to rows, and their transforms to
 * the spectrum. */
cudaError_t ema_fft_gather(const ema_fft_launch *launch, cudaStream_t stream);
cudaError_t ema_fft_multiply(const ema_fft_launch *launch, cudaStream_t stream);
cudaError_t ema_fft_scatter(const ema_fft_launch *launch, cudaStream_t stream);
cudaError_t ema_fft_fill_table(const ema_fft_table *table, cudaStream_t stream);
cudaError_t ema_fft_store_table(const ema_fft_table *table, cudaStream_t stream);

/* Parallel in time, on a grid of its own; scratch of so many bytes. */
#define EMA_CHUNKED_HEADS 16
int64_t ema_chunked_scratch(const ema_launch *launch);
cudaError_t ema_chunked_launch_all(const ema_launch *launch, void *scratch, cudaStream_t stream,
                                   const char **kernel);

#ifdef __cplusplus
}
#endif

#endif
