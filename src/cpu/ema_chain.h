/* The recurrence of LANES channels through a block of steps, in registers; part of ema_item.h.
 *
 *   h = q h + gain x for each head; x is 0 if the step is masked
 *   e = the pairwise sum over heads of projection * h
 *   v = fma(residual_weight, x, e)
 *
 * For float32 and N heads a step takes 4 N vector operations, N - 1 additions and one fma: 20 for
 * N = 4. For each head two dependent fmas wait for the step before, which takes 8 cycles. The
 * other operations take as long on two fma units. */

/* clang ignores GCC's pragma and would leave the arrays in memory. */
#if defined(__clang__)
#define UNROLL       _Pragma("clang loop unroll(full)")
#define UNROLL_STEPS _Pragma("clang loop unroll_count(8)")
#else
#define UNROLL       _Pragma("GCC unroll 16")
#define UNROLL_STEPS _Pragma("GCC unroll 8")
#endif

/* One vector of channels and a block of steps. */
typedef struct block {
  int64_t channel; /* the first one */
  int64_t steps;
  const real *x; /* (steps, LANES), x_pitch apart */
  int64_t x_pitch;
  const uint8_t *masked; /* (steps), or NULL */
  real *v;               /* (steps, LANES), v_pitch apart; v becomes ReLU(v) with `relu` */
  int64_t v_pitch;
  int relu;
} block;

/* The states of a channel. The layout is (group / TILE_CHANNELS, N, TILE_CHANNELS), so heads are
 * TILE_CHANNELS apart. */
static real *states_of(const work *w, int64_t channel) {
  const int64_t c = channel - w->item->d0;
  return w->states + c / TILE_CHANNELS * TILE_CHANNELS * w->run->heads + c % TILE_CHANNELS;
}

/* What all steps of a block have in common. Each kind has its own loop, which does no more than it
 * has to. */
enum {
  PLAIN,      /* no step is masked; v is written */
  PLAIN_RELU, /* no step is masked; ReLU(v) is written */
  GENERAL,    /* any block, including one whose e is written */
  KINDS
};

/* N and kind are constants in every call, so that the compiler keeps the arrays in registers. */
ALWAYS_INLINE void chain_heads(const int N, const int kind, const work *w, const block *b) {
  const int relu = kind == GENERAL ? b->relu : kind == PLAIN_RELU;
  vec h[HEADS_MAX], q[HEADS_MAX], gain[HEADS_MAX], projection[HEADS_MAX], term[HEADS_MAX];
#if REAL_BITS == 32
  vec q_lo[HEADS_MAX];
#endif
  real *states = states_of(w, b->channel);
  UNROLL for (int n = 0; n < N; n++) {
    const int64_t at = b->channel + n * w->run->padded;
    h[n] = vec_load(states + n * TILE_CHANNELS);
    q[n] = vec_load(w->k->q + at);
#if REAL_BITS == 32
    q_lo[n] = vec_load(w->k->q_lo + at);
#endif
    gain[n] = vec_load(w->k->gain + at);
    projection[n] = vec_load(w->k->projection + at);
  }
  const vec residual = vec_load(w->k->residual + b->channel), zero = {0};
  const int64_t steps = b->steps, x_pitch = b->x_pitch, v_pitch = b->v_pitch;
  const real *from = b->x;
  real *to = b->v;
  UNROLL_STEPS for (int64_t t = 0; t < steps; t++, from += x_pitch, to += v_pitch) {
    const vec x = vec_load(from), x_seen = kind == GENERAL && b->masked && b->masked[t] ? zero : x;
    UNROLL for (int n = 0; n < N; n++) {
#if REAL_BITS == 32 /* q is the sum of two floats */
      h[n] = vec_fma(q[n], h[n], vec_fma(q_lo[n], h[n], gain[n] * x_seen));
#else
      h[n] = vec_fma(q[n], h[n], gain[n] * x_seen);
#endif
      term[n] = projection[n] * h[n];
    }
    UNROLL for (int stride = N / 2; stride > 0; stride /= 2)
        UNROLL for (int n = 0; n < stride; n++) term[n] += term[n + stride];
    const vec v = kind == GENERAL && w->run->raw ? term[0] : vec_fma(residual, x, term[0]);
    vec_store(to, relu ? vec_relu(v) : v);
  }
  UNROLL for (int n = 0; n < N; n++) vec_store(states + n * TILE_CHANNELS, h[n]);
}

/* Any number of heads: states and terms stay in the first-level cache. */
static void chain_any(const work *w, const block *b) {
  const int64_t N = w->run->heads;
  const vec residual = vec_load(w->k->residual + b->channel), zero = {0};
  real *states = states_of(w, b->channel), *terms = w->terms;
  int64_t first_stride = 1;
  while (2 * first_stride < N) first_stride *= 2;
  for (int64_t t = 0; t < b->steps; t++) {
    const vec x = vec_load(b->x + t * b->x_pitch), x_seen = b->masked && b->masked[t] ? zero : x;
    for (int64_t n = 0; n < N; n++) {
      const int64_t at = b->channel + n * w->run->padded;
      const vec q = vec_load(w->k->q + at), gain = vec_load(w->k->gain + at);
      vec h = vec_load(states + n * TILE_CHANNELS);
#if REAL_BITS == 32
      h = vec_fma(q, h, vec_fma(vec_load(w->k->q_lo + at), h, gain * x_seen));
#else
      h = vec_fma(q, h, gain * x_seen);
#endif
      vec_store(states + n * TILE_CHANNELS, h);
      vec_store(terms + n * LANES, vec_load(w->k->projection + at) * h);
    }
    for (int64_t stride = first_stride; stride > 0; stride /= 2)
      for (int64_t n = 0; n < stride && n + stride < N; n++)
        vec_store(terms + n * LANES,
                  vec_load(terms + n * LANES) + vec_load(terms + (n + stride) * LANES));
    const vec e = vec_load(terms), v = w->run->raw ? e : vec_fma(residual, x, e);
    vec_store(b->v + t * b->v_pitch, b->relu ? vec_relu(v) : v);
  }
}

static void chain(const work *w, const block *b) {
  const int kind = b->masked || w->run->raw ? GENERAL : b->relu ? PLAIN_RELU : PLAIN;
  switch (w->run->heads * KINDS + kind) {
  case 1 * KINDS + PLAIN: chain_heads(1, PLAIN, w, b); break;
  case 1 * KINDS + PLAIN_RELU: chain_heads(1, PLAIN_RELU, w, b); break;
  case 1 * KINDS + GENERAL: chain_heads(1, GENERAL, w, b); break;
  case 2 * KINDS + PLAIN: chain_heads(2, PLAIN, w, b); break;
  case 2 * KINDS + PLAIN_RELU: chain_heads(2, PLAIN_RELU, w, b); break;
  case 2 * KINDS + GENERAL: chain_heads(2, GENERAL, w, b); break;
  case 4 * KINDS + PLAIN: chain_heads(4, PLAIN, w, b); break;
  case 4 * KINDS + PLAIN_RELU: chain_heads(4, PLAIN_RELU, w, b); break;
  case 4 * KINDS + GENERAL: chain_heads(4, GENERAL, w, b); break;
  case 8 * KINDS + PLAIN: chain_heads(8, PLAIN, w, b); break;
  case 8 * KINDS + PLAIN_RELU: chain_heads(8, PLAIN_RELU, w, b); break;
  case 8 * KINDS + GENERAL: chain_heads(8, GENERAL, w, b); break;
  case 16 * KINDS + PLAIN: chain_heads(16, PLAIN, w, b); break;
  case 16 * KINDS + PLAIN_RELU: chain_heads(16, PLAIN_RELU, w, b); break;
  case 16 * KINDS + GENERAL: chain_heads(16, GENERAL, w, b); break;
  default: chain_any(w, b);
  }
}
