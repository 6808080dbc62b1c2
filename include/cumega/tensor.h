/* Tensors are DLPack's DLTensor: data, device, dtype, shape, strides in elements, byte offset.
 * PyTorch, CuPy, JAX and TVM exchange tensors in this form (https://dmlc.github.io/dlpack), so
 * theirs can be passed without a copy. This header lets a C program describe a tensor in one
 * line.
 *
 * A call reads the struct while it runs and keeps no pointer to it. A parameter of type `DLTensor
 * *` that is not const is an output: the call writes its elements, never the struct. CPU memory
 * is kDLCPU or kDLCUDAHost, GPU memory kDLCUDA or kDLCUDAManaged. NULL strides mean compact
 * (row-major). lanes must be 1, and there are at most CUMEGA_MAX_DIMS dimensions. */
#ifndef CUMEGA_TENSOR_H
#define CUMEGA_TENSOR_H

#include <cumega/version.h>
#include <dlpack/dlpack.h>

#define CUMEGA_MAX_DIMS 8

/* DLPack's code of bool, which its older headers do not name. */
#define CUMEGA_DTYPE_CODE_BOOL 6

static const DLDataType cumega_float32 = {kDLFloat, 32, 1};
static const DLDataType cumega_float64 = {kDLFloat, 64, 1};
static const DLDataType cumega_float16 = {kDLFloat, 16, 1};
static const DLDataType cumega_bfloat16 = {kDLBfloat, 16, 1};
static const DLDataType cumega_bool = {CUMEGA_DTYPE_CODE_BOOL, 8, 1};
static const DLDataType cumega_uint8 = {kDLUInt, 8, 1};
static const DLDataType cumega_int32 = {kDLInt, 32, 1};
static const DLDataType cumega_int64 = {kDLInt, 64, 1};

static const DLDevice cumega_cpu = {kDLCPU, 0};

/* A DLTensor together with the arrays that it points to. Do not copy it: dl.shape and dl.strides
 * point into the struct itself. */
typedef struct cumega_tensor {
  DLTensor dl;
  int64_t shape[CUMEGA_MAX_DIMS];
  int64_t strides[CUMEGA_MAX_DIMS];
} cumega_tensor;

#ifdef __cplusplus
extern "C" {
#endif

/* Describes compact memory that the caller owns:
 *
 *   cumega_tensor x;
 *   int64_t shape[] = {length, batch, channels};
 *   io.x = cumega_tensor_init(&x, memory, cumega_cpu, cumega_float32, 3, shape);
 *
 * Returns &tensor->dl. Returns NULL where tensor is NULL, shape is NULL with ndim above 0, ndim
 * is not in 0 .. CUMEGA_MAX_DIMS, a dimension is negative, or the strides overflow; a call that
 * is given this NULL then says which argument is missing. The shape is copied. */
CUMEGA_API DLTensor *cumega_tensor_init(cumega_tensor *tensor, void *data, DLDevice device,
                                        DLDataType dtype, int ndim, const int64_t *shape);

/* A view of the same memory with its dimensions in another order: dimension i of the view is
 * dimension order[i] of source. {1, 0, 2} turns a tensor that is stored as (B, L, D) into the
 * logical (L, B, D). Returns &view->dl, or NULL where an argument is NULL or order is not a
 * permutation of 0 .. ndim - 1. view may not be the struct that holds source. */
CUMEGA_API DLTensor *cumega_tensor_permute(cumega_tensor *view, const DLTensor *source,
                                           const int *order);

#ifdef __cplusplus
}
#endif
#endif
