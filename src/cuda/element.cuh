/* Loads and stores of elements of every type: one, or several with one memory access. Arithmetic
 * is in `real`: float, or double for float64. A store rounds once. */
#ifndef CUMEGA_SRC_CUDA_ELEMENT_CUH
#define CUMEGA_SRC_CUDA_ELEMENT_CUH

#include <math.h>
#include "../math/float16.h"
#include "launch.h"

#define CUDA_NO_HALF /* no type named `half`: src/math/ has variables of that name */
#include <cuda_fp16.h>

/* By tensor_type. */
template <int TYPE> struct element;
template <> struct element<TYPE_FLOAT32> { typedef float stored, real; };
template <> struct element<TYPE_FLOAT64> { typedef double stored, real; };
template <> struct element<TYPE_FLOAT16> {
  typedef uint16_t stored;
  typedef float real;
};
template <> struct element<TYPE_BFLOAT16> : element<TYPE_FLOAT16> {};

template <int TYPE> using stored_of = typename element<TYPE>::stored;
template <int TYPE> using real_of = typename element<TYPE>::real;

/* The hardware's conversions round as src/math/float16.h does. Only their NaNs differ. */
template <int TYPE> static __device__ __forceinline__ real_of<TYPE> widen(stored_of<TYPE> v) {
  if constexpr (TYPE == TYPE_FLOAT16)
    return __half2float(__ushort_as_half(v));
  else if constexpr (TYPE == TYPE_BFLOAT16)
    return bfloat16_to_float(v);
  else
    return v;
}
template <int TYPE> static __device__ __forceinline__ stored_of<TYPE> narrow(real_of<TYPE> v) {
  if constexpr (TYPE == TYPE_FLOAT16)
    return __half_as_ushort(__float2half_rn(v));
  else if constexpr (TYPE == TYPE_BFLOAT16)
    return float_to_bfloat16(v);
  else
    return v;
}

template <int TYPE>
static __device__ __forceinline__ real_of<TYPE> load_element(const void *data, int64_t at) {
  return widen<TYPE>(((const stored_of<TYPE> *)data)[at]);
}
template <int TYPE>
static __device__ __forceinline__ void store_element(void *data, int64_t at, real_of<TYPE> v) {
  ((stored_of<TYPE> *)data)[at] = narrow<TYPE>(v);
}

/* ---- vectors: 8 or 16 bytes, aligned, in one access ---- */

#define VECTOR_BYTES 16 /* the widest access */

template <int BYTES> struct vector_bytes;
template <> struct vector_bytes<8> { typedef int2 type; };
template <> struct vector_bytes<16> { typedef int4 type; };

template <int COUNT, typename STORED>
static __device__ __forceinline__ void load_vector(const STORED *from, STORED *v) {
  typedef typename vector_bytes<COUNT * sizeof(STORED)>::type vector;
  const vector bytes = *(const vector *)from;
  memcpy(v, &bytes, sizeof bytes);
}
template <int COUNT, typename STORED>
static __device__ __forceinline__ void store_vector(STORED *to, const STORED *v) {
  typename vector_bytes<COUNT * sizeof(STORED)>::type bytes;
  memcpy(&bytes, v, sizeof bytes);
  *(decltype(bytes) *)to = bytes;
}

/* v = COUNT elements of a line, `stride` apart, from index `first` on. Elements from index `end`
 * on do not exist and become 0. If the line allows it, all COUNT are loaded as one vector. */
template <int TYPE, int COUNT>
static __device__ __forceinline__ void load_elements(const void *line, int64_t first,
                                                     int64_t stride, int64_t end, bool is_vector,
                                                     real_of<TYPE> *v) {
  const stored_of<TYPE> *from = (const stored_of<TYPE> *)line;
  if constexpr (COUNT > 1)
    if (is_vector && first + COUNT <= end) {
      stored_of<TYPE> stored[COUNT];
      load_vector<COUNT>(from + first, stored);
#pragma unroll
      for (int i = 0; i < COUNT; i++) v[i] = widen<TYPE>(stored[i]);
      return;
    }
#pragma unroll
  for (int i = 0; i < COUNT; i++)
    v[i] = first + i < end ? widen<TYPE>(from[(first + i) * stride]) : (real_of<TYPE>)0;
}

/* Stores in the same way. */
template <int TYPE, int COUNT>
static __device__ __forceinline__ void store_elements(void *line, int64_t first, int64_t stride,
                                                      int64_t end, bool is_vector,
                                                      const real_of<TYPE> *v) {
  stored_of<TYPE> *to = (stored_of<TYPE> *)line, stored[COUNT];
#pragma unroll
  for (int i = 0; i < COUNT; i++) stored[i] = narrow<TYPE>(v[i]);
  if constexpr (COUNT > 1)
    if (is_vector && first + COUNT <= end) {
      store_vector<COUNT>(to + first, stored);
      return;
    }
#pragma unroll
  for (int i = 0; i < COUNT; i++)
    if (first + i < end) to[(first + i) * stride] = stored[i];
}

/* ---- tables ---- */

/* The member f32 or f64 of a table or a set of tables. */
template <typename REAL, typename TABLE>
static __device__ __forceinline__ const auto &table_of(const TABLE &table) {
  if constexpr (sizeof(REAL) == sizeof(float))
    return table.f32;
  else
    return table.f64;
}

#endif
