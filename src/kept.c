#include "kept.h"
#include <string.h>

static void unlink_entry(cumega_context *ctx, kept *entry) {
  kept **link = &ctx->kept;
  while (*link != entry) link = &(*link)->next;
  *link = entry->next;
}

void kept_add(cumega_context *ctx, kept *entry) {
  entry->next = ctx->kept;
  ctx->kept = entry;
}

kept *kept_next(kept *from, kept_type type) {
  while (from != NULL && from->release != type) from = from->next;
  return from;
}

kept *kept_find(cumega_context *ctx, kept_type type, const int64_t key[6]) {
  kept *entry = kept_next(ctx->kept, type);
  while (entry != NULL && memcmp(entry->key, key, sizeof entry->key) != 0)
    entry = kept_next(entry->next, type);
  if (entry == NULL) return NULL;
  unlink_entry(ctx, entry);
  kept_add(ctx, entry);
  return entry;
}

kept *kept_excess(cumega_context *ctx, kept_type type, int most) {
  kept *oldest = NULL;
  int count = 0;
  for (kept *at = kept_next(ctx->kept, type); at != NULL; at = kept_next(at->next, type)) {
    if (at->captured) continue;
    oldest = at;
    count++;
  }
  return count >= most ? oldest : NULL;
}

void kept_remove(cumega_context *ctx, kept *entry) {
  unlink_entry(ctx, entry);
  entry->release(ctx, entry);
}

void kept_remove_all(cumega_context *ctx) {
  while (ctx->kept != NULL) kept_remove(ctx, ctx->kept);
}
