/* Every threshold of the CPU backend that was tuned by measuring. None of them changes a bit of any
 * result. Builds that look for mistakes define CUMEGA_SMALL_THRESHOLDS and get the second value of
 * a pair, so that small tensors take the same paths as large ones. */
#ifndef CUMEGA_SRC_CPU_TUNING_H
#define CUMEGA_SRC_CPU_TUNING_H

#ifdef CUMEGA_SMALL_THRESHOLDS
#define TUNED(value, small_value) (small_value)
#else
#define TUNED(value, small_value) (value)
#endif

/* float32 outputs of at least this many bytes are written with non-temporal stores. They would be
 * evicted before anyone reads them, and an ordinary store first reads the line it overwrites. */
#define STREAM_BYTES TUNED(16 << 20, 4096)

/* An item is one task of the context's threads. A smaller one would be done before another thread
 * wakes up, and a run of fewer items stays on the caller's thread. */
#define POOL_ITEMS        4
#define RESIDUAL_ELEMENTS 8192  /* elements of an item */
#define ROWS_SCORES       32768 /* scores of an item of apply or softmax */
#define MATRIX_VALUES     65536 /* values of an item of a bias matrix */
#define EMA_ITEM_WORK     32768 /* steps * channels * heads of an item */

/* Channels of an EMA item, for up to 4 heads in float: the states and coefficients of a group,
 * (5 N + 1) numbers per channel, stay in the first-level cache while x and y pass through it. */
#define EMA_GROUP_CHANNELS 512

/* Items per thread that the EMA aims at, so that no thread waits long for the last one. Sequences
 * are cut into slices of time where there are fewer than EMA_FEW_ITEMS items per thread. */
#define EMA_ITEMS_PER_THREAD 4
#define EMA_FEW_ITEMS        2

/* The EMA's tiles, which stay in the first-level cache. Where time is contiguous a tile has few
 * channels, and a few cache lines of each. Where x is read in place it has few steps, because rows
 * a power of two apart compete for the same cache sets. */
#define TILE_ELEMENTS        1024
#define TILE_NARROW_CHANNELS 16
#define TILE_IN_PLACE_STEPS  8

/* Steps of a truncated sum that the EMA computes together, to overlap their latencies. */
#define DIRECT_STEPS 4

/* Residual connections copy and convert this many elements at a time. */
#define RESIDUAL_BLOCK 512

/* Vectors of distances that a rotary table's inner loop keeps in registers, with two sums each. */
#define ROTARY_VECTORS 4

#endif
