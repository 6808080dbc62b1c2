/* What the EMA's launchers share: they choose which instance of a kernel runs. A file first
 * defines INSTANCE, which launches one instance and returns. It then uses these macros in a
 * function with parameters `launch` and `kernel`. Without an instance they return
 * cudaErrorInvalidValue. */
#ifndef CUMEGA_SRC_CUDA_EMA_CHOICE_CUH
#define CUMEGA_SRC_CUDA_EMA_CHOICE_CUH

#include "element.cuh"
#include "ema_cuda.h"

/* ---- fast kernels: INSTANCE(HEADS, TYPE, KIND), float32 states ---- */

/* Identity, ReLU and swish have their own instances. KIND -1 is for all others and looks the
 * activation up. -2 means that there is no such activation. */
static inline int ema_kind(const ema_launch *launch) {
  switch (launch->run.finish_f32.kind) {
  case CUMEGA_ACTIVATION_IDENTITY: return 0;
  case CUMEGA_ACTIVATION_RELU: return 1;
  case CUMEGA_ACTIVATION_SWISH: return 2;
  case CUMEGA_ACTIVATION_TANH:
  case CUMEGA_ACTIVATION_LEAKY_RELU:
  case CUMEGA_ACTIVATION_HARDTANH:
  case CUMEGA_ACTIVATION_SELU:
  case CUMEGA_ACTIVATION_MISH:
  case CUMEGA_ACTIVATION_SMISH:
  case CUMEGA_ACTIVATION_FTSWISH: return -1;
  default: return -2;
  }
}
static_assert(CUMEGA_ACTIVATION_IDENTITY == 0 && CUMEGA_ACTIVATION_RELU == 1 &&
                  CUMEGA_ACTIVATION_SWISH == 2,
              "an instance's KIND is its activation's number");

#define LAUNCH_BY_KIND(HEADS, TYPE)                                                               \
  switch (ema_kind(launch)) {                                                                     \
  case 0: INSTANCE(HEADS, TYPE, 0);                                                               \
  case 1: INSTANCE(HEADS, TYPE, 1);                                                               \
  case 2: INSTANCE(HEADS, TYPE, 2);                                                               \
  case -1: INSTANCE(HEADS, TYPE, -1);                                                             \
  default: return cudaErrorInvalidValue;                                                          \
  }

/* By the type of x and y. float64 tensors have float64 states. */
#define LAUNCH_FLOAT(BY, HEADS)                                                                   \
  switch (launch->run.type) {                                                                     \
  case TYPE_FLOAT32: BY(HEADS, TYPE_FLOAT32);                                                     \
  case TYPE_FLOAT16: BY(HEADS, TYPE_FLOAT16);                                                     \
  case TYPE_BFLOAT16: BY(HEADS, TYPE_BFLOAT16);                                                   \
  case TYPE_FLOAT64:                                                                              \
  default: return cudaErrorInvalidValue;                                                          \
  }

/* ---- kernels for any type of state: function<REAL, TYPE>, then INSTANCE(HEADS) ---- */

#define LAUNCH_CHAIN_CASES(REAL, function, ...)                                                   \
  case TYPE_FLOAT32: return function<REAL, TYPE_FLOAT32>(__VA_ARGS__);                            \
  case TYPE_FLOAT16: return function<REAL, TYPE_FLOAT16>(__VA_ARGS__);                            \
  case TYPE_BFLOAT16: return function<REAL, TYPE_BFLOAT16>(__VA_ARGS__);

/* Returns function<REAL, TYPE>(...) for the types of the states and the tensors. */
#define LAUNCH_BY_CHAIN(launch, function, ...)                                                    \
  if (ema_kind(launch) == -2) return cudaErrorInvalidValue;                                       \
  if ((launch)->run.is_double) switch ((launch)->run.type) {                                      \
      LAUNCH_CHAIN_CASES(double, function, __VA_ARGS__)                                           \
    case TYPE_FLOAT64: return function<double, TYPE_FLOAT64>(__VA_ARGS__);                        \
    default: return cudaErrorInvalidValue;                                                        \
    }                                                                                             \
  switch ((launch)->run.type) {                                                                   \
    LAUNCH_CHAIN_CASES(float, function, __VA_ARGS__)                                              \
  case TYPE_FLOAT64:                                                                              \
  default: return cudaErrorInvalidValue;                                                          \
  }

#define LAUNCH_BY_HEADS(heads)                                                                    \
  if ((heads) <= 1) INSTANCE(1);                                                                  \
  if ((heads) <= 2) INSTANCE(2);                                                                  \
  if ((heads) <= 4) INSTANCE(4);                                                                  \
  if ((heads) <= 8) INSTANCE(8);                                                                  \
  if ((heads) <= 16) INSTANCE(16);                                                                \
  return cudaErrorInvalidValue

/* The name of an instance for states of REAL. */
#define CHAIN_NAME(kernel, HEADS)                                                                 \
  (sizeof(REAL) == sizeof(float) ? kernel "<float," #HEADS ">" : kernel "<double," #HEADS ">")

/* ---- grids ---- */

/* A unit is `channels` channels of a sequence or slice. A block takes `units` of them at a
 * time. */
static inline dim3 grid_of_units(const ema_launch *launch, int64_t channels, int64_t units) {
  return grid_of(ema_sequence_count(launch), parts_of(launch->run.channels, channels), units,
                 EMA_MOST_BLOCKS);
}

/* Whether x can be copied 16 bytes at a time: channels are adjacent in x and y, and every step of
 * x begins at a multiple of 16 bytes and is a whole number of them. */
static inline bool ema_has_vectors(const ema_launch *launch) {
  const ema_run *run = &launch->run;
  const int64_t bytes = run->type == TYPE_FLOAT32 ? 4 : 2;
  const int64_t strides = (run->x.stride_t | run->x.stride_b | launch->run.channels) * bytes;
  return run->x.stride_d == 1 && run->y.stride_d == 1 &&
         (uintptr_t)run->x.data % VECTOR_BYTES == 0 && strides % VECTOR_BYTES == 0;
}

static inline int64_t real_bytes(const ema_launch *launch) {
  return launch->run.is_double ? sizeof(double) : sizeof(float);
}

#endif
