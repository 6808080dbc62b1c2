/* Events: names for positions in streams, or for nodes of a graph during capture. */
#include <ctime>
#include <map>

#include "graph.h"
#include "schedule.h"
#include "stream.h"

struct CUevent_st {
  long number;
  int device;
  bool timed;
  emulation::position recorded;
  std::shared_ptr<double> time; /* in ms, once reached */
  std::shared_ptr<emulation::capture> captured;
  std::vector<size_t> nodes;
};

namespace emulation {

static std::map<cudaEvent_t, std::unique_ptr<CUevent_st>> events;
static long created;

static CUevent_st *find(cudaEvent_t handle) {
  auto found = events.find(handle);
  return found == events.end() ? nullptr : found->second.get();
}

void events_reset() {
  events.clear();
  created = 0;
}

long events_leaks(std::string *text) {
  for (const auto &entry : events) *text += "event " + std::to_string(entry.second->number) + "\n";
  return (long)events.size();
}

static double milliseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (double)now.tv_sec * 1e3 + (double)now.tv_nsec * 1e-6;
}

static cudaError_t record(CUevent_st *event, const stream_pointer &s) {
  if (s->capturing != nullptr) {
    if (s->capturing->invalid) return cudaErrorStreamCaptureInvalidated;
    event->captured = s->capturing;
    event->nodes = s->tail;
    return cudaSuccess;
  }
  std::shared_ptr<double> time = std::make_shared<double>(0.0);
  const operation op = {"an event", [time]() { return *time = milliseconds(), cudaSuccess; }, {}};
  const cudaError_t error = stream_add(s, op);
  if (error != cudaSuccess) return error;
  event->captured = nullptr;
  event->time = time;
  event->recorded = stream_end(s);
  return cudaSuccess;
}

static cudaError_t wait(const stream_pointer &s, const CUevent_st *event) {
  if (event->captured != nullptr) return capture_join(s, event->captured, event->nodes);
  if (event->recorded.stream == nullptr) return cudaSuccess; /* never recorded */
  if (s->capturing != nullptr) {
    capture_invalidate(s->capturing);
    return cudaErrorStreamCaptureIsolation;
  }
  return stream_add(s, {"a wait", []() { return cudaSuccess; }, {event->recorded}});
}

} // namespace emulation

using namespace emulation;

extern "C" {

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned int flags) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  if (event == nullptr || flags > 3) return here.end(cudaErrorInvalidValue);
  std::unique_ptr<CUevent_st> e = std::make_unique<CUevent_st>();
  e->number = ++created;
  e->device = device_current();
  e->timed = !(flags & cudaEventDisableTiming);
  *event = e.get();
  events[e.get()] = std::move(e);
  return here.end(cudaSuccess);
}

cudaError_t cudaEventCreate(cudaEvent_t *event) {
  return cudaEventCreateWithFlags(event, cudaEventDefault);
}

cudaError_t cudaEventDestroy(cudaEvent_t event) {
  call here(CALL_RELEASE);
  if (here.refused()) return here.error();
  return here.end(events.erase(event) == 1 ? cudaSuccess : cudaErrorInvalidResourceHandle);
}

cudaError_t cudaEventRecord(cudaEvent_t handle, cudaStream_t stream) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  CUevent_st *event = find(handle);
  stream_pointer s = stream_find(stream);
  if (event == nullptr || s == nullptr || event->device != s->device)
    return here.end(cudaErrorInvalidResourceHandle);
  return here.end(record(event, s));
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t handle, unsigned int) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  const CUevent_st *event = find(handle);
  stream_pointer s = stream_find(stream);
  if (event == nullptr || s == nullptr) return here.end(cudaErrorInvalidResourceHandle);
  return here.end(wait(s, event));
}

cudaError_t cudaEventSynchronize(cudaEvent_t handle) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  const CUevent_st *event = find(handle);
  if (event == nullptr) return here.end(cudaErrorInvalidResourceHandle);
  if (event->captured != nullptr) return here.end(cudaErrorCapturedEvent);
  position_run_to(event->recorded);
  return here.end(device_lost(event->device));
}

/* In the fixed schedule each query runs the stream up to the event, and reports that the next
 * time. */
cudaError_t cudaEventQuery(cudaEvent_t handle) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  const CUevent_st *event = find(handle);
  if (event == nullptr) return here.end(cudaErrorInvalidResourceHandle);
  if (event->captured != nullptr) return here.end(cudaErrorCapturedEvent);
  const bool ready = position_reached(event->recorded);
  if (!ready && (!schedule_random() || schedule_chance(2))) position_run_to(event->recorded);
  const cudaError_t lost = device_lost(event->device);
  return here.end(lost != cudaSuccess ? lost : ready ? cudaSuccess : cudaErrorNotReady);
}

cudaError_t cudaEventElapsedTime(float *ms, cudaEvent_t first, cudaEvent_t last) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  const CUevent_st *a = find(first), *b = find(last);
  if (ms == nullptr) return here.end(cudaErrorInvalidValue);
  if (a == nullptr || b == nullptr || !a->timed || !b->timed || !a->time || !b->time)
    return here.end(cudaErrorInvalidResourceHandle);
  if (!position_reached(a->recorded) || !position_reached(b->recorded))
    return here.end(cudaErrorNotReady);
  *ms = (float)(*b->time - *a->time);
  return here.end(cudaSuccess);
}
}
