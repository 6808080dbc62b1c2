/* Where a kernel's thread is. Only one fiber runs at a time, so one pointer tells which. */
#ifndef EMULATION_PLACE_H
#define EMULATION_PLACE_H

#include <vector_types.h>

typedef struct emulation_place {
  uint3 thread, block;
  dim3 block_size, grid_size;
} emulation_place;

extern const emulation_place *emulation_here; /* NULL outside kernels */

static const int warpSize = 32;

#define threadIdx (emulation_here->thread)
#define blockIdx  (emulation_here->block)
#define blockDim  (emulation_here->block_size)
#define gridDim   (emulation_here->grid_size)

extern "C" {
/* The block's dynamic shared memory, exactly as large as the launch requested. */
void *emulation_shared(void);

/* A loop that waits for another thread's write calls this in each round, so that others run. */
void emulation_yield(void);
}

static inline void __nanosleep(unsigned int) {
  emulation_yield();
}

#endif
