#include <cumega/version.h>

#define TEXT_OF(number) #number
#define TEXT(number)    TEXT_OF(number)

int cumega_version_number(void) {
  return CUMEGA_VERSION_NUMBER;
}

const char *cumega_version_string(void) {
  return TEXT(CUMEGA_VERSION_MAJOR) "." TEXT(CUMEGA_VERSION_MINOR) "." TEXT(CUMEGA_VERSION_PATCH);
}
