/* CUDA's vector types with CUDA's sizes and alignments. */
#ifndef EMULATION_VECTOR_TYPES_H
#define EMULATION_VECTOR_TYPES_H

#define EMULATION_ALIGNED(bytes) __attribute__((aligned(bytes)))

/* clang-format off */
#define EMULATION_VECTORS(type, name, align2, align4)                                             \
  typedef struct name##1 { type x; } name##1;                                                     \
  typedef struct EMULATION_ALIGNED(align2) name##2 { type x, y; } name##2;                        \
  typedef struct name##3 { type x, y, z; } name##3;                                               \
  typedef struct EMULATION_ALIGNED(align4) name##4 { type x, y, z, w; } name##4;
/* clang-format on */

EMULATION_VECTORS(signed char, char, 2, 4)
EMULATION_VECTORS(unsigned char, uchar, 2, 4)
EMULATION_VECTORS(short, short, 4, 8)
EMULATION_VECTORS(unsigned short, ushort, 4, 8)
EMULATION_VECTORS(int, int, 8, 16)
EMULATION_VECTORS(unsigned int, uint, 8, 16)
EMULATION_VECTORS(long long, longlong, 16, 16)
EMULATION_VECTORS(unsigned long long, ulonglong, 16, 16)
EMULATION_VECTORS(float, float, 8, 16)
EMULATION_VECTORS(double, double, 16, 16)
#undef EMULATION_VECTORS

typedef struct dim3 {
  unsigned int x, y, z;
#ifdef __cplusplus
  constexpr dim3(unsigned int x_ = 1, unsigned int y_ = 1, unsigned int z_ = 1)
      : x(x_), y(y_), z(z_) {}
  constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
#endif
} dim3;

/* clang-format off */
#define EMULATION_MAKERS(type, name)                                                              \
  static inline name##2 make_##name##2(type x, type y) { name##2 v = {x, y}; return v; }          \
  static inline name##3 make_##name##3(type x, type y, type z) {                                  \
    name##3 v = {x, y, z};                                                                        \
    return v;                                                                                     \
  }                                                                                               \
  static inline name##4 make_##name##4(type x, type y, type z, type w) {                          \
    name##4 v = {x, y, z, w}; return v; }
/* clang-format on */

EMULATION_MAKERS(signed char, char)
EMULATION_MAKERS(unsigned char, uchar)
EMULATION_MAKERS(short, short)
EMULATION_MAKERS(unsigned short, ushort)
EMULATION_MAKERS(int, int)
EMULATION_MAKERS(unsigned int, uint)
EMULATION_MAKERS(long long, longlong)
EMULATION_MAKERS(unsigned long long, ulonglong)
EMULATION_MAKERS(float, float)
EMULATION_MAKERS(double, double)
#undef EMULATION_MAKERS

#endif
