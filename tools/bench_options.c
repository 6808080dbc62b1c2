/* The options of a row of `cumega bench`: common options, dimensions and the operation's keys. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "bench.h"
#include "failure.h"
#include "values.h"

/* ---- keys ---- */

static const setting common[BENCH_OWN] = {
    [BENCH_DTYPE] = {"dtype", SETTING_WORD, WORDS("float32", "float16", "bfloat16", "float64"),
                     .bench = "float32"},
    [BENCH_THREADS] = {"threads", SETTING_INTEGER, .flags = SETTING_ON_CPU, .bench = "1"},
    [BENCH_LEVEL] = {"level", SETTING_WORD, .flags = SETTING_ON_CPU, WORDS("plain", "v3", "v4")},
    [BENCH_CACHE] = {"cache", SETTING_WORD, WORDS("warm", "flushed"), .bench = "warm"},
    [BENCH_LAUNCH] = {"launch", SETTING_WORD, WORDS("stream", "graph"), .bench = "stream"}};

const setting *bench_key(const operation *what, int i) {
  const setting *s = what->settings;
  if (i < BENCH_OWN) return &common[i];
  for (i -= BENCH_OWN; s->name != NULL && i > 0; i--) s++;
  if (s->name == NULL && what->bench.ways != NULL)
    for (s = what->bench.ways; s->name != NULL && i > 0; i--) s++;
  return s->name != NULL ? s : NULL;
}

int bench_key_is_free(const setting *key) {
  return key->bench == NULL || key->bench[0] != '=';
}

const char *bench_value(const bench_row *row, const char *name) {
  const setting *key;
  for (int i = 0; (key = bench_key(row->what, i)) != NULL; i++)
    if (strcmp(key->name, name) == 0 && row->values[i] != NULL) return row->values[i];
  return "";
}

cumega_ema_algorithm bench_algorithm(const bench_row *row) {
  const char *text = bench_value(row, "algorithm");
  int value = 0;
  while (word_of_algorithm(value) != NULL && strcmp(word_of_algorithm(value), text) != 0) value++;
  return (cumega_ema_algorithm)(word_of_algorithm(value) != NULL ? value : 0);
}

int bench_dims(const operation *what) {
  return (int)(strlen(what->bench.dims) + 1) / 2;
}

int bench_option_find(const operation *what, const char *name) {
  const setting *key;
  if (strcmp(name, "shape") == 0) return BENCH_SHAPE;
  for (int i = 0; i < bench_dims(what); i++)
    if (name[0] == what->bench.dims[2 * i] && name[1] == '\0') return BENCH_DIM + i;
  for (int i = 0; (key = bench_key(what, i)) != NULL; i++)
    if (bench_key_is_free(key) && strcmp(key->name, name) == 0) return BENCH_KEY + i;
  return -1;
}

int bench_split(const operation *what, const char *given, int *option, const char **value) {
  char name[64], known[1024] = "";
  const char *equals = strchr(given, '=');
  const setting *key;
  if (equals == NULL) return fail(EXIT_INPUT, "--set is '%s', expected KEY=VALUE", given);
  snprintf(name, sizeof name, "%.*s", (int)(equals - given), given);
  *value = equals + 1;
  *option = bench_option_find(what, name);
  if (*option >= 0) return EXIT_OK;
  for (int i = 0; i < bench_dims(what); i++)
    list_add(known, sizeof known, ", ", (char[]){what->bench.dims[2 * i], '\0'});
  for (int i = BENCH_OWN; (key = bench_key(what, i)) != NULL; i++)
    if (bench_key_is_free(key)) list_add(known, sizeof known, ", ", key->name);
  return fail(EXIT_INPUT, "--set %s: '%s' is not a key of %s, expected one of %s", given, name,
              what->name, known);
}

char *bench_key_text(const bench_row *row, int i, char *text, size_t size) {
  snprintf(text, size, i < BENCH_OWN ? "--%s %s" : "--set %s=%s", bench_key(row->what, i)->name,
           row->values[i]);
  return text;
}

/* ---- the row ---- */

bench_row bench_row_of(const operation *what) {
  bench_row row = {.what = what, .dtype = cumega_float32, .threads = 1};
  const setting *key;
  memcpy(row.shape, what->bench.shape, sizeof row.shape);
  for (int i = 0; i < MOST_KEYS && (key = bench_key(what, i)) != NULL; i++)
    if (bench_key_is_free(key)) row.values[i] = key->bench;
  return row;
}

char *bench_shape_text(const bench_row *row, char *text, size_t size) {
  char number[24];
  text[0] = '\0';
  for (int i = 0; i < bench_dims(row->what); i++) {
    snprintf(number, sizeof number, "%lld", (long long)row->shape[i]);
    list_add(text, size, ",", number);
  }
  return text;
}

/* A whole number from 1 to `most`, or 0 if text is not one. */
static int64_t count_of(const char *text, int64_t most) {
  char *end;
  long long value = strtoll(text, &end, 10);
  int fine = text[0] >= '0' && text[0] <= '9' && *end == '\0' && value >= 1 && value <= most;
  return fine ? value : 0;
}

static int has_room(const bench_row *row) {
  double product = 1;
  for (int i = 0; i < bench_dims(row->what); i++) product *= (double)row->shape[i];
  return product > 0 && product < 0x1p40;
}

static int take_shape(bench_row *row, const char *text) {
  const char *at = text;
  int fine = 1, dims = bench_dims(row->what);
  for (int i = 0; fine && i < dims; i++) {
    char digits[16];
    size_t length = strcspn(at, ",");
    snprintf(digits, sizeof digits, "%.*s", (int)length, at);
    row->shape[i] = length < sizeof digits ? count_of(digits, INT32_MAX) : 0;
    fine = row->shape[i] > 0 && at[length] == (i + 1 < dims ? ',' : '\0');
    at += length + 1;
  }
  if (fine && has_room(row)) return EXIT_OK;
  return fail(EXIT_INPUT,
              "--shape is '%s', expected %s of %s, each from 1 to 2^31 - 1 and together "
              "below 2^40",
              text, row->what->bench.dims, row->what->name);
}

static int take_dimension(bench_row *row, int i, const char *text) {
  row->shape[i] = count_of(text, INT32_MAX);
  if (has_room(row)) return EXIT_OK;
  return fail(EXIT_INPUT,
              "--set %c=%s: expected a size from 1 to 2^31 - 1, with all others below 2^40",
              row->what->bench.dims[2 * i], text);
}

static int take_key(bench_row *row, int i, const char *text) {
  const setting *key = bench_key(row->what, i);
  json_t *value = setting_json(key, text);
  char expected[256] = "an integer from 1 on", given[160];
  const int optional = i >= BENCH_OWN && setting_is_optional(key);
  int fine = value != NULL || (optional && strcmp(text, "none") == 0);
  json_decref(value);
  row->values[i] = text;
  if (i == BENCH_DTYPE) (void)values_dtype_from_name(text, &row->dtype);
  if (i == BENCH_THREADS) fine &= (row->threads = (int32_t)count_of(text, 1024)) > 0;
  if (fine) return EXIT_OK;
  if (key->type != SETTING_INTEGER) setting_expected(key, expected, sizeof expected);
  return fail(EXIT_INPUT, "%s: expected %s%s", bench_key_text(row, i, given, sizeof given),
              expected, optional ? ", or none" : "");
}

int bench_row_take(bench_row *row, int option, const char *text) {
  if (option == BENCH_SHAPE) return take_shape(row, text);
  if (option < BENCH_KEY) return take_dimension(row, option - BENCH_DIM, text);
  return take_key(row, option - BENCH_KEY, text);
}
