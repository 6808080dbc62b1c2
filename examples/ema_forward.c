/* A batch of sequences of different lengths through an EMA, as a server batches requests: padded
 * to the longest, with a tensor that holds their lengths.
 *
 *   ema_forward                                 random parameters
 *   ema_forward WEIGHTS.safetensors PREFIX      a model's, 128 channels and 4 heads, such as
 *   ema_forward tests/golden/ema_forward-trained-layer0.safetensors parameters */
#include <stdio.h>
#include <stdlib.h>
#include <cumega/cumega.h>

enum { LENGTH = 12, BATCH = 3, CHANNELS = 128, HEADS = 4 };

static cumega_status create_ema(cumega_context *ctx, const char *path, const char *prefix,
                                cumega_ema **ema) {
  cumega_ema_config config;
  cumega_ema_config_init(&config, sizeof config, CHANNELS);
  config.num_heads = HEADS;
  config.activation = CUMEGA_ACTIVATION_SWISH;
  if (path == NULL) return cumega_ema_create(ctx, &config, NULL, ema);

  cumega_weights *weights = NULL;
  cumega_status status = cumega_weights_open(ctx, path, &weights);
  if (status == CUMEGA_OK)
    status = cumega_ema_create_from_weights(ctx, weights, prefix, &config, ema);
  cumega_weights_close(weights);
  return status;
}

static cumega_status forward(cumega_context *ctx, const cumega_ema *ema, float *x, float *y,
                             int32_t *lengths) {
  cumega_tensor x_tensor, y_tensor, lengths_tensor;
  const int64_t shape[] = {LENGTH, BATCH, CHANNELS}, batch[] = {BATCH};
  cumega_ema_io io = {.struct_size = sizeof io};
  io.x = cumega_tensor_init(&x_tensor, x, cumega_cpu, cumega_float32, 3, shape);
  io.y = cumega_tensor_init(&y_tensor, y, cumega_cpu, cumega_float32, 3, shape);
  io.sequence_lengths =
      cumega_tensor_init(&lengths_tensor, lengths, cumega_cpu, cumega_int32, 1, batch);
  return cumega_ema_forward(ctx, ema, &io);
}

int main(int argc, char **argv) {
  static float x[LENGTH][BATCH][CHANNELS], y[LENGTH][BATCH][CHANNELS];
  int32_t lengths[BATCH] = {12, 5, 8};
  for (int t = 0; t < LENGTH; t++)
    for (int b = 0; b < BATCH; b++)
      for (int d = 0; d < CHANNELS; d++) x[t][b][d] = (float)((7 * t + 3 * b + d) % 11 - 5) / 4;

  cumega_context *ctx = NULL;
  cumega_ema *ema = NULL;
  cumega_status status = cumega_context_create(NULL, &ctx);
  if (status == CUMEGA_OK)
    status = create_ema(ctx, argc > 1 ? argv[1] : NULL, argc > 2 ? argv[2] : NULL, &ema);
  if (status == CUMEGA_OK) status = forward(ctx, ema, &x[0][0][0], &y[0][0][0], lengths);

  if (status != CUMEGA_OK) {
    fprintf(stderr, "ema_forward: %s: %s\n", cumega_status_string(status),
            cumega_context_message(ctx));
  } else {
    for (int b = 0; b < BATCH; b++) {
      const float *last = y[lengths[b] - 1][b];
      printf("sequence %d, %2d steps: y of its last step begins %+.6f %+.6f %+.6f\n", b,
             (int)lengths[b], (double)last[0], (double)last[1], (double)last[2]);
    }
  }
  cumega_ema_destroy(ema);
  cumega_context_destroy(ctx);
  return status == CUMEGA_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
