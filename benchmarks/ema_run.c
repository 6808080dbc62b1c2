#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ema_run.h"
#include "values.h"

/* Numbers in -127/64 .. 127/64 from a linear congruential generator, exact in every type. None is
 * zero, so that no chain dies out into subnormal numbers. */
static void fill(DLDataType dtype, void *memory, int64_t count, uint64_t seed) {
  uint64_t state = seed;
  for (int64_t i = 0; i < count; i++) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    int magnitude = 1 + (int)(state >> 33) % 127;
    value_write(dtype, memory, i, (state >> 63 ? -magnitude : magnitude) / 64.0);
  }
}

/* Aligned as an allocator of tensors aligns, and touched, so that no page is met for the first time
 * while the clock runs. */
static void *new_memory(int64_t bytes) {
  void *memory = NULL;
  size_t size = bytes > 0 ? (size_t)bytes : 1;
  if (posix_memalign(&memory, 64, size)) return NULL;
  return memset(memory, 0xff, size);
}

static int64_t rows_of(const ema_settings *set) {
  return set->step ? set->batch : set->length * set->batch;
}

/* Of a packed batch: lengths rise from nearly none to twice the mean. */
static void fill_offsets(ema_run *run) {
  int64_t B = run->set.batch, total = rows_of(&run->set);
  for (int64_t b = 0; b <= B; b++)
    run->offsets[b] = (int64_t)((double)total * (double)(b * (b + 1)) / (double)(B * (B + 1)));
}

static int allocate(ema_run *run) {
  const ema_settings *set = &run->set;
  int64_t count = rows_of(set) * set->channels;
  int64_t states = set->step ? set->batch * set->channels * set->heads : 0;
  run->bytes = count * set->dtype.bits / 8;
  run->state_bytes = states * set->state_dtype.bits / 8;
  run->x = new_memory(run->bytes);
  run->y = new_memory(run->bytes);
  run->initial = new_memory(run->state_bytes);
  run->final = new_memory(run->state_bytes);
  run->offsets = malloc((size_t)(set->batch + 1) * sizeof *run->offsets);
  if (!run->x || !run->y || !run->initial || !run->final || !run->offsets) {
    fprintf(stderr, "bench_ema: no memory for two tensors of %lld bytes\n", (long long)run->bytes);
    return 0;
  }
  fill(set->dtype, run->x, count, 1);
  fill(set->state_dtype, run->initial, states, 2);
  fill_offsets(run);
  return 1;
}

/* The view (L, B, D), (total, D) or (B, D) of memory in the settings' order. */
static DLTensor *describe(const ema_settings *set, void *memory, cumega_tensor *in_memory,
                          cumega_tensor *view) {
  const int64_t L = set->length, B = set->batch, D = set->channels;
  const int64_t flat[] = {rows_of(set), D}, lbd[] = {L, B, D}, bld[] = {B, L, D}, bdl[] = {B, D, L};
  static const int of_bld[] = {1, 0, 2}, of_bdl[] = {2, 0, 1};
  if (set->step || strcmp(set->layout, "packed") == 0)
    return cumega_tensor_init(view, memory, cumega_cpu, set->dtype, 2, flat);
  if (strcmp(set->layout, "LBD") == 0)
    return cumega_tensor_init(view, memory, cumega_cpu, set->dtype, 3, lbd);
  int is_bld = strcmp(set->layout, "BLD") == 0;
  cumega_tensor_init(in_memory, memory, cumega_cpu, set->dtype, 3, is_bld ? bld : bdl);
  return cumega_tensor_permute(view, &in_memory->dl, is_bld ? of_bld : of_bdl);
}

static void describe_all(ema_run *run) {
  const ema_settings *set = &run->set;
  const int64_t states[] = {set->batch, set->channels, set->heads}, offsets[] = {set->batch + 1};
  run->io.struct_size = sizeof run->io;
  if (!set->step) run->io.algorithm = set->algorithm;
  run->io.x = describe(set, run->x, &run->memory_x, &run->view_x);
  run->io.y = describe(set, run->y, &run->memory_y, &run->view_y);
  if (strcmp(set->layout, "packed") == 0)
    run->io.sequence_offsets = cumega_tensor_init(&run->tensor_offsets, run->offsets, cumega_cpu,
                                                  cumega_int64, 1, offsets);
  run->parts[0] = (copy_part){run->y, run->x, (size_t)run->bytes};
  run->parts_count = 1;
  if (!set->step) return;
  run->io.initial_state = cumega_tensor_init(&run->tensor_initial, run->initial, cumega_cpu,
                                             set->state_dtype, 3, states);
  run->io.final_state =
      cumega_tensor_init(&run->tensor_final, run->final, cumega_cpu, set->state_dtype, 3, states);
  run->parts[1] = (copy_part){run->final, run->initial, (size_t)run->state_bytes};
  run->parts_count = 2;
}

static cumega_status make_ema(ema_run *run) {
  const ema_settings *set = &run->set;
  cumega_ema_config config = cumega_ema_config_default(set->channels);
  config.num_heads = set->heads;
  config.activation = set->activation;
  config.state_dtype = set->state_dtype;
  return cumega_ema_create(run->ctx, &config, NULL, &run->ema);
}

int ema_run_make(const ema_settings *set, ema_run *run) {
  cumega_context_options options = cumega_context_options_default();
  memset(run, 0, sizeof *run);
  run->set = *set;
  options.threads = set->threads;
  if (set->level) setenv("CUMEGA_CPU", set->level, 1);
  cumega_status status = cumega_context_create(&options, &run->ctx);
  if (set->level) unsetenv("CUMEGA_CPU");
  if (status != CUMEGA_OK || make_ema(run) != CUMEGA_OK) {
    fprintf(stderr, "bench_ema: %s\n", cumega_context_message(run->ctx));
    return 0;
  }
  if (!allocate(run)) return 0;
  describe_all(run);
  return 1;
}

void ema_run_free(ema_run *run) {
  cumega_ema_destroy(run->ema);
  cumega_context_destroy(run->ctx);
  free(run->x);
  free(run->y);
  free(run->initial);
  free(run->final);
  free(run->offsets);
}

void ema_run_call(void *argument) {
  ema_run *run = argument;
  cumega_status status = run->set.step ? cumega_ema_step(run->ctx, run->ema, &run->io)
                                       : cumega_ema_forward(run->ctx, run->ema, &run->io);
  if (status == CUMEGA_OK) return;
  fprintf(stderr, "bench_ema: %s\n", cumega_context_message(run->ctx));
  exit(EXIT_FAILURE);
}

/* Of those that the CPU has, by their values. */
static const char *const algorithms[] = {"default", "recurrent", "sliced"};
#define ALGORITHMS ((int)(sizeof algorithms / sizeof *algorithms))

const char *ema_algorithm_name(cumega_ema_algorithm algorithm) {
  return algorithms[algorithm];
}

int ema_algorithm_from_name(const char *name) {
  for (int i = 0; i < ALGORITHMS; i++)
    if (strcmp(name, algorithms[i]) == 0) return i;
  return -1;
}

int64_t ema_run_length(const ema_run *run, int64_t b) {
  if (run->set.step) return 1;
  return run->io.sequence_offsets ? run->offsets[b + 1] - run->offsets[b] : run->set.length;
}

int64_t ema_run_at(const ema_run *run, int64_t t, int64_t b, int64_t d) {
  const int64_t *strides = run->view_x.strides;
  if (run->set.step) return b * strides[0] + d * strides[1];
  if (run->io.sequence_offsets) return (run->offsets[b] + t) * strides[0] + d * strides[1];
  return t * strides[0] + b * strides[1] + d * strides[2];
}
