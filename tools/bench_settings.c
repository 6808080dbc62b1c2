#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cumega/residual.h>
#include "bench.h"
#include "failure.h"
#include "values.h"

static const char *const names[BENCH_OPTIONS] = {
    [BENCH_SHAPE] = "shape",
    [BENCH_DTYPE] = "dtype",
    [BENCH_THREADS] = "threads",
    [BENCH_LEVEL] = "level",
    [BENCH_CACHE] = "cache",
    [BENCH_LAUNCH] = "launch",
    [BENCH_HEADS] = "heads",
    [BENCH_ACTIVATION] = "activation",
    [BENCH_LAYOUT] = "layout",
    [BENCH_ALGORITHM] = "algorithm",
    [BENCH_TRUNCATION] = "truncation",
    [BENCH_KIND] = "kind",
    [BENCH_NORM] = "norm",
    [BENCH_BIAS] = "bias",
    [BENCH_MASK] = "mask",
    [BENCH_RESULT] = "result",
    [BENCH_TABLE] = "table",
    [BENCH_STATE_DTYPE] = "state-dtype",
};

int bench_option_find(const char *name) {
  for (int i = 0; i < BENCH_OPTIONS; i++)
    if (strcmp(names[i], name) == 0) return i;
  return -1;
}

const char *bench_option_name(int option) {
  return names[option];
}

int bench_dims(const benchmark *what) {
  int dims = 1;
  for (const char *at = what->letters; *at != '\0'; at++) dims += *at == ',';
  return dims;
}

bench_settings bench_settings_of(const benchmark *what) {
  bench_settings set = {.what = what,
                        .dtype = cumega_float32,
                        .threads = 1,
                        .cache = "warm",
                        .launch = "stream",
                        .layout = "LBD",
                        .heads = 4,
                        .activation = "relu",
                        .algorithm_name = "recurrent",
                        .kind = "Residual",
                        .norm = "none",
                        .bias = "relative",
                        .mask = "none",
                        .result = "weights",
                        .table = "kept"};
  memcpy(set.shape, what->shape, sizeof set.shape);
  return set;
}

char *bench_shape_text(const bench_settings *set, char *text, size_t size) {
  size_t used = 0;
  int dims = bench_dims(set->what);
  for (int i = 0; i < dims && used < size; i++)
    used += (size_t)snprintf(text + used, size - used, "%s%lld", i > 0 ? "," : "",
                             (long long)set->shape[i]);
  return text;
}

/* A whole number from 1 to `most`; 0 where text is none. */
static int64_t count_of(const char *text, int64_t most) {
  char *end;
  long long value = strtoll(text, &end, 10);
  int fine = text[0] >= '0' && text[0] <= '9' && *end == '\0' && value >= 1 && value <= most;
  return fine ? value : 0;
}

static int take_shape(bench_settings *set, const char *text) {
  int dims = bench_dims(set->what);
  double product = 1;
  const char *at = text;
  int fine = 1;
  for (int i = 0; fine && i < dims; i++) {
    char digits[16];
    size_t length = strcspn(at, ",");
    snprintf(digits, sizeof digits, "%.*s", (int)length, at);
    set->shape[i] = length < sizeof digits ? count_of(digits, INT32_MAX) : 0;
    product *= (double)set->shape[i];
    fine = set->shape[i] > 0 && at[length] == (i + 1 < dims ? ',' : '\0');
    at += length + 1;
  }
  if (fine && product < 0x1p40) return EXIT_OK;
  return fail(EXIT_INPUT,
              "--shape is '%s', expected %s of %s, each from 1 to 2^31 - 1 and together "
              "below 2^40",
              text, set->what->letters, set->what->operation);
}

static int take_word(int option, const char *text, const char *const *words, const char **taken) {
  char list[160] = "";
  for (int i = 0; words[i] != NULL; i++) {
    if (strcmp(words[i], text) == 0) {
      *taken = words[i];
      return EXIT_OK;
    }
    if (i > 0) strncat(list, ", ", sizeof list - strlen(list) - 1);
    strncat(list, words[i], sizeof list - strlen(list) - 1);
  }
  return fail(EXIT_INPUT, "--%s is '%s', expected one of %s", names[option], text, list);
}

static int take_dtype(int option, const char *text, DLDataType *dtype) {
  int state = option == BENCH_STATE_DTYPE;
  if (values_dtype_from_name(text, dtype) && (!state || dtype->bits >= 32)) return EXIT_OK;
  return fail(EXIT_INPUT, "--%s is '%s', expected float32%s or float64", names[option], text,
              state ? "" : ", float16, bfloat16");
}

static int take_count(int option, const char *text, int64_t most, int64_t *count) {
  *count = count_of(text, most);
  if (*count > 0) return EXIT_OK;
  return fail(EXIT_INPUT, "--%s is '%s', expected a number from 1 to %lld", names[option], text,
              (long long)most);
}

static int take_algorithm(bench_settings *set, const char *text) {
  static const char *const known[] = {"recurrent", "sliced", "chunked", "fft",
                                      "direct",    "auto",   NULL};
  int code = options_algorithm(text, &set->algorithm);
  set->algorithm_forced = 1;
  return code == EXIT_OK ? take_word(BENCH_ALGORITHM, text, known, &set->algorithm_name) : code;
}

static int take_kind(bench_settings *set, const char *text) {
  cumega_residual_kind kind;
  if (!cumega_residual_kind_from_name(text, &kind))
    return fail(EXIT_INPUT, "--kind is '%s', expected the name of a residual connection", text);
  set->kind = cumega_residual_kind_name(kind);
  return EXIT_OK;
}

static int take_activation(bench_settings *set, const char *text) {
  cumega_activation activation;
  if (!cumega_activation_from_name(text, &activation))
    return fail(EXIT_INPUT, "--activation is '%s', expected ESPnet's name of one", text);
  set->activation = cumega_activation_name(activation);
  return EXIT_OK;
}

int bench_settings_take(bench_settings *set, int option, const char *text) {
  static const char *const levels[] = {"plain", "v3", "v4", NULL};
  static const char *const caches[] = {"warm", "flushed", NULL};
  static const char *const norms[] = {"none",       "layer_norm", "rms_norm",
                                      "scale_norm", "basic_norm", NULL};
  static const char *const launches[] = {"stream", "graph", NULL};
  static const char *const biases[] = {"relative", "rotary", "none", NULL};
  static const char *const masks[] = {"none", "causal", NULL};
  static const char *const outputs[] = {"weights", "scores", NULL};
  static const char *const tables[] = {"kept", "anew", NULL};
  static const char *const layouts[] = {"LBD", "BLD", "BDL", "packed", NULL};
  int64_t count;
  int code;
  if (option >= BENCH_HEADS && !(set->what->takes & BENCH_TAKES(option)))
    /* cppcheck-suppress arrayIndexOutOfBoundsCond ; an option is one of names */
    return fail(EXIT_INPUT, "--%s is not a setting of %s", names[option], set->what->operation);
  switch (option) {
  case BENCH_SHAPE: return take_shape(set, text);
  case BENCH_DTYPE: return take_dtype(option, text, &set->dtype);
  case BENCH_STATE_DTYPE: return take_dtype(option, text, &set->state_dtype);
  case BENCH_LEVEL: return take_word(option, text, levels, &set->level);
  case BENCH_CACHE: return take_word(option, text, caches, &set->cache);
  case BENCH_LAUNCH: return take_word(option, text, launches, &set->launch);
  case BENCH_LAYOUT: return take_word(option, text, layouts, &set->layout);
  case BENCH_ALGORITHM: return take_algorithm(set, text);
  case BENCH_KIND: return take_kind(set, text);
  case BENCH_NORM: return take_word(option, text, norms, &set->norm);
  case BENCH_BIAS: return take_word(option, text, biases, &set->bias);
  case BENCH_MASK: return take_word(option, text, masks, &set->mask);
  case BENCH_RESULT: return take_word(option, text, outputs, &set->result);
  case BENCH_TABLE: return take_word(option, text, tables, &set->table);
  case BENCH_TRUNCATION: return take_count(option, text, INT32_MAX, &set->truncation);
  case BENCH_HEADS: return take_count(option, text, CUMEGA_EMA_MAX_HEADS, &set->heads);
  case BENCH_THREADS:
    code = take_count(option, text, 1024, &count);
    set->threads = (int32_t)count;
    return code;
  default: return take_activation(set, text);
  }
}
