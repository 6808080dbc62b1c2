/* Streaming: three requests keep their EMA states in rows of a pool. Each prefills its prompt in
 * chunks of its own size, then all decode together, one step at a time. At the end the outputs
 * are compared with one forward call over the whole sequences: every bit must be the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cumega/cumega.h>

enum { LENGTH = 40, PROMPT = 25, BATCH = 3, CHANNELS = 32, HEADS = 4, POOL = 8 };

static float x[LENGTH][BATCH][CHANNELS], streamed[LENGTH][BATCH][CHANNELS];
static float whole[LENGTH][BATCH][CHANNELS], pool[POOL][CHANNELS][HEADS];
static int32_t no_row[BATCH] = {-1, -1, -1}, own_row[BATCH] = {6, 0, 3};

/* Some steps of some requests: a view (L, B, D) into the memory of all requests. */
static DLTensor *view(cumega_tensor *tensor, float (*all)[BATCH][CHANNELS], int begin, int steps,
                      int first, int count) {
  const int64_t shape[] = {steps, count, CHANNELS};
  DLTensor *chunk =
      cumega_tensor_init(tensor, all[begin][first], cumega_cpu, cumega_float32, 3, shape);
  if (chunk != NULL) chunk->strides[0] = BATCH * CHANNELS;
  return chunk;
}

/* The next steps of `count` requests from `first` on. At step 0 a request starts from zeros,
 * later from its own row of the pool; the row is updated in place. */
static cumega_status advance(cumega_context *ctx, const cumega_ema *ema, int begin, int steps,
                             int first, int count) {
  cumega_tensor in, out, state, from, to;
  const int64_t rows[] = {POOL, CHANNELS, HEADS}, slots[] = {count};
  int32_t *old = (begin == 0 ? no_row : own_row) + first, *kept = own_row + first;
  cumega_ema_io io = {.struct_size = sizeof io};
  io.x = view(&in, x, begin, steps, first, count);
  io.y = view(&out, streamed, begin, steps, first, count);
  io.final_state = cumega_tensor_init(&state, pool, cumega_cpu, cumega_float32, 3, rows);
  io.initial_state = io.final_state;
  io.initial_slots = cumega_tensor_init(&from, old, cumega_cpu, cumega_int32, 1, slots);
  io.final_slots = cumega_tensor_init(&to, kept, cumega_cpu, cumega_int32, 1, slots);
  return steps == 1 ? cumega_ema_step(ctx, ema, &io) : cumega_ema_forward(ctx, ema, &io);
}

static cumega_status stream(cumega_context *ctx, const cumega_ema *ema) {
  cumega_status status = CUMEGA_OK;
  for (int b = 0; b < BATCH; b++) {
    int chunk = 7 + 2 * b;
    for (int t = 0; t < PROMPT && status == CUMEGA_OK; t += chunk)
      status = advance(ctx, ema, t, t + chunk < PROMPT ? chunk : PROMPT - t, b, 1);
  }
  for (int t = PROMPT; t < LENGTH && status == CUMEGA_OK; t++)
    status = advance(ctx, ema, t, 1, 0, BATCH);
  return status;
}

int main(void) {
  float *values = &x[0][0][0];
  for (int i = 0; i < LENGTH * BATCH * CHANNELS; i++) values[i] = (float)(37 * i % 101 - 50) / 16;

  cumega_tensor in, out;
  cumega_ema_io io = {.struct_size = sizeof io};
  io.x = view(&in, x, 0, LENGTH, 0, BATCH);
  io.y = view(&out, whole, 0, LENGTH, 0, BATCH);
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, CHANNELS);
  config.num_heads = HEADS;
  cumega_context *ctx = NULL;
  cumega_ema *ema = NULL;
  cumega_status status = cumega_context_create(NULL, &ctx);
  if (status == CUMEGA_OK) status = cumega_ema_create(ctx, &config, NULL, &ema);
  if (status == CUMEGA_OK) status = stream(ctx, ema);
  if (status == CUMEGA_OK) status = cumega_ema_forward(ctx, ema, &io);

  int same = status == CUMEGA_OK && memcmp(streamed, whole, sizeof whole) == 0;
  if (status != CUMEGA_OK)
    fprintf(stderr, "%s: %s\n", cumega_status_string(status), cumega_context_message(ctx));
  else
    printf("chunks and steps give %s as one call\n", same ? "the same bits" : "OTHER bits");
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
  return same ? EXIT_SUCCESS : EXIT_FAILURE;
}
