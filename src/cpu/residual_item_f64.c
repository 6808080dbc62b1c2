/* Items of residual connections in float64. */
#include "residual_cpu.h"

#define NAME(x)           x##_f64
#define REAL              double
#define REAL_TYPE         TYPE_FLOAT64
#define VEC               vector_f64
#define LANES             LANES_F64
#define LOAD              load_f64
#define STORE             store_f64
#define STREAM            stream_f64
#define IS_NARROW(plan)   0 /* 16 bits are computed in float */
#define FMA               fma_f64
#define FMA1              MATH_FMA
#define SPLAT(v)          ((v) - (VEC){0})
#define LOAD_ELEMENTS     LEVEL(residual_load_f64)
#define STORE_ELEMENTS    LEVEL(residual_store_f64)
#define ROUND(type, n, v) ((void)(type), (void)(n), (void)(v)) /* stored as it is */
#define TABLE             f64
#define PRODUCT_ROWS      PRODUCT_ROWS_F64

#include "residual_item.h"
