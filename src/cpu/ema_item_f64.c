/* Items of the EMA whose state is double: x of any type, and q in one double. */
#define REAL_BITS 64
#include "ema_item.h"
