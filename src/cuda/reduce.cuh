/* Pairwise summation in halving order (src/math/tree.h), over terms in the registers of a team of
 * threads. A `tree` in names is such a sum.
 *
 * Term (k * T + t) * VALUES + v is value v of the k-th vector of thread t, in a team of T threads.
 * So from low to high the bits of the index are v, the lane, the warp, and k. Summation begins
 * with the highest bit: first the vectors of a thread (tree_registers), then warps and lanes
 * (block_trees), then the values of one vector (warp_tree). Absent terms are -0, so a layout for a
 * larger power of two gives the same bits. */
#ifndef CUMEGA_SRC_CUDA_REDUCE_CUH
#define CUMEGA_SRC_CUDA_REDUCE_CUH

#include "launch.h"

#define FULL_WARP 0xffffffffu /* the mask of all 32 lanes */

/* Halves the COUNT terms until KEPT sums are left in term[0 .. KEPT - 1]. The others are
 * overwritten. */
template <int COUNT, int KEPT = 1, typename REAL>
static __device__ __forceinline__ void tree_registers(REAL *term) {
#pragma unroll
  for (int stride = COUNT / 2; stride >= KEPT; stride /= 2)
#pragma unroll
    for (int i = 0; i < COUNT / 2; i++) /* a constant bound, or the loop is not unrolled */
      if (i < stride) term[i] += term[i + stride];
}

/* Adds across lanes that are LANES apart, LANES / 2 apart, ..., once for each halving of VALUES.
 * Each of two such lanes keeps one half of its values and sends the other half, so VALUES - 1
 * shuffles are enough. In the end v[0] is the sum of one value. Lanes whose number has the bit
 * LANES keep the upper half, and so on. */
template <int VALUES, int LANES, typename REAL>
static __device__ __forceinline__ void exchange_halves(REAL *v) {
#pragma unroll
  for (int kept = VALUES / 2, lanes = LANES; kept > 0; kept /= 2, lanes /= 2) {
    const bool upper = threadIdx.x & lanes;
#pragma unroll
    for (int i = 0; i < VALUES / 2; i++)
      if (i < kept) {
        const REAL send = upper ? v[i] : v[i + kept];
        v[i] = (upper ? v[i + kept] : v[i]) + __shfl_xor_sync(FULL_WARP, send, lanes);
      }
  }
}

/* The sum over a warp's 32 lanes with VALUES values each. Every lane gets it. */
template <int VALUES, typename REAL> static __device__ __forceinline__ REAL warp_tree(REAL *v) {
  exchange_halves<VALUES, 16>(v);
#pragma unroll
  for (int lanes = 16 / VALUES; lanes > 0; lanes /= 2)
    v[0] += __shfl_xor_sync(FULL_WARP, v[0], lanes);
#pragma unroll
  for (int kept = VALUES / 2, lanes = 16; kept > 0; kept /= 2, lanes /= 2)
    v[0] += __shfl_xor_sync(FULL_WARP, v[0], lanes);
  return v[0];
}

template <typename REAL> static __device__ __forceinline__ REAL warp_maximum(REAL m) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) m = fmax(m, __shfl_xor_sync(FULL_WARP, m, lanes));
  return m;
}

/* Shared memory for block_trees. There is a barrier after each part is written, and the next call
 * passes another one before it writes that part again. So no barrier is needed between calls. */
template <typename REAL, int VALUES, int WARPS, int GROUPS> struct tree_shared {
  static const int COLUMNS = 32 * VALUES;
  REAL partial[GROUPS * WARPS * COLUMNS]; /* what each thread holds */
  REAL column[GROUPS * COLUMNS];          /* the same, summed over warps */
  REAL sum[GROUPS];
};

/* sum[g] = the sum of group g over a block of `warps` warps, at most WARPS. Each thread gives
 * VALUES partial sums, in v[g * VALUES] and the following. Every thread gets all sums. v is
 * overwritten. A single warp has one group and needs no shared memory, so several warps of a block
 * may each call it for their own rows. */
template <int VALUES, int WARPS, int GROUPS, typename REAL>
static __device__ __forceinline__ void
block_trees(REAL *v, int warps, tree_shared<REAL, VALUES, WARPS, GROUPS> *shared, REAL *sum) {
  const int COLUMNS = 32 * VALUES, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  if (warps == 1) {
    sum[0] = warp_tree<VALUES>(v);
    return;
  }
#pragma unroll
  for (int g = 0; g < GROUPS; g++)
#pragma unroll
    for (int i = 0; i < VALUES; i++)
      shared->partial[(g * WARPS + warp) * COLUMNS + lane * VALUES + i] = v[g * VALUES + i];
  __syncthreads();
  for (int at = threadIdx.x; at < GROUPS * COLUMNS; at += 32 * warps) {
    const REAL *column = shared->partial + at / COLUMNS * WARPS * COLUMNS + at % COLUMNS;
    REAL term[WARPS];
#pragma unroll
    for (int w = 0; w < WARPS; w++) term[w] = w < warps ? column[w * COLUMNS] : -(REAL)0;
    tree_registers<WARPS>(term);
    shared->column[at] = term[0];
  }
  __syncthreads();
  if (warp < GROUPS) {
    REAL own[VALUES];
#pragma unroll
    for (int i = 0; i < VALUES; i++) own[i] = shared->column[warp * COLUMNS + lane * VALUES + i];
    const REAL total = warp_tree<VALUES>(own);
    if (lane == 0) shared->sum[warp] = total;
  }
  __syncthreads();
#pragma unroll
  for (int g = 0; g < GROUPS; g++) sum[g] = shared->sum[g];
}

#endif
