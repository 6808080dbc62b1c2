/* The header's JSON in pieces. A tree of a whole header would take 20 to 150 times its bytes, in
 * memory that jansson allocates and no account sees: its allocator can only be replaced for the
 * whole process, which a library may not do. So an object is walked here member by member, by
 * finding where strings and brackets end, and jansson parses one piece at a time: a string, or
 * one tensor's description. It judges every piece that is accepted. What it may allocate for a
 * piece follows from the piece's length, and is charged to the account while it does. */
#include <inttypes.h>
#include <stdlib.h>
#include "call.h"
#include "weights_file.h"

static const char *skip_spaces(const char *at, const char *end) {
  while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
  return at;
}

/* The byte past the end is NUL, which no header contains. */
static char byte_at(const char *at, const char *end) {
  return at < end ? *at : '\0';
}

/* The position after the string that begins at `at`; NULL where it does not end. */
static const char *skip_string(const char *at, const char *end) {
  for (at++; at < end; at++) {
    if (*at == '"') return at + 1;
    if (*at == '\\') at++;
  }
  return NULL;
}

/* The position after the value that begins at `at`, found by its strings and brackets alone; NULL
 * where it does not end. */
static const char *skip_value(const char *at, const char *end) {
  int64_t depth = 0;
  do {
    if (at >= end) return NULL;
    if (*at == '"') {
      at = skip_string(at, end);
      if (at == NULL) return NULL;
      continue;
    }
    if (depth == 0 && *at != '{' && *at != '[') {
      while (at < end && *at != ',' && *at != '}' && *at > ' ') at++;
      return at;
    }
    depth += (*at == '{' || *at == '[') - (*at == '}' || *at == ']');
    at++;
  } while (depth > 0);
  return at;
}

static int stop(weights_object *object, const char *at, const char *expected) {
  object->at = at;
  object->expected = expected;
  return -1;
}

int weights_next_member(weights_object *object, weights_member *member) {
  const char *end = object->end, *at = skip_spaces(object->at, end);
  int first = object->members++ == 0;
  if (first) { /* at is the brace */
    at = skip_spaces(at + 1, end);
    if (byte_at(at, end) == '}') return object->at = at + 1, 0;
  } else {
    if (byte_at(at, end) == '}') return object->at = at + 1, 0;
    if (byte_at(at, end) != ',') return stop(object, at, "',' or '}'");
    at = skip_spaces(at + 1, end);
  }
  if (byte_at(at, end) != '"') return stop(object, at, "a name in quotes");
  member->name.begin = at;
  member->name.end = skip_string(at, end);
  if (member->name.end == NULL) return stop(object, at, "a name that ends");
  at = skip_spaces(member->name.end, end);
  if (byte_at(at, end) != ':') return stop(object, at, "':'");
  at = skip_spaces(at + 1, end);
  member->value.begin = at;
  member->value.end = skip_value(at, end);
  if (member->value.end == NULL || member->value.end == at)
    return stop(object, at, member->value.end == NULL ? "a value that ends" : "a value");
  object->at = member->value.end;
  return 1;
}

/* An upper bound of what jansson allocates for a piece, malloc's own part included, as
 * tests/weights/check_inside_weights.c measures it. */
static int64_t charge_of(weights_piece piece) {
  int64_t bytes = piece.end - piece.begin;
  return 4096 + bytes * (*piece.begin == '"' ? 4 : 192);
}

/* Where an allocation fails within jansson (2.14), it takes valid text for invalid or leaves a
 * part of it out. So it is called only while malloc has all that it may need. */
static int malloc_has(int64_t bytes) {
  void *volatile probe = malloc((size_t)bytes); /* volatile, or gcc would drop both calls */
  int has = probe != NULL;
  free(probe);
  return has;
}

cumega_status weights_load(const weights_parse_state *p, weights_piece piece, json_t **value) {
  json_error_t error = {0};
  char quoted[WEIGHTS_QUOTE];
  int64_t bytes = piece.end - piece.begin;
  int charged = memory_charge(p->ctx->memory, charge_of(piece));
  *value = NULL;
  if (charged && malloc_has(charge_of(piece)))
    *value =
        json_loadb(piece.begin, (size_t)bytes, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error);
  if (*value != NULL) return CUMEGA_OK;
  if (charged) memory_discharge(p->ctx->memory, charge_of(piece));
  if (error.text[0] == '\0') /* it was not called, or ran out of memory after all */
    return weights_fail(p->ctx, CUMEGA_ERROR_RESOURCE, p->path,
                        "there is no memory to parse %" PRId64 " bytes of its header", bytes);
  return weights_not_json(p, piece.begin + error.position, weights_quote(quoted, error.text));
}

void weights_unload(const weights_parse_state *p, weights_piece piece, json_t *value) {
  json_decref(value);
  memory_discharge(p->ctx->memory, charge_of(piece));
}

cumega_status weights_not_json(const weights_parse_state *p, const char *at, const char *reason) {
  return weights_fail(p->ctx, CUMEGA_ERROR_FORMAT, p->path,
                      "its header is not the JSON of a weights file, at byte %" PRId64 ": %s",
                      (int64_t)(at - p->header), reason);
}
