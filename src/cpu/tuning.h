/* Every threshold of the CPU backend that was tuned by measurement. None of them changes a bit of
 * any result. Test builds define CUMEGA_SMALL_THRESHOLDS and get the second value of a pair, so
 * that small tensors take the same paths as large ones. */
#ifndef CUMEGA_SRC_CPU_TUNING_H
#define CUMEGA_SRC_CPU_TUNING_H

#ifdef CUMEGA_SMALL_THRESHOLDS
#define TUNED(value, small_value) (small_value)
#else
#define TUNED(value, small_value) (value)
#endif

/* float32 outputs of at least this many bytes are written with non-temporal stores. They would be
 * evicted from the caches before they are read, and an ordinary store first reads the cache line
 * that it overwrites. */
#define STREAM_BYTES TUNED(16 << 20, 4096)

/* An item is one task of the thread pool. A smaller item would be done before another thread wakes
 * up. A run with fewer than POOL_ITEMS items stays on the caller's thread. */
#define POOL_ITEMS        4
#define RESIDUAL_ELEMENTS 8192  /* elements per item */
#define ROWS_SCORES       32768 /* scores per item of apply or softmax */
#define MATRIX_VALUES     65536 /* values per item of a bias matrix */
#define EMA_ITEM_WORK     32768 /* steps * channels * heads per item */

/* Channels per EMA item, for up to 4 heads in float. The states and coefficients of a group, 5 N +
 * 1 numbers per channel, stay in the first-level cache while x and y pass through it. */
#define EMA_GROUP_CHANNELS 512

/* The EMA aims at this number of items per thread, so that no thread waits long for the last one.
 * If there are fewer than EMA_FEW_ITEMS items per thread, sequences are divided into slices of
 * time. */
#define EMA_ITEMS_PER_THREAD 4
#define EMA_FEW_ITEMS        2

/* The sizes of the EMA's tiles, which stay in the first-level cache. If time is contiguous, a tile
 * has few channels and a few cache lines of each. If x is read in place, a tile has few steps,
 * because rows a power of two apart compete for the same cache sets. */
#define TILE_ELEMENTS        1024
#define TILE_NARROW_CHANNELS 16
#define TILE_IN_PLACE_STEPS  8

/* How many steps of a truncated sum are computed together, to overlap their latencies. */
#define DIRECT_STEPS 4

/* Residual connections copy and convert this many elements at a time. */
#define RESIDUAL_BLOCK 512

/* Vectors of distances that a rotary table's inner loop keeps in registers, with two sums each. */
#define ROTARY_VECTORS 4

#endif
