#include "cufft_library.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "context_cuda.h"

static pthread_once_t looked = PTHREAD_ONCE_INIT;
static cufft_library library;
static char reason[512]; /* why library is not complete, or "" */

/* The cuFFT of the toolkit's major version that this file was compiled with; emulated CUDA has its
 * functions inside, and an environment variable that hides them. */
#if defined(CUMEGA_EMULATION)
#define CUFFT_NAME                 "emulated cuFFT"
#define open_library()             emulation_cufft_open()
#define find_symbol(library, name) emulation_cufft_find(name)
#define open_error()               "it is hidden"
#else
#if CUDART_VERSION >= 13000
#define CUFFT_NAME "libcufft.so.12"
#else
#define CUFFT_NAME "libcufft.so.11"
#endif
#define open_library() dlopen(CUFFT_NAME, RTLD_NOW | RTLD_LOCAL)
#define find_symbol    dlsym
#define open_error()   dlerror()
#endif

/* *function: a pointer to a function pointer, which ISO C does not let a void * become. */
static void find(void *opened, const char *name, void *function) {
  void *symbol = find_symbol(opened, name);
  (void)opened;
  if (symbol == NULL && reason[0] == '\0')
    snprintf(reason, sizeof reason, "%s has no %s", CUFFT_NAME, name);
  memcpy(function, &symbol, sizeof symbol);
}

static void look(void) {
  void *opened = open_library();
  if (opened == NULL) {
    snprintf(reason, sizeof reason, "it cannot be opened: %s", open_error());
    return;
  }
#define CUFFT_FIND(name, arguments) find(opened, #name, &library.name);
  CUFFT_FUNCTIONS(CUFFT_FIND)
#undef CUFFT_FIND
}

cumega_status cufft_find(cumega_context *ctx, const cufft_library **found) {
  pthread_once(&looked, look);
  *found = &library;
  if (reason[0] == '\0') return CUMEGA_OK;
  return front->fail(ctx, CUMEGA_ERROR_DEVICE, "algorithm FFT needs cuFFT, and %s", reason);
}

cumega_status cufft_fail(cumega_context *ctx, cufftResult result, const char *call,
                         const char *file, int line) {
  TRY(cuda_check_device(ctx)); /* the better reason */
  return front->fail(ctx,
                     result == CUFFT_ALLOC_FAILED ? CUMEGA_ERROR_RESOURCE : CUMEGA_ERROR_DEVICE,
                     "%s gave %d of cuFFT (%s:%d)", call, (int)result, basename(file), line);
}
