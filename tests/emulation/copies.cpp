/* Asynchronous copies from global to shared memory. */
#include <cstring>

#include "cuda_pipeline_primitives.h"
#include "grid.h"
#include "schedule.h"

namespace emulation {

static void land(const async_copy &copy) {
  memcpy(copy.to, copy.from, copy.bytes - copy.zeros);
  memset(copy.to + copy.bytes - copy.zeros, 0, copy.zeros);
}

static void land_one(lane *l, size_t i) {
  land(l->copies[i]);
  l->copies.erase(l->copies.begin() + (long)i);
}

void copies_wander(lane *l) {
  while (!l->copies.empty() && schedule_chance(4))
    land_one(l, schedule_draw((uint32_t)l->copies.size()));
}

static bool aligned(const void *at, size_t bytes) {
  return ((uintptr_t)at & (bytes - 1)) == 0;
}

static void copy_check(const emulation_site &site, const lane *l, const char *to, const void *from,
                       size_t bytes, size_t zeros) {
  const guarded &shared = l->home->shared;
  if ((bytes != 4 && bytes != 8 && bytes != 16) || zeros > bytes)
    kernel_fail("bad asynchronous copy of %zu bytes, %zu of them zeros, at %s:%d", bytes, zeros,
                site.file, site.line);
  if (!aligned(to, bytes) || !aligned(from, bytes))
    kernel_fail("misaligned asynchronous copy of %zu bytes at %s:%d", bytes, site.file, site.line);
  if (to < shared.data || to + bytes > shared.data + shared.bytes)
    kernel_fail("out of bounds: an asynchronous copy at %s:%d goes to byte %td of %zu bytes of "
                "shared memory",
                site.file, site.line, to - shared.data, shared.bytes);
  if (zeros < bytes && memory_find(from, bytes - zeros) == nullptr)
    kernel_fail("out of bounds: an asynchronous copy at %s:%d reads %zu bytes, %s", site.file,
                site.line, bytes - zeros, memory_describe(from).c_str());
}

} // namespace emulation

using namespace emulation;

extern "C" {

void emulation_copy_issue(emulation_site site, void *shared, const void *global, size_t bytes,
                          size_t zeros) {
  lane *l = lane_here();
  copy_check(site, l, (const char *)shared, global, bytes, zeros);
  poison(shared, bytes);
  l->copies.push_back({(char *)shared, (const char *)global, bytes, zeros, l->group});
  copies_wander(l);
}

void emulation_copy_commit(void) {
  lane_here()->group++;
}

/* Copies that are not committed belong to no group, and no wait covers them. */
void emulation_copy_wait(size_t groups_left) {
  lane *l = lane_here();
  for (size_t i = 0; i < l->copies.size();)
    if (l->copies[i].group + groups_left < l->group)
      land_one(l, i);
    else
      i++;
}
}
