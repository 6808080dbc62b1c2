/* Attention scores and position biases on CUDA: what their files share.
 *
 *   attention_cuda.c      a run: which kernel, scratch, launch
 *   attention.cuh         the position, scores and output of a row
 *   attention_scores.cu   apply and forward: no sums
 *   attention_softmax.cu  softmax of rows that fit a block's registers
 *   attention_long.cu     softmax of longer ones */
#ifndef CUMEGA_SRC_CUDA_ATTENTION_CUDA_H
#define CUMEGA_SRC_CUDA_ATTENTION_CUDA_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>
#include "../attention_run.h"

/* The argument of every kernel, by value. */
typedef struct attention_launch {
  attention_run run;
  int64_t rows;  /* B * H * Lq */
  int64_t unit;  /* how many rows, or pieces of rows, a worker takes in sequence */
  int vector_in; /* scores can be read, output can be written as vectors (element.cuh) */
  int vector_out;
  uint32_t *report; /* error flags: bits of cumega_report_bit */
  void *statistics; /* long rows: scratch, a pair of numbers for each block and group of keys */
} attention_launch;

#ifdef __cplusplus
extern "C" {
#endif

/* One launch each. *kernel becomes the kernel's name. */
cudaError_t attention_scores_launch(const attention_launch *launch, cudaStream_t stream,
                                    const char **kernel);
/* The output is the matrix: B and H are 1, Lq and Lk are L, and there are no scores. */
cudaError_t position_bias_launch(const attention_launch *launch, cudaStream_t stream,
                                 const char **kernel);

/* Whether the run's rows fit a block's registers. */
bool attention_softmax_can(const attention_run *run);
cudaError_t attention_softmax_launch(const attention_launch *launch, cudaStream_t stream,
                                     const char **kernel);

int64_t attention_long_scratch(const attention_run *run);
cudaError_t attention_long_launch(const attention_launch *launch, cudaStream_t stream,
                                  const char **kernel);

#ifdef __cplusplus
}
#endif

#endif
