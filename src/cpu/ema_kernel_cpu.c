/* The convolution kernel's values: out[i] = sum over heads of weight * q^(first + i), with q^l =
 * exp(l log q) and q^0 = 1 always (q may be 0, whose logarithm is -inf). The innermost loop is
 * over positions, so that exp is vectorised. */
#include "ema_cpu.h"

/* The pairwise sum over heads, for each position. */
static void sum_heads(double *terms, int64_t num_heads, int64_t count) {
  int64_t stride = 1;
  while (2 * stride < num_heads) stride *= 2;
  for (; stride > 0; stride /= 2)
    for (int64_t n = 0; n < stride && n + stride < num_heads; n++)
      for (int64_t i = 0; i < count; i++)
        terms[n * EMA_KERNEL_BLOCK + i] += terms[(n + stride) * EMA_KERNEL_BLOCK + i];
}

void LEVEL(ema_kernel_row_cpu)(const ema_kernel_row *row) {
  for (int64_t n = 0; n < row->num_heads; n++) {
    double *terms = row->terms + n * EMA_KERNEL_BLOCK;
    double weight = row->weight[n], log_q = row->log_q[n];
    for (int64_t i = 0; i < row->count; i++)
      terms[i] = weight * math_exp((double)(row->first + i) * log_q);
    if (row->first == 0) terms[0] = weight;
  }
  sum_heads(row->terms, row->num_heads, row->count);
  memcpy(row->out, row->terms, (size_t)row->count * sizeof *row->out);
}
