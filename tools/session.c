#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "failure.h"
#include "session.h"

cumega_status session_create_context(const char *level, const cumega_context_options *wanted,
                                     cumega_context **ctx) {
  const char *variable = "CUMEGA_CPU", *value = getenv(variable);
  if (level == NULL) return cumega_context_create(wanted, ctx);
  char *before = value != NULL ? strdup(value) : NULL;
  setenv(variable, level, 1);
  cumega_status status = cumega_context_create(wanted, ctx);
  if (before != NULL)
    setenv(variable, before, 1);
  else
    unsetenv(variable);
  free(before);
  return status;
}

static cumega_status open_on(const options *given, DLDeviceType type, session *opened) {
  cumega_context_options wanted;
  cumega_context_options_init(&wanted, sizeof wanted);
  wanted.device.device_type = type;
  wanted.device.device_id = type == kDLCPU ? 0 : given->device_id;
  wanted.threads = given->threads;
  if (type == kDLCPU)
    snprintf(opened->device, sizeof opened->device, "cpu");
  else
    snprintf(opened->device, sizeof opened->device, "cuda:%d", given->device_id);
  opened->place = wanted.device;
  return session_create_context(given->level, &wanted, &opened->ctx);
}

static int check(cumega_status status) {
  if (status == CUMEGA_OK) return EXIT_OK;
  return fail(exit_code_of(status), "%s", cumega_context_message(NULL));
}

int session_open(const options *given, session *opened) {
  memset(opened, 0, sizeof *opened);
  int code = check(cumega_context_create(NULL, &opened->host));
  if (code != EXIT_OK) return code;
  cumega_status status = CUMEGA_ERROR_DEVICE;
  if (given->device != DEVICE_CPU) status = open_on(given, kDLCUDA, opened);
  if (given->device == DEVICE_CPU || (given->device == DEVICE_AUTO && status != CUMEGA_OK))
    status = open_on(given, kDLCPU, opened);
  return check(status);
}

void session_close(session *opened) {
  cumega_context_destroy(opened->ctx);
  cumega_context_destroy(opened->host);
  memset(opened, 0, sizeof *opened);
}

int session_has_level(const char *level) {
  cumega_context *ctx = NULL;
  int has = session_create_context(level, NULL, &ctx) == CUMEGA_OK;
  cumega_context_destroy(ctx);
  return has;
}

int session_open_plain(cumega_context **plain) {
  return check(session_create_context("plain", NULL, plain));
}
