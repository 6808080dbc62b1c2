/* Lives of objects, for suites that make something fail in them: contexts, objects, runs and
 * ends, as a server has them. A life returns the first status that is not OK, and destroys
 * everything in any case. */
#ifndef CUMEGA_TESTS_LIVES_H
#define CUMEGA_TESTS_LIVES_H

#include <cumega/cumega.h>

typedef struct life_end {
  cumega_status status;
  int has_context;    /* it was made */
  char sentence[200]; /* of the failure, or "" */
  void *lost;         /* memory that a context of a lost device could not release, or NULL */
} life_end;

typedef struct life {
  const char *name;
  life_end (*live)(const cumega_context_options *options);
} life;

extern const life lives[];
extern const int life_count;

#endif
