/* The context's error flags on the device, which kernels set. */
#ifndef CUMEGA_SRC_CUDA_REPORT_CUDA_H
#define CUMEGA_SRC_CUDA_REPORT_CUDA_H

#include <cuda_runtime_api.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* *report = 0, by a launch. It is the first work of every context, so a device that the build has
 * no code for is found there and not by the first run. */
cudaError_t report_clear_launch(uint32_t *report, cudaStream_t stream);

#ifdef __cplusplus
}
#endif

#endif
