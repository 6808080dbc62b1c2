/* Calls for contexts, memory and weight files that may fail. */
#include <stdio.h>
#include <string.h>
#include "emulated_faults.h"

/* ---- contexts ---- */

static cumega_status create_context(world *w) {
  cumega_status status;
  w->ctx = emulated_context(&w->ledger, NULL, &status);
  return status;
}

static cumega_status create_context_on_stream(world *w) {
  cumega_status status;
  w->ctx = emulated_context(&w->ledger, w->stream, &status);
  return status;
}

static cumega_status destroy_all(world *w) {
  emulated_objects_destroy(&w->objects);
  cumega_context_destroy(w->ctx);
  w->ctx = NULL;
  return CUMEGA_OK;
}

static cumega_status synchronize(world *w) {
  return cumega_context_synchronize(w->ctx);
}

static int run_is_there(world *w, cumega_status status) {
  return status != CUMEGA_OK || emulated_run_is_right(w->run);
}

static cumega_status reserve(world *w) {
  return cumega_context_reserve(w->ctx, 100000);
}

static int reserved(world *w, cumega_status status) {
  cumega_statistics s = {.struct_size = sizeof s};
  return cumega_context_statistics(w->ctx, &s) == CUMEGA_OK &&
         (status != CUMEGA_OK || s.scratch_bytes == 100000);
}

static cumega_status set_stream(world *w) {
  return cumega_context_set_stream(w->ctx, w->stream);
}

/* A queued run writes after all earlier work in its stream. */
static cumega_status wait_in_set_stream(world *w) {
  return cumega_context_set_stream(w->ctx, NULL);
}

static cumega_status report(world *w) {
  w->bits = 77;
  return cumega_context_report(w->ctx, &w->bits);
}

static int bits_are_defined(world *w, cumega_status status) {
  (void)status;
  return w->bits == 0;
}

static cumega_status statistics(world *w) {
  cumega_statistics s = {.struct_size = sizeof s};
  return cumega_context_statistics(w->ctx, &s);
}

/* ---- memory ---- */

static cumega_status allocate(world *w) {
  w->memory = w;
  return cumega_memory_allocate(w->ctx, MEMORY_BYTES, &w->memory);
}

static int pointer_is_defined(world *w, cumega_status status) {
  return (w->memory != NULL) == (status == CUMEGA_OK);
}

static cumega_status release(world *w) {
  cumega_status status = cumega_memory_release(w->ctx, w->memory, MEMORY_BYTES);
  if (status == CUMEGA_OK) w->memory = NULL;
  return status;
}

static cumega_status write_memory(world *w) {
  static const float value = 2.5f;
  return cumega_memory_write(w->ctx, w->memory, &value, sizeof value);
}

static int is_written(world *w, cumega_status status) {
  float found = 0;
  return status != CUMEGA_OK ||
         (cudaMemcpy(&found, w->memory, sizeof found, cudaMemcpyDeviceToHost) == cudaSuccess &&
          found == 2.5f);
}

static cumega_status read_memory(world *w) {
  return cumega_memory_read(w->ctx, &w->value, w->run->views[0].dl.data, sizeof w->value);
}

static int is_read(world *w, cumega_status status) {
  return status != CUMEGA_OK || memcmp(&w->value, w->run->host[0], sizeof w->value) == 0;
}

/* ---- weight files ---- */

static cumega_status open_weights(world *w) {
  return cumega_weights_open(w->ctx, faults_weights_path(), &w->weights);
}

static int weights_are_defined(world *w, cumega_status status) {
  return cumega_weights_count(w->weights) == (status == CUMEGA_OK ? FAULTS_WEIGHTS_COUNT : 0);
}

static cumega_status read_weights(world *w) {
  unsigned char data[4096];
  const cumega_weights_entry *entry = cumega_weights_at(w->weights, 0);
  return cumega_weights_read(w->ctx, w->weights, entry, data, sizeof data);
}

static cumega_status save_weights(world *w) {
  char path[80];
  float value[2] = {1, 2};
  cumega_tensor t;
  snprintf(path, sizeof path, "%s-2", faults_weights_path());
  cumega_named_tensor named = {
      "a", cumega_tensor_init(&t, value, cumega_cpu, cumega_float32, 1, (int64_t[]){2})};
  cumega_status status = cumega_weights_save(w->ctx, path, &named, 1, NULL, 0);
  const int there = remove(path) == 0;
  if (status == CUMEGA_OK) ck_assert(there);
  return status;
}

/* ---- all together ---- */

static cumega_status run(world *w) {
  return emulated_run_start(w->ctx, &w->objects, w->run);
}

/* A server's day: all of the above; the result is the first status that is not OK. */
static cumega_status whole_life(world *w) {
  const cumega_ema_config config = emulated_ema_config(w->run->shape);
  cumega_status status = create_context(w);
  if (status == CUMEGA_OK) status = open_weights(w);
  if (status == CUMEGA_OK)
    status = cumega_ema_create_from_weights(w->ctx, w->weights, "e", &config, &w->objects.ema);
  if (status == CUMEGA_OK) status = allocate(w);
  if (status == CUMEGA_OK) status = write_memory(w);
  if (status == CUMEGA_OK) status = run(w);
  if (status == CUMEGA_OK) status = cumega_context_reserve(w->ctx, 1 << 20);
  if (status == CUMEGA_OK) status = run(w);
  if (status == CUMEGA_OK) status = read_memory(w);
  if (status == CUMEGA_OK) status = cumega_context_synchronize(w->ctx);
  if (status == CUMEGA_OK) status = report(w);
  if (status == CUMEGA_OK) status = release(w);
  return status;
}

const scenario context_scenarios[] = {
    {"cumega_context_create", "plain", 0, create_context, NULL, NULL},
    {"cumega_context_create, a stream", "plain", 0, create_context_on_stream, NULL, NULL},
    {"cumega_context_destroy", "plain", CONTEXT, destroy_all, NULL, NULL},
    {"cumega_context_destroy, an EMA", "many heads", OBJECTS | IS_PREPARED, destroy_all, NULL,
     NULL},
    {"cumega_context_destroy, plans", "fft", OBJECTS | IS_PREPARED, destroy_all, NULL, NULL},
    {"cumega_context_destroy, a table", "scores, rotary", OBJECTS | IS_PREPARED, destroy_all, NULL,
     NULL},
    {"cumega_context_destroy, a handle", "highway", OBJECTS | IS_PREPARED, destroy_all, NULL,
     NULL},
    {"cumega_context_destroy, at work", "plain", OBJECTS | NEEDS_QUEUED_RUN, destroy_all, NULL,
     NULL},
    {"cumega_context_destroy, a graph", "many heads", OBJECTS | NEEDS_GRAPH, destroy_all, NULL,
     NULL},
    {"cumega_context_destroy, a graph", "scores, rotary", OBJECTS | NEEDS_GRAPH, destroy_all, NULL,
     NULL},
    {"cumega_context_synchronize", "lanes", OBJECTS | NEEDS_QUEUED_RUN, synchronize, run_is_there,
     NULL},
    {"cumega_context_reserve", "many heads", OBJECTS, reserve, reserved, NULL},
    {"cumega_context_reserve, a graph", "many heads", OBJECTS | NEEDS_GRAPH, reserve, reserved,
     NULL},
    {"cumega_context_reserve, at work", "many heads", OBJECTS | NEEDS_QUEUED_RUN, reserve,
     reserved, NULL},
    {"cumega_context_set_stream", "plain", OBJECTS, set_stream, NULL, NULL},
    {"cumega_context_set_stream, own", "plain", OBJECTS, wait_in_set_stream, NULL, NULL},
    {"cumega_context_report", "plain", OBJECTS | NEEDS_QUEUED_RUN, report, bits_are_defined, NULL},
    {"cumega_context_statistics", "plain", OBJECTS, statistics, NULL, NULL},
    {"cumega_memory_allocate", "plain", CONTEXT, allocate, pointer_is_defined, NULL},
    {"cumega_memory_release", "plain", CONTEXT | NEEDS_MEMORY, release, NULL, NULL},
    {"cumega_memory_write", "plain", CONTEXT | NEEDS_MEMORY, write_memory, is_written, NULL},
    {"cumega_memory_read", "plain", CONTEXT, read_memory, is_read, NULL},
    {"cumega_weights_open", "plain", CONTEXT, open_weights, weights_are_defined, NULL},
    {"cumega_weights_read", "plain", CONTEXT | NEEDS_WEIGHTS, read_weights, NULL, NULL},
    {"cumega_weights_save", "plain", CONTEXT, save_weights, NULL, NULL},
    {"a server's life", "plain", 0, whole_life, NULL, NULL},
};
const int context_scenario_count = (int)(sizeof context_scenarios / sizeof context_scenarios[0]);
