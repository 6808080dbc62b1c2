#include "library_cuda.h"
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include "cuda_error.h"

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void *open_library(const library *lib) {
  if (lib->emulated_open != NULL) return lib->emulated_open();
  return dlopen(lib->file, RTLD_NOW | RTLD_LOCAL);
}

static void *find_symbol(const library *lib, void *opened, const char *symbol) {
  return lib->emulated_find != NULL ? lib->emulated_find(symbol) : dlsym(opened, symbol);
}

static void look(library *lib) {
  void *opened = open_library(lib);
  if (opened == NULL) {
    const char *reason = lib->emulated_open != NULL ? "it is hidden" : dlerror();
    snprintf(lib->missing, sizeof lib->missing, "%s cannot be opened: %s", lib->file, reason);
    return;
  }
  for (int i = 0; i < lib->function_count; i++) {
    const library_function *f = &lib->functions[i];
    void *symbol = find_symbol(lib, opened, f->symbol);
    if (symbol == NULL) {
      snprintf(lib->missing, sizeof lib->missing, "%s has no %s", lib->file, f->symbol);
      return;
    }
    memcpy(f->function, &symbol, sizeof symbol); /* ISO C does not convert void * to a function */
  }
}

cumega_status library_need(cumega_context *ctx, library *lib) {
  pthread_mutex_lock(&lock);
  if (!lib->looked) look(lib);
  lib->looked = 1;
  pthread_mutex_unlock(&lock);
  if (lib->missing[0] == '\0') return CUMEGA_OK;
  return front->fail(ctx, CUMEGA_ERROR_DEVICE, "%s, and %s", lib->need, lib->missing);
}
