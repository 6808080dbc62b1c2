#include "enum_names.h"
#include <string.h>
#include <cumega/context.h>

const char *enum_name_of(const enum_name *rows, int count, int value) {
  for (int i = 0; i < count; i++)
    if (rows[i].value == value) return rows[i].name;
  return NULL;
}

int enum_value_of(const enum_name *rows, int count, const char *name, int *value) {
  for (int i = 0; name && i < count; i++)
    if (strcmp(name, rows[i].name) == 0) return *value = rows[i].value, 1;
  return 0;
}

static const enum_name statuses[] = {
#define STATUS_ROW(name, value, text) {name, #name},
    CUMEGA_STATUS_LIST(STATUS_ROW)
#undef STATUS_ROW
};
DEFINE_ENUM_NAMES(cumega_status, statuses)

const char *cumega_status_string(cumega_status status) {
#define STATUS_TEXT(name, value, text)                                                            \
  if (status == name) return text;
  CUMEGA_STATUS_LIST(STATUS_TEXT)
#undef STATUS_TEXT
  return "unknown status";
}

static const enum_name log_levels[] = {{CUMEGA_LOG_INFO, "info"}};
DEFINE_ENUM_NAMES(cumega_log_level, log_levels)

static const enum_name report_bits[] = {{CUMEGA_REPORT_LENGTH, "length"},
                                        {CUMEGA_REPORT_OFFSET, "offset"},
                                        {CUMEGA_REPORT_SLOT, "slot"}};
DEFINE_ENUM_NAMES(cumega_report_bit, report_bits)
