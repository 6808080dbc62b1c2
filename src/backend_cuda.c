/* Finds the CUDA backend, which is a separate library: so one package serves machines with and
 * without a GPU, and a missing driver is a status with a sentence, not a loader's error.
 *
 * The process looks for it once: next to the file that contains this code (libcumega, or a
 * program that links it statically), then where the loader finds any library. A run path would do
 * the first too, but not under AddressSanitizer, whose dlopen is called from elsewhere. The
 * library is never closed, since objects with memory on a device outlive the contexts that made
 * them. */
#include <dlfcn.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include "backend.h"
#include "build_id.h"

static pthread_once_t looked = PTHREAD_ONCE_INIT;
static const backend *table; /* NULL: reason says why */
static char reason[512];

static const backend_front front = {
    .build_id = BUILD_ID,
    .fail = call_fail,
    .log = call_log,
    .memory_allocate = memory_allocate,
    .memory_free = memory_free,
    .memory_charge = memory_charge,
    .memory_discharge = memory_discharge,
    .memory_held = memory_held,
    .memory_limit = memory_limit,
    .kept_find = kept_find,
    .kept_excess = kept_excess,
    .kept_add = kept_add,
    .kept_remove = kept_remove,
    .kept_remove_all = kept_remove_all,
    .ema_kernel_row_channel = ema_kernel_row_channel,
};

/* A function from dlsym; ISO C has no cast from void * to one. */
static backend_cuda_entry entry_of(void *library) {
  union {
    void *object;
    backend_cuda_entry function;
  } symbol = {dlsym(library, BACKEND_CUDA_ENTRY)};
  return symbol.function;
}

static void *open_beside_us(void) {
  Dl_info ours;
  char path[PATH_MAX];
  const char *slash;
  if (!dladdr(&front, &ours) || !ours.dli_fname || !(slash = strrchr(ours.dli_fname, '/')))
    return NULL;
  int length = snprintf(path, sizeof path, "%.*s/%s", (int)(slash - ours.dli_fname),
                        ours.dli_fname, BACKEND_CUDA_LIBRARY);
  return length < (int)sizeof path ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
}

static void look(void) {
  void *library = open_beside_us();
  if (!library) library = dlopen(BACKEND_CUDA_LIBRARY, RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    snprintf(reason, sizeof reason,
             "the CUDA backend cannot be opened: %s (a build with -DCUMEGA_CUDA=ON has it)",
             dlerror());
    return;
  }
  backend_cuda_entry entry = entry_of(library);
  table = entry ? entry(&front) : NULL;
  if (!table)
    snprintf(reason, sizeof reason, "%s is not of the same build as libcumega %s",
             BACKEND_CUDA_LIBRARY, cumega_version_string());
}

cumega_status backend_cuda_find(cumega_context *ctx, const backend **found) {
  pthread_once(&looked, look);
  *found = table;
  if (table) return CUMEGA_OK;
  return call_fail(ctx, CUMEGA_ERROR_DEVICE, "device cuda:%d was asked for, but %s",
                   ctx->device.device_id, reason);
}
