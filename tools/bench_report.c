/* A row as a line of a table, and as a JSON object. */
#include <stdio.h>
#include <string.h>
#include "bench.h"
#include "commands.h"
#include "failure.h"
#include "values.h"

enum column {
  OPERATION,
  SHAPE,
  SETTINGS,
  DTYPE,
  DEVICE,
  ALGORITHM,
  CACHE,
  MEDIAN,
  SHORTEST,
  SPREAD,
  BANDWIDTH,
  RATE,
  SHARE
};

int bench_add_heading(table *t) {
  static const char *const heading[] = {"operation", "shape",  "settings", "dtype", "device",
                                        "algorithm", "cache",  "median",   "min",   "spread",
                                        "GB/s",      "elem/s", "of a copy"};
  table_row *added = table_add(t);
  if (added == NULL) return fail(EXIT_DEVICE, "no memory for the table");
  for (size_t i = 0; i < sizeof heading / sizeof *heading; i++)
    snprintf((*added)[i], TABLE_CELL, "%s", heading[i]);
  return EXIT_OK;
}

/* What has one way of being computed is direct. */
static const char *algorithm_of(const bench_run *run) {
  int of_ema = strncmp(run->set->what->operation, "ema_", 4) == 0;
  return of_ema ? run->set->algorithm_name : "direct";
}

/* What a GPU's context computes without its device is timed by the clock. */
static const char *launch_of(const bench_run *run) {
  return run->j.staged_count > 0 ? run->set->launch : "host";
}

/* "N 4, relu, state float32, LBD": what the operation takes. */
static void settings_text(const bench_run *run, char *text, size_t size) {
  const bench_settings *set = run->set;
  const char *state = json_string_value(json_object_get(run->file.config, "state_dtype"));
  unsigned takes = set->what->takes;
  size_t used = 0;
  text[0] = '\0';
  if (takes & BENCH_TAKES(BENCH_HEADS))
    used = (size_t)snprintf(text, size, "N %lld", (long long)set->heads);
  if (takes & BENCH_TAKES(BENCH_ACTIVATION) && used < size)
    used += (size_t)snprintf(text + used, size - used, " %s", set->activation);
  if (takes & BENCH_TAKES(BENCH_STATE_DTYPE) && used < size && strcmp(state, "float32") != 0)
    used += (size_t)snprintf(text + used, size - used, " state %s", state);
  if (takes & BENCH_TAKES(BENCH_LAYOUT) && used < size)
    used += (size_t)snprintf(text + used, size - used, " %s", set->layout);
  if (set->truncation > 0 && used < size)
    used += (size_t)snprintf(text + used, size - used, " last %lld", (long long)set->truncation);
  if (takes & BENCH_TAKES(BENCH_KIND) && used < size)
    used += (size_t)snprintf(text + used, size - used, "%s ", set->kind);
  if (takes & BENCH_TAKES(BENCH_NORM) && used < size)
    used += (size_t)snprintf(text + used, size - used, "norm %s", set->norm);
  if (takes & BENCH_TAKES(BENCH_BIAS) && used < size)
    used += (size_t)snprintf(text + used, size - used, "bias %s", set->bias);
  if (takes & BENCH_TAKES(BENCH_MASK) && strcmp(set->mask, "none") != 0 && used < size)
    used += (size_t)snprintf(text + used, size - used, " %s", set->mask);
  if (takes & BENCH_TAKES(BENCH_RESULT) && used < size)
    used += (size_t)snprintf(text + used, size - used, " %s", set->result);
  if (takes & BENCH_TAKES(BENCH_TABLE) && used < size)
    used += (size_t)snprintf(text + used, size - used, "table %s", set->table);
  if (used == 0) snprintf(text, size, "-");
}

/* Whether what a run touches fits the last cache: then the row measures caches. */
static int fits_cache(const bench_run *run) {
  return strcmp(run->set->cache, "warm") == 0 && run->bytes < (double)run->last_cache;
}

int bench_add_row(table *t, const bench_run *run) {
  const bench_settings *set = run->set;
  const measurement *m = &run->m;
  const char *backend = cumega_context_backend(run->on.ctx), *level = strrchr(backend, '-');
  table_row *added = table_add(t);
  if (added == NULL) return fail(EXIT_DEVICE, "no memory for the table");
  char(*row)[TABLE_CELL] = *added;
  snprintf(row[OPERATION], TABLE_CELL, "%s", set->what->operation);
  bench_shape_text(set, row[SHAPE], TABLE_CELL);
  settings_text(run, row[SETTINGS], TABLE_CELL);
  snprintf(row[DTYPE], TABLE_CELL, "%s", values_dtype_name(set->dtype));
  if (run->on.place.device_type == kDLCPU)
    snprintf(row[DEVICE], TABLE_CELL, "cpu %s, %d thread%s", level ? level + 1 : backend,
             set->threads, set->threads > 1 ? "s" : "");
  else
    snprintf(row[DEVICE], TABLE_CELL, "%s, %s", run->on.device, launch_of(run));
  snprintf(row[ALGORITHM], TABLE_CELL, "%s%s", algorithm_of(run),
           set->algorithm_forced ? ", forced" : "");
  snprintf(row[CACHE], TABLE_CELL, "%s%s", set->cache, fits_cache(run) ? " *" : "");
  print_seconds(m->ours.median, row[MEDIAN], TABLE_CELL);
  print_seconds(m->ours.min, row[SHORTEST], TABLE_CELL);
  snprintf(row[SPREAD], TABLE_CELL, "%.0f %%", 100 * m->ours.spread);
  snprintf(row[BANDWIDTH], TABLE_CELL, "%.3g", 1e-9 * run->bytes / m->ours.median);
  snprintf(row[RATE], TABLE_CELL, "%.3g", (double)run->j.elements / m->ours.median);
  snprintf(row[SHARE], TABLE_CELL, "%.1f %%", 100 * m->copy_share);
  return EXIT_OK;
}

static json_t *json_of_seconds(const timing *s) {
  return json_pack("{s:f, s:f, s:f, s:I}", "median", s->median, "min", s->min, "spread", s->spread,
                   "calls_per_sample", (json_int_t)s->calls);
}

static json_t *json_of_shape(const bench_settings *set) {
  json_t *shape = json_array();
  for (int i = 0; i < bench_dims(set->what); i++)
    json_array_append_new(shape, json_integer(set->shape[i]));
  return shape;
}

/* The settings that the operation takes. */
static void add_settings(json_t *row, const bench_run *run) {
  const bench_settings *set = run->set;
  unsigned takes = set->what->takes;
  if (takes & BENCH_TAKES(BENCH_HEADS))
    json_object_set_new(row, "heads", json_integer((json_int_t)set->heads));
  if (takes & BENCH_TAKES(BENCH_ACTIVATION))
    json_object_set_new(row, "activation", json_string(set->activation));
  if (takes & BENCH_TAKES(BENCH_STATE_DTYPE))
    json_object_set(row, "state_dtype", json_object_get(run->file.config, "state_dtype"));
  if (takes & BENCH_TAKES(BENCH_LAYOUT))
    json_object_set_new(row, "layout", json_string(set->layout));
  if (takes & BENCH_TAKES(BENCH_ALGORITHM))
    json_object_set_new(row, "algorithm_forced", json_boolean(set->algorithm_forced));
  if (set->truncation > 0)
    json_object_set_new(row, "truncation_length", json_integer((json_int_t)set->truncation));
  if (takes & BENCH_TAKES(BENCH_KIND)) json_object_set_new(row, "kind", json_string(set->kind));
  if (takes & BENCH_TAKES(BENCH_NORM)) json_object_set_new(row, "norm", json_string(set->norm));
  if (takes & BENCH_TAKES(BENCH_BIAS)) json_object_set_new(row, "bias", json_string(set->bias));
  if (takes & BENCH_TAKES(BENCH_MASK)) json_object_set_new(row, "mask", json_string(set->mask));
  if (takes & BENCH_TAKES(BENCH_RESULT))
    json_object_set_new(row, "result", json_string(set->result));
  if (takes & BENCH_TAKES(BENCH_TABLE)) json_object_set_new(row, "table", json_string(set->table));
}

json_t *bench_json(const bench_run *run) {
  const bench_settings *set = run->set;
  const measurement *m = &run->m;
  cumega_statistics statistics = {.struct_size = sizeof statistics};
  json_t *row = json_pack("{s:s, s:o, s:s, s:s, s:s, s:s, s:i, s:s, s:i}", "op",
                          set->what->operation, "shape", json_of_shape(set), "dtype",
                          values_dtype_name(set->dtype), "device", run->on.device, "backend",
                          cumega_context_backend(run->on.ctx), "algorithm", algorithm_of(run),
                          "threads", (int)set->threads, "cache", set->cache, "repeats", m->repeats);
  if (row == NULL) return NULL;
  add_settings(row, run);
  json_object_set_new(row, "seconds", json_of_seconds(&m->ours));
  json_object_set_new(row, "copy_seconds", json_of_seconds(&m->copy));
  json_object_set_new(row, "bytes", json_integer((json_int_t)run->bytes));
  json_object_set_new(row, "elements", json_integer((json_int_t)run->j.elements));
  json_object_set_new(row, "gb_per_s", json_real(1e-9 * run->bytes / m->ours.median));
  json_object_set_new(row, "elements_per_s", json_real((double)run->j.elements / m->ours.median));
  json_object_set_new(row, "copy_share", json_real(m->copy_share));
  if (run->on.place.device_type != kDLCPU) {
    json_object_set_new(row, "launch", json_string(launch_of(run)));
    json_object_set_new(row, "kernels", json_string(cumega_context_kernels(run->on.ctx)));
  }
  if (cumega_context_statistics(run->on.ctx, &statistics) == CUMEGA_OK)
    json_object_set_new(row, "memory_peak_bytes", json_integer(statistics.bytes_peak));
  json_object_set_new(row, "verified", json_string(run->verified));
  return row;
}
