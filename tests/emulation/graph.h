/* Graphs: operations that were captured instead of queued, with what each follows. */
#ifndef EMULATION_GRAPH_H
#define EMULATION_GRAPH_H

#include <pthread.h>

#include "stream.h"

namespace emulation {

struct node {
  operation op;
  std::vector<size_t> after;
};

/* A capture under way, or over. */
struct capture {
  std::vector<node> nodes;
  stream_pointer origin;
  cudaStreamCaptureMode mode;
  pthread_t thread; /* that began it */
  bool invalid = false;
  bool over = false;
};
typedef std::shared_ptr<capture> capture_pointer;

cudaError_t capture_add(const stream_pointer &s, operation op);

/* The stream waits for nodes of c: it becomes part of that capture, if it is not. */
cudaError_t capture_join(const stream_pointer &s, const capture_pointer &c,
                         const std::vector<size_t> &nodes);

void capture_invalidate(const capture_pointer &c);

/* The error of a call that is not allowed while something captures; it spoils what captures. */
cudaError_t capture_forbids();

/* The error of work in the legacy stream while a blocking stream of the device captures. */
cudaError_t capture_makes_implicit(int device);

long graphs_leaks(std::string *text);
void graphs_reset();

} // namespace emulation

#endif
