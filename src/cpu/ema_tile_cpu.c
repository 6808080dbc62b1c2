/* Tiles between the caller's memory and ours. A tensor may have any strides; channels or
 * time with stride 1 get loops that the compiler turns into vector moves. */
#include "../math/float16.h"
#include "ema_cpu.h"

/* Runs COPY over a tile's elements, channels or time innermost, whichever is contiguous in the
 * tensor. Whole tiles have their own loop, of constant length. */
#define FOR_TILE(place, lanes, COPY)                                                               \
  do {                                                                                             \
    const int64_t steps = (place)->steps, channels = (place)->channels;                            \
    const int64_t stride_t = (place)->tensor->stride_t, stride_d = (place)->tensor->stride_d;      \
    if (stride_d == 1 && channels == (lanes))                                                      \
      for (int64_t t = 0; t < steps; t++)                                                          \
        for (int64_t c = 0; c < (lanes); c++) COPY(t *stride_t + c, t * (lanes) + c);              \
    else if (stride_t == 1)                                                                        \
      for (int64_t c = 0; c < channels; c++)                                                       \
        for (int64_t t = 0; t < steps; t++) COPY(t + c * stride_d, t * (lanes) + c);               \
    else                                                                                           \
      for (int64_t t = 0; t < steps; t++)                                                          \
        for (int64_t c = 0; c < channels; c++) COPY(t *stride_t + c * stride_d, t * (lanes) + c);  \
  } while (0)

#define DEFINE_LOAD(name, element, real, lanes, widen)                                             \
  static void name(const ema_place *place, real *restrict tile) {                                  \
    const element *from = (const element *)place->tensor->data + place->offset;                    \
    if (place->channels < (lanes))                                                                 \
      memset(tile, 0, (size_t)(place->steps * (lanes)) * sizeof *tile);                            \
    FOR_TILE(place, lanes, LOAD_ONE_##widen);                                                      \
  }

#define LOAD_ONE_unchanged(at, to)         (tile[to] = from[at])
#define LOAD_ONE_float16_to_float(at, to)  (tile[to] = float16_to_float(from[at]))
#define LOAD_ONE_bfloat16_to_float(at, to) (tile[to] = bfloat16_to_float(from[at]))

DEFINE_LOAD(load_float32_f32, float, float, LANES_F32, unchanged)
DEFINE_LOAD(load_float16_f32, uint16_t, float, LANES_F32, float16_to_float)
DEFINE_LOAD(load_bfloat16_f32, uint16_t, float, LANES_F32, bfloat16_to_float)
DEFINE_LOAD(load_float32_f64, float, double, LANES_F64, unchanged)
DEFINE_LOAD(load_float16_f64, uint16_t, double, LANES_F64, float16_to_float)
DEFINE_LOAD(load_bfloat16_f64, uint16_t, double, LANES_F64, bfloat16_to_float)
DEFINE_LOAD(load_float64_f64, double, double, LANES_F64, unchanged)

void LEVEL(ema_load_f32)(const ema_place *place, float *tile) {
  switch (place->type) {
  case TYPE_FLOAT16: load_float16_f32(place, tile); break;
  case TYPE_BFLOAT16: load_bfloat16_f32(place, tile); break;
  default: load_float32_f32(place, tile); break;
  }
}

void LEVEL(ema_load_f64)(const ema_place *place, double *tile) {
  switch (place->type) {
  case TYPE_FLOAT16: load_float16_f64(place, tile); break;
  case TYPE_BFLOAT16: load_bfloat16_f64(place, tile); break;
  case TYPE_FLOAT32: load_float32_f64(place, tile); break;
  default: load_float64_f64(place, tile); break;
  }
}

#define DEFINE_STORE(name, element, real, lanes, narrow)                                           \
  static void name(const ema_place *place, const real *restrict tile) {                            \
    element *to = (element *)place->tensor->data + place->offset;                                  \
    FOR_TILE(place, lanes, STORE_ONE_##narrow);                                                    \
  }

#define STORE_ONE_unchanged(at, from)         (to[at] = tile[from])
#define STORE_ONE_float_to_float16(at, from)  (to[at] = float_to_float16(tile[from]))
#define STORE_ONE_float_to_bfloat16(at, from) (to[at] = float_to_bfloat16(tile[from]))

#define DEFINE_FLOAT_STORES(lanes)                                                                 \
  DEFINE_STORE(store_float32_##lanes, float, float, lanes, unchanged)                              \
  DEFINE_STORE(store_float16_##lanes, uint16_t, float, lanes, float_to_float16)                    \
  DEFINE_STORE(store_bfloat16_##lanes, uint16_t, float, lanes, float_to_bfloat16)                  \
  static void store_##lanes(const ema_place *place, const float *tile) {                           \
    switch (place->type) {                                                                         \
    case TYPE_FLOAT16: store_float16_##lanes(place, tile); break;                                  \
    case TYPE_BFLOAT16: store_bfloat16_##lanes(place, tile); break;                                \
    default: store_float32_##lanes(place, tile); break;                                            \
    }                                                                                              \
  }

DEFINE_FLOAT_STORES(LANES_F32)
DEFINE_FLOAT_STORES(LANES_F64)
DEFINE_STORE(store_float64, double, double, LANES_F64, unchanged)

void LEVEL(ema_store_f32)(const ema_place *place, const float *tile, int lanes) {
  if (lanes == LANES_F32)
    store_LANES_F32(place, tile);
  else
    store_LANES_F64(place, tile);
}

void LEVEL(ema_store_f64)(const ema_place *place, const double *tile) {
  store_float64(place, tile);
}

void LEVEL(ema_zero)(const ema_place *place) {
  const ema_sequences *s = place->tensor;
  int64_t bytes = tensor_type_bytes(place->type);
  char *to = (char *)s->data + place->offset * bytes;
  for (int64_t t = 0; t < place->steps; t++, to += s->stride_t * bytes) {
    if (s->stride_d == 1)
      memset(to, 0, (size_t)(place->channels * bytes));
    else
      for (int64_t c = 0; c < place->channels; c++)
        memset(to + c * s->stride_d * bytes, 0, (size_t)bytes);
  }
}
