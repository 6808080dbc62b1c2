/* Items whose state is float32: x of float32, float16 or bfloat16, q in two floats. */
#include "ema_cpu.h"

#define NAME(x)      x##_f32
#define REAL         float
#define REAL_TYPE    TYPE_FLOAT32
#define VEC          vector_f32
#define LANES        LANES_F32
#define LOAD         load_f32
#define STORE        store_f32
#define FMA          fma_f32
#define LOAD_TILE    LEVEL(ema_load_f32)
#define FINISH_TILE  LEVEL(ema_finish_f32)
#define ACTIVATE     LEVEL(ema_activate_f32)
#define RELU         relu_f32
#define STREAM       stream_f32
#define STREAMS(f)   (f).stream
#define COEFFICIENTS ema_coefficients_f32
#define TABLES       f32
#define Q_LO(k)      ((k)->q_lo)

#define ADVANCE(q, q_lo, gain, h, x) FMA(q, h, FMA(q_lo, h, (gain) * (x)))

#include "ema_item.h"
