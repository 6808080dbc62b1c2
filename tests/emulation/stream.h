/* Streams: queues of operations that run when the host waits for them, or in random schedules at
 * any earlier call. An operation may also wait for positions in other streams. */
#ifndef EMULATION_STREAM_H
#define EMULATION_STREAM_H

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "call.h"

namespace emulation {

struct capture;
typedef std::shared_ptr<CUstream_st> stream_pointer;

/* The end of the ticket-th operation of a stream. stream NULL: nothing to wait for. */
struct position {
  stream_pointer stream;
  uint64_t ticket = 0;
};

struct operation {
  std::string name;
  std::function<cudaError_t()> run;
  std::vector<position> after;
};

/* Runs it on the device, unless the device is lost; an error loses the device. */
void operation_run(int device, const operation &op);

} // namespace emulation

struct CUstream_st {
  long number;
  int device;
  bool blocking; /* takes turns with the legacy stream */
  CUctx_st *context;
  std::deque<emulation::operation> queue;
  uint64_t issued = 0, done = 0;
  std::shared_ptr<emulation::capture> capturing;
  std::vector<size_t> tail; /* the nodes that the next captured one follows */
};

namespace emulation {

/* NULL and cudaStreamLegacy: the current device's legacy stream; nullptr for anything that is not
 * a stream. */
stream_pointer stream_find(cudaStream_t handle);

/* Queues, or captures. */
cudaError_t stream_add(const stream_pointer &s, operation op);

bool position_reached(const position &p);
void position_run_to(const position &p);
position stream_end(const stream_pointer &s);

bool stream_is_legacy(const stream_pointer &s);

/* The host waits for the stream: an error if it captures, or if it is the legacy stream and a
 * blocking one captures. */
cudaError_t stream_may_wait(const stream_pointer &s);

void streams_leave(const std::shared_ptr<capture> &c); /* its capture has ended */
void streams_wander();                                 /* random schedules: may run some work */
long streams_leaks(std::string *text);
long events_leaks(std::string *text);
void streams_reset();
void events_reset();

} // namespace emulation

#endif
