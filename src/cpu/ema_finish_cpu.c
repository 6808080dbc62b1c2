/* From v to y: the activation over a tile, then the store. */
#include "ema_cpu.h"

/* One loop per kind but the identity, with the kind a constant inside it, over `rows` vectors that
 * lie `pitch` apart. */
#define ACTIVATE_IF(enumerator, number, text)                                                      \
  if ((enumerator) != CUMEGA_ACTIVATION_IDENTITY && activation->kind == (enumerator)) {            \
    _Pragma("GCC unroll 4") for (int64_t t = 0; t < rows; t++) for (int i = 0; i < LANES; i++)     \
        values[t * pitch + i] = ACTIVATE(enumerator, a, b, values[t * pitch + i]);                 \
  }

#define ACTIVATE activation_apply_f32
#define LANES    LANES_F32
static void activate_f32(const activation_f32 *activation, float *values, int64_t rows,
                         int64_t pitch) {
  const float a = activation->a, b = activation->b;
  CUMEGA_ACTIVATION_LIST(ACTIVATE_IF)
}
#undef ACTIVATE
#undef LANES

#define ACTIVATE activation_apply_f64
#define LANES    LANES_F64
static void activate_f64(const activation_f64 *activation, double *values, int64_t rows,
                         int64_t pitch) {
  const double a = activation->a, b = activation->b;
  CUMEGA_ACTIVATION_LIST(ACTIVATE_IF)
}
#undef ACTIVATE
#undef LANES

void LEVEL(ema_activate_f32)(const ema_finish *finish, float *v, int64_t rows, int64_t pitch) {
  if (!finish->raw) activate_f32(&finish->activation_f32, v, rows, pitch);
}

void LEVEL(ema_activate_f64)(const ema_finish *finish, double *v, int64_t rows, int64_t pitch) {
  if (!finish->raw && !finish->narrows) activate_f64(&finish->activation_f64, v, rows, pitch);
}

/* Rows that are whole vectors of float32, aligned, in an output much larger than the caches. */
static int can_stream(const cumega_ema *ema, const ema_run *run) {
  const ema_sequences *y = &run->y;
  if (!CAN_STREAM || run->type != TYPE_FLOAT32 || y->stride_d != 1) return 0;
  if ((uintptr_t)y->data % VECTOR_BYTES || y->stride_t % LANES_F32 || y->stride_b % LANES_F32)
    return 0;
  int64_t elements = run->L * (run->packed ? 1 : run->B) * ema->config.size;
  return elements >= EMA_STREAM_BYTES / (int64_t)sizeof(float);
}

ema_finish LEVEL(ema_finish_of)(const cumega_ema *ema, const ema_run *run) {
  return (ema_finish){run->raw, can_stream(ema, run),
                      ema->tables.f64.q != NULL && run->type != TYPE_FLOAT64,
                      activation_resolve_f32(&ema->config), activation_resolve_f64(&ema->config)};
}

/* channels is a whole number of vectors. */
static void stream_tile(const ema_place *place, const float *v) {
  float *to = (float *)place->tensor->data + place->offset;
  for (int64_t t = 0; t < place->steps; t++)
    for (int64_t c = 0; c < place->channels; c += LANES_F32)
      stream_f32(to + t * place->tensor->stride_t + c, load_f32(v + t * place->channels + c));
}

void LEVEL(ema_finish_f32)(const ema_finish *finish, const ema_place *place, float *v,
                           int64_t width) {
  if (finish->stream && place->channels == width)
    stream_tile(place, v);
  else
    LEVEL(ema_store_f32)(place, v, width);
}

void LEVEL(ema_finish_f64)(const ema_finish *finish, const ema_place *place, double *v,
                           int64_t width) {
  if (!finish->narrows) {
    LEVEL(ema_store_f64)(place, v, width);
    return;
  }
  float narrow[TILE_ELEMENTS];
  const int64_t count = place->steps * width, rows = (count + LANES_F32 - 1) / LANES_F32;
  memset(narrow + (rows - 1) * LANES_F32, 0, LANES_F32 * sizeof *narrow);
  for (int64_t i = 0; i < count; i++) narrow[i] = (float)v[i];
  LEVEL(ema_activate_f32)(finish, narrow, rows, LANES_F32);
  LEVEL(ema_store_f32)(place, narrow, width);
}
