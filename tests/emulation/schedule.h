/* The only source of chance. The fixed schedule leaves nothing to it. */
#ifndef EMULATION_SCHEDULE_H
#define EMULATION_SCHEDULE_H

#include <cstdint>

namespace emulation {

bool schedule_random();
uint32_t schedule_draw(uint32_t count); /* 0 .. count - 1; count >= 1 */

/* True once in `times`; never in the fixed schedule. */
bool schedule_chance(uint32_t times);

/* Whether work in streams that the host does not wait for should run a little now. Some seeds are
 * eager and some are lazy, so that both kinds of surprise occur. */
bool schedule_eager();

void schedule_reset();

} // namespace emulation

#endif
