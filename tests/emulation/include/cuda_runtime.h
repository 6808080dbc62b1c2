/* What a .cu file includes. In C it has the runtime's functions; in C++ also everything that
 * kernels are written in, so that an ordinary C++ compiler accepts the file unchanged. Static
 * __shared__ variables do not exist here: shared memory is dynamic, so that its size can be
 * exact. */
#ifndef EMULATION_CUDA_RUNTIME_H
#define EMULATION_CUDA_RUNTIME_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus

#define __global__
#define __device__
#define __host__
#define __constant__    const
#define __forceinline__ inline __attribute__((always_inline))
#define __launch_bounds__(...)
#define __grid_constant__
#define __align__(bytes) __attribute__((aligned(bytes)))

#include "emulation_place.h"
#include "emulation_collectives.h"
#include "emulation_atomics.h"
#include "emulation_math.h"

template <typename T> static inline cudaError_t cudaMalloc(T **pointer, size_t bytes) {
  return cudaMalloc((void **)pointer, bytes);
}
template <typename T> static inline cudaError_t cudaMallocHost(T **pointer, size_t bytes) {
  return cudaMallocHost((void **)pointer, bytes);
}
template <typename T>
static inline cudaError_t cudaMallocAsync(T **pointer, size_t bytes, cudaStream_t stream) {
  return cudaMallocAsync((void **)pointer, bytes, stream);
}
template <typename T> static inline cudaError_t cudaMallocManaged(T **pointer, size_t bytes) {
  return cudaMallocManaged((void **)pointer, bytes, cudaMemAttachGlobal);
}
template <typename T>
static inline cudaError_t cudaFuncSetAttribute(T *kernel, cudaFuncAttribute attr, int value) {
  return cudaFuncSetAttribute((const void *)kernel, attr, value);
}
template <typename T>
static inline cudaError_t
cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, T *kernel, int threads, size_t bytes) {
  return cudaOccupancyMaxActiveBlocksPerMultiprocessor(blocks, (const void *)kernel, threads,
                                                       bytes);
}

#endif

#endif
