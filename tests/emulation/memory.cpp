#include "memory.h"

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <map>

#include "call.h"
#include "fault.h"
#include "grid.h"
#include "sanitizer.h"

namespace emulation {

static const size_t GUARD = 256;
static const unsigned char PATTERN[2] = {0xff, 0x7f};
static const size_t QUARANTINE = 64 << 20; /* bytes of freed memory that are checked */
static const size_t MOST_FREED = 256;      /* blocks of it */
static const size_t GLANCE = 1 << 10;      /* in each, after every operation */

static std::map<const char *, allocation> live; /* by data */
static size_t freed_bytes, held[8];

/* Freed memory that is still checked; not a leak at the process's end. */
struct quarantine : std::deque<allocation> {
  ~quarantine() {
    for (allocation &a : *this) guarded_destroy(&a.memory);
  }
};
static quarantine freed;
static long allocations;
static int open_device = -1;

/* The pattern repeats from g->data on, so that it continues at the front guard's end whatever the
 * size. */
void poison(void *at, size_t bytes) {
  char *to = (char *)at;
  if (bytes == 0) return;
  to[0] = (char)PATTERN[0];
  if (bytes > 1) to[1] = (char)PATTERN[1];
  for (size_t done = 2; done < bytes; done *= 2)
    memcpy(to + done, to, done < bytes - done ? done : bytes - done);
}

/* Whether the guards are unchanged; AddressSanitizer would have stopped a write to them. */
static bool untouched(const char *at, size_t bytes) {
#ifdef EMULATION_ASAN
  return at != nullptr || bytes == 0;
#else
  if (bytes == 0) return true;
  if ((unsigned char)at[0] != PATTERN[0]) return false;
  if (bytes > 1 && (unsigned char)at[1] != PATTERN[1]) return false;
  return bytes < 3 || memcmp(at, at + 2, bytes - 2) == 0;
#endif
}

bool guarded_create(guarded *g, size_t bytes) {
  const size_t whole = (GUARD + bytes + GUARD + 255) / 256 * 256;
  g->base = (char *)aligned_alloc(256, whole);
  if (g->base == nullptr) return false;
  g->data = g->base + GUARD;
  g->bytes = bytes;
  poison(g->base, GUARD);
  poison(g->data, bytes);
  poison(g->data + bytes, whole - GUARD - bytes);
  forbid_access(g->base, GUARD);
  forbid_access(g->data + bytes, whole - GUARD - bytes);
  return true;
}

void guarded_destroy(guarded *g) {
  if (g->base != nullptr) allow_access(g->base, GUARD + g->bytes + GUARD);
  free(g->base);
  *g = guarded();
}

bool guarded_intact(const guarded *g) {
  return untouched(g->base, GUARD) && untouched(g->data + g->bytes, GUARD);
}

static bool is_open(const allocation &a) {
  return a.type != cudaMemoryTypeDevice || a.device == open_device;
}

static void set_access(const allocation &a) {
  if (is_open(a))
    allow_access(a.memory.data, a.memory.bytes);
  else
    forbid_access(a.memory.data, a.memory.bytes);
}

void memory_open(int device) {
  if (open_device == device) return;
  open_device = device;
  for (const auto &entry : live)
    if (entry.second.type == cudaMemoryTypeDevice) set_access(entry.second);
}

void memory_close() {
  memory_open(-1);
}

#ifdef EMULATION_ASAN
static void explain(const char *) {
  const void *at = __asan_get_report_address();
  fprintf(stderr, "emulated CUDA: %s%s\n", grid_where().c_str(), memory_describe(at).c_str());
}
#endif

cudaError_t memory_allocate(cudaMemoryType type, int device, size_t bytes, void **pointer) {
#ifdef EMULATION_ASAN
  __asan_set_error_report_callback(explain);
#endif
  if (pointer == nullptr) return cudaErrorInvalidValue;
  *pointer = nullptr;
  if (bytes == 0) return cudaSuccess;
  allocation a = {guarded(), type, device, allocations + 1};
  if (bytes > MEMORY_TOTAL - held[device] || !guarded_create(&a.memory, bytes))
    return cudaErrorMemoryAllocation;
  allocations++;
  held[device] += bytes;
  live[a.memory.data] = a;
  set_access(a);
  *pointer = a.memory.data;
  return cudaSuccess;
}

static const char *type_name(cudaMemoryType type) {
  return type == cudaMemoryTypeDevice ? "device"
         : type == cudaMemoryTypeHost ? "pinned"
                                      : "managed";
}

static std::string name(const allocation &a) {
  char text[128];
  snprintf(text, sizeof text, "%s memory, %zu bytes, allocation %ld, device %d", type_name(a.type),
           a.memory.bytes, a.number, a.device);
  return text;
}

static void forget_oldest() {
  allocation &a = freed.front();
  if (!untouched(a.memory.data, a.memory.bytes))
    fault("freed memory was written: %s", name(a).c_str());
  freed_bytes -= a.memory.bytes;
  guarded_destroy(&a.memory);
  freed.pop_front();
}

cudaError_t memory_free(void *pointer, bool host) {
  if (pointer == nullptr) return cudaSuccess;
  auto found = live.find((const char *)pointer);
  if (found == live.end() || (found->second.type == cudaMemoryTypeHost) != host)
    return cudaErrorInvalidValue;
  allocation a = found->second;
  if (!guarded_intact(&a.memory)) fault("memory beside this was written: %s", name(a).c_str());
  live.erase(found);
  held[a.device] -= a.memory.bytes;
  allow_access(a.memory.data, a.memory.bytes);
  poison(a.memory.data, a.memory.bytes);
  forbid_access(a.memory.data, a.memory.bytes);
  freed.push_back(a);
  freed_bytes += a.memory.bytes;
  while (freed_bytes > QUARANTINE || freed.size() > MOST_FREED) forget_oldest();
  return cudaSuccess;
}

const allocation *memory_find(const void *at, size_t bytes) {
  const char *address = (const char *)at;
  auto next = live.upper_bound(address);
  if (next == live.begin()) return nullptr;
  const allocation &a = (--next)->second;
  const size_t offset = (size_t)(address - a.memory.data);
  return offset <= a.memory.bytes && bytes <= a.memory.bytes - offset ? &a : nullptr;
}

/* Where `at` is relative to an allocation; "" if it is neither in it nor in its guards. */
static std::string relation(const allocation &a, const char *at, const char *inside) {
  char text[64] = "";
  const char *end = a.memory.data + a.memory.bytes;
  if (at < a.memory.base || at >= end + GUARD) return "";
  if (at < a.memory.data)
    snprintf(text, sizeof text, "%td bytes before ", a.memory.data - at);
  else if (at >= end)
    snprintf(text, sizeof text, "%td bytes beyond the end of ", at - end);
  else
    snprintf(text, sizeof text, "%s%td bytes into ", inside, at - a.memory.data);
  return text + name(a);
}

std::string memory_describe(const void *address) {
  const char *at = (const char *)address;
  for (const auto &entry : live) {
    const allocation &a = entry.second;
    const char *inside = is_open(a)        ? ""
                         : open_device < 0 ? "the host touched "
                                           : "another device's ";
    const std::string text = relation(a, at, inside);
    if (!text.empty()) return text;
  }
  for (const allocation &a : freed) {
    const std::string text = relation(a, at, "freed: ");
    if (!text.empty()) return text;
  }
  return grid_describe_shared(address);
}

/* A guard is refilled after a report, so that a write is reported once. */
static void repair(const guarded &g) {
  poison(g.base, GUARD);
  poison(g.data + g.bytes, GUARD);
}

bool memory_intact(const char *operation) {
  bool intact = true;
  for (const auto &entry : live) {
    const allocation &a = entry.second;
    if (guarded_intact(&a.memory)) continue;
    fault("%s wrote out of bounds, beside %s", operation, name(a).c_str());
    repair(a.memory);
    intact = false;
  }
  for (const allocation &a : freed) {
    if (untouched(a.memory.data, a.memory.bytes < GLANCE ? a.memory.bytes : GLANCE)) continue;
    fault("%s wrote to freed memory: %s", operation, name(a).c_str());
    poison(a.memory.data, a.memory.bytes);
    intact = false;
  }
  return intact;
}

size_t memory_held(int device) {
  return held[device];
}

long memory_leaks(std::string *text) {
  for (const auto &entry : live) *text += name(entry.second) + "\n";
  return (long)live.size();
}

void memory_reset() {
  memory_close();
  for (auto &entry : live) guarded_destroy(&entry.second.memory);
  live.clear();
  for (allocation &a : freed) guarded_destroy(&a.memory);
  freed.clear();
  freed_bytes = 0;
  allocations = 0;
  for (size_t &bytes : held) bytes = 0;
}

} // namespace emulation
