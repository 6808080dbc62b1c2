/* Bytes as a case file: the program's own code, linked in, reads, prepares and runs it. Every
 * refusal has an exit code and a message.
 *
 * The first byte chooses. If it is even, the rest is used as a file without changes. If it is
 * odd, the rest becomes a valid weight file (operation, configuration and tensors), so that
 * fuzzing quickly reaches the JSON of the configuration and the shapes. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <cumega/ema.h>
#include "case.h"
#include "failure.h"
#include "fuzz.h"
#include "operation.h"

#define MOST_VALUES 2048
#define TEXT_BYTES  4096
#define MOST_BYTES  ((size_t)1 << 20)

/* ---- replaces the program's failure.c: messages are counted and checked, not printed ---- */

static int sentences;
static char last[SENTENCE];

int fail(int code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(last, sizeof last, format, arguments);
  va_end(arguments);
  MUST(strlen(last) > 8, "exit code %d says '%s'", code, last);
  MUST(code == EXIT_INPUT || code == EXIT_DEVICE, "exit code %d: %s", code, last);
  sentences++;
  return code;
}

int exit_code_of(cumega_status status) {
  MUST(status != CUMEGA_ERROR_FATAL, "the device is lost");
  if (status == CUMEGA_OK) return EXIT_OK;
  int is_input = status == CUMEGA_ERROR_ARGUMENT || status == CUMEGA_ERROR_FILE ||
                 status == CUMEGA_ERROR_FORMAT;
  return is_input ? EXIT_INPUT : EXIT_DEVICE;
}

/* Replaces calloc in the program's files (-Dcalloc): a case that asks for a large output is
 * refused instead of running for minutes. */
void *small_calloc(size_t count, size_t bytes);
void *small_calloc(size_t count, size_t bytes) {
  if (bytes > 0 && count > MOST_BYTES / bytes) return NULL;
  void *memory = malloc(count * bytes);
  if (memory != NULL) memset(memory, 0, count * bytes);
  return memory;
}

/* ---- a file made of an input ---- */

static const char *const operations[] = {"ema_forward", "ema_step", "ema_kernel", "ema", ""};
static const char *const names[] = {"parameters.damping_factor",
                                    "parameters.decay_factor",
                                    "parameters.ema_expansion_matrix",
                                    "parameters.kernel_projection_matrix",
                                    "parameters.residual_weight",
                                    "inputs.x",
                                    "inputs.mask",
                                    "inputs.state",
                                    "inputs.sequence_lengths",
                                    "inputs.sequence_offsets",
                                    "inputs.initial_slots",
                                    "inputs.final_slots",
                                    "inputs.y",
                                    "exact.y",
                                    "outputs.y"};

#define NAMES ((int)(sizeof names / sizeof *names))

/* Text up to a NUL. */
static const char *input_text(input *in, char text[TEXT_BYTES]) {
  int used = 0;
  for (int byte = input_byte(in); byte != 0; byte = input_byte(in))
    if (used < TEXT_BYTES - 1) text[used++] = (char)byte;
  text[used] = '\0';
  return text;
}

/* The usual shape of a tensor with that name, from D, N, L and B; sometimes anything else. */
static int any_shape(input *in, int name, const int64_t size[4], int64_t *shape) {
  const int64_t D = size[0], N = size[1], L = size[2], B = size[3];
  const int64_t usual[][3] = {{D, N, 1}, {D, N, 1}, {D, N, 1}, {D, N, 0}, {D, 0, 0},
                              {L, B, D}, {B, 1, L}, {B, D, N}, {B, 0, 0}, {B + 1, 0, 0},
                              {B, 0, 0}, {B, 0, 0}, {L, B, D}, {L, B, D}, {L, B, D}};
  const int dimensions[] = {3, 3, 3, 2, 1, 3, 3, 3, 1, 1, 1, 1, 3, 3, 3};
  int ndim = dimensions[name], harm = input_byte(in);
  memcpy(shape, usual[name], sizeof usual[name]);
  if (harm >= 216) ndim = input_below(in, CUMEGA_MAX_DIMS + 1);
  for (int i = 0; i < ndim && harm >= 200; i++) shape[i] = input_byte(in) % 9;
  return ndim;
}

static cumega_tensor tensors[NAMES];
static double values[MOST_VALUES];

/* Adds a tensor; does nothing if it would be too large. */
static int add_tensor(input *in, int name, const int64_t size[4], cumega_named_tensor *named) {
  const DLDataType types[] = {cumega_float32, cumega_float64, cumega_float16, cumega_bfloat16,
                              cumega_bool,    cumega_int32,   cumega_int64,   cumega_uint8};
  int64_t shape[CUMEGA_MAX_DIMS] = {0}, count = 1;
  int kind = input_byte(in), ndim = any_shape(in, name, size, shape);
  DLDataType dtype = name == 6 ? cumega_bool : name >= 8 && name < 12 ? cumega_int32 : types[0];
  if (kind >= 192) dtype = types[kind % 8];
  for (int i = 0; i < ndim; i++) count *= shape[i];
  if (count > MOST_VALUES) return 0;
  named->name = names[name];
  named->tensor = cumega_tensor_init(&tensors[name], values, cumega_cpu, dtype, ndim, shape);
  return 1;
}

/* Saved by the library itself, to path. */
static void save_case(cumega_context *host, input *in, const char *path) {
  char config[TEXT_BYTES], tolerance[TEXT_BYTES];
  cumega_named_tensor named[NAMES];
  int64_t size[4], count = 0;
  int which = input_byte(in), fill = input_byte(in), parts = input_byte(in) << 8;
  parts |= input_byte(in);
  cumega_metadata metadata[] = {{"cumega.case", "1"},
                                {"cumega.op", operations[which % 5]},
                                {"cumega.config", input_text(in, config)},
                                {"cumega.tolerance", input_text(in, tolerance)}};
  for (int i = 0; i < 4; i++) size[i] = input_byte(in) % 9;
  for (int i = 0; i < 2 * MOST_VALUES; i++) {
    float value = (float)((fill + 7 * i) % 16 - 8) / 8;
    int32_t index = (fill + i) & 3;
    memcpy((char *)values + 4 * (size_t)i, fill < 128 ? (void *)&index : (void *)&value, 4);
  }
  for (int name = 0; name < NAMES; name++)
    if (name < 6 ? input_byte(in) < 250 : parts >> name & 1)
      count += add_tensor(in, name, size, &named[count]);
  /* A configuration that is not UTF-8 cannot be written; unchanged files test that case. */
  int pairs = which >= 250 ? which % 4 : tolerance[0] != '\0' ? 4 : 3;
  check_message(host, cumega_weights_save(host, path, named, count, metadata, pairs));
}

/* ---- one input ---- */

static int run(cumega_context *host, cumega_context *ctx, DLDevice place, const char *path) {
  case_file file;
  job j = {0};
  double seconds;
  sentences = 0;
  int64_t before = bytes_held(host);
  int code = case_open(host, path, 1, &file);
  if (code == EXIT_OK) code = job_begin(&j, ctx, place, &file, CUMEGA_EMA_DEFAULT);
  if (code == EXIT_OK) code = job_run(&j, 0, &seconds);
  if (code == EXIT_OK) {
    case_file wide = {0};
    const setting *state = settings_state(j.operation->settings);
    MUST(case_widen(&file, state != NULL ? state->name : NULL, &wide) == EXIT_OK, "not widened");
    case_close(&wide);
  }
  MUST((code != EXIT_OK) == (sentences > 0), "exit code %d with %d sentences", code, sentences);
  job_end(&j);
  case_close(&file);
  int64_t scratch = 1 << 20; /* which contexts keep */
  MUST(bytes_held(host) - before <= scratch, "%lld bytes are still held",
       (long long)(bytes_held(host) - before));
  return code;
}

static cumega_context *context_on(DLDeviceType type) {
  cumega_context_options options;
  cumega_context_options_init(&options, sizeof options);
  cumega_context *made = NULL;
  options.device.device_type = type;
  options.memory_limit = 32 << 20;
  MUST(cumega_context_create(&options, &made) == CUMEGA_OK, "%s", cumega_context_message(NULL));
  return made;
}

int judge(const uint8_t *bytes, size_t count, char *sentence) {
  static cumega_context *host;
  if (host == NULL) host = context_on(kDLCPU);
  last[0] = '\0';
  int code = run(host, host, cumega_cpu, file_of_bytes(bytes, count));
  memcpy(sentence, last, sizeof last);
  return code;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static cumega_context *host;
  static char saved[64];
  DLDevice place = cumega_cpu;
  input in = {data, size};
  int mode = input_byte(&in);
  if (host == NULL) host = context_on(kDLCPU);
  cumega_context *ctx = host;
#ifdef FUZZ_EMULATION
  static cumega_context *cuda;
  if (cuda == NULL) cuda = context_on(kDLCUDA);
  if (mode & 2) {
    ctx = cuda;
    place.device_type = kDLCUDA;
  }
#endif
  if (mode % 2 == 0) {
    run(host, ctx, place, file_of_bytes(in.at, in.left));
    return 0;
  }
  if (saved[0] == '\0') snprintf(saved, sizeof saved, "/tmp/cumega-fuzz-%ld-d", (long)getpid());
  save_case(host, &in, saved);
  if (access(saved, F_OK) == 0) run(host, ctx, place, saved);
  unlink(saved);
  return 0;
}
