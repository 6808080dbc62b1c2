/* The program `cumega`: chooses the command, prints help, and checks standard output at the
 * end. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <cumega/version.h>
#include "bench.h"
#include "commands.h"
#include "failure.h"
#include "operation.h"
#include "options.h"

typedef struct command {
  const char *name;
  int (*run)(int argc, char **argv);
  const char *usage, *summary, *help;
} command;

static const char algorithm_help[] =
    "  --algorithm A      of ema_forward: default (the library's choice among those with one "
    "chain's\n"
    "                     bits), recurrent (one chain), sliced (the chain in slices of time),\n"
    "                     chunked (parallel in time), fft (the long convolution) or fastest (the\n"
    "                     default, and chunked on a GPU where few channels are long)\n";

static const char threads_help[] =
    "  --threads N        CPU: threads that share the work; default 1\n";

static const char device_help[] =
    "  --device DEVICE    auto (a GPU where there is one, else the CPU), cpu, cuda or cuda:N;\n"
    "                     default auto\n"
    "  --json             one JSON object instead of text\n"
    "  --help             this text\n";

static const command commands[] = {
    {"info", command_info, "cumega info [--json]",
     "what this build and this machine have: version, CPU levels, devices",
     "  --json             one JSON object instead of text\n"
     "  --help             this text\n"},
    {"run", command_run, "cumega run OP CASE.safetensors -o OUT.safetensors [options]",
     "run the case and write it with cumega's own outputs",
     "  -o, --output OUT   the file to write, aside first and then renamed\n"},
    {"verify", command_verify, "cumega verify CASE.safetensors... [options]",
     "run cases, compare with their exact answers, print the errors",
     "A case without exact answers is compared with a float64 run on the CPU, and says so.\n"
     "Errors are max |out - exact| / max |exact|. The last line is PASS or FAIL.\n\n"},
    {"bench", command_bench, "cumega bench OP [options]",
     "time the operation beside a copy of the same bytes, once its results are verified",
     "Each of the following may be given several times: there is a row for every combination.\n"
     "  --shape SHAPE      sizes with commas between, as the list above says\n"
     "  --dtype TYPE       float32, float16, bfloat16 or float64; default float32\n"
     "  --set KEY=VALUE    a dimension of the shape, a setting of the operation, or a way of\n"
     "                     measuring it, as the list above says; none leaves a setting out\n"
     "  --cache STATE      warm (nothing is flushed between calls) or flushed; default warm\n"
     "  --launch HOW       GPU: stream, call by call, or graph, captured; default stream\n"
     "  --threads N        CPU: threads that share the work; default 1\n"
     "  --level LEVEL      CPU: plain, v3 or v4; default the best, or what CUMEGA_CPU says\n"
     "\n"
     "  --sweep            the rows that matter, around the first one\n"
     "  --repeats N        samples of each row; default 30\n"
     "  -o, --output OUT   write the JSON into a file, too\n"
     "  --commit TEXT      the state of the sources, for the results\n"},
};
#define COMMANDS ((int)(sizeof commands / sizeof *commands))

static const char exit_codes[] =
    "Exit codes: 0 ok, 1 an error too large, 2 usage, bad input or a file that\n"
    "cannot be read or written, 3 nothing to compare with, 4 device or memory. Of several cases\n"
    "the worst counts, in the order 1, 4, 2, 3, 0.\n";

static void help(FILE *to) {
  fprintf(to, "cumega %s: the sequence modules of ESPnet's MEGA and S4 models\n\n",
          cumega_version_string());
  for (int i = 0; i < COMMANDS; i++)
    fprintf(to, "  %s\n      %s\n", commands[i].usage, commands[i].summary);
  fprintf(to, "  cumega COMMAND --help\n  cumega --help\n  cumega --version\n\n%s", exit_codes);
}

static void list_benchmarks(void) {
  const operation *o;
  const setting *key;
  char shape[64];
  puts("OP, its dimensions, their default, and the other keys of --set with theirs:");
  for (int i = 0; (o = operation_at(i)) != NULL; i++) {
    bench_row row = bench_row_of(o);
    int column = 99; /* each line has less than 100 columns */
    printf("  %-22s %-10s %s", o->name, o->bench.dims,
           bench_shape_text(&row, shape, sizeof shape));
    for (int k = BENCH_OWN; (key = bench_key(o, k)) != NULL; k++) {
      if (!bench_key_is_free(key)) continue;
      if (column > 60) column = printf("\n     ") - 1;
      column += printf(" %s%s%s", key->name, key->bench != NULL ? "=" : "",
                       key->bench != NULL ? key->bench : "");
    }
    putchar('\n');
  }
  putchar('\n');
}

static void command_help(const command *c) {
  printf("%s\n%s\n\n", c->usage, c->summary);
  if (c->run == command_bench) list_benchmarks();
  if (c->run == command_run) {
    const operation *o;
    puts("OP is the case's own operation:");
    for (int i = 0; (o = operation_at(i)) != NULL; i++)
      printf("  %-18s %s: %s\n", o->name, o->summary, o->outputs);
    putchar('\n');
  }
  fputs(c->help, stdout);
  if (c->run == command_run || c->run == command_verify)
    printf("%s%s", algorithm_help, threads_help);
  if (c->run != command_info) fputs(device_help, stdout);
  printf("\n%s", exit_codes);
}

static int dispatch(int argc, char **argv) {
  if (argc < 2) {
    help(stderr);
    return EXIT_INPUT;
  }
  for (int i = 0; i < COMMANDS; i++) {
    if (strcmp(argv[1], commands[i].name) != 0) continue;
    int code = commands[i].run(argc - 1, argv + 1);
    if (code != ASKED_FOR_HELP) return code;
    command_help(&commands[i]);
    return EXIT_OK;
  }
  if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
    help(stdout);
    return EXIT_OK;
  }
  if (strcmp(argv[1], "--version") == 0) {
    printf("cumega %s\n", cumega_version_string());
    return EXIT_OK;
  }
  return fail(EXIT_INPUT,
              "'%s' is not a command; there are info, run, verify and bench (cumega --help)",
              argv[1]);
}

/* If standard input, output or error is closed, the next file to be opened would take its place
 * and get its text. So a descriptor that cannot be used takes that place, and the loss is
 * noticed. */
static void occupy_standard_descriptors(void) {
  for (int fd = 0; fd <= 2; fd++)
    if (fcntl(fd, F_GETFD) == -1 && errno == EBADF) {
      int opened = open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
      (void)opened;
    }
}

int main(int argc, char **argv) {
  occupy_standard_descriptors();
  int code = dispatch(argc, argv);
  int lost = ferror(stdout);
  if (fflush(stdout) != 0 || lost)
    return fail(code == EXIT_OK ? EXIT_INPUT : code, "cannot write to standard output: %s",
                strerror(errno));
  return code;
}
