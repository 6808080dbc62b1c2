/* Residual connections without a norm. No element depends on another. So a thread takes 16 bytes
 * of every tensor at a time if lines are contiguous and begin at multiples of 16 bytes, otherwise
 * single elements. src/residual_run.c has merged dimensions where possible, so a contiguous run is
 * a single line and no thread divides.
 *
 * 12 bytes per element in float32: two reads, one write. A vector of four takes three memory
 * instructions, eight of arithmetic and about twenty for addresses and the choice of the formula:
 * 8 instructions per 32 elements. A device with 132 multiprocessors copies these in 21 cycles, at
 * 18 bytes per multiprocessor and cycle. So memory is the limit, also in 16-bit types, with half
 * the time and, apart from conversions, half the instructions. The gated formulas add about 20
 * instructions for a sigmoid with its IEEE division, at 16 bytes per element in float32, so that
 * memory is still the limit. With several lines, each vector takes a 64-bit division per
 * dimension.
 *
 * A grid-stride loop over enough blocks to fill the device several times. The formula is chosen by
 * a uniform switch in one kernel per type and width: eight kernels instead of fifty. Nothing here
 * has been timed on a GPU. */
#include "residual_element.cuh"

template <int TYPE, int WIDTH>
static __global__ void __launch_bounds__(RESIDUAL_THREADS, 5)
    residual_lines_kernel(const residual_run run) {
  const int inner = run.ndim - 1;
  const int64_t pieces = parts_of(run.shape[inner], WIDTH), units = line_count(run) * pieces;
  for (int64_t unit = (int64_t)blockIdx.x * RESIDUAL_THREADS + threadIdx.x; unit < units;
       unit += (int64_t)gridDim.x * RESIDUAL_THREADS) {
    const int64_t line = inner == 0 ? 0 : unit / pieces, first = (unit - line * pieces) * WIDTH;
    line_place p;
    real_of<TYPE> v[WIDTH];
    find_line(run, line, &p);
    residual_elements<TYPE, WIDTH>(run, p, first, v);
    store_operand<TYPE, WIDTH>(run, OPERAND_OUT, p.offsets[OPERAND_OUT], first, v);
  }
}

template <int TYPE, int WIDTH>
static cudaError_t launch_width(const residual_run *run, cudaStream_t stream) {
  const dim3 grid = grid_of(line_count(*run), parts_of(run->shape[run->ndim - 1], WIDTH),
                            RESIDUAL_THREADS, RESIDUAL_MOST_BLOCKS);
  return CUMEGA_LAUNCH((residual_lines_kernel<TYPE, WIDTH>), grid, RESIDUAL_THREADS, 0, stream,
                       *run);
}

template <int TYPE> static cudaError_t launch_lines(const residual_run *run, cudaStream_t stream) {
  if (residual_is_vector(run, sizeof(stored_of<TYPE>)))
    return launch_width<TYPE, WIDTH_OF<TYPE>>(run, stream);
  return launch_width<TYPE, 1>(run, stream);
}

cudaError_t residual_lines_launch(const residual_run *run, cudaStream_t stream,
                                  const char **kernel) {
  *kernel = "residual_lines_kernel";
  if (!residual_is_valid(run)) return cudaErrorInvalidValue;
  LAUNCH_BY_TYPE(run->type, launch_lines, run, stream);
}
