/* The words of a public enum: a table, and both directions. */
#ifndef CUMEGA_SRC_ENUM_NAMES_H
#define CUMEGA_SRC_ENUM_NAMES_H

typedef struct enum_name {
  int value;
  const char *name;
} enum_name;

/* NULL where no row has that value. */
const char *enum_name_of(const enum_name *rows, int count, int value);

/* 1 and *value, or 0 where no row has that name or name is NULL. */
int enum_value_of(const enum_name *rows, int count, const char *name, int *value);

#define ENUM_COUNT(rows) ((int)(sizeof(rows) / sizeof *(rows)))

/* The bodies of a public type's _name and _from_name functions. A name that stands in the table
 * twice is an alias: _name gives the first row of a value. */
#define DEFINE_ENUM_NAMES(type, rows)                                                             \
  const char *type##_name(type value) {                                                           \
    return enum_name_of(rows, ENUM_COUNT(rows), (int)value);                                      \
  }                                                                                               \
  int type##_from_name(const char *name, type *value) {                                           \
    int found;                                                                                    \
    if (!value || !enum_value_of(rows, ENUM_COUNT(rows), name, &found)) return 0;                 \
    *value = (type)found;                                                                         \
    return 1;                                                                                     \
  }

#endif
