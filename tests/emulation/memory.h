/* Memory of devices and pinned memory of the host: exactly as large as requested, full of NaNs
 * until it is written, between guards.
 *
 * With AddressSanitizer the guards and freed memory may not be touched at all, and device memory
 * only while its own device's work runs. Without it, guards and freed memory hold a pattern that
 * is checked after every operation: a write is found then, and a read gives NaN. */
#ifndef EMULATION_MEMORY_H
#define EMULATION_MEMORY_H

#include <cstddef>
#include <string>
#include <cuda_runtime_api.h>

namespace emulation {

static const size_t MEMORY_TOTAL = (size_t)8 << 30; /* of a device */
static const size_t SHARED_PER_BLOCK = 48 << 10, SHARED_PER_BLOCK_OPTIN = 227 << 10;
static const size_t SHARED_PER_MULTIPROCESSOR = 228 << 10, SHARED_RESERVED = 1 << 10;

/* NaN in every floating-point type, a large number in every integer type. */
void poison(void *at, size_t bytes);

/* A guarded piece of memory, poisoned; also what blocks use as shared memory. */
struct guarded {
  char *base = nullptr;
  char *data = nullptr; /* 256-byte aligned */
  size_t bytes = 0;
};
bool guarded_create(guarded *g, size_t bytes);
void guarded_destroy(guarded *g);
bool guarded_intact(const guarded *g); /* always true with AddressSanitizer */

struct allocation {
  guarded memory;
  cudaMemoryType type;
  int device;
  long number; /* its number since reset, for readers of reports */
};

cudaError_t memory_allocate(cudaMemoryType type, int device, size_t bytes, void **pointer);
cudaError_t memory_free(void *pointer, bool host);

/* The allocation that holds all of [at, at + bytes); NULL where none does. */
const allocation *memory_find(const void *at, size_t bytes);

/* What an address belongs to, in words. */
std::string memory_describe(const void *at);

/* From open to close this device's memory may be used. */
void memory_open(int device);
void memory_close();

/* Faults for guards and freed memory that the operation wrote to. True: there were none. */
bool memory_intact(const char *operation);

size_t memory_held(int device);
long memory_leaks(std::string *text);
void memory_reset();

} // namespace emulation

#endif
