/* Devices, their contexts, and the three driver calls that save and restore a caller's context.
 * The numbers are those of an H100, but with few multiprocessors and little memory. */
#include <cstdio>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "call.h"
#include "emulation.h"
#include "library.h"
#include "memory.h"
#include "stream.h"

namespace emulation {

static const int MAX_DEVICES = 8;
static const int MULTIPROCESSORS = 4, BLOCKS_PER_MULTIPROCESSOR = 32,
                 THREADS_PER_MULTIPROCESSOR = 2048;

static struct device {
  bool used;
  cudaError_t lost;
  CUctx_st primary;
} devices[MAX_DEVICES];
static int count = 1;
static int driver_version = CUDART_VERSION;             /* 0: no driver */
static std::vector<std::unique_ptr<CUctx_st>> contexts; /* that are not primary */
static std::set<std::string> hidden;

void devices_reset() {
  count = 1;
  driver_version = CUDART_VERSION;
  for (device &d : devices) d = device();
  contexts.clear();
  hidden.clear();
}

int device_count() {
  return count;
}

bool is_hidden(const char *function) {
  lock_guard guard;
  return hidden.count(function) > 0;
}

/* A runtime works with drivers of its own major version and later ones. */
cudaError_t device_absent() {
  if (driver_version / 1000 < CUDART_VERSION / 1000) return cudaErrorInsufficientDriver;
  return count == 0 ? cudaErrorNoDevice : cudaSuccess;
}

int device_current() {
  const CUctx_st *context = thread_here().context;
  return context != nullptr ? context->device : 0;
}

cudaError_t device_lost(int device) {
  return devices[device].lost;
}

void device_lose(int device, cudaError_t error) {
  if (devices[device].lost == cudaSuccess) devices[device].lost = error;
}

CUctx_st *device_context(int device) {
  devices[device].used = true;
  devices[device].primary = {device, true};
  return &devices[device].primary;
}

cudaError_t device_use() {
  const cudaError_t absent = device_absent();
  if (absent != cudaSuccess) return absent;
  if (thread_here().context == nullptr) thread_here().context = device_context(0);
  return cudaSuccess;
}

} // namespace emulation

using namespace emulation;

/* The driver's functions: their results have the same numbers as the runtime's errors. */
static int context_get_current(CUctx_st **context) {
  call here(CALL_DRIVER, "cuCtxGetCurrent");
  if (here.refused()) return here.error();
  if (context == nullptr) return here.end(cudaErrorInvalidValue);
  *context = thread_here().context;
  return 0;
}

static int context_set_current(CUctx_st *context) {
  call here(CALL_DRIVER, "cuCtxSetCurrent");
  if (here.refused()) return here.error();
  thread_here().context = context;
  return 0;
}

static int stream_get_context(cudaStream_t stream, CUctx_st **context) {
  call here(CALL_DRIVER, "cuStreamGetCtx");
  if (here.refused()) return here.error();
  std::shared_ptr<CUstream_st> s = stream_find(stream);
  if (context == nullptr) return here.end(cudaErrorInvalidValue);
  if (s == nullptr) return here.end(cudaErrorInvalidResourceHandle);
  *context = s->context;
  return 0;
}

static cudaError_t attribute(cudaDeviceAttr which, int *value) {
  switch (which) {
  case cudaDevAttrMaxThreadsPerBlock: *value = 1024; break;
  case cudaDevAttrMaxBlockDimX: *value = 1024; break;
  case cudaDevAttrMaxBlockDimY: *value = 1024; break;
  case cudaDevAttrMaxBlockDimZ: *value = 64; break;
  case cudaDevAttrMaxGridDimX: *value = 2147483647; break;
  case cudaDevAttrMaxGridDimY: *value = 65535; break;
  case cudaDevAttrMaxGridDimZ: *value = 65535; break;
  case cudaDevAttrMaxSharedMemoryPerBlock: *value = SHARED_PER_BLOCK; break;
  case cudaDevAttrWarpSize: *value = 32; break;
  case cudaDevAttrMaxRegistersPerBlock: *value = 65536; break;
  case cudaDevAttrMultiProcessorCount: *value = MULTIPROCESSORS; break;
  case cudaDevAttrIntegrated: *value = 0; break;
  case cudaDevAttrL2CacheSize: *value = 50 << 20; break;
  case cudaDevAttrMaxThreadsPerMultiProcessor: *value = THREADS_PER_MULTIPROCESSOR; break;
  case cudaDevAttrUnifiedAddressing: *value = 1; break;
  case cudaDevAttrComputeCapabilityMajor: *value = 9; break;
  case cudaDevAttrComputeCapabilityMinor: *value = 0; break;
  case cudaDevAttrMaxSharedMemoryPerMultiprocessor: *value = SHARED_PER_MULTIPROCESSOR; break;
  case cudaDevAttrMaxRegistersPerMultiprocessor: *value = 65536; break;
  case cudaDevAttrManagedMemory: *value = 1; break;
  case cudaDevAttrConcurrentManagedAccess: *value = 1; break;
  case cudaDevAttrCooperativeLaunch: *value = 0; break;
  case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = SHARED_PER_BLOCK_OPTIN; break;
  case cudaDevAttrMaxBlocksPerMultiprocessor: *value = BLOCKS_PER_MULTIPROCESSOR; break;
  case cudaDevAttrReservedSharedMemoryPerBlock: *value = SHARED_RESERVED; break;
  case cudaDevAttrMemoryPoolsSupported: *value = 1; break;
  default: return cudaErrorInvalidValue;
  }
  return cudaSuccess;
}

static int number(cudaDeviceAttr which) {
  int value = 0;
  attribute(which, &value);
  return value;
}

static void describe(cudaDeviceProp *prop) {
  memset(prop, 0, sizeof *prop);
  snprintf(prop->name, sizeof prop->name, "Emulated CUDA device");
  prop->totalGlobalMem = MEMORY_TOTAL;
  prop->sharedMemPerBlock = SHARED_PER_BLOCK;
  prop->sharedMemPerMultiprocessor = SHARED_PER_MULTIPROCESSOR;
  prop->sharedMemPerBlockOptin = SHARED_PER_BLOCK_OPTIN;
  prop->major = number(cudaDevAttrComputeCapabilityMajor);
  prop->minor = number(cudaDevAttrComputeCapabilityMinor);
  prop->multiProcessorCount = MULTIPROCESSORS;
  prop->warpSize = 32;
  prop->l2CacheSize = number(cudaDevAttrL2CacheSize);
  prop->regsPerBlock = prop->regsPerMultiprocessor = number(cudaDevAttrMaxRegistersPerBlock);
  prop->maxThreadsPerBlock = number(cudaDevAttrMaxThreadsPerBlock);
  prop->maxThreadsPerMultiProcessor = THREADS_PER_MULTIPROCESSOR;
  prop->maxBlocksPerMultiProcessor = BLOCKS_PER_MULTIPROCESSOR;
  for (int i = 0; i < 3; i++) {
    prop->maxThreadsDim[i] = number((cudaDeviceAttr)(cudaDevAttrMaxBlockDimX + i));
    prop->maxGridSize[i] = number((cudaDeviceAttr)(cudaDevAttrMaxGridDimX + i));
  }
  prop->unifiedAddressing = prop->managedMemory = prop->concurrentManagedAccess = 1;
}

extern "C" {

void emulation_revive(void) {
  lock_guard guard;
  emulation_drain(); /* has no effect on a lost device */
  for (device &d : devices) d.lost = cudaSuccess;
}

void emulation_set_driver_version(int version) {
  lock_guard guard;
  driver_version = version;
}

void emulation_hide(const char *function) {
  lock_guard guard;
  if (function == nullptr)
    hidden.clear();
  else
    hidden.insert(function);
}

void emulation_set_device_count(int n) {
  lock_guard guard;
  count = n < 0 ? 0 : n > MAX_DEVICES ? MAX_DEVICES : n;
}

int emulation_context_exists(int device) {
  lock_guard guard;
  return device >= 0 && device < MAX_DEVICES && devices[device].used;
}

CUctx_st *emulation_context_create(int device) {
  lock_guard guard;
  contexts.push_back(std::make_unique<CUctx_st>(CUctx_st{device, false}));
  return contexts.back().get();
}

cudaError_t cudaGetDeviceCount(int *n) {
  call here(CALL_PLAIN);
  if (here.refused()) return here.error();
  if (n == nullptr) return here.end(cudaErrorInvalidValue);
  *n = device_absent() == cudaSuccess ? count : 0;
  return here.end(device_absent());
}

cudaError_t cudaGetDevice(int *device) {
  call here(CALL_PLAIN);
  if (here.refused()) return here.error();
  if (device == nullptr) return here.end(cudaErrorInvalidValue);
  *device = device_current();
  return here.end(device_absent());
}

cudaError_t cudaSetDevice(int device) {
  call here(CALL_PLAIN);
  if (here.refused()) return here.error();
  if (device_absent() != cudaSuccess) return here.end(device_absent());
  if (device < 0 || device >= count) return here.end(cudaErrorInvalidDevice);
  thread_here().context = device_context(device);
  return here.end(device_lost(device));
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *prop, int device) {
  call here(CALL_PLAIN);
  if (here.refused()) return here.error();
  if (prop == nullptr) return here.end(cudaErrorInvalidValue);
  if (device < 0 || device >= count) return here.end(cudaErrorInvalidDevice);
  describe(prop);
  return here.end(cudaSuccess);
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr which, int device) {
  call here(CALL_PLAIN);
  if (here.refused()) return here.error();
  if (value == nullptr) return here.end(cudaErrorInvalidValue);
  if (device < 0 || device >= count) return here.end(cudaErrorInvalidDevice);
  return here.end(attribute(which, value));
}

cudaError_t cudaRuntimeGetVersion(int *version) {
  call here(CALL_PLAIN);
  if (here.refused()) return here.error();
  *version = CUDART_VERSION;
  return here.end(cudaSuccess);
}

cudaError_t cudaDriverGetVersion(int *version) {
  call here(CALL_PLAIN);
  if (here.refused()) return here.error();
  *version = driver_version;
  return here.end(cudaSuccess);
}

cudaError_t cudaGetDriverEntryPointByVersion(const char *symbol, void **function, unsigned int,
                                             unsigned long long,
                                             cudaDriverEntryPointQueryResult *result) {
  call here(CALL_PLAIN);
  if (here.refused()) return here.error();
  if (symbol == nullptr || function == nullptr) return here.end(cudaErrorInvalidValue);
  *function = strcmp(symbol, "cuCtxGetCurrent") == 0   ? (void *)context_get_current
              : strcmp(symbol, "cuCtxSetCurrent") == 0 ? (void *)context_set_current
              : strcmp(symbol, "cuStreamGetCtx") == 0  ? (void *)stream_get_context
                                                       : nullptr;
  if (is_hidden(symbol)) *function = nullptr;
  const bool found = *function != nullptr;
  if (result != nullptr)
    *result = found ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
  return here.end(found || result != nullptr ? cudaSuccess : cudaErrorSymbolNotFound);
}

cudaError_t cudaGetDriverEntryPoint(const char *symbol, void **function, unsigned long long flags,
                                    cudaDriverEntryPointQueryResult *result) {
  return cudaGetDriverEntryPointByVersion(symbol, function, CUDART_VERSION, flags, result);
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *, int threads,
                                                          size_t shared_bytes) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  if (blocks == nullptr || threads <= 0) return here.end(cudaErrorInvalidValue);
  const size_t by_shared = SHARED_PER_MULTIPROCESSOR / (shared_bytes + SHARED_RESERVED);
  int fit = threads > 1024 ? 0 : THREADS_PER_MULTIPROCESSOR / ((threads + 31) / 32 * 32);
  if (fit > BLOCKS_PER_MULTIPROCESSOR) fit = BLOCKS_PER_MULTIPROCESSOR;
  *blocks = shared_bytes > SHARED_PER_BLOCK_OPTIN ? 0
            : by_shared < (size_t)fit             ? (int)by_shared
                                                  : fit;
  return here.end(cudaSuccess);
}
}
