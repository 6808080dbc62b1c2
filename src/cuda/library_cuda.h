/* Libraries of the CUDA toolkit that are opened when a run first needs them, and never linked. So
 * a program that needs neither cuBLAS nor cuFFT does not load their hundreds of megabytes. If a
 * library is missing, the run fails with a sentence. */
#ifndef CUMEGA_SRC_CUDA_LIBRARY_CUDA_H
#define CUMEGA_SRC_CUDA_LIBRARY_CUDA_H

#include <cuda_runtime_api.h>
#include "../backend.h"

typedef struct library_function {
  const char *symbol;
  void *function; /* the address of the function pointer to set */
} library_function;

typedef struct library {
  const char *need; /* begins a message: "Highway's products need cuBLAS" */
  const char *file;
  void *(*emulated_open)(void); /* if emulated: replaces dlopen and dlsym */
  void *(*emulated_find)(const char *symbol);
  const library_function *functions;
  int function_count;
  int looked;        /* whether the library has been looked for */
  char missing[256]; /* the reason for a failure; empty if all functions were found */
} library;

/* The file of the library: that of the toolkit's major version, or an emulated one. */
#if defined(CUMEGA_EMULATION)
#define LIBRARY_FILE(word, name, of_cuda12, of_cuda13)                                            \
  .file = "emulated " name, .emulated_open = emulation_##word##_open,                             \
  .emulated_find = emulation_##word##_find
#elif CUDART_VERSION >= 13000
#define LIBRARY_FILE(word, name, of_cuda12, of_cuda13) .file = of_cuda13
#else
#define LIBRARY_FILE(word, name, of_cuda12, of_cuda13) .file = of_cuda12
#endif
#define LIBRARY_FUNCTIONS(table)                                                                  \
  .functions = (table), .function_count = (int)(sizeof(table) / sizeof(table)[0])

/* Opens the library and finds its functions, in the first call. If the library is not complete,
 * every call returns DEVICE with the reason. */
cumega_status library_need(cumega_context *ctx, library *lib);

#endif
