#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include "bench.h"
#include "failure.h"
#include "options.h"

#define REPEATS 30
#define CHOICE  256 /* CHOICE + i is option i of bench.h, CHOICE - 1 is --set */

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

static int parse_algorithm(const char *text, cumega_ema_algorithm *algorithm) {
  static const setting known = {"algorithm", SETTING_WORD, .word = word_of_algorithm};
  char expected[256];
  int value = 0, found = setting_word(&known, text, &value);
  *algorithm = (cumega_ema_algorithm)value;
  if (found) return EXIT_OK;
  return fail(EXIT_INPUT, "--algorithm is '%s', expected %s", text,
              setting_expected(&known, expected, sizeof expected));
}

static int take_number(const char *name, int32_t *number) {
  if (parse_number(optarg, 1, number)) return EXIT_OK;
  return fail(EXIT_INPUT, "--%s is '%s', expected a number from 1 on", name, optarg);
}

static int take_choice(int option, options *parsed) {
  if (parsed->choice_count == MOST_CHOICES)
    return fail(EXIT_INPUT, "'%s' is one choice too many, expected at most %d", optarg,
                MOST_CHOICES);
  parsed->choices[parsed->choice_count++] = (choice){option, optarg};
  return EXIT_OK;
}

static int take(int option, options *parsed) {
  switch (option) {
  case 'h': return ASKED_FOR_HELP;
  case 'j': parsed->json = 1; return EXIT_OK;
  case 'o': parsed->output = optarg; return EXIT_OK;
  case 'd': return parse_device(optarg, parsed);
  case 'a': return parse_algorithm(optarg, &parsed->algorithm);
  case 't': return take_number("threads", &parsed->threads);
  case 'r': return take_number("repeats", &parsed->repeats);
  case 's': parsed->sweep = 1; return EXIT_OK;
  case 'c': parsed->commit = optarg; return EXIT_OK;
  default: return take_choice(option - CHOICE, parsed);
  }
}

/* The options of a command. The --threads of bench may be given several times. */
static void list_options(int set, struct option *known) {
  static const struct {
    int needs, but;
    struct option option;
  } all[] = {{OPTIONS_PLAIN, 0, {"help", no_argument, NULL, 'h'}},
             {OPTIONS_PLAIN, 0, {"json", no_argument, NULL, 'j'}},
             {OPTIONS_DEVICE, 0, {"device", required_argument, NULL, 'd'}},
             {OPTIONS_DEVICE, OPTIONS_BENCH, {"threads", required_argument, NULL, 't'}},
             {OPTIONS_ALGORITHM, 0, {"algorithm", required_argument, NULL, 'a'}},
             {OPTIONS_BENCH, 0, {"set", required_argument, NULL, CHOICE - 1}},
             {OPTIONS_BENCH, 0, {"shape", required_argument, NULL, CHOICE + BENCH_SHAPE}},
             {OPTIONS_OUTPUT, 0, {"output", required_argument, NULL, 'o'}},
             {OPTIONS_BENCH, 0, {"repeats", required_argument, NULL, 'r'}},
             {OPTIONS_BENCH, 0, {"sweep", no_argument, NULL, 's'}},
             {OPTIONS_BENCH, 0, {"commit", required_argument, NULL, 'c'}}};
  int count = 0;
  for (size_t i = 0; i < sizeof all / sizeof *all; i++)
    if ((set & all[i].needs) == all[i].needs && !(set & all[i].but))
      known[count++] = all[i].option;
  for (int i = 0; (set & OPTIONS_BENCH) && i < BENCH_OWN; i++)
    known[count++] = (struct option){bench_key(operation_at(0), i)->name, required_argument, NULL,
                                     CHOICE + BENCH_KEY + i};
}

int options_parse(int argc, char **argv, int set, options *parsed) {
  struct option known[11 + BENCH_OWN + 1] = {{0}};
  list_options(set, known);
  memset(parsed, 0, sizeof *parsed);
  parsed->threads = 1;
  parsed->repeats = REPEATS;
  opterr = 0;
  optind = 0; /* makes GNU getopt start again */
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
