/* The commands of the program. argv[0] is the command's name; each returns an exit code. */
#ifndef CUMEGA_TOOLS_COMMANDS_H
#define CUMEGA_TOOLS_COMMANDS_H

#include <jansson.h>

int command_info(int argc, char **argv);
int command_run(int argc, char **argv);
int command_verify(int argc, char **argv);
int command_bench(int argc, char **argv);

/* Prints one JSON object on stdout and releases it. */
int print_json(json_t *object);

/* Seconds as "12.3 us", rates as "4.56e+08", and numbers for JSON, in which a number that is not
 * finite is null. */
void print_seconds(double seconds, char *text, size_t size);
json_t *json_of_double(double value);

#endif
