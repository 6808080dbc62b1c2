/* Asynchronous copies from global to shared memory. The destination is poisoned when a copy is
 * issued. The copy lands at the thread's wait for it, or in random schedules at any earlier
 * moment, and reads its source only then. */
#ifndef EMULATION_CUDA_PIPELINE_PRIMITIVES_H
#define EMULATION_CUDA_PIPELINE_PRIMITIVES_H

#include <stddef.h>
#include "emulation_collectives.h"

extern "C" {
void emulation_copy_issue(emulation_site site, void *shared, const void *global, size_t bytes,
                          size_t zeros);
void emulation_copy_commit(void);
void emulation_copy_wait(size_t groups_left);
}

static inline void __pipeline_memcpy_async(void *shared, const void *global, size_t bytes,
                                           size_t zeros = 0, EMULATION_AT) {
  emulation_copy_issue(EMULATION_SITE("__pipeline_memcpy_async"), shared, global, bytes, zeros);
}
static inline void __pipeline_commit() {
  emulation_copy_commit();
}
static inline void __pipeline_wait_prior(size_t groups_left) {
  emulation_copy_wait(groups_left);
}

#endif
