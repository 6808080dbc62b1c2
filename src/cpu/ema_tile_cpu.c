/* Tiles between the caller's memory and ours. A tensor may have any strides; channels or
 * time with stride 1 get loops that the compiler turns into vector moves. */
#include "../math/float16.h"
#include "ema_cpu.h"

/* Runs COPY over a tile's elements, channels or time innermost, whichever is contiguous in the
 * tensor. A tile of the full width has its own loop, of constant length. */
#define FOR_TILE(place, width, COPY)                                                               \
  do {                                                                                             \
    const int64_t steps = (place)->steps, channels = (place)->channels;                            \
    const int64_t stride_t = (place)->tensor->stride_t, stride_d = (place)->tensor->stride_d;      \
    if (stride_d == 1 && channels == TILE_CHANNELS)                                                \
      for (int64_t t = 0; t < steps; t++)                                                          \
        for (int64_t c = 0; c < TILE_CHANNELS; c++) COPY(t *stride_t + c, t * TILE_CHANNELS + c);  \
    else if (stride_t == 1)                                                                        \
      for (int64_t c = 0; c < channels; c++)                                                       \
        for (int64_t t = 0; t < steps; t++) COPY(t + c * stride_d, t * (width) + c);               \
    else                                                                                           \
      for (int64_t t = 0; t < steps; t++)                                                          \
        for (int64_t c = 0; c < channels; c++) COPY(t *stride_t + c * stride_d, t * (width) + c);  \
  } while (0)

#define LOAD_UNCHANGED(at, to) (tile[to] = from[at])
#define LOAD_FLOAT16(at, to)   (tile[to] = float16_to_float(from[at]))
#define LOAD_BFLOAT16(at, to)  (tile[to] = bfloat16_to_float(from[at]))

#define DEFINE_LOAD(name, element, real, LOAD_ONE)                                                 \
  static void name(const ema_place *place, real *restrict tile, int64_t width) {                   \
    const element *from = (const element *)place->tensor->data + place->offset;                    \
    if (place->channels < width) memset(tile, 0, (size_t)(place->steps * width) * sizeof *tile);   \
    FOR_TILE(place, width, LOAD_ONE);                                                              \
  }

DEFINE_LOAD(load_float32_f32, float, float, LOAD_UNCHANGED)
DEFINE_LOAD(load_float16_f32, uint16_t, float, LOAD_FLOAT16)
DEFINE_LOAD(load_bfloat16_f32, uint16_t, float, LOAD_BFLOAT16)
DEFINE_LOAD(load_float32_f64, float, double, LOAD_UNCHANGED)
DEFINE_LOAD(load_float16_f64, uint16_t, double, LOAD_FLOAT16)
DEFINE_LOAD(load_bfloat16_f64, uint16_t, double, LOAD_BFLOAT16)
DEFINE_LOAD(load_float64_f64, double, double, LOAD_UNCHANGED)

void LEVEL(ema_load_f32)(const ema_place *place, float *tile, int64_t width) {
  switch (place->type) {
  case TYPE_FLOAT16: load_float16_f32(place, tile, width); break;
  case TYPE_BFLOAT16: load_bfloat16_f32(place, tile, width); break;
  default: load_float32_f32(place, tile, width); break;
  }
}

void LEVEL(ema_load_f64)(const ema_place *place, double *tile, int64_t width) {
  switch (place->type) {
  case TYPE_FLOAT16: load_float16_f64(place, tile, width); break;
  case TYPE_BFLOAT16: load_bfloat16_f64(place, tile, width); break;
  case TYPE_FLOAT32: load_float32_f64(place, tile, width); break;
  default: load_float64_f64(place, tile, width); break;
  }
}

#define STORE_UNCHANGED(at, from) (to[at] = tile[from])
#define STORE_FLOAT16(at, from)   (to[at] = float_to_float16(tile[from]))
#define STORE_BFLOAT16(at, from)  (to[at] = float_to_bfloat16(tile[from]))

#define DEFINE_STORE(name, element, real, STORE_ONE)                                               \
  static void name(const ema_place *place, const real *restrict tile, int64_t width) {             \
    element *to = (element *)place->tensor->data + place->offset;                                  \
    FOR_TILE(place, width, STORE_ONE);                                                             \
  }

DEFINE_STORE(store_float32, float, float, STORE_UNCHANGED)
DEFINE_STORE(store_float16, uint16_t, float, STORE_FLOAT16)
DEFINE_STORE(store_bfloat16, uint16_t, float, STORE_BFLOAT16)
DEFINE_STORE(store_float64, double, double, STORE_UNCHANGED)

void LEVEL(ema_store_f32)(const ema_place *place, const float *tile, int64_t width) {
  switch (place->type) {
  case TYPE_FLOAT16: store_float16(place, tile, width); break;
  case TYPE_BFLOAT16: store_bfloat16(place, tile, width); break;
  default: store_float32(place, tile, width); break;
  }
}

void LEVEL(ema_store_f64)(const ema_place *place, const double *tile, int64_t width) {
  store_float64(place, tile, width);
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
