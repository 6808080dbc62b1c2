/* softmax of rows that fit a team's registers: a warp for up to 256 and 1,024 keys, 128 threads
 * for up to 4,096, 512 threads for up to 16,384 (float64: half of these). Each score is read once
 * and written once: 8 bytes in float32. Each mask adds a byte, and the table adds 4 from the
 * caches.
 *
 * A thread has up to 8 vectors of 4 keys (32 registers), which are all loaded before the first is
 * needed. Compiled for sm_90 the four layouts take 48, 96, 96 and 118 registers without spilling.
 * So a multiprocessor holds 20 warps of 128-thread teams, or one team of 512, with at least 32 KB
 * in flight, which is enough to keep the memory busy. Instructions per 32 scores in float32,
 * without masks: 25 for s as in attention_scores.cu, 2 for the maximum, 17 for exp, 1 for the sum,
 * 1 for the weight, 2 for the store. That is 48, and a copy takes the time of 55; then 8 + 5
 * shuffles per row and warp. Rows of several groups compute exp twice: 65. So (predicted, not
 * measured) it runs at the speed of a copy up to 4,096 keys, at nine tenths of it up to 16,384,
 * and at half of it in 16-bit types, whose copy takes the time of 28.
 *
 * Causal rows read only the visible keys, and write the whole row. Shared memory: 2.5 KB for 128
 * threads, 34 KB for 512. Four barriers per row. Rejected: a running maximum, which would make the
 * bits depend on how keys are distributed over threads; both exp(s - m_g) and s in registers,
 * which would halve the number of warps that fit. */
#include "attention_team.cuh"

/* The whole team computes one row. */
template <int TYPE, int T, int STEPS>
static __device__ __forceinline__ void softmax_row(const attention_launch &p,
                                                   const row_place &place,
                                                   team_shared<team<TYPE, T, STEPS>> *shared) {
  typedef team<TYPE, T, STEPS> TEAM;
  typedef typename TEAM::real real;
  const int VALUES = TEAM::VALUES, GROUPS = TEAM::GROUPS, GROUP_TERMS = TEAM::GROUP_TERMS;
  const int thread = threadIdx.x % T;
  real s[TEAM::TERMS], m_of[GROUPS], sum_of[GROUPS], partial[GROUPS * VALUES];

  /* Pass 1: the scores, and each group's maximum. */
#pragma unroll
  for (int k = 0; k < STEPS; k++)
    keys_make<TYPE>(p, place, (int64_t)(k * T + thread) * VALUES, s + k * VALUES);
  team_maxima<TEAM>(s, shared, m_of);
  real m = m_of[0];
#pragma unroll
  for (int g = 1; g < GROUPS; g++) m = fmax(m, m_of[g]);

    /* Pass 2: each group's sum. With one group the terms are kept for the weights. */
#pragma unroll
  for (int g = 0; g < GROUPS; g++) {
    real term[GROUP_TERMS];
#pragma unroll
    for (int i = 0; i < GROUP_TERMS; i++) {
      term[i] = exp_of(s[g * GROUP_TERMS + i] - m_of[g]);
      if (GROUPS == 1) s[i] = term[i];
    }
    tree_registers<GROUP_TERMS, VALUES>(term);
#pragma unroll
    for (int v = 0; v < VALUES; v++) partial[g * VALUES + v] = term[v];
  }
  block_trees(partial, TEAM::WARPS, &shared->tree, sum_of);

  /* Pass 3: the weights. */
  real sum = sum_of[0];
  if (GROUPS > 1) {
    sum = 0;
#pragma unroll
    for (int g = 0; g < GROUPS; g++)
      if (m_of[g] != -(real)INFINITY) sum += sum_of[g] * exp_of(m_of[g] - m);
  }
  const real factor = (real)1 / sum, empty = p.run.nan_rows ? (real)NAN : (real)0;
  const bool is_empty = m == -(real)INFINITY;
#pragma unroll
  for (int i = 0; i < TEAM::TERMS; i++) {
    const real term = GROUPS == 1 ? s[i] : exp_of(s[i] - m);
    s[i] = is_empty ? empty : term * factor;
  }
#pragma unroll
  for (int k = 0; k < STEPS; k++) {
    const int j = (k * T + thread) * VALUES;
    if (j < p.run.Lk) keys_store<TYPE>(p, place, j, s + k * VALUES, (real)0);
  }
}

template <int TYPE, int T, int STEPS>
static __global__ void __launch_bounds__(T == 32 ? POSITION_WARP_TEAMS * 32 : T)
    attention_softmax_kernel(const attention_launch p) {
  typedef team<TYPE, T, STEPS> TEAM;
  CUMEGA_SHARED(team_shared<TEAM>, shared);
  const int64_t worker =
      T == 32 ? (int64_t)blockIdx.x * POSITION_WARP_TEAMS + threadIdx.x / 32 : blockIdx.x;
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
static cudaError_t launch_team(attention_launch launch, cudaStream_t stream) {
  const int teams = T == 32 ? POSITION_WARP_TEAMS : 1; /* of a block */
  const dim3 grid = deal(&launch, launch.rows, teams, parts_of(POSITION_MOST_TEAMS, teams));
  const size_t shared = T == 32 ? 0 : sizeof(team_shared<team<TYPE, T, STEPS>>);
  static_assert(sizeof(team_shared<team<TYPE, T, STEPS>>) <= 48 * 1024, "no opt-in is needed");
  return CUMEGA_LAUNCH((attention_softmax_kernel<TYPE, T, STEPS>), grid, teams * T, shared, stream,
                       launch);
}

#define LAUNCH_TEAM(T, STEPS)                                                                     \
  do {                                                                                            \
    *kernel = "attention_softmax_kernel<" #T "," #STEPS ">";                                      \
    return launch_team<TYPE, T, STEPS>(*launch, stream);                                          \
  } while (0)

template <int TYPE>
static cudaError_t launch_by_length(const attention_launch *launch, cudaStream_t stream,
                                    const char **kernel) {
  const int64_t keys = launch->run.Lk;
  if (keys <= team<TYPE, 32, 2>::ROW) LAUNCH_TEAM(32, 2);
  if (keys <= team<TYPE, 32, 8>::ROW) LAUNCH_TEAM(32, 8);
  if (keys <= team<TYPE, 128, 8>::ROW) LAUNCH_TEAM(128, 8);
  if (keys <= team<TYPE, 512, 8>::ROW) LAUNCH_TEAM(512, 8);
  return cudaErrorInvalidValue;
}

bool attention_softmax_can(const attention_run *run) {
  if (run->type == TYPE_FLOAT64) return run->Lk <= team<TYPE_FLOAT64, 512, 8>::ROW;
  return run->Lk <= team<TYPE_FLOAT32, 512, 8>::ROW;
}

cudaError_t attention_softmax_launch(const attention_launch *launch, cudaStream_t stream,
                                     const char **kernel) {
  LAUNCH_BY_TYPE(launch->run.type, launch_by_length, launch, stream, kernel);
}
