#include "stream.h"

#include <map>

#include "emulation.h"
#include "graph.h"
#include "library.h"
#include "memory.h"
#include "schedule.h"

namespace emulation {

static std::map<cudaStream_t, stream_pointer> handles;
static std::map<int, stream_pointer> legacy; /* by device */
static std::vector<stream_pointer> all;      /* that may have work, including destroyed ones */
static long created;

static stream_pointer stream_create(CUctx_st *context, bool blocking, long number) {
  stream_pointer s = std::make_shared<CUstream_st>();
  s->number = number;
  s->device = context->device;
  s->context = context;
  s->blocking = blocking;
  all.push_back(s);
  return s;
}

stream_pointer stream_find(cudaStream_t handle) {
  if (handle != nullptr && handle != cudaStreamLegacy) {
    auto found = handles.find(handle);
    return found == handles.end() ? nullptr : found->second;
  }
  const int device = device_current();
  stream_pointer &s = legacy[device];
  if (s == nullptr) s = stream_create(device_context(device), false, 0);
  return s;
}

bool stream_is_legacy(const stream_pointer &s) {
  return s->number == 0;
}

bool position_reached(const position &p) {
  return p.stream == nullptr || p.stream->done >= p.ticket;
}

position stream_end(const stream_pointer &s) {
  return {s, s->issued};
}

void operation_run(int device, const operation &op) {
  if (device_lost(device) != cudaSuccess) return;
  memory_open(device);
  cudaError_t error = op.run();
  if (!memory_intact(op.name.c_str()) && error == cudaSuccess) error = cudaErrorIllegalAddress;
  memory_close();
  if (error != cudaSuccess) device_lose(device, error);
}

/* Runs the stream's next operation, after the work that it waits for. */
static void run_one(const stream_pointer &s) {
  const uint64_t ticket = s->done + 1;
  const std::vector<position> after = s->queue.front().after;
  for (const position &p : after) position_run_to(p);
  if (s->done >= ticket) return; /* it has run in the meantime */
  const operation op = std::move(s->queue.front());
  s->queue.pop_front();
  operation_run(s->device, op);
  s->done = ticket;
}

static void run_any() {
  std::vector<stream_pointer> busy;
  for (const stream_pointer &s : all)
    if (!s->queue.empty()) busy.push_back(s);
  if (!busy.empty()) run_one(busy[schedule_draw((uint32_t)busy.size())]);
}

void position_run_to(const position &p) {
  while (!position_reached(p)) {
    if (schedule_chance(3))
      run_any();
    else
      run_one(p.stream);
  }
}

void streams_leave(const capture_pointer &c) {
  for (const stream_pointer &s : all)
    if (s->capturing == c) s->capturing = nullptr;
}

void streams_wander() {
  while (schedule_eager()) run_any();
}

/* The legacy stream and its device's blocking streams take turns. */
static cudaError_t take_turns(const stream_pointer &s, operation *op) {
  if (stream_is_legacy(s)) {
    const cudaError_t error = capture_makes_implicit(s->device);
    if (error != cudaSuccess) return error;
    for (const stream_pointer &other : all)
      if (other->blocking && other->device == s->device) op->after.push_back(stream_end(other));
  } else if (s->blocking && legacy[s->device] != nullptr) {
    op->after.push_back(stream_end(legacy[s->device]));
  }
  return cudaSuccess;
}

cudaError_t stream_add(const stream_pointer &s, operation op) {
  if (s->capturing != nullptr) return capture_add(s, std::move(op));
  const cudaError_t error = take_turns(s, &op);
  if (error != cudaSuccess) return error;
  s->queue.push_back(std::move(op));
  s->issued++;
  streams_wander();
  return cudaSuccess;
}

cudaError_t stream_may_wait(const stream_pointer &s) {
  if (s->capturing != nullptr) {
    capture_invalidate(s->capturing);
    return cudaErrorStreamCaptureUnsupported;
  }
  return stream_is_legacy(s) ? capture_makes_implicit(s->device) : cudaSuccess;
}

/* What the host waits for when it waits for the stream. */
static void run_to_end(const stream_pointer &s) {
  if (stream_is_legacy(s))
    for (const stream_pointer &other : std::vector<stream_pointer>(all))
      if (other->blocking && other->device == s->device) position_run_to(stream_end(other));
  position_run_to(stream_end(s));
}

long streams_leaks(std::string *text) {
  for (const auto &entry : handles)
    *text += "stream " + std::to_string(entry.second->number) + "\n";
  return (long)handles.size();
}

void streams_reset() {
  events_reset();
  for (const stream_pointer &s : all) {
    s->queue.clear();
    s->capturing = nullptr;
  }
  handles.clear();
  legacy.clear();
  all.clear();
  created = 0;
}

static cudaError_t create(cudaStream_t *stream, unsigned flags,
                          const char *name = __builtin_FUNCTION()) {
  call here(CALL_DEVICE, name);
  if (here.refused()) return here.error();
  if (stream == nullptr || flags > cudaStreamNonBlocking) return here.end(cudaErrorInvalidValue);
  stream_pointer s =
      stream_create(thread_here().context, flags != cudaStreamNonBlocking, ++created);
  handles[s.get()] = s;
  *stream = s.get();
  return here.end(cudaSuccess);
}

/* Forgets destroyed streams that have no work left. */
static void forget_idle() {
  for (size_t i = all.size(); i-- > 0;)
    if (all[i]->queue.empty() && !stream_is_legacy(all[i]) && handles.count(all[i].get()) == 0)
      all.erase(all.begin() + (long)i);
}

} // namespace emulation

using namespace emulation;

extern "C" {

cudaError_t cudaStreamCreate(cudaStream_t *stream) {
  return create(stream, cudaStreamDefault);
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned int flags) {
  return create(stream, flags);
}

/* Queued work still runs at some time. */
cudaError_t cudaStreamDestroy(cudaStream_t handle) {
  call here(CALL_RELEASE);
  if (here.refused()) return here.error();
  stream_pointer s = handle == nullptr ? nullptr : stream_find(handle);
  if (s == nullptr || stream_is_legacy(s)) return here.end(cudaErrorInvalidResourceHandle);
  if (s->capturing != nullptr) capture_invalidate(s->capturing);
  handles.erase(handle);
  forget_idle();
  return here.end(cudaSuccess);
}

cudaError_t cudaStreamSynchronize(cudaStream_t handle) {
  call here(CALL_DEVICE | CALL_RELEASE);
  if (here.refused()) return here.error();
  stream_pointer s = stream_find(handle);
  if (s == nullptr) return here.end(cudaErrorInvalidResourceHandle);
  const cudaError_t error = stream_may_wait(s);
  if (error != cudaSuccess) return here.end(error);
  run_to_end(s);
  return here.end(device_lost(s->device));
}

/* In the fixed schedule each query runs one operation, so that polling ends. */
cudaError_t cudaStreamQuery(cudaStream_t handle) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  stream_pointer s = stream_find(handle);
  if (s == nullptr) return here.end(cudaErrorInvalidResourceHandle);
  cudaError_t error = stream_may_wait(s);
  if (error != cudaSuccess) return here.end(error);
  const bool ready = position_reached(stream_end(s));
  if (!ready && (!schedule_random() || schedule_chance(2))) run_one(s);
  error = device_lost(s->device);
  return here.end(error != cudaSuccess ? error : ready ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaStreamGetFlags(cudaStream_t handle, unsigned int *flags) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  stream_pointer s = stream_find(handle);
  if (s == nullptr) return here.end(cudaErrorInvalidResourceHandle);
  if (flags == nullptr) return here.end(cudaErrorInvalidValue);
  const bool plain = s->blocking || stream_is_legacy(s);
  *flags = plain ? cudaStreamDefault : cudaStreamNonBlocking;
  return here.end(cudaSuccess);
}

cudaError_t cudaStreamGetDevice(cudaStream_t handle, int *device) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  stream_pointer s = stream_find(handle);
  if (s == nullptr) return here.end(cudaErrorInvalidResourceHandle);
  if (device == nullptr) return here.end(cudaErrorInvalidValue);
  *device = s->device;
  return here.end(cudaSuccess);
}

cudaError_t cudaDeviceSynchronize(void) {
  call here(CALL_DEVICE | CALL_RELEASE);
  if (here.refused()) return here.error();
  const int device = device_current();
  for (const stream_pointer &s : std::vector<stream_pointer>(all)) {
    if (s->device != device) continue;
    const cudaError_t error = stream_may_wait(s);
    if (error != cudaSuccess) return here.end(error);
  }
  for (const stream_pointer &s : std::vector<stream_pointer>(all))
    if (s->device == device) position_run_to(stream_end(s));
  forget_idle();
  return here.end(device_lost(device));
}

int64_t emulation_pending(void) {
  lock_guard guard;
  int64_t count = 0;
  for (const stream_pointer &s : all) count += (int64_t)s->queue.size();
  return count;
}

void emulation_drain(void) {
  lock_guard guard;
  for (const stream_pointer &s : std::vector<stream_pointer>(all)) position_run_to(stream_end(s));
  forget_idle();
}

int64_t emulation_leaks(const char **text) {
  lock_guard guard;
  static std::string *lines = new std::string;
  lines->clear();
  const long count = memory_leaks(lines) + streams_leaks(lines) + events_leaks(lines) +
                     graphs_leaks(lines) + cublas_leaks(lines) + cufft_leaks(lines);
  if (text != nullptr) *text = lines->c_str();
  return count;
}
}
