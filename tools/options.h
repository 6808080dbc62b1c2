/* The command line of every command. */
#ifndef CUMEGA_TOOLS_OPTIONS_H
#define CUMEGA_TOOLS_OPTIONS_H

#include <stdint.h>
#include <cumega/ema.h>

typedef enum device_choice { DEVICE_AUTO, DEVICE_CPU, DEVICE_CUDA } device_choice;

#define MOST_CHOICES 64

/* A value that was given for an option of bench that may be given several times. */
typedef struct choice {
  int option; /* a bench_option (bench.h); negative: text is KEY=VALUE */
  const char *text;
} choice;

typedef struct options {
  const char *output; /* NULL if not given */
  device_choice device;
  int32_t device_id, threads;
  cumega_ema_algorithm algorithm;
  int json;
  const char *level;            /* CUMEGA_CPU for the context; NULL: from the environment */
  choice choices[MOST_CHOICES]; /* for bench, like the next three */
  int choice_count;
  int repeats, sweep;
  const char *commit;
  char **arguments; /* the arguments that are not options */
  int argument_count;
} options;

/* Which options a command has besides --json and --help. */
enum option_set {
  OPTIONS_PLAIN = 0,
  OPTIONS_DEVICE = 1,
  OPTIONS_OUTPUT = 2,
  OPTIONS_ALGORITHM = 4,
  OPTIONS_BENCH = 8
};

#define ASKED_FOR_HELP (-1) /* no exit code has this value */

/* argv[0] is the command's name. Returns 0, EXIT_INPUT after a message, or ASKED_FOR_HELP. */
int options_parse(int argc, char **argv, int set, options *parsed);

#endif
