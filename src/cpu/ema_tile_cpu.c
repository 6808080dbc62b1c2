/* Tiles between the caller's memory and ours. A tensor may have any strides; channels or
 * time with stride 1 get loops that the compiler turns into vector moves. */
#include "../math/float16.h"
#include "ema_cpu.h"

/* Runs COPY over a tile's elements, channels innermost, or in FOR_TILE time where that is contiguous in the
 * tensor. A tile of the full width has its own loop, of constant length. */
#define FOR_ROWS(place, width, COPY)                                                               \
  do {                                                                                             \
    const int64_t steps = (place)->steps, channels = (place)->channels;                            \
    const int64_t stride_t = (place)->tensor->stride_t, stride_d = (place)->tensor->stride_d;      \
    if (stride_d == 1 && channels == TILE_CHANNELS)                                                \
      for (int64_t t = 0; t < steps; t++)                                                          \
        for (int64_t c = 0; c < TILE_CHANNELS; c++) COPY(t *stride_t + c, t * TILE_CHANNELS + c);  \
    else                                                                                           \
      for (int64_t t = 0; t < steps; t++)                                                          \
        for (int64_t c = 0; c < channels; c++) COPY(t *stride_t + c * stride_d, t * (width) + c);  \
  } while (0)
#define FOR_TILE(place, width, COPY)                                                               \
  do {                                                                                             \
    if ((place)->tensor->stride_t == 1)                                                            \
      for (int64_t c = 0; c < (place)->channels; c++)                                              \
        for (int64_t t = 0; t < (place)->steps; t++)                                               \
          COPY(t + c * (place)->tensor->stride_d, t * (width) + c);                                \
    else                                                                                           \
      FOR_ROWS(place, width, COPY);                                                                \
  } while (0)

/* to[column * to_pitch + row] = from[row * from_pitch + column], sixteen numbers at a time. */
static void transpose_float(const float *from, int64_t from_pitch, int64_t rows, int64_t columns,
                            float *restrict to, int64_t to_pitch) {
  int64_t whole_rows = 0, whole_columns = 0;
#if defined(__SSE2__)
  whole_rows = rows / 4 * 4;
  whole_columns = columns / 4 * 4;
  for (int64_t r = 0; r < whole_rows; r += 4)
    for (int64_t c = 0; c < whole_columns; c += 4) {
      const float *corner = from + r * from_pitch + c;
      __m128 a0 = _mm_loadu_ps(corner), a1 = _mm_loadu_ps(corner + from_pitch);
      __m128 a2 = _mm_loadu_ps(corner + 2 * from_pitch), a3 = _mm_loadu_ps(corner + 3 * from_pitch);
      _MM_TRANSPOSE4_PS(a0, a1, a2, a3);
      float *across = to + c * to_pitch + r;
      _mm_storeu_ps(across, a0);
      _mm_storeu_ps(across + to_pitch, a1);
      _mm_storeu_ps(across + 2 * to_pitch, a2);
      _mm_storeu_ps(across + 3 * to_pitch, a3);
    }
#endif
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = r < whole_rows ? whole_columns : 0; c < columns; c++)
      to[c * to_pitch + r] = from[r * from_pitch + c];
}

#define LOAD_UNCHANGED(at, to) (tile[to] = from[at])
#define LOAD_FLOAT16(at, to)   (tile[to] = float16_to_float(from[at]))
#define LOAD_BFLOAT16(at, to)  (tile[to] = bfloat16_to_float(from[at]))

#define DEFINE_LOAD(name, element, real, LOAD_ONE)                                                 \
  static void name(const ema_place *place, real *restrict tile, int64_t width) {                   \
    const element *from = (const element *)place->tensor->data + place->offset;                    \
    if (place->channels < width) memset(tile, 0, (size_t)(place->steps * width) * sizeof *tile);   \
    FOR_TILE(place, width, LOAD_ONE);                                                              \
  }

DEFINE_LOAD(load_any_float32, float, float, LOAD_UNCHANGED)
DEFINE_LOAD(load_float16_f32, uint16_t, float, LOAD_FLOAT16)
DEFINE_LOAD(load_bfloat16_f32, uint16_t, float, LOAD_BFLOAT16)
DEFINE_LOAD(load_float32_f64, float, double, LOAD_UNCHANGED)
DEFINE_LOAD(load_float16_f64, uint16_t, double, LOAD_FLOAT16)
DEFINE_LOAD(load_bfloat16_f64, uint16_t, double, LOAD_BFLOAT16)
DEFINE_LOAD(load_float64_f64, double, double, LOAD_UNCHANGED)

static void load_float32_f32(const ema_place *place, float *tile, int64_t width) {
  const ema_sequences *s = place->tensor;
  if (s->stride_t == 1 && place->channels == width)
    transpose_float((const float *)s->data + place->offset, s->stride_d, width, place->steps, tile,
                    width);
  else
    load_any_float32(place, tile, width);
}

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

#define DEFINE_STORE(name, element, real, FOR, STORE_ONE)                                          \
  static void name(const ema_place *place, const real *restrict tile, int64_t width) {             \
    element *to = (element *)place->tensor->data + place->offset;                                  \
    FOR(place, width, STORE_ONE);                                                                  \
  }

DEFINE_STORE(store_rows_float32, float, float, FOR_ROWS, STORE_UNCHANGED)
DEFINE_STORE(store_float16, uint16_t, float, FOR_TILE, STORE_FLOAT16)
DEFINE_STORE(store_bfloat16, uint16_t, float, FOR_TILE, STORE_BFLOAT16)
DEFINE_STORE(store_float64, double, double, FOR_TILE, STORE_UNCHANGED)

/* Of an output not both strides are 1. */
static void store_float32(const ema_place *place, const float *tile, int64_t width) {
  const ema_sequences *s = place->tensor;
  if (s->stride_t == 1)
    transpose_float(tile, width, place->steps, place->channels, (float *)s->data + place->offset,
                    s->stride_d);
  else
    store_rows_float32(place, tile, width);
}

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
  const int64_t bytes = tensor_type_bytes(place->type);
  /* Rows along whichever dimension is contiguous. */
  const int along_time = s->stride_t == 1;
  const int64_t rows = along_time ? place->channels : place->steps;
  const int64_t columns = along_time ? place->steps : place->channels;
  const int64_t row_stride = along_time ? s->stride_d : s->stride_t;
  const int64_t column_stride = along_time ? 1 : s->stride_d;
  for (int64_t r = 0; r < rows; r++) {
    char *to = (char *)s->data + (place->offset + r * row_stride) * bytes;
    if (column_stride == 1)
      memset(to, 0, (size_t)(columns * bytes));
    else
      for (int64_t c = 0; c < columns; c++)
        memset(to + c * column_stride * bytes, 0, (size_t)bytes);
  }
}
