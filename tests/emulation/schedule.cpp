#include "schedule.h"

#include <cstdlib>

#include "call.h"
#include "emulation.h"

namespace emulation {

static bool is_random;
static uint64_t state;
static uint32_t reluctance;

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

bool schedule_eager() {
  return schedule_chance(reluctance);
}

static void begin(bool random, uint64_t seed) {
  static const uint32_t temperaments[] = {2, 10, 50};
  is_random = random;
  state = seed;
  reluctance = temperaments[schedule_draw(3)];
}

void schedule_reset() {
  const char *seed = getenv("CUMEGA_EMULATION_SEED");
  const bool random = seed != nullptr && *seed != '\0';
  begin(random, random ? strtoull(seed, nullptr, 0) : 0);
}

static const bool begun = (schedule_reset(), true);

} // namespace emulation

extern "C" void emulation_set_schedule(emulation_schedule schedule, uint64_t seed) {
  emulation::lock_guard guard;
  emulation::begin(schedule == EMULATION_RANDOM, seed);
  (void)emulation::begun;
}
