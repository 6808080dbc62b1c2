/* Items of the EMA with a float state: x of float32, float16 or bfloat16, and q in two floats. */
#define REAL_BITS 32
#include "ema_item.h"
