/* Items of the EMA whose state is float: x of float32, float16 or bfloat16, and q in two floats. */
#define REAL_BITS 32
#include "ema_item.h"
