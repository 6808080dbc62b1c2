#include <stdlib.h>
#include <string.h>
#include "failure.h"
#include "setting.h"

int settings_known(const settings *from, const char *const *known) {
  for (void *i = json_object_iter((json_t *)from->object); i != NULL;
       i = json_object_iter_next((json_t *)from->object, i)) {
    const char *key = json_object_iter_key(i);
    const char *const *name = known;
    while (*name != NULL && strcmp(*name, key) != 0) name++;
    if (*name != NULL) continue;
    char list[512] = "";
    for (name = known; *name != NULL; name++) {
      if (name != known) strncat(list, ", ", sizeof list - strlen(list) - 1);
      strncat(list, *name, sizeof list - strlen(list) - 1);
    }
    return fail(EXIT_INPUT, "%s: setting '%s%s' is not known, expected one of %s", from->file->path,
                from->inside, key, list);
  }
  return EXIT_OK;
}

int settings_refuse(const settings *from, const char *key, const char *expected) {
  char *text = json_dumps(json_object_get(from->object, key), JSON_ENCODE_ANY | JSON_COMPACT);
  int code = fail(EXIT_INPUT, "%s: setting '%s%s' is %.60s, expected %s", from->file->path,
                  from->inside, key, text != NULL ? text : "unreadable", expected);
  free(text);
  return code;
}

int settings_need(const settings *from, const char *key, const char *expected) {
  if (json_object_get(from->object, key) != NULL) return EXIT_OK;
  return fail(EXIT_INPUT, "%s: setting '%s%s' is missing, expected %s", from->file->path,
              from->inside, key, expected);
}

int settings_integer(const settings *from, const char *key, int64_t *value) {
  const json_t *found = json_object_get(from->object, key);
  if (found == NULL) return EXIT_OK;
  if (!json_is_integer(found)) return settings_refuse(from, key, "an integer");
  *value = json_integer_value(found);
  return EXIT_OK;
}

int settings_integer_or_null(const settings *from, const char *key, int64_t *value) {
  const json_t *found = json_object_get(from->object, key);
  if (found == NULL || json_is_null(found)) return EXIT_OK;
  if (!json_is_integer(found)) return settings_refuse(from, key, "an integer or null");
  *value = json_integer_value(found);
  return EXIT_OK;
}

int settings_number(const settings *from, const char *key, double *value) {
  const json_t *found = json_object_get(from->object, key);
  if (found == NULL) return EXIT_OK;
  if (!json_is_number(found)) return settings_refuse(from, key, "a number");
  *value = json_number_value(found);
  return EXIT_OK;
}

int settings_boolean(const settings *from, const char *key, int32_t *value) {
  const json_t *found = json_object_get(from->object, key);
  if (found == NULL) return EXIT_OK;
  if (!json_is_boolean(found)) return settings_refuse(from, key, "true or false");
  *value = json_is_true(found);
  return EXIT_OK;
}

int settings_string(const settings *from, const char *key, const char **value) {
  const json_t *found = json_object_get(from->object, key);
  if (found == NULL) return EXIT_OK;
  if (!json_is_string(found)) return settings_refuse(from, key, "a string");
  *value = json_string_value(found);
  return EXIT_OK;
}

int settings_object(const settings *from, const char *key, const json_t **value) {
  const json_t *found = json_object_get(from->object, key);
  if (found == NULL) return EXIT_OK;
  if (!json_is_object(found)) return settings_refuse(from, key, "an object");
  *value = found;
  return EXIT_OK;
}
