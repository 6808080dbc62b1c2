/* Tiles between the caller's memory and ours. A tensor may have any strides; channels or
 * time with stride 1 get loops that the compiler turns into vector moves. */
#include "../math/float16.h"
#include "ema_cpu.h"

static inline float float_to_float(float x) {
  return x;
}
static inline double double_to_double(double x) {
  return x;
}
static inline double float16_to_double(uint16_t x) {
  return float16_to_float(x);
}
static inline double bfloat16_to_double(uint16_t x) {
  return bfloat16_to_float(x);
}
static inline double float_to_double(float x) {
  return x;
}

/* load_<type>_<real>: the loops of one element type, channels or time innermost, whichever is
 * contiguous. */
#define DEFINE_LOAD(name, element, real, widen)                                                    \
  static void name(const ema_place *place, real *restrict tile, int lanes) {                       \
    const ema_sequences *s = place->tensor;                                                        \
    const element *from = (const element *)s->data + place->offset;                                \
    int64_t steps = place->steps, channels = place->channels;                                      \
    int64_t stride_t = s->stride_t, stride_d = s->stride_d;                                        \
    if (stride_d == 1)                                                                             \
      for (int64_t t = 0; t < steps; t++)                                                          \
        for (int64_t c = 0; c < channels; c++)                                                     \
          tile[t * lanes + c] = widen(from[t * stride_t + c]);                                     \
    else                                                                                           \
      for (int64_t c = 0; c < channels; c++)                                                       \
        for (int64_t t = 0; t < steps; t++)                                                        \
          tile[t * lanes + c] = widen(from[t * stride_t + c * stride_d]);                          \
    for (int64_t t = 0; t < steps && channels < lanes; t++)                                        \
      for (int64_t c = channels; c < lanes; c++) tile[t * lanes + c] = 0;                          \
  }

DEFINE_LOAD(load_float32_f32, float, float, float_to_float)
DEFINE_LOAD(load_float16_f32, uint16_t, float, float16_to_float)
DEFINE_LOAD(load_bfloat16_f32, uint16_t, float, bfloat16_to_float)
DEFINE_LOAD(load_float32_f64, float, double, float_to_double)
DEFINE_LOAD(load_float16_f64, uint16_t, double, float16_to_double)
DEFINE_LOAD(load_bfloat16_f64, uint16_t, double, bfloat16_to_double)
DEFINE_LOAD(load_float64_f64, double, double, double_to_double)

void LEVEL(ema_load_f32)(const ema_place *place, float *tile, int lanes) {
  switch (place->type) {
  case TYPE_FLOAT16: load_float16_f32(place, tile, lanes); break;
  case TYPE_BFLOAT16: load_bfloat16_f32(place, tile, lanes); break;
  default: load_float32_f32(place, tile, lanes); break;
  }
}

void LEVEL(ema_load_f64)(const ema_place *place, double *tile, int lanes) {
  switch (place->type) {
  case TYPE_FLOAT16: load_float16_f64(place, tile, lanes); break;
  case TYPE_BFLOAT16: load_bfloat16_f64(place, tile, lanes); break;
  case TYPE_FLOAT32: load_float32_f64(place, tile, lanes); break;
  default: load_float64_f64(place, tile, lanes); break;
  }
}

#define DEFINE_STORE(name, element, real, narrow)                                                  \
  static void name(const ema_place *place, const real *restrict tile, int lanes) {                 \
    const ema_sequences *s = place->tensor;                                                        \
    element *to = (element *)s->data + place->offset;                                              \
    int64_t steps = place->steps, channels = place->channels;                                      \
    int64_t stride_t = s->stride_t, stride_d = s->stride_d;                                        \
    if (stride_d == 1)                                                                             \
      for (int64_t t = 0; t < steps; t++)                                                          \
        for (int64_t c = 0; c < channels; c++) to[t * stride_t + c] = narrow(tile[t * lanes + c]); \
    else                                                                                           \
      for (int64_t c = 0; c < channels; c++)                                                       \
        for (int64_t t = 0; t < steps; t++)                                                        \
          to[t * stride_t + c * stride_d] = narrow(tile[t * lanes + c]);                           \
  }

DEFINE_STORE(store_float32, float, float, float_to_float)
DEFINE_STORE(store_float16, uint16_t, float, float_to_float16)
DEFINE_STORE(store_bfloat16, uint16_t, float, float_to_bfloat16)
DEFINE_STORE(store_float64, double, double, double_to_double)

void LEVEL(ema_store_f32)(const ema_place *place, const float *tile, int lanes) {
  switch (place->type) {
  case TYPE_FLOAT16: store_float16(place, tile, lanes); break;
  case TYPE_BFLOAT16: store_bfloat16(place, tile, lanes); break;
  default: store_float32(place, tile, lanes); break;
  }
}

void LEVEL(ema_store_f64)(const ema_place *place, const double *tile, int lanes) {
  store_float64(place, tile, lanes);
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
