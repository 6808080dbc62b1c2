/* A row as a line of a table, and as a JSON object. */
#include <stdio.h>
#include <string.h>
#include "bench.h"
#include "commands.h"
#include "failure.h"
#include "values.h"

enum column { OP, SHAPE, KEYS, DTYPE, DEVICE, CACHE, MEDIAN, MIN, SPREAD, BYTES, ELEMENTS, SHARE };

int bench_add_heading(table *t) {
  static const char *const heading[] = {"operation", "shape", "settings", "dtype",
                                        "device",    "cache", "median",   "min",
                                        "spread",    "GB/s",  "elem/s",   "of a copy"};
  table_row *added = table_add(t);
  if (added == NULL) return fail(EXIT_DEVICE, "no memory for the table");
  for (size_t i = 0; i < sizeof heading / sizeof *heading; i++)
    snprintf((*added)[i], TABLE_CELL, "%s", heading[i]);
  return EXIT_OK;
}

/* A GPU's context may compute on the host, which is timed by the clock. */
static const char *launch_of(const bench_run *run) {
  return run->j.staged_count > 0 ? run->row->values[BENCH_LAUNCH] : "host";
}

/* The operation's keys that do not have the default value. */
static void settings_text(const bench_row *row, char *text, size_t size) {
  const setting *key;
  text[0] = '\0';
  for (int i = BENCH_OWN; (key = bench_key(row->what, i)) != NULL; i++) {
    const char *value = row->values[i];
    char item[TABLE_CELL];
    if (value == NULL || (key->bench != NULL && strcmp(value, key->bench) == 0)) continue;
    snprintf(item, sizeof item, "%s=%s", key->name, value);
    list_add(text, size, " ", item);
  }
  if (text[0] == '\0') snprintf(text, size, "-");
}

/* Whether the memory that a run uses fits the last cache. Then the row measures the caches. */
static int fits_cache(const bench_run *run) {
  return strcmp(run->row->values[BENCH_CACHE], "warm") == 0 &&
         run->bytes < (double)run->last_cache;
}

int bench_add_row(table *t, const bench_run *run) {
  const bench_row *of = run->row;
  const measurement *m = &run->m;
  const char *backend = cumega_context_backend(run->on.ctx), *level = strrchr(backend, '-');
  table_row *added = table_add(t);
  if (added == NULL) return fail(EXIT_DEVICE, "no memory for the table");
  char(*row)[TABLE_CELL] = *added;
  snprintf(row[OP], TABLE_CELL, "%s", of->what->name);
  bench_shape_text(of, row[SHAPE], TABLE_CELL);
  settings_text(of, row[KEYS], TABLE_CELL);
  snprintf(row[DTYPE], TABLE_CELL, "%s", values_dtype_name(of->dtype));
  if (run->on.place.device_type == kDLCPU)
    snprintf(row[DEVICE], TABLE_CELL, "cpu %s, %d thread%s", level ? level + 1 : backend,
             of->threads, of->threads > 1 ? "s" : "");
  else
    snprintf(row[DEVICE], TABLE_CELL, "%s, %s", run->on.device, launch_of(run));
  snprintf(row[CACHE], TABLE_CELL, "%s%s", of->values[BENCH_CACHE], fits_cache(run) ? " *" : "");
  print_seconds(m->ours.median, row[MEDIAN], TABLE_CELL);
  print_seconds(m->ours.min, row[MIN], TABLE_CELL);
  snprintf(row[SPREAD], TABLE_CELL, "%.0f %%", 100 * m->ours.spread);
  snprintf(row[BYTES], TABLE_CELL, "%.3g", 1e-9 * run->bytes / m->ours.median);
  snprintf(row[ELEMENTS], TABLE_CELL, "%.3g", (double)run->j.elements / m->ours.median);
  snprintf(row[SHARE], TABLE_CELL, "%.1f %%", 100 * m->copy_share);
  return EXIT_OK;
}

static json_t *json_of_seconds(const timing *s) {
  return json_pack("{s:f, s:f, s:f, s:I}", "median", s->median, "min", s->min, "spread", s->spread,
                   "calls_per_sample", (json_int_t)s->calls);
}

static json_t *json_of_shape(const bench_row *row) {
  json_t *shape = json_array();
  for (int i = 0; i < bench_dims(row->what); i++)
    json_array_append_new(shape, json_integer(row->shape[i]));
  return shape;
}

/* The operation's keys, with their values in the case. */
static void add_settings(json_t *object, const bench_run *run) {
  const setting *key;
  for (int i = BENCH_OWN; (key = bench_key(run->row->what, i)) != NULL; i++) {
    json_t *value = setting_find(run->file.config, key->name);
    if (!bench_key_is_free(key)) continue;
    if (value != NULL)
      json_object_set(object, key->name, value);
    else if (run->row->values[i] != NULL)
      json_object_set_new(object, key->name, json_string(run->row->values[i]));
  }
}

json_t *bench_json(const bench_run *run) {
  const bench_row *of = run->row;
  const measurement *m = &run->m;
  cumega_statistics statistics = {.struct_size = sizeof statistics};
  const double elements = (double)run->j.elements, median = m->ours.median;
  json_t *row = json_pack(
      "{s:s, s:o, s:s, s:s, s:s, s:i, s:s, s:i, s:o, s:o, s:I, s:I, s:f, s:f, s:f, s:s}", "op",
      of->what->name, "shape", json_of_shape(of), "dtype", values_dtype_name(of->dtype), "device",
      run->on.device, "backend", cumega_context_backend(run->on.ctx), "threads", (int)of->threads,
      "cache", of->values[BENCH_CACHE], "repeats", m->repeats, "seconds",
      json_of_seconds(&m->ours), "copy_seconds", json_of_seconds(&m->copy), "bytes",
      (json_int_t)run->bytes, "elements", (json_int_t)run->j.elements, "gb_per_s",
      1e-9 * run->bytes / median, "elements_per_s", elements / median, "copy_share", m->copy_share,
      "verified", run->verified);
  if (row == NULL) return NULL;
  add_settings(row, run);
  if (run->on.place.device_type != kDLCPU) {
    json_object_set_new(row, "launch", json_string(launch_of(run)));
    json_object_set_new(row, "kernels", json_string(cumega_context_kernels(run->on.ctx)));
  }
  if (cumega_context_statistics(run->on.ctx, &statistics) == CUMEGA_OK)
    json_object_set_new(row, "memory_peak_bytes", json_integer(statistics.bytes_peak));
  return row;
}
