/* Lines of float16 or bfloat16 through the linear formulas: widened, computed and rounded in one
 * loop, which the compiler vectorises. With buffers of floats, as in residual_item.h, the
 * arithmetic of a line would take twice as long as its memory accesses. */
#define REAL_BITS 32
#include "../math/float16.h"
#include "residual_cpu.h"
#include "vector.h"

/* is_bfloat16 is a constant in every call. */
ALWAYS_INLINE float widen(const int is_bfloat16, uint16_t v) {
  return is_bfloat16 ? bfloat16_to_float(v) : float16_to_float(v);
}
ALWAYS_INLINE uint16_t rounded(const int is_bfloat16, float v) {
  return is_bfloat16 ? float_to_bfloat16(v) : float_to_float16(v);
}

/* Writes n results to a buffer, since the output may overwrite an input. */
ALWAYS_INLINE void apply(const int is_bfloat16, const residual_run *run, const uint16_t *x,
                         const uint16_t *y, const float *c, float beta, int64_t n,
                         uint16_t *restrict to) {
  const float alpha = (float)run->alpha;
  switch (run->form) {
  case RESIDUAL_COPY:
    for (int64_t i = 0; i < n; i++) to[i] = rounded(is_bfloat16, widen(is_bfloat16, y[i]));
    break;
  case RESIDUAL_SCALE:
    for (int64_t i = 0; i < n; i++) to[i] = rounded(is_bfloat16, beta * widen(is_bfloat16, y[i]));
    break;
  case RESIDUAL_SUM:
  case RESIDUAL_CHANNELS:
    for (int64_t i = 0; i < n; i++) {
      const float scaled = (c ? c[i] : beta) * widen(is_bfloat16, y[i]);
      to[i] = rounded(is_bfloat16, real_fma(alpha, widen(is_bfloat16, x[i]), scaled));
    }
    break;
  case RESIDUAL_GATED:
  case RESIDUAL_HIGHWAY:
  case RESIDUAL_HIGHWAY_SCALE: break; /* residual_is_narrow refuses them */
  }
}

/* Copies n elements of 16 bits with non-temporal stores. */
static void stream_16(const uint16_t *from, uint16_t *to, int64_t n) {
  const int64_t whole = VECTOR_BYTES / (int64_t)sizeof *to;
  int64_t i = 0;
  for (; i < n && (uintptr_t)(to + i) % VECTOR_BYTES != 0; i++) to[i] = from[i];
  for (; i + whole <= n; i += whole) {
    vec bits; /* copying floats does not change their bits */
    memcpy(&bits, from + i, sizeof bits);
    vec_stream((float *)(void *)(to + i), bits);
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

void LEVEL(residual_narrow_line)(const residual_plan *plan, const residual_place *p, int64_t from,
                                 int64_t to) {
  const residual_run *run = plan->run;
  const residual_operand *o = run->operands;
  const float *table = run->channels.f32, *c = NULL;
  float beta = (float)run->beta;
  if (table && run->channel == run->ndim - 1)
    c = table;
  else if (table)
    beta = table[p->index[run->channel]];
  for (int64_t i = from; i < to; i += RESIDUAL_BLOCK) {
    uint16_t buffer[RESIDUAL_BLOCK] __attribute__((aligned(MEMORY_ALIGNMENT)));
    const int64_t n = smaller(to - i, RESIDUAL_BLOCK);
    const uint16_t *x =
        o[OPERAND_X].type ? (const uint16_t *)o[OPERAND_X].data + p->offsets[OPERAND_X] + i : NULL;
    const uint16_t *y = (const uint16_t *)o[OPERAND_Y].data + p->offsets[OPERAND_Y] + i;
    uint16_t *out = (uint16_t *)o[OPERAND_OUT].data + p->offsets[OPERAND_OUT] + i;
    if (o[OPERAND_OUT].type == TYPE_FLOAT16)
      apply(0, run, x, y, c ? c + i : NULL, beta, n, buffer);
    else
      apply(1, run, x, y, c ? c + i : NULL, beta, n, buffer);
    if (plan->stream)
      stream_16(buffer, out, n);
    else
      memcpy(out, buffer, (size_t)n * sizeof *out);
  }
}
