/* Clears the error flags: one thread, four bytes. */
#include "launch.h"
#include "report_cuda.h"

struct clear_launch {
  uint32_t *report;
};

static __global__ void __launch_bounds__(1) report_clear_kernel(const clear_launch p) {
  *p.report = 0;
}

cudaError_t report_clear_launch(uint32_t *report, cudaStream_t stream) {
  const clear_launch p = {report};
  return CUMEGA_LAUNCH(report_clear_kernel, 1, 1, 0, stream, p);
}
