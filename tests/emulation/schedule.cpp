#include "schedule.h"

#include <cstdlib>

#include "call.h"
#include "emulation.h"

namespace emulation {

static bool is_random;
static uint64_t state;

bool schedule_random() {
  return is_random;
}

/* splitmix64 */
static uint64_t next() {
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return z ^ z >> 31;
}

uint32_t schedule_draw(uint32_t count) {
  return (uint32_t)((next() >> 32) * count >> 32);
}

bool schedule_chance(uint32_t times) {
  return is_random && schedule_draw(times) == 0;
}

void schedule_reset() {
  const char *seed = getenv("CUMEGA_EMULATION_SEED");
  is_random = seed != nullptr && *seed != '\0';
  state = is_random ? strtoull(seed, nullptr, 0) : 0;
}

static const bool begun = (schedule_reset(), true);

} // namespace emulation

extern "C" void emulation_set_schedule(emulation_schedule schedule, uint64_t seed) {
  emulation::lock_guard guard;
  emulation::is_random = schedule == EMULATION_RANDOM;
  emulation::state = seed;
  (void)emulation::begun;
}
