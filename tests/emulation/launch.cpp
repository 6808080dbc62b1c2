/* Launches: what CUDA refuses at once, and the queueing of what it accepts. */
#include "emulation_launch.h"

#include "grid.h"
#include "stream.h"

namespace emulation {

static size_t opted_in; /* the most dynamic shared memory that any kernel was allowed */

void launches_reset() {
  opted_in = 0;
}

static cudaError_t check(dim3 grid, dim3 block, size_t shared_bytes) {
  const uint64_t threads = (uint64_t)block.x * block.y * block.z;
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || threads == 0)
    return cudaErrorInvalidConfiguration;
  if (grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535)
    return cudaErrorInvalidConfiguration;
  if (block.x > 1024 || block.y > 1024 || block.z > 64 || threads > 1024)
    return cudaErrorInvalidConfiguration;
  const size_t limit = opted_in > SHARED_PER_BLOCK ? opted_in : SHARED_PER_BLOCK;
  return shared_bytes > limit ? cudaErrorInvalidValue : cudaSuccess;
}

static cudaError_t queue(kernel_launch launch, cudaStream_t stream) {
  const cudaError_t error = check(launch.grid, launch.block, launch.shared_bytes);
  if (error != cudaSuccess) return error;
  stream_pointer s = stream_find(stream);
  if (s == nullptr || s->device != device_current()) return cudaErrorInvalidResourceHandle;
  const std::string name = "kernel " + launch.name;
  auto kept = std::make_shared<const kernel_launch>(std::move(launch));
  return stream_add(s, {name, [kept]() { return grid_run(*kept); }, {}});
}

} // namespace emulation

using namespace emulation;

cudaError_t emulation_launch(const char *kernel, dim3 grid, dim3 block, size_t shared_bytes,
                             cudaStream_t stream, std::function<void()> body) {
  call here(CALL_DEVICE, "cudaLaunchKernel");
  if (here.refused()) return here.error();
  return here.end(queue({kernel, grid, block, shared_bytes, std::move(body)}, stream));
}

extern "C" {

/* A launch does not name its function here, so an opt-in for one kernel counts for all. */
cudaError_t cudaFuncSetAttribute(const void *function, cudaFuncAttribute which, int value) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  if (function == nullptr) return here.end(cudaErrorInvalidDeviceFunction);
  if (which == cudaFuncAttributePreferredSharedMemoryCarveout) return here.end(cudaSuccess);
  if (which != cudaFuncAttributeMaxDynamicSharedMemorySize || value < 0 ||
      (size_t)value > SHARED_PER_BLOCK_OPTIN)
    return here.end(cudaErrorInvalidValue);
  if ((size_t)value > opted_in) opted_in = (size_t)value;
  return here.end(cudaSuccess);
}
}
