/* A row of scores in the registers of a team of threads: its layout, and the maxima of its groups
 * of 4,096 keys (TREE_GROUP). reduce.cuh sums the groups.
 *
 * A team is a warp or a block of T threads. Thread t holds keys (step * T + t) * KEYS + v. */
#ifndef CUMEGA_SRC_CUDA_POSITION_BIAS_TEAM_CUH
#define CUMEGA_SRC_CUDA_POSITION_BIAS_TEAM_CUH

#include "../math/tree.h"
#include "attention.cuh"

template <int TYPE, int T, int STEPS> struct team {
  typedef real_of<TYPE> real;
  static const int VALUES = KEYS<TYPE>;
  static const int WARPS = T / 32;
  static const int TERMS = STEPS * VALUES; /* per thread */
  static const int ROW = T * TERMS;        /* keys */
  static const int GROUPS = ROW > TREE_GROUP ? ROW / TREE_GROUP : 1;
  static const int GROUP_TERMS = TERMS / GROUPS;
  static_assert(GROUPS == 1 || T * GROUP_TERMS == TREE_GROUP, "groups are whole steps");
  static_assert(GROUPS <= WARPS, "a warp finishes a group");
};

template <typename TEAM> struct team_shared {
  typename TEAM::real maxima[TEAM::GROUPS * TEAM::WARPS];
  tree_shared<typename TEAM::real, TEAM::VALUES, TEAM::WARPS, TEAM::GROUPS> tree;
};

/* m[g] = the maximum of group g over the team, or +inf if the group has a NaN, since both make the
 * row NaN. So -inf means that the group has no visible key. */
template <typename TEAM>
static __device__ __forceinline__ void
team_maxima(const typename TEAM::real *s, team_shared<TEAM> *shared, typename TEAM::real *m) {
  typedef typename TEAM::real real;
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
#pragma unroll
  for (int g = 0; g < TEAM::GROUPS; g++) {
    m[g] = -(real)INFINITY;
#pragma unroll
    for (int i = 0; i < TEAM::GROUP_TERMS; i++) {
      const real x = s[g * TEAM::GROUP_TERMS + i];
      m[g] = fmax(m[g], x != x ? (real)INFINITY : x);
    }
    m[g] = warp_maximum(m[g]);
    if (TEAM::WARPS > 1 && lane == 0) shared->maxima[g * TEAM::WARPS + warp] = m[g];
  }
  if (TEAM::WARPS == 1) return;
  __syncthreads();
#pragma unroll
  for (int g = 0; g < TEAM::GROUPS; g++)
    for (int w = 0; w < TEAM::WARPS; w++) m[g] = fmax(m[g], shared->maxima[g * TEAM::WARPS + w]);
}

#endif
