/* The scheduler. Every thread of a block is a fiber that runs until it waits. A round resumes,
 * once each, all threads of a block that can run; rounds of several live blocks alternate.
 *
 * Fixed schedule: threads run by number; a block runs until it ends, and other blocks start only
 * while all of its threads spin. Random schedule: threads run in a new random order each round,
 * sometimes those of one warp only, once or for many rounds; there are up to 8 live blocks, taken
 * from the grid in random order. So a block that waits for one of lower index is treated as on a
 * GPU, which promises no order.
 *
 * Between two waits of a thread only that thread runs: a schedule is an interleaving of whole
 * stretches. That finds every missing barrier whose effect depends on the order of threads. It
 * says nothing about the order in which a GPU's memory shows single writes. */
#include "grid.h"

#include <cfenv>
#include <cstdarg>
#include <cstdio>
#include <numeric>

#include "call.h"
#include "emulation.h"
#include "fault.h"
#include "sanitizer.h"
#include "schedule.h"

const emulation_place *emulation_here;

namespace emulation {

static const unsigned LIVE_BLOCKS = 8, LIVE_LANES = 8192;
static const unsigned MOST_SPRINT = 64; /* rounds */
static const unsigned SPIN_ROUNDS =
    4000; /* of nothing but spinning, before it counts as a deadlock */

/* The launch that is running; there is one at a time. */
static struct running {
  const kernel_launch *launch = nullptr;
  std::vector<std::unique_ptr<block>> live;
  std::vector<uint64_t> order; /* random schedule: the grid's blocks; taken from the end */
  uint64_t next = 0, count = 0;
  bool failed = false;
  uint64_t progress = 0;
  char fence = 0; /* its address stands for memory fences */
} now;

static std::vector<std::unique_ptr<block>> spare; /* blocks and their stacks, for reuse */
static std::vector<std::string> kernel_names;
static std::vector<const char *> kernel_pointers;

lane *lane_here() {
  return (lane *)const_cast<emulation_place *>(emulation_here);
}

void lane_wait(lane *l, lane_state state) {
  l->state = state;
  if (state != LANE_SPINNING) now.progress++;
  copies_wander(l);
  fiber_suspend();
  copies_wander(l);
}

static void lane_exit(lane *l) {
  block *b = l->home;
  l->state = LANE_EXITED;
  b->exited++;
  now.progress++;
  warp_exit(l);
  if (b->at_barrier == 0) return;
  for (const lane &other : b->lanes)
    if (other.state == LANE_AT_BARRIER)
      kernel_fail(
          "divergent barrier: this thread has returned while thread %u waits in %s at %s:%d",
          other.number, other.site.call, other.site.file, other.site.line);
}

static void lane_main(void *argument) {
  lane *l = (lane *)argument;
  sync_acquire(&l->home->begun);
  l->home->launch->body();
  lane_exit(l);
  sync_release(&l->home->ended);
}

void kernel_fail(const char *format, ...) {
  char text[512];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  fault("%s", text);
  now.failed = true;
  sync_release(&lane_here()->home->ended);
  for (;;) fiber_suspend();
}

static void block_begin(block *b, const kernel_launch *launch, uint64_t index) {
  const dim3 grid = launch->grid, size = launch->block;
  const unsigned count = size.x * size.y * size.z;
  b->launch = launch;
  b->exited = b->at_barrier = 0;
  b->predicates = b->predicates_counted = 0;
  if (b->lanes.size() != count) {
    for (lane &l : b->lanes) fiber_release(&l.thread);
    b->lanes.clear();
    b->lanes.resize(count);
    b->order.resize(count);
  }
  b->sprint = 0;
  std::iota(b->order.begin(), b->order.end(), 0u);
  b->warps.assign((count + 31) / 32, {0, 0});
  if (count % 32 != 0) b->warps.back().gone = ~0u << count % 32;
  const uint3 at = {(unsigned)(index % grid.x), (unsigned)(index / grid.x % grid.y),
                    (unsigned)(index / grid.x / grid.y)};
  for (unsigned i = 0; i < count; i++) {
    lane &l = b->lanes[i];
    const uint3 thread = {i % size.x, i / size.x % size.y, i / size.x / size.y};
    l.place = {thread, at, size, grid};
    l.home = b;
    l.number = i;
    l.state = LANE_READY;
    l.copies.clear();
    l.group = 0;
    fiber_start(&l.thread, lane_main, &l);
  }
  if (b->shared.base != nullptr && b->shared.bytes == launch->shared_bytes)
    poison(b->shared.data, b->shared.bytes);
  else {
    guarded_destroy(&b->shared);
    guarded_create(&b->shared, launch->shared_bytes);
  }
  sync_release(&b->begun);
}

static uint64_t block_choose() {
  if (!schedule_random()) return now.next++;
  std::vector<uint64_t> &order = now.order;
  std::swap(order[schedule_draw((uint32_t)order.size())], order.back());
  const uint64_t index = order.back();
  order.pop_back();
  now.next++;
  return index;
}

static void block_add() {
  std::unique_ptr<block> b;
  if (spare.empty())
    b = std::make_unique<block>();
  else {
    b = std::move(spare.back());
    spare.pop_back();
  }
  block_begin(b.get(), now.launch, block_choose());
  now.live.push_back(std::move(b));
}

static void lane_run(lane *l) {
  l->state = LANE_READY;
  emulation_here = &l->place;
  fiber_resume(&l->thread);
  emulation_here = nullptr;
}

/* Runs every lane that can run, once: all threads of the block, or those of one random warp.
 * Sometimes that warp continues for many rounds, as far as it can: if it is far ahead of the
 * others, it meets work that they have not done yet. Returns how many ran. */
static unsigned block_round(block *b) {
  const unsigned count = (unsigned)b->lanes.size();
  unsigned ran = 0, first = 0, last = count;
  if (b->sprint == 0 && schedule_chance(2)) {
    b->sprinter = schedule_draw((count + 31) / 32) * 32;
    b->sprint = schedule_chance(4) ? 1 + schedule_draw(MOST_SPRINT) : 1;
  }
  const bool one_warp = b->sprint > 0;
  if (one_warp) {
    first = b->sprinter;
    last = first + 32 < count ? first + 32 : count;
    b->sprint--;
  } else if (schedule_random()) {
    std::iota(b->order.begin(), b->order.end(), 0u);
    for (unsigned i = count - 1; i > 0; i--)
      std::swap(b->order[i], b->order[schedule_draw(i + 1)]);
  }
  for (unsigned i = first; i < last && !now.failed; i++) {
    lane *l = &b->lanes[one_warp ? i : b->order[i]];
    if (l->state != LANE_READY && l->state != LANE_SPINNING) continue;
    lane_run(l);
    ran++;
  }
  if (one_warp && ran == 0) b->sprint = 0;
  return ran;
}

static bool block_can_run(const block *b) {
  for (const lane &l : b->lanes)
    if (l.state == LANE_READY || l.state == LANE_SPINNING) return true;
  return false;
}

/* No thread of the block can ever continue. */
static void block_report_deadlock(const block *b) {
  unsigned barrier = 0, warp = 0;
  const lane *first = nullptr;
  for (const lane &l : b->lanes) {
    barrier += l.state == LANE_AT_BARRIER;
    warp += l.state == LANE_AT_WARP;
    if (first == nullptr && l.state != LANE_EXITED) first = &l;
  }
  emulation_here = &first->place;
  fault(
      "deadlock: %u threads wait at a barrier, %u in warp collectives, %u have returned; this one "
      "waits in %s with mask %08x at %s:%d",
      barrier, warp, b->exited, first->site.call, first->mask, first->site.file, first->site.line);
  emulation_here = nullptr;
  now.failed = true;
}

static void block_end(size_t i) {
  block *b = now.live[i].get();
  sync_acquire(&b->ended);
  if (!guarded_intact(&b->shared)) {
    emulation_here = &b->lanes[0].place;
    fault("out of bounds: memory beside the block's %zu bytes of shared memory was written",
          b->shared.bytes);
    emulation_here = nullptr;
    guarded_destroy(&b->shared);
    now.failed = true;
  }
  for (lane &l : b->lanes) fiber_release(&l.thread);
  spare.push_back(std::move(now.live[i]));
  now.live.erase(now.live.begin() + (long)i);
}

static unsigned live_limit() {
  const unsigned lanes = now.launch->block.x * now.launch->block.y * now.launch->block.z;
  unsigned limit = LIVE_LANES / lanes;
  if (limit > LIVE_BLOCKS) limit = LIVE_BLOCKS;
  return schedule_random() ? 1 + schedule_draw(limit) : limit;
}

/* One round of one block. Returns whether any thread did something other than spin. */
static bool step(size_t i) {
  block *b = now.live[i].get();
  const uint64_t before = now.progress;
  const unsigned ran = block_round(b);
  if (now.failed) return true;
  if (b->exited == b->lanes.size())
    block_end(i);
  else if (ran == 0 && !block_can_run(b))
    block_report_deadlock(b);
  return now.progress != before;
}

static void report_spinning() {
  for (const lane &l : now.live[0]->lanes)
    if (l.state == LANE_SPINNING) emulation_here = &l.place;
  fault(
      "deadlock: every thread that can run spins; %llu of %llu blocks have not started, and which "
      "blocks run together is not promised",
      (unsigned long long)(now.count - now.next), (unsigned long long)now.count);
  emulation_here = nullptr;
  now.failed = true;
}

static void run_blocks() {
  const unsigned limit = live_limit();
  unsigned idle = 0;
  size_t turn = 0;
  while (!now.failed && (now.next < now.count || !now.live.empty())) {
    const bool start = now.live.empty() || schedule_random() || idle > 0;
    if (start && now.live.size() < limit && now.next < now.count) block_add();
    turn = schedule_random() ? schedule_draw((uint32_t)now.live.size())
                             : (turn + (idle > 0)) % now.live.size();
    idle = step(turn) ? 0 : idle + 1;
    if (idle > SPIN_ROUNDS * limit) report_spinning();
    if (turn >= now.live.size()) turn = 0;
  }
}

cudaError_t grid_run(const kernel_launch &launch) {
  fenv_t environment; /* a GPU ignores the caller's rounding mode */
  fegetenv(&environment);
  fesetenv(FE_DFL_ENV);
  kernel_names.push_back(launch.name);
  now.launch = &launch;
  now.count = (uint64_t)launch.grid.x * launch.grid.y * launch.grid.z;
  now.next = 0;
  now.failed = false;
  now.order.resize(schedule_random() ? now.count : 0);
  std::iota(now.order.begin(), now.order.end(), (uint64_t)0);
  run_blocks();
  while (!now.live.empty()) block_end(0);
  now.launch = nullptr;
  fesetenv(&environment);
  return now.failed ? cudaErrorLaunchFailure : cudaSuccess;
}

std::string grid_where() {
  const emulation_place *at = emulation_here;
  if (at == nullptr || now.launch == nullptr) return "";
  char text[160];
  snprintf(text, sizeof text, ", block (%u, %u, %u), thread (%u, %u, %u): ", at->block.x,
           at->block.y, at->block.z, at->thread.x, at->thread.y, at->thread.z);
  return "kernel " + now.launch->name + text;
}

std::string grid_describe_shared(const void *address) {
  for (const std::unique_ptr<block> &b : now.live) {
    const guarded &s = b->shared;
    const char *at = (const char *)address;
    if (at < s.base || at >= s.data + s.bytes + 512) continue;
    char text[96];
    snprintf(text, sizeof text, "%td bytes into a block's %zu bytes of shared memory", at - s.data,
             s.bytes);
    return text;
  }
  return "no memory of a device";
}

void kernels_reset() {
  kernel_names.clear();
  kernel_pointers.clear();
}

} // namespace emulation

using namespace emulation;

extern "C" {

void *emulation_shared(void) {
  return lane_here()->home->shared.data;
}

void emulation_yield(void) {
  lane_wait(lane_here(), LANE_SPINNING);
}

unsigned emulation_lane(void) {
  return lane_here()->number & 31;
}

void emulation_fence(void) {
  sync_release(&now.fence);
  sync_acquire(&now.fence);
}

void emulation_kernels_begin(void) {
  lock_guard guard;
  kernels_reset();
}

const char *const *emulation_kernels(int64_t *count) {
  lock_guard guard;
  kernel_pointers.clear();
  for (const std::string &name : kernel_names) kernel_pointers.push_back(name.c_str());
  *count = (int64_t)kernel_pointers.size();
  return kernel_pointers.data();
}
}
