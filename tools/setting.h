/* The settings of an operation: a table that says what each is called, of which type it is, where
 * it goes, and what it is in `cumega bench`. Case files (JSON) and --set (text) are read by it. */
#ifndef CUMEGA_TOOLS_SETTING_H
#define CUMEGA_TOOLS_SETTING_H

#include "case.h"

/* The C type that the value goes into. */
typedef enum setting_type {
  SETTING_INTEGER, /* int64_t */
  SETTING_NUMBER,  /* double */
  SETTING_BOOLEAN, /* int32_t, 0 or 1 */
  SETTING_WORD,    /* int32_t or an enum */
  SETTING_STATE    /* DLDataType, float32 or float64 */
} setting_type;

enum setting_flag {
  SETTING_NEEDED = 1,    /* where its name has a dot: in every object of that name */
  SETTING_OR_NULL = 2,   /* an integer, or null: as if it were absent */
  SETTING_FROM_ZERO = 4, /* an integer that is not negative */
  SETTING_ON_CPU = 8     /* of bench: another value than the default needs the CPU */
};

typedef struct setting {
  const char *name; /* "size"; "norm.eps" is eps in the object norm. NULL ends a table */
  setting_type type;
  size_t offset; /* of the value in the operation's object */
  int flags;
  const char *(*word)(int value); /* a word's text, as those of words.c; NULL past the last one */
  const char *const *words;       /* or these, with NULL after the last one */
  int (*find)(const char *text, int *value); /* NULL: a word has no other spelling */
  /* Its text in `cumega bench` where --set does not say another; "none" leaves it out. "=L": the
   * dimension L of the shape gives it, and "=": the operation's make; --set does not know these.
   * NULL: the library's default. */
  const char *bench;
} setting;

#define WORDS(...)                                                                                 \
  .words = (const char *const[]) {                                                                 \
    __VA_ARGS__, NULL                                                                              \
  }

/* Reads a case's configuration into object, where the defaults already are. An unknown setting,
 * one of another type and one that is missing are refused: an exit code after a sentence. */
int settings_read(const case_file *file, const setting *known, void *object);

/* The setting of type SETTING_STATE, or NULL. */
const setting *settings_state(const setting *known);

/* The words of enumerations, one after the other from 0 on; NULL past the last one. The library
 * knows its own; only what it has no name for is spelt in words.c. */
const char *word_of_activation(int value);
const char *word_of_algorithm(int value); /* of cumega_ema_forward */
const char *word_of_kind(int value);      /* of residual connections */
const char *word_of_norm(int value);
const char *word_of_bias(int value); /* cumega_position_bias_kind, and BIAS_NONE */
#define BIAS_NONE 2

/* By any of its names; 0 where there is none. */
int find_activation(const char *text, int *value);
int find_kind(const char *text, int *value);

/* The value of a word; 0 where it is none of the setting's. */
int setting_word(const setting *s, const char *text, int *value);

/* A text of --set as JSON; NULL where the setting has no such value. */
json_t *setting_json(const setting *s, const char *text);

/* Whether --set may leave the setting out, with "none". */
int setting_is_optional(const setting *s);

/* What a value may be, "one of relative, rotary, none", into text; returns text. */
char *setting_expected(const setting *s, char *text, size_t size);

/* A setting in a configuration, or NULL; and putting one there: 0 where memory is short. */
json_t *setting_find(const json_t *config, const char *name);
int setting_put(json_t *config, const char *name, json_t *value);

/* Appends a word to a list in text. */
void list_add(char *text, size_t size, const char *separator, const char *word);

#endif
