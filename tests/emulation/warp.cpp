/* Where threads meet: the block's barrier, and the collectives of a warp. The last thread to
 * arrive does the work for all: it hands out the values and makes the others ready to run. */
#include <cstring>

#include "grid.h"
#include "sanitizer.h"
#include "schedule.h"

namespace emulation {

static bool same_site(const emulation_site &a, const emulation_site &b) {
  return a.line == b.line && (a.file == b.file || strcmp(a.file, b.file) == 0) &&
         (a.call == b.call || strcmp(a.call, b.call) == 0);
}

/* The last thread to arrive continues at once, unless chance makes it wait for its turn. */
static void pass(lane *self) {
  if (schedule_chance(2)) lane_wait(self, LANE_READY);
}

static void barrier_check(const block *b, const emulation_site &site) {
  for (const lane &other : b->lanes) {
    if (other.state == LANE_EXITED)
      kernel_fail("divergent barrier: %s at %s:%d, but thread %u has returned", site.call,
                  site.file, site.line, other.number);
    if (other.state == LANE_AT_BARRIER && !same_site(other.site, site))
      kernel_fail("divergent barrier: %s at %s:%d, but thread %u waits in %s at %s:%d", site.call,
                  site.file, site.line, other.number, other.site.call, other.site.file,
                  other.site.line);
  }
}

static unsigned first_lane(const lane *self) {
  return self->number & ~31u;
}

static unsigned bit(const lane *self) {
  return 1u << (self->number & 31);
}

static warp_lanes *warp_of(const lane *self) {
  return &self->home->warps[self->number / 32];
}

/* Whether all other lanes of the mask wait in this collective; faults if one waits elsewhere. */
static bool all_here(const lane *self) {
  const unsigned others = self->mask & ~bit(self);
  if ((warp_of(self)->waiting & others) != others) return false;
  const lane *warp = &self->home->lanes[first_lane(self)];
  for (unsigned rest = others; rest != 0; rest &= rest - 1) {
    const lane &other = warp[__builtin_ctz(rest)];
    if (other.mask != self->mask) return false;
    if (!same_site(other.site, self->site))
      kernel_fail("bad mask: %s with mask %08x at %s:%d, but lane %u is in %s at %s:%d with that "
                  "mask",
                  self->site.call, self->mask, self->site.file, self->site.line, other.number & 31,
                  other.site.call, other.site.file, other.site.line);
  }
  return true;
}

static void mask_check(const lane *self) {
  const emulation_site &site = self->site;
  if (!(self->mask & bit(self)))
    kernel_fail("bad mask: %s with mask %08x at %s:%d is called by lane %u, which is not in it",
                site.call, self->mask, site.file, site.line, self->number & 31);
  const unsigned gone = self->mask & warp_of(self)->gone;
  if (gone == 0) return;
  const unsigned number = (unsigned)__builtin_ctz(gone);
  const bool returned = first_lane(self) + number < self->home->lanes.size();
  kernel_fail("bad mask: %s with mask %08x at %s:%d names lane %u, %s", site.call, self->mask,
              site.file, site.line, number,
              returned ? "which has returned" : "but the block ends before it");
}

static void exchange_all(lane *self) {
  lane *warp = &self->home->lanes[first_lane(self)];
  unsigned ballot = 0;
  for (unsigned rest = self->mask; rest != 0; rest &= rest - 1) {
    const unsigned i = (unsigned)__builtin_ctz(rest);
    ballot |= (unsigned)(warp[i].value != 0) << i;
  }
  for (unsigned rest = self->mask; rest != 0; rest &= rest - 1) {
    lane &l = warp[__builtin_ctz(rest)];
    if (!l.votes && !(self->mask >> l.source & 1u))
      kernel_fail("bad shuffle: %s at %s:%d reads lane %d, which is not in the mask %08x",
                  l.site.call, l.site.file, l.site.line, l.source, l.mask);
    l.result = l.votes ? ballot : warp[l.source].value;
    l.state = LANE_READY;
  }
  warp_of(self)->waiting &= ~self->mask;
}

static uint64_t meet(emulation_site site, unsigned mask, uint64_t value, int source, bool votes) {
  lane *self = lane_here();
  self->site = site;
  self->mask = mask;
  self->value = value;
  self->source = source;
  self->votes = votes;
  mask_check(self);
  lane *warp = &self->home->lanes[first_lane(self)];
  sync_release(warp);
  if (all_here(self)) {
    exchange_all(self);
    pass(self);
  } else {
    warp_of(self)->waiting |= bit(self);
    lane_wait(self, LANE_AT_WARP);
  }
  sync_acquire(warp);
  return self->result;
}

void warp_exit(lane *self) {
  const lane *warp = &self->home->lanes[first_lane(self)];
  warp_of(self)->gone |= bit(self);
  for (unsigned rest = warp_of(self)->waiting; rest != 0; rest &= rest - 1) {
    const lane &other = warp[__builtin_ctz(rest)];
    if (other.mask & bit(self))
      kernel_fail("bad mask: this lane has returned, but %s with mask %08x at %s:%d waits for it",
                  other.site.call, other.mask, other.site.file, other.site.line);
  }
}

} // namespace emulation

using namespace emulation;

extern "C" {

int emulation_barrier(emulation_site site, int predicate) {
  lane *self = lane_here();
  block *b = self->home;
  if (b->at_barrier == 0 || b->at_barrier + 1 == b->lanes.size()) barrier_check(b, site);
  self->site = site;
  self->mask = 0;
  b->predicates += predicate != 0;
  sync_release(b);
  if (++b->at_barrier < b->lanes.size()) {
    lane_wait(self, LANE_AT_BARRIER);
  } else {
    b->predicates_counted = b->predicates;
    b->predicates = 0;
    b->at_barrier = 0;
    for (lane &l : b->lanes) l.state = LANE_READY;
    pass(self);
  }
  sync_acquire(b);
  return b->predicates_counted;
}

uint64_t emulation_exchange(emulation_site site, unsigned mask, uint64_t value, int source) {
  return meet(site, mask, value, source, false);
}

unsigned emulation_ballot(emulation_site site, unsigned mask, int predicate) {
  return (unsigned)meet(site, mask, predicate != 0, 0, true);
}
}
