#include <cumega/status.h>

const char *cumega_status_string(cumega_status status) {
  switch (status) {
#define STATUS_CASE(name, value, text)                                                            \
  case name: return text;
    CUMEGA_STATUS_LIST(STATUS_CASE)
#undef STATUS_CASE
  }
  return "unknown status";
}
