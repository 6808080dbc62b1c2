/* cuBLAS, opened when the first product needs it and never linked: loading it costs a tenth of a
 * second and more than a hundred megabytes, which a server without Highway does not pay. All within
 * a scope. */
#ifndef CUMEGA_SRC_CUDA_CUBLAS_CUDA_H
#define CUMEGA_SRC_CUDA_CUBLAS_CUDA_H

#include "context_cuda.h"

/* Scratch that a product gets as cuBLAS's workspace: what its manual asks for on sm_90. The emulated one
 * needs none, and memory is poisoned there, which would be most of a small test's time. */
#if defined(CUMEGA_EMULATION)
#define CUBLAS_WORKSPACE_BYTES ((int64_t)4096)
#else
#define CUBLAS_WORKSPACE_BYTES ((int64_t)32 << 20)
#endif

/* Loads cuBLAS and makes ctx's handle, where there is none. DEVICE with a sentence where it cannot
 * be loaded, RESOURCE while ctx's stream is being captured. */
cumega_status cublas_open(cumega_context *ctx);
void cublas_close(cumega_context *ctx);

/* From now on products go to ctx's stream and use this memory. */
cumega_status cublas_begin(cumega_context *ctx, void *workspace);

/* out (rows, D) = in * weight^T: compact but for in's rows, which lie in_stride elements apart;
 * weight (D, D). All float, or all double. */
cumega_status cublas_product(cumega_context *ctx, int is_double, int64_t rows, int64_t D,
                             const void *in, int64_t in_stride, const void *weight, void *out);

#endif
