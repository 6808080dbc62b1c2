/* softmax of rows that are too long for registers (more than 16,384 keys; float64: 8,192), of any
 * length. A block of 512 threads goes through the row twice, group by group of 4,096 keys.
 *
 *   pass 1   each group's maximum m_g and sum s_g, which go to scratch
 *   between  m, and the sum of s_g * exp(m_g - m) in order: every thread computes both
 *   pass 2   the scores again, and the weights
 *
 * 12 bytes per score in float32 instead of 8: at most two thirds of the speed of a copy (predicted
 * as in attention_softmax.cu, not measured). If the scores stay in the second-level cache (50 MB:
 * 12 million keys of all rows in flight), the second pass reads them from there. On sm_90 a
 * cluster of blocks with the row in its registers would avoid the second read, with the same bits.
 *
 * About 48 registers; shared memory 8.5 KB; scratch: a pair of numbers per block and group. */
#include "attention_team.cuh"

#define T POSITION_LONG_THREADS

/* The layout of one group, which is a row of its own to the team. */
template <int TYPE> using group_team = team<TYPE, T, TREE_GROUP / T / KEYS<TYPE>>;

template <int TYPE> static __device__ __forceinline__ int64_t key_of(int64_t group, int step) {
  return group * TREE_GROUP + (step * T + threadIdx.x) * KEYS<TYPE>;
}

template <int TYPE>
static __device__ __forceinline__ void
group_load(const attention_launch &p, const row_place &place, int64_t group, real_of<TYPE> *s) {
#pragma unroll
  for (int k = 0; k < group_team<TYPE>::TERMS / KEYS<TYPE>; k++)
    keys_make<TYPE>(p, place, key_of<TYPE>(group, k), s + k * KEYS<TYPE>);
}

/* Computes m_g and s_g of every group. Thread 0 writes them to statistics. */
template <int TYPE>
static __device__ __forceinline__ void
row_statistics(const attention_launch &p, const row_place &place, int64_t groups,
               team_shared<group_team<TYPE>> *shared, real_of<TYPE> *statistics) {
  typedef group_team<TYPE> TEAM;
  for (int64_t g = 0; g < groups; g++) {
    real_of<TYPE> s[TEAM::TERMS], m, sum;
    group_load<TYPE>(p, place, g, s);
    team_maxima<TEAM>(s, shared, &m);
#pragma unroll
    for (int i = 0; i < TEAM::TERMS; i++) s[i] = exp_of(s[i] - m);
    tree_registers<TEAM::TERMS, TEAM::VALUES>(s);
    block_trees(s, TEAM::WARPS, &shared->tree, &sum);
    if (threadIdx.x == 0) {
      statistics[2 * g] = m;
      statistics[2 * g + 1] = sum;
    }
  }
  __syncthreads();
}

template <int TYPE>
static __device__ __forceinline__ void
softmax_row(const attention_launch &p, const row_place &place,
            team_shared<group_team<TYPE>> *shared, real_of<TYPE> *statistics) {
  typedef group_team<TYPE> TEAM;
  typedef real_of<TYPE> real;
  const int64_t groups = parts_of(place.row.visible, TREE_GROUP);
  real m = -(real)INFINITY, sum = 0;
  row_statistics<TYPE>(p, place, groups, shared, statistics);
  for (int64_t g = 0; g < groups; g++) m = fmax(m, statistics[2 * g]);
  for (int64_t g = 0; g < groups; g++)
    if (statistics[2 * g] != -(real)INFINITY)
      sum += statistics[2 * g + 1] * exp_of(statistics[2 * g] - m);
  const real factor = (real)1 / sum, empty = p.run.nan_rows ? (real)NAN : (real)0;
  const bool is_empty = m == -(real)INFINITY;
  for (int64_t g = 0; g < parts_of(p.run.Lk, TREE_GROUP); g++) {
#pragma unroll
    for (int k = 0; k < TEAM::TERMS / TEAM::VALUES; k++) {
      const int64_t j = key_of<TYPE>(g, k);
      real s[TEAM::VALUES];
      if (j >= p.run.Lk) break;
      keys_make<TYPE>(p, place, j, s);
#pragma unroll
      for (int v = 0; v < TEAM::VALUES; v++) s[v] = is_empty ? empty : exp_of(s[v] - m) * factor;
      keys_store<TYPE>(p, place, j, s, (real)0);
    }
  }
  __syncthreads(); /* the next row overwrites statistics */
}

template <int TYPE>
static __global__ void __launch_bounds__(T) attention_long_kernel(const attention_launch p) {
  CUMEGA_SHARED(team_shared<group_team<TYPE>>, shared);
  const int64_t groups = parts_of(p.run.Lk, TREE_GROUP);
  real_of<TYPE> *statistics = (real_of<TYPE> *)p.statistics + blockIdx.x * groups * 2;
  const int64_t first = blockIdx.x * p.unit;
  const int64_t end = first + p.unit < p.rows ? first + p.unit : p.rows;
  row_index at = row_begin(p.run, first);
  for (int64_t row = first; row < end; row++) {
    row_place place = row_find(p, at, threadIdx.x == 0);
    row_judge_padding(p.run, &place);
    softmax_row<TYPE>(p, place, shared, statistics);
    row_next(p.run, &at);
  }
}

/* ---- launching ---- */

static dim3 deal_rows(attention_launch *launch) {
  return deal(launch, launch->rows, 1, POSITION_LONG_MOST_BLOCKS);
}

int64_t attention_long_scratch(const attention_run *run) {
  attention_launch launch = {};
  launch.rows = run->B * run->H * run->Lq;
  if (launch.rows == 0) return 0;
  const int64_t real = run->type == TYPE_FLOAT64 ? sizeof(double) : sizeof(float);
  return deal_rows(&launch).x * parts_of(run->Lk, TREE_GROUP) * 2 * real;
}

template <int TYPE> static cudaError_t launch_rows(attention_launch launch, cudaStream_t stream) {
  const dim3 grid = deal_rows(&launch);
  return CUMEGA_LAUNCH((attention_long_kernel<TYPE>), grid, T,
                       sizeof(team_shared<group_team<TYPE>>), stream, launch);
}

cudaError_t attention_long_launch(const attention_launch *launch, cudaStream_t stream,
                                  const char **kernel) {
  *kernel = "attention_long_kernel";
  LAUNCH_BY_TYPE(launch->run.type, launch_rows, *launch, stream);
}
