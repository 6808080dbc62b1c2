/* Residual connections without a norm: nothing ties elements together, so a thread takes 16 bytes
 * of every tensor at a time, wherever lines are contiguous and begin at multiples of 16 bytes, and
 * single elements elsewhere. What can be walked as one dimension is one by then
 * (src/residual_run.c), so a contiguous run is a single line of all elements and no thread divides.
 *
 * Per element in float32 12 bytes: two reads, one write. A vector of four costs three memory
 * instructions, eight of arithmetic and some twenty of addresses and choice of form: 8 issue slots
 * per element of 32 lanes against 21 cycles that the copy takes on a device with 132
 * multiprocessors and 18 bytes per multiprocessor and cycle, so memory is the limit, also in 16-bit
 * types (half the time, half the instructions per byte but for conversions). The gated forms add
 * about 20 instructions for a sigmoid, an IEEE division among them: 16 bytes per element in
 * float32, still the memory's time. Lines that are not one cost a 64-bit division per vector and
 * dimension.
 *
 * A grid-stride loop over enough blocks to fill the device several times. Which form it is is a
 * uniform switch in one kernel per type and width: eight kernels rather than fifty. Nothing here
 * has been timed on a GPU. */
#include "residual_element.cuh"

#define THREADS     256
#define MOST_BLOCKS CUMEGA_MOST_BLOCKS(8192)

template <typename ELEMENT, int WIDTH>
static __global__ void __launch_bounds__(THREADS) residual_lines_kernel(const residual_run run) {
  typedef typename ELEMENT::real real;
  const int inner = run.ndim - 1;
  const int64_t length = run.shape[inner], pieces = (length + WIDTH - 1) / WIDTH;
  int64_t units = pieces;
  for (int i = 0; i < inner; i++) units *= run.shape[i];
  const residual_operand &out = run.operands[OPERAND_OUT];
  for (int64_t unit = (int64_t)blockIdx.x * THREADS + threadIdx.x; unit < units;
       unit += (int64_t)gridDim.x * THREADS) {
    const int64_t line = inner == 0 ? 0 : unit / pieces, first = (unit - line * pieces) * WIDTH;
    const int64_t left = length - first;
    const int count = left < WIDTH ? (int)left : WIDTH;
    line_place p;
    real v[WIDTH];
    find_line(run, line, &p);
    residual_elements<ELEMENT, WIDTH>(run, p, first, count, v);
    const int64_t stride = out.strides[inner];
    store_elements<ELEMENT, WIDTH>(out, p.offsets[OPERAND_OUT] + first * stride, stride, count, v);
  }
}

static dim3 grid_of(const residual_run *run, int64_t width) {
  int64_t units = (run->shape[run->ndim - 1] + width - 1) / width;
  for (int i = 0; i < run->ndim - 1; i++) units *= run->shape[i];
  const int64_t blocks = (units + THREADS - 1) / THREADS;
  return dim3((unsigned)(blocks < MOST_BLOCKS ? blocks : MOST_BLOCKS));
}

template <typename ELEMENT>
static cudaError_t launch(const residual_run *run, cudaStream_t stream, const char **kernel) {
  const int WIDTH = VECTOR_BYTES / (int)sizeof(typename ELEMENT::stored);
  if (residual_is_vector(run))
    RESIDUAL_LAUNCH(grid_of(run, WIDTH), dim3(THREADS), 0, residual_lines_kernel, ELEMENT, WIDTH);
  RESIDUAL_LAUNCH(grid_of(run, 1), dim3(THREADS), 0, residual_lines_kernel, ELEMENT, 1);
}

cudaError_t residual_lines_launch(const residual_run *run, cudaStream_t stream,
                                  const char **kernel) {
  switch (run->type) {
  case TYPE_FLOAT16: return launch<element_float16>(run, stream, kernel);
  case TYPE_BFLOAT16: return launch<element_bfloat16>(run, stream, kernel);
  case TYPE_FLOAT64: return launch<element_float64>(run, stream, kernel);
  default: return launch<element_float32>(run, stream, kernel);
  }
}
