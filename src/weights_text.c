/* Text that comes from a file or goes into one. A weight file may come from anywhere, and its
 * names end up in logs and on terminals: what could move a cursor, or forge or reorder a line, is
 * escaped. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include "call.h"
#include "weights_file.h"

/* The length of the UTF-8 character at s, with its code point; 0 where there is none. Overlong
 * forms, surrogates and code points above U+10FFFF are not characters. A NUL ends every sequence,
 * so this never reads past the end of a string. */
static int utf8_next(const char *s, uint32_t *code) {
  const unsigned char *u = (const unsigned char *)s;
  int length = u[0] < 0x80 ? 1 : u[0] < 0xC2 ? 0 : u[0] < 0xE0 ? 2 : u[0] < 0xF0 ? 3 : 4;
  if (length == 0 || u[0] > 0xF4) return 0;
  uint32_t value = length == 1 ? u[0] : u[0] & (0x7Fu >> length);
  for (int i = 1; i < length; i++) {
    if ((u[i] & 0xC0) != 0x80) return 0;
    value = value << 6 | (u[i] & 0x3Fu);
  }
  if (length == 3 && value < 0x800) return 0;
  if (length == 4 && (value < 0x10000 || value > 0x10FFFF)) return 0;
  if (value >= 0xD800 && value <= 0xDFFF) return 0;
  *code = value;
  return length;
}

int weights_is_utf8(const char *text) {
  uint32_t code;
  while (*text != '\0') {
    int length = utf8_next(text, &code);
    if (length == 0) return 0;
    text += length;
  }
  return 1;
}

/* Not control characters (C0, DEL, C1), nor the marks that separate lines or set directions. */
static int is_printable(uint32_t code) {
  if (code < 0x20 || (code >= 0x7F && code < 0xA0)) return 0;
  if (code >= 0x200B && code <= 0x200F) return 0;
  if (code >= 0x2028 && code <= 0x202E) return 0;
  return !(code >= 0x2060 && code <= 0x206F) && code != 0xFEFF && code != 0x61C;
}

const char *weights_quote(char buffer[WEIGHTS_QUOTE], const char *text) {
  const int room = WEIGHTS_QUOTE - 4; /* "..." and the NUL */
  int used = 0;
  while (*text != '\0') {
    uint32_t code = 0;
    int length = utf8_next(text, &code);
    int plain = is_printable(code); /* 0 for none, which is not printable */
    if (length == 0) length = 1;
    if (used + (plain ? length : 4 * length) > room) {
      memcpy(buffer + used, "...", 3);
      used += 3;
      break;
    }
    for (int i = 0; i < length; i++) {
      if (plain)
        buffer[used++] = text[i];
      else
        used += sprintf(buffer + used, "\\x%02x", (unsigned)(unsigned char)text[i]);
    }
    text += length;
  }
  buffer[used] = '\0';
  return buffer;
}

const char *weights_quote_path(char buffer[WEIGHTS_QUOTE], const char *path) {
  const size_t kept = 80;
  size_t length = strlen(path);
  if (length <= kept) return weights_quote(buffer, path);
  const char *end = path + length - kept;
  while (((unsigned char)*end & 0xC0) == 0x80) end++; /* not in the middle of a character */
  char tail[WEIGHTS_QUOTE];
  snprintf(tail, sizeof tail, "...%s", end);
  return weights_quote(buffer, tail);
}

const char *weights_quote_shape(char buffer[WEIGHTS_QUOTE], int ndim, const int64_t *shape) {
  int used = sprintf(buffer, "(");
  for (int i = 0; i < ndim; i++) {
    char number[24];
    int length = snprintf(number, sizeof number, "%s%" PRId64, i == 0 ? "" : ", ", shape[i]);
    if (used + length > WEIGHTS_QUOTE - 8) {
      used += sprintf(buffer + used, ", ...");
      break;
    }
    memcpy(buffer + used, number, (size_t)length);
    used += length;
  }
  sprintf(buffer + used, ")");
  return buffer;
}

cumega_status weights_fail(cumega_context *ctx, cumega_status status, const char *path,
                           const char *format, ...) {
  char quoted[WEIGHTS_QUOTE], sentence[640];
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(sentence, sizeof sentence, format, arguments);
  va_end(arguments);
  return call_fail(ctx, status, "weights file '%s': %s", weights_quote_path(quoted, path),
                   sentence);
}

static void put_bytes(weights_text *text, const char *bytes, int64_t count) {
  if (text->at != NULL) memcpy(text->at + text->length, bytes, (size_t)count);
  text->length += count;
}

void weights_put(weights_text *text, const char *piece) {
  put_bytes(text, piece, (int64_t)strlen(piece));
}

void weights_put_number(weights_text *text, int64_t number) {
  char digits[24];
  snprintf(digits, sizeof digits, "%" PRId64, number);
  weights_put(text, digits);
}

void weights_put_json(weights_text *text, const char *string) {
  static const char named[] = "\"\\\b\f\n\r\t", letters[] = "\"\\bfnrt";
  weights_put(text, "\"");
  for (const char *s = string; *s != '\0'; s++) {
    char escape[8];
    const char *found = strchr(named, *s);
    if (found == NULL && (unsigned char)*s >= 0x20) {
      put_bytes(text, s, 1);
      continue;
    }
    if (found != NULL)
      snprintf(escape, sizeof escape, "\\%c", letters[found - named]);
    else
      snprintf(escape, sizeof escape, "\\u%04x", (unsigned)*s);
    weights_put(text, escape);
  }
  weights_put(text, "\"");
}
