/* softmax of rows that are too long for registers (beyond 16,384 keys; float64: 8,192), of any
 * length: 512 threads go through the row twice, group by group of 4,096 keys.
 *
 *   pass 1   each group's maximum m_g and tree s_g, which go to scratch
 *   between  m, and the sum of s_g * exp(m_g - m) in order, by every thread for itself
 *   pass 2   the scores again, and the weights
 *
 * 12 bytes per score in float32 instead of 8: two thirds of the copy's speed at most, predicted, not
 * measured, as in position_bias_softmax.cu. Rows whose scores stay in the second-level cache (50 MB:
 * 12 million keys of all rows under way) read them from there the second time. A cluster of blocks
 * with the row in its registers would save the second read on sm_90, with the same bits.
 *
 * Registers about 48; shared memory 8.5 KB; scratch a pair of numbers per block and group. */
#include "position_bias_sums.cuh"

#define T           512
#define MOST_BLOCKS CUMEGA_MOST_BLOCKS(1024)

/* A group is one team's whole row. */
template <int TYPE> struct long_team : team<TYPE, T, TREE_GROUP / T / element<TYPE>::VALUES> {
  static const int STEPS = TREE_GROUP / T / element<TYPE>::VALUES;
};

template <int TYPE>
static __device__ __forceinline__ void
group_load(const position_launch &p, const row_place &place, int64_t group,
           typename element<TYPE>::real (*s)[element<TYPE>::VALUES]) {
#pragma unroll
  for (int k = 0; k < long_team<TYPE>::STEPS; k++)
    keys_make<TYPE>(p, place, group * TREE_GROUP + (k * T + threadIdx.x) * element<TYPE>::VALUES,
                    s[k]);
}

/* m_g and s_g of every group into statistics, by thread 0. */
template <int TYPE>
static __device__ __forceinline__ void
row_statistics(const position_launch &p, const row_place &place, int64_t groups,
               team_shared<long_team<TYPE>> *shared, typename element<TYPE>::real *statistics) {
  typedef long_team<TYPE> TEAM;
  typedef typename TEAM::real real;
  for (int64_t g = 0; g < groups; g++) {
    real s[TEAM::STEPS][TEAM::VALUES], m, sum;
    group_load<TYPE>(p, place, g, s);
    team_maxima<TEAM>(s, shared, &m);
#pragma unroll
    for (int k = 0; k < TEAM::STEPS; k++)
#pragma unroll
      for (int v = 0; v < TEAM::VALUES; v++) s[k][v] = exp_of(s[k][v] - m);
    step_tree<TEAM>(s);
    team_trees<TEAM>(s, shared, &sum);
    if (threadIdx.x == 0) {
      statistics[2 * g] = m;
      statistics[2 * g + 1] = sum;
    }
  }
  __syncthreads();
}

template <int TYPE>
static __device__ __forceinline__ void softmax_row(const position_launch &p, const row_place &place,
                                                   team_shared<long_team<TYPE>> *shared,
                                                   typename element<TYPE>::real *statistics) {
  typedef long_team<TYPE> TEAM;
  typedef typename TEAM::real real;
  const int64_t groups = (place.row.visible + TREE_GROUP - 1) / TREE_GROUP;
  const int64_t all = (p.run.Lk + TREE_GROUP - 1) / TREE_GROUP;
  real m = -(real)INFINITY, sum = 0;
  row_statistics<TYPE>(p, place, groups, shared, statistics);
  for (int64_t g = 0; g < groups; g++) m = max_of(m, statistics[2 * g]);
  for (int64_t g = 0; g < groups; g++)
    if (statistics[2 * g] != -(real)INFINITY)
      sum += statistics[2 * g + 1] * exp_of(statistics[2 * g] - m);
  const real factor = (real)1 / sum, empty = p.run.nan_rows ? (real)NAN : (real)0;
  const bool is_empty = m == -(real)INFINITY;
  for (int64_t g = 0; g < all; g++) {
    real s[TEAM::STEPS][TEAM::VALUES];
    group_load<TYPE>(p, place, g, s);
#pragma unroll
    for (int k = 0; k < TEAM::STEPS; k++) {
      const int64_t j = g * TREE_GROUP + (k * T + threadIdx.x) * TEAM::VALUES;
#pragma unroll
      for (int v = 0; v < TEAM::VALUES; v++)
        s[k][v] = is_empty ? empty : exp_of(s[k][v] - m) * factor;
      if (j < p.run.Lk) keys_store<TYPE>(p, place, j, s[k], (real)0);
    }
  }
  __syncthreads(); /* the next row writes statistics again */
}

template <int TYPE>
static __global__ void __launch_bounds__(T) position_long_kernel(const position_launch p) {
  typedef typename element<TYPE>::real real;
  CUMEGA_SHARED(team_shared<long_team<TYPE>>, shared);
  const int64_t groups = (p.run.Lk + TREE_GROUP - 1) / TREE_GROUP;
  real *statistics = (real *)p.statistics + blockIdx.x * groups * 2;
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

static int64_t blocks_of(int64_t rows) {
  const int64_t unit = (rows + MOST_BLOCKS - 1) / MOST_BLOCKS;
  return unit == 0 ? 0 : (rows + unit - 1) / unit;
}

int64_t position_long_scratch(const position_bias_run *run) {
  const int64_t groups = (run->Lk + TREE_GROUP - 1) / TREE_GROUP;
  const int64_t real = run->type == TYPE_FLOAT64 ? sizeof(double) : sizeof(float);
  return blocks_of(run->B * run->H * run->Lq) * groups * 2 * real;
}

template <int TYPE> static cudaError_t launch_one(position_launch launch, cudaStream_t stream) {
  const dim3 grid((unsigned)blocks_of(launch.rows));
  launch.unit = (launch.rows + MOST_BLOCKS - 1) / MOST_BLOCKS;
  return CUMEGA_LAUNCH((position_long_kernel<TYPE>), grid, dim3(T),
                       sizeof(team_shared<long_team<TYPE>>), stream, launch);
}

cudaError_t position_long_launch(const position_launch *launch, cudaStream_t stream,
                                 const char **kernel) {
  *kernel = "position_long_kernel";
  switch (launch->run.type) {
  case TYPE_FLOAT32: return launch_one<TYPE_FLOAT32>(*launch, stream);
  case TYPE_FLOAT16: return launch_one<TYPE_FLOAT16>(*launch, stream);
  case TYPE_BFLOAT16: return launch_one<TYPE_BFLOAT16>(*launch, stream);
  default: return launch_one<TYPE_FLOAT64>(*launch, stream);
  }
}
