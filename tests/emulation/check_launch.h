/* The launch macros as kernels use them, for the suites' kernels. */
#ifndef EMULATION_CHECK_LAUNCH_H
#define EMULATION_CHECK_LAUNCH_H

#include <cuda_runtime.h>

#if defined(CUMEGA_EMULATION)
#include "emulation_launch.h"
#define CUMEGA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                             \
  emulation_launch(#kernel, grid, block, shared_bytes, stream, [=]() { kernel(__VA_ARGS__); })
#define CUMEGA_SHARED(type, name) type *name = (type *)emulation_shared()
#define CUMEGA_SPIN()             emulation_yield()
#else
#define CUMEGA_LAUNCH(kernel, grid, block, shared_bytes, stream, ...)                             \
  (kernel<<<grid, block, shared_bytes, stream>>>(__VA_ARGS__), cudaPeekAtLastError())
#define CUMEGA_SHARED(type, name)                                                                 \
  extern __shared__ __align__(16) unsigned char cumega_shared_bytes[];                            \
  type *name = (type *)cumega_shared_bytes
#define CUMEGA_SPIN() __nanosleep(20)
#endif

#endif
