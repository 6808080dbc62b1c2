/* Loads, stores and fills elements, with one loop per type and layout, which the compiler
 * vectorises. */
#include "element.h"
#include "../math/float16.h"

/* Runs COPY(at, i) for each element. `at` is its offset in the tensor from the rectangle's first
 * element, i its index in contiguous memory. Residual connections and position biases use single
 * rows. In the EMA's tiles the innermost loop runs along the dimension in which the tensor is
 * contiguous. */
#define FOR_ELEMENTS(block, pitch, COPY)                                                          \
  do {                                                                                            \
    const int64_t rows = (block)->rows, columns = (block)->columns;                               \
    const int64_t row_stride = (block)->row_stride, column_stride = (block)->column_stride;       \
    if (rows == 1 && column_stride == 1)                                                          \
      for (int64_t c = 0; c < columns; c++) COPY(c, c);                                           \
    else if (rows == 1)                                                                           \
      for (int64_t c = 0; c < columns; c++) COPY(c *column_stride, c);                            \
    else if (row_stride == 1)                                                                     \
      for (int64_t c = 0; c < columns; c++)                                                       \
        for (int64_t r = 0; r < rows; r++) COPY(r + c * column_stride, r * (pitch) + c);          \
    else if (column_stride == 1 && columns == EMA_CHANNEL_PADDING)                                \
      for (int64_t r = 0; r < rows; r++)                                                          \
        for (int64_t c = 0; c < EMA_CHANNEL_PADDING; c++)                                         \
          COPY(r *row_stride + c, r * (pitch) + c);                                               \
    else                                                                                          \
      for (int64_t r = 0; r < rows; r++)                                                          \
        for (int64_t c = 0; c < columns; c++)                                                     \
          COPY(r *row_stride + c * column_stride, r * (pitch) + c);                               \
  } while (0)

/* to[c * to_pitch + r] = from[r * from_pitch + c], in blocks of four by four. */
static void transpose(const float *from, int64_t from_pitch, int64_t rows, int64_t columns,
                      float *restrict to, int64_t to_pitch) {
  int64_t whole_rows = 0, whole_columns = 0;
#if defined(__SSE2__)
  whole_rows = rows / 4 * 4;
  whole_columns = columns / 4 * 4;
  for (int64_t r = 0; r < whole_rows; r += 4)
    for (int64_t c = 0; c < whole_columns; c += 4) {
      const float *corner = from + r * from_pitch + c;
      __m128 a0 = _mm_loadu_ps(corner), a1 = _mm_loadu_ps(corner + from_pitch);
      __m128 a2 = _mm_loadu_ps(corner + 2 * from_pitch),
             a3 = _mm_loadu_ps(corner + 3 * from_pitch);
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

static int is_transposed(const element_block *b) {
  return b->rows > 1 && b->row_stride == 1;
}

#define DEFINE_LOAD(name, element, real, WIDEN)                                                   \
  static void name(const element_block *block, real *restrict to, int64_t pitch) {                \
    const element *from = (const element *)block->data + block->offset;                           \
    FOR_ELEMENTS(block, pitch, WIDEN);                                                            \
  }
#define LOAD_UNCHANGED(at, i) (to[i] = from[at])
#define LOAD_FLOAT16(at, i)   (to[i] = float16_to_float(from[at]))
#define LOAD_BFLOAT16(at, i)  (to[i] = bfloat16_to_float(from[at]))

DEFINE_LOAD(load_float16_f32, uint16_t, float, LOAD_FLOAT16)
DEFINE_LOAD(load_bfloat16_f32, uint16_t, float, LOAD_BFLOAT16)
DEFINE_LOAD(load_float32_f32, float, float, LOAD_UNCHANGED)
DEFINE_LOAD(load_float16_f64, uint16_t, double, LOAD_FLOAT16)
DEFINE_LOAD(load_bfloat16_f64, uint16_t, double, LOAD_BFLOAT16)
DEFINE_LOAD(load_float32_f64, float, double, LOAD_UNCHANGED)
DEFINE_LOAD(load_float64_f64, double, double, LOAD_UNCHANGED)

/* The front refuses tensors of these types. */
#define CASES_NOT_FLOAT                                                                           \
  case TYPE_BOOL:                                                                                 \
  case TYPE_UINT8:                                                                                \
  case TYPE_INT32:                                                                                \
  case TYPE_INT64: break

void LEVEL(element_load_f32)(const element_block *from, float *to, int64_t pitch) {
  switch (from->type) {
  case TYPE_FLOAT16: load_float16_f32(from, to, pitch); break;
  case TYPE_BFLOAT16: load_bfloat16_f32(from, to, pitch); break;
  case TYPE_FLOAT32:
    if (is_transposed(from))
      transpose((const float *)from->data + from->offset, from->column_stride, from->columns,
                from->rows, to, pitch);
    else
      load_float32_f32(from, to, pitch);
    break;
  case TYPE_FLOAT64:
    break; /* float64 is loaded as double only */
    CASES_NOT_FLOAT;
  }
}

void LEVEL(element_load_f64)(const element_block *from, double *to, int64_t pitch) {
  switch (from->type) {
  case TYPE_FLOAT16: load_float16_f64(from, to, pitch); break;
  case TYPE_BFLOAT16: load_bfloat16_f64(from, to, pitch); break;
  case TYPE_FLOAT32: load_float32_f64(from, to, pitch); break;
  case TYPE_FLOAT64:
    load_float64_f64(from, to, pitch);
    break;
    CASES_NOT_FLOAT;
  }
}

#define DEFINE_STORE(name, element, real, ROUND)                                                  \
  static void name(const element_block *block, const real *restrict from, int64_t pitch) {        \
    element *to = (element *)block->data + block->offset;                                         \
    FOR_ELEMENTS(block, pitch, ROUND);                                                            \
  }
#define STORE_UNCHANGED(at, i) (to[at] = from[i])
#define STORE_FLOAT16(at, i)   (to[at] = float_to_float16(from[i]))
#define STORE_BFLOAT16(at, i)  (to[at] = float_to_bfloat16(from[i]))

DEFINE_STORE(store_float16, uint16_t, float, STORE_FLOAT16)
DEFINE_STORE(store_bfloat16, uint16_t, float, STORE_BFLOAT16)
DEFINE_STORE(store_float32, float, float, STORE_UNCHANGED)
DEFINE_STORE(store_float64, double, double, STORE_UNCHANGED)

void LEVEL(element_store_f32)(const element_block *to, const float *from, int64_t pitch) {
  switch (to->type) {
  case TYPE_FLOAT16: store_float16(to, from, pitch); break;
  case TYPE_BFLOAT16: store_bfloat16(to, from, pitch); break;
  case TYPE_FLOAT32:
    if (is_transposed(to))
      transpose(from, pitch, to->rows, to->columns, (float *)to->data + to->offset,
                to->column_stride);
    else
      store_float32(to, from, pitch);
    break;
  case TYPE_FLOAT64:
    break; /* float64 is stored from double only */
    CASES_NOT_FLOAT;
  }
}

void LEVEL(element_store_f64)(const element_block *to, const double *from, int64_t pitch) {
  store_float64(to, from, pitch);
}

#define FILL(at, i) (to[at] = filling)
#define FILL_WITH(element, rounded)                                                               \
  do {                                                                                            \
    element *to = (element *)block->data + block->offset;                                         \
    const element filling = rounded;                                                              \
    FOR_ELEMENTS(block, 0, FILL);                                                                 \
  } while (0)

void LEVEL(element_fill)(const element_block *block, double value) {
  switch (block->type) {
  case TYPE_FLOAT16: FILL_WITH(uint16_t, double_to_float16(value)); break;
  case TYPE_BFLOAT16: FILL_WITH(uint16_t, double_to_bfloat16(value)); break;
  case TYPE_FLOAT32: FILL_WITH(float, (float)value); break;
  case TYPE_FLOAT64:
    FILL_WITH(double, value);
    break;
    CASES_NOT_FLOAT;
  }
}

void LEVEL(element_round_f32)(tensor_type type, int64_t n, float *v) {
  if (type == TYPE_FLOAT16)
    for (int64_t i = 0; i < n; i++) v[i] = float16_to_float(float_to_float16(v[i]));
  else if (type == TYPE_BFLOAT16)
    for (int64_t i = 0; i < n; i++) v[i] = bfloat16_to_float(float_to_bfloat16(v[i]));
}
