/* Residual connections in float: tensors of float32, float16 and bfloat16. */
#define REAL_BITS 32
#include "residual_item.h"
