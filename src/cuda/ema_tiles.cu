/* The EMA where time is contiguous in x, in y or in both (layout (B, D, L)), or where channels are
 * contiguous but not aligned enough for ema_lanes.cu: 1, 2, 4, 8 or 16 heads, float32 states,
 * whole sequences, any strides. Read step by step, such a layout would take a sector of 32 bytes
 * per element. So tiles are transposed in shared memory.
 *
 * A channel is spread over four lanes (ema_lanes.cuh). A warp has 8 channels and its own pipeline,
 * without block barriers. A tile is 8 channels by 64 bytes of time, which is 16 steps, or 32 in
 * 16-bit types. STAGES - 1 tiles are in flight while one is computed, 3.5 KB per warp. If time is
 * contiguous and begins at a multiple of 16 bytes, a tile is one asynchronous 16-byte copy per
 * lane, and a lane reads its four steps as one vector. Otherwise elements are copied one by one,
 * in the order of memory. y replaces x in the tile once every lane has read its x, and is stored
 * in the same way. If time is not contiguous in y, each lane stores to memory directly. The rows
 * of a tile are 80 bytes apart, so that 8 vectors of 8 rows have no bank conflict.
 *
 * 8 bytes per element in float32, in segments of 64 bytes, which are two whole sectors. It takes
 * as many instructions per element as ema_lanes.cu, less three shared loads, plus a shared store
 * and an eighth of storing a tile. So (predicted, not measured) it runs at the speed of a copy for
 * up to 4 heads with ReLU. The activation is looked up once in 4 steps of a warp, which saves
 * compiling 45 kernels. Registers: at most 80 up to 8 heads (six blocks on a multiprocessor), 128
 * for 16. Shared memory: 20 KB per block of 128 threads.
 *
 * The loop contains the code of all ten activations, of which one runs:
 *
 *   sass ema_tiles_kernel<4,1>: 338 instructions, 9 fmas
 *   sass ema_tiles_kernel<4,4>: 354 instructions, 9 fmas
 *
 * Rejected: tiles of a whole block, which need two barriers per tile; a transposed copy of the
 * whole tensor first (24 bytes per element instead of 8). */
#include <cuda_pipeline.h>
#include "ema_choice.cuh"
#include "ema_lanes.cuh"

#define WARPS      (EMA_THREADS / 32)
#define CHANNELS   (32 / LANES) /* per warp */
#define STAGES     8
#define ROW        (LANES * VECTOR_BYTES) /* bytes of a channel in a tile */
#define ROW_PITCH  (ROW + VECTOR_BYTES)   /* from one channel to the next */
#define TILE_PITCH (CHANNELS * ROW_PITCH)
#define WARP_BYTES (STAGES * TILE_PITCH)

/* A warp's channels in a tensor. */
template <typename STORED> struct tile_place {
  STORED *first; /* step 0 of the first channel */
  int64_t stride_t, stride_d;
  bool is_vector; /* steps are adjacent, and every channel begins at a multiple of 16 bytes */
  int channels;   /* how many exist: at most CHANNELS */
};

template <typename STORED>
static __device__ __forceinline__ tile_place<STORED>
place_tile(const ema_launch &p, const ema_sequences &tensor, const ema_sequence &s, int64_t d0) {
  tile_place<STORED> place;
  const int64_t left = p.run.channels - d0;
  place.first = (STORED *)tensor.data + ema_offset(tensor, s, d0);
  place.stride_t = tensor.stride_t;
  place.stride_d = tensor.stride_d;
  place.is_vector = tensor.stride_t == 1 && (uintptr_t)place.first % VECTOR_BYTES == 0 &&
                    tensor.stride_d * (int64_t)sizeof(STORED) % VECTOR_BYTES == 0;
  place.channels = left < CHANNELS ? (int)left : CHANNELS;
  return place;
}

/* ---- loading and storing tiles ---- */

static __device__ __forceinline__ void copy_element(float *to, const float *from) {
  __pipeline_memcpy_async(to, from, sizeof *to);
}
static __device__ __forceinline__ void copy_element(uint16_t *to, const uint16_t *from) {
  *to = *from; /* an asynchronous copy has at least 4 bytes */
}

/* Calls visit(row, step) for each element of a tile that exists. The lanes of a warp visit
 * adjacent elements in memory. */
template <typename STORED, typename VISIT>
static __device__ __forceinline__ void each_element(const tile_place<STORED> &place, int steps,
                                                    VISIT visit) {
  const int TILE_STEPS = ROW / sizeof(STORED);
  const bool along_time = place.stride_t == 1;
#pragma unroll 1
  for (int i = threadIdx.x % 32; i < CHANNELS * TILE_STEPS; i += 32) {
    const int row = along_time ? i / TILE_STEPS : i % CHANNELS;
    const int step = along_time ? i % TILE_STEPS : i / CHANNELS;
    if (row < place.channels && step < steps) visit(row, step);
  }
}

/* Begins the copy of steps t .. t + TILE_STEPS - 1 of x, as far as the sequence has them. */
template <typename STORED>
static __device__ __forceinline__ void copy_tile(const tile_place<STORED> &x, int64_t t,
                                                 int64_t length, unsigned char *tile) {
  const int TILE_STEPS = ROW / sizeof(STORED), PER_PIECE = VECTOR_BYTES / sizeof(STORED);
  const int64_t left = length - t;
  if (x.is_vector) {
    const int row = threadIdx.x % 32 / LANES, piece = threadIdx.x % LANES;
    const int64_t elements = left - piece * PER_PIECE;
    if (row < x.channels && elements > 0)
      __pipeline_memcpy_async(tile + row * ROW_PITCH + piece * VECTOR_BYTES,
                              x.first + row * x.stride_d + t + piece * PER_PIECE, VECTOR_BYTES,
                              elements < PER_PIECE ? VECTOR_BYTES - (int)elements * sizeof(STORED)
                                                   : 0);
  } else if (left > 0) {
    each_element(x, left < TILE_STEPS ? (int)left : TILE_STEPS, [&](int row, int step) {
      copy_element((STORED *)(tile + row * ROW_PITCH) + step,
                   x.first + row * x.stride_d + (t + step) * x.stride_t);
    });
  }
  __pipeline_commit();
}

/* Stores a tile of results in y, whose steps are adjacent. */
template <typename STORED>
static __device__ __forceinline__ void store_tile(const tile_place<STORED> &y, int64_t t,
                                                  int steps, const unsigned char *tile) {
  const int TILE_STEPS = ROW / sizeof(STORED), PER_PIECE = VECTOR_BYTES / sizeof(STORED);
  if (y.is_vector && steps == TILE_STEPS) {
    const int row = threadIdx.x % 32 / LANES, piece = threadIdx.x % LANES;
    if (row < y.channels)
      *(int4 *)(y.first + row * y.stride_d + t + piece * PER_PIECE) =
          *(const int4 *)(tile + row * ROW_PITCH + piece * VECTOR_BYTES);
    return;
  }
  each_element(y, steps, [&](int row, int step) {
    y.first[row * y.stride_d + t + step] = ((const STORED *)(tile + row * ROW_PITCH))[step];
  });
}

/* Zeros past the end of a padded sequence. */
template <typename STORED>
static __device__ __forceinline__ void zero_tiles(const tile_place<STORED> &y, int64_t length,
                                                  int64_t rows) {
  const int TILE_STEPS = ROW / sizeof(STORED);
  for (int64_t t = length; t < rows; t += TILE_STEPS)
    each_element(y, rows - t < TILE_STEPS ? (int)(rows - t) : TILE_STEPS, [&](int row, int step) {
      y.first[row * y.stride_d + (t + step) * y.stride_t] = 0;
    });
}

/* ---- all steps of a warp's channels ---- */

template <int HEADS, int TYPE>
static __device__ __forceinline__ void run_warp(const ema_launch &p, const ema_sequence &s,
                                                int64_t d0, unsigned char *tiles) {
  typedef stored_of<TYPE> stored;
  const int TILE_STEPS = ROW / sizeof(stored);
  const int l = threadIdx.x % LANES, row = threadIdx.x % 32 / LANES;
  const tile_place<stored> from = place_tile<stored>(p, p.run.x, s, d0);
  const tile_place<stored> to = place_tile<stored>(p, p.run.y, s, d0);
  const bool has_channel = row < from.channels, y_in_tile = to.stride_t == 1;
  const float residual = p.run.f32.residual[d0 + row];
  uint8_t mask = ema_mask_of_lane(p, s, 0, TILE_STEPS);
  lane_chain<HEADS> c;
  lane_begin(c, p, s, d0 + row, l);
  for (int k = 0; k < STAGES - 1; k++)
    copy_tile(from, k * TILE_STEPS, s.length, tiles + k * TILE_PITCH);
  int64_t k = 0;
  for (int64_t t = 0; t < s.length; t += TILE_STEPS, k++) {
    unsigned char *tile = tiles + k % STAGES * TILE_PITCH;
    __pipeline_wait_prior(STAGES - 2); /* this lane's part of tile k has arrived */
    __syncwarp();                      /* so have all others; and tile k - 1 has been stored */
    copy_tile(from, t + (STAGES - 1) * TILE_STEPS, s.length,
              tiles + (k + STAGES - 1) % STAGES * TILE_PITCH);
    const int steps = s.length - t < TILE_STEPS ? (int)(s.length - t) : TILE_STEPS;
    const uint32_t masked = ema_mask_word(mask);
    mask = ema_mask_of_lane(p, s, t + TILE_STEPS, TILE_STEPS);
    stored *x = (stored *)(tile + row * ROW_PITCH);
    stored *y = y_in_tile
                    ? x + l
                    : to.first + (has_channel ? row : 0) * to.stride_d + (t + l) * to.stride_t;
    stage_steps<HEADS, TYPE, -1, 1>(c, p, steps, masked, l, x, residual, y,
                                    y_in_tile ? STEPS : STEPS * to.stride_t, has_channel);
    __syncwarp();
    if (y_in_tile && !p.silent) store_tile(to, t, steps, tile);
  }
  lane_end(c, p, s, d0 + row, l);
  zero_tiles(to, s.length, s.rows);
  __pipeline_wait_prior(0);
  __syncwarp(); /* before the next channels overwrite the tiles */
}

template <int HEADS, int TYPE>
static __global__ void __launch_bounds__(EMA_THREADS, HEADS < 16 ? 6 : 4)
    ema_tiles_kernel(const ema_launch p) {
  CUMEGA_SHARED(unsigned char, shared);
  const int64_t groups = parts_of(p.run.channels, CHANNELS), warps = (int64_t)gridDim.x * WARPS;
  const int warp = threadIdx.x / 32;
  for (int64_t unit = (int64_t)blockIdx.x * WARPS + warp; unit < ema_sequence_count(&p) * groups;
       unit += warps) {
    const int64_t group = unit % groups;
    ema_sequence s;
    if (!ema_begin(p, unit / groups, group == 0 && threadIdx.x % 32 == 0, &s)) continue;
    run_warp<HEADS, TYPE>(p, s, group * CHANNELS, shared + warp * WARP_BYTES);
  }
}

/* ---- launching ---- */

bool ema_tiles_can(const ema_launch *launch) {
  return is_for_lanes(launch);
}

#define INSTANCE(HEADS, TYPE)                                                                     \
  do {                                                                                            \
    *kernel = "ema_tiles_kernel<" #HEADS "," #TYPE ">";                                           \
    return CUMEGA_LAUNCH((ema_tiles_kernel<HEADS, TYPE>), grid, EMA_THREADS, WARPS * WARP_BYTES,  \
                         stream, *launch);                                                        \
  } while (0)

cudaError_t ema_tiles_launch(const ema_launch *launch, cudaStream_t stream, const char **kernel) {
  const dim3 grid = grid_of_units(launch, CHANNELS, WARPS);
  if (ema_kind(launch) == -2) return cudaErrorInvalidValue;
  switch (launch->run.heads) {
  case 1: LAUNCH_FLOAT(INSTANCE, 1);
  case 2: LAUNCH_FLOAT(INSTANCE, 2);
  case 4: LAUNCH_FLOAT(INSTANCE, 4);
  case 8: LAUNCH_FLOAT(INSTANCE, 8);
  case 16: LAUNCH_FLOAT(INSTANCE, 16);
  default: return cudaErrorInvalidValue;
  }
}
