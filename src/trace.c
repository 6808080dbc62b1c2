#include "trace.h"
#include <stdlib.h>
#include <string.h>

int64_t trace_bytes(int count, const DLTensor *const *tensors) {
  int64_t all = 0;
  for (int i = 0; i < count; i++) {
    const DLTensor *tensor = tensors[i];
    if (!tensor || tensor->ndim < 0 || tensor->ndim > CUMEGA_MAX_DIMS ||
        (tensor->ndim > 0 && !tensor->shape))
      continue;
    int64_t bytes = tensor->dtype.bits / 8;
    int overflow = 0;
    for (int d = 0; d < tensor->ndim; d++)
      overflow |= __builtin_mul_overflow(bytes, tensor->shape[d], &bytes);
    if (!overflow && bytes > 0) overflow = __builtin_add_overflow(all, bytes, &all);
  }
  return all;
}

#ifdef CUMEGA_HAS_NVTX

#include <pthread.h>
#include <nvtx3/nvToolsExt.h>

static pthread_once_t once = PTHREAD_ONCE_INIT;
static nvtxDomainHandle_t domain; /* NULL where no tool listens: then ranges go nowhere */

static void make_domain(void) {
  domain = nvtxDomainCreateA("cumega");
}

int trace_begin(const char *name, int64_t bytes) {
  nvtxEventAttributes_t attributes;
  memset(&attributes, 0, sizeof attributes);
  attributes.version = NVTX_VERSION;
  attributes.size = NVTX_EVENT_ATTRIB_STRUCT_SIZE;
  attributes.messageType = NVTX_MESSAGE_TYPE_ASCII;
  attributes.message.ascii = name;
  attributes.payloadType = NVTX_PAYLOAD_TYPE_INT64;
  attributes.payload.llValue = bytes;
  pthread_once(&once, make_domain);
  if (!domain) return 0;
  (void)nvtxDomainRangePushEx(domain, &attributes);
  return 1;
}

void trace_end(const int *begun) {
  if (*begun) (void)nvtxDomainRangePop(domain);
}

#endif

static int is_set(const char *value) {
  return value && *value;
}

cumega_status trace_choose(cumega_context *ctx) {
  const char *asked = getenv("CUMEGA_NVTX");
  if (is_set(asked) && strcmp(asked, "0") != 0 && strcmp(asked, "1") != 0)
    return call_fail_argument(ctx, "CUMEGA_NVTX is '%.40s', expected 0 or 1", asked);
#ifdef CUMEGA_HAS_NVTX
  ctx->traces = is_set(asked) ? *asked == '1' : is_set(getenv("NVTX_INJECTION64_PATH"));
  if (ctx->traces) call_log(ctx, CUMEGA_LOG_INFO, "calls are NVTX ranges of domain cumega");
#else
  if (is_set(asked) && *asked == '1')
    return call_fail(ctx, CUMEGA_ERROR_UNSUPPORTED,
                     "CUMEGA_NVTX is 1, but this build of cumega was made without NVTX's headers");
#endif
  return CUMEGA_OK;
}
