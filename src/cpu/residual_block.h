/* Applies a residual connection's formula to a block of elements; part of residual_item.h.
 *
 * The formula reads contiguous numbers: the caller's tensor if it is contiguous and has the right
 * type, otherwise a copy. The result may overwrite the inputs. */

/* A block's inputs. c: the factors of its channels, or NULL if c0 is the factor of all. */
typedef struct block {
  const real *x, *y, *gate, *c;
  real c0;
  int64_t n;
} block;

/* to[i] = SCALAR for each i < n. VECTOR is the same expression for a vector of elements from i
 * on. */
#define FOR_BLOCK(VECTOR, SCALAR)                                                                 \
  do {                                                                                            \
    if (stream) {                                                                                 \
      STREAM_BLOCK(VECTOR, SCALAR);                                                               \
    } else {                                                                                      \
      int64_t i = 0;                                                                              \
      for (; i + LANES <= n; i += LANES) vec_store(to + i, VECTOR);                               \
      for (; i < n; i++) to[i] = SCALAR;                                                          \
    }                                                                                             \
  } while (0)
#define STREAM_BLOCK(VECTOR, SCALAR)                                                              \
  do {                                                                                            \
    int64_t i = 0;                                                                                \
    for (; i < n && (uintptr_t)(to + i) % VECTOR_BYTES != 0; i++) to[i] = SCALAR;                 \
    for (; i + LANES <= n; i += LANES) vec_stream(to + i, VECTOR);                                \
    for (; i < n; i++) to[i] = SCALAR;                                                            \
  } while (0)

/* The formulas with a sigmoid. `to` is never an input. */
static void apply_gated(const residual_run *run, const block *b, real *restrict to) {
  const int64_t n = b->n;
  const real *x = b->x, *y = b->y, *gate = b->gate, *c = b->c;
  const real alpha = (real)run->alpha;
  if (run->form == RESIDUAL_GATED)
    for (int64_t i = 0; i < n; i++) to[i] = TYPED(residual_gated)(x[i], y[i], gate[i]);
  else if (run->form == RESIDUAL_HIGHWAY)
    for (int64_t i = 0; i < n; i++) to[i] = TYPED(residual_highway)(alpha, x[i], y[i], gate[i]);
  else
    for (int64_t i = 0; i < n; i++)
      to[i] = TYPED(residual_highway)(alpha, x[i], c[i] * y[i], gate[i]);
}

static void apply(const residual_run *run, const block *b, real *to, int stream) {
  const int64_t n = b->n;
  const real *x = b->x, *y = b->y, *c = b->c;
  const real alpha = (real)run->alpha;
  const real beta = run->form == RESIDUAL_CHANNELS ? b->c0 : (real)run->beta;
  const vec alphas = vec_splat(alpha), betas = vec_splat(beta);
  switch (run->form) {
  case RESIDUAL_COPY: FOR_BLOCK(vec_load(y + i), y[i]); break;
  case RESIDUAL_SCALE: FOR_BLOCK(betas * vec_load(y + i), beta * y[i]); break;
  case RESIDUAL_SUM:
  case RESIDUAL_CHANNELS:
    if (c)
      FOR_BLOCK(vec_fma(alphas, vec_load(x + i), vec_load(c + i) * vec_load(y + i)),
                real_fma(alpha, x[i], c[i] * y[i]));
    else
      FOR_BLOCK(vec_fma(alphas, vec_load(x + i), betas * vec_load(y + i)),
                real_fma(alpha, x[i], beta * y[i]));
    break;
  case RESIDUAL_GATED:
  case RESIDUAL_HIGHWAY:
  case RESIDUAL_HIGHWAY_SCALE: apply_gated(run, b, to); break;
  }
}

static int is_linear(const residual_run *run) {
  return run->form <= RESIDUAL_CHANNELS;
}

/* Whether an operand can be read and written in place. */
static int is_plain(const residual_operand *operand, int64_t stride) {
  return operand->type == REAL_TYPE && stride == 1;
}

/* Returns n elements of an operand, or NULL if it is absent. n is at most RESIDUAL_BLOCK unless
 * is_plain. */
static const real *fetch(const residual_operand *from, int64_t offset, int64_t stride, int64_t n,
                         real *buffer) {
  if (from->type == 0) return NULL;
  if (is_plain(from, stride)) return (const real *)from->data + offset;
  const element_block row = element_row(from->data, from->type, offset, n, stride);
  LEVEL(TYPED(element_load))(&row, buffer, 0);
  return buffer;
}

/* Writes the result for elements first .. first + n - 1 of the line at p to contiguous memory,
 * with n as for fetch. */
static void block_at(const residual_run *run, const residual_place *p, int64_t first, int64_t n,
                     real *to, int stream) {
  real buffers[OPERAND_OUT][RESIDUAL_BLOCK] __attribute__((aligned(MEMORY_ALIGNMENT)));
  const real *found[OPERAND_OUT];
  const int inner = run->ndim - 1;
  for (int k = 0; k < OPERAND_OUT; k++) {
    const residual_operand *o = &run->operands[k];
    const int64_t stride = o->strides[inner];
    found[k] = fetch(o, p->offsets[k] + first * stride, stride, n, buffers[k]);
  }
  block b = {found[OPERAND_X], found[OPERAND_Y], found[OPERAND_GATE], NULL, 0, n};
  const real *c = run->channels.TABLE;
  if (c && run->channel == inner)
    b.c = c + first;
  else if (c)
    b.c0 = c[p->index[run->channel]];
  apply(run, &b, to, stream);
}
