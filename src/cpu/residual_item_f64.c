/* Residual connections in double: tensors of float64. */
#define REAL_BITS 64
#include "residual_item.h"
