#include <stdarg.h>
#include <stdio.h>
#include "failure.h"
#include "progress.h"

int fail(int code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  progress_lock(); /* a sentence must not end up behind the progress line */
  fputs("cumega: ", stderr);
  vfprintf(stderr, format, arguments);
  fputc('\n', stderr);
  progress_unlock();
  va_end(arguments);
  return code;
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
