/* cuFFT, opened when FFT first needs it (library_cuda.h), because it has 280 MB. */
#ifndef CUMEGA_SRC_CUDA_CUFFT_CUDA_H
#define CUMEGA_SRC_CUDA_CUFFT_CUDA_H

#include <cufft.h>
#include "../backend.h"

/* X(function, parameters); all return a cufftResult. */
#define CUFFT_FUNCTIONS(X)                                                                        \
  X(cufftCreate, (cufftHandle *))                                                                 \
  X(cufftDestroy, (cufftHandle))                                                                  \
  X(cufftSetAutoAllocation, (cufftHandle, int))                                                   \
  X(cufftMakePlanMany64,                                                                          \
    (cufftHandle, int, long long int *, long long int *, long long int, long long int,            \
     long long int *, long long int, long long int, cufftType, long long int, size_t *))          \
  X(cufftSetStream, (cufftHandle, cudaStream_t))                                                  \
  X(cufftSetWorkArea, (cufftHandle, void *))                                                      \
  X(cufftExecR2C, (cufftHandle, cufftReal *, cufftComplex *))                                     \
  X(cufftExecC2R, (cufftHandle, cufftComplex *, cufftReal *))                                     \
  X(cufftExecD2Z, (cufftHandle, cufftDoubleReal *, cufftDoubleComplex *))                         \
  X(cufftExecZ2D, (cufftHandle, cufftDoubleComplex *, cufftDoubleReal *))

/* The members have the names of the functions. */
typedef struct cufft_library {
#define CUFFT_MEMBER(name, parameters) cufftResult(*name) parameters;
  CUFFT_FUNCTIONS(CUFFT_MEMBER)
#undef CUFFT_MEMBER
} cufft_library;

/* DEVICE with the reason if there is none. Once cuFFT is open it stays open. */
cumega_status cufft_find(cumega_context *ctx, const cufft_library **found);

/* Calls cuFFT within a scope. A failure is RESOURCE if memory is short, else DEVICE. */
#define CUFFT_TRY(ctx, call)                                                                      \
  do {                                                                                            \
    cufftResult cufft_try_result = (call);                                                        \
    if (cufft_try_result != CUFFT_SUCCESS)                                                        \
      return cufft_fail(ctx, cufft_try_result, #call, __FILE__, __LINE__);                        \
  } while (0)

cumega_status cufft_fail(cumega_context *ctx, cufftResult result, const char *call,
                         const char *file, int line);

#endif
