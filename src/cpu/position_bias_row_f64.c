/* Rows of float64 scores. */
#include "../math/elementary_f64.h"
#include "position_bias_cpu.h"

#define NAME(x)      x##_f64
#define REAL         double
#define VEC          vector_f64
#define LANES        LANES_F64
#define LOAD         load_f64
#define STORE        store_f64
#define FMA          fma_f64
#define MAX          max_f64
#define SCALAR_FMA   __builtin_fma
#define EXP          math_exp
#define TABLE        f64
#define UNCHANGED(x) (x)

#define LOAD_TYPES(LOAD_ROW)   LOAD_ROW(double, UNCHANGED);
#define STORE_TYPES(STORE_ROW) STORE_ROW(double, UNCHANGED);

#include "position_bias_row.h"
