/* The runtime's calls for memory. Copies read their source when they run, as on a GPU, except for
 * pageable host memory: a copy from it reads at the call, and a copy to it waits. */
#include <cstring>

#include "fault.h"
#include "graph.h"
#include "memory.h"
#include "stream.h"

namespace emulation {

/* One side of a copy. */
struct side {
  const char *at;
  bool device;   /* may be what a copy kind calls device memory */
  bool pageable; /* host memory that CUDA does not know */
};

static bool look(const void *at, size_t bytes, side *s) {
  s->at = (const char *)at;
  const allocation *a = memory_find(at, bytes);
  s->pageable = a == nullptr && memory_find(at, 0) == nullptr;
  s->device = a != nullptr && a->type != cudaMemoryTypeHost;
  return a != nullptr || s->pageable;
}

static bool kind_fits(cudaMemcpyKind kind, const side &to, const side &from) {
  switch (kind) {
  case cudaMemcpyHostToHost: return !to.device && !from.device;
  case cudaMemcpyHostToDevice: return to.device && !from.device;
  case cudaMemcpyDeviceToHost: return !to.device && from.device;
  case cudaMemcpyDeviceToDevice: return to.device && from.device;
  default: return kind == cudaMemcpyDefault;
  }
}

/* Memory that existed at the call must still exist when the operation runs. */
static bool still_there(const char *what, const side &s, size_t bytes) {
  if (s.pageable || memory_find(s.at, bytes) != nullptr) return true;
  fault("a queued %s uses memory that is gone: %s", what, memory_describe(s.at).c_str());
  return false;
}

static operation copy_operation(const side &to, const side &from, size_t bytes, bool read_now) {
  std::shared_ptr<std::string> content;
  if (read_now) content = std::make_shared<std::string>(from.at, bytes);
  return {"a copy",
          [=]() {
            if (!still_there("copy", to, bytes)) return cudaErrorIllegalAddress;
            if (!read_now && !still_there("copy", from, bytes)) return cudaErrorIllegalAddress;
            memmove((char *)to.at, content ? content->data() : from.at, bytes);
            return cudaSuccess;
          },
          {}};
}

static cudaError_t copy(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind,
                        const stream_pointer &s, bool wait) {
  side to, from;
  if (s == nullptr) return cudaErrorInvalidResourceHandle;
  if (bytes == 0) return cudaSuccess;
  if (dst == nullptr || src == nullptr || !look(dst, bytes, &to) || !look(src, bytes, &from))
    return cudaErrorInvalidValue;
  if (!kind_fits(kind, to, from)) return cudaErrorInvalidValue;
  const bool captured = s->capturing != nullptr;
  const cudaError_t error =
      stream_add(s, copy_operation(to, from, bytes, from.pageable && !captured));
  if (error != cudaSuccess || captured) return error;
  if (wait || to.pageable) position_run_to(stream_end(s));
  return device_lost(s->device);
}

static cudaError_t fill(void *at, int value, size_t bytes, const stream_pointer &s) {
  side to;
  if (s == nullptr) return cudaErrorInvalidResourceHandle;
  if (bytes == 0) return cudaSuccess;
  if (!look(at, bytes, &to) || to.pageable) return cudaErrorInvalidValue;
  return stream_add(s, {"a memset",
                        [=]() {
                          if (!still_there("memset", to, bytes)) return cudaErrorIllegalAddress;
                          memset((char *)to.at, value, bytes);
                          return cudaSuccess;
                        },
                        {}});
}

static cudaError_t allocate(cudaMemoryType type, void **pointer, size_t bytes,
                            const char *name = __builtin_FUNCTION()) {
  call here(CALL_DEVICE | CALL_UNSAFE, name);
  if (here.refused()) return here.error();
  return here.end(memory_allocate(type, device_current(), bytes, pointer));
}

static cudaError_t release(void *pointer, bool host, const char *name = __builtin_FUNCTION()) {
  call here(CALL_DEVICE | CALL_UNSAFE | CALL_RELEASE, name);
  if (here.refused()) return here.error();
  return here.end(memory_free(pointer, host));
}

} // namespace emulation

using namespace emulation;

extern "C" {

cudaError_t cudaMalloc(void **pointer, size_t bytes) {
  return allocate(cudaMemoryTypeDevice, pointer, bytes);
}

cudaError_t cudaMallocManaged(void **pointer, size_t bytes, unsigned int) {
  return allocate(cudaMemoryTypeManaged, pointer, bytes);
}

cudaError_t cudaMallocHost(void **pointer, size_t bytes) {
  return allocate(cudaMemoryTypeHost, pointer, bytes);
}

cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned int) {
  return allocate(cudaMemoryTypeHost, pointer, bytes);
}

/* Does not wait for work that still uses the memory: CUDA does not promise that cudaFree does. */
cudaError_t cudaFree(void *pointer) {
  return release(pointer, false);
}

cudaError_t cudaFreeHost(void *pointer) {
  return release(pointer, true);
}

cudaError_t cudaMallocAsync(void **pointer, size_t bytes, cudaStream_t stream) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  stream_pointer s = stream_find(stream);
  if (s == nullptr) return here.end(cudaErrorInvalidResourceHandle);
  if (s->capturing != nullptr) return here.end(cudaErrorNotSupported);
  return here.end(memory_allocate(cudaMemoryTypeDevice, s->device, bytes, pointer));
}

cudaError_t cudaFreeAsync(void *pointer, cudaStream_t stream) {
  call here(CALL_DEVICE | CALL_RELEASE);
  if (here.refused()) return here.error();
  stream_pointer s = stream_find(stream);
  if (s == nullptr) return here.end(cudaErrorInvalidResourceHandle);
  if (s->capturing != nullptr) return here.end(cudaErrorNotSupported);
  if (pointer == nullptr) return here.end(cudaSuccess);
  const allocation *a = memory_find(pointer, 0);
  if (a == nullptr || a->memory.data != pointer || a->type != cudaMemoryTypeDevice)
    return here.end(cudaErrorInvalidValue);
  return here.end(
      stream_add(s, {"cudaFreeAsync", [=]() { return memory_free(pointer, false); }, {}}));
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  *free_bytes = MEMORY_TOTAL - memory_held(device_current());
  *total = MEMORY_TOTAL;
  return here.end(cudaSuccess);
}

cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  return here.end(copy(dst, src, bytes, kind, stream_find(stream), false));
}

/* Waits for the legacy stream; a capture forbids either that stream or the waiting. */
cudaError_t cudaMemcpy(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  cudaError_t error = capture_makes_implicit(device_current());
  if (error == cudaSuccess) error = capture_forbids();
  if (error == cudaSuccess) error = copy(dst, src, bytes, kind, stream_find(nullptr), true);
  return here.end(error);
}

cudaError_t cudaMemsetAsync(void *at, int value, size_t bytes, cudaStream_t stream) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  return here.end(fill(at, value, bytes, stream_find(stream)));
}

cudaError_t cudaMemset(void *at, int value, size_t bytes) {
  return cudaMemsetAsync(at, value, bytes, nullptr);
}

cudaError_t cudaPointerGetAttributes(cudaPointerAttributes *attributes, const void *pointer) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  if (attributes == nullptr) return here.end(cudaErrorInvalidValue);
  const allocation *a = memory_find(pointer, 0);
  *attributes = {cudaMemoryTypeUnregistered, -2, nullptr, (void *)pointer};
  if (a == nullptr) return here.end(cudaSuccess);
  attributes->type = a->type;
  attributes->device = a->device;
  attributes->devicePointer = (void *)pointer;
  if (a->type == cudaMemoryTypeDevice) attributes->hostPointer = nullptr;
  return here.end(cudaSuccess);
}
}
