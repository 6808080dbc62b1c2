/* Rows of apply and softmax in float: scores of float32, float16 and bfloat16. */
#define REAL_BITS 32
#include "attention_row.h"
