#include "damage.h"
#include <stdio.h>
#include <stdlib.h>

#define SHOWN 300 /* bytes of a file in a finding */

uint8_t *make_file(const char *header, size_t header_bytes, size_t data, size_t *count) {
  *count = 8 + header_bytes + data;
  uint8_t *bytes = malloc(*count);
  MUST(bytes != NULL, "no memory");
  for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)((uint64_t)header_bytes >> (8 * i));
  memcpy(bytes + 8, header, header_bytes);
  for (size_t i = 0; i < data; i++) bytes[8 + header_bytes + i] = (uint8_t)i;
  return bytes;
}

void judge_file(damage_count *n, const uint8_t *bytes, size_t count, const char *expected) {
  char sentence[SENTENCE];
  int code = judge(bytes, count, sentence);
  if (code == 0)
    n->accepted++;
  else
    n->refused++;
  if (expected == NULL)
    MUST(code == 0, "%d: %s", code, sentence);
  else
    MUST(code != 0 && strstr(sentence, expected) != NULL, "%d, not '%s': %.*s", code, sentence,
         count < 8       ? 0
         : count < SHOWN ? (int)count - 8
                         : SHOWN,
         (const char *)bytes + 8);
}

void judge_damage(damage_count *n, const uint8_t *bytes, size_t count, size_t data,
                  int data_is_free) {
  char sentence[SENTENCE];
  uint8_t *copy = malloc(count);
  MUST(copy != NULL, "no memory");
  for (size_t cut = 0; cut < count; cut++) judge_file(n, bytes, cut, "");
  for (size_t bit = 0; bit < 8 * count; bit++) {
    memcpy(copy, bytes, count);
    copy[bit / 8] ^= (uint8_t)(1 << bit % 8);
    if (bit / 8 >= data && data_is_free)
      judge_file(n, copy, count, NULL);
    else if (judge(copy, count, sentence) == 0)
      n->accepted++;
    else
      n->refused++;
  }
  free(copy);
}
