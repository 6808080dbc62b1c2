/* The format's types. The order is that of the safetensors library when it writes a file, by
 * falling alignment, so that a reader that maps the file finds every tensor aligned. */
#include <string.h>
#include "weights_file.h"

/* Types of less than a byte count as a byte to DLPack, which has no packing; so they, and the
 * 8-bit floats that its 0.6 header does not name, are listed without a type. */
#define NO_DTYPE                                                                                  \
  { 0, 0, 1 }

static const weights_type types[] = {
    {"U64", 64, 0, {kDLUInt, 64, 1}},  {"I64", 64, 1, {kDLInt, 64, 1}},
    {"F64", 64, 2, {kDLFloat, 64, 1}}, {"C64", 64, 3, {kDLComplex, 64, 1}},
    {"F32", 32, 4, {kDLFloat, 32, 1}}, {"U32", 32, 5, {kDLUInt, 32, 1}},
    {"I32", 32, 6, {kDLInt, 32, 1}},   {"BF16", 16, 7, {kDLBfloat, 16, 1}},
    {"F16", 16, 8, {kDLFloat, 16, 1}}, {"U16", 16, 9, {kDLUInt, 16, 1}},
    {"I16", 16, 10, {kDLInt, 16, 1}},  {"F8_E8M0", 8, 11, NO_DTYPE},
    {"F8_E4M3", 8, 12, NO_DTYPE},      {"F8_E5M2", 8, 13, NO_DTYPE},
    {"I8", 8, 14, {kDLInt, 8, 1}},     {"U8", 8, 15, {kDLUInt, 8, 1}},
    {"F6_E3M2", 6, 16, NO_DTYPE},      {"F6_E2M3", 6, 17, NO_DTYPE},
    {"F4", 4, 18, NO_DTYPE},           {"BOOL", 8, 19, {CUMEGA_DTYPE_CODE_BOOL, 8, 1}},
};

#define TYPE_COUNT ((int)(sizeof types / sizeof types[0]))

const weights_type *weights_type_named(const char *name) {
  for (int i = 0; i < TYPE_COUNT; i++)
    if (strcmp(types[i].name, name) == 0) return &types[i];
  return NULL;
}

const weights_type *weights_type_of(DLDataType dtype) {
  for (int i = 0; i < TYPE_COUNT; i++)
    if (types[i].dtype.bits != 0 && types[i].dtype.bits == dtype.bits &&
        types[i].dtype.code == dtype.code && types[i].dtype.lanes == dtype.lanes)
      return &types[i];
  return NULL;
}
