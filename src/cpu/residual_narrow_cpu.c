/* Lines of float16 or bfloat16 through the forms that one fma or less computes: widened, computed and
 * rounded in one loop, which the compiler turns into vectors. Through float buffers a line costs twice as
 * much arithmetic as its memory takes time. */
#include "../math/float16.h"
#include "residual_cpu.h"

/* Elements as they are rounded: into memory of ours, since the output may be an input. */
#define DEFINE_BLOCK(name, WIDEN, NARROW)                                                          \
  static void name(const residual_run *run, const uint16_t *x, const uint16_t *y, const float *c,  \
                   float beta, int64_t n, uint16_t *restrict to) {                                 \
    const float alpha = (float)run->alpha;                                                         \
    if (run->form == RESIDUAL_COPY)                                                                \
      for (int64_t i = 0; i < n; i++) to[i] = NARROW(WIDEN(y[i]));                                 \
    else if (run->form == RESIDUAL_SCALE)                                                          \
      for (int64_t i = 0; i < n; i++) to[i] = NARROW(beta * WIDEN(y[i]));                          \
    else if (c == NULL)                                                                            \
      for (int64_t i = 0; i < n; i++)                                                              \
        to[i] = NARROW(MATH_FMAF(alpha, WIDEN(x[i]), beta * WIDEN(y[i])));                         \
    else                                                                                           \
      for (int64_t i = 0; i < n; i++)                                                              \
        to[i] = NARROW(MATH_FMAF(alpha, WIDEN(x[i]), c[i] * WIDEN(y[i])));                         \
  }

DEFINE_BLOCK(block_float16, float16_to_float, float_to_float16)
DEFINE_BLOCK(block_bfloat16, bfloat16_to_float, float_to_bfloat16)

/* n elements of 16 bits that are in the caches, to where they shall not be. */
static void stream_16(const uint16_t *from, uint16_t *to, int64_t n) {
  const int64_t whole = VECTOR_BYTES / (int64_t)sizeof *to;
  int64_t i = 0;
  for (; i < n && (uintptr_t)(to + i) % VECTOR_BYTES != 0; i++) to[i] = from[i];
  for (; i + whole <= n; i += whole) {
    vector_f32 bits; /* which a float's moves leave alone */
    memcpy(&bits, from + i, sizeof bits);
    stream_f32((float *)(void *)(to + i), bits);
  }
  for (; i < n; i++) to[i] = from[i];
}

int LEVEL(residual_is_narrow)(const residual_run *run) {
  const tensor_type type = run->operands[OPERAND_OUT].type;
  int narrow = run->form <= RESIDUAL_CHANNELS && (type == TYPE_FLOAT16 || type == TYPE_BFLOAT16);
  for (int k = 0; k <= OPERAND_OUT; k++) {
    const residual_operand *o = &run->operands[k];
    if (o->type != 0) narrow &= o->type == type && o->strides[run->ndim - 1] == 1;
  }
  return narrow;
}

void LEVEL(residual_narrow_line)(const residual_run *run, const residual_plan *plan,
                                 const residual_place *p, int64_t from, int64_t to) {
  const residual_operand *o = run->operands;
  const float *table = run->channels.f32, *c = NULL;
  float beta = (float)run->beta;
  if (table && run->channel == run->ndim - 1)
    c = table;
  else if (table)
    beta = table[p->index[run->channel]];
  for (int64_t i = from; i < to; i += BLOCK_ELEMENTS) {
    uint16_t rounded[BLOCK_ELEMENTS] __attribute__((aligned(MEMORY_ALIGNMENT)));
    const int64_t n = to - i < BLOCK_ELEMENTS ? to - i : BLOCK_ELEMENTS;
    const uint16_t *x =
        o[OPERAND_X].type ? (const uint16_t *)o[OPERAND_X].data + p->offsets[OPERAND_X] + i : NULL;
    const uint16_t *y = (const uint16_t *)o[OPERAND_Y].data + p->offsets[OPERAND_Y] + i;
    uint16_t *out = (uint16_t *)o[OPERAND_OUT].data + p->offsets[OPERAND_OUT] + i;
    if (o[OPERAND_OUT].type == TYPE_FLOAT16)
      block_float16(run, x, y, c ? c + i : NULL, beta, n, rounded);
    else
      block_bfloat16(run, x, y, c ? c + i : NULL, beta, n, rounded);
    if (plan->stream)
      stream_16(rounded, out, n);
    else
      memcpy(out, rounded, (size_t)n * sizeof *out);
  }
}
