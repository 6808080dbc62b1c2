/* cumega run: reads a case and writes the same case with cumega's outputs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "commands.h"
#include "failure.h"
#include "operation.h"
#include "progress.h"
#include "session.h"
#include "values.h"

/* Saves metadata, parameters and inputs unchanged, then the outputs. */
static int save(const session *on, const job *j, const char *path) {
  const case_file *file = j->file;
  int64_t pairs = 0, count = 0, total = file->tensor_count + j->output_count;
  while (cumega_weights_metadata_at(file->weights, pairs).key != NULL) pairs++;
  cumega_named_tensor *tensors = calloc((size_t)total + 1, sizeof *tensors);
  cumega_metadata *metadata = calloc((size_t)pairs + 1, sizeof *metadata);
  int code = EXIT_OK;
  if (tensors == NULL || metadata == NULL) {
    code = fail(EXIT_DEVICE, "%s: no memory", path);
    goto done;
  }
  for (int64_t i = 0; i < pairs; i++) metadata[i] = cumega_weights_metadata_at(file->weights, i);
  for (int64_t i = 0; i < file->tensor_count; i++)
    tensors[count++] = (cumega_named_tensor){file->tensors[i].name, &file->tensors[i].tensor.dl};
  for (int i = 0; i < j->output_count; i++)
    tensors[count++] = (cumega_named_tensor){j->outputs[i].name, &j->outputs[i].tensor.dl};
  cumega_status status = cumega_weights_save(on->host, path, tensors, count, metadata, pairs);
  if (status != CUMEGA_OK)
    code = fail(exit_code_of(status), "%s", cumega_context_message(on->host));
done:
  free(metadata);
  free(tensors);
  return code;
}

/* Refuses to overwrite the case itself, which would lose its exact answers. */
static int check_output(const char *input, const char *output) {
  struct stat a, b;
  if (stat(input, &a) == 0 && stat(output, &b) == 0 && a.st_dev == b.st_dev &&
      a.st_ino == b.st_ino)
    return fail(EXIT_INPUT, "%s: OUT is CASE itself, whose exact answers would be lost", output);
  return EXIT_OK;
}

/* The names in cumega_context_kernels as an array. */
static json_t *kernels_json(const cumega_context *ctx) {
  json_t *names = json_array();
  const char *at = cumega_context_kernels(ctx);
  while (*at != '\0') {
    size_t length = strcspn(at, " ");
    json_array_append_new(names, json_stringn(at, length));
    at += length + strspn(at + length, " ");
  }
  return names;
}

static int report_json(const session *on, const job *j, double seconds) {
  json_t *outputs = json_object();
  for (int i = 0; i < j->output_count; i++) {
    const DLTensor *tensor = &j->outputs[i].tensor.dl;
    json_t *shape = json_array();
    for (int d = 0; d < tensor->ndim; d++)
      json_array_append_new(shape, json_integer(tensor->shape[d]));
    json_object_set_new(
        outputs, strchr(j->outputs[i].name, '.') + 1,
        json_pack("{s:s, s:o}", "dtype", values_dtype_name(tensor->dtype), "shape", shape));
  }
  return print_json(json_pack("{s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:o}", "op", j->operation->name,
                              "case", j->file->name, "device", on->device, "backend",
                              cumega_context_backend(on->ctx), "seconds", json_of_double(seconds),
                              "elements_per_second", json_of_double((double)j->elements / seconds),
                              "outputs", outputs, "kernels", kernels_json(on->ctx)));
}

static int report(const session *on, const job *j, double seconds, const options *given) {
  char text[256];
  if (given->json) return report_json(on, j, seconds);
  print_seconds(seconds, text, sizeof text);
  printf("%s of %s, %s, on %s (%s): %s, %.3g elements/s\n", j->operation->name, j->file->name,
         j->shape, on->device, cumega_context_backend(on->ctx), text,
         (double)j->elements / seconds);
  for (int i = 0; i < j->output_count; i++)
    printf("  %s  %s %s\n", j->outputs[i].name, values_dtype_name(j->outputs[i].tensor.dl.dtype),
           values_shape_text(&j->outputs[i].tensor.dl, text, sizeof text));
  printf("written to %s\n", given->output);
  return EXIT_OK;
}

static int run_case(const char *operation_name, const char *path, const options *given) {
  session on = {0};
  case_file file = {0};
  job j = {0};
  double seconds;
  int code = session_open(given, &on);
  if (code == EXIT_OK) code = case_open(on.host, path, 0, &file);
  if (code == EXIT_OK && strcmp(file.operation, operation_name) != 0)
    code = fail(EXIT_INPUT, "%s: this is a case of %s, not of %s", path, file.operation,
                operation_name);
  if (code == EXIT_OK) code = job_begin(&j, on.ctx, on.place, &file, given->algorithm);
  if (code == EXIT_OK) code = job_run(&j, 0, &seconds);
  if (code == EXIT_OK) code = save(&on, &j, given->output);
  if (code == EXIT_OK) code = report(&on, &j, seconds, given);
  job_end(&j);
  case_close(&file);
  session_close(&on);
  return code;
}

int command_run(int argc, char **argv) {
  options given;
  int code =
      options_parse(argc, argv, OPTIONS_DEVICE | OPTIONS_OUTPUT | OPTIONS_ALGORITHM, &given);
  if (code != EXIT_OK) return code;
  if (given.argument_count != 2)
    return fail(EXIT_INPUT,
                "run takes OP and CASE, and was given %d arguments (cumega run --help)",
                given.argument_count);
  if (given.output == NULL)
    return fail(EXIT_INPUT, "run needs -o OUT.safetensors (cumega run --help)");
  code = check_output(given.arguments[1], given.output);
  if (code != EXIT_OK) return code;
  progress_begin();
  progress_set("%s of %s", given.arguments[0], given.arguments[1]);
  code = run_case(given.arguments[0], given.arguments[1], &given);
  progress_end();
  return code;
}
