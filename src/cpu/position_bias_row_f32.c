/* Rows of float32, float16 or bfloat16 scores: float32 inside. */
#include "../math/elementary_f32.h"
#include "../math/float16.h"
#include "position_bias_cpu.h"

#define NAME(x)      x##_f32
#define REAL         float
#define VEC          vector_f32
#define LANES        LANES_F32
#define LOAD         load_f32
#define STORE        store_f32
#define FMA          fma_f32
#define MAX          max_f32
#define SCALAR_FMA   __builtin_fmaf
#define EXP          math_expf
#define TABLE        f32
#define UNCHANGED(x) (x)

#define LOAD_TYPES(LOAD_ROW)                                                                       \
  switch (run->type) {                                                                             \
  case TYPE_FLOAT16: LOAD_ROW(uint16_t, float16_to_float); break;                                  \
  case TYPE_BFLOAT16: LOAD_ROW(uint16_t, bfloat16_to_float); break;                                \
  default: LOAD_ROW(float, UNCHANGED); break;                                                      \
  }
#define STORE_TYPES(STORE_ROW)                                                                     \
  switch (run->type) {                                                                             \
  case TYPE_FLOAT16: STORE_ROW(uint16_t, float_to_float16); break;                                 \
  case TYPE_BFLOAT16: STORE_ROW(uint16_t, float_to_bfloat16); break;                               \
  default: STORE_ROW(float, UNCHANGED); break;                                                     \
  }

#include "position_bias_row.h"
