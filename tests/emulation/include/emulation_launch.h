/* What a launch macro becomes:
 *
 *   emulation_launch("kernel", grid, block, shared_bytes, stream, [=]() { kernel(argument); })
 *
 * The body holds the arguments by value and is called once per thread, when the stream gets to
 * it. emulation_launch_values takes kernel and arguments separately and evaluates the arguments
 * at once, as <<< >>> does, so that `*parameters` is read now and not when the kernel runs. Both
 * return the launch's own error, which is also left for cudaGetLastError. */
#ifndef EMULATION_LAUNCH_H
#define EMULATION_LAUNCH_H

#include <functional>
#include <tuple>
#include <utility>
#include <cuda_runtime.h>

cudaError_t emulation_launch(const char *kernel, dim3 grid, dim3 block, size_t shared_bytes,
                             cudaStream_t stream, std::function<void()> body);

template <typename... PARAMETERS, typename... ARGUMENTS>
static inline cudaError_t emulation_launch_values(const char *name, dim3 grid, dim3 block,
                                                  size_t shared_bytes, cudaStream_t stream,
                                                  void (*kernel)(PARAMETERS...),
                                                  ARGUMENTS &&...arguments) {
  std::tuple<PARAMETERS...> values(std::forward<ARGUMENTS>(arguments)...);
  return emulation_launch(name, grid, block, shared_bytes, stream,
                          [kernel, values]() { std::apply(kernel, values); });
}

#endif
