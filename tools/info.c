/* cumega info: what this build and this machine have. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <cumega/cumega.h>
#include "commands.h"
#include "failure.h"
#include "options.h"
#include "session.h"

static const char *const levels[] = {"plain", "v3", "v4", NULL};

/* Makes a context with this CUMEGA_CPU (NULL: the user's). text becomes the name of the backend,
 * or the reason why there is none. */
static cumega_status try_level(const char *level, char *text, size_t size) {
  cumega_context *ctx;
  cumega_status status = session_create_context(level, NULL, &ctx);
  snprintf(text, size, "%s",
           status == CUMEGA_OK ? cumega_context_backend(ctx) : cumega_context_message(NULL));
  cumega_context_destroy(ctx);
  return status;
}

static int try_cuda(char *text, size_t size) {
  cumega_context_options wanted;
  cumega_context_options_init(&wanted, sizeof wanted);
  wanted.device.device_type = kDLCUDA;
  cumega_context *ctx;
  int made = cumega_context_create(&wanted, &ctx) == CUMEGA_OK;
  snprintf(text, size, "%s", made ? cumega_context_backend(ctx) : cumega_context_message(NULL));
  cumega_context_destroy(ctx);
  return made;
}

static int info_json(const char *backend, int with_cuda, const char *cuda) {
  json_t *cpu_levels = json_array();
  for (int i = 0; levels[i] != NULL; i++) {
    char text[800];
    int runs = try_level(levels[i], text, sizeof text) == CUMEGA_OK;
    json_array_append_new(cpu_levels, json_pack("{s:s, s:b, s:s}", "level", levels[i], "runs_here",
                                                runs, runs ? "backend" : "reason", text));
  }
  return print_json(json_pack(
      "{s:s, s:i, s:o, s:[{s:s, s:b, s:s}, {s:s, s:b, s:s}]}", "version", cumega_version_string(),
      "processors", (int)sysconf(_SC_NPROCESSORS_ONLN), "cpu_levels", cpu_levels, "devices",
      "device", "cpu", "usable", 1, "backend", backend, "device", "cuda:0", "usable", with_cuda,
      with_cuda ? "backend" : "reason", cuda));
}

int command_info(int argc, char **argv) {
  options given;
  char backend[800], cuda[800], text[800];
  int code = options_parse(argc, argv, OPTIONS_PLAIN, &given);
  if (code != EXIT_OK) return code;
  if (given.argument_count != 0)
    return fail(EXIT_INPUT, "info takes no argument '%s' (cumega info --help)",
                given.arguments[0]);
  cumega_status status = try_level(NULL, backend, sizeof backend);
  if (status != CUMEGA_OK) return fail(exit_code_of(status), "%s", backend);
  int with_cuda = try_cuda(cuda, sizeof cuda);
  if (given.json) return info_json(backend, with_cuda, cuda);
  printf("cumega      %s\n", cumega_version_string());
  printf("processors  %ld online; a run uses one thread unless --threads says otherwise\n",
         sysconf(_SC_NPROCESSORS_ONLN));
  printf("cpu         %s in use\n", backend);
  for (int i = 0; levels[i] != NULL; i++) {
    int runs = try_level(levels[i], text, sizeof text) == CUMEGA_OK;
    const char *reason = strstr(text, "but "); /* the reason why the level does not run */
    printf("  %-8s  %s%s\n", levels[i], runs ? "runs here: " : "", reason ? reason + 4 : text);
  }
  printf("cuda:0      %s\n", cuda);
  return EXIT_OK;
}
