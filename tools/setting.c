#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "failure.h"
#include "setting.h"
#include "values.h"

void list_add(char *text, size_t size, const char *separator, const char *word) {
  size_t used = strlen(text);
  if (used < size) snprintf(text + used, size - used, "%s%s", used > 0 ? separator : "", word);
}

static const char *word_at(const setting *s, int i) {
  return s->words != NULL ? s->words[i] : s->word(i);
}

char *setting_expected(const setting *s, char *text, size_t size) {
  static const char *const by_type[] = {[SETTING_INTEGER] = "an integer",
                                        [SETTING_NUMBER] = "a number",
                                        [SETTING_BOOLEAN] = "true or false",
                                        [SETTING_WORD] = "one of ",
                                        [SETTING_STATE] = "float32 or float64"};
  snprintf(text, size, "%s", by_type[s->type]);
  if (s->flags & SETTING_OR_NULL) list_add(text, size, " ", "or null");
  if (s->flags & SETTING_FROM_ZERO) list_add(text, size, " ", ">= 0");
  for (int i = 0; s->type == SETTING_WORD && word_at(s, i) != NULL; i++)
    list_add(text, size, i > 0 ? ", " : "", word_at(s, i));
  return text;
}

/* ---- from a case file ---- */

/* The length of the name before a dot, which is the name of an object; 0 if there is no dot. */
static size_t object_length(const char *name) {
  const char *dot = strchr(name, '.');
  return dot != NULL ? (size_t)(dot - name) : 0;
}

/* The object that holds the setting, or NULL, and the setting's key in it. */
static json_t *object_of(const json_t *config, const char *name, char object[32],
                         const char **key) {
  size_t length = object_length(name);
  snprintf(object, 32, "%.*s", (int)length, name);
  *key = length > 0 ? name + length + 1 : name;
  return length > 0 ? json_object_get(config, object) : (json_t *)(uintptr_t)config;
}

json_t *setting_find(const json_t *config, const char *name) {
  char object[32];
  const char *key;
  const json_t *holder = object_of(config, name, object, &key);
  return json_object_get(holder, key);
}

int setting_put(json_t *config, const char *name, json_t *value) {
  char object[32];
  const char *key;
  if (object_of(config, name, object, &key) == NULL)
    (void)json_object_set_new(config, object, json_object());
  json_t *holder = object_of(config, name, object, &key);
  return json_object_set_new(holder, key, value) == 0;
}

static int refuse(const case_file *file, const char *name, const json_t *value,
                  const char *expected) {
  char *text = json_dumps(value, JSON_ENCODE_ANY | JSON_COMPACT);
  int code = fail(EXIT_INPUT, "%s: setting '%s' is %.60s, expected %s", file->path, name,
                  text != NULL ? text : "unreadable", expected);
  free(text);
  return code;
}

/* Whether the table has the setting `name`, or with is_object, settings in the object `name`. */
static int is_known(const setting *known, const char *name, int is_object) {
  for (const setting *s = known; s->name != NULL; s++)
    if (is_object
            ? object_length(s->name) == strlen(name) && strncmp(s->name, name, strlen(name)) == 0
            : strcmp(s->name, name) == 0)
      return 1;
  return 0;
}

static int refuse_unknown(const case_file *file, const setting *known, const char *name) {
  char list[1024] = "";
  for (const setting *s = known; s->name != NULL; s++) list_add(list, sizeof list, ", ", s->name);
  return fail(EXIT_INPUT, "%s: setting '%s' is not known, expected one of %s", file->path, name,
              list);
}

/* Checks the keys of the configuration, or those of the object `inside` in it. */
static int check_names(const case_file *file, const setting *known, json_t *object,
                       const char *inside) {
  const char *key;
  json_t *value;
  json_object_foreach(object, key, value) {
    char name[160];
    snprintf(name, sizeof name, "%s%s%s", inside, inside[0] != '\0' ? "." : "", key);
    if (inside[0] == '\0' && is_known(known, key, 1)) {
      if (!json_is_object(value)) return refuse(file, key, value, "an object");
      int code = check_names(file, known, value, key);
      if (code != EXIT_OK) return code;
    } else if (!is_known(known, name, 0)) {
      return refuse_unknown(file, known, name);
    }
  }
  return EXIT_OK;
}

int setting_word(const setting *s, const char *text, int *value) {
  if (text == NULL) return 0;
  for (int i = 0; word_at(s, i) != NULL; i++)
    if (strcmp(word_at(s, i), text) == 0) {
      *value = i;
      return 1;
    }
  return s->find != NULL && s->find(text, value);
}

static int is_state(const char *text, DLDataType *dtype) {
  return text != NULL && values_dtype_from_name(text, dtype) && dtype->bits >= 32;
}

/* Returns 0 if the setting cannot have this JSON value. */
static int store(const setting *s, const json_t *value, void *place) {
  switch (s->type) {
  case SETTING_INTEGER: {
    int64_t integer = json_integer_value(value);
    if (!json_is_integer(value) || (s->flags & SETTING_FROM_ZERO && integer < 0)) return 0;
    memcpy(place, &integer, sizeof integer);
    return 1;
  }
  case SETTING_NUMBER: {
    double number = json_number_value(value);
    memcpy(place, &number, sizeof number);
    return json_is_number(value);
  }
  case SETTING_BOOLEAN: {
    int32_t boolean = json_is_true(value);
    memcpy(place, &boolean, sizeof boolean);
    return json_is_boolean(value);
  }
  case SETTING_WORD: {
    int word = 0, found = setting_word(s, json_string_value(value), &word);
    if (found) memcpy(place, &word, sizeof word);
    return found;
  }
  case SETTING_STATE: {
    DLDataType dtype = cumega_float32;
    int found = is_state(json_string_value(value), &dtype);
    memcpy(place, &dtype, sizeof dtype);
    return found;
  }
  default: return 0;
  }
}

int settings_read(const case_file *file, const setting *known, void *object) {
  int code = check_names(file, known, file->config, "");
  for (const setting *s = known; code == EXIT_OK && s->name != NULL; s++) {
    char expected[256], part[32];
    const char *key;
    const json_t *asked = object_of(file->config, s->name, part, &key);
    const json_t *value = json_object_get(asked, key);
    setting_expected(s, expected, sizeof expected);
    if (value == NULL && asked != NULL && (s->flags & SETTING_NEEDED))
      return fail(EXIT_INPUT, "%s: setting '%s' is missing, expected %s", file->path, s->name,
                  expected);
    if (value == NULL || (json_is_null(value) && (s->flags & SETTING_OR_NULL))) continue;
    if (!store(s, value, (char *)object + s->offset))
      code = refuse(file, s->name, value, expected);
  }
  return code;
}

const setting *settings_state(const setting *known) {
  while (known->name != NULL && known->type != SETTING_STATE) known++;
  return known->name != NULL ? known : NULL;
}

/* ---- from the command line ---- */

json_t *setting_json(const setting *s, const char *text) {
  char *end;
  int word;
  double number;
  long long integer;
  DLDataType dtype;
  errno = 0;
  switch (s->type) {
  case SETTING_INTEGER:
    integer = strtoll(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || integer < 1) return NULL;
    return json_integer(integer);
  case SETTING_NUMBER:
    number = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(number) ? json_real(number) : NULL;
  case SETTING_BOOLEAN:
    if (strcmp(text, "true") != 0 && strcmp(text, "false") != 0) return NULL;
    return json_boolean(text[0] == 't');
  case SETTING_WORD: return setting_word(s, text, &word) ? json_string(word_at(s, word)) : NULL;
  case SETTING_STATE: return is_state(text, &dtype) ? json_string(text) : NULL;
  default: return NULL;
  }
}

int setting_is_optional(const setting *s) {
  return !(s->flags & SETTING_NEEDED) || object_length(s->name) > 0;
}
