/* Maxima and halving trees of groups of 4,096 keys whose terms lie in a team's registers.
 *
 * A team is a warp or a block of T threads; thread t holds keys (step * T + t) * VALUES + v. So the
 * index's low bits are v, then the lane, then the warp, then the step, and the tree, which halves
 * from the top, runs through registers, across warps (in shared memory: one thread for each column
 * of lane and v), through lanes by exchange shuffles (each lane keeps half of its values and sends
 * half: 8 shuffles for 128 terms), and ends in a lane's own values. */
#ifndef CUMEGA_SRC_CUDA_POSITION_BIAS_SUMS_CUH
#define CUMEGA_SRC_CUDA_POSITION_BIAS_SUMS_CUH

#include "position_bias.cuh"

#define TREE_GROUP 4096

/* How a team lays a row out. */
template <int TYPE, int T, int STEPS> struct team {
  typedef typename element<TYPE>::real real;
  static const int VALUES = element<TYPE>::VALUES;
  static const int WARPS = T / 32;
  static const int COLUMNS =
      32 * VALUES; /* of a group: what is left when steps and warps are summed */
  static const int KEYS = T * STEPS * VALUES;
  static const int GROUPS = KEYS > TREE_GROUP ? KEYS / TREE_GROUP : 1;
  static const int GROUP_STEPS = STEPS / GROUPS;
  static_assert(GROUPS == 1 || T * GROUP_STEPS * VALUES == TREE_GROUP, "groups are whole steps");
  static_assert(T == 32 || GROUPS * COLUMNS <= T, "each column has a thread");
};

/* A block team's shared memory. Each part is written and read between its own two barriers, and the
 * next row passes another barrier before it writes the part again. */
template <typename TEAM> struct team_shared {
  typename TEAM::real maxima[TEAM::GROUPS * TEAM::WARPS];
  typename TEAM::real partial[TEAM::GROUPS * TEAM::WARPS * TEAM::COLUMNS];
  typename TEAM::real columns[TEAM::GROUPS * TEAM::COLUMNS];
  typename TEAM::real sums[TEAM::GROUPS];
};

template <typename REAL> static __device__ __forceinline__ REAL warp_maximum(REAL m) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) m = max_of(m, __shfl_xor_sync(WARP, m, lanes));
  return m;
}

/* The tree over 32 lanes with 4 values each, index lane * 4 + v. Every lane gets the sum. */
static __device__ __forceinline__ float warp_tree(const float *p) {
  const int lane = threadIdx.x % 32;
  const bool upper = lane & 16, second = lane & 8;
  const float send0 = upper ? p[0] : p[2], send1 = upper ? p[1] : p[3];
  float keep0 = upper ? p[2] : p[0], keep1 = upper ? p[3] : p[1];
  keep0 += __shfl_xor_sync(WARP, send0, 16);
  keep1 += __shfl_xor_sync(WARP, send1, 16);
  const float send = second ? keep0 : keep1;
  float sum = second ? keep1 : keep0;
  sum += __shfl_xor_sync(WARP, send, 8);
  sum += __shfl_xor_sync(WARP, sum, 4);
  sum += __shfl_xor_sync(WARP, sum, 2);
  sum += __shfl_xor_sync(WARP, sum, 1);
  sum += __shfl_xor_sync(WARP, sum, 16); /* v and v + 2 */
  return sum + __shfl_xor_sync(WARP, sum, 8);
}

/* The same with 2 values each. */
static __device__ __forceinline__ double warp_tree(const double *p) {
  const bool upper = threadIdx.x & 16;
  const double send = upper ? p[0] : p[1];
  double sum = upper ? p[1] : p[0];
  sum += __shfl_xor_sync(WARP, send, 16);
  sum += __shfl_xor_sync(WARP, sum, 8);
  sum += __shfl_xor_sync(WARP, sum, 4);
  sum += __shfl_xor_sync(WARP, sum, 2);
  sum += __shfl_xor_sync(WARP, sum, 1);
  return sum + __shfl_xor_sync(WARP, sum, 16);
}

/* m[g] = the maximum of group g over the team, +inf where the group has a NaN: either makes the row
 * NaN, and -inf then means a group without a key. */
template <typename TEAM>
static __device__ __forceinline__ void team_maxima(const typename TEAM::real (*s)[TEAM::VALUES],
                                                   team_shared<TEAM> *shared,
                                                   typename TEAM::real *m) {
  typedef typename TEAM::real real;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int g = 0; g < TEAM::GROUPS; g++) {
    m[g] = -(real)INFINITY;
#pragma unroll
    for (int k = 0; k < TEAM::GROUP_STEPS; k++)
#pragma unroll
      for (int v = 0; v < TEAM::VALUES; v++) {
        const real x = s[g * TEAM::GROUP_STEPS + k][v];
        m[g] = max_of(m[g], x != x ? (real)INFINITY : x);
      }
    m[g] = warp_maximum(m[g]);
    if (TEAM::WARPS > 1 && lane == 0) shared->maxima[g * TEAM::WARPS + warp] = m[g];
  }
  if (TEAM::WARPS == 1) return;
  __syncthreads();
#pragma unroll
  for (int g = 0; g < TEAM::GROUPS; g++)
    for (int w = 0; w < TEAM::WARPS; w++) m[g] = max_of(m[g], shared->maxima[g * TEAM::WARPS + w]);
}

/* The tree over a group's steps: terms becomes spent, its first step's values the sums. */
template <typename TEAM>
static __device__ __forceinline__ void step_tree(typename TEAM::real (*terms)[TEAM::VALUES]) {
#pragma unroll
  for (int stride = TEAM::GROUP_STEPS / 2; stride > 0; stride /= 2)
#pragma unroll
    for (int k = 0; k < TEAM::GROUP_STEPS / 2; k++)
#pragma unroll
      for (int v = 0; v < TEAM::VALUES; v++)
        if (k < stride) terms[k][v] += terms[k + stride][v];
}

/* sums[g] = the tree of group g, from each thread's p[g]: its sums over the group's steps. */
template <typename TEAM>
static __device__ __forceinline__ void team_trees(const typename TEAM::real (*p)[TEAM::VALUES],
                                                  team_shared<TEAM> *shared,
                                                  typename TEAM::real *sums) {
  typedef typename TEAM::real real;
  const int thread = threadIdx.x, lane = thread % 32, warp = thread / 32;
  const int VALUES = TEAM::VALUES, WARPS = TEAM::WARPS, COLUMNS = TEAM::COLUMNS;
  if (WARPS == 1) {
    sums[0] = warp_tree(p[0]);
    return;
  }
#pragma unroll
  for (int g = 0; g < TEAM::GROUPS; g++)
#pragma unroll
    for (int v = 0; v < VALUES; v++)
      shared->partial[(g * WARPS + warp) * COLUMNS + lane * VALUES + v] = p[g][v];
  __syncthreads();
  if (thread < TEAM::GROUPS * COLUMNS) {
    const real *column = shared->partial + thread / COLUMNS * WARPS * COLUMNS + thread % COLUMNS;
    real terms[WARPS];
#pragma unroll
    for (int w = 0; w < WARPS; w++) terms[w] = column[w * COLUMNS];
#pragma unroll
    for (int stride = WARPS / 2; stride > 0; stride /= 2)
#pragma unroll
      for (int w = 0; w < (WARPS + 1) / 2; w++) /* not 0 for a warp alone, whose code is dead */
        if (w < stride) terms[w] += terms[w + stride];
    shared->columns[thread] = terms[0];
  }
  __syncthreads();
  if (warp < TEAM::GROUPS) {
    real own[VALUES];
#pragma unroll
    for (int v = 0; v < VALUES; v++) own[v] = shared->columns[warp * COLUMNS + lane * VALUES + v];
    const real sum = warp_tree(own);
    if (lane == 0) shared->sums[warp] = sum;
  }
  __syncthreads();
#pragma unroll
  for (int g = 0; g < TEAM::GROUPS; g++) sums[g] = shared->sums[g];
}

#endif
