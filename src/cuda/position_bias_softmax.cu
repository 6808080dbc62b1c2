/* softmax of rows that fit a team's registers: a warp up to 256 and 1,024 keys, 128 threads up to
 * 4,096, 512 threads up to 16,384 (float64: half of these). Each score is read once and written
 * once, 8 bytes per score in float32; masks add a byte each, the table 4 from the caches.
 *
 * A thread has up to 8 pieces of 4 keys (32 registers), loaded before the first of them is needed. Compiled
 * for sm_90 a thread has 48, 96, 96 and 118 registers in the four layouts, without spilling, so 20 warps of 128-thread
 * teams are on a multiprocessor, or one team of 512: at least 32 KB under way, what the memory needs. Work per
 * 32 scores in float32, without masks: 25 instructions for s as in position_bias_apply.cu, 2 for the
 * maximum, 17 for exp, 1 for the tree, 1 for the weight, 2 for the store: 48 of the 55 issue slots that
 * the copy's time allows, and 8 + 5 shuffles per row and warp. Rows of several groups take exp twice,
 * which is 65: predicted, not measured, the copy's speed up to 4,096 keys, nine tenths of it to 16,384;
 * in 16-bit types, which allow 28 slots, half of it.
 *
 * Causal rows read what they see and write the whole row. Shared memory: 2.5 KB for 128 threads, 34
 * KB for 512. Barriers per row: four. Rejected: a running maximum, which would make the bits depend
 * on how keys are dealt to threads; both exp(s - m_g) and s in registers, which would halve the
 * warps that fit. */
#include "position_bias_sums.cuh"

#define WARP_TEAMS 4 /* rows of a block whose teams are warps */
#define MOST_TEAMS CUMEGA_MOST_BLOCKS(16384)

/* What a row with numbers in it becomes. */
template <typename TEAM, int TYPE, int T>
static __device__ __forceinline__ void store_weights(const position_launch &p,
                                                     const row_place &place, int steps,
                                                     const typename TEAM::real (*w)[TEAM::VALUES]) {
  const int thread = threadIdx.x % T;
#pragma unroll
  for (int k = 0; k < steps; k++) {
    const int j = (k * T + thread) * TEAM::VALUES;
    if (j < p.run.Lk) keys_store<TYPE>(p, place, j, w[k], (typename TEAM::real)0);
  }
}

/* One row, by the whole team. */
template <int TYPE, int T, int STEPS>
static __device__ __forceinline__ void softmax_row(const position_launch &p, const row_place &place,
                                                   team_shared<team<TYPE, T, STEPS>> *shared) {
  typedef team<TYPE, T, STEPS> TEAM;
  typedef typename TEAM::real real;
  const int VALUES = TEAM::VALUES, GROUPS = TEAM::GROUPS, GROUP_STEPS = TEAM::GROUP_STEPS;
  const int thread = threadIdx.x % T;
  real s[STEPS][VALUES], m_of[GROUPS], sums[GROUPS], p_of[GROUPS][VALUES];

  /* pass 1: the scores, and each group's maximum */
#pragma unroll
  for (int k = 0; k < STEPS; k++)
    keys_make<TYPE>(p, place, (int64_t)(k * T + thread) * VALUES, s[k]);
  team_maxima<TEAM>(s, shared, m_of);
  real m = m_of[0];
#pragma unroll
  for (int g = 1; g < GROUPS; g++) m = max_of(m, m_of[g]);

    /* pass 2: each group's tree; with one group the terms stay, for the weights */
#pragma unroll
  for (int g = 0; g < GROUPS; g++) {
    real terms[GROUP_STEPS][VALUES];
#pragma unroll
    for (int k = 0; k < GROUP_STEPS; k++)
#pragma unroll
      for (int v = 0; v < VALUES; v++) {
        terms[k][v] = exp_of(s[g * GROUP_STEPS + k][v] - m_of[g]);
        if (GROUPS == 1) s[k][v] = terms[k][v];
      }
    step_tree<TEAM>(terms);
#pragma unroll
    for (int v = 0; v < VALUES; v++) p_of[g][v] = terms[0][v];
  }
  team_trees<TEAM>(p_of, shared, sums);

  /* pass 3: the weights */
  real sum = sums[0];
  if (GROUPS > 1) {
    sum = 0;
#pragma unroll
    for (int g = 0; g < GROUPS; g++)
      if (m_of[g] != -(real)INFINITY) sum += sums[g] * exp_of(m_of[g] - m);
  }
  const real factor = (real)1 / sum, empty = p.run.nan_rows ? (real)NAN : (real)0;
  const bool is_empty = m == -(real)INFINITY;
#pragma unroll
  for (int k = 0; k < STEPS; k++)
#pragma unroll
    for (int v = 0; v < VALUES; v++) {
      const real term = GROUPS == 1 ? s[k][v] : exp_of(s[k][v] - m);
      s[k][v] = is_empty ? empty : term * factor;
    }
  store_weights<TEAM, TYPE, T>(p, place, STEPS, s);
}

template <int TYPE, int T, int STEPS>
static __global__ void __launch_bounds__(T == 32 ? WARP_TEAMS * 32 : T)
    position_softmax_kernel(const position_launch p) {
  typedef team<TYPE, T, STEPS> TEAM;
  CUMEGA_SHARED(team_shared<TEAM>, shared);
  const int64_t worker = T == 32 ? (int64_t)blockIdx.x * WARP_TEAMS + threadIdx.x / 32 : blockIdx.x;
  const int64_t first = worker * p.unit, end = first + p.unit < p.rows ? first + p.unit : p.rows;
  if (first >= end) return;
  row_index at = row_begin(p.run, first);
  for (int64_t row = first; row < end; row++) {
    row_place place = row_find(p, at, threadIdx.x % T == 0);
    row_judge_padding(p.run, &place);
    softmax_row<TYPE, T, STEPS>(p, place, shared);
    row_next(p.run, &at);
  }
}

/* ---- launching ---- */

template <int TYPE, int T, int STEPS>
static cudaError_t launch_team(position_launch launch, cudaStream_t stream) {
  const int teams_of_block = T == 32 ? WARP_TEAMS : 1;
  launch.unit = (launch.rows + MOST_TEAMS - 1) / MOST_TEAMS;
  const int64_t teams = (launch.rows + launch.unit - 1) / launch.unit;
  const dim3 grid((unsigned)((teams + teams_of_block - 1) / teams_of_block));
  const size_t shared = T == 32 ? 0 : sizeof(team_shared<team<TYPE, T, STEPS>>);
  static_assert(sizeof(team_shared<team<TYPE, T, STEPS>>) <= 48 * 1024, "no opt-in is needed");
  return CUMEGA_LAUNCH((position_softmax_kernel<TYPE, T, STEPS>), grid, dim3(teams_of_block * T),
                       shared, stream, launch);
}

/* The name has no space (cumega_context_kernels). */
#define LAUNCH(T, STEPS)                                                                           \
  do {                                                                                             \
    *kernel = "position_softmax_kernel<" #T "," #STEPS ">";                                        \
    return launch_team<TYPE, T, STEPS>(*launch, stream);                                           \
  } while (0)

template <int TYPE>
static cudaError_t launch_by_length(const position_launch *launch, cudaStream_t stream,
                                    const char **kernel) {
  const int64_t keys = launch->run.Lk;
  if (keys <= team<TYPE, 32, 2>::KEYS) LAUNCH(32, 2);
  if (keys <= team<TYPE, 32, 8>::KEYS) LAUNCH(32, 8);
  if (keys <= team<TYPE, 128, 8>::KEYS) LAUNCH(128, 8);
  LAUNCH(512, 8); /* position_softmax_can has said so */
}

bool position_softmax_can(const position_bias_run *run) {
  if (run->type == TYPE_FLOAT64) return run->Lk <= team<TYPE_FLOAT64, 512, 8>::KEYS;
  return run->Lk <= team<TYPE_FLOAT32, 512, 8>::KEYS;
}

cudaError_t position_softmax_launch(const position_launch *launch, cudaStream_t stream,
                                    const char **kernel) {
  switch (launch->run.type) {
  case TYPE_FLOAT32: return launch_by_length<TYPE_FLOAT32>(launch, stream, kernel);
  case TYPE_FLOAT16: return launch_by_length<TYPE_FLOAT16>(launch, stream, kernel);
  case TYPE_BFLOAT16: return launch_by_length<TYPE_BFLOAT16>(launch, stream, kernel);
  default: return launch_by_length<TYPE_FLOAT64>(launch, stream, kernel);
  }
}
