/* What Highway's products read, where it is not there already: rows of any strides and type as
 * compact numbers of ours. A thread per element, grid-stride: 6 to 8 bytes per element in float32
 * and 16-bit types, beside the 2 D operations of the product itself. */
#include "residual_element.cuh"

#define THREADS     256
#define MOST_BLOCKS CUMEGA_MOST_BLOCKS(8192)

struct gather_launch {
  residual_run run;
  int operand;
  void *to;
};

/* As find_line, of one operand, whose number is no constant: an array of all would lie in memory. */
static __device__ __forceinline__ int64_t line_offset(const residual_run &run,
                                                      const residual_operand &o, int64_t line) {
  int64_t offset = 0;
  for (int i = run.ndim - 2; i >= 0; i--) {
    const int64_t above = i == 0 ? 0 : line / run.shape[i];
    offset += (line - above * run.shape[i]) * o.strides[i];
    line = above;
  }
  return offset;
}

template <typename ELEMENT>
static __global__ void __launch_bounds__(THREADS) residual_gather_kernel(const gather_launch p) {
  typedef typename ELEMENT::real real;
  const residual_run &run = p.run;
  const residual_operand &o = run.operands[p.operand];
  const int64_t D = run.shape[run.ndim - 1], stride = o.strides[run.ndim - 1];
  int64_t count = D;
  for (int i = 0; i < run.ndim - 1; i++) count *= run.shape[i];
  for (int64_t at = (int64_t)blockIdx.x * THREADS + threadIdx.x; at < count;
       at += (int64_t)gridDim.x * THREADS) {
    const int64_t row = at / D, d = at - row * D;
    real v[1];
    load_elements<ELEMENT, 1>(o.data, line_offset(run, o, row) + d * stride, stride, 1, v);
    ((real *)p.to)[at] = v[0];
  }
}

static dim3 grid_of(int64_t count) {
  const int64_t blocks = (count + THREADS - 1) / THREADS;
  return dim3((unsigned)(blocks < MOST_BLOCKS ? blocks : MOST_BLOCKS));
}

static int64_t count_of(const residual_run *run) {
  int64_t count = 1;
  for (int i = 0; i < run->ndim; i++) count *= run->shape[i];
  return count;
}

cudaError_t residual_gather_launch(const residual_run *run, int operand, void *to,
                                   cudaStream_t stream) {
  const gather_launch p = {*run, operand, to};
  const dim3 grid = grid_of(count_of(run)), block(THREADS);
  switch (run->type) {
  case TYPE_FLOAT16:
    return CUMEGA_LAUNCH((residual_gather_kernel<element_float16>), grid, block, 0, stream, p);
  case TYPE_BFLOAT16:
    return CUMEGA_LAUNCH((residual_gather_kernel<element_bfloat16>), grid, block, 0, stream, p);
  case TYPE_FLOAT64:
    return CUMEGA_LAUNCH((residual_gather_kernel<element_float64>), grid, block, 0, stream, p);
  default:
    return CUMEGA_LAUNCH((residual_gather_kernel<element_float32>), grid, block, 0, stream, p);
  }
}
