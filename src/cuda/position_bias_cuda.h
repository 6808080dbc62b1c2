/* Position biases on CUDA: what their files share.
 *
 *   position_bias_cuda.c     a run: which kernel, scratch, launch
 *   position_bias.cuh        a row's scores in and out, and its place
 *   position_bias_apply.cu   apply and forward: no sums
 *   position_bias_softmax.cu softmax of rows that fit a block's registers
 *   position_bias_long.cu    softmax of longer ones */
#ifndef CUMEGA_SRC_CUDA_POSITION_BIAS_CUDA_H
#define CUMEGA_SRC_CUDA_POSITION_BIAS_CUDA_H

#include <cuda_runtime_api.h>
#include <stdbool.h>
#include <stdint.h>
#include "../position_bias_run.h"

/* All that a kernel is given, by value. */
typedef struct position_launch {
  position_bias_run run;
  int64_t rows;  /* B * H * Lq */
  int64_t unit;  /* of a worker: so many rows, or pieces of rows, one after another */
  int vector_in; /* scores, and output, can be read and written four (float64: two) at a time */
  int vector_out;
  uint32_t *report; /* cumega_report_bit are set here */
  void *statistics; /* long rows: scratch, a pair of numbers for each block and group */
} position_launch;

#ifdef __cplusplus
extern "C" {
#endif

/* One launch each; *kernel becomes its name. */
cudaError_t position_apply_launch(const position_launch *launch, cudaStream_t stream,
                                  const char **kernel);
/* The output is the matrix: B and H are 1, Lq and Lk are L, and there are no scores. */
cudaError_t position_forward_launch(const position_launch *launch, cudaStream_t stream,
                                    const char **kernel);

/* Whether rows of so many keys fit. */
bool position_softmax_can(const position_bias_run *run);
cudaError_t position_softmax_launch(const position_launch *launch, cudaStream_t stream,
                                    const char **kernel);

int64_t position_long_scratch(const position_bias_run *run);
cudaError_t position_long_launch(const position_launch *launch, cudaStream_t stream,
                                 const char **kernel);

#ifdef __cplusplus
}
#endif

#endif
