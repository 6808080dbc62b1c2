/* What a context keeps between calls because it is expensive to make: rotary tables, FFT plans and
 * spectra, library handles, scratch that a captured graph still uses. All of it is one list, the
 * last used first, on a CPU and on a GPU alike. An entry's type is known by its release function.
 * */
#ifndef CUMEGA_SRC_KEPT_H
#define CUMEGA_SRC_KEPT_H

#include "context_struct.h"

/* The first member of an entry's own struct. */
typedef struct kept {
  struct kept *next;
  int64_t key[6]; /* unique among the entries of a type */
  int captured;   /* a captured graph has seen it: it stays until the context is destroyed */
  /* Frees the entry. What a GPU may still be doing with it has been waited for. */
  void (*release)(cumega_context *ctx, struct kept *entry);
} kept;

typedef void (*kept_type)(cumega_context *ctx, kept *entry);

/* The entry with that key, which becomes the list's first; NULL where there is none. */
kept *kept_find(cumega_context *ctx, kept_type type, const int64_t key[6]);

/* The first entry of a type at or after `from`; NULL where there is none. Begin with ctx->kept
 * and go on with an entry's next. */
kept *kept_next(kept *from, kept_type type);

/* The entry to give up for a new one: where `most` entries of the type or more are not captured,
 * the one of them used longest ago; else NULL. The caller waits for the device and calls
 * kept_remove. */
kept *kept_excess(cumega_context *ctx, kept_type type, int most);

void kept_add(cumega_context *ctx, kept *entry);
void kept_remove(cumega_context *ctx, kept *entry); /* and releases it */
void kept_remove_all(cumega_context *ctx);

#endif
