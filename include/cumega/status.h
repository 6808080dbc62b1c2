/* The status that every call returns: 0 for success. The context keeps a sentence for people
 * (cumega_context_message): which argument failed, what it was, and what was expected. What to do
 * about each status is in docs/errors.md. */
#ifndef CUMEGA_STATUS_H
#define CUMEGA_STATUS_H

#include <cumega/version.h>

/* X(name, value, text). Values never change; new ones are added at the end. */
#define CUMEGA_STATUS_LIST(X)                                                                     \
  X(CUMEGA_OK, 0, "success")                                                                      \
  X(CUMEGA_ERROR_ARGUMENT, 1, "an argument is not valid; nothing was written")                    \
  X(CUMEGA_ERROR_UNSUPPORTED, 2, "this build or this device cannot do what was asked")            \
  X(CUMEGA_ERROR_RESOURCE, 3, "memory or another resource ran out; the call may be tried again")  \
  X(CUMEGA_ERROR_FILE, 4, "a file could not be opened, read or written")                          \
  X(CUMEGA_ERROR_FORMAT, 5, "a file does not hold what was expected")                             \
  X(CUMEGA_ERROR_STATE, 6, "the call is not allowed now, as in a forked child")                   \
  X(CUMEGA_ERROR_DEVICE, 7, "no usable device, driver or backend library")                        \
  X(CUMEGA_ERROR_FATAL, 8, "the device failed; the context can only be destroyed")

typedef enum cumega_status {
#define CUMEGA_STATUS_ENUMERATOR(name, value, text) name = value,
  CUMEGA_STATUS_LIST(CUMEGA_STATUS_ENUMERATOR)
#undef CUMEGA_STATUS_ENUMERATOR
} cumega_status;

#ifdef __cplusplus
extern "C" {
#endif

/* The list's text for a status; "unknown status" for any other value. */
CUMEGA_API const char *cumega_status_string(cumega_status status);

/* A status's name, as "CUMEGA_ERROR_ARGUMENT"; NULL for any other value. */
CUMEGA_API const char *cumega_status_name(cumega_status status);

/* The status with that name. Returns 1, or 0 where there is none or an argument is NULL; *status
 * is then unchanged. */
CUMEGA_API CUMEGA_CHECK_RESULT int cumega_status_from_name(const char *name,
                                                           cumega_status *status);

#ifdef __cplusplus
}
#endif
#endif
