/* A block of elements through a residual connection's formula: part of residual_item.h, which says
 * what the names in capitals are.
 *
 * A formula reads contiguous numbers of ours: the caller's own memory where it is that, else a
 * copy. Its result may be written over what it reads, element for element. */

/* The inputs of a block; c: the channels' multipliers, or NULL where all have c0. */
typedef struct NAME(block) {
  const REAL *x, *y, *gate, *c;
  REAL c0;
  int64_t n;
} NAME(block);

/* Applies VECTOR and SCALAR, which yield the element(s) at i, to all of `to`; the second past the caches. */
#define FOR_BLOCK(VECTOR, SCALAR)                                                                  \
  do {                                                                                             \
    if (stream) {                                                                                  \
      STREAM_BLOCK(VECTOR, SCALAR);                                                                \
    } else {                                                                                       \
      int64_t i = 0;                                                                               \
      for (; i + LANES <= n; i += LANES) STORE(to + i, VECTOR);                                    \
      for (; i < n; i++) to[i] = SCALAR;                                                           \
    }                                                                                              \
  } while (0)
#define STREAM_BLOCK(VECTOR, SCALAR)                                                               \
  do {                                                                                             \
    int64_t i = 0;                                                                                 \
    for (; i < n && (uintptr_t)(to + i) % VECTOR_BYTES != 0; i++) to[i] = SCALAR;                  \
    for (; i + LANES <= n; i += LANES) STREAM(to + i, VECTOR);                                     \
    for (; i < n; i++) to[i] = SCALAR;                                                             \
  } while (0)

/* The forms that one fma or less computes. */
static void NAME(linear)(const residual_run *run, const NAME(block) * b, REAL *to, int stream) {
  const int64_t n = b->n;
  const REAL *x = b->x, *y = b->y, *c = b->c;
  const REAL alpha = (REAL)run->alpha;
  const REAL beta = run->form == RESIDUAL_CHANNELS ? b->c0 : (REAL)run->beta;
  const VEC alphas = SPLAT(alpha), betas = SPLAT(beta);
  if (run->form == RESIDUAL_COPY)
    FOR_BLOCK(LOAD(y + i), y[i]);
  else if (run->form == RESIDUAL_SCALE)
    FOR_BLOCK(betas * LOAD(y + i), beta * y[i]);
  else if (c == NULL)
    FOR_BLOCK(FMA(alphas, LOAD(x + i), betas * LOAD(y + i)), FMA1(alpha, x[i], beta * y[i]));
  else
    FOR_BLOCK(FMA(alphas, LOAD(x + i), LOAD(c + i) * LOAD(y + i)), FMA1(alpha, x[i], c[i] * y[i]));
}

/* The forms with a sigmoid. to is memory of ours. */
static void NAME(gated)(const residual_run *run, const NAME(block) * b, REAL *restrict to) {
  const int64_t n = b->n;
  const REAL *x = b->x, *y = b->y, *gate = b->gate, *c = b->c;
  const REAL alpha = (REAL)run->alpha;
  if (run->form == RESIDUAL_GATED)
    for (int64_t i = 0; i < n; i++) to[i] = NAME(residual_gated)(x[i], y[i], gate[i]);
  else if (c == NULL)
    for (int64_t i = 0; i < n; i++) to[i] = NAME(residual_highway)(alpha, x[i], y[i], gate[i]);
  else
    for (int64_t i = 0; i < n; i++)
      to[i] = NAME(residual_highway)(alpha, x[i], c[i] * y[i], gate[i]);
}

static int NAME(is_linear)(const residual_run *run) {
  return run->form <= RESIDUAL_CHANNELS;
}

/* Whether an operand's elements are numbers of ours, one after the other. */
static int NAME(is_plain)(const residual_operand *operand, int64_t stride) {
  return operand->type == REAL_TYPE && stride == 1;
}

/* n elements of an operand that may be absent; BLOCK_ELEMENTS at most where it is not plain. */
static const REAL *NAME(fetch)(const residual_operand *from, int64_t offset, int64_t stride,
                               int64_t n, REAL *buffer) {
  if (from->type == 0) return NULL;
  if (NAME(is_plain)(from, stride)) return (const REAL *)from->data + offset;
  LOAD_ELEMENTS(from, offset, stride, n, buffer);
  return buffer;
}

/* Elements first .. first + n - 1 of the line at p, n as above, into `to`: memory of ours, or the
 * output itself. */
static void NAME(block_at)(const residual_run *run, const residual_place *p, int64_t first,
                           int64_t n, REAL *to, int stream) {
  REAL buffers[OPERAND_OUT][BLOCK_ELEMENTS] __attribute__((aligned(MEMORY_ALIGNMENT)));
  const REAL *found[OPERAND_OUT];
  const int inner = run->ndim - 1;
  for (int k = 0; k < OPERAND_OUT; k++) {
    const residual_operand *o = &run->operands[k];
    const int64_t stride = o->strides[inner];
    found[k] = NAME(fetch)(o, p->offsets[k] + first * stride, stride, n, buffers[k]);
  }
  NAME(block) b = {found[OPERAND_X], found[OPERAND_Y], found[OPERAND_GATE], NULL, 0, n};
  const REAL *c = run->channels.TABLE;
  if (c && run->channel == inner)
    b.c = c + first;
  else if (c)
    b.c0 = c[p->index[run->channel]];
  if (NAME(is_linear)(run))
    NAME(linear)(run, &b, to, stream);
  else
    NAME(gated)(run, &b, to);
}
