/* Rows of apply and softmax in double: scores of float64. */
#define REAL_BITS 64
#include "attention_row.h"
