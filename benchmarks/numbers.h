/* The floating types, read and written one value at a time: for filling and for checking. */
#ifndef CUMEGA_BENCHMARKS_NUMBERS_H
#define CUMEGA_BENCHMARKS_NUMBERS_H

#include <cumega/tensor.h>

/* "float32", "float16", "bfloat16", "float64"; 0 where there is no such type. */
int value_type_from_name(const char *name, DLDataType *dtype);
const char *value_type_name(DLDataType dtype);

/* Half the distance between 1 and the next number. */
double value_roundoff(DLDataType dtype);

/* Element i. What is written is zero, or a normal number of at most 8 significant bits, which every
 * type holds exactly. */
double value_read(DLDataType dtype, const void *memory, int64_t i);
void value_write(DLDataType dtype, void *memory, int64_t i, double value);

#endif
