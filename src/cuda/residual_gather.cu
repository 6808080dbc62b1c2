/* Copies operands that cuBLAS cannot read directly: rows of any strides and type become compact
 * rows of float32 (float64 for float64). One thread per element, with a grid-stride loop: 6 to 8
 * bytes per element in float32 and 16-bit types, which is little beside the 2 D operations of the
 * product. */
#include "residual_element.cuh"

struct gather_launch {
  residual_run run;
  int operand;
  void *to;
};

/* Like find_line, but for one operand whose number is not a constant. With find_line the offsets
 * of all operands would be in local memory. */
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

template <int TYPE>
static __global__ void __launch_bounds__(RESIDUAL_THREADS)
    residual_gather_kernel(const gather_launch p) {
  const residual_run &run = p.run;
  const int64_t D = run.shape[run.ndim - 1], count = line_count(run) * D;
  for (int64_t at = (int64_t)blockIdx.x * RESIDUAL_THREADS + threadIdx.x; at < count;
       at += (int64_t)gridDim.x * RESIDUAL_THREADS) {
    const int64_t row = at / D, d = at - row * D;
    const int64_t offset = line_offset(run, run.operands[p.operand], row);
    load_operand<TYPE, 1>(run, p.operand, offset, d, (real_of<TYPE> *)p.to + at);
  }
}

template <int TYPE> static cudaError_t launch_gather(const gather_launch &p, cudaStream_t stream) {
  const dim3 grid = grid_of(line_count(p.run), p.run.shape[p.run.ndim - 1], RESIDUAL_THREADS,
                            RESIDUAL_MOST_BLOCKS);
  return CUMEGA_LAUNCH((residual_gather_kernel<TYPE>), grid, RESIDUAL_THREADS, 0, stream, p);
}

cudaError_t residual_gather_launch(const residual_run *run, int operand, void *to,
                                   cudaStream_t stream) {
  const gather_launch p = {*run, operand, to};
  LAUNCH_BY_TYPE(run->type, launch_gather, p, stream);
}
