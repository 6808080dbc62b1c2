/* What the kernels of residual connections do with the elements of one vector: read them, apply
 * the formula, and write the result. The arithmetic is that of src/cpu/residual_block.h, operation
 * by operation.
 *
 * A kernel is compiled for a type and a width: as many elements as 16 bytes hold, for one access,
 * or one element, for any strides and alignment. */
#ifndef CUMEGA_SRC_CUDA_RESIDUAL_ELEMENT_CUH
#define CUMEGA_SRC_CUDA_RESIDUAL_ELEMENT_CUH

#include "../math/residual.h"
#include "element.cuh"
#include "residual_cuda.h"

/* Elements per vector. */
template <int TYPE> static constexpr int WIDTH_OF = VECTOR_BYTES / (int)sizeof(stored_of<TYPE>);

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

/* The number of lines along the last dimension. */
static __host__ __device__ __forceinline__ int64_t line_count(const residual_run &run) {
  int64_t lines = 1;
  for (int i = 0; i < run.ndim - 1; i++) lines *= run.shape[i];
  return lines;
}

/* Where a line begins in each operand, and its channel if channels are not along the line. */
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

/* Reads elements first .. first + WIDTH - 1 of a line of an operand, with 0 past the end of the
 * line. In a run of a 16-bit type, products are float32. */
template <int TYPE, int WIDTH>
static __device__ __forceinline__ void load_operand(const residual_run &run, int operand,
                                                    int64_t offset, int64_t first,
                                                    real_of<TYPE> *v) {
  const residual_operand &o = run.operands[operand];
  const int inner = run.ndim - 1;
  if (o.type == TYPE) {
    load_elements<TYPE, WIDTH>((const stored_of<TYPE> *)o.data + offset, first, o.strides[inner],
                               run.shape[inner], true, v);
  } else if constexpr (sizeof(stored_of<TYPE>) == 2) {
#pragma unroll
    for (int i = 0; i < WIDTH; i++)
      load_elements<TYPE_FLOAT32, 1>((const float *)o.data + offset, first + i, o.strides[inner],
                                     run.shape[inner], false, v + i);
  }
}

template <int TYPE, int WIDTH>
static __device__ __forceinline__ void store_operand(const residual_run &run, int operand,
                                                     int64_t offset, int64_t first,
                                                     const real_of<TYPE> *v) {
  const residual_operand &o = run.operands[operand];
  const int inner = run.ndim - 1;
  store_elements<TYPE, WIDTH>((stored_of<TYPE> *)o.data + offset, first, o.strides[inner],
                              run.shape[inner], true, v);
}

/* Adds the biases of Highway's products, which cuBLAS leaves out. Other runs have none. */
template <typename REAL, int WIDTH>
static __device__ __forceinline__ void add_bias(const real_vector &bias, int64_t first,
                                                int64_t end, REAL *v) {
  const REAL *from = table_of<REAL>(bias);
  if (from == NULL) return;
#pragma unroll
  for (int i = 0; i < WIDTH; i++)
    if (first + i < end) v[i] += from[first + i];
}

/* v = the formula at elements first .. first + WIDTH - 1 of a line. */
template <int TYPE, int WIDTH>
static __device__ __forceinline__ void
residual_elements(const residual_run &run, const line_place &p, int64_t first, real_of<TYPE> *v) {
  typedef real_of<TYPE> real;
  const int inner = run.ndim - 1;
  const int64_t end = run.shape[inner];
  real found[OPERAND_OUT][WIDTH];
#pragma unroll
  for (int k = 0; k < OPERAND_OUT; k++) {
#pragma unroll
    for (int i = 0; i < WIDTH; i++) found[k][i] = 0;
    if (run.operands[k].type != 0)
      load_operand<TYPE, WIDTH>(run, k, p.offsets[k], first, found[k]);
  }
  add_bias<real, WIDTH>(run.products.x_bias, first, end, found[OPERAND_GATE]);
  add_bias<real, WIDTH>(run.products.y_bias, first, end, found[OPERAND_Y]);
  const real *c = table_of<real>(run.channels);
  const real alpha = (real)run.alpha, beta = (real)run.beta;
#pragma unroll
  for (int i = 0; i < WIDTH; i++) {
    const real x = found[OPERAND_X][i], y = found[OPERAND_Y][i], gate = found[OPERAND_GATE][i];
    real by = beta;
    if (c != NULL) by = first + i < end ? c[run.channel == inner ? first + i : p.channel] : 0;
    switch (run.form) {
    case RESIDUAL_COPY: v[i] = y; break;
    case RESIDUAL_SCALE: v[i] = by * y; break;
    case RESIDUAL_SUM:
    case RESIDUAL_CHANNELS: v[i] = fma(alpha, x, by * y); break;
    case RESIDUAL_GATED: v[i] = gated_of(x, y, gate); break;
    case RESIDUAL_HIGHWAY: v[i] = highway_of(alpha, x, y, gate); break;
    case RESIDUAL_HIGHWAY_SCALE: v[i] = highway_of(alpha, x, by * y, gate); break;
    default: v[i] = (real)NAN; /* residual_is_valid has refused it */
    }
  }
}

/* ---- launching ---- */

static inline bool residual_is_valid(const residual_run *run) {
  switch (run->form) {
  case RESIDUAL_COPY:
  case RESIDUAL_SCALE:
  case RESIDUAL_SUM:
  case RESIDUAL_CHANNELS:
  case RESIDUAL_GATED:
  case RESIDUAL_HIGHWAY:
  case RESIDUAL_HIGHWAY_SCALE: return true;
  default: return false;
  }
}

/* Whether every access can have 16 bytes: lines are contiguous in every tensor and begin at
 * multiples of 16 bytes. Products of another type are contiguous and their elements are read one
 * by one. */
static inline bool residual_is_vector(const residual_run *run, int64_t bytes) {
  const int inner = run->ndim - 1;
  for (int k = 0; k < OPERAND_COUNT; k++) {
    const residual_operand &o = run->operands[k];
    if (o.type == 0 || o.type != run->type) continue;
    if ((uintptr_t)o.data % VECTOR_BYTES != 0) return false;
    if (run->shape[inner] > 1 && o.strides[inner] != 1) return false;
    for (int i = 0; i < inner; i++)
      if (o.strides[i] * bytes % VECTOR_BYTES != 0) return false;
  }
  return true;
}

#endif
