/* From v to y: the activation over a tile, then the store. */
#include "ema_cpu.h"

/* One loop per kind, with the kind a constant inside it. count is rounded up to whole vectors,
 * which spares the loops a remainder: tiles have room for it. */
#define ACTIVATE_CASE(enumerator, number, text)                                                    \
  case enumerator:                                                                                 \
    for (int64_t i = 0; i < whole; i++) values[i] = ACTIVATE(enumerator, a, b, values[i]);         \
    break;

#define ACTIVATE activation_apply_f32
static void activate_f32(const activation_f32 *activation, float *restrict values, int64_t count) {
  const int64_t whole = (count + LANES_F32 - 1) / LANES_F32 * LANES_F32;
  const float a = activation->a, b = activation->b;
  switch (activation->kind) { CUMEGA_ACTIVATION_LIST(ACTIVATE_CASE) }
}
#undef ACTIVATE

#define ACTIVATE activation_apply_f64
static void activate_f64(const activation_f64 *activation, double *restrict values, int64_t count) {
  const int64_t whole = (count + LANES_F64 - 1) / LANES_F64 * LANES_F64;
  const double a = activation->a, b = activation->b;
  switch (activation->kind) { CUMEGA_ACTIVATION_LIST(ACTIVATE_CASE) }
}
#undef ACTIVATE

/* Rows that are whole vectors of float32, aligned, in an output much larger than the caches. */
static int can_stream(const cumega_ema *ema, const ema_run *run) {
  const ema_sequences *y = &run->y;
  if (!CAN_STREAM || run->type != TYPE_FLOAT32 || y->stride_d != 1) return 0;
  if ((uintptr_t)y->data % VECTOR_BYTES || y->stride_t % LANES_F32 || y->stride_b % LANES_F32)
    return 0;
  int64_t rows = run->L * (run->packed ? 1 : run->B);
  return rows >= STREAM_BYTES / (int64_t)sizeof(float) / ema->config.size;
}

ema_finish LEVEL(ema_finish_of)(const cumega_ema *ema, const ema_run *run) {
  ema_finish finish = {run->raw, can_stream(ema, run), activation_resolve_f32(&ema->config),
                       activation_resolve_f64(&ema->config)};
  return finish;
}

static void stream_tile(const ema_place *place, const float *v) {
  float *to = (float *)place->tensor->data + place->offset;
  for (int64_t t = 0; t < place->steps; t++)
    stream_f32(to + t * place->tensor->stride_t, load_f32(v + t * LANES_F32));
}

void LEVEL(ema_finish_f32)(const ema_finish *finish, const ema_place *place, float *v) {
  if (!finish->raw) activate_f32(&finish->f32, v, place->steps * LANES_F32);
  if (finish->stream && place->channels == LANES_F32)
    stream_tile(place, v);
  else
    LEVEL(ema_store_f32)(place, v, LANES_F32);
}

void LEVEL(ema_finish_f64)(const ema_finish *finish, const ema_place *place, double *v) {
  int64_t count = place->steps * LANES_F64;
  if (place->type == TYPE_FLOAT64) {
    if (!finish->raw) activate_f64(&finish->f64, v, count);
    LEVEL(ema_store_f64)(place, v);
    return;
  }
  float narrow[TILE_STEPS * LANES_F64];
  memset(narrow + count / LANES_F32 * LANES_F32, 0,
         LANES_F32 * sizeof *narrow * (count % LANES_F32 != 0));
  for (int64_t i = 0; i < count; i++) narrow[i] = (float)v[i];
  if (!finish->raw) activate_f32(&finish->f32, narrow, count);
  LEVEL(ema_store_f32)(place, narrow, LANES_F64);
}
