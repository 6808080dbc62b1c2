/* Files that are damaged in every small way. */
#ifndef CUMEGA_TESTS_FUZZ_DAMAGE_H
#define CUMEGA_TESTS_FUZZ_DAMAGE_H

#include "fuzz.h"

typedef struct damage_count {
  long refused, accepted;
} damage_count;

/* A file made of a header, preceded by its length, and data after it: the bytes 0, 1, 2, ... The
 * caller frees the result. */
uint8_t *make_file(const char *header, size_t header_bytes, size_t data, size_t *count);

/* Judges the file. `expected` is part of the message with which it must be refused ("": any
 * message); NULL: it must be accepted. */
void judge_file(damage_count *n, const uint8_t *bytes, size_t count, const char *expected);

/* The file cut at every byte (every cut must be refused), and with every single bit flipped;
 * flips from byte `data` on must be accepted if data_is_free is not 0. */
void judge_damage(damage_count *n, const uint8_t *bytes, size_t count, size_t data,
                  int data_is_free);

#endif
