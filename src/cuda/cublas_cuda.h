/* cuBLAS, opened when the first product needs it (library_cuda.h): loading it takes a tenth of a
 * second and more than a hundred megabytes. All functions are called within a scope. */
#ifndef CUMEGA_SRC_CUDA_CUBLAS_CUDA_H
#define CUMEGA_SRC_CUDA_CUBLAS_CUDA_H

#include "context_cuda.h"
#include "tuning.h"

/* Opens cuBLAS and makes ctx's handle, unless that is done. DEVICE with a sentence if cuBLAS
 * cannot be opened, RESOURCE while ctx's stream is being captured. */
cumega_status cublas_open(cumega_context *ctx);

/* Makes products go to ctx's stream and use this workspace of CUBLAS_WORKSPACE_BYTES. */
cumega_status cublas_begin(cumega_context *ctx, void *workspace);

/* out (rows, D) = in * weight^T, with weight (D, D). All are compact except in, whose rows are
 * in_stride elements apart. All are float, or all double. */
cumega_status cublas_product(cumega_context *ctx, int is_double, int64_t rows, int64_t D,
                             const void *in, int64_t in_stride, const void *weight, void *out);

#endif
