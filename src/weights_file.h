/* Weight files from inside: the table that an open file becomes, the format's types, and how text
 * from a file gets into sentences and into JSON.
 *
 *   weights.c         opening, reading, looking up
 *   weights_header.c  the header: JSON into a checked table
 *   weights_json.c    the header's JSON, piece by piece
 *   weights_save.c    writing: arguments, order and header, then the data
 *   weights_output.c  a new file that takes its place only when it is whole
 *   weights_type.c    the format's types and DLPack's
 *   weights_text.c    names in sentences, names in JSON */
#ifndef CUMEGA_SRC_WEIGHTS_H
#define CUMEGA_SRC_WEIGHTS_H

#include <jansson.h>
#include <sys/stat.h>
#include <cumega/weights.h>
#include "memory.h"

/* An entry and what the public struct does not show. */
typedef struct weights_tensor {
  cumega_weights_entry entry; /* first, so that an entry's address is its tensor's */
  int64_t begin;              /* of its data, from the start of the data */
  int64_t position;           /* in the header: the order among tensors of no bytes */
} weights_tensor;

struct cumega_weights {
  memory *memory;
  int64_t block_bytes; /* this struct, its tables and every string: one block */
  int fd;
  int64_t data_begin; /* in the file */
  int64_t count;
  weights_tensor *tensors;        /* in the order of the data */
  const weights_tensor **by_name; /* sorted, for bsearch */
  int64_t metadata_count;
  cumega_metadata *metadata;      /* in the file's order */
  const cumega_metadata **by_key; /* sorted, for bsearch */
  const char *path;               /* for sentences */
};

/* Checks the header (header_bytes of it, already in memory) of a file with data_bytes of data, and
 * makes the table; fd and data_begin are left for the caller to fill. */
cumega_status weights_parse(cumega_context *ctx, const char *path, const char *header,
                            int64_t header_bytes, int64_t data_bytes, cumega_weights **weights);

/* A header that is being read. */
typedef struct weights_parse_state {
  cumega_context *ctx;
  const char *path;
  const char *header;
  int64_t data_bytes;
  char *text; /* where the table's next string goes */
} weights_parse_state;

/* A part of the header: one JSON value. */
typedef struct weights_piece {
  const char *begin, *end;
} weights_piece;

typedef struct weights_member {
  weights_piece name, value;
} weights_member;

/* A walk over an object's members. Start with `at` at its '{' and `end` past the last byte that
 * may belong to it. */
typedef struct weights_object {
  const char *at, *end;
  int64_t members;
  const char *expected; /* at `at`, where something else was found */
} weights_object;

/* 1: *member is the next one; 0: there was none, and at is past the '}'; -1: this is not an
 * object, since object->expected was not found at `at`. Strings are found by their quotes, values
 * by their brackets; weights_load judges them. */
int weights_next_member(weights_object *object, weights_member *member);

/* A piece parsed by jansson; the memory for it is in the account until weights_unload. */
cumega_status weights_load(const weights_parse_state *p, weights_piece piece, json_t **value);
void weights_unload(const weights_parse_state *p, weights_piece piece, json_t *value);

/* CUMEGA_ERROR_FORMAT, with the byte of the header and the reason. */
cumega_status weights_not_json(const weights_parse_state *p, const char *at, const char *reason);

/* A type of the format. bits: of one element. order: where the safetensors library puts it when it
 * writes, 0 first. dtype.bits = 0 where DLPack has no such type. */
typedef struct weights_type {
  const char *name;
  int32_t bits;
  int32_t order;
  DLDataType dtype;
} weights_type;

const weights_type *weights_type_named(const char *name); /* NULL: unknown */
const weights_type *weights_type_of(DLDataType dtype);    /* NULL: the format has none */

/* CUMEGA_ERROR_FILE: "is a directory, not a regular file". */
cumega_status weights_not_regular(cumega_context *ctx, const char *path, const struct stat *file);

/* Room for what weights_quote writes: about 100 bytes of text. */
#define WEIGHTS_QUOTE 112

/* Makes text safe for a sentence: control characters, bytes that are not UTF-8 and characters
 * that reorder or break lines become \xNN; text that is too long ends in "...". Returns buffer. */
const char *weights_quote(char buffer[WEIGHTS_QUOTE], const char *text);

/* The same for a path, which keeps its end. */
const char *weights_quote_path(char buffer[WEIGHTS_QUOTE], const char *path);

/* "(2, 3)", cut with "..." where it is too long. Returns buffer. */
const char *weights_quote_shape(char buffer[WEIGHTS_QUOTE], int ndim, const int64_t *shape);

/* "weights file '<path>': <sentence>" through call_fail. */
cumega_status weights_fail(cumega_context *ctx, cumega_status status, const char *path,
                           const char *format, ...) __attribute__((format(printf, 4, 5)));

/* Whether text is valid UTF-8. */
int weights_is_utf8(const char *text);

/* Text that is measured first and then written: with `at` NULL only its length is counted. */
typedef struct weights_text {
  char *at;
  int64_t length;
} weights_text;

void weights_put(weights_text *text, const char *piece);
void weights_put_number(weights_text *text, int64_t number);
void weights_put_json(weights_text *text, const char *string); /* quoted, escaped as serde_json */

/* The new file: written under another name in the same folder, then renamed. */
typedef struct weights_output {
  cumega_context *ctx;
  const char *path; /* as given, for sentences */
  char *final;      /* path with symbolic links resolved */
  char *temporary;  /* "" while there is none */
  int fd;           /* -1 while there is none */
  char *buffer;
  int64_t used;
} weights_output;

cumega_status weights_output_open(weights_output *output, cumega_context *ctx, const char *path);
cumega_status weights_output_put(weights_output *output, const void *data,
                                 int64_t bytes); /* > 0 */
cumega_status weights_output_commit(weights_output *output);

/* After open, whether it succeeded or not: removes the temporary file unless it was committed. */
void weights_output_close(weights_output *output);

#endif
