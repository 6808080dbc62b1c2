/* A running launch: its blocks, their threads as fibers, and who waits for what. */
#ifndef EMULATION_GRID_H
#define EMULATION_GRID_H

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "emulation_collectives.h"
#include "fiber.h"
#include "memory.h"

namespace emulation {

struct kernel_launch {
  std::string name;
  dim3 grid, block;
  size_t shared_bytes;
  std::function<void()> body; /* called once per thread; holds the arguments */
};

/* Runs all of it. Returns cudaErrorLaunchFailure if a fault ended it. */
cudaError_t grid_run(const kernel_launch &launch);

/* The names of kernels, as they begin to run. */
void kernels_reset();
void launches_reset();

enum lane_state { LANE_READY, LANE_SPINNING, LANE_AT_BARRIER, LANE_AT_WARP, LANE_EXITED };

/* An asynchronous copy in progress. */
struct async_copy {
  char *to;
  const char *from;
  size_t bytes, zeros;
  uint64_t group;
};

struct block;

/* A thread of a block. */
struct lane {
  emulation_place place; /* first: emulation_here points to it */
  fiber thread;
  block *home;
  unsigned number; /* within the block */
  lane_state state;
  emulation_site site; /* where it waits */
  unsigned mask;       /* for the collective it waits in */
  bool votes;
  uint64_t value, result;
  int source;
  std::vector<async_copy> copies; /* in the order of issue */
  uint64_t group;                 /* for the copies issued next */
};

/* Which of a warp's lanes wait in a collective, and which never will: they have returned, or the
 * block is too small to have them. */
struct warp_lanes {
  unsigned waiting, gone;
};

struct block {
  const kernel_launch *launch;
  std::vector<lane> lanes;
  std::vector<warp_lanes> warps;
  unsigned exited, at_barrier;
  int predicates, predicates_counted; /* of this barrier, of the last one */
  guarded shared;
  char begun, ended;           /* for ThreadSanitizer, their addresses stand for these moments */
  std::vector<unsigned> order; /* the order in which a round runs the lanes */
  unsigned sprint, sprinter;   /* the rounds left for a single warp, and its first lane */
  ~block() { guarded_destroy(&shared); }
};

/* The running lane, or nullptr. */
lane *lane_here();

/* Stops the kernel: records the fault and never resumes the fiber. */
[[noreturn]] void kernel_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The lane waits and others run. Counts as progress unless the lane only spins. */
void lane_wait(lane *l, lane_state state);

void warp_exit(lane *l);     /* faults if others wait for the lane */
void copies_wander(lane *l); /* random schedules: one may land now */

/* "kernel k, block (0, 0, 0), thread (5, 0, 0): " within a kernel, else "". */
std::string grid_where();
std::string grid_describe_shared(const void *at);

} // namespace emulation

#endif
