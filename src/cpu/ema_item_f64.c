/* Items whose state is float64: x of any type, q in one double. */
#include "ema_cpu.h"

#define NAME(x)      x##_f64
#define REAL         double
#define REAL_TYPE    TYPE_FLOAT64
#define VEC          vector_f64
#define LANES        LANES_F64
#define LOAD         load_f64
#define STORE        store_f64
#define FMA          fma_f64
#define LOAD_TILE    LEVEL(ema_load_f64)
#define FINISH_TILE  LEVEL(ema_finish_f64)
#define ACTIVATE     LEVEL(ema_activate_f64)
#define RELU         relu_f64
#define STREAM       STORE /* not used: stores past the caches are for float32 */
#define STREAMS(f)   0
#define COEFFICIENTS ema_coefficients_f64
#define TABLES       f64
#define Q_LO(k)      ((k)->q) /* there is none, and ADVANCE does not use it */

#define ADVANCE(q, q_lo, gain, h, x) ((void)(q_lo), FMA(q, h, (gain) * (x)))

#include "ema_item.h"
