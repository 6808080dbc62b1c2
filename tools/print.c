#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include "commands.h"
#include "failure.h"

int print_json(json_t *object) {
  if (object == NULL)
    return fail(EXIT_INPUT, "no JSON text: memory is short or a name is not UTF-8");
  int failed = json_dumpf(object, stdout, JSON_INDENT(2)) != 0 || putchar('\n') == EOF;
  json_decref(object);
  return failed ? fail(EXIT_INPUT, "cannot write to standard output: %s", strerror(errno))
                : EXIT_OK;
}

void print_seconds(double seconds, char *text, size_t size) {
  if (seconds < 1e-3)
    snprintf(text, size, "%.3g us", 1e6 * seconds);
  else if (seconds < 1)
    snprintf(text, size, "%.3g ms", 1e3 * seconds);
  else
    snprintf(text, size, "%.3g s", seconds);
}

json_t *json_of_double(double value) {
  return isfinite(value) ? json_real(value) : json_null();
}
