/* What every call returns. 0 is success; the sentence for a person is in the context
 * (cumega_context_message): which argument it was, what it was, and what was expected. */
#ifndef CUMEGA_STATUS_H
#define CUMEGA_STATUS_H

#include <cumega/version.h>

/* X(name, value, text). Values never change; new ones are added at the end. */
#define CUMEGA_STATUS_LIST(X)                                                                      \
  X(CUMEGA_OK, 0, "success")                                                                       \
  X(CUMEGA_ERROR_ARGUMENT, 1, "an argument is not valid; nothing was written")                     \
  X(CUMEGA_ERROR_UNSUPPORTED, 2, "this build or this device cannot do what was asked")             \
  X(CUMEGA_ERROR_RESOURCE, 3, "memory or another resource ran out; the call may be tried again")   \
  X(CUMEGA_ERROR_FILE, 4, "a file could not be opened, read or written")                           \
  X(CUMEGA_ERROR_FORMAT, 5, "a file does not hold what was expected")                              \
  X(CUMEGA_ERROR_STATE, 6, "the call is not allowed now, as in a forked child")                    \
  X(CUMEGA_ERROR_DEVICE, 7, "no usable device, driver or backend library")                         \
  X(CUMEGA_ERROR_FATAL, 8, "the device failed; the context can only be destroyed")

typedef enum cumega_status {
#define CUMEGA_STATUS_ENUMERATOR(name, value, text) name = value,
  CUMEGA_STATUS_LIST(CUMEGA_STATUS_ENUMERATOR)
#undef CUMEGA_STATUS_ENUMERATOR
} cumega_status;

#ifdef __cplusplus
extern "C" {
#endif

/* The list's text for a status, "unknown status" for any other value; never NULL. */
CUMEGA_API const char *cumega_status_string(cumega_status status);

#ifdef __cplusplus
}
#endif
#endif
