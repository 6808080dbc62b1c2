/* The settings of a case, read strictly: a setting that nobody knows, or of another type than
 * expected, is an error with a sentence that names it. All return 0 or an exit code. */
#ifndef CUMEGA_TOOLS_SETTING_H
#define CUMEGA_TOOLS_SETTING_H

#include "case.h"

/* `object` is file->config, or an object inside of it, whose name then ends `inside` with a dot:
 * "activation_args.". */
typedef struct settings {
  const case_file *file;
  const json_t *object;
  const char *inside; /* "" for the configuration itself */
} settings;

/* known ends with NULL. */
int settings_known(const settings *from, const char *const *known);

/* A required setting. */
int settings_need(const settings *from, const char *key, const char *expected);

/* These leave *value alone where the setting is absent, the second where it is null too. */
int settings_integer(const settings *from, const char *key, int64_t *value);
int settings_integer_or_null(const settings *from, const char *key, int64_t *value);
int settings_number(const settings *from, const char *key, double *value);
int settings_boolean(const settings *from, const char *key, int32_t *value); /* 0 or 1 */
int settings_string(const settings *from, const char *key, const char **value);
int settings_object(const settings *from, const char *key, const json_t **value);

/* The sentence for a value that does not do: "setting 'size' is "8", expected an integer". */
int settings_refuse(const settings *from, const char *key, const char *expected);

#endif
