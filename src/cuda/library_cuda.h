/* Libraries of the CUDA toolkit that are opened when a run first needs them, and never linked. A
 * program that needs neither cuBLAS nor cuFFT does not load their hundreds of megabytes, and
 * where one is missing, the run fails with a sentence. */
#ifndef CUMEGA_SRC_CUDA_LIBRARY_CUDA_H
#define CUMEGA_SRC_CUDA_LIBRARY_CUDA_H

#include <cuda_runtime_api.h>
#include "../backend.h"

typedef struct library_function {
  const char *symbol;
  void *function; /* the address of the function pointer to set */
} library_function;

typedef struct library {
  const char *need; /* the beginning of a sentence: "Highway's products need cuBLAS" */
  const char *file;
  void *(*emulated_open)(void); /* where it is emulated, in place of dlopen and dlsym */
  void *(*emulated_find)(const char *symbol);
  const library_function *functions;
  int function_count;
  int looked;        /* whether it is known if the library is there */
  char missing[256]; /* why not; empty where all functions were found */
} library;

/* Which library: that of the toolkit's major version, or an emulated one. */
#if defined(CUMEGA_EMULATION)
#define LIBRARY_FILE(word, name, of_cuda12, of_cuda13)                                             \
  .file = "emulated " name, .emulated_open = emulation_##word##_open,                              \
  .emulated_find = emulation_##word##_find
#elif CUDART_VERSION >= 13000
#define LIBRARY_FILE(word, name, of_cuda12, of_cuda13) .file = of_cuda13
#else
#define LIBRARY_FILE(word, name, of_cuda12, of_cuda13) .file = of_cuda12
#endif
#define LIBRARY_FUNCTIONS(table)                                                                   \
  .functions = (table), .function_count = (int)(sizeof(table) / sizeof(table)[0])

/* Opens it and finds its functions. Only the first call looks; every call of a library that is
 * not complete is DEVICE, with the reason. */
cumega_status library_need(cumega_context *ctx, library *lib);

#endif
