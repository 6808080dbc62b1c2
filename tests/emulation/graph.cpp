#include "graph.h"

#include <algorithm>
#include <map>

#include "schedule.h"

struct CUgraph_st {
  std::vector<emulation::node> nodes;
};

struct CUgraphExec_st {
  std::shared_ptr<const std::vector<emulation::node>> nodes;
  emulation::position last; /* launches of one graph do not overlap */
};

namespace emulation {

static std::vector<capture_pointer> captures; /* captures in progress */
static std::map<cudaGraph_t, std::unique_ptr<CUgraph_st>> graphs;
static std::map<cudaGraphExec_t, std::unique_ptr<CUgraphExec_st>> execs;

cudaError_t capture_add(const stream_pointer &s, operation op) {
  capture &c = *s->capturing;
  if (c.invalid) return cudaErrorStreamCaptureInvalidated;
  c.nodes.push_back({std::move(op), s->tail});
  s->tail = {c.nodes.size() - 1};
  return cudaSuccess;
}

void capture_invalidate(const capture_pointer &c) {
  c->invalid = true;
}

cudaError_t capture_join(const stream_pointer &s, const capture_pointer &c,
                         const std::vector<size_t> &nodes) {
  if (c->over) return cudaErrorInvalidValue;
  if (c->invalid) return cudaErrorStreamCaptureInvalidated;
  if (stream_is_legacy(s)) {
    capture_invalidate(c);
    return cudaErrorStreamCaptureImplicit;
  }
  if (s->capturing == nullptr) {
    s->capturing = c;
    s->tail = nodes;
    return cudaSuccess;
  }
  if (s->capturing != c) {
    capture_invalidate(c);
    capture_invalidate(s->capturing);
    return cudaErrorStreamCaptureMerge;
  }
  s->tail.insert(s->tail.end(), nodes.begin(), nodes.end());
  return cudaSuccess;
}

cudaError_t capture_forbids() {
  const cudaStreamCaptureMode mine = thread_here().capture_mode;
  cudaError_t error = cudaSuccess;
  if (mine == cudaStreamCaptureModeRelaxed) return error;
  for (const capture_pointer &c : captures) {
    const bool own = pthread_equal(c->thread, pthread_self());
    const bool global =
        c->mode == cudaStreamCaptureModeGlobal && mine == cudaStreamCaptureModeGlobal;
    if (c->mode == cudaStreamCaptureModeRelaxed || !(own || global)) continue;
    capture_invalidate(c);
    error = cudaErrorStreamCaptureUnsupported;
  }
  return error;
}

cudaError_t capture_makes_implicit(int device) {
  cudaError_t error = cudaSuccess;
  for (const capture_pointer &c : captures) {
    if (!c->origin->blocking || c->origin->device != device) continue;
    capture_invalidate(c);
    error = cudaErrorStreamCaptureImplicit;
  }
  return error;
}

long graphs_leaks(std::string *text) {
  for (size_t i = 0; i < graphs.size(); i++) *text += "a graph\n";
  for (size_t i = 0; i < execs.size(); i++) *text += "an instantiated graph\n";
  return (long)(graphs.size() + execs.size());
}

void graphs_reset() {
  captures.clear();
  graphs.clear();
  execs.clear();
}

/* Whether the origin's latest work follows every node, directly or indirectly. */
static bool joined(const capture &c) {
  std::vector<bool> reached(c.nodes.size(), false);
  for (size_t i : c.origin->tail) reached[i] = true;
  for (size_t i = c.nodes.size(); i-- > 0;)
    if (reached[i])
      for (size_t before : c.nodes[i].after) reached[before] = true;
  return std::find(reached.begin(), reached.end(), false) == reached.end();
}

static void leave(const capture_pointer &c) {
  c->over = true;
  captures.erase(std::find(captures.begin(), captures.end(), c));
}

/* Runs the nodes, each after those it follows: in the order of capture, or in any other valid
 * order. */
static void run_nodes(int device, const std::vector<node> &nodes) {
  std::vector<size_t> waits(nodes.size()), ready;
  std::vector<std::vector<size_t>> followers(nodes.size());
  for (size_t i = 0; i < nodes.size(); i++) {
    waits[i] = nodes[i].after.size();
    for (size_t before : nodes[i].after) followers[before].push_back(i);
    if (waits[i] == 0) ready.push_back(i);
  }
  while (!ready.empty()) {
    const size_t pick =
        schedule_random() ? schedule_draw((uint32_t)ready.size())
                          : (size_t)(std::min_element(ready.begin(), ready.end()) - ready.begin());
    const size_t i = ready[pick];
    ready.erase(ready.begin() + (long)pick);
    operation_run(device, nodes[i].op);
    for (size_t next : followers[i])
      if (--waits[next] == 0) ready.push_back(next);
  }
}

static cudaError_t end_capture(const stream_pointer &s, cudaGraph_t *graph) {
  *graph = nullptr;
  const capture_pointer c = s->capturing;
  if (c == nullptr) return cudaErrorIllegalState;
  if (c->origin != s) return capture_invalidate(c), cudaErrorStreamCaptureUnmatched;
  if (c->mode != cudaStreamCaptureModeRelaxed && !pthread_equal(c->thread, pthread_self()))
    return cudaErrorStreamCaptureWrongThread;
  const bool whole = joined(*c);
  streams_leave(c);
  leave(c);
  if (c->invalid) return cudaErrorStreamCaptureInvalidated;
  if (!whole) return cudaErrorStreamCaptureUnjoined;
  std::unique_ptr<CUgraph_st> g = std::make_unique<CUgraph_st>();
  g->nodes = std::move(c->nodes);
  *graph = g.get();
  graphs[g.get()] = std::move(g);
  return cudaSuccess;
}

} // namespace emulation

using namespace emulation;

extern "C" {

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  stream_pointer s = stream_find(stream);
  if (s == nullptr) return here.end(cudaErrorInvalidResourceHandle);
  if (status == nullptr) return here.end(cudaErrorInvalidValue);
  if (stream_is_legacy(s)) {
    const cudaError_t error = capture_makes_implicit(s->device);
    if (error != cudaSuccess) return here.end(error);
  }
  *status = s->capturing == nullptr ? cudaStreamCaptureStatusNone
            : s->capturing->invalid ? cudaStreamCaptureStatusInvalidated
                                    : cudaStreamCaptureStatusActive;
  return here.end(cudaSuccess);
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  stream_pointer s = stream_find(stream);
  if (s == nullptr) return here.end(cudaErrorInvalidResourceHandle);
  if (stream_is_legacy(s)) return here.end(cudaErrorStreamCaptureUnsupported);
  if (s->capturing != nullptr) return here.end(cudaErrorIllegalState);
  s->capturing = std::make_shared<capture>();
  s->capturing->origin = s;
  s->capturing->mode = mode;
  s->capturing->thread = pthread_self();
  s->tail.clear();
  captures.push_back(s->capturing);
  return here.end(cudaSuccess);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  stream_pointer s = stream_find(stream);
  if (s == nullptr) return here.end(cudaErrorInvalidResourceHandle);
  if (graph == nullptr) return here.end(cudaErrorInvalidValue);
  return here.end(end_capture(s, graph));
}

cudaError_t cudaThreadExchangeStreamCaptureMode(cudaStreamCaptureMode *mode) {
  call here(CALL_PLAIN);
  if (here.refused()) return here.error();
  if (mode == nullptr) return here.end(cudaErrorInvalidValue);
  std::swap(*mode, thread_here().capture_mode);
  return here.end(cudaSuccess);
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  auto found = graphs.find(graph);
  if (exec == nullptr || found == graphs.end()) return here.end(cudaErrorInvalidValue);
  std::unique_ptr<CUgraphExec_st> e = std::make_unique<CUgraphExec_st>();
  e->nodes = std::make_shared<const std::vector<node>>(found->second->nodes);
  *exec = e.get();
  execs[e.get()] = std::move(e);
  return here.end(cudaSuccess);
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream) {
  call here(CALL_DEVICE);
  if (here.refused()) return here.error();
  stream_pointer s = stream_find(stream);
  auto found = execs.find(exec);
  if (found == execs.end()) return here.end(cudaErrorInvalidValue);
  if (s == nullptr) return here.end(cudaErrorInvalidResourceHandle);
  const auto nodes = found->second->nodes;
  const int device = s->device;
  const auto run = [nodes, device]() { return run_nodes(device, *nodes), cudaSuccess; };
  const cudaError_t error = stream_add(s, {"a graph", run, {found->second->last}});
  if (error == cudaSuccess && s->capturing == nullptr) found->second->last = stream_end(s);
  return here.end(error);
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec) {
  call here(CALL_RELEASE);
  if (here.refused()) return here.error();
  return here.end(execs.erase(exec) == 1 ? cudaSuccess : cudaErrorInvalidValue);
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph) {
  call here(CALL_RELEASE);
  if (here.refused()) return here.error();
  return here.end(graphs.erase(graph) == 1 ? cudaSuccess : cudaErrorInvalidValue);
}
}
