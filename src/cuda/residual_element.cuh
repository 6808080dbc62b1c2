/* What the kernels of residual connections do with the elements of one vector: in, through the
 * formula, and out. The arithmetic is that of src/cpu/residual_block.h, operation by operation.
 *
 * A kernel is compiled for a type of elements and a width: 16 bytes of them, loaded and stored at
 * once, or one, for any strides and alignment. */
#ifndef CUMEGA_SRC_CUDA_RESIDUAL_ELEMENT_CUH
#define CUMEGA_SRC_CUDA_RESIDUAL_ELEMENT_CUH

#include <math.h>
#include "../math/float16.h"
#include "../math/residual.h"
#include "launch.h"
#include "residual_cuda.h"

/* ---- types ---- */

struct element_float32 {
  typedef float stored, real;
  static const tensor_type type = TYPE_FLOAT32;
  static __device__ __forceinline__ float widen(float v) { return v; }
  static __device__ __forceinline__ float narrow(float v) { return v; }
};
struct element_float16 {
  typedef uint16_t stored;
  typedef float real;
  static const tensor_type type = TYPE_FLOAT16;
  static __device__ __forceinline__ float widen(uint16_t v) { return float16_to_float(v); }
  static __device__ __forceinline__ uint16_t narrow(float v) { return float_to_float16(v); }
};
struct element_bfloat16 {
  typedef uint16_t stored;
  typedef float real;
  static const tensor_type type = TYPE_BFLOAT16;
  static __device__ __forceinline__ float widen(uint16_t v) { return bfloat16_to_float(v); }
  static __device__ __forceinline__ uint16_t narrow(float v) { return float_to_bfloat16(v); }
};
struct element_float64 {
  typedef double stored, real;
  static const tensor_type type = TYPE_FLOAT64;
  static __device__ __forceinline__ double widen(double v) { return v; }
  static __device__ __forceinline__ double narrow(double v) { return v; }
};

#define VECTOR_BYTES 16

static __device__ __forceinline__ float fma_of(float a, float b, float c) {
  return fmaf(a, b, c);
}
static __device__ __forceinline__ double fma_of(double a, double b, double c) {
  return fma(a, b, c);
}
static __device__ __forceinline__ float gated_of(float x, float h, float gate) {
  return residual_gated_f32(x, h, gate);
}
static __device__ __forceinline__ double gated_of(double x, double h, double gate) {
  return residual_gated_f64(x, h, gate);
}
static __device__ __forceinline__ float highway_of(float k, float x, float y, float gate) {
  return residual_highway_f32(k, x, y, gate);
}
static __device__ __forceinline__ double highway_of(double k, double x, double y, double gate) {
  return residual_highway_f64(k, x, y, gate);
}
static __device__ __forceinline__ const float *table_of(const real_vector &v, float) {
  return v.f32;
}
static __device__ __forceinline__ const double *table_of(const real_vector &v, double) {
  return v.f64;
}

/* ---- places ---- */

/* The operands' elements at the beginning of a line, and the channel where it is not along the
 * line. */
struct line_place {
  int64_t offsets[OPERAND_COUNT], channel;
};

static __device__ __forceinline__ void find_line(const residual_run &run, int64_t line,
                                                 line_place *p) {
#pragma unroll
  for (int k = 0; k < OPERAND_COUNT; k++) p->offsets[k] = 0;
  p->channel = 0;
  for (int i = run.ndim - 2; i >= 0; i--) {
    const int64_t above = i == 0 ? 0 : line / run.shape[i], index = line - above * run.shape[i];
    line = above;
    if (i == run.channel) p->channel = index;
#pragma unroll
    for (int k = 0; k < OPERAND_COUNT; k++) p->offsets[k] += index * run.operands[k].strides[i];
  }
}

/* ---- elements ---- */

/* count elements from `at` on, stride apart; those behind them are 0. WIDTH of them are one load
 * where stride is 1, which the launcher has seen to. */
template <typename ELEMENT, int WIDTH>
static __device__ __forceinline__ void load_elements(const void *data, int64_t at, int64_t stride,
                                                     int count,
                                                     typename ELEMENT::real (&v)[WIDTH]) {
  typedef typename ELEMENT::stored stored;
  const stored *from = (const stored *)data + at;
  if (WIDTH > 1 && count == WIDTH) {
    stored raw[WIDTH];
    const int4 words = *(const int4 *)from;
    memcpy(raw, &words, WIDTH * sizeof(stored)); /* WIDTH > 1: 16 bytes */
#pragma unroll
    for (int i = 0; i < WIDTH; i++) v[i] = ELEMENT::widen(raw[i]);
    return;
  }
#pragma unroll
  for (int i = 0; i < WIDTH; i++) v[i] = i < count ? ELEMENT::widen(from[i * stride]) : 0;
}

/* The same of numbers of ours, as the products of a run in 16-bit types are. */
template <typename ELEMENT, int WIDTH>
static __device__ __forceinline__ void load_operand(const residual_operand &o, int64_t at,
                                                    int64_t stride, int count,
                                                    typename ELEMENT::real (&v)[WIDTH]) {
  typedef typename ELEMENT::real real;
  if (o.type == ELEMENT::type) {
    load_elements<ELEMENT, WIDTH>(o.data, at, stride, count, v);
    return;
  }
  const real *from = (const real *)o.data + at;
#pragma unroll
  for (int i = 0; i < WIDTH; i++) v[i] = i < count ? from[i * stride] : 0;
}

/* Rounds once. */
template <typename ELEMENT, int WIDTH>
static __device__ __forceinline__ void store_elements(const residual_operand &o, int64_t at,
                                                      int64_t stride, int count,
                                                      const typename ELEMENT::real (&v)[WIDTH]) {
  typedef typename ELEMENT::stored stored;
  stored *to = (stored *)o.data + at;
  if (WIDTH > 1 && count == WIDTH) {
    stored raw[WIDTH];
    int4 words;
#pragma unroll
    for (int i = 0; i < WIDTH; i++) raw[i] = ELEMENT::narrow(v[i]);
    memcpy(&words, raw, WIDTH * sizeof(stored));
    *(int4 *)to = words;
    return;
  }
#pragma unroll
  for (int i = 0; i < WIDTH; i++)
    if (i < count) to[i * stride] = ELEMENT::narrow(v[i]);
}

/* Highway's products are still without their biases; the other runs have none. */
template <typename REAL, int WIDTH>
static __device__ __forceinline__ void add_bias(const real_vector &bias, int64_t first, int count,
                                                REAL (&v)[WIDTH]) {
  const REAL *from = table_of(bias, REAL());
  if (from == NULL) return;
#pragma unroll
  for (int i = 0; i < WIDTH; i++)
    if (i < count) v[i] += from[first + i];
}

/* v = the formula at elements first .. first + count - 1 of a line. */
template <typename ELEMENT, int WIDTH>
static __device__ __forceinline__ void
residual_elements(const residual_run &run, const line_place &p, int64_t first, int count,
                  typename ELEMENT::real (&v)[WIDTH]) {
  typedef typename ELEMENT::real real;
  const int inner = run.ndim - 1;
  real found[OPERAND_OUT][WIDTH];
#pragma unroll
  for (int k = 0; k < OPERAND_OUT; k++) {
    const residual_operand &o = run.operands[k];
    if (o.type != 0) {
      const int64_t stride = o.strides[inner];
      load_operand<ELEMENT, WIDTH>(o, p.offsets[k] + first * stride, stride, count, found[k]);
    } else {
#pragma unroll
      for (int i = 0; i < WIDTH; i++) found[k][i] = 0;
    }
  }
  add_bias(run.products.x_bias, first, count, found[OPERAND_GATE]);
  add_bias(run.products.y_bias, first, count, found[OPERAND_Y]);
  const real *c = table_of(run.channels, real());
  const real alpha = (real)run.alpha, beta = (real)run.beta;
#pragma unroll
  for (int i = 0; i < WIDTH; i++) {
    const real x = found[OPERAND_X][i], y = found[OPERAND_Y][i], gate = found[OPERAND_GATE][i];
    real by = beta;
    if (c != NULL) by = i < count ? c[run.channel == inner ? first + i : p.channel] : 0;
    switch (run.form) {
    case RESIDUAL_COPY: v[i] = y; break;
    case RESIDUAL_SCALE: v[i] = by * y; break;
    case RESIDUAL_GATED: v[i] = gated_of(x, y, gate); break;
    case RESIDUAL_HIGHWAY: v[i] = highway_of(alpha, x, y, gate); break;
    case RESIDUAL_HIGHWAY_SCALE: v[i] = highway_of(alpha, x, by * y, gate); break;
    default: v[i] = fma_of(alpha, x, by * y); break; /* RESIDUAL_SUM and _CHANNELS */
    }
  }
}

/* ---- launching ---- */

/* Whether 16 bytes at a time are right: lines contiguous in every tensor, each beginning at a
 * multiple of 16 bytes. Products of ours are contiguous and read one by one where their type is
 * another. */
static inline bool residual_is_vector(const residual_run *run) {
  for (int k = 0; k < OPERAND_COUNT; k++) {
    const residual_operand &o = run->operands[k];
    const int64_t bytes = run->type == TYPE_FLOAT64 ? 8 : run->type == TYPE_FLOAT32 ? 4 : 2;
    if (o.type == 0 || o.type != run->type) continue;
    if ((uintptr_t)o.data % VECTOR_BYTES != 0) return false;
    if (run->shape[run->ndim - 1] > 1 && o.strides[run->ndim - 1] != 1) return false;
    for (int i = 0; i < run->ndim - 1; i++)
      if (o.strides[i] * bytes % VECTOR_BYTES != 0) return false;
  }
  return true;
}

/* The name has no space (cumega_context_kernels). */
#define RESIDUAL_LAUNCH(grid, block, shared, KERNEL, ...)                                          \
  do {                                                                                             \
    *kernel = #KERNEL;                                                                             \
    return CUMEGA_LAUNCH((KERNEL<__VA_ARGS__>), grid, block, shared, stream, *run);                \
  } while (0)

#endif
