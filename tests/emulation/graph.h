/* Graphs: operations that were captured instead of queued, with the nodes that each one
 * follows. */
#ifndef EMULATION_GRAPH_H
#define EMULATION_GRAPH_H

#include <pthread.h>

#include "stream.h"

namespace emulation {

struct node {
  operation op;
  std::vector<size_t> after;
};

/* A capture, in progress or finished. */
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

/* The stream waits for nodes of c, and so joins that capture unless it is already part of it. */
cudaError_t capture_join(const stream_pointer &s, const capture_pointer &c,
                         const std::vector<size_t> &nodes);

void capture_invalidate(const capture_pointer &c);

/* The error of a call that is not allowed during a capture; it invalidates the capture. */
cudaError_t capture_forbids();

/* The error of work in the legacy stream while a blocking stream of the device captures. */
cudaError_t capture_makes_implicit(int device);

long graphs_leaks(std::string *text);
void graphs_reset();

} // namespace emulation

#endif
