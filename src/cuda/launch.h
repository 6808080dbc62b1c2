/* How kernels are launched, how large their grids are, and how they find their shared memory.
 * tests/emulation defines the same macros, so that a C++ compiler can compile kernels to run on a
 * CPU. Kernels need no other change for that.
 *
 *   CUMEGA_LAUNCH(kernel, grid, block, shared_bytes, stream, parameters)   an expression: the
 *       cudaError_t of this launch, even if the caller has left an error pending
 *   CUMEGA_SPIN()   belongs in every loop that waits for another thread's write
 *   CUMEGA_SHARED(type, name)   declares type *name: the block's shared memory, all of it dynamic,
 *       aligned to 16 bytes
 *
 * A launcher is a host function that chooses an instance of a kernel template, sets *kernel to its
 * name and launches it. The name contains no space (cumega_context_kernels). For a type without an
 * instance the launcher returns cudaErrorInvalidValue. */
#ifndef CUMEGA_SRC_CUDA_LAUNCH_H
#define CUMEGA_SRC_CUDA_LAUNCH_H

#include <cuda_runtime.h>
#include "../tensor_type.h"
#include "tuning.h"

#if defined(CUMEGA_EMULATION)

#include <emulation_launch.h>

#define CUMEGA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                             \
  emulation_launch_values(#kernel, grid, block, shared_bytes, stream, kernel, __VA_ARGS__)
#define CUMEGA_SHARED(type, name) type *name = (type *)emulation_shared()
#define CUMEGA_SPIN()             emulation_yield()

#else

#define CUMEGA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                             \
  launch_kernel(kernel, grid, block, shared_bytes, stream, __VA_ARGS__)
#define CUMEGA_SHARED(type, name)                                                                 \
  extern __shared__ __align__(16) unsigned char cumega_shared_bytes[];                            \
  type *name = (type *)cumega_shared_bytes

#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 700
#define CUMEGA_SPIN() __nanosleep(20)
#else
#define CUMEGA_SPIN() ((void)0)
#endif

template <typename PARAMETERS, typename ARGUMENTS>
static inline cudaError_t launch_kernel(void (*kernel)(PARAMETERS), dim3 grid, dim3 block,
                                        size_t shared_bytes, cudaStream_t stream,
                                        const ARGUMENTS &arguments) {
  PARAMETERS copy = arguments;
  void *pointers[] = {&copy};
  return cudaLaunchKernel((const void *)kernel, grid, block, pointers, shared_bytes, stream);
}

#endif

/* Returns function<TYPE>(...) from a launcher, where TYPE is the type of a tensor. */
#define LAUNCH_BY_TYPE(type, function, ...)                                                       \
  switch (type) {                                                                                 \
  case TYPE_FLOAT32: return function<TYPE_FLOAT32>(__VA_ARGS__);                                  \
  case TYPE_FLOAT16: return function<TYPE_FLOAT16>(__VA_ARGS__);                                  \
  case TYPE_BFLOAT16: return function<TYPE_BFLOAT16>(__VA_ARGS__);                                \
  case TYPE_FLOAT64: return function<TYPE_FLOAT64>(__VA_ARGS__);                                  \
  default: return cudaErrorInvalidValue;                                                          \
  }

/* How many parts of this size hold `count` elements. */
static __host__ __device__ __forceinline__ int64_t parts_of(int64_t count, int64_t part) {
  return (count + part - 1) / part;
}

/* The number of blocks for rows * columns units of work, if a block takes per_block of them at a
 * time: at most `most`, since blocks go through the units with a stride of the grid. The product
 * may exceed 64 bits. */
static inline int64_t blocks_of(int64_t rows, int64_t columns, int64_t per_block, int64_t most) {
  const bool is_large = columns > 0 && rows > most * per_block / columns;
  return is_large ? most : parts_of(rows * columns, per_block);
}
static inline dim3 grid_of(int64_t rows, int64_t columns, int64_t per_block, int64_t most) {
  return dim3((unsigned)blocks_of(rows, columns, per_block, most));
}

#endif
