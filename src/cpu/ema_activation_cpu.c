/* Applies an activation function to the EMA's results. Each function has its own loop, so that the
 * compiler vectorises it. */
#include "ema_cpu.h"

#define ACTIVATE_CASE(enumerator, number, text)                                                   \
  case enumerator:                                                                                \
    _Pragma("GCC unroll 4") for (int64_t t = 0; t < rows; t++) for (int i = 0; i < LANES; i++)    \
        v[t * pitch + i] = APPLY(enumerator, a, b, v[t * pitch + i]);                             \
    break;

#define LANES (VECTOR_BYTES / 4)
#define APPLY activation_apply_f32
void LEVEL(ema_activate_f32)(const activation_f32 *activation, float *v, int64_t rows,
                             int64_t pitch) {
  const float a = activation->a, b = activation->b;
  switch ((cumega_activation)activation->kind) { CUMEGA_ACTIVATION_LIST(ACTIVATE_CASE) }
}
#undef LANES
#undef APPLY

#define LANES (VECTOR_BYTES / 8)
#define APPLY activation_apply_f64
void LEVEL(ema_activate_f64)(const activation_f64 *activation, double *v, int64_t rows,
                             int64_t pitch) {
  const double a = activation->a, b = activation->b;
  switch ((cumega_activation)activation->kind) { CUMEGA_ACTIVATION_LIST(ACTIVATE_CASE) }
}
