/* Items of residual connections in float32: tensors of float32, float16 and bfloat16. */
#include "residual_cpu.h"

#define NAME(x)           x##_f32
#define REAL              float
#define REAL_TYPE         TYPE_FLOAT32
#define VEC               vector_f32
#define LANES             LANES_F32
#define LOAD              load_f32
#define STORE             store_f32
#define STREAM            stream_f32
#define IS_NARROW(plan)   (plan)->narrow
#define FMA               fma_f32
#define FMA1              MATH_FMAF
#define SPLAT(v)          ((v) - (VEC){0})
#define LOAD_ELEMENTS     LEVEL(residual_load_f32)
#define STORE_ELEMENTS    LEVEL(residual_store_f32)
#define ROUND(type, n, v) LEVEL(residual_round_f32)(type, n, v)
#define TABLE             f32
#define PRODUCT_ROWS      PRODUCT_ROWS_F32

#include "residual_item.h"
