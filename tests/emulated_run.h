/* Small runs of the EMA on emulated CUDA whose tensors are in memory of the test's own CUDA, with the
 * CPU's answer beside. The calls are the library's own, without staging. */
#ifndef CUMEGA_TESTS_EMULATED_RUN_H
#define CUMEGA_TESTS_EMULATED_RUN_H

#include <cuda_runtime_api.h>
#define CUMEGA_TESTS_EMA_DEVICE_INSIDE
#include "counting_allocator.h"
#include "ema_harness.h"
#include "emulation.h"

/* What a run is like; L 0 makes it a step. */
typedef struct run_shape {
  const char *name;
  int64_t L, B, D, N;
  DLDataType dtype, state_dtype;
  int packed; /* (L * B, D) with offsets, else padded with lengths; not for a step */
  int pooled; /* states lie in pools, by slots */
  int masked;
  int64_t truncation; /* 0: none; otherwise without states */
  cumega_ema_algorithm algorithm;
  const char *kernel; /* a part of its name */
} run_shape;

/* One shape of each kernel and path, small. */
extern const run_shape run_shapes[];
extern const int run_shape_count;

enum { RUN_X, RUN_Y, RUN_INITIAL, RUN_FINAL, RUN_LENGTHS, RUN_FROM, RUN_TO, RUN_MASK, RUN_TENSORS };

typedef struct emulated_run {
  const run_shape *shape;
  cumega_ema_config config;
  cumega_tensor views[RUN_TENSORS]; /* data on the device, NULL where absent */
  unsigned char *host[RUN_TENSORS]; /* what was given */
  unsigned char
      *right[RUN_TENSORS]; /* of y and final_state, by the CPU; CHUNKED, which it has not, by
                                        a run of its own */
  int64_t bytes[RUN_TENSORS];
  cumega_ema_io io;
} emulated_run;

/* Given values depend on seed; the EMA is the one of `config` with the default parameters. */
emulated_run *emulated_run_new(const run_shape *shape, uint64_t seed);
void emulated_run_free(emulated_run *run);

/* Other values, and other lengths and slots, at the same addresses. */
void emulated_run_refill(emulated_run *run, uint64_t seed);

/* y and final_state become a pattern; whether they still are; whether they are the CPU's. */
void emulated_run_clear(emulated_run *run);
int emulated_run_is_clear(const emulated_run *run);
int emulated_run_is_right(const emulated_run *run);

cumega_status emulated_run_start(cumega_context *ctx, const cumega_ema *ema, emulated_run *run);

/* A context on emulated CUDA; NULL with the status where it fails. allocator and stream may be NULL. */
cumega_context *emulated_context(counting_allocator *ledger, cudaStream_t stream,
                                 cumega_status *status);

/* The driver's context that is current in this thread, and another one: as a program's own. */
struct CUctx_st *current_context(void);
void set_current_context(struct CUctx_st *context);

#endif
