/* A minimal profiler. NVTX loads it if NVTX_INJECTION64_PATH names it, and it writes the ranges
 * that occur, one per line, to the file that RECORDER_LOG names. */
#include <stdio.h>
#include <stdlib.h>
#include <nvtx3/nvToolsExt.h>

static FILE *out;

static nvtxDomainHandle_t NVTX_API create(const char *name) {
  fprintf(out, "domain %s\n", name);
  return (nvtxDomainHandle_t)1;
}

static int NVTX_API push(nvtxDomainHandle_t domain, const nvtxEventAttributes_t *range) {
  fprintf(out, "push %d %s %lld\n", domain == (nvtxDomainHandle_t)1, range->message.ascii,
          range->payloadType == NVTX_PAYLOAD_TYPE_INT64 ? (long long)range->payload.llValue : -1);
  fflush(out);
  return 0;
}

static int NVTX_API pop(nvtxDomainHandle_t domain) {
  fprintf(out, "pop %d\n", domain == (nvtxDomainHandle_t)1);
  fflush(out);
  return 0;
}

__attribute__((visibility("default"))) int
InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table);

int InitializeInjectionNvtx2(NvtxGetExportTableFunc_t get_table) {
  const NvtxExportTableCallbacks *tables = get_table(NVTX_ETID_CALLBACKS);
  NvtxFunctionTable table = NULL;
  unsigned int size = 0;
  const char *path = getenv("RECORDER_LOG");
  if (path == NULL || (out = fopen(path, "w")) == NULL || tables == NULL ||
      !tables->GetModuleFunctionTable(NVTX_CB_MODULE_CORE2, &table, &size) ||
      size <= NVTX_CBID_CORE2_DomainRangePop)
    return 0;
  *table[NVTX_CBID_CORE2_DomainCreateA] = (NvtxFunctionPointer)create;
  *table[NVTX_CBID_CORE2_DomainRangePushEx] = (NvtxFunctionPointer)push;
  *table[NVTX_CBID_CORE2_DomainRangePop] = (NvtxFunctionPointer)pop;
  return 1;
}
