/* Residual connections on CUDA: what their files share.
 *
 *   residual_forward_cuda.c  a run: which kernel, Highway's products, scratch
 *   residual_lines.cu        every run without a norm, element by element
 *   residual_rows.cu         runs with a norm, row by row
 *   residual_gather.cu       copies for Highway's products
 *   cublas_cuda.c            cuBLAS, opened when Highway first needs it */
#ifndef CUMEGA_SRC_CUDA_RESIDUAL_CUDA_H
#define CUMEGA_SRC_CUDA_RESIDUAL_CUDA_H

#include <cuda_runtime_api.h>
#include "../residual_run.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One launch each. *kernel becomes the kernel's name. */
cudaError_t residual_lines_launch(const residual_run *run, cudaStream_t stream,
                                  const char **kernel);
cudaError_t residual_rows_launch(const residual_run *run, cudaStream_t stream,
                                 const char **kernel);

/* to (rows, D) = an operand, widened, of a run that goes by rows. */
cudaError_t residual_gather_launch(const residual_run *run, int operand, void *to,
                                   cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
