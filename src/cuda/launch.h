/* How kernels are launched and find their shared memory. These macros are all that a kernel has
 * to know of tests/emulation, where the same files are compiled by a C++ compiler and run on a CPU.
 *
 *   CUMEGA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)   the launch's own cudaError_t,
 *       whatever error the caller may have left pending
 *   CUMEGA_MOST_BLOCKS(n)   n, the blocks of a grid from which on each of them takes several parts of
 *       the work; few where emulated, so that small tests come there
 *   CUMEGA_SPIN()   in every loop that waits for another thread's write
 *   CUMEGA_SHARED(type, name)   declares type *name: the block's shared memory, all of it dynamic,
 *       aligned to 16 bytes */
#ifndef CUMEGA_SRC_CUDA_LAUNCH_H
#define CUMEGA_SRC_CUDA_LAUNCH_H

#include <cuda_runtime.h>

#if defined(CUMEGA_EMULATION)

#include <emulation_launch.h>

#define CUMEGA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                              \
  emulation_launch_values(#kernel, grid, block, shared_bytes, stream, kernel, __VA_ARGS__)
#define CUMEGA_SHARED(type, name) type *name = (type *)emulation_shared()
#define CUMEGA_MOST_BLOCKS(n)     ((n) < 8 ? (n) : 8)
#define CUMEGA_SPIN()             emulation_yield()

#else

#define CUMEGA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                              \
  launch_kernel(kernel, grid, block, shared_bytes, stream, __VA_ARGS__)
#define CUMEGA_SHARED(type, name)                                                                  \
  extern __shared__ __align__(16) unsigned char cumega_shared_bytes[];                             \
  type *name = (type *)cumega_shared_bytes
#define CUMEGA_MOST_BLOCKS(n) (n)

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

#endif
