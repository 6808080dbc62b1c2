#include "cufft_cuda.h"
#include <string.h>
#include "context_cuda.h"
#include "library_cuda.h"

static cufft_library cufft;

#define CUFFT_FUNCTION(name, parameters) {#name, &cufft.name},
static const library_function functions[] = {CUFFT_FUNCTIONS(CUFFT_FUNCTION)};

static library cufft_file = {.need = "algorithm FFT needs cuFFT",
                             LIBRARY_FILE(cufft, "cuFFT", "libcufft.so.11", "libcufft.so.12"),
                             LIBRARY_FUNCTIONS(functions)};

cumega_status cufft_find(cumega_context *ctx, const cufft_library **found) {
  *found = &cufft;
  return library_need(ctx, &cufft_file);
}

cumega_status cufft_fail(cumega_context *ctx, cufftResult result, const char *call,
                         const char *file, int line) {
  TRY(cuda_check_device(ctx)); /* a lost device explains more */
  return front->fail(ctx,
                     result == CUFFT_ALLOC_FAILED ? CUMEGA_ERROR_RESOURCE : CUMEGA_ERROR_DEVICE,
                     "%s gave %d of cuFFT (%s:%d)", call, (int)result, basename(file), line);
}
