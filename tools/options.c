#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "failure.h"
#include "options.h"

static int parse_number(const char *text, int32_t smallest, int32_t *number) {
  char *end;
  errno = 0;
  long value = strtol(text, &end, 10);
  if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < smallest ||
      value > INT32_MAX)
    return 0;
  *number = (int32_t)value;
  return 1;
}

static int parse_device(const char *text, options *parsed) {
  parsed->device_id = 0;
  if (strcmp(text, "auto") == 0) {
    parsed->device = DEVICE_AUTO;
  } else if (strcmp(text, "cpu") == 0) {
    parsed->device = DEVICE_CPU;
  } else if (strcmp(text, "cuda") == 0 ||
             (strncmp(text, "cuda:", 5) == 0 && parse_number(text + 5, 0, &parsed->device_id))) {
    parsed->device = DEVICE_CUDA;
  } else {
    return fail(EXIT_INPUT, "--device is '%s', expected auto, cpu, cuda or cuda:N", text);
  }
  return EXIT_OK;
}

/* Its name is one of forward's ways of computing. Without the option the library chooses among those
 * that keep the bits. */
static int parse_algorithm(const char *text, options *parsed) {
  static const struct {
    const char *name;
    cumega_ema_algorithm value;
  } known[] = {{"recurrent", CUMEGA_EMA_CHAIN}, {"sliced", CUMEGA_EMA_SLICED},
               {"chunked", CUMEGA_EMA_CHUNKED}, {"fft", CUMEGA_EMA_FFT},
               {"direct", CUMEGA_EMA_DIRECT},   {"auto", CUMEGA_EMA_AUTO}};
  char names[128] = "";
  for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
    parsed->algorithm = known[i].value;
    if (strcmp(text, known[i].name) == 0) return EXIT_OK;
    if (i > 0) strncat(names, ", ", sizeof names - strlen(names) - 1);
    strncat(names, known[i].name, sizeof names - strlen(names) - 1);
  }
  return fail(EXIT_INPUT, "--algorithm is '%s', expected one of %s", text, names);
}

static int take(int option, options *parsed) {
  switch (option) {
  case 'h': return ASKED_FOR_HELP;
  case 'j': parsed->json = 1; return EXIT_OK;
  case 'o': parsed->output = optarg; return EXIT_OK;
  case 'd': return parse_device(optarg, parsed);
  case 'a': return parse_algorithm(optarg, parsed);
  default:
    if (parse_number(optarg, 1, &parsed->threads)) return EXIT_OK;
    return fail(EXIT_INPUT, "--threads is '%s', expected a number from 1 on", optarg);
  }
}

int options_parse(int argc, char **argv, int set, options *parsed) {
  static const struct option all[] = {
      {"help", no_argument, NULL, 'h'},         {"json", no_argument, NULL, 'j'},
      {"device", required_argument, NULL, 'd'}, {"threads", required_argument, NULL, 't'},
      {"output", required_argument, NULL, 'o'}, {"algorithm", required_argument, NULL, 'a'}};
  static const int needed[] = {OPTIONS_PLAIN,  OPTIONS_PLAIN,  OPTIONS_DEVICE,
                               OPTIONS_DEVICE, OPTIONS_OUTPUT, OPTIONS_ALGORITHM};
  struct option known[sizeof all / sizeof *all + 1] = {{0}};
  int count = 0;
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if ((set & needed[i]) == needed[i]) known[count++] = all[i];
  memset(parsed, 0, sizeof *parsed);
  parsed->threads = 1;
  opterr = 0;
  optind = 0; /* GNU: start anew */
  int option;
  while ((option = getopt_long(argc, argv, set & OPTIONS_OUTPUT ? ":ho:" : ":h", known, NULL)) !=
         -1) {
    const char *given = argv[optind - 1];
    char letter[] = {'-', (char)optopt, '\0'};
    if (optopt != 0 && strncmp(given, "--", 2) != 0) given = letter;
    if (option == ':')
      return fail(EXIT_INPUT, "option '%s' needs a value (cumega %s --help)", given, argv[0]);
    if (option == '?')
      return fail(EXIT_INPUT, "option '%s' is not one of 'cumega %s' (cumega %s --help)", given,
                  argv[0], argv[0]);
    int code = take(option, parsed);
    if (code != EXIT_OK) return code;
  }
  parsed->arguments = argv + optind;
  parsed->argument_count = argc - optind;
  return EXIT_OK;
}
