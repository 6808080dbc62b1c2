/* The contexts of one command: one on the chosen device, and one on the host that reads and writes
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

/* Returns 0, or an exit code after a sentence; session_close is allowed after either, and on a
 * zeroed struct. `auto` is a GPU where a context can be made on one, else the CPU. */
int session_open(const options *given, session *opened);
void session_close(session *opened);

/* A context whose CPU level is that one; NULL: as CUMEGA_CPU has it, which is read then. */
cumega_status session_create_context(const char *level, const cumega_context_options *wanted,
                                     cumega_context **ctx);

/* Whether a context on the CPU can have that level here. */
int session_has_level(const char *level);

/* A context on the CPU whose level is the plain one whatever CUMEGA_CPU says: the exact answers of
 * cases that have none come from it. */
int session_open_plain(cumega_context **plain);

#endif
