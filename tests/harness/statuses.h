/* What a call returned: that it succeeded, or what is wrong. */
#ifndef CUMEGA_TESTS_STATUSES_H
#define CUMEGA_TESTS_STATUSES_H

#include "assertions.h"
#include <string.h>
#include <cumega/cumega.h>

#define MUST(ctx, call)                                                                           \
  do {                                                                                            \
    cumega_status must_status = (call);                                                           \
    ck_assert_msg(must_status == CUMEGA_OK, "%s: %s: %s", #call,                                  \
                  cumega_status_string(must_status), cumega_context_message(ctx));                \
  } while (0)

/* The call fails with that status, and the context's message contains each of the strings that
 * follow. */
#define MUST_FAIL(ctx, call, status, ...)                                                         \
  must_fail(ctx, #call, call, status, (const char *const[]){__VA_ARGS__, NULL})

static inline void must_fail(const cumega_context *ctx, const char *call, cumega_status found,
                             cumega_status expected, const char *const *parts) {
  const char *sentence = cumega_context_message(ctx);
  ck_assert_msg(found == expected, "%s: %s, not %s: %s", call, cumega_status_string(found),
                cumega_status_string(expected), sentence);
  for (; *parts; parts++)
    ck_assert_msg(strstr(sentence, *parts) != NULL, "%s: '%s' is not in: %s", call, *parts,
                  sentence);
}

#endif
