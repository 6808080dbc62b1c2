/* Which instance of a kernel runs, and how many blocks: what the fast kernels of the EMA share on the
 * host's side. A file that includes this defines LAUNCH(HEADS, TYPE, KIND) before it uses the two. */
#ifndef CUMEGA_SRC_CUDA_EMA_CHOICE_CUH
#define CUMEGA_SRC_CUDA_EMA_CHOICE_CUH

#include "ema_cuda.h"
#include "launch.h"

#define MOST_BLOCKS CUMEGA_MOST_BLOCKS((int64_t)1 << 20)

/* The activations that take part in the choice of a kernel; the others share one with a switch. */
#define LAUNCH_BY_KIND(HEADS, TYPE)                                                                \
  switch (launch->finish_f32.kind) {                                                               \
  case CUMEGA_ACTIVATION_IDENTITY: LAUNCH(HEADS, TYPE, 0);                                         \
  case CUMEGA_ACTIVATION_RELU: LAUNCH(HEADS, TYPE, 1);                                             \
  case CUMEGA_ACTIVATION_SWISH: LAUNCH(HEADS, TYPE, 2);                                            \
  default: LAUNCH(HEADS, TYPE, -1);                                                                \
  }
static_assert(CUMEGA_ACTIVATION_IDENTITY == 0 && CUMEGA_ACTIVATION_RELU == 1 &&
                  CUMEGA_ACTIVATION_SWISH == 2,
              "the kernels' names say the activation's number");

#define LAUNCH_BY_TYPE_AND_KIND(HEADS)                                                             \
  switch (launch->run.type) {                                                                      \
  case TYPE_FLOAT16: LAUNCH_BY_KIND(HEADS, TYPE_FLOAT16);                                          \
  case TYPE_BFLOAT16: LAUNCH_BY_KIND(HEADS, TYPE_BFLOAT16);                                        \
  default: LAUNCH_BY_KIND(HEADS, TYPE_FLOAT32);                                                    \
  }

/* A unit is `channels` channels of a sequence or slice; a block takes `units` of them at a time. */
static inline dim3 grid_of_units(const ema_launch *launch, int64_t channels, int64_t units) {
  const int64_t groups = (launch->channels + channels - 1) / channels;
  const int64_t sequences = ema_sequence_count(launch);
  const bool is_large = sequences > MOST_BLOCKS * units / groups;
  return dim3((unsigned)(is_large ? MOST_BLOCKS : (sequences * groups + units - 1) / units));
}

#endif
