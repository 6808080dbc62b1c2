/* The contexts of a command: one on the chosen device, and one on the host, which reads and writes
 * files. */
#ifndef CUMEGA_TOOLS_SESSION_H
#define CUMEGA_TOOLS_SESSION_H

#include <cumega/context.h>
#include "options.h"

typedef struct session {
  cumega_context *host, *ctx;
  DLDevice place;  /* of ctx */
  char device[24]; /* "cpu", "cuda:0" */
} session;

/* Returns 0, or an exit code after a message. session_close is allowed after either, and on a
 * zeroed struct. `auto` is a GPU if a context can be made on one, else the CPU. */
int session_open(const options *given, session *opened);
void session_close(session *opened);

/* Makes a context with this CPU level, or if level is NULL, with the level of CUMEGA_CPU. */
cumega_status session_create_context(const char *level, const cumega_context_options *wanted,
                                     cumega_context **ctx);

/* Whether a context on this CPU can have that level. */
int session_has_level(const char *level);

/* Makes a context on the CPU with the plain level, whatever CUMEGA_CPU says. It computes the exact
 * answers of cases without any. */
int session_open_plain(cumega_context **plain);

#endif
