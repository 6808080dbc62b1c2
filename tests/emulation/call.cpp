#include "call.h"

#include <vector>

#include "emulation.h"
#include "fault.h"
#include "graph.h"
#include "grid.h"
#include "memory.h"
#include "schedule.h"
#include "stream.h"

namespace emulation {

static uint64_t generation = 1;
static int64_t calls;
static std::vector<const char *> call_names, call_names_handed_out;
static struct {
  int64_t at; /* the call's number; 0: none */
  cudaError_t error;
  bool for_ever, sticky;
} planned;

std::recursive_mutex &lock() {
  static std::recursive_mutex *mutex = new std::recursive_mutex; /* outlives all destructors */
  return *mutex;
}

thread_state &thread_here() {
  static thread_local thread_state state;
  if (state.generation != generation) {
    state = thread_state();
    state.generation = generation;
  }
  return state;
}

static cudaError_t planned_fault(const char *name) {
  static const size_t most = 1 << 20; /* for a suite that never asks */
  calls++;
  if (call_names.size() == most) call_names.clear();
  call_names.push_back(name);
  const bool now =
      planned.at != 0 && (planned.for_ever ? calls >= planned.at : calls == planned.at);
  if (!now) return cudaSuccess;
  if (planned.sticky && device_count() > 0) device_lose(device_current(), planned.error);
  return planned.error;
}

call::call(unsigned kind, const char *name) : kind_(kind), error_(planned_fault(name)) {
  if (error_ == cudaSuccess && (kind & CALL_UNSAFE)) {
    error_ = capture_forbids();
    forbidden_ = error_ != cudaSuccess;
  }
  if (error_ == cudaSuccess && (kind & CALL_DEVICE)) {
    error_ = device_use();
    if (error_ == cudaSuccess) {
      streams_wander();
      error_ = device_lost(device_current());
    }
  }
  if (refused()) end(cudaSuccess);
}

cudaError_t call::end(cudaError_t error) {
  if (error_ != cudaSuccess) error = error_;
  if (error != cudaSuccess && !(kind_ & CALL_DRIVER)) thread_here().last = error;
  return error;
}

void calls_reset() {
  calls = 0;
  call_names.clear();
  planned = {};
  generation++;
}

} // namespace emulation

using namespace emulation;

extern "C" {

void emulation_fail(int64_t nth, cudaError_t error, int for_ever, int sticky) {
  lock_guard guard;
  planned.at = nth == 0 ? 0 : calls + nth;
  planned.error = error;
  planned.for_ever = for_ever != 0;
  planned.sticky = sticky != 0;
}

int64_t emulation_call_count(void) {
  lock_guard guard;
  return calls;
}

void emulation_calls_begin(void) {
  lock_guard guard;
  call_names.clear();
}

const char *const *emulation_calls(int64_t *count) {
  lock_guard guard;
  call_names_handed_out = call_names;
  *count = (int64_t)call_names_handed_out.size();
  return call_names_handed_out.data();
}

void emulation_reset(void) {
  lock_guard guard;
  streams_reset();
  graphs_reset();
  memory_reset();
  kernels_reset();
  launches_reset();
  devices_reset();
  schedule_reset();
  calls_reset();
  faults_reset();
}

cudaError_t cudaPeekAtLastError(void) {
  lock_guard guard;
  const cudaError_t lost = device_lost(device_current());
  return lost != cudaSuccess ? lost : thread_here().last;
}

cudaError_t cudaGetLastError(void) {
  lock_guard guard;
  const cudaError_t error = cudaPeekAtLastError();
  thread_here().last = cudaSuccess;
  return error;
}

const char *cudaGetErrorName(cudaError_t error) {
#define NAME(name, number, text)                                                                  \
  case name: return #name;
  switch (error) { EMULATION_ERRORS(NAME) }
  return "unrecognized error code";
#undef NAME
}

const char *cudaGetErrorString(cudaError_t error) {
#define TEXT(name, number, text)                                                                  \
  case name: return text;
  switch (error) { EMULATION_ERRORS(TEXT) }
  return "unrecognized error code";
#undef TEXT
}
}
