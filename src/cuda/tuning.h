/* Every number of the CUDA backend that was chosen for speed: where one kernel takes over from
 * another, sizes of blocks and grids, limits of scratch. Sizes that follow from a kernel's layout
 * of threads stand in its own file.
 *
 * Emulated CUDA runs small tests on a CPU. TUNED(gpu, emulated) has a second value for it, so
 * that small tests reach the code of large problems. */
#ifndef CUMEGA_SRC_CUDA_TUNING_H
#define CUMEGA_SRC_CUDA_TUNING_H

#include <stdint.h>

#if defined(CUMEGA_EMULATION)
#define TUNED(gpu, emulated) (emulated)
#else
#define TUNED(gpu, emulated) (gpu)
#endif

/* ---- EMA: which kernel runs. Channels are those of all sequences together ---- */

#define EMA_PIPELINE_STEPS        16 /* fewer steps do not fill a pipeline of asynchronous copies */
#define EMA_CHANNELS_LEAST        TUNED(16384, 1024) /* fill a large GPU with a thread each */
#define EMA_BUSY_CHANNELS         16384 /* keep a large GPU busy: no more slices than that */
#define EMA_SLICED_MIN_STEPS      4096  /* shorter sequences lose more by launches than they gain */
#define EMA_CHUNKED_MOST_CHANNELS 4096  /* AUTO takes CHUNKED where latency limits the chain */
#define EMA_CHUNKED_MIN_STEPS     8192  /* and where there are several chunks */

/* ---- EMA: blocks, grids, scratch ---- */

#define EMA_THREADS             128 /* of a block, but for CHUNKED and FFT */
#define EMA_MOST_BLOCKS         TUNED((int64_t)1 << 20, 8)
#define EMA_CHUNKED_MOST_BLOCKS TUNED(2048, 8)
#define EMA_HEADS_MOST_SCRATCH  ((int64_t)256 << 20) /* bytes, for more heads than registers hold */
#define FFT_THREADS             256
#define FFT_MOST_BLOCKS         TUNED(65536, 8)
#define FFT_MOST_SCRATCH        ((int64_t)256 << 20) /* bytes of a tile of rows */
#define FFT_MOST_PLANS          8                    /* that a context keeps */
#define FFT_MOST_SPECTRA        64 /* the layers of a model, for a length or two */

/* ---- position biases ---- */

#define POSITION_APPLY_THREADS     256
#define POSITION_APPLY_MOST_BLOCKS TUNED(8192, 8)
#define POSITION_WARP_TEAMS        4 /* rows of a block whose teams are warps */
#define POSITION_MOST_TEAMS        TUNED(16384, 8)
#define POSITION_LONG_THREADS      512
#define POSITION_LONG_MOST_BLOCKS  TUNED(1024, 8)

/* ---- residual connections ---- */

#define RESIDUAL_THREADS       256
#define RESIDUAL_WARP_THREADS  128  /* of a block in which each warp has its own row */
#define RESIDUAL_LONG_THREADS  1024 /* of a block for a row of more than one group of the tree */
#define RESIDUAL_MOST_BLOCKS   TUNED(8192, 8)
#define CUBLAS_WORKSPACE_BYTES TUNED((int64_t)32 << 20, (int64_t)4096) /* its manual's, for sm_90 */
#define CUBLAS_MOST_ROWS       TUNED((int64_t)1 << 30, (int64_t)64) /* of a product: sizes are ints */

#endif
