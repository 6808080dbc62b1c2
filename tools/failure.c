#include <stdarg.h>
#include <stdio.h>
#include "failure.h"
#include "progress.h"

int fail(int code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  progress_lock(); /* a message must not continue the progress line */
  fputs("cumega: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  progress_unlock();
  va_end(arguments);
  return code;
}

int worse_code(int a, int b) {
  const int order[] = {EXIT_WRONG, EXIT_DEVICE, EXIT_INPUT, EXIT_NOTHING};
  for (size_t i = 0; i < sizeof order / sizeof *order; i++)
    if (a == order[i] || b == order[i]) return order[i];
  return EXIT_OK;
}

int exit_code_of(cumega_status status) {
  switch (status) {
  case CUMEGA_OK: return EXIT_OK;
  case CUMEGA_ERROR_ARGUMENT:
  case CUMEGA_ERROR_FILE:
  case CUMEGA_ERROR_FORMAT: return EXIT_INPUT;
  default: return EXIT_DEVICE;
  }
}
