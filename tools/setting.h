/* The settings of an operation: a table with the name and type of each, where its value goes, and
 * its value in `cumega bench`. Case files (JSON) and --set (text) are read with it. */
#ifndef CUMEGA_TOOLS_SETTING_H
#define CUMEGA_TOOLS_SETTING_H

#include "case.h"

/* The C type of the value. */
typedef enum setting_type {
  SETTING_INTEGER, /* int64_t */
  SETTING_NUMBER,  /* double */
  SETTING_BOOLEAN, /* int32_t, 0 or 1 */
  SETTING_WORD,    /* int32_t or an enum */
  SETTING_STATE    /* DLDataType, float32 or float64 */
} setting_type;

enum setting_flag {
  SETTING_NEEDED = 1,    /* if its name has a dot: in every object of that name */
  SETTING_OR_NULL = 2,   /* may be null, as if it were absent */
  SETTING_FROM_ZERO = 4, /* an integer >= 0 */
  SETTING_ON_CPU = 8     /* in bench, values other than the default need the CPU */
};

typedef struct setting {
  const char *name; /* "size"; "norm.eps" is eps in the object norm; NULL ends a table */
  setting_type type;
  size_t offset; /* of the value in the operation's object */
  int flags;
  const char *(*word)(int value); /* the text of a value (words.c); NULL after the last one */
  const char *const *words;       /* or the texts, with NULL after the last one */
  int (*find)(const char *text, int *value); /* NULL if words have no other spelling */
  /* The default of `cumega bench`, as text; "none" leaves it out. "=L" means that it is the
   * dimension L of the shape, and "=" that the operation's make gives it; --set cannot set these.
   * NULL for the library's default. */
  const char *bench;
} setting;

#define WORDS(...)                                                                                \
  .words = (const char *const[]) {                                                                \
    __VA_ARGS__, NULL                                                                             \
  }

/* Reads a case's configuration into object, which has the defaults already. Returns an exit code
 * after a message if a setting is unknown, missing or of the wrong type. */
int settings_read(const case_file *file, const setting *known, void *object);

/* The setting of type SETTING_STATE, or NULL. */
const setting *settings_state(const setting *known);

/* The words of enumerations, from value 0 on; NULL after the last one. Most come from the library.
 * words.c has only those for which the library has no name. */
const char *word_of_activation(int value);
const char *word_of_algorithm(int value); /* for cumega_ema_forward */
const char *word_of_kind(int value);      /* for residual connections */
const char *word_of_norm(int value);
const char *word_of_bias(int value); /* cumega_position_bias_kind, and BIAS_NONE */
#define BIAS_NONE 2

/* Finds an activation by any of its names. Returns 0 if there is none. */
int find_activation(const char *text, int *value);
int find_kind(const char *text, int *value);

/* The value of a word. Returns 0 if the setting does not have that word. */
int setting_word(const setting *s, const char *text, int *value);

/* A text of --set as JSON, or NULL if the setting cannot have that value. */
json_t *setting_json(const setting *s, const char *text);

/* Whether --set may leave the setting out, by "none". */
int setting_is_optional(const setting *s);

/* Writes what a value may be, "one of relative, rotary, none", into text; returns text. */
char *setting_expected(const setting *s, char *text, size_t size);

/* A setting in a configuration, or NULL; and adding one, which returns 0 if memory is short. */
json_t *setting_find(const json_t *config, const char *name);
int setting_put(json_t *config, const char *name, json_t *value);

/* Appends a word to a list in text. */
void list_add(char *text, size_t size, const char *separator, const char *word);

#endif
