/* The chain of LANES channels through a block of steps, in registers: part of ema_item.h, which says what the names in
 * capitals are.
 *
 *   h = q h + gain x~ per head (ADVANCE); e = tree of projection * h; v = fma(residual_weight, x, e)
 *
 * For float32 that is 4 N vector operations, N - 1 additions and one fma: 20 for N = 4. Two fmas of each head depend on
 * the step before, 8 cycles; on two fma units the other operations take as long. */

/* The chain's coefficients at one tile, and where it reads and writes. */
typedef struct NAME(chain) {
  const REAL *q, *q_lo, *gain, *projection; /* (num_heads, pitch) */
  const REAL *residual;
  int64_t pitch, num_heads;
  int64_t steps;
  const REAL *x; /* (steps, LANES), x_pitch apart */
  int64_t x_pitch;
  const uint8_t *masked; /* (steps), or NULL */
  REAL *state;           /* (num_heads, TILE_CHANNELS) */
  REAL *terms;           /* (num_heads, LANES), scratch of the general chain */
  REAL *v;               /* (steps, LANES), v_pitch apart */
  int64_t v_pitch;
  int raw;
} NAME(chain);

/* clang takes no notice of GCC's pragma, and would leave the arrays in memory. */
#if defined(__clang__)
#define UNROLL       _Pragma("clang loop unroll(full)")
#define UNROLL_STEPS _Pragma("clang loop unroll_count(8)")
#else
#define UNROLL       _Pragma("GCC unroll 16")
#define UNROLL_STEPS _Pragma("GCC unroll 8")
#endif
#define HEADS_MAX 16

/* A tile's registers for a block of steps. */
typedef struct NAME(registers) {
  VEC h[HEADS_MAX], q[HEADS_MAX], q_lo[HEADS_MAX], gain[HEADS_MAX], projection[HEADS_MAX];
} NAME(registers);

/* One step of all heads; returns e. */
static inline __attribute__((always_inline)) VEC NAME(step_of)(const int N, NAME(registers) * r,
                                                               VEC x_seen) {
  VEC term[HEADS_MAX];
  UNROLL for (int n = 0; n < N; n++) {
    r->h[n] = ADVANCE(r->q[n], r->q_lo[n], r->gain[n], r->h[n], x_seen);
    term[n] = r->projection[n] * r->h[n];
  }
  UNROLL for (int stride = N / 2; stride > 0; stride /= 2) UNROLL for (int n = 0; n < stride; n++)
      term[n] += term[n + stride];
  return term[0]; /* cppcheck-suppress uninitvar ; N >= 1 are set */
}

/* N and relu are constants at every call: N a power of two up to HEADS_MAX, so that the arrays
 * become registers; relu where it is part of the loop. (Other activations need more registers than are left.) */
static inline __attribute__((always_inline)) void NAME(chain_of)(const int N, const int relu,
                                                                 const NAME(chain) * c) {
  NAME(registers) r;
  UNROLL for (int n = 0; n < N; n++) {
    r.h[n] = LOAD(c->state + n * TILE_CHANNELS);
    r.q[n] = LOAD(c->q + n * c->pitch);
    r.q_lo[n] = LOAD(c->q_lo + n * c->pitch);
    r.gain[n] = LOAD(c->gain + n * c->pitch);
    r.projection[n] = LOAD(c->projection + n * c->pitch);
  }
  const VEC residual = LOAD(c->residual), zero = {0};
  const REAL *from = c->x;
  REAL *to = c->v;
  const int64_t steps = c->steps, x_pitch = c->x_pitch, v_pitch = c->v_pitch;
  if (c->masked || c->raw)
    for (int64_t t = 0; t < steps; t++, from += x_pitch, to += v_pitch) {
      const VEC x = LOAD(from);
      const VEC e = NAME(step_of)(N, &r, c->masked && c->masked[t] ? zero : x);
      const VEC v = c->raw ? e : FMA(residual, x, e);
      STORE(to, relu ? RELU(v) : v);
    }
  else
    UNROLL_STEPS for (int64_t t = 0; t < steps; t++, from += x_pitch, to += v_pitch) {
      const VEC x = LOAD(from);
      const VEC v = FMA(residual, x, NAME(step_of)(N, &r, x));
      STORE(to, relu ? RELU(v) : v);
    }
  UNROLL for (int n = 0; n < N; n++) STORE(c->state + n * TILE_CHANNELS, r.h[n]);
}

/* Any number of heads: states and terms stay in the first-level cache. */
static void NAME(chain_general)(const NAME(chain) * c) {
  const int64_t N = c->num_heads;
  const VEC residual = LOAD(c->residual), zero = {0};
  int64_t first_stride = 1;
  while (2 * first_stride < N) first_stride *= 2;
  for (int64_t t = 0; t < c->steps; t++) {
    const VEC x = LOAD(c->x + t * c->x_pitch);
    const VEC x_seen = c->masked && c->masked[t] ? zero : x;
    for (int64_t n = 0; n < N; n++) {
      const int64_t at = n * c->pitch;
      VEC h = LOAD(c->state + n * TILE_CHANNELS);
      h = ADVANCE(LOAD(c->q + at), LOAD(c->q_lo + at), LOAD(c->gain + at), h, x_seen);
      STORE(c->state + n * TILE_CHANNELS, h);
      STORE(c->terms + n * LANES, LOAD(c->projection + at) * h);
    }
    for (int64_t stride = first_stride; stride > 0; stride /= 2)
      for (int64_t n = 0; n < stride && n + stride < N; n++)
        STORE(c->terms + n * LANES,
              LOAD(c->terms + n * LANES) + LOAD(c->terms + (n + stride) * LANES));
    const VEC e = LOAD(c->terms);
    STORE(c->v + t * c->v_pitch, c->raw ? e : FMA(residual, x, e));
  }
}

typedef void (*NAME(chain_function))(const NAME(chain) *);

#define DEFINE_CHAINS(N)                                                                           \
  static void NAME(chain_##N)(const NAME(chain) * c) {                                             \
    NAME(chain_of)(N, 0, c);                                                                       \
  }                                                                                                \
  static void NAME(chain_relu_##N)(const NAME(chain) * c) {                                        \
    NAME(chain_of)(N, 1, c);                                                                       \
  }

DEFINE_CHAINS(1)
DEFINE_CHAINS(2)
DEFINE_CHAINS(4)
DEFINE_CHAINS(8)
DEFINE_CHAINS(16)

#define CHOOSE_CHAIN(N) return relu ? NAME(chain_relu_##N) : NAME(chain_##N)

/* The chain for so many heads, with ReLU in it as asked for; NULL where there is none such. */
static NAME(chain_function) NAME(choose_chain)(int64_t num_heads, int relu) {
  switch (num_heads) {
  case 1: CHOOSE_CHAIN(1);
  case 2: CHOOSE_CHAIN(2);
  case 4: CHOOSE_CHAIN(4);
  case 8: CHOOSE_CHAIN(8);
  case 16: CHOOSE_CHAIN(16);
  default: return relu ? NULL : NAME(chain_general);
  }
}
