/* Every number of the CUDA backend that was chosen for speed: where one kernel takes over from
 * another, sizes of blocks and grids, limits of scratch. Sizes that follow from a kernel's layout
 * of threads are in its file.
 *
 * TUNED(gpu, emulated) has a second value for emulated CUDA, so that small tests on a CPU reach
 * the code for large problems. */
#ifndef CUMEGA_SRC_CUDA_TUNING_H
#define CUMEGA_SRC_CUDA_TUNING_H

#include <stdint.h>

#if defined(CUMEGA_EMULATION)
#define TUNED(gpu, emulated) (emulated)
#else
#define TUNED(gpu, emulated) (gpu)
#endif

/* ---- EMA: which kernel runs. Channels are counted over all sequences ---- */

#define EMA_PIPELINE_STEPS        16                 /* fewer do not fill a pipeline of copies */
#define EMA_CHANNELS_LEAST        TUNED(16384, 1024) /* fill a large GPU, with a thread each */
#define EMA_BUSY_CHANNELS         16384 /* keep a large GPU busy without more slices */
#define EMA_SLICED_MIN_STEPS      4096  /* below, launches cost more than slices gain */
#define EMA_CHUNKED_MOST_CHANNELS 4096  /* FASTEST is CHUNKED if latency is the limit */
#define EMA_CHUNKED_MIN_STEPS     8192  /* and if there are many chunks */

/* ---- EMA: blocks, grids, scratch ---- */

#define EMA_THREADS             128 /* of a block, except for CHUNKED and FFT */
#define EMA_MOST_BLOCKS         TUNED((int64_t)1 << 20, 8)
#define EMA_CHUNKED_MOST_BLOCKS TUNED(2048, 8)
#define EMA_HEADS_MOST_SCRATCH  ((int64_t)256 << 20) /* bytes, for over 16 heads */
#define FFT_THREADS             256
#define FFT_MOST_BLOCKS         TUNED(65536, 8)
#define FFT_MOST_SCRATCH        ((int64_t)256 << 20) /* bytes, for a tile of rows */
#define FFT_MOST_PLANS          8                    /* kept by a context */
#define FFT_MOST_SPECTRA        64 /* for the layers of a model and a length or two */

/* ---- position biases ---- */

#define POSITION_APPLY_THREADS     256
#define POSITION_APPLY_MOST_BLOCKS TUNED(8192, 8)
#define POSITION_WARP_TEAMS        4 /* rows of a block whose teams are warps */
#define POSITION_MOST_TEAMS        TUNED(16384, 8)
#define POSITION_LONG_THREADS      512
#define POSITION_LONG_MOST_BLOCKS  TUNED(1024, 8)

/* ---- residual connections ---- */

#define RESIDUAL_THREADS      256
#define RESIDUAL_WARP_THREADS 128  /* of a block in which each warp has a row */
#define RESIDUAL_LONG_THREADS 1024 /* of a block whose row has several summation groups */
#define RESIDUAL_MOST_BLOCKS  TUNED(8192, 8)
#define CUBLAS_WORKSPACE_BYTES                                                                    \
  TUNED((int64_t)32 << 20, (int64_t)4096)                     /* as in its manual, sm_90 */
#define CUBLAS_MOST_ROWS TUNED((int64_t)1 << 30, (int64_t)64) /* of a product: an int */

#endif
